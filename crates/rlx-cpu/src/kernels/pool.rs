//! Pooling: reductions over sliding windows of the last axes.
//!
//! Floats are reduced in f64 and rounded once; integers wrap; a NaN wins over every number. Only
//! elements of the input take part. The windows are those of [`conv`](super::conv).

use super::Plain;
use super::conv::{Windows, for_each_apart};
use crate::simd::{Kernel, Simd};

/// What a window becomes.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Pooling {
    /// The largest element.
    Maximum,
    /// The smallest element.
    Minimum,
    /// The sum.
    Sum,
    /// The product.
    Product,
    /// The sum divided by the number of elements, those of the padding included or not.
    Mean {
        /// Padding after the last element of each axis, where padding counts.
        counted_padding: Option<[usize; 3]>,
    },
    /// The root of the sum of the powers of the magnitudes.
    Power(f64),
}

/// An element type that can be pooled.
pub trait PoolElement: Plain {
    /// What a window is reduced in.
    type Total: Copy;
    /// The total of nothing.
    fn start(pooling: Pooling) -> Self::Total;
    /// One more element.
    fn step(pooling: Pooling, total: Self::Total, x: Self) -> Self::Total;
    /// The result; `count` elements took part.
    fn finish(pooling: Pooling, total: Self::Total, count: usize) -> Self;
}

macro_rules! floats {
    ($($ty:ty),*) => {
        $(impl PoolElement for $ty {
            type Total = f64;
            #[inline(always)]
            fn start(pooling: Pooling) -> f64 {
                match pooling {
                    Pooling::Maximum => f64::NEG_INFINITY,
                    Pooling::Minimum => f64::INFINITY,
                    Pooling::Product => 1.0,
                    _ => 0.0,
                }
            }
            #[inline(always)]
            fn step(pooling: Pooling, total: f64, x: $ty) -> f64 {
                let x = f64::from(x);
                match pooling {
                    Pooling::Maximum => if x > total || x.is_nan() { x } else { total },
                    Pooling::Minimum => if x < total || x.is_nan() { x } else { total },
                    Pooling::Product => total * x,
                    Pooling::Power(norm) => total + x.abs().powf(norm),
                    _ => total + x,
                }
            }
            #[inline(always)]
            fn finish(pooling: Pooling, total: f64, count: usize) -> $ty {
                (match pooling {
                    Pooling::Mean { .. } => total / count as f64,
                    Pooling::Power(norm) => total.powf(1.0 / norm),
                    _ => total,
                }) as $ty
            }
        })*
    };
}
floats!(f32, f64);

macro_rules! integers {
    ($($ty:ty),*) => {
        $(impl PoolElement for $ty {
            type Total = $ty;
            #[inline(always)]
            fn start(pooling: Pooling) -> $ty {
                match pooling {
                    Pooling::Maximum => <$ty>::MIN,
                    Pooling::Minimum => <$ty>::MAX,
                    Pooling::Product => 1,
                    _ => 0,
                }
            }
            #[inline(always)]
            fn step(pooling: Pooling, total: $ty, x: $ty) -> $ty {
                match pooling {
                    Pooling::Maximum => total.max(x),
                    Pooling::Minimum => total.min(x),
                    Pooling::Product => total.wrapping_mul(x),
                    _ => total.wrapping_add(x),
                }
            }
            #[inline(always)]
            fn finish(_: Pooling, total: $ty, _: usize) -> $ty {
                total
            }
        })*
    };
}
integers!(i8, u8, i16, u16, i32, u32, i64, u64);

/// Windows whose totals are kept together.
const COLUMNS: usize = 64;

/// Pools one plane.
pub struct PoolPlane<'a, T> {
    /// What a window becomes.
    pub pooling: Pooling,
    /// The input.
    pub data: &'a [T],
    /// First element of the plane.
    pub offset: usize,
    /// The windowed axes.
    pub axes: [Windows; 3],
    /// One element per window, in row-major order.
    pub to: &'a mut [T],
}

impl<T: PoolElement> Kernel for PoolPlane<'_, T> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, simd: S) {
        // Each kind gets loops of its own.
        match self.pooling {
            Pooling::Maximum => self.rows(simd, Pooling::Maximum),
            Pooling::Minimum => self.rows(simd, Pooling::Minimum),
            Pooling::Product => self.rows(simd, Pooling::Product),
            Pooling::Power(norm) => self.rows(simd, Pooling::Power(norm)),
            // Sums of a mean are those of a sum.
            pooling => self.rows(simd, pooling),
        }
    }
}

impl<T: PoolElement> PoolPlane<'_, T> {
    #[inline(always)]
    fn rows<S: Simd>(self, _: S, pooling: Pooling) {
        let PoolPlane { data, offset, axes: [planes, lines, line], to, .. } = self;
        let mut rows = to.chunks_exact_mut(line.count.max(1));
        for plane in 0..planes.count {
            for number in 0..lines.count {
                let Some(row) = rows.next() else { return };
                for (block, row) in row.chunks_mut(COLUMNS).enumerate() {
                    let mut totals = [T::start(pooling); COLUMNS];
                    let totals = &mut totals[..row.len()];
                    let first = block * COLUMNS;
                    for plane_tap in 0..planes.window {
                        let Some(above) = planes.element(plane, plane_tap) else { continue };
                        for line_tap in 0..lines.window {
                            let Some(left) = lines.element(number, line_tap) else { continue };
                            let start = offset as isize + above * planes.step + left * lines.step;
                            for tap in 0..line.window {
                                let (low, high) = line.inside(first, totals.len(), tap);
                                let Some(position) = line.element(first + low, tap) else { continue };
                                let from = start + position * line.step;
                                let step = line.step * line.stride as isize;
                                for_each_apart(data, (from, step), &mut totals[low..high], |total, x| {
                                    *total = T::step(pooling, *total, x);
                                });
                            }
                        }
                    }
                    let lead = count(pooling, 0, planes, plane) * count(pooling, 1, lines, number);
                    for (index, (to, &total)) in row.iter_mut().zip(totals.iter()).enumerate() {
                        *to = T::finish(pooling, total, lead * count(pooling, 2, line, first + index));
                    }
                }
            }
        }
    }
}

/// Elements of window `number` along one axis, as a mean divides by them.
#[inline(always)]
fn count(pooling: Pooling, axis: usize, windows: Windows, number: usize) -> usize {
    let Pooling::Mean { counted_padding } = pooling else { return 1 };
    let extent = windows.extent as isize;
    match counted_padding {
        None => windows.taps(number, 0, extent),
        Some(after) => windows.taps(number, -(windows.padding as isize), extent + after[axis] as isize),
    }
}
