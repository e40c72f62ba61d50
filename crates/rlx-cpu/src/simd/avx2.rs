//! AVX2 with FMA and F16C: 8 lanes of f32.
//!
//! Each method is one instruction, or a few. A vector exists only if a token existed, and a token
//! only if the processor has the instructions; that is the ground of every `SAFETY` note here.

use super::{Float32, Int32, Kernel, Mask, Simd, SimdLevel, Vector};
use std::arch::x86_64::*;
use std::ops::{Add, BitAnd, BitOr, BitXor, Div, Mul, Neg, Sub};

/// Proof of AVX2, FMA and F16C.
#[derive(Clone, Copy, Debug)]
pub struct Avx2(());

/// 8 lanes of f32.
#[derive(Clone, Copy)]
pub struct F32x8(__m256);
/// 8 lanes of i32.
#[derive(Clone, Copy)]
pub struct I32x8(__m256i);
/// 4 lanes of f64.
#[derive(Clone, Copy)]
pub struct F64x4(__m256d);
/// 4 lanes of i64 (there is no 64-bit multiply: the compiler composes it).
#[derive(Clone, Copy)]
pub struct I64x4([i64; 4]);
/// All bits of a lane set or clear.
#[derive(Clone, Copy)]
pub struct Mask8(__m256);

/// An 8 by 8 transpose: pairs, pairs of pairs, halves.
///
/// # Safety
/// As for [`Simd::transpose`].
#[target_feature(enable = "avx2,fma,f16c")]
unsafe fn transpose_square(from: *const f32, from_row: isize, to: *mut f32, to_row: isize) {
    let mut rows = [_mm256_setzero_ps(); 8];
    for (i, row) in rows.iter_mut().enumerate() {
        // SAFETY: the caller vouches for eight rows of eight elements.
        *row = unsafe { _mm256_loadu_ps(from.wrapping_offset(i as isize * from_row)) };
    }
    let mut pairs = rows;
    for i in 0..4 {
        pairs[2 * i] = _mm256_unpacklo_ps(rows[2 * i], rows[2 * i + 1]);
        pairs[2 * i + 1] = _mm256_unpackhi_ps(rows[2 * i], rows[2 * i + 1]);
    }
    let mut quads = rows;
    for i in 0..2 {
        for j in 0..2 {
            let (a, b) = (pairs[4 * i + j], pairs[4 * i + j + 2]);
            quads[4 * i + 2 * j] = _mm256_shuffle_ps::<0x44>(a, b);
            quads[4 * i + 2 * j + 1] = _mm256_shuffle_ps::<0xEE>(a, b);
        }
    }
    for i in 0..4 {
        let low = _mm256_permute2f128_ps::<0x20>(quads[i], quads[i + 4]);
        let high = _mm256_permute2f128_ps::<0x31>(quads[i], quads[i + 4]);
        // SAFETY: the caller vouches for eight rows of eight elements.
        unsafe { _mm256_storeu_ps(to.wrapping_offset(i as isize * to_row), low) };
        // SAFETY: as above.
        unsafe { _mm256_storeu_ps(to.wrapping_offset((i as isize + 4) * to_row), high) };
    }
}

#[target_feature(enable = "avx2,fma,f16c")]
fn enter<K: Kernel>(token: Avx2, kernel: K) -> K::Output {
    kernel.run(token)
}

impl Simd for Avx2 {
    const LEVEL: SimdLevel = SimdLevel::Avx2;
    const FUSED: bool = true;
    type F32 = F32x8;
    type I32 = I32x8;
    type F64 = F64x4;
    type I64 = I64x4;
    type Mask = Mask8;

    #[inline(always)]
    unsafe fn assume() -> Self {
        Avx2(())
    }

    #[inline(always)]
    unsafe fn transpose(self, from: *const f32, from_row: isize, to: *mut f32, to_row: isize) {
        // SAFETY: the token proves the instructions, the caller the memory.
        unsafe { transpose_square(from, from_row, to, to_row) }
    }

    #[inline(always)]
    fn run<K: Kernel>(self, kernel: K) -> K::Output {
        // SAFETY: the token proves the instructions.
        unsafe { enter(self, kernel) }
    }
}

