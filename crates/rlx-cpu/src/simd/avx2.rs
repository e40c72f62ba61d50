//! AVX2 with FMA and F16C: 8 lanes of f32. Each method is one instruction, or a few.

use super::portable::Lanes;
use super::{Float32, Int32, Kernel, Mask, Simd, SimdLevel, Vector};
use std::arch::x86_64::*;
use std::ops::{Add, BitAnd, BitOr, BitXor, Div, Mul, Neg, Sub};

level!(
    /// Proof of AVX2, FMA and F16C. There is no 64-bit multiply: the compiler composes it.
    Avx2, "avx2,fma,f16c", F32x8(__m256), I32x8(__m256i), F64x4(__m256d), Mask8(__m256), Lanes<i64>
);

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

vector!(Avx2, F32x8: 8 f32, _mm256_set1_ps, _mm256_loadu_ps, _mm256_storeu_ps, _mm256_add_ps, {
    instructions! { fn mul_add(self, b: Self, c: Self) -> Self = F32x8(_mm256_fmadd_ps(self.0, b.0, c.0)); }
});
vector!(Avx2, F64x4: 4 f64, _mm256_set1_pd, _mm256_loadu_pd, _mm256_storeu_pd, _mm256_add_pd, {
    instructions! { fn mul_add(self, b: Self, c: Self) -> Self = F64x4(_mm256_fmadd_pd(self.0, b.0, c.0)); }
});
vector!(Avx2, I32x8: 8 i32, _mm256_set1_epi32, _mm256_loadu_si256, _mm256_storeu_si256, _mm256_add_epi32, {
    #[inline(always)]
    fn mul_add(self, b: Self, c: Self) -> Self {
        self.times(b) + c
    }
});

operators!(F32x8: Add add _mm256_add_ps, Sub sub _mm256_sub_ps, Mul mul _mm256_mul_ps, Div div _mm256_div_ps);
operators!(I32x8: Add add _mm256_add_epi32, Sub sub _mm256_sub_epi32, BitAnd bitand _mm256_and_si256,
    BitOr bitor _mm256_or_si256, BitXor bitxor _mm256_xor_si256);
operators!(Mask8: BitAnd bitand _mm256_and_ps, BitOr bitor _mm256_or_ps, BitXor bitxor _mm256_xor_ps);

impl F32x8 {
    instructions! {
        fn sign_bits() -> Self = F32x8(_mm256_set1_ps(-0.0));
        fn from_halves(halves: __m128i) -> Self = F32x8(_mm256_cvtph_ps(halves));
    }
}

impl Neg for F32x8 {
    type Output = Self;
    instructions! { fn neg(self) -> Self = F32x8(_mm256_xor_ps(self.0, Self::sign_bits().0)); }
}

impl Float32<Avx2> for F32x8 {
    instructions! {
        fn larger(self, other: Self) -> Self = F32x8(_mm256_max_ps(self.0, other.0));
        fn smaller(self, other: Self) -> Self = F32x8(_mm256_min_ps(self.0, other.0));
        fn abs(self) -> Self = F32x8(_mm256_andnot_ps(Self::sign_bits().0, self.0));
        fn sqrt(self) -> Self = F32x8(_mm256_sqrt_ps(self.0));
        fn lt(self, other: Self) -> Mask8 = Mask8(_mm256_cmp_ps::<_CMP_LT_OQ>(self.0, other.0));
        fn le(self, other: Self) -> Mask8 = Mask8(_mm256_cmp_ps::<_CMP_LE_OQ>(self.0, other.0));
        fn same(self, other: Self) -> Mask8 = Mask8(_mm256_cmp_ps::<_CMP_EQ_OQ>(self.0, other.0));
        fn select(mask: Mask8, a: Self, b: Self) -> Self = F32x8(_mm256_blendv_ps(b.0, a.0, mask.0));
        fn bits(self) -> I32x8 = I32x8(_mm256_castps_si256(self.0));
        fn from_bits(bits: I32x8) -> Self = F32x8(_mm256_castsi256_ps(bits.0));
        fn round(self) -> Self = F32x8(_mm256_round_ps::<8>(self.0));
        fn to_int(self) -> I32x8 = I32x8(_mm256_cvtps_epi32(self.0));
        fn from_int(int: I32x8) -> Self = F32x8(_mm256_cvtepi32_ps(int.0));
    }

    #[inline(always)]
    unsafe fn load_f16(_: Avx2, from: *const u16) -> Self {
        // SAFETY: the token proves the instructions, the caller the memory.
        Self::from_halves(unsafe { _mm_loadu_si128(from.cast()) })
    }
}

impl I32x8 {
    instructions! {
        fn times(self, other: Self) -> Self = I32x8(_mm256_mullo_epi32(self.0, other.0));
        fn all_bits() -> Self = I32x8(_mm256_set1_epi32(-1));
        fn count(count: i32) -> __m128i = _mm_cvtsi32_si128(count);
    }
}

impl Int32<Avx2> for I32x8 {
    instructions! {
        fn shift_left(self, count: i32) -> Self = I32x8(_mm256_sll_epi32(self.0, Self::count(count)));
        fn shift_right(self, count: i32) -> Self = I32x8(_mm256_sra_epi32(self.0, Self::count(count)));
    }
}

impl Mask for Mask8 {
    instructions! { fn any(self) -> bool = _mm256_movemask_ps(self.0) != 0; }

    #[inline(always)]
    fn invert(self) -> Self {
        self ^ Mask8(F32x8::from_bits(I32x8::all_bits()).0)
    }
}
