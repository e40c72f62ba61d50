//! Wall time, and the processor time of the calling thread where the system tells it.

use std::sync::OnceLock;
use std::time::{Duration, Instant};

/// Time since the first call.
pub fn wall_time() -> Duration {
    static START: OnceLock<Instant> = OnceLock::new();
    START.get_or_init(Instant::now).elapsed()
}

/// Processor time that this thread has used.
#[cfg(all(target_os = "linux", target_pointer_width = "64"))]
pub fn thread_time() -> Duration {
    #[repr(C)]
    struct TimeSpec {
        seconds: i64,
        nanoseconds: i64,
    }
    unsafe extern "C" {
        fn clock_gettime(clock: i32, time: *mut TimeSpec) -> i32;
    }
    const THREAD_CPU_TIME: i32 = 3;
    let mut time = TimeSpec { seconds: 0, nanoseconds: 0 };
    // SAFETY: the C library fills the structure, which has its layout on 64-bit Linux.
    let status = unsafe { clock_gettime(THREAD_CPU_TIME, &mut time) };
    assert_eq!(status, 0, "the thread clock exists");
    Duration::new(time.seconds as u64, time.nanoseconds as u32)
}

/// Processor time that this thread has used: here, wall time.
#[cfg(not(all(target_os = "linux", target_pointer_width = "64")))]
pub fn thread_time() -> Duration {
    wall_time()
}
