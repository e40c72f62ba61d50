//! Helpers of the kernel tests: random numbers, aligned scratch, a loop over instruction sets.

use super::Context;
use crate::pool::Pool;
use crate::simd::SimdLevel;

/// A small deterministic random generator.
pub(crate) struct Noise(u64);

impl Noise {
    pub(crate) fn new(seed: u64) -> Noise {
        Noise(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1)
    }

    pub(crate) fn bits(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0.wrapping_mul(0x2545_F491_4F6C_DD1D)
    }

    /// A number in -1..1.
    pub(crate) fn unit(&mut self) -> f32 {
        (self.bits() >> 40) as f32 / (1u64 << 23) as f32 - 1.0
    }

    pub(crate) fn units(&mut self, count: usize) -> Vec<f32> {
        (0..count).map(|_| self.unit()).collect()
    }
}

/// Bytes at a 64-byte boundary.
pub(crate) struct Scratch {
    storage: Vec<u8>,
    length: usize,
}

impl Scratch {
    pub(crate) fn new(length: usize) -> Scratch {
        Scratch { storage: vec![0xA5; length + 64], length }
    }

    pub(crate) fn bytes(&mut self) -> &mut [u8] {
        let start = self.storage.as_ptr().align_offset(64);
        &mut self.storage[start..start + self.length]
    }
}

/// Calls `check` at every level that this processor has.
pub(crate) fn at_every_level(pool: &Pool, mut check: impl FnMut(Context<'_>)) {
    let available = SimdLevel::ALL.into_iter().filter(|level| level.is_available());
    for level in available {
        check(Context::with_level(pool, level).expect("the level was detected"));
    }
}
