//! What every kernel call is given: the instruction set and the threads.

use super::KernelError;
use crate::pool::Pool;
use crate::simd::{Available, Kernel, SimdLevel};

/// The instruction set and the thread pool that kernels use.
#[derive(Clone, Copy)]
pub struct Context<'a> {
    level: Available,
    pool: &'a Pool,
}

impl<'a> Context<'a> {
    /// The strongest instruction set of this processor.
    pub fn new(pool: &'a Pool) -> Context<'a> {
        Context { level: Available::detect(), pool }
    }

    /// A given instruction set.
    ///
    /// # Errors
    /// When this processor lacks it.
    pub fn with_level(pool: &'a Pool, level: SimdLevel) -> Result<Context<'a>, KernelError> {
        let level = Available::new(level).ok_or(KernelError::LevelMissing { level })?;
        Ok(Context { level, pool })
    }

    /// The same instruction set on other threads.
    pub fn with_pool(self, pool: &'a Pool) -> Context<'a> {
        Context { pool, ..self }
    }

    /// The instruction set, which this processor has.
    pub fn level(&self) -> SimdLevel {
        self.level.level()
    }

    /// The threads.
    pub fn pool(&self) -> &'a Pool {
        self.pool
    }

    /// Runs `kernel` compiled for the instruction set, on this thread.
    #[inline]
    pub fn dispatch<K: Kernel>(&self, kernel: K) -> K::Output {
        self.level.dispatch(kernel)
    }
}
