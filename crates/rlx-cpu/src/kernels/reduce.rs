//! Reductions of f32: over the inner axis of dense rows, or over an axis with elements inside it.
//!
//! Sums go through vector lanes inside blocks of a fixed length and through f64 between them.
//! Maximum and minimum spread NaN. An empty axis gives the neutral value: 0, 1, minus or plus
//! infinity, and NaN for the mean.

use super::combine::{Combination, Total};
use super::error::check_length;
use super::map::{UnaryFunction, unary_functions};
use super::{Context, KernelError};
use crate::simd::{Float32, Kernel, Simd, Vector};

/// What to reduce with.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Reduction {
    /// The sum.
    Sum,
    /// The sum divided by the count.
    Mean,
    /// The product.
    Product,
    /// The largest, NaN if any is NaN.
    Maximum,
    /// The smallest, NaN if any is NaN.
    Minimum,
}

impl Reduction {
    /// What elements are combined by: those of a mean are summed.
    pub(super) fn combination(self) -> Combination {
        match self {
            Reduction::Sum | Reduction::Mean => Combination::Sum,
            Reduction::Product => Combination::Product,
            Reduction::Maximum => Combination::Maximum,
            Reduction::Minimum => Combination::Minimum,
        }
    }
}

/// Elements that are reduced in f32 before the partial result goes to an f64.
const BLOCK: usize = 2048;
/// Elements of input that make a piece of output worth handing to a thread.
const PIECE: usize = 16 << 10;
/// Columns that a thread reduces together when the axis has elements inside it.
const COLUMNS: usize = 512;

/// Reduces the middle axis of a dense `[outer, extent, inner]` input into `[outer, inner]`.
///
/// # Errors
/// When lengths disagree.
pub fn reduce(
    context: Context<'_>,
    reduction: Reduction,
    [outer, extent, inner]: [usize; 3],
    input: &[f32],
    output: &mut [f32],
) -> Result<(), KernelError> {
    check_length("input", input.len(), &[outer, extent, inner])?;
    check_length("output", output.len(), &[outer, inner])?;
    if output.is_empty() {
        return Ok(());
    }
    if extent == 0 {
        let mean = reduction == Reduction::Mean;
        output.fill(if mean { f32::NAN } else { f32::start(reduction.combination()) });
        return Ok(());
    }
    if inner == 1 {
        let piece = PIECE.div_ceil(extent);
        context.pool().run_pieces(output, piece, |index, output| {
            let start = index * piece * extent;
            let input = &input[start..start + output.len() * extent];
            context.dispatch(Rows { reduction, extent, input, output });
        });
        return Ok(());
    }
    // Pieces of output never cross from one outer index to the next.
    let piece = COLUMNS.min(inner);
    let per_outer = inner.div_ceil(piece);
    let even = inner.div_ceil(per_outer);
    let group = |output: &mut [f32], outer_index: usize| {
        let base = outer_index * extent * inner;
        let input = &input[base..base + extent * inner];
        context.pool().run_pieces(output, even, |index, output| {
            context.dispatch(Columns { reduction, inner, first: index * even, input, output });
        });
    };
    let outers = PIECE.div_ceil(extent * inner);
    context.pool().run_pieces(output, outers * inner, |index, output| {
        for (offset, output) in output.chunks_mut(inner).enumerate() {
            group(output, index * outers + offset);
        }
    });
    Ok(())
}

struct Rows<'a> {
    reduction: Reduction,
    extent: usize,
    input: &'a [f32],
    output: &'a mut [f32],
}

impl Kernel for Rows<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, simd: S) {
        for (row, to) in self.input.chunks_exact(self.extent).zip(self.output) {
            *to = match self.reduction {
                Reduction::Sum => sum_of(simd, row, Identity, 0.0) as f32,
                Reduction::Mean => (sum_of(simd, row, Identity, 0.0) / row.len() as f64) as f32,
                Reduction::Product => product_of(simd, row),
                Reduction::Maximum => spreading_nan(simd, row, largest_of(simd, row)),
                Reduction::Minimum => {
                    spreading_nan(simd, row, -fold_largest(simd, row, Negated, f32::INFINITY))
                }
            };
        }
    }
}

unary_functions! {
    /// The function that changes nothing.
    pub(crate) Identity => |_simd, x| x;
    Negated => |_simd, x| -x;
}

/// The sum of `function` over the row; `function(fill)` must be zero.
#[inline(always)]
pub(crate) fn sum_of<S: Simd, F: UnaryFunction>(simd: S, row: &[f32], function: F, fill: f32) -> f64 {
    let lanes = S::F32::LANES;
    let mut total = 0.0;
    for block in row.chunks(BLOCK) {
        let mut sums = [S::F32::splat(simd, 0.0); 4];
        let mut groups = block.chunks_exact(4 * lanes);
        for group in groups.by_ref() {
            for (index, sum) in sums.iter_mut().enumerate() {
                let x = S::F32::read(simd, &group[index * lanes..]);
                *sum = *sum + function.apply(simd, x);
            }
        }
        let mut vectors = groups.remainder().chunks_exact(lanes);
        for vector in vectors.by_ref() {
            sums[0] = sums[0] + function.apply(simd, S::F32::read(simd, vector));
        }
        if !vectors.remainder().is_empty() {
            let tail = S::F32::read_partial(simd, vectors.remainder(), fill);
            sums[1] = sums[1] + function.apply(simd, tail);
        }
        let sum = (sums[0] + sums[1]) + (sums[2] + sums[3]);
        total += f64::from(sum.sum_lanes());
    }
    total
}

