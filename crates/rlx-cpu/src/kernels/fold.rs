//! Reductions of every element type but f32, over one axis of a dense tensor.
//!
//! 16-bit floats are summed in f32 and rounded once; integers wrap; a NaN is the largest and the
//! smallest. The order of a sum depends on the extents alone, not on the threads.

use super::convert::Half;
use super::error::check_length;
use super::reduce::Reduction;
use super::{Context, KernelError, Plain};
use crate::simd::{Kernel, Simd};
use half::{bf16, f16};

/// Elements of input that make a piece of output worth handing to a thread.
const PIECE: usize = 16 << 10;
/// Columns that are reduced together when the axis has elements inside it.
const COLUMNS: usize = 128;
/// Running totals of a row.
const LANES: usize = 32;

/// An element type that can be reduced.
pub trait FoldElement: Plain {
    /// What totals are kept in.
    type Total: Copy + Send + Sync;

    /// Widens elements, as many as there are totals.
    fn widen(from: &[Self], to: &mut [Self::Total]);
    /// Rounds a total.
    fn narrow(total: Self::Total) -> Self;
    /// The total of nothing.
    fn start(reduction: Reduction) -> Self::Total;
    /// One more element, or two totals in one.
    fn step(reduction: Reduction, total: Self::Total, x: Self::Total) -> Self::Total;
    /// The total of `count` elements, given their sum.
    fn mean(total: Self::Total, count: usize) -> Self::Total;
}

macro_rules! float_total {
    ($total:ty) => {
        #[inline(always)]
        fn start(reduction: Reduction) -> $total {
            match reduction {
                Reduction::Sum | Reduction::Mean | Reduction::SumOfSquares => 0.0,
                Reduction::Product => 1.0,
                Reduction::Maximum => <$total>::NEG_INFINITY,
                Reduction::Minimum => <$total>::INFINITY,
            }
        }
        #[inline(always)]
        fn step(reduction: Reduction, total: $total, x: $total) -> $total {
            match reduction {
                Reduction::Product => total * x,
                Reduction::Maximum => {
                    if x > total || x.is_nan() {
                        x
                    } else {
                        total
                    }
                }
                Reduction::Minimum => {
                    if x < total || x.is_nan() {
                        x
                    } else {
                        total
                    }
                }
                _ => total + x,
            }
        }
        #[inline(always)]
        fn mean(total: $total, count: usize) -> $total {
            total / count as $total
        }
    };
}

macro_rules! halves {
    ($($ty:ty),*) => {
        $(impl FoldElement for $ty {
            type Total = f32;
            #[inline(always)]
            fn widen(from: &[$ty], to: &mut [f32]) {
                <$ty as Half>::widen_slice(from, to);
            }
            #[inline(always)]
            fn narrow(total: f32) -> $ty {
                <$ty>::from_f32(total)
            }
            float_total!(f32);
        })*
    };
}
halves!(f16, bf16);

impl FoldElement for f64 {
    type Total = f64;
    #[inline(always)]
    fn widen(from: &[f64], to: &mut [f64]) {
        to.copy_from_slice(from);
    }
    #[inline(always)]
    fn narrow(total: f64) -> f64 {
        total
    }
    float_total!(f64);
}

macro_rules! integers {
    ($($ty:ty),*) => {
        $(impl FoldElement for $ty {
            type Total = $ty;
            #[inline(always)]
            fn widen(from: &[$ty], to: &mut [$ty]) {
                to.copy_from_slice(from);
            }
            #[inline(always)]
            fn narrow(total: $ty) -> $ty {
                total
            }
            #[inline(always)]
            fn start(reduction: Reduction) -> $ty {
                match reduction {
                    Reduction::Sum | Reduction::Mean | Reduction::SumOfSquares => 0,
                    Reduction::Product => 1,
                    Reduction::Maximum => <$ty>::MIN,
                    Reduction::Minimum => <$ty>::MAX,
                }
            }
            #[inline(always)]
            fn step(reduction: Reduction, total: $ty, x: $ty) -> $ty {
                match reduction {
                    Reduction::Product => total.wrapping_mul(x),
                    Reduction::Maximum => total.max(x),
                    Reduction::Minimum => total.min(x),
                    _ => total.wrapping_add(x),
                }
            }
            #[inline(always)]
            fn mean(total: $ty, count: usize) -> $ty {
                total / (count as $ty).max(1)
            }
        })*
    };
}
integers!(i8, u8, i16, u16, i32, u32, i64, u64);

