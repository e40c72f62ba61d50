//! AVX-512 (F, BW, DQ, VL): 16 lanes of f32. Each method is one instruction, or a few.

use super::{Float32, Int32, Kernel, Mask, Simd, SimdLevel, Vector};
use std::arch::x86_64::*;
use std::ops::{Add, BitAnd, BitOr, BitXor, Div, Mul, Neg, Sub};

level!(
    /// Proof of AVX-512.
    Avx512, "avx512f,avx512bw,avx512dq,avx512vl,avx2,fma,f16c", F32x16(__m512), I32x16(__m512i), F64x8(__m512d),
    Mask16(__mmask16), I64x8
);

/// Lanes of i64.
#[derive(Clone, Copy)]
pub struct I64x8(__m512i);

/// A 16 by 16 transpose: pairs, pairs of pairs, then twice the quarters.
///
/// # Safety
/// As for [`Simd::transpose`].
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx2,fma,f16c")]
unsafe fn transpose_square(from: *const f32, from_row: isize, to: *mut f32, to_row: isize) {
    let mut rows = [_mm512_setzero_ps(); 16];
    for (i, row) in rows.iter_mut().enumerate() {
        // SAFETY: the caller vouches for sixteen rows of sixteen elements.
        *row = unsafe { _mm512_loadu_ps(from.wrapping_offset(i as isize * from_row)) };
    }
    let mut pairs = rows;
    for i in 0..8 {
        pairs[2 * i] = _mm512_unpacklo_ps(rows[2 * i], rows[2 * i + 1]);
        pairs[2 * i + 1] = _mm512_unpackhi_ps(rows[2 * i], rows[2 * i + 1]);
    }
    // Row `4 i + j` holds column `j` of each quarter, for the rows `4 i` to `4 i + 3`.
    let mut quads = rows;
    for i in 0..4 {
        for j in 0..2 {
            let (a, b) = (pairs[4 * i + j], pairs[4 * i + j + 2]);
            quads[4 * i + 2 * j] = _mm512_shuffle_ps::<0x44>(a, b);
            quads[4 * i + 2 * j + 1] = _mm512_shuffle_ps::<0xEE>(a, b);
        }
    }
    for j in 0..4 {
        let even = _mm512_shuffle_f32x4::<0x88>(quads[j], quads[4 + j]);
        let odd = _mm512_shuffle_f32x4::<0xDD>(quads[j], quads[4 + j]);
        let even_more = _mm512_shuffle_f32x4::<0x88>(quads[8 + j], quads[12 + j]);
        let odd_more = _mm512_shuffle_f32x4::<0xDD>(quads[8 + j], quads[12 + j]);
        let columns = [
            _mm512_shuffle_f32x4::<0x88>(even, even_more),
            _mm512_shuffle_f32x4::<0x88>(odd, odd_more),
            _mm512_shuffle_f32x4::<0xDD>(even, even_more),
            _mm512_shuffle_f32x4::<0xDD>(odd, odd_more),
        ];
        for (quarter, column) in columns.into_iter().enumerate() {
            let row = (4 * quarter + j) as isize;
            // SAFETY: the caller vouches for sixteen rows of sixteen elements.
            unsafe { _mm512_storeu_ps(to.wrapping_offset(row * to_row), column) };
        }
    }
}

/// The mask of the first `count` lanes, at most 16.
#[inline(always)]
fn first_lanes(count: usize) -> __mmask16 {
    ((1u32 << count.min(16)) - 1) as __mmask16
}

vector!(Avx512, F32x16: 16 f32, _mm512_set1_ps, _mm512_loadu_ps, _mm512_storeu_ps, _mm512_add_ps, {
    instructions! { fn mul_add(self, b: Self, c: Self) -> Self = F32x16(_mm512_fmadd_ps(self.0, b.0, c.0)); }

    #[inline(always)]
    fn read_partial(simd: Avx512, from: &[f32], fill: f32) -> Self {
        let mask = first_lanes(from.len());
        let fill = Self::splat(simd, fill);
        // SAFETY: the token proves the instructions, and the mask keeps the load in the slice.
        F32x16(unsafe { _mm512_mask_loadu_ps(fill.0, mask, from.as_ptr()) })
    }

    #[inline(always)]
    fn write_partial(self, to: &mut [f32]) {
        let mask = first_lanes(to.len());
        // SAFETY: the vector proves the instructions, and the mask keeps the store in the slice.
        unsafe { _mm512_mask_storeu_ps(to.as_mut_ptr(), mask, self.0) }
    }
});
vector!(Avx512, F64x8: 8 f64, _mm512_set1_pd, _mm512_loadu_pd, _mm512_storeu_pd, _mm512_add_pd, {
    instructions! { fn mul_add(self, b: Self, c: Self) -> Self = F64x8(_mm512_fmadd_pd(self.0, b.0, c.0)); }
});
vector!(Avx512, I32x16: 16 i32, _mm512_set1_epi32, _mm512_loadu_si512, _mm512_storeu_si512, _mm512_add_epi32, {
    #[inline(always)]
    fn mul_add(self, b: Self, c: Self) -> Self {
        self.times(b) + c
    }
});
vector!(Avx512, I64x8: 8 i64, _mm512_set1_epi64, _mm512_loadu_si512, _mm512_storeu_si512, _mm512_add_epi64, {
    #[inline(always)]
    fn mul_add(self, b: Self, c: Self) -> Self {
        self.times(b).plus(c)
    }
});