macro_rules! vector {
    ($name:ident, $elem:ty, $lanes:literal, $splat:ident, $load:ident, $store:ident, $add:ident,
     |$a:ident, $b:ident, $c:ident| $mul_add:expr) => {
        impl Vector<Avx2> for $name {
            type Elem = $elem;
            const LANES: usize = $lanes;

            #[inline(always)]
            fn splat(_: Avx2, x: $elem) -> Self {
                // SAFETY: the token proves the instructions.
                $name(unsafe { $splat(x) })
            }

            #[inline(always)]
            unsafe fn load(_: Avx2, from: *const $elem) -> Self {
                // SAFETY: the token proves the instructions, the caller the memory.
                $name(unsafe { $load(from.cast()) })
            }

            #[inline(always)]
            unsafe fn store(self, to: *mut $elem) {
                // SAFETY: the vector proves the instructions, the caller the memory.
                unsafe { $store(to.cast(), self.0) }
            }

            #[inline(always)]
            fn mul_add(self, b: Self, c: Self) -> Self {
                let ($a, $b, $c) = (self.0, b.0, c.0);
                $name($mul_add)
            }

            #[inline(always)]
            fn plus(self, other: Self) -> Self {
                // SAFETY: the vector proves the instructions.
                $name(unsafe { $add(self.0, other.0) })
            }
        }
    };
}

vector!(
    F32x8,
    f32,
    8,
    _mm256_set1_ps,
    _mm256_loadu_ps,
    _mm256_storeu_ps,
    _mm256_add_ps,
    // SAFETY: the vector proves the instructions.
    |a, b, c| unsafe { _mm256_fmadd_ps(a, b, c) }
);
vector!(
    F64x4,
    f64,
    4,
    _mm256_set1_pd,
    _mm256_loadu_pd,
    _mm256_storeu_pd,
    _mm256_add_pd,
    // SAFETY: the vector proves the instructions.
    |a, b, c| unsafe { _mm256_fmadd_pd(a, b, c) }
);
vector!(
    I32x8,
    i32,
    8,
    _mm256_set1_epi32,
    _mm256_loadu_si256,
    _mm256_storeu_si256,
    _mm256_add_epi32,
    |a, b, c| {
        // SAFETY: the vector proves the instructions.
        let product = unsafe { _mm256_mullo_epi32(a, b) };
        // SAFETY: as above.
        unsafe { _mm256_add_epi32(product, c) }
    }
);

impl Vector<Avx2> for I64x4 {
    type Elem = i64;
    const LANES: usize = 4;

    #[inline(always)]
    fn splat(_: Avx2, x: i64) -> Self {
        I64x4([x; 4])
    }

    #[inline(always)]
    unsafe fn load(_: Avx2, from: *const i64) -> Self {
        // SAFETY: the caller vouches for four elements.
        I64x4(unsafe { from.cast::<[i64; 4]>().read_unaligned() })
    }

    #[inline(always)]
    unsafe fn store(self, to: *mut i64) {
        // SAFETY: the caller vouches for four elements.
        unsafe { to.cast::<[i64; 4]>().write_unaligned(self.0) }
    }

    #[inline(always)]
    fn mul_add(mut self, b: Self, c: Self) -> Self {
        for i in 0..4 {
            self.0[i] = self.0[i].wrapping_mul(b.0[i]).wrapping_add(c.0[i]);
        }
        self
    }

    #[inline(always)]
    fn plus(mut self, other: Self) -> Self {
        for i in 0..4 {
            self.0[i] = self.0[i].wrapping_add(other.0[i]);
        }
        self
    }
}

macro_rules! binary {
    ($name:ident: $($trait:ident $method:ident $intrinsic:ident),*) => {
        $(impl $trait for $name {
            type Output = Self;
            #[inline(always)]
            fn $method(self, other: Self) -> Self {
                // SAFETY: the vector proves the instructions.
                $name(unsafe { $intrinsic(self.0, other.0) })
            }
        })*
    };
}

binary!(F32x8: Add add _mm256_add_ps, Sub sub _mm256_sub_ps, Mul mul _mm256_mul_ps, Div div _mm256_div_ps);
binary!(I32x8: Add add _mm256_add_epi32, Sub sub _mm256_sub_epi32, BitAnd bitand _mm256_and_si256,
    BitOr bitor _mm256_or_si256, BitXor bitxor _mm256_xor_si256);
binary!(Mask8: BitAnd bitand _mm256_and_ps, BitOr bitor _mm256_or_ps);

impl Neg for F32x8 {
    type Output = Self;
    #[inline(always)]
    fn neg(self) -> Self {
        // SAFETY: the vector proves the instructions.
        let sign = unsafe { _mm256_set1_ps(-0.0) };
        // SAFETY: as above.
        F32x8(unsafe { _mm256_xor_ps(self.0, sign) })
    }
}