/// Reduces the middle axis of a dense `[outer, extent, inner]` input into `[outer, inner]`; not
/// for [`Reduction::SumOfSquares`].
///
/// # Errors
/// When lengths disagree.
pub fn fold<T: FoldElement>(
    context: Context<'_>,
    reduction: Reduction,
    [outer, extent, inner]: [usize; 3],
    input: &[T],
    output: &mut [T],
) -> Result<(), KernelError> {
    check_length("input", input.len(), &[outer, extent, inner])?;
    check_length("output", output.len(), &[outer, inner])?;
    if output.is_empty() {
        return Ok(());
    }
    if inner == 1 {
        let piece = PIECE.div_ceil(extent.max(1));
        context.pool().run_pieces(output, piece, |index, output| {
            let input = &input[index * piece * extent..][..output.len() * extent];
            with_reduction(context, reduction, Rows { extent, input, output });
        });
        return Ok(());
    }
    let groups = PIECE.div_ceil(extent.max(1) * inner);
    context.pool().run_pieces(output, groups * inner, |index, output| {
        for (offset, output) in output.chunks_mut(inner).enumerate() {
            let input = &input[(index * groups + offset) * extent * inner..][..extent * inner];
            context.pool().run_pieces(output, COLUMNS, |part, output| {
                let columns = Columns { extent, inner, first: part * COLUMNS, input, output };
                with_reduction(context, reduction, columns);
            });
        }
    });
    Ok(())
}

/// A loop over elements, compiled for each reduction.
trait Loop {
    fn run(self, reduction: Reduction);
}

struct Fixed<L, const REDUCTION: u8>(L);

impl<L: Loop, const REDUCTION: u8> Kernel for Fixed<L, REDUCTION> {
    type Output = ();
    #[inline(always)]
    fn run<S: Simd>(self, _: S) {
        self.0.run(match REDUCTION {
            0 => Reduction::Sum,
            1 => Reduction::Mean,
            2 => Reduction::Product,
            3 => Reduction::Maximum,
            _ => Reduction::Minimum,
        });
    }
}

fn with_reduction<L: Loop>(context: Context<'_>, reduction: Reduction, work: L) {
    match reduction {
        Reduction::Sum | Reduction::SumOfSquares => context.dispatch(Fixed::<L, 0>(work)),
        Reduction::Mean => context.dispatch(Fixed::<L, 1>(work)),
        Reduction::Product => context.dispatch(Fixed::<L, 2>(work)),
        Reduction::Maximum => context.dispatch(Fixed::<L, 3>(work)),
        Reduction::Minimum => context.dispatch(Fixed::<L, 4>(work)),
    }
}

struct Rows<'a, T> {
    extent: usize,
    input: &'a [T],
    output: &'a mut [T],
}

impl<T: FoldElement> Loop for Rows<'_, T> {
    #[inline(always)]
    fn run(self, reduction: Reduction) {
        let start = T::start(reduction);
        for (index, to) in self.output.iter_mut().enumerate() {
            let row = &self.input[index * self.extent..][..self.extent];
            let mut totals = [start; LANES];
            let mut wide = [start; LANES];
            let mut chunks = row.chunks_exact(LANES);
            for chunk in chunks.by_ref() {
                T::widen(chunk, &mut wide);
                for (total, &x) in totals.iter_mut().zip(&wide) {
                    *total = T::step(reduction, *total, x);
                }
            }
            let rest = chunks.remainder();
            T::widen(rest, &mut wide[..rest.len()]);
            for (total, &x) in totals.iter_mut().zip(&wide[..rest.len()]) {
                *total = T::step(reduction, *total, x);
            }
            let mut count = LANES;
            while count > 1 {
                count /= 2;
                for lane in 0..count {
                    totals[lane] = T::step(reduction, totals[lane], totals[lane + count]);
                }
            }
            *to = finish::<T>(reduction, totals[0], self.extent);
        }
    }
}

