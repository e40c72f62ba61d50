//! Instruction sets behind one small vector trait.
//!
//! A [`Simd`] token proves that the processor has its instructions; every vector is made from a
//! token, so vector arithmetic is safe code. A [`Kernel`] is written once over `S: Simd` and
//! [`Available::dispatch`] compiles it for each level inside a function that enables
//! the instructions: everything a kernel calls per element must be `#[inline(always)]`.
//!
//! Invariants: the two sides of a tail (whole vectors, last partial vector) run the same code on
//! the same lanes, so results never depend on the position in a slice. This module does not
//! choose algorithms.

#[cfg(target_arch = "x86_64")]
#[macro_use]
mod x86;

#[cfg(target_arch = "x86_64")]
mod avx2;
#[cfg(target_arch = "x86_64")]
mod avx512;
mod portable;
mod vector;

#[cfg(target_arch = "x86_64")]
pub use avx2::Avx2;
#[cfg(target_arch = "x86_64")]
pub use avx512::Avx512;
pub use portable::Portable;
pub(crate) use vector::MAX_LANES;
pub use vector::{Float32, Int32, Mask, Simd, Vector};

use std::sync::OnceLock;

/// A family of instructions that kernels are compiled for, weakest first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum SimdLevel {
    /// What the compile target guarantees: SSE2 on x86-64, NEON on AArch64.
    Portable,
    /// AVX2, FMA and F16C.
    Avx2,
    /// AVX-512 F, BW, DQ and VL.
    Avx512,
    /// AVX-512 with the dot products of small integers (VNNI).
    Avx512Dot,
    /// The same with the dot product of bf16. Only some processors run it faster than widening to
    /// f32, so [`detect`](SimdLevel::detect) chooses it only there.
    Avx512Brain,
}

impl SimdLevel {
    /// Every level, weakest first.
    pub const ALL: [SimdLevel; 5] = [
        SimdLevel::Portable,
        SimdLevel::Avx2,
        SimdLevel::Avx512,
        SimdLevel::Avx512Dot,
        SimdLevel::Avx512Brain,
    ];

    /// The level that is fastest on this processor.
    pub fn detect() -> SimdLevel {
        static DETECTED: OnceLock<SimdLevel> = OnceLock::new();
        *DETECTED.get_or_init(|| {
            let useful = |l: &SimdLevel| l.is_available() && (*l != SimdLevel::Avx512Brain || is_amd());
            SimdLevel::ALL.into_iter().rev().find(useful).unwrap_or(SimdLevel::Portable)
        })
    }

    /// Whether this processor can run kernels of this level.
    pub fn is_available(self) -> bool {
        #[cfg(target_arch = "x86_64")]
        {
            use std::arch::is_x86_feature_detected as has;
            let avx2 = has!("avx2") && has!("fma") && has!("f16c");
            let avx512 = avx2 && has!("avx512f") && has!("avx512bw") && has!("avx512dq") && has!("avx512vl");
            match self {
                SimdLevel::Portable => true,
                SimdLevel::Avx2 => avx2,
                SimdLevel::Avx512 => avx512,
                SimdLevel::Avx512Dot => avx512 && has!("avx512vnni"),
                SimdLevel::Avx512Brain => avx512 && has!("avx512vnni") && has!("avx512bf16"),
            }
        }
        #[cfg(not(target_arch = "x86_64"))]
        {
            self == SimdLevel::Portable
        }
    }

    /// Lanes of f32 in one vector of this level.
    pub const fn f32_lanes(self) -> usize {
        match self {
            SimdLevel::Portable => 4,
            SimdLevel::Avx2 => 8,
            SimdLevel::Avx512 | SimdLevel::Avx512Dot | SimdLevel::Avx512Brain => 16,
        }
    }
}

/// A level that was found on this processor.
#[derive(Clone, Copy, Debug)]
pub struct Available(SimdLevel);

impl Available {
    /// The fastest level of this processor.
    pub fn detect() -> Available {
        Available(SimdLevel::detect())
    }

    /// `level`, if this processor has it.
    pub fn new(level: SimdLevel) -> Option<Available> {
        level.is_available().then_some(Available(level))
    }

    /// The level.
    pub fn level(self) -> SimdLevel {
        self.0
    }

    /// Runs `kernel` compiled for the level.
    #[inline]
    pub fn dispatch<K: Kernel>(self, kernel: K) -> K::Output {
        match self.0 {
            #[cfg(target_arch = "x86_64")]
            SimdLevel::Avx512 | SimdLevel::Avx512Dot | SimdLevel::Avx512Brain => {
                // SAFETY: the constructors found the instructions.
                unsafe { Avx512::assume() }.run(kernel)
            }
            #[cfg(target_arch = "x86_64")]
            SimdLevel::Avx2 => {
                // SAFETY: the constructors found the instructions.
                unsafe { Avx2::assume() }.run(kernel)
            }
            _ => Portable.run(kernel),
        }
    }
}

/// Asks for the cache line that holds `address`, which may be any address.
#[inline(always)]
pub(crate) fn prefetch<T>(address: *const T) {
    #[cfg(target_arch = "x86_64")]
    {
        use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
        // SAFETY: a prefetch is a hint that never faults.
        unsafe { _mm_prefetch::<_MM_HINT_T0>(address.cast()) };
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = address;
}

/// Whether the maker of the processor is AMD, whose bf16 dot product runs at full rate.
fn is_amd() -> bool {
    #[cfg(target_arch = "x86_64")]
    {
        let leaf = std::arch::x86_64::__cpuid(0);
        [leaf.ebx, leaf.edx, leaf.ecx] == [*b"Auth", *b"enti", *b"cAMD"].map(u32::from_le_bytes)
    }
    #[cfg(not(target_arch = "x86_64"))]
    {
        false
    }
}

/// A computation written once for every instruction set.
pub trait Kernel {
    /// What the computation yields.
    type Output;

    /// The computation. Mark the implementation `#[inline(always)]`.
    fn run<S: Simd>(self, simd: S) -> Self::Output;
}
