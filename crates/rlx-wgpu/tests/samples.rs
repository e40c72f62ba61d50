//! Every op sample on the device, against the reference interpreter.

use rlx_opt::CompileOptions;
use rlx_testkit::backend_suite::run_samples;

#[test]
fn every_sample_agrees() {
    let backend = match rlx_wgpu::open() {
        Ok(backend) => backend,
        Err(error) => return rlx_testkit::not_run("op samples on wgpu", &error.to_string()),
    };
    let report = run_samples(&backend, &CompileOptions::default(), |_| true);
    println!("{} agreed, refused:\n{}", report.agreed, report.refused.join("\n"));
    assert!(report.failed.is_empty(), "{} failed:\n{}", report.failed.len(), report.failed.join("\n"));
    assert!(report.agreed > 200, "only {} samples ran", report.agreed);
}
