//! The elementary functions as values that [`map`](crate::kernels::map) takes.

use crate::kernels::map::{BinaryFunction, UnaryFunction};
use crate::simd::{Float32, Simd};

macro_rules! unary {
    ($($(#[$doc:meta])* $name:ident => $function:path;)*) => {
        $(
            $(#[$doc])*
            #[derive(Clone, Copy, Debug)]
            pub struct $name;

            impl UnaryFunction for $name {
                #[inline(always)]
                fn apply<S: Simd>(self, simd: S, x: S::F32) -> S::F32 {
                    $function(simd, x)
                }
            }
        )*
    };
}

unary! {
    /// The exponential.
    Exp => super::exp;
    /// `exp(x) - 1`.
    Expm1 => super::expm1;
    /// The natural logarithm.
    Log => super::log;
    /// `log(1 + x)`.
    Log1p => super::log1p;
    /// The hyperbolic tangent.
    Tanh => super::tanh;
    /// The error function.
    Erf => super::erf;
    /// The logistic function.
    Sigmoid => super::sigmoid;
    /// The sine.
    Sin => super::sin;
    /// The cosine.
    Cos => super::cos;
    /// GELU by the error function.
    Gelu => super::gelu;
    /// GELU by the hyperbolic tangent.
    GeluTanh => super::gelu_tanh;
    /// `x` times its sigmoid.
    Silu => super::silu;
    /// The square root.
    Sqrt => square_root;
}

#[inline(always)]
fn square_root<S: Simd>(_: S, x: S::F32) -> S::F32 {
    x.sqrt()
}

macro_rules! binary {
    ($($(#[$doc:meta])* $name:ident => |$simd:ident, $x:ident, $y:ident| $body:expr;)*) => {
        $(
            $(#[$doc])*
            #[derive(Clone, Copy, Debug)]
            pub struct $name;

            impl BinaryFunction for $name {
                #[inline(always)]
                fn apply<S: Simd>(self, $simd: S, $x: S::F32, $y: S::F32) -> S::F32 {
                    $body
                }
            }
        )*
    };
}

binary! {
    /// The sum.
    Add => |_simd, x, y| x + y;
    /// The difference.
    Subtract => |_simd, x, y| x - y;
    /// The product.
    Multiply => |_simd, x, y| x * y;
    /// The quotient.
    Divide => |_simd, x, y| x / y;
    /// The larger; NaN if either is NaN.
    Maximum => |_simd, x, y| S::F32::select(x.is_number(), x.larger(y), x);
    /// The smaller; NaN if either is NaN.
    Minimum => |_simd, x, y| S::F32::select(x.is_number(), x.smaller(y), x);
    /// `x` to the power of `y`.
    Power => |simd, x, y| super::pow(simd, x, y);
}
