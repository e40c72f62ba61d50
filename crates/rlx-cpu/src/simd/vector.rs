//! The vector traits that kernels are written over.
//!
//! [`Vector`] is what a matrix microkernel needs of any element type; [`Float32`] and [`Int32`]
//! add what elementary functions need. Every implementation is a handful of one-line wrappers.

use super::{Kernel, SimdLevel};
use std::ops::{Add, BitAnd, BitOr, BitXor, Div, Mul, Neg, Sub};

/// The largest number of lanes of any vector type.
pub(crate) const MAX_LANES: usize = 16;

/// A token that proves the presence of an instruction set.
pub trait Simd: Copy + Send + Sync + 'static {
    /// The level that this token stands for (dot products are told apart by the caller).
    const LEVEL: SimdLevel;
    /// Whether `mul_add` of floats rounds once.
    const FUSED: bool;
    /// Vector of f32.
    type F32: Float32<Self>;
    /// Vector of i32 with the same number of lanes.
    type I32: Int32<Self>;
    /// Vector of f64.
    type F64: Vector<Self, Elem = f64>;
    /// Vector of i64.
    type I64: Vector<Self, Elem = i64>;
    /// The result of comparing two `F32`.
    type Mask: Mask;

    /// The token, without a check.
    ///
    /// # Safety
    /// The processor must have the instructions of [`Self::LEVEL`].
    unsafe fn assume() -> Self;

    /// Transposes a square of `F32::LANES` rows of as many four-byte elements, whose bits are kept.
    ///
    /// # Safety
    /// `from` and `to` must be valid for the rows of the square at their row strides (in
    /// elements), and must not overlap.
    unsafe fn transpose(self, from: *const f32, from_row: isize, to: *mut f32, to_row: isize);

    /// Runs `kernel` inside a function compiled for this instruction set.
    fn run<K: Kernel>(self, kernel: K) -> K::Output;
}

/// A vector of some element type.
pub trait Vector<S: Simd>: Copy {
    /// One lane.
    type Elem: Copy + Default;
    /// Number of lanes, at most 16.
    const LANES: usize;

    /// All lanes equal to `x`.
    fn splat(simd: S, x: Self::Elem) -> Self;

    /// Loads `LANES` elements; no alignment is needed beyond the element's.
    ///
    /// # Safety
    /// `from` must be valid for reading `LANES` elements.
    unsafe fn load(simd: S, from: *const Self::Elem) -> Self;

    /// Stores `LANES` elements.
    ///
    /// # Safety
    /// `to` must be valid for writing `LANES` elements.
    unsafe fn store(self, to: *mut Self::Elem);

    /// `self * b + c`, fused where the instruction set fuses; wrapping for integers.
    fn mul_add(self, b: Self, c: Self) -> Self;

    /// `self + other`; wrapping for integers.
    fn plus(self, other: Self) -> Self;

    /// The first `LANES` elements of `from`, which must have that many.
    #[inline(always)]
    fn read(simd: S, from: &[Self::Elem]) -> Self {
        let from = &from[..Self::LANES];
        // SAFETY: the slice has `LANES` elements.
        unsafe { Self::load(simd, from.as_ptr()) }
    }

    /// Writes to the first `LANES` elements of `to`, which must have that many.
    #[inline(always)]
    fn write(self, to: &mut [Self::Elem]) {
        let to = &mut to[..Self::LANES];
        // SAFETY: the slice has `LANES` elements.
        unsafe { self.store(to.as_mut_ptr()) }
    }

    /// The elements of `from`, at most `LANES`, with the missing lanes equal to `fill`.
    #[inline(always)]
    fn read_partial(simd: S, from: &[Self::Elem], fill: Self::Elem) -> Self {
        let mut lanes = [fill; MAX_LANES];
        for (lane, &x) in lanes.iter_mut().zip(from) {
            *lane = x;
        }
        Self::read(simd, &lanes)
    }

