//! The elementary functions as values that [`map`](crate::kernels::map) takes.

use crate::kernels::map::{BinaryFunction, unary_functions};
use crate::simd::{Float32, Simd};

unary_functions! {
    /// The exponential.
    pub Exp => |simd, x| super::exp(simd, x);
    /// `exp(x) - 1`.
    pub Expm1 => |simd, x| super::expm1(simd, x);
    /// The natural logarithm.
    pub Log => |simd, x| super::log(simd, x);
    /// `log(1 + x)`.
    pub Log1p => |simd, x| super::log1p(simd, x);
    /// The hyperbolic tangent.
    pub Tanh => |simd, x| super::tanh(simd, x);
    /// The error function.
    pub Erf => |simd, x| super::erf(simd, x);
    /// The logistic function.
    pub Sigmoid => |simd, x| super::sigmoid(simd, x);
    /// The sine.
    pub Sin => |simd, x| super::sin(simd, x);
    /// The cosine.
    pub Cos => |simd, x| super::cos(simd, x);
    /// GELU by the error function.
    pub Gelu => |simd, x| super::gelu(simd, x);
    /// GELU by the hyperbolic tangent.
    pub GeluTanh => |simd, x| super::gelu_tanh(simd, x);
    /// `x` times its sigmoid.
    pub Silu => |simd, x| super::silu(simd, x);
    /// The square root.
    pub Sqrt => |_simd, x| x.sqrt();
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
}
