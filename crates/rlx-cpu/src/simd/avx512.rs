//! AVX-512 (F, BW, DQ, VL): 16 lanes of f32.
//!
//! Each method is one instruction. A vector exists only if a token existed, and a token only if
//! the processor has the instructions; that is the ground of every `SAFETY` note here.

use super::{Float32, Int32, Kernel, Mask, Simd, SimdLevel, Vector};
use std::arch::x86_64::*;
use std::ops::{Add, BitAnd, BitOr, BitXor, Div, Mul, Neg, Sub};

/// Proof of AVX-512.
#[derive(Clone, Copy, Debug)]
pub struct Avx512(());

/// 16 lanes of f32.
#[derive(Clone, Copy)]
pub struct F32x16(__m512);
/// 16 lanes of i32.
#[derive(Clone, Copy)]
pub struct I32x16(__m512i);
/// 8 lanes of f64.
#[derive(Clone, Copy)]
pub struct F64x8(__m512d);
/// 8 lanes of i64.
#[derive(Clone, Copy)]
pub struct I64x8(__m512i);
/// One bit per lane.
#[derive(Clone, Copy)]
pub struct Mask16(__mmask16);

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

#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx2,fma,f16c")]
fn enter<K: Kernel>(token: Avx512, kernel: K) -> K::Output {
    kernel.run(token)
}

impl Simd for Avx512 {
    const LEVEL: SimdLevel = SimdLevel::Avx512;
    const FUSED: bool = true;
    type F32 = F32x16;
    type I32 = I32x16;
    type F64 = F64x8;
    type I64 = I64x8;
    type Mask = Mask16;

