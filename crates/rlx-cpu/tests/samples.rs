//! Every sample of every op through the CPU executor, at every instruction set
//! of this machine, against the reference interpreter. None is refused.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use rlx_cpu::exec::CpuBackend;
use rlx_cpu::simd::SimdLevel;
use rlx_opt::{CompileOptions, KernelDispatch};
use rlx_testkit::backend_suite::run_samples;

fn check(options: &CompileOptions) {
    for level in SimdLevel::ALL.into_iter().filter(|level| level.is_available()) {
        run_samples(&CpuBackend::with(2, level).unwrap(), options, |_| true).check(1183, &[]);
    }
}

#[test]
fn every_sample_natively() {
    check(&CompileOptions::default());
}

#[test]
fn every_sample_without_fusion() {
    check(&CompileOptions { fusion: false, ..CompileOptions::default() });
}

#[test]
fn every_sample_decomposed() {
    check(&CompileOptions { dispatch: KernelDispatch::ForceDecomposed, ..CompileOptions::default() });
}
