//! What every kernel call is given: the instruction set and the threads.

use super::KernelError;
use crate::pool::Pool;
use crate::simd::{Kernel, SimdLevel};

/// The instruction set and the thread pool that kernels use.
#[derive(Clone, Copy)]
pub struct Context<'a> {
    level: SimdLevel,
    pool: &'a Pool,
}

impl<'a> Context<'a> {
    /// The strongest instruction set of this processor.
    pub fn new(pool: &'a Pool) -> Context<'a> {
        Context { level: SimdLevel::detect(), pool }
    }

    /// A given instruction set.
    ///
    /// # Errors
    /// When this processor lacks it.
    pub fn with_level(pool: &'a Pool, level: SimdLevel) -> Result<Context<'a>, KernelError> {
        if level.is_available() {
            Ok(Context { level, pool })
        } else {
            Err(KernelError::LevelMissing { level })
        }
    }

    /// The instruction set, which this processor has.
    pub fn level(&self) -> SimdLevel {
        self.level
    }

    /// The threads.
    pub fn pool(&self) -> &'a Pool {
        self.pool
    }

    /// Runs `kernel` compiled for the instruction set, on this thread.
    #[inline]
    pub fn dispatch<K: Kernel>(&self, kernel: K) -> K::Output {
        // SAFETY: the constructors admit only levels that the processor has.
        unsafe { self.level.dispatch_unchecked(kernel) }
    }
}
