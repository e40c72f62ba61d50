//! Kernels on dense rows: softmax, log-softmax, layer norm, RMS norm.
//!
//! `output` holds rows of `width` elements. With `Some(input)` the rows are read from there, with
//! `None` the kernel works in place. Rows are split over the context's threads; a row is summed in
//! a fixed order (vector lanes inside blocks, blocks in f64), so threads change no bit. NaN spreads
//! over its row.

use super::error::check_length;
use super::reduce::{Identity, largest_of, sum_of};
use super::{Context, KernelError, math};
use crate::kernels::map::{UnaryFunction, unary_functions};
use crate::simd::{Float32, Kernel, Simd, Vector};

/// Elements that make a piece of rows worth handing to a thread.
const PIECE: usize = 8 << 10;

/// The softmax of each row. A row of only minus infinity becomes NaN.
///
/// # Errors
/// When lengths disagree.
pub fn softmax(
    context: Context<'_>,
    width: usize,
    input: Option<&[f32]>,
    output: &mut [f32],
) -> Result<(), KernelError> {
    by_row(context, width, input, output, Softmax)
}

/// The logarithm of the softmax of each row.
///
/// # Errors
/// When lengths disagree.
pub fn log_softmax(
    context: Context<'_>,
    width: usize,
    input: Option<&[f32]>,
    output: &mut [f32],
) -> Result<(), KernelError> {
    by_row(context, width, input, output, LogSoftmax)
}

/// `(x - mean) / sqrt(variance + epsilon) * scale + shift` over each row of `scale.len()`
/// elements, with the biased variance.
///
/// # Errors
/// When lengths disagree.
pub fn layer_norm(
    context: Context<'_>,
    scale: &[f32],
    shift: Option<&[f32]>,
    epsilon: f32,
    input: Option<&[f32]>,
    output: &mut [f32],
) -> Result<(), KernelError> {
    if let Some(shift) = shift {
        check_length("shift", shift.len(), &[scale.len()])?;
    }
    by_row(context, scale.len(), input, output, LayerNorm { scale, shift, epsilon })
}

/// `x / sqrt(mean of squares + epsilon) * scale` over each row of `scale.len()` elements.
///
/// # Errors
/// When lengths disagree.
pub fn rms_norm(
    context: Context<'_>,
    scale: &[f32],
    epsilon: f32,
    input: Option<&[f32]>,
    output: &mut [f32],
) -> Result<(), KernelError> {
    by_row(context, scale.len(), input, output, RmsNorm { scale, epsilon })
}

/// What is done to one row, in place.
trait RowFunction: Copy + Sync {
    fn apply<S: Simd>(self, simd: S, row: &mut [f32]);
}

fn by_row<F: RowFunction>(
    context: Context<'_>,
    width: usize,
    input: Option<&[f32]>,
    output: &mut [f32],
    function: F,
) -> Result<(), KernelError> {
    if let Some(input) = input {
        check_length("input", input.len(), &[output.len()])?;
    }
    if width == 0 || !output.len().is_multiple_of(width) {
        let whole = output.len().checked_div(width).unwrap_or(0) * width;
        return check_length("output", output.len(), &[whole]);
    }
    let piece = PIECE.div_ceil(width) * width;
    context.pool().run_pieces(output, piece, |index, output| {
        let input = input.map(|input| &input[index * piece..index * piece + output.len()]);
        context.dispatch(Rows { width, input, output, function });
    });
    Ok(())
}

struct Rows<'a, F> {
    width: usize,
    input: Option<&'a [f32]>,
    output: &'a mut [f32],
    function: F,
}

impl<F: RowFunction> Kernel for Rows<'_, F> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, simd: S) {
        for (index, row) in self.output.chunks_exact_mut(self.width).enumerate() {
            if let Some(input) = self.input {
                row.copy_from_slice(&input[index * self.width..(index + 1) * self.width]);
            }
            self.function.apply(simd, row);
        }
    }
}

#[derive(Clone, Copy)]
struct Softmax;

impl RowFunction for Softmax {
    #[inline(always)]
    fn apply<S: Simd>(self, simd: S, row: &mut [f32]) {
        let top = largest_of(simd, row);
        let sum = replace_by_exp(simd, row, 1.0, top);
        change(simd, row, Scale(1.0 / sum));
    }
}

/// `row[i] = exp(scale * row[i] - top)`, where no exponent exceeds zero by more than rounding;
/// yields the sum. What would be subnormal beside the largest, which is 1, is zero.
#[inline(always)]
pub(crate) fn replace_by_exp<S: Simd>(simd: S, row: &mut [f32], scale: f32, top: f32) -> f32 {
    let mut total = 0.0;
    let (scale, top) = (S::F32::splat(simd, scale), S::F32::splat(simd, -top));
    for block in row.chunks_mut(BLOCK) {
        let mut sum = S::F32::splat(simd, 0.0);
        let mut vectors = block.chunks_exact_mut(S::F32::LANES);
        for vector in vectors.by_ref() {
            let x = S::F32::read(simd, vector).mul_add(scale, top);
            let x = math::exp_or_zero(simd, x);
            x.write(vector);
            sum = sum + x;
        }
        let tail = vectors.into_remainder();
        if !tail.is_empty() {
            let x = S::F32::read_partial(simd, tail, f32::NEG_INFINITY);
            let x = math::exp_or_zero(simd, x.mul_add(scale, top));
            x.write_partial(tail);
            sum = sum + x;
        }
        total += f64::from(sum.sum_lanes());
    }
    total as f32
}

/// Elements that are summed in f32 before they go to an f64.
const BLOCK: usize = 2048;

#[derive(Clone, Copy)]
struct LogSoftmax;