    #[inline(always)]
    unsafe fn assume() -> Self {
        Avx512(())
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

/// The mask of the first `count` lanes, at most 16.
#[inline(always)]
fn first_lanes(count: usize) -> __mmask16 {
    ((1u32 << count.min(16)) - 1) as __mmask16
}

macro_rules! vector {
    ($name:ident, $elem:ty, $lanes:literal, $splat:ident, $load:ident, $store:ident, $add:ident,
     |$a:ident, $b:ident, $c:ident| $mul_add:expr $(, { $($more:tt)* })?) => {
        impl Vector<Avx512> for $name {
            type Elem = $elem;
            const LANES: usize = $lanes;

            #[inline(always)]
            fn splat(_: Avx512, x: $elem) -> Self {
                // SAFETY: the token proves the instructions.
                $name(unsafe { $splat(x) })
            }

            #[inline(always)]
            unsafe fn load(_: Avx512, from: *const $elem) -> Self {
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

            $($($more)*)?
        }
    };
}

vector!(
    F32x16,
    f32,
    16,
    _mm512_set1_ps,
    _mm512_loadu_ps,
    _mm512_storeu_ps,
    _mm512_add_ps,
    // SAFETY: the vector proves the instructions.
    |a, b, c| unsafe { _mm512_fmadd_ps(a, b, c) },
    {
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
    }
);
vector!(
    F64x8,
    f64,
    8,
    _mm512_set1_pd,
    _mm512_loadu_pd,
    _mm512_storeu_pd,
    _mm512_add_pd,
    // SAFETY: the vector proves the instructions.
    |a, b, c| unsafe { _mm512_fmadd_pd(a, b, c) }
);
vector!(
    I32x16,
    i32,
    16,
    _mm512_set1_epi32,
    _mm512_loadu_si512,
    _mm512_storeu_si512,
    _mm512_add_epi32,
    |a, b, c| {
        // SAFETY: the vector proves the instructions.
        let product = unsafe { _mm512_mullo_epi32(a, b) };
        // SAFETY: as above.
        unsafe { _mm512_add_epi32(product, c) }
    }
);
vector!(
    I64x8,
    i64,
    8,
    _mm512_set1_epi64,
    _mm512_loadu_si512,
    _mm512_storeu_si512,
    _mm512_add_epi64,
    |a, b, c| {
        // SAFETY: the vector proves the instructions.
        let product = unsafe { _mm512_mullo_epi64(a, b) };
        // SAFETY: as above.
        unsafe { _mm512_add_epi64(product, c) }
    }
);

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

binary!(F32x16: Add add _mm512_add_ps, Sub sub _mm512_sub_ps, Mul mul _mm512_mul_ps, Div div _mm512_div_ps);
binary!(I32x16: Add add _mm512_add_epi32, Sub sub _mm512_sub_epi32, BitAnd bitand _mm512_and_si512,
    BitOr bitor _mm512_or_si512, BitXor bitxor _mm512_xor_si512);

impl Neg for F32x16 {
    type Output = Self;
    #[inline(always)]
    fn neg(self) -> Self {
        // SAFETY: the vector proves the instructions.
        let sign = unsafe { _mm512_set1_ps(-0.0) };
        // SAFETY: as above.
        F32x16(unsafe { _mm512_xor_ps(self.0, sign) })
    }
}

impl Float32<Avx512> for F32x16 {
    #[inline(always)]
    fn larger(self, other: Self) -> Self {
        // SAFETY: the vector proves the instructions.
        F32x16(unsafe { _mm512_max_ps(self.0, other.0) })
    }

    #[inline(always)]
    fn smaller(self, other: Self) -> Self {
        // SAFETY: the vector proves the instructions.
        F32x16(unsafe { _mm512_min_ps(self.0, other.0) })
    }

    #[inline(always)]
    fn abs(self) -> Self {
        // SAFETY: the vector proves the instructions.
        F32x16(unsafe { _mm512_abs_ps(self.0) })
    }

    #[inline(always)]
    fn sqrt(self) -> Self {
        // SAFETY: the vector proves the instructions.
        F32x16(unsafe { _mm512_sqrt_ps(self.0) })
    }

    #[inline(always)]
    fn lt(self, other: Self) -> Mask16 {
        // SAFETY: the vector proves the instructions.
        Mask16(unsafe { _mm512_cmp_ps_mask::<_CMP_LT_OQ>(self.0, other.0) })
    }

    #[inline(always)]
    fn le(self, other: Self) -> Mask16 {
        // SAFETY: the vector proves the instructions.
        Mask16(unsafe { _mm512_cmp_ps_mask::<_CMP_LE_OQ>(self.0, other.0) })
    }

    #[inline(always)]
    fn same(self, other: Self) -> Mask16 {
        // SAFETY: the vector proves the instructions.
        Mask16(unsafe { _mm512_cmp_ps_mask::<_CMP_EQ_OQ>(self.0, other.0) })
    }

    #[inline(always)]
    fn select(mask: Mask16, a: Self, b: Self) -> Self {
        // SAFETY: the vector proves the instructions.
        F32x16(unsafe { _mm512_mask_blend_ps(mask.0, b.0, a.0) })
    }

    #[inline(always)]
    fn bits(self) -> I32x16 {
        // SAFETY: the vector proves the instructions.
        I32x16(unsafe { _mm512_castps_si512(self.0) })
    }

    #[inline(always)]
    fn from_bits(bits: I32x16) -> Self {
        // SAFETY: the vector proves the instructions.
        F32x16(unsafe { _mm512_castsi512_ps(bits.0) })
    }

    #[inline(always)]
    fn round(self) -> Self {
        // SAFETY: the vector proves the instructions.
        F32x16(unsafe { _mm512_roundscale_ps::<0>(self.0) })
    }

    #[inline(always)]
    fn scale(self, _: Avx512, n: Self) -> Self {
        // SAFETY: the vector proves the instructions.
        F32x16(unsafe { _mm512_scalef_ps(self.0, n.0) })
    }

    #[inline(always)]
    fn to_int(self) -> I32x16 {
        // SAFETY: the vector proves the instructions.
        I32x16(unsafe { _mm512_cvtps_epi32(self.0) })
    }

    #[inline(always)]
    fn from_int(int: I32x16) -> Self {
        // SAFETY: the vector proves the instructions.
        F32x16(unsafe { _mm512_cvtepi32_ps(int.0) })
    }

    #[inline(always)]
    unsafe fn load_f16(_: Avx512, from: *const u16) -> Self {
        // SAFETY: the token proves the instructions, the caller the memory.
        let half = unsafe { _mm256_loadu_si256(from.cast()) };
        // SAFETY: the token proves the instructions.
        F32x16(unsafe { _mm512_cvtph_ps(half) })
    }

    #[inline(always)]
    fn sum_lanes(self) -> f32 {
        // SAFETY: the vector proves the instructions.
        unsafe { _mm512_reduce_add_ps(self.0) }
    }
}

impl F32x16 {
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

impl Int32<Avx512> for I32x16 {
    #[inline(always)]
    fn shift_left(self, count: i32) -> Self {
        // SAFETY: the vector proves the instructions.
        let count = unsafe { _mm_cvtsi32_si128(count) };
        // SAFETY: as above.
        I32x16(unsafe { _mm512_sll_epi32(self.0, count) })
    }

    #[inline(always)]
    fn shift_right(self, count: i32) -> Self {
        // SAFETY: the vector proves the instructions.
        let count = unsafe { _mm_cvtsi32_si128(count) };
        // SAFETY: as above.
        I32x16(unsafe { _mm512_sra_epi32(self.0, count) })
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
