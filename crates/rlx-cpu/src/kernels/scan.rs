//! Running sums, products and extremes along one axis of a dense `[outer, extent, inner]` tensor.
//!
//! f32 runs in f64 and rounds each element once, integers wrap, a NaN stays to the end of its row.
//! The order is that of the elements, whatever the threads.

use super::error::check_length;
use super::{Context, KernelError, Plain};
use crate::simd::{Kernel, Simd};

/// The running combination.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Running {
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

/// A scan.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Scan {
    /// What is combined.
    pub running: Running,
    /// Whether an element leaves itself out.
    pub exclusive: bool,
    /// Whether it runs from the end.
    pub reverse: bool,
}

/// An element type that can be scanned.
pub trait ScanElement: Plain {
    /// What runs.
    type Total: Copy;
    /// The value before the first element.
    fn start(running: Running) -> Self::Total;
    /// The value after one more element.
    fn step(running: Running, total: Self::Total, x: Self) -> Self::Total;
    /// The value as an element.
    fn narrow(total: Self::Total) -> Self;
}

macro_rules! floats {
    ($($ty:ty),*) => {
        $(impl ScanElement for $ty {
            type Total = f64;
            #[inline(always)]
            fn start(running: Running) -> f64 {
                match running {
                    Running::Sum => 0.0,
                    Running::Product => 1.0,
                    Running::Minimum => f64::INFINITY,
                    Running::Maximum | Running::LogSumExp => f64::NEG_INFINITY,
                }
            }
            #[inline(always)]
            fn step(running: Running, total: f64, x: $ty) -> f64 {
                let x = f64::from(x);
                match running {
                    Running::Sum => total + x,
                    Running::Product => total * x,
                    Running::Maximum => if x > total || x.is_nan() { x } else { total },
                    Running::Minimum => if x < total || x.is_nan() { x } else { total },
                    Running::LogSumExp => log_add_exp(total, x),
                }
            }
            #[inline(always)]
            fn narrow(total: f64) -> $ty {
                total as $ty
            }
        })*
    };
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
    ($($ty:ty),*) => {
        $(impl ScanElement for $ty {
            type Total = $ty;
            #[inline(always)]
            fn start(running: Running) -> $ty {
                match running {
                    Running::Sum | Running::LogSumExp => 0,
                    Running::Product => 1,
                    Running::Minimum => <$ty>::MAX,
                    Running::Maximum => <$ty>::MIN,
                }
            }
            #[inline(always)]
            fn step(running: Running, total: $ty, x: $ty) -> $ty {
                match running {
                    Running::Sum | Running::LogSumExp => total.wrapping_add(x),
                    Running::Product => total.wrapping_mul(x),
                    Running::Maximum => total.max(x),
                    Running::Minimum => total.min(x),
                }
            }
            #[inline(always)]
            fn narrow(total: $ty) -> $ty {
                total
            }
        })*
    };
}
integers!(i8, u8, i16, u16, i32, u32, i64, u64);

/// Elements of input that make rows worth handing to a thread.
const PIECE: usize = 16 << 10;
/// Columns of a block.
const COLUMNS: usize = 128;

/// Scans the middle axis.
///
/// # Errors
/// When lengths disagree.
pub fn scan<T: ScanElement>(
    context: Context<'_>,
    scan: Scan,
    [outer, extent, inner]: [usize; 3],
    input: &[T],
    output: &mut [T],
) -> Result<(), KernelError> {
    for (operand, found) in [("input", input.len()), ("output", output.len())] {
        check_length(operand, found, &[outer, extent, inner])?;
    }
    if output.is_empty() {
        return Ok(());
    }
    let block = extent * inner;
    let outers = PIECE.div_ceil(block);
    context.pool().run_pieces(output, outers * block, |index, output| {
        let input = &input[index * outers * block..][..output.len()];
        match scan.running {
            Running::Sum => context.dispatch(Lines::<T, 0> { scan, extent, inner, input, output }),
            Running::Product => context.dispatch(Lines::<T, 1> { scan, extent, inner, input, output }),
            Running::Maximum => context.dispatch(Lines::<T, 2> { scan, extent, inner, input, output }),
            Running::Minimum => context.dispatch(Lines::<T, 3> { scan, extent, inner, input, output }),
            Running::LogSumExp => context.dispatch(Lines::<T, 4> { scan, extent, inner, input, output }),
        }
    });
    Ok(())
}

