//! Every op sample on the device, against the reference interpreter.

use rlx_opt::CompileOptions;
use rlx_testkit::backend_suite::run_samples;

#[test]
fn every_sample_agrees() {
    let backend = match rlx_wgpu::open() {
        Ok(backend) => backend,
        Err(error) => return rlx_testkit::not_run("op samples on wgpu", &error.to_string()),
    };
    run_samples(&backend, &CompileOptions::default(), |_| true).check(800);
}
