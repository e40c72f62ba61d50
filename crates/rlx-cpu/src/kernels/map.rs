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

/// Declares functions of one number, some with a constant that becomes a vector.
macro_rules! unary_functions {
    ($($(#[$doc:meta])* $visibility:vis $name:ident $(($constant:ident))? => |$simd:ident, $x:ident| $body:expr;)*) => { $(
        $(#[$doc])*
        #[derive(Clone, Copy, Debug)]
        $visibility struct $name $(($visibility unary_functions!(@ $constant)))?;

        impl $crate::kernels::map::UnaryFunction for $name {
            #[inline(always)]
            fn apply<S: $crate::simd::Simd>(self, $simd: S, $x: S::F32) -> S::F32 {
                $(let $constant = S::F32::splat($simd, self.0);)?
                $body
            }
        }
    )* };
    (@ $constant:ident) => { f32 };
}
pub(crate) use unary_functions;

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