    /// Writes the first `to.len()` lanes, at most `LANES`.
    #[inline(always)]
    fn write_partial(self, to: &mut [Self::Elem]) {
        let mut lanes = [Self::Elem::default(); MAX_LANES];
        self.write(&mut lanes);
        for (x, &lane) in to.iter_mut().zip(&lanes[..Self::LANES]) {
            *x = lane;
        }
    }
}

/// A vector of f32 with arithmetic, comparison and conversion.
pub trait Float32<S: Simd<F32 = Self>>:
    Vector<S, Elem = f32>
    + Add<Output = Self>
    + Sub<Output = Self>
    + Mul<Output = Self>
    + Div<Output = Self>
    + Neg<Output = Self>
{
    /// Lane by lane `if self > other { self } else { other }`: `other` when either is NaN.
    fn larger(self, other: Self) -> Self;
    /// Lane by lane `if self < other { self } else { other }`: `other` when either is NaN.
    fn smaller(self, other: Self) -> Self;
    /// Absolute value.
    fn abs(self) -> Self;
    /// Square root.
    fn sqrt(self) -> Self;
    /// `self < other`, false for NaN.
    fn lt(self, other: Self) -> S::Mask;
    /// `self <= other`, false for NaN.
    fn le(self, other: Self) -> S::Mask;
    /// `self == other`, false for NaN.
    fn same(self, other: Self) -> S::Mask;
    /// `if mask { a } else { b }`.
    fn select(mask: S::Mask, a: Self, b: Self) -> Self;
    /// The bit patterns.
    fn bits(self) -> S::I32;
    /// The floats with these bit patterns.
    fn from_bits(bits: S::I32) -> Self;
    /// To the nearest integer as a float, ties to even.
    fn round(self) -> Self;
    /// To the nearest integer, ties to even; the result is unspecified outside i32.
    fn to_int(self) -> S::I32;
    /// From integers.
    fn from_int(int: S::I32) -> Self;
    /// Widens `LANES` half-precision bit patterns.
    ///
    /// # Safety
    /// `from` must be valid for reading `LANES` elements.
    unsafe fn load_f16(simd: S, from: *const u16) -> Self;

    /// `self` times two to the power of an integer `n` in -280..=280, rounded once.
    #[inline(always)]
    fn scale(self, simd: S, n: Self) -> Self {
        let n = n.to_int();
        let half = n.shift_right(1);
        let bias = S::I32::splat(simd, 127);
        let power = |n: S::I32| Self::from_bits((n + bias).shift_left(23));
        self * power(half) * power(n - half)
    }

    /// Whether each lane is a number rather than NaN.
    #[inline(always)]
    fn is_number(self) -> S::Mask {
        self.same(self)
    }

    /// Sum of the lanes, in a fixed pairwise order.
    #[inline(always)]
    fn sum_lanes(self) -> f32 {
        self.fold_lanes(|a, b| a + b)
    }

    /// Folds the lanes with `f`, in a fixed pairwise order.
    #[inline(always)]
    fn fold_lanes(self, f: fn(f32, f32) -> f32) -> f32 {
        let mut lanes = [0.0; MAX_LANES];
        self.write(&mut lanes);
        let mut width = Self::LANES;
        while width > 1 {
            width /= 2;
            for i in 0..width {
                lanes[i] = f(lanes[i], lanes[i + width]);
            }
        }
        lanes[0]
    }
}

/// A vector of i32 for bit manipulation of floats.
pub trait Int32<S: Simd<I32 = Self>>:
    Vector<S, Elem = i32>
    + Add<Output = Self>
    + Sub<Output = Self>
    + BitAnd<Output = Self>
    + BitOr<Output = Self>
    + BitXor<Output = Self>
{
    /// Shift left by `count` (0 to 31).
    fn shift_left(self, count: i32) -> Self;
    /// Arithmetic shift right by `count` (0 to 31).
    fn shift_right(self, count: i32) -> Self;
}

/// A lane mask.
pub trait Mask: Copy + BitAnd<Output = Self> + BitOr<Output = Self> {
    /// Whether any lane is set.
    fn any(self) -> bool;
    /// The opposite mask.
    fn invert(self) -> Self;
}
