//! Short names for emitting `f32` arithmetic.
//!
//! Operations here are the language's own, with no care for NaN: a function that uses them decides its special cases
//! by bits at the end.

use crate::builder::Builder;
use crate::ir::*;

/// A builder seen as a place to write `f32` formulas.
pub struct Float<'a> {
    /// Where the formulas go.
    pub b: &'a mut Builder,
}

/// Declares methods for binary operations.
macro_rules! binaries {
    ($($name:ident $op:ident),*) => { $(
        pub fn $name(&mut self, x: Value, y: Value) -> Value { self.b.binary(BinaryOp::$op, x, y) }
    )* };
}

#[allow(missing_docs)]
impl Float<'_> {
    binaries!(add Add, sub Sub, mul Mul, div Div, min Min, max Max, and And, or Or, xor Xor, shl Shl, shr Shr);
    binaries!(eq Eq, lt Lt, gt Gt, ge Ge);

    pub fn c(&mut self, value: f32) -> Value {
        self.b.f32(value)
    }

    pub fn u(&mut self, value: u32) -> Value {
        self.b.u32(value)
    }

    pub fn i(&mut self, value: i32) -> Value {
        self.b.i32(value)
    }

    pub fn select(&mut self, condition: Value, then: Value, otherwise: Value) -> Value {
        self.b.select(condition, then, otherwise)
    }

    /// The bits of a float or signed integer as `u32`.
    pub fn bits(&mut self, x: Value) -> Value {
        self.b.bitcast(Scalar::U32, x)
    }

    pub fn float(&mut self, bits: Value) -> Value {
        self.b.bitcast(Scalar::F32, bits)
    }

    /// `x + constant`.
    pub fn plus(&mut self, x: Value, constant: f32) -> Value {
        let constant = self.c(constant);
        self.add(x, constant)
    }

    /// `x * constant`.
    pub fn times(&mut self, x: Value, constant: f32) -> Value {
        let constant = self.c(constant);
        self.mul(x, constant)
    }

    /// `constant - x`.
    pub fn from(&mut self, constant: f32, x: Value) -> Value {
        let constant = self.c(constant);
        self.sub(constant, x)
    }

    /// `x < constant`.
    pub fn below(&mut self, x: Value, constant: f32) -> Value {
        let constant = self.c(constant);
        self.lt(x, constant)
    }

    /// `x > constant`.
    pub fn above(&mut self, x: Value, constant: f32) -> Value {
        let constant = self.c(constant);
        self.gt(x, constant)
    }

    pub fn clamp(&mut self, x: Value, low: f32, high: f32) -> Value {
        let (low, high) = (self.c(low), self.c(high));
        let x = self.max(x, low);
        self.min(x, high)
    }

    pub fn round(&mut self, x: Value) -> Value {
        self.b.unary(UnaryOp::Round, x)
    }

    pub fn sqrt(&mut self, x: Value) -> Value {
        self.b.unary(UnaryOp::Sqrt, x)
    }

    pub fn abs(&mut self, x: Value) -> Value {
        let size = super::exact::magnitude(self.b, x);
        self.float(size)
    }

    pub fn negate(&mut self, x: Value) -> Value {
        let (bits, sign) = (self.bits(x), self.u(0x8000_0000));
        let bits = self.xor(bits, sign);
        self.float(bits)
    }

    pub fn sign_bit(&mut self, x: Value) -> Value {
        let (bits, sign) = (self.bits(x), self.u(0x8000_0000));
        self.and(bits, sign)
    }

    /// Non-negative `size` with the sign of `of`.
    pub fn with_sign(&mut self, size: Value, of: Value) -> Value {
        let (bits, sign) = (self.bits(size), self.sign_bit(of));
        let bits = self.or(bits, sign);
        self.float(bits)
    }

    /// NaN where `condition`, else `x`.
    pub fn nan_if(&mut self, condition: Value, x: Value) -> Value {
        let nan = self.c(f32::NAN);
        self.select(condition, nan, x)
    }

    /// `result`, or NaN where `x` is NaN.
    pub fn keep_nan(&mut self, x: Value, result: Value) -> Value {
        let is_nan = super::exact::is_nan(self.b, x);
        self.nan_if(is_nan, result)
    }

    /// `constants[0] + constants[1] x + ...`.
    pub fn polynomial(&mut self, x: Value, constants: &[f32]) -> Value {
        let (&last, rest) = constants.split_last().expect("a polynomial has a constant term");
        let last = self.c(last);
        rest.iter().rev().fold(last, |value, &constant| {
            let product = self.mul(value, x);
            self.plus(product, constant)
        })
    }

    /// `2^n` for an `i32` within the normal exponents.
    pub fn power_of_two(&mut self, n: Value) -> Value {
        let (bias, width) = (self.i(127), self.i(23));
        let biased = self.add(n, bias);
        let bits = self.shl(biased, width);
        self.float(bits)
    }

    /// `x 2^n` for an `i32` from -252 to 252, rounded once unless the result is subnormal.
    pub fn scale(&mut self, x: Value, n: Value) -> Value {
        let one = self.i(1);
        let half = self.shr(n, one);
        let rest = self.sub(n, half);
        let (first, second) = (self.power_of_two(half), self.power_of_two(rest));
        let x = self.mul(x, first);
        self.mul(x, second)
    }

    pub fn as_i32(&mut self, x: Value) -> Value {
        self.b.cast(Scalar::I32, x)
    }

    pub fn as_f32(&mut self, x: Value) -> Value {
        self.b.cast(Scalar::F32, x)
    }
}