#[inline(always)]
fn finish<T: FoldElement>(reduction: Reduction, total: T::Total, count: usize) -> T {
    T::narrow(if reduction == Reduction::Mean { T::mean(total, count) } else { total })
}

struct Columns<'a, T> {
    extent: usize,
    inner: usize,
    first: usize,
    input: &'a [T],
    output: &'a mut [T],
}

impl<T: FoldElement> Loop for Columns<'_, T> {
    #[inline(always)]
    fn run(self, reduction: Reduction) {
        let Columns { extent, inner, first, input, output } = self;
        let start = T::start(reduction);
        let (mut totals, mut wide) = ([start; COLUMNS], [start; COLUMNS]);
        let (totals, wide) = (&mut totals[..output.len()], &mut wide[..output.len()]);
        for row in 0..extent {
            T::widen(&input[row * inner + first..][..wide.len()], wide);
            for (total, &x) in totals.iter_mut().zip(wide.iter()) {
                *total = T::step(reduction, *total, x);
            }
        }
        for (to, &total) in output.iter_mut().zip(totals.iter()) {
            *to = finish(reduction, total, extent);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernels::testing::{Noise, at_every_level};
    use crate::pool::Pool;

    const ALL: [Reduction; 5] =
        [Reduction::Sum, Reduction::Mean, Reduction::Product, Reduction::Maximum, Reduction::Minimum];

    /// Compares with a loop in the order of the elements.
    fn check<T: FoldElement>(
        reductions: &[Reduction],
        make: impl Fn(&mut Noise) -> T,
        one: impl Fn(T) -> T::Total,
        close: impl Fn(T, T) -> bool,
    ) {
        let pool = Pool::new(2).expect("threads start");
        let mut noise = Noise::new(4);
        at_every_level(&pool, |context| {
            for shape @ [outer, extent, inner] in
                [[3, 5, 1], [2, 100, 1], [1, 0, 1], [2, 0, 3], [4, 7, 5], [1, 3, 300], [0, 3, 2], [2, 33, 1]]
            {
                let input: Vec<T> = (0..outer * extent * inner).map(|_| make(&mut noise)).collect();
                for &reduction in reductions {
                    let mut output = vec![T::default(); outer * inner];
                    fold(context, reduction, shape, &input, &mut output).expect("the operands are valid");
                    for (at, &found) in output.iter().enumerate() {
                        let place = |e: usize| (at / inner * extent + e) * inner + at % inner;
                        let mut total = T::start(reduction);
                        for e in 0..extent {
                            total = T::step(reduction, total, one(input[place(e)]));
                        }
                        let wanted = finish::<T>(reduction, total, extent);
                        assert!(close(found, wanted), "{:?} {reduction:?} {shape:?}", context.level());
                    }
                }
            }
        });
    }

    #[test]
    fn every_type_is_reduced() {
        let integers: Vec<Reduction> = ALL.into_iter().filter(|r| *r != Reduction::Mean).collect();
        check::<u8>(&integers, |noise| noise.bits() as u8, |x| x, |a, b| a == b);
        check::<i16>(&integers, |noise| noise.bits() as i16, |x| x, |a, b| a == b);
        check::<i64>(&integers, |noise| noise.bits() as i64, |x| x, |a, b| a == b);
        let same =
            |a: f64, b: f64, bound: f64| a == b || (a - b).abs() <= bound || (a.is_nan() && b.is_nan());
        check::<f64>(
            &ALL,
            |noise| if noise.below(90) == 0 { f64::NAN } else { f64::from(noise.unit()) },
            |x| x,
            |a, b| same(a, b, 1e-13),
        );
        let wide = |x: bf16| f64::from(x.to_f32());
        let close = |a, b| same(wide(a), wide(b), 0.01 * wide(b).abs() + 1e-3);
        check::<bf16>(&ALL, |noise| bf16::from_f32(noise.unit()), |x| x.to_f32(), close);
        check::<f16>(
            &ALL,
            |noise| f16::from_f32(noise.unit()),
            |x| x.to_f32(),
            |a, b| {
                same(f64::from(a.to_f32()), f64::from(b.to_f32()), 2e-3 * f64::from(b.to_f32()).abs() + 1e-3)
            },
        );
    }
}