operators!(F32x16: Add add _mm512_add_ps, Sub sub _mm512_sub_ps, Mul mul _mm512_mul_ps, Div div _mm512_div_ps);
operators!(I32x16: Add add _mm512_add_epi32, Sub sub _mm512_sub_epi32, BitAnd bitand _mm512_and_si512,
    BitOr bitor _mm512_or_si512, BitXor bitxor _mm512_xor_si512);

impl Neg for F32x16 {
    type Output = Self;
    instructions! { fn neg(self) -> Self = F32x16(_mm512_xor_ps(self.0, Self::sign_bits().0)); }
}

impl Float32<Avx512> for F32x16 {
    instructions! {
        fn larger(self, other: Self) -> Self = F32x16(_mm512_max_ps(self.0, other.0));
        fn smaller(self, other: Self) -> Self = F32x16(_mm512_min_ps(self.0, other.0));
        fn abs(self) -> Self = F32x16(_mm512_abs_ps(self.0));
        fn sqrt(self) -> Self = F32x16(_mm512_sqrt_ps(self.0));
        fn lt(self, other: Self) -> Mask16 = Mask16(_mm512_cmp_ps_mask::<_CMP_LT_OQ>(self.0, other.0));
        fn le(self, other: Self) -> Mask16 = Mask16(_mm512_cmp_ps_mask::<_CMP_LE_OQ>(self.0, other.0));
        fn same(self, other: Self) -> Mask16 = Mask16(_mm512_cmp_ps_mask::<_CMP_EQ_OQ>(self.0, other.0));
        fn select(mask: Mask16, a: Self, b: Self) -> Self = F32x16(_mm512_mask_blend_ps(mask.0, b.0, a.0));
        fn bits(self) -> I32x16 = I32x16(_mm512_castps_si512(self.0));
        fn from_bits(bits: I32x16) -> Self = F32x16(_mm512_castsi512_ps(bits.0));
        fn round(self) -> Self = F32x16(_mm512_roundscale_ps::<0>(self.0));
        fn scale(self, _: Avx512, n: Self) -> Self = F32x16(_mm512_scalef_ps(self.0, n.0));
        fn to_int(self) -> I32x16 = I32x16(_mm512_cvtps_epi32(self.0));
        fn from_int(int: I32x16) -> Self = F32x16(_mm512_cvtepi32_ps(int.0));
        fn sum_lanes(self) -> f32 = _mm512_reduce_add_ps(self.0);
    }

    #[inline(always)]
    unsafe fn load_f16(_: Avx512, from: *const u16) -> Self {
        // SAFETY: the token proves the instructions, the caller the memory.
        Self::from_halves(unsafe { _mm256_loadu_si256(from.cast()) })
    }
}

impl F32x16 {
    instructions! {
        fn sign_bits() -> Self = F32x16(_mm512_set1_ps(-0.0));
        fn from_halves(halves: __m256i) -> Self = F32x16(_mm512_cvtph_ps(halves));
    }

    /// Adds to each lane the dot product of two pairs of bf16 (`a` and `b` hold 32 of them).
    ///
    /// # Safety
    /// The processor must have AVX512-BF16.
    #[inline(always)]
    pub(crate) unsafe fn add_bf16_dot(self, a: I32x16, b: I32x16) -> Self {
        // SAFETY: both types are 64 plain bytes.
        let a: __m512bh = unsafe { std::mem::transmute(a.0) };
        // SAFETY: both types are 64 plain bytes.
        let b: __m512bh = unsafe { std::mem::transmute(b.0) };
        // SAFETY: the caller vouches for the instruction.
        F32x16(unsafe { _mm512_dpbf16_ps(self.0, a, b) })
    }
}

impl I32x16 {
    instructions! {
        fn times(self, other: Self) -> Self = I32x16(_mm512_mullo_epi32(self.0, other.0));
        fn count(count: i32) -> __m128i = _mm_cvtsi32_si128(count);
    }
}

impl I64x8 {
    instructions! { fn times(self, other: Self) -> Self = I64x8(_mm512_mullo_epi64(self.0, other.0)); }
}

impl Int32<Avx512> for I32x16 {
    instructions! {
        fn shift_left(self, count: i32) -> Self = I32x16(_mm512_sll_epi32(self.0, Self::count(count)));
        fn shift_right(self, count: i32) -> Self = I32x16(_mm512_sra_epi32(self.0, Self::count(count)));
    }
}

impl BitAnd for Mask16 {
    type Output = Self;
    #[inline(always)]
    fn bitand(self, other: Self) -> Self {
        Mask16(self.0 & other.0)
    }
}

impl BitOr for Mask16 {
    type Output = Self;
    #[inline(always)]
    fn bitor(self, other: Self) -> Self {
        Mask16(self.0 | other.0)
    }
}

impl Mask for Mask16 {
    #[inline(always)]
    fn any(self) -> bool {
        self.0 != 0
    }

    #[inline(always)]
    fn invert(self) -> Self {
        Mask16(!self.0)
    }
}
