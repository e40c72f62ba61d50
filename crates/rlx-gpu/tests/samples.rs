//! Every op sample on the checked interpreter as a device: results, and no fault in any kernel.

use rlx_driver::Device;
use rlx_gpu::GpuBackend;
use rlx_gpu::checked::Checked;
use rlx_opt::CompileOptions;
use rlx_testkit::backend_suite::run_samples;
use rlx_testkit::decoder::check_decoder;

fn check(options: &CompileOptions) {
    let backend = GpuBackend::new(Checked, Device::GPU, "checked");
    run_samples(&backend, options, |_| true).check(800);
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
