//! Elementwise functions over slices of f32.
//!
//! The last partial vector runs the same code as the whole ones. Long slices are split over the
//! context's threads; short ones, and all inside a task, run on the calling thread.

use super::error::check_length;
use super::{Context, KernelError};
use crate::simd::{Kernel, Simd, Vector};

/// A function of one number, written for any vector.
pub trait UnaryFunction: Copy + Sync {
    /// The function, lane by lane. Mark the implementation `#[inline(always)]`.
    fn apply<S: Simd>(self, simd: S, x: S::F32) -> S::F32;
}

/// A function of two numbers, written for any vector.
pub trait BinaryFunction: Copy + Sync {
    /// The function, lane by lane. Mark the implementation `#[inline(always)]`.
    fn apply<S: Simd>(self, simd: S, x: S::F32, y: S::F32) -> S::F32;
}

/// Elements of the pieces that threads take.
const PIECE: usize = 16 << 10;

/// `output[i] = function(input[i])`.
///
/// # Errors
/// When the lengths differ.
pub fn map<F: UnaryFunction>(
    context: Context<'_>,
    function: F,
    input: &[f32],
    output: &mut [f32],
) -> Result<(), KernelError> {
    check_length("input", input.len(), &[output.len()])?;
    context.pool().run_pieces(output, PIECE, |index, output| {
        let start = index * PIECE;
        context.dispatch(Unary(function, &input[start..start + output.len()], output));
    });
    Ok(())
}

/// `values[i] = function(values[i])`.
pub fn map_in_place<F: UnaryFunction>(context: Context<'_>, function: F, values: &mut [f32]) {
    context.pool().run_pieces(values, PIECE, |_, values| {
        context.dispatch(UnaryInPlace(function, values));
    });
}

/// The right operand of [`zip`].
#[derive(Clone, Copy, Debug)]
pub enum Second<'a> {
    /// One number for every element.
    Scalar(f32),
    /// As many numbers as elements.
    Slice(&'a [f32]),
}

/// `output[i] = function(left[i], right[i])`.
///
/// # Errors
/// When the lengths differ.
pub fn zip<F: BinaryFunction>(
    context: Context<'_>,
    function: F,
    left: &[f32],
    right: Second<'_>,
    output: &mut [f32],
) -> Result<(), KernelError> {
    check_length("left", left.len(), &[output.len()])?;
    if let Second::Slice(right) = right {
        check_length("right", right.len(), &[output.len()])?;
    }
    context.pool().run_pieces(output, PIECE, |index, output| {
        let range = index * PIECE..index * PIECE + output.len();
        let left = &left[range.clone()];
        match right {
            Second::Scalar(right) => {
                context.dispatch(Unary(WithScalar(function, right), left, output));
            }
            Second::Slice(right) => context.dispatch(Binary(function, left, &right[range], output)),
        }
    });
    Ok(())
}

#[derive(Clone, Copy)]
struct WithScalar<F>(F, f32);

impl<F: BinaryFunction> UnaryFunction for WithScalar<F> {
    #[inline(always)]
    fn apply<S: Simd>(self, simd: S, x: S::F32) -> S::F32 {
        self.0.apply(simd, x, S::F32::splat(simd, self.1))
    }
}

struct Unary<'a, F>(F, &'a [f32], &'a mut [f32]);

impl<F: UnaryFunction> Kernel for Unary<'_, F> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, simd: S) {
        let Unary(function, input, output) = self;
        let mut outputs = output.chunks_exact_mut(S::F32::LANES);
        let mut inputs = input.chunks_exact(S::F32::LANES);
        for (to, from) in outputs.by_ref().zip(inputs.by_ref()) {
            function.apply(simd, S::F32::read(simd, from)).write(to);
        }
        let tail = S::F32::read_partial(simd, inputs.remainder(), 0.0);
        function.apply(simd, tail).write_partial(outputs.into_remainder());
    }
}

struct UnaryInPlace<'a, F>(F, &'a mut [f32]);

impl<F: UnaryFunction> Kernel for UnaryInPlace<'_, F> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, simd: S) {
        let mut chunks = self.1.chunks_exact_mut(S::F32::LANES);
        for values in chunks.by_ref() {
            self.0.apply(simd, S::F32::read(simd, values)).write(values);
        }
        let tail = chunks.into_remainder();
        let values = S::F32::read_partial(simd, tail, 0.0);
        self.0.apply(simd, values).write_partial(tail);
    }
}

struct Binary<'a, F>(F, &'a [f32], &'a [f32], &'a mut [f32]);

impl<F: BinaryFunction> Kernel for Binary<'_, F> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, simd: S) {
        let Binary(function, left, right, output) = self;
        let lanes = S::F32::LANES;
        let mut outputs = output.chunks_exact_mut(lanes);
        let mut operands = left.chunks_exact(lanes).zip(right.chunks_exact(lanes));
        for (to, (x, y)) in outputs.by_ref().zip(operands.by_ref()) {
            function.apply(simd, S::F32::read(simd, x), S::F32::read(simd, y)).write(to);
        }
        let tail = outputs.into_remainder();
        let start = left.len() - tail.len();
        let x = S::F32::read_partial(simd, &left[start..], 0.0);
        let y = S::F32::read_partial(simd, &right[start..], 0.0);
        function.apply(simd, x, y).write_partial(tail);
    }
}
