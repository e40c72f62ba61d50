//! Every op sample on the checked interpreter as a device: results, and no fault in any kernel.

use rlx_driver::Device;
use rlx_gpu::GpuBackend;
use rlx_gpu::checked::Checked;
use rlx_opt::CompileOptions;
use rlx_testkit::backend_suite::{REFUSED_BY_KERNELS, check_fault_words, check_values, run_samples};
use rlx_testkit::decoder::check_decoder;

fn check(options: &CompileOptions) {
    let backend = GpuBackend::new(Checked, Device::GPU, "checked");
    run_samples(&backend, options, |_| true).check(1183, REFUSED_BY_KERNELS);
}

#[test]
fn every_sample_runs_without_a_fault() {
    check(&CompileOptions::default());
}

#[test]
fn every_sample_runs_without_fusion() {
    check(&CompileOptions { fusion: false, ..CompileOptions::default() });
}

#[test]
fn a_decoder_keeps_its_cache() {
    let backend = GpuBackend::new(Checked, Device::GPU, "checked");
    check_decoder(&backend, &CompileOptions::default()).expect("the decoder agrees with the interpreter");
}

#[test]
fn products_of_any_number_of_rows_agree() {
    let backend = GpuBackend::new(Checked, Device::GPU, "checked");
    rlx_testkit::products::check_products(&backend).expect("products agree with the interpreter");
}

#[test]
fn small_floats_round_as_by_the_interpreter() {
    let backend = GpuBackend::new(Checked, Device::GPU, "checked");
    rlx_testkit::small_floats::check_small_floats(&backend).expect("casts agree with the interpreter");
}

#[test]
fn values_that_ops_do_not_take_are_faults() {
    let backend = GpuBackend::new(Checked, Device::GPU, "checked");
    check_values(&backend, &CompileOptions::default(), 1000);
    check_fault_words(&backend).expect("the words of a module are heeded");
}