impl RowFunction for LogSoftmax {
    #[inline(always)]
    fn apply<S: Simd>(self, simd: S, row: &mut [f32]) {
        let top = largest_of(simd, row);
        let sum = sum_of(simd, row, ExpBelow(top), f32::NEG_INFINITY);
        change(simd, row, Shift { by: -top, then: -(sum.ln() as f32) });
    }
}

#[derive(Clone, Copy)]
struct LayerNorm<'a> {
    scale: &'a [f32],
    shift: Option<&'a [f32]>,
    epsilon: f32,
}

impl RowFunction for LayerNorm<'_> {
    #[inline(always)]
    fn apply<S: Simd>(self, simd: S, row: &mut [f32]) {
        let count = row.len() as f64;
        let mean = (sum_of(simd, row, Identity, 0.0) / count) as f32;
        let variance = sum_of(simd, row, SquaredDistance(mean), mean) / count;
        let factor = (1.0 / (variance + f64::from(self.epsilon)).sqrt()) as f32;
        match self.shift {
            Some(shift) => normalise::<S, true>(simd, row, [mean, factor], self.scale, shift),
            None => normalise::<S, false>(simd, row, [mean, factor], self.scale, self.scale),
        }
    }
}

#[derive(Clone, Copy)]
struct RmsNorm<'a> {
    scale: &'a [f32],
    epsilon: f32,
}

impl RowFunction for RmsNorm<'_> {
    #[inline(always)]
    fn apply<S: Simd>(self, simd: S, row: &mut [f32]) {
        let mean = sum_of(simd, row, SquaredDistance(0.0), 0.0) / row.len() as f64;
        let factor = (1.0 / (mean + f64::from(self.epsilon)).sqrt()) as f32;
        normalise::<S, false>(simd, row, [0.0, factor], self.scale, self.scale);
    }
}

/// `row = (row - mean) * factor * scale + shift`, the last term only if `SHIFTED`.
#[inline(always)]
fn normalise<S: Simd, const SHIFTED: bool>(
    simd: S,
    row: &mut [f32],
    [mean, factor]: [f32; 2],
    scale: &[f32],
    shift: &[f32],
) {
    let lanes = S::F32::LANES;
    let (mean, factor) = (S::F32::splat(simd, mean), S::F32::splat(simd, factor));
    let mut start = 0;
    let mut vectors = row.chunks_exact_mut(lanes);
    for vector in vectors.by_ref() {
        let part = start..start + lanes;
        let x = (S::F32::read(simd, vector) - mean) * factor;
        let scale = S::F32::read(simd, &scale[part.clone()]);
        let x = if SHIFTED { x.mul_add(scale, S::F32::read(simd, &shift[part])) } else { x * scale };
        x.write(vector);
        start += lanes;
    }
    let tail = vectors.into_remainder();
    if !tail.is_empty() {
        let part = start..start + tail.len();
        let x = (S::F32::read_partial(simd, tail, 0.0) - mean) * factor;
        let scale = S::F32::read_partial(simd, &scale[part.clone()], 0.0);
        let shift = S::F32::read_partial(simd, &shift[part], 0.0);
        let x = if SHIFTED { x.mul_add(scale, shift) } else { x * scale };
        x.write_partial(tail);
    }
}

/// Applies a function to each element of a row.
#[inline(always)]
pub(crate) fn change<S: Simd, F: UnaryFunction>(simd: S, row: &mut [f32], function: F) {
    let mut vectors = row.chunks_exact_mut(S::F32::LANES);
    for vector in vectors.by_ref() {
        function.apply(simd, S::F32::read(simd, vector)).write(vector);
    }
    let tail = vectors.into_remainder();
    if !tail.is_empty() {
        function.apply(simd, S::F32::read_partial(simd, tail, 0.0)).write_partial(tail);
    }
}

unary_functions! {
    /// Multiplication by a number.
    pub(crate) Scale(factor) => |simd, x| x * factor;
    ExpBelow(top) => |simd, x| math::exp(simd, x - top);
    SquaredDistance(from) => |simd, x| (x - from) * (x - from);
}

#[derive(Clone, Copy)]
struct Shift {
    by: f32,
    then: f32,
}

impl UnaryFunction for Shift {
    #[inline(always)]
    fn apply<S: Simd>(self, simd: S, x: S::F32) -> S::F32 {
        x + S::F32::splat(simd, self.by) + S::F32::splat(simd, self.then)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernels::testing::at_every_level;
    use crate::pool::Pool;

    type RowKernel<'a> = &'a dyn Fn(Context<'_>, Option<&[f32]>, &mut [f32]) -> Result<(), KernelError>;

    #[test]
    fn nan_spreads_over_its_row_only() {
        let pool = Pool::inline();
        let ones = [1.0; 19];
        let kernels: [RowKernel<'_>; 4] = [
            &|c, i, o| softmax(c, 19, i, o),
            &|c, i, o| log_softmax(c, 19, i, o),
            &|c, i, o| layer_norm(c, &ones, None, 0.1, i, o),
            &|c, i, o| rms_norm(c, &ones, 0.1, i, o),
        ];
        at_every_level(&pool, |context| {
            for kernel in kernels {
                let mut data = [2.0; 57];
                data[19 + 17] = f32::NAN;
                kernel(context, None, &mut data).expect("the operands are valid");
                let nan = |range: std::ops::Range<usize>| data[range].iter().filter(|x| x.is_nan()).count();
                assert_eq!([nan(0..19), nan(19..38), nan(38..57)], [0, 19, 0]);
                assert!(kernel(context, Some(&[0.0; 19]), &mut data).is_err());
                assert!(kernel(context, None, &mut data[..20]).is_err());
                assert!(kernel(context, None, &mut []).is_ok());
            }
        });
    }
}
