//! Four lanes in arrays, for any processor: the compiler maps them to SSE2 or NEON.
//!
//! `mul_add` is fused only where the compile target has a fused instruction.

use super::{Float32, Int32, Kernel, Mask, Simd, SimdLevel, Vector};
use half::f16;
use std::ops::{Add, BitAnd, BitOr, BitXor, Div, Mul, Neg, Sub};

/// The token of the level that every processor has.
#[derive(Clone, Copy, Debug)]
pub struct Portable;

/// Four lanes of some element.
#[derive(Clone, Copy)]
pub struct Lanes<T>([T; 4]);

impl Simd for Portable {
    const LEVEL: SimdLevel = SimdLevel::Portable;
    const FUSED: bool = FUSED;
    type F32 = Lanes<f32>;
    type I32 = Lanes<i32>;
    type F64 = Lanes<f64>;
    type I64 = Lanes<i64>;
    type Mask = Lanes<bool>;

    #[inline(always)]
    unsafe fn assume() -> Self {
        Portable
    }

    #[inline(always)]
    unsafe fn transpose(self, from: *const f32, from_row: isize, to: *mut f32, to_row: isize) {
        let mut rows = [[0u32; 4]; 4];
        for (i, row) in rows.iter_mut().enumerate() {
            let from: *const [u32; 4] = from.wrapping_offset(i as isize * from_row).cast();
            // SAFETY: the caller vouches for four rows of four elements.
            *row = unsafe { from.read_unaligned() };
        }
        for i in 0..4 {
            let to: *mut [u32; 4] = to.wrapping_offset(i as isize * to_row).cast();
            // SAFETY: the caller vouches for four rows of four elements.
            unsafe { to.write_unaligned(rows.map(|row| row[i])) };
        }
    }

    #[inline(always)]
    fn run<K: Kernel>(self, kernel: K) -> K::Output {
        kernel.run(self)
    }
}

impl<T: Copy> Lanes<T> {
    #[inline(always)]
    fn map<U: Copy>(self, f: impl Fn(T) -> U) -> Lanes<U> {
        Lanes([f(self.0[0]), f(self.0[1]), f(self.0[2]), f(self.0[3])])
    }

    #[inline(always)]
    fn zip<V: Copy, U: Copy>(self, other: Lanes<V>, f: impl Fn(T, V) -> U) -> Lanes<U> {
        let (a, b) = (self.0, other.0);
        Lanes([f(a[0], b[0]), f(a[1], b[1]), f(a[2], b[2]), f(a[3], b[3])])
    }
}

macro_rules! vector {
    ($elem:ty, |$a:ident, $b:ident, $c:ident| $mul_add:expr, |$x:ident, $y:ident| $plus:expr) => {
        impl<S: Simd> Vector<S> for Lanes<$elem> {
            type Elem = $elem;
            const LANES: usize = 4;

            #[inline(always)]
            fn splat(_: S, x: $elem) -> Self {
                Lanes([x; 4])
            }

            #[inline(always)]
            unsafe fn load(_: S, from: *const $elem) -> Self {
                // SAFETY: the caller vouches for four elements.
                Lanes(unsafe { from.cast::<[$elem; 4]>().read_unaligned() })
            }

            #[inline(always)]
            unsafe fn store(self, to: *mut $elem) {
                // SAFETY: the caller vouches for four elements.
                unsafe { to.cast::<[$elem; 4]>().write_unaligned(self.0) }
            }

            #[inline(always)]
            fn mul_add(mut self, b: Self, c: Self) -> Self {
                for i in 0..4 {
                    let ($a, $b, $c) = (self.0[i], b.0[i], c.0[i]);
                    self.0[i] = $mul_add;
                }
                self
            }

            #[inline(always)]
            fn plus(self, other: Self) -> Self {
                self.zip(other, |$x, $y| $plus)
            }
        }
    };
}

/// Whether `mul_add` compiles to one instruction rather than a library call.
const FUSED: bool = cfg!(any(target_arch = "aarch64", target_feature = "fma"));

vector!(f32, |a, b, c| if FUSED { a.mul_add(b, c) } else { a * b + c }, |x, y| x + y);
vector!(f64, |a, b, c| if FUSED { a.mul_add(b, c) } else { a * b + c }, |x, y| x + y);
vector!(i32, |a, b, c| a.wrapping_mul(b).wrapping_add(c), |x, y| x.wrapping_add(y));
vector!(i64, |a, b, c| a.wrapping_mul(b).wrapping_add(c), |x, y| x.wrapping_add(y));