/// Some outer indices, compiled for one combination.
struct Lines<'a, T, const RUNNING: u8> {
    scan: Scan,
    extent: usize,
    inner: usize,
    input: &'a [T],
    output: &'a mut [T],
}

impl<T: ScanElement, const RUNNING: u8> Kernel for Lines<'_, T, RUNNING> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, _: S) {
        let Lines { scan: Scan { exclusive, reverse, .. }, extent, inner, input, output } = self;
        let running = const {
            match RUNNING {
                0 => Running::Sum,
                1 => Running::Product,
                2 => Running::Maximum,
                3 => Running::Minimum,
                _ => Running::LogSumExp,
            }
        };
        let start = T::start(running);
        let at = |step: usize| if reverse { extent - 1 - step } else { step };
        if inner == 1 {
            for (input, output) in input.chunks(extent).zip(output.chunks_mut(extent)) {
                let mut total = start;
                for step in 0..extent {
                    let before = total;
                    total = T::step(running, before, input[at(step)]);
                    output[at(step)] = T::narrow(if exclusive { before } else { total });
                }
            }
            return;
        }
        for (input, output) in input.chunks(extent * inner).zip(output.chunks_mut(extent * inner)) {
            for first in (0..inner).step_by(COLUMNS) {
                let mut totals = [start; COLUMNS];
                let totals = &mut totals[..COLUMNS.min(inner - first)];
                for step in 0..extent {
                    let place = at(step) * inner + first;
                    let (from, to) =
                        (&input[place..place + totals.len()], &mut output[place..place + totals.len()]);
                    for ((total, &x), to) in totals.iter_mut().zip(from).zip(to) {
                        let before = *total;
                        *total = T::step(running, before, x);
                        *to = T::narrow(if exclusive { before } else { *total });
                    }
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernels::testing::{Noise, at_every_level};
    use crate::pool::Pool;

    const ALL: [Running; 5] =
        [Running::Sum, Running::Product, Running::Maximum, Running::Minimum, Running::LogSumExp];

    fn compare<T: ScanElement + PartialEq + std::fmt::Debug>(
        kinds: &[Running],
        make: impl Fn(&mut Noise) -> T,
    ) {
        let pool = Pool::new(2).expect("threads start");
        let mut noise = Noise::new(6);
        at_every_level(&pool, |context| {
            for round in 0..60 {
                let extents = [noise.below(20), noise.below(50), [1, 1, 3, 150][noise.below(4)]];
                let [outer, extent, inner] = extents;
                let input: Vec<T> = (0..outer * extent * inner).map(|_| make(&mut noise)).collect();
                let running = kinds[round % kinds.len()];
                let what = Scan { running, exclusive: noise.below(2) == 0, reverse: noise.below(2) == 0 };
                let mut output = vec![T::default(); input.len()];
                scan(context, what, extents, &input, &mut output).expect("the operands are valid");
                for line in 0..outer * inner {
                    let mut total = T::start(running);
                    for step in 0..extent {
                        let e = if what.reverse { extent - 1 - step } else { step };
                        let place = (line / inner * extent + e) * inner + line % inner;
                        let before = total;
                        total = T::step(running, before, input[place]);
                        let wanted = T::narrow(if what.exclusive { before } else { total });
                        assert_eq!(output[place], wanted, "{what:?} {extents:?}");
                    }
                }
            }
        });
    }

    #[test]
    fn scans_match_a_loop() {
        compare::<f32>(&ALL, Noise::unit);
        compare::<f64>(&ALL, |noise| f64::from(noise.unit()));
        compare::<i32>(&ALL[..4], |noise| noise.bits() as i32);
        compare::<u8>(&ALL[..4], |noise| noise.bits() as u8);
    }
}
