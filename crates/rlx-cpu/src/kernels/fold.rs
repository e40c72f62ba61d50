//! Reductions of every element type but f32, over one axis of a dense tensor.
//!
//! 16-bit floats are summed in f32 and rounded once; integers wrap; a NaN is the largest and the
//! smallest. The order of a sum depends on the extents alone, not on the threads.

use super::combine::{Combination, Loop, Total, with_combination};
use super::convert::Half;
use super::error::check_length;
use super::reduce::Reduction;
use super::{Context, KernelError, Plain};
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
    type Total: Total;

    /// Widens elements, as many as there are totals.
    fn widen(from: &[Self], to: &mut [Self::Total]);
    /// Rounds a total.
    fn narrow(total: Self::Total) -> Self;
}

macro_rules! halves {
    ($($ty:ty),*) => { $(
        impl FoldElement for $ty {
            type Total = f32;
            #[inline(always)]
            fn widen(from: &[$ty], to: &mut [f32]) {
                <$ty as Half>::widen_slice(from, to);
            }
            #[inline(always)]
            fn narrow(total: f32) -> $ty {
                <$ty>::from_f32(total)
            }
        }
    )* };
}
halves!(f16, bf16);

macro_rules! same {
    ($($ty:ty),*) => { $(
        impl FoldElement for $ty {
            type Total = $ty;
            #[inline(always)]
            fn widen(from: &[$ty], to: &mut [$ty]) {
                to.copy_from_slice(from);
            }
            #[inline(always)]
            fn narrow(total: $ty) -> $ty {
                total
            }
        }
    )* };
}
same!(f64, i8, u8, i16, u16, i32, u32, i64, u64);

/// Reduces the middle axis of a dense `[outer, extent, inner]` input into `[outer, inner]`.
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
    let mean = reduction == Reduction::Mean;
    if inner == 1 {
        let piece = PIECE.div_ceil(extent.max(1));
        context.pool().run_pieces(output, piece, |index, output| {
            let input = &input[index * piece * extent..][..output.len() * extent];
            with_combination(context, reduction.combination(), Rows { mean, extent, input, output });
        });
        return Ok(());
    }
    let groups = PIECE.div_ceil(extent.max(1) * inner);
    context.pool().run_pieces(output, groups * inner, |index, output| {
        for (offset, output) in output.chunks_mut(inner).enumerate() {
            let input = &input[(index * groups + offset) * extent * inner..][..extent * inner];
            context.pool().run_pieces(output, COLUMNS, |part, output| {
                let columns = Columns { mean, extent, inner, first: part * COLUMNS, input, output };
                with_combination(context, reduction.combination(), columns);
            });
        }
    });
    Ok(())
}

struct Rows<'a, T> {
    mean: bool,
    extent: usize,
    input: &'a [T],
    output: &'a mut [T],
}

impl<T: FoldElement> Loop for Rows<'_, T> {
    #[inline(always)]
    fn run(self, kind: Combination) {
        let start = T::Total::start(kind);
        for (index, to) in self.output.iter_mut().enumerate() {
            let row = &self.input[index * self.extent..][..self.extent];
            let mut totals = [start; LANES];
            let mut wide = [start; LANES];
            let mut chunks = row.chunks_exact(LANES);
            for chunk in chunks.by_ref() {
                T::widen(chunk, &mut wide);
                for (total, &x) in totals.iter_mut().zip(&wide) {
                    *total = total.step(kind, x);
                }
            }
            let rest = chunks.remainder();
            T::widen(rest, &mut wide[..rest.len()]);
            for (total, &x) in totals.iter_mut().zip(&wide[..rest.len()]) {
                *total = total.step(kind, x);
            }
            let mut count = LANES;
            while count > 1 {
                count /= 2;
                for lane in 0..count {
                    totals[lane] = totals[lane].step(kind, totals[lane + count]);
                }
            }
            *to = finish(self.mean, totals[0], self.extent);
        }
    }
}

#[inline(always)]
fn finish<T: FoldElement>(mean: bool, total: T::Total, count: usize) -> T {
    T::narrow(if mean { total.mean(count) } else { total })
}

struct Columns<'a, T> {
    mean: bool,
    extent: usize,
    inner: usize,
    first: usize,
    input: &'a [T],
    output: &'a mut [T],
}

impl<T: FoldElement> Loop for Columns<'_, T> {
    #[inline(always)]
    fn run(self, kind: Combination) {
        let Columns { mean, extent, inner, first, input, output } = self;
        let start = T::Total::start(kind);
        let (mut totals, mut wide) = ([start; COLUMNS], [start; COLUMNS]);
        let (totals, wide) = (&mut totals[..output.len()], &mut wide[..output.len()]);
        for row in 0..extent {
            T::widen(&input[row * inner + first..][..wide.len()], wide);
            for (total, &x) in totals.iter_mut().zip(wide.iter()) {
                *total = total.step(kind, x);
            }
        }
        for (to, &total) in output.iter_mut().zip(totals.iter()) {
            *to = finish(mean, total, extent);
        }
    }
}