impl Float32<Avx2> for F32x8 {
    #[inline(always)]
    fn larger(self, other: Self) -> Self {
        // SAFETY: the vector proves the instructions.
        F32x8(unsafe { _mm256_max_ps(self.0, other.0) })
    }

    #[inline(always)]
    fn smaller(self, other: Self) -> Self {
        // SAFETY: the vector proves the instructions.
        F32x8(unsafe { _mm256_min_ps(self.0, other.0) })
    }

    #[inline(always)]
    fn abs(self) -> Self {
        // SAFETY: the vector proves the instructions.
        let sign = unsafe { _mm256_set1_ps(-0.0) };
        // SAFETY: as above.
        F32x8(unsafe { _mm256_andnot_ps(sign, self.0) })
    }

    #[inline(always)]
    fn sqrt(self) -> Self {
        // SAFETY: the vector proves the instructions.
        F32x8(unsafe { _mm256_sqrt_ps(self.0) })
    }

    #[inline(always)]
    fn lt(self, other: Self) -> Mask8 {
        // SAFETY: the vector proves the instructions.
        Mask8(unsafe { _mm256_cmp_ps::<_CMP_LT_OQ>(self.0, other.0) })
    }

    #[inline(always)]
    fn le(self, other: Self) -> Mask8 {
        // SAFETY: the vector proves the instructions.
        Mask8(unsafe { _mm256_cmp_ps::<_CMP_LE_OQ>(self.0, other.0) })
    }

    #[inline(always)]
    fn same(self, other: Self) -> Mask8 {
        // SAFETY: the vector proves the instructions.
        Mask8(unsafe { _mm256_cmp_ps::<_CMP_EQ_OQ>(self.0, other.0) })
    }

    #[inline(always)]
    fn select(mask: Mask8, a: Self, b: Self) -> Self {
        // SAFETY: the vector proves the instructions.
        F32x8(unsafe { _mm256_blendv_ps(b.0, a.0, mask.0) })
    }

    #[inline(always)]
    fn bits(self) -> I32x8 {
        // SAFETY: the vector proves the instructions.
        I32x8(unsafe { _mm256_castps_si256(self.0) })
    }

    #[inline(always)]
    fn from_bits(bits: I32x8) -> Self {
        // SAFETY: the vector proves the instructions.
        F32x8(unsafe { _mm256_castsi256_ps(bits.0) })
    }

    #[inline(always)]
    fn round(self) -> Self {
        // SAFETY: the vector proves the instructions.
        F32x8(unsafe { _mm256_round_ps::<8>(self.0) })
    }

    #[inline(always)]
    fn to_int(self) -> I32x8 {
        // SAFETY: the vector proves the instructions.
        I32x8(unsafe { _mm256_cvtps_epi32(self.0) })
    }

    #[inline(always)]
    fn from_int(int: I32x8) -> Self {
        // SAFETY: the vector proves the instructions.
        F32x8(unsafe { _mm256_cvtepi32_ps(int.0) })
    }

    #[inline(always)]
    unsafe fn load_f16(_: Avx2, from: *const u16) -> Self {
        // SAFETY: the token proves the instructions, the caller the memory.
        let half = unsafe { _mm_loadu_si128(from.cast()) };
        // SAFETY: the token proves the instructions.
        F32x8(unsafe { _mm256_cvtph_ps(half) })
    }
}

impl Int32<Avx2> for I32x8 {
    #[inline(always)]
    fn shift_left(self, count: i32) -> Self {
        // SAFETY: the vector proves the instructions.
        let count = unsafe { _mm_cvtsi32_si128(count) };
        // SAFETY: as above.
        I32x8(unsafe { _mm256_sll_epi32(self.0, count) })
    }

    #[inline(always)]
    fn shift_right(self, count: i32) -> Self {
        // SAFETY: the vector proves the instructions.
        let count = unsafe { _mm_cvtsi32_si128(count) };
        // SAFETY: as above.
        I32x8(unsafe { _mm256_sra_epi32(self.0, count) })
    }
}

impl Mask for Mask8 {
    #[inline(always)]
    fn any(self) -> bool {
        // SAFETY: the vector proves the instructions.
        unsafe { _mm256_movemask_ps(self.0) != 0 }
    }

    #[inline(always)]
    fn invert(self) -> Self {
        // SAFETY: the vector proves the instructions.
        let ones = unsafe { _mm256_set1_epi32(-1) };
        // SAFETY: as above.
        let ones = unsafe { _mm256_castsi256_ps(ones) };
        // SAFETY: as above.
        Mask8(unsafe { _mm256_xor_ps(self.0, ones) })
    }
}
