//! Pooling: reductions over sliding windows of the last axes.
//!
//! Floats are reduced in f64 and rounded once; integers wrap; a NaN wins over every number. Only
//! elements of the input take part. The windows are those of [`conv`](super::conv).

use super::Context;
use super::combine::{Combination, Element, Loop, Total, with_combination};
use super::conv::{Windows, for_each_apart};

/// What the combination of a window becomes.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Pooling {
    /// Itself.
    Plain(Combination),
    /// The sum divided by the number of elements, those of the padding included or not.
    Mean {
        /// Padding after the last element of each axis, where padding counts.
        counted_padding: Option<[usize; 3]>,
    },
    /// The root of the sum of the powers of the magnitudes.
    Power(f64),
}

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

impl<T: Element> PoolPlane<'_, T> {
    /// Pools on the calling thread.
    pub fn run(self, context: Context<'_>) {
        let combination = match self.pooling {
            Pooling::Plain(combination) => combination,
            Pooling::Mean { .. } | Pooling::Power(_) => Combination::Sum,
        };
        with_combination(context, combination, self);
    }
}

impl<T: Element> Loop for PoolPlane<'_, T> {
    #[inline(always)]
    fn run(self, kind: Combination) {
        match self.pooling {
            Pooling::Power(norm) => self.rows(kind, |x| x.widen().power(norm)),
            _ => self.rows(kind, T::widen),
        }
    }
}

impl<T: Element> PoolPlane<'_, T> {
    #[inline(always)]
    fn rows(self, kind: Combination, term: impl Fn(T) -> T::Total) {
        let PoolPlane { pooling, data, offset, axes: [planes, lines, line], to } = self;
        let mut rows = to.chunks_exact_mut(line.count.max(1));
        for plane in 0..planes.count {
            for number in 0..lines.count {
                let Some(row) = rows.next() else { return };
                for (block, row) in row.chunks_mut(COLUMNS).enumerate() {
                    let mut totals = [T::Total::start(kind); COLUMNS];
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
                                    *total = total.step(kind, term(x));
                                });
                            }
                        }
                    }
                    let lead = count(pooling, 0, planes, plane) * count(pooling, 1, lines, number);
                    for (index, (to, &total)) in row.iter_mut().zip(totals.iter()).enumerate() {
                        *to = T::narrow(match pooling {
                            Pooling::Plain(_) => total,
                            Pooling::Mean { .. } => total.mean(lead * count(pooling, 2, line, first + index)),
                            Pooling::Power(norm) => total.power(1.0 / norm),
                        });
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
