//! Every op sample on the device, against the reference interpreter.

use rlx_opt::CompileOptions;
use rlx_testkit::backend_suite::{REFUSED_BY_KERNELS, run_samples};
use rlx_testkit::decoder::check_decoder;
use rlx_wgpu::WgpuBackend;

fn backend(what: &str) -> Option<WgpuBackend> {
    rlx_wgpu::open().inspect_err(|error| rlx_testkit::not_run(what, &error.to_string())).ok()
}

#[test]
fn every_sample_agrees() {
    let Some(backend) = backend("op samples on wgpu") else { return };
    run_samples(&backend, &CompileOptions::default(), |_| true).check(1183, REFUSED_BY_KERNELS);
}

#[test]
fn a_decoder_keeps_its_cache() {
    let Some(backend) = backend("a decoder on wgpu") else { return };
    check_decoder(&backend, &CompileOptions::default()).expect("the decoder agrees with the interpreter");
}

#[test]
fn feeds_are_as_promised() {
    let Some(backend) = backend("feeds on wgpu") else { return };
    rlx_testkit::feeds::check_feeds(&backend).expect("feeds work as on every backend");
}

#[test]
fn products_of_any_number_of_rows_agree() {
    let Some(backend) = backend("products on wgpu") else { return };
    rlx_testkit::products::check_products(&backend).expect("products agree with the interpreter");
}

#[test]
fn small_floats_round_as_by_the_interpreter() {
    let Some(backend) = backend("small floats on wgpu") else { return };
    rlx_testkit::small_floats::check_small_floats(&backend).expect("casts agree with the interpreter");
}