/// The largest number of the row, passing over NaN; minus infinity if there is none.
#[inline(always)]
pub(crate) fn largest_of<S: Simd>(simd: S, row: &[f32]) -> f32 {
    fold_largest(simd, row, Identity, f32::NEG_INFINITY)
}

/// The largest `function(x)`, passing over NaN; `function(fill)` must be minus infinity.
#[inline(always)]
fn fold_largest<S: Simd, F: UnaryFunction>(simd: S, row: &[f32], function: F, fill: f32) -> f32 {
    let lanes = S::F32::LANES;
    let mut tops = [S::F32::splat(simd, f32::NEG_INFINITY); 4];
    let mut groups = row.chunks_exact(4 * lanes);
    for group in groups.by_ref() {
        for (index, top) in tops.iter_mut().enumerate() {
            let x = S::F32::read(simd, &group[index * lanes..]);
            *top = function.apply(simd, x).larger(*top);
        }
    }
    let mut vectors = groups.remainder().chunks_exact(lanes);
    for vector in vectors.by_ref() {
        tops[0] = function.apply(simd, S::F32::read(simd, vector)).larger(tops[0]);
    }
    if !vectors.remainder().is_empty() {
        let tail = S::F32::read_partial(simd, vectors.remainder(), fill);
        tops[1] = function.apply(simd, tail).larger(tops[1]);
    }
    let top = tops[0].larger(tops[1]).larger(tops[2].larger(tops[3]));
    top.fold_lanes(|a, b| if a > b { a } else { b })
}

/// `result`, or NaN if the row holds a NaN.
#[inline(always)]
fn spreading_nan<S: Simd>(simd: S, row: &[f32], result: f32) -> f32 {
    // A row without NaN (the usual case) is read again from cache.
    let mut vectors = row.chunks_exact(S::F32::LANES);
    let mut ordered = S::F32::splat(simd, 0.0);
    for vector in vectors.by_ref() {
        let x = S::F32::read(simd, vector);
        ordered = S::F32::select(x.is_number(), ordered, x);
    }
    let tail = vectors.remainder().iter().any(|x| x.is_nan());
    let nan = tail || ordered.fold_lanes(|a, b| a + b).is_nan();
    if nan { f32::NAN } else { result }
}

#[inline(always)]
fn product_of<S: Simd>(simd: S, row: &[f32]) -> f32 {
    let mut products = S::F32::splat(simd, 1.0);
    let mut vectors = row.chunks_exact(S::F32::LANES);
    for vector in vectors.by_ref() {
        products = products * S::F32::read(simd, vector);
    }
    let tail = S::F32::read_partial(simd, vectors.remainder(), 1.0);
    (products * tail).fold_lanes(|a, b| a * b)
}

/// Some columns of one `[extent, inner]` block.
struct Columns<'a> {
    reduction: Reduction,
    inner: usize,
    first: usize,
    input: &'a [f32],
    output: &'a mut [f32],
}

impl Kernel for Columns<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, simd: S) {
        match self.reduction {
            Reduction::Sum | Reduction::Mean => self.accumulate(simd, 0.0, Plus),
            Reduction::Product => self.accumulate(simd, 1.0, Times),
            Reduction::Maximum => self.accumulate(simd, f32::NEG_INFINITY, Larger),
            Reduction::Minimum => self.accumulate(simd, f32::INFINITY, Smaller),
        }
    }
}

/// One step of a reduction.
trait Step: Copy {
    fn step<S: Simd>(self, total: S::F32, x: S::F32) -> S::F32;
}

macro_rules! steps {
    ($($name:ident |$total:ident, $x:ident| $body:expr;)*) => {
        $(
            #[derive(Clone, Copy)]
            struct $name;
            impl Step for $name {
                #[inline(always)]
                fn step<S: Simd>(self, $total: S::F32, $x: S::F32) -> S::F32 {
                    $body
                }
            }
        )*
    };
}

steps! {
    Plus |total, x| total + x;
    Times |total, x| total * x;
    Larger |total, x| S::F32::select(total.is_number(), total.larger(x), total);
    Smaller |total, x| S::F32::select(total.is_number(), total.smaller(x), total);
}

impl Columns<'_> {
    #[inline(always)]
    fn accumulate<S: Simd, F: Step>(self, simd: S, start: f32, function: F) {
        let Columns { reduction, inner, first, input, output } = self;
        let extent = input.len() / inner;
        output.fill(start);
        for row in input.chunks_exact(inner) {
            let row = &row[first..first + output.len()];
            let mut vectors = output.chunks_exact_mut(S::F32::LANES);
            let mut from = row.chunks_exact(S::F32::LANES);
            for (total, x) in vectors.by_ref().zip(from.by_ref()) {
                let x = S::F32::read(simd, x);
                function.step::<S>(S::F32::read(simd, total), x).write(total);
            }
            let tail = vectors.into_remainder();
            if !tail.is_empty() {
                let x = S::F32::read_partial(simd, from.remainder(), 0.0);
                let total = S::F32::read_partial(simd, tail, 0.0);
                function.step::<S>(total, x).write_partial(tail);
            }
        }
        if reduction == Reduction::Mean {
            output.iter_mut().for_each(|x| *x /= extent as f32);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pool::Pool;

    #[test]
    fn lengths_are_checked() {
        let pool = Pool::inline();
        let context = Context::new(&pool);
        let mut output = [0.0; 3];
        assert!(reduce(context, Reduction::Sum, [3, 2, 1], &[0.0; 5], &mut output).is_err());
        assert!(reduce(context, Reduction::Sum, [2, 2, 1], &[0.0; 4], &mut output).is_err());
        assert!(reduce(context, Reduction::Sum, [usize::MAX, 2, 3], &[], &mut output).is_err());
    }
}