/// Methods by a function of one lane, or of a lane of each of two vectors.
macro_rules! lanewise {
    ($(fn $name:ident(self $(, $other:ident)?) -> $result:ty = $f:expr;)*) => { $(
        #[inline(always)]
        fn $name(self $(, $other: Self)?) -> $result {
            lanewise!(@ self $($other)?, $f)
        }
    )* };
    (@ $x:ident, $f:expr) => { $x.map($f) };
    (@ $x:ident $y:ident, $f:expr) => { $x.zip($y, $f) };
}

macro_rules! operators {
    ($elem:ty: $($trait:ident $method:ident $f:expr),*) => { $(
        impl $trait for Lanes<$elem> {
            type Output = Self;
            #[inline(always)]
            fn $method(self, other: Self) -> Self {
                self.zip(other, $f)
            }
        }
    )* };
}

operators!(f32: Add add |a, b| a + b, Sub sub |a, b| a - b, Mul mul |a, b| a * b, Div div |a, b| a / b);
operators!(i32: Add add i32::wrapping_add, Sub sub i32::wrapping_sub, BitAnd bitand |a, b| a & b,
    BitOr bitor |a, b| a | b, BitXor bitxor |a, b| a ^ b);
operators!(bool: BitAnd bitand |a, b| a & b, BitOr bitor |a, b| a | b);

impl Neg for Lanes<f32> {
    type Output = Self;
    #[inline(always)]
    fn neg(self) -> Self {
        self.map(|x| -x)
    }
}

/// Adding and subtracting this rounds any |x| < 2^22 to the nearest even integer.
const ROUNDER: f32 = 12_582_912.0;

impl Float32<Portable> for Lanes<f32> {
    lanewise! {
        fn larger(self, other) -> Self = |a, b| if a > b { a } else { b };
        fn smaller(self, other) -> Self = |a, b| if a < b { a } else { b };
        fn abs(self) -> Self = f32::abs;
        fn sqrt(self) -> Self = f32::sqrt;
        fn lt(self, other) -> Lanes<bool> = |a, b| a < b;
        fn le(self, other) -> Lanes<bool> = |a, b| a <= b;
        fn same(self, other) -> Lanes<bool> = |a, b| a == b;
        fn bits(self) -> Lanes<i32> = |x| x.to_bits() as i32;
        fn round(self) -> Self =
            |x| if x.abs() < 4_194_304.0 { (x + ROUNDER) - ROUNDER } else { x.round_ties_even() };
    }

    #[inline(always)]
    fn select(mask: Lanes<bool>, a: Self, b: Self) -> Self {
        let (m, a, b) = (mask.0, a.0, b.0);
        let pick = |i: usize| if m[i] { a[i] } else { b[i] };
        Lanes([pick(0), pick(1), pick(2), pick(3)])
    }

    #[inline(always)]
    fn from_bits(bits: Lanes<i32>) -> Self {
        bits.map(|x| f32::from_bits(x as u32))
    }

    #[inline(always)]
    fn to_int(self) -> Lanes<i32> {
        self.round().map(|x| x as i32)
    }

    #[inline(always)]
    fn from_int(int: Lanes<i32>) -> Self {
        int.map(|x| x as f32)
    }

    #[inline(always)]
    unsafe fn load_f16(_: Portable, from: *const u16) -> Self {
        // SAFETY: the caller vouches for four elements.
        let half = Lanes(unsafe { from.cast::<[u16; 4]>().read_unaligned() });
        half.map(|x| f16::from_bits(x).to_f32())
    }
}

impl Int32<Portable> for Lanes<i32> {
    #[inline(always)]
    fn shift_left(self, count: i32) -> Self {
        self.map(|x| x << count)
    }

    #[inline(always)]
    fn shift_right(self, count: i32) -> Self {
        self.map(|x| x >> count)
    }
}

impl Mask for Lanes<bool> {
    #[inline(always)]
    fn any(self) -> bool {
        self.0 != [false; 4]
    }

    #[inline(always)]
    fn invert(self) -> Self {
        self.map(|x| !x)
    }
}
