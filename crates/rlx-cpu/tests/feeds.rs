//! Feeds of CPU executables, as every backend promises them.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

use rlx_cpu::exec::CpuBackend;

#[test]
fn feeds_are_as_promised() {
    rlx_testkit::feeds::check_feeds(&CpuBackend::new().unwrap()).unwrap();
}
