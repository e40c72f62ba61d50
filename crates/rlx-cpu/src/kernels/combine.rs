//! How elements combine, for everything that sums, multiplies or looks for extremes: folds, running combinations,
//! pooling, scatters. Integers wrap; a NaN wins over every number.

use super::{Context, Plain};
use crate::simd::{Kernel, Simd};

/// What two elements become.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Combination {
    /// Sum, from 0.
    Sum,
    /// Product, from 1.
    Product,
    /// Maximum, from the lowest value.
    Maximum,
    /// Minimum, from the highest value.
    Minimum,
    /// `log(e^a + e^b)`, from minus infinity; floats only.
    LogSumExp,
}

/// A number that combinations run in.
pub trait Total: Plain {
    /// The combination of nothing.
    fn start(combination: Combination) -> Self;
    /// One more number, or two totals in one.
    fn step(self, combination: Combination, x: Self) -> Self;
    /// The mean of `count` elements, given their sum.
    fn mean(self, count: usize) -> Self;
    /// The magnitude to a power; integers as they are.
    fn power(self, exponent: f64) -> Self;
}

macro_rules! floats {
    ($($ty:ty),*) => { $(
        impl Total for $ty {
            #[inline(always)]
            fn start(combination: Combination) -> $ty {
                match combination {
                    Combination::Sum => 0.0,
                    Combination::Product => 1.0,
                    Combination::Minimum => <$ty>::INFINITY,
                    Combination::Maximum | Combination::LogSumExp => <$ty>::NEG_INFINITY,
                }
            }
            #[inline(always)]
            fn step(self, combination: Combination, x: $ty) -> $ty {
                match combination {
                    Combination::Sum => self + x,
                    Combination::Product => self * x,
                    Combination::Maximum => if x > self || x.is_nan() { x } else { self },
                    Combination::Minimum => if x < self || x.is_nan() { x } else { self },
                    Combination::LogSumExp => log_add_exp(self.into(), x.into()) as $ty,
                }
            }
            #[inline(always)]
            fn mean(self, count: usize) -> $ty {
                self / count as $ty
            }
            #[inline(always)]
            fn power(self, exponent: f64) -> $ty {
                f64::from(self).abs().powf(exponent) as $ty
            }
        }
    )* };
}
floats!(f32, f64);

/// `log(e^a + e^b)` without overflow.
fn log_add_exp(a: f64, b: f64) -> f64 {
    if a.is_nan() || b.is_nan() {
        return f64::NAN;
    }
    let top = a.max(b);
    if top.is_infinite() { top } else { top + (-(a - b).abs()).exp().ln_1p() }
}

macro_rules! integers {
    ($($ty:ty),*) => { $(
        impl Total for $ty {
            #[inline(always)]
            fn start(combination: Combination) -> $ty {
                match combination {
                    Combination::Sum | Combination::LogSumExp => 0,
                    Combination::Product => 1,
                    Combination::Minimum => <$ty>::MAX,
                    Combination::Maximum => <$ty>::MIN,
                }
            }
            #[inline(always)]
            fn step(self, combination: Combination, x: $ty) -> $ty {
                match combination {
                    Combination::Sum | Combination::LogSumExp => self.wrapping_add(x),
                    Combination::Product => self.wrapping_mul(x),
                    Combination::Minimum => self.min(x),
                    Combination::Maximum => self.max(x),
                }
            }
            #[inline(always)]
            fn mean(self, count: usize) -> $ty {
                self / (count as $ty).max(1)
            }
            #[inline(always)]
            fn power(self, _: f64) -> $ty {
                self
            }
        }

        impl Element for $ty {
            type Total = $ty;
            #[inline(always)]
            fn widen(self) -> $ty {
                self
            }
            #[inline(always)]
            fn narrow(total: $ty) -> $ty {
                total
            }
        }
    )* };
}
integers!(i8, u8, i16, u16, i32, u32, i64, u64);

/// An element whose combinations run in a wider number and are rounded once.
pub trait Element: Plain {
    /// What its combinations run in.
    type Total: Total;
    /// The element as a total.
    fn widen(self) -> Self::Total;
    /// The total as an element.
    fn narrow(total: Self::Total) -> Self;
}

macro_rules! wide_floats {
    ($($ty:ty),*) => { $(
        impl Element for $ty {
            type Total = f64;
            #[inline(always)]
            fn widen(self) -> f64 {
                self.into()
            }
            #[inline(always)]
            fn narrow(total: f64) -> $ty {
                total as $ty
            }
        }
    )* };
}
wide_floats!(f32, f64);

/// A loop over elements that is compiled for each combination.
pub(crate) trait Loop {
    fn run(self, combination: Combination);
}

struct Fixed<L, const COMBINATION: u8>(L);

impl<L: Loop, const COMBINATION: u8> Kernel for Fixed<L, COMBINATION> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, _: S) {
        self.0.run(match COMBINATION {
            0 => Combination::Sum,
            1 => Combination::Product,
            2 => Combination::Maximum,
            3 => Combination::Minimum,
            _ => Combination::LogSumExp,
        });
    }
}

/// Runs the loop that was compiled for the combination.
pub(crate) fn with_combination<L: Loop>(context: Context<'_>, combination: Combination, work: L) {
    match combination {
        Combination::Sum => context.dispatch(Fixed::<L, 0>(work)),
        Combination::Product => context.dispatch(Fixed::<L, 1>(work)),
        Combination::Maximum => context.dispatch(Fixed::<L, 2>(work)),
        Combination::Minimum => context.dispatch(Fixed::<L, 3>(work)),
        Combination::LogSumExp => context.dispatch(Fixed::<L, 4>(work)),
    }
}
