//! Transcendental functions of `f32` in plain arithmetic, so that they are the same everywhere: a language's own may be
//! wrong for large arguments, NaN or infinities.
//!
//! The polynomials were fitted on the reduced range (weighted minimax, then rounded to `f32`). Measured against f64
//! the error is below 4 units in the last place, `tan`, `tanh`-class and `pow` included; subnormal results may be
//! flushed by the device. `rsqrt` is `1 / sqrt`.

use super::Rewrite;
use super::exact::is_nan;
use super::float::Float;
use crate::builder::Builder;
use crate::error::KernelError;
use crate::ir::*;

/// The rewrite; see the module's text.
#[derive(Debug)]
pub struct Maths;

impl Rewrite for Maths {
    fn expression(
        &mut self,
        b: &mut Builder,
        expr: Expr,
        ty: Scalar,
        _: Scalar,
    ) -> Result<Value, KernelError> {
        let mut m = Float { b };
        Ok(match expr {
            Expr::Unary(op, x) if ty == Scalar::F32 => match m.function(op, x) {
                Some(value) => value,
                None => m.b.emit(expr),
            },
            Expr::Binary(BinaryOp::Pow, x, y) => m.pow(x, y),
            Expr::Binary(BinaryOp::Atan2, y, x) => m.atan2(y, x),
            Expr::Binary(BinaryOp::Rem, x, y) if ty == Scalar::F32 => m.remainder(x, y),
            other => m.b.emit(other),
        })
    }
}

/// `ln 2` in two parts; the first has 12 bits, so that a multiple by an exponent is exact.
const LN_2: [f32; 2] = [0.693_115_23, 3.194_618_3e-5];
/// `(expm1(r) - r) / r^2` for `|r| <= ln(2) / 2`.
const EXPM1: [f32; 6] = [0.5, 0.166_666_67, 0.041_666_344, 0.008_333_273, 0.001_394_204_3, 0.000_199_141_27];
/// `(log1p(f) - f + f^2 / 2) / f^3` for `1 + f` from `sqrt(1/2)` to `sqrt(2)`.
const LOG1P: [f32; 9] = [
    0.333_333_13,
    -0.250_000_1,
    0.200_021_13,
    -0.166_679_96,
    0.142_196_46,
    -0.124_056_41,
    0.118_875_965,
    -0.116_751_365,
    0.067_471_8,
];
/// `erf(x) / x` in `x^2` for `|x| < 0.95`.
const ERF_NEAR: [f32; 7] = [
    std::f32::consts::FRAC_2_SQRT_PI,
    -0.376_126_32,
    0.112_836_726,
    -0.026_858_104,
    0.005_197_797,
    -0.000_810_596_4,
    8.215_42e-5,
];
/// `log(1 - erf(x))` for `x` from 0.9 to 4.
const ERF_FAR: [f32; 10] = [
    0.000_153_777_58,
    -1.129_387_5,
    -0.633_687_6,
    -0.107_755_87,
    0.024_608_778,
    -0.003_845_000_4,
    0.000_298_248_05,
    1.472_922e-5,
    -5.369_956_4e-6,
    3.486_906e-7,
];
/// `(log(1 + f) - 2 s) / s^3` in `s^2`, where `s = f / (2 + f)`.
const LOG_BY_QUOTIENT: [f32; 5] = [0.666_666_7, 0.399_999_98, 0.285_717_58, 0.221_912_13, 0.193_660_62];
/// `(2^r - 1) / r` for `|r| <= 0.51`.
const EXP2: [f32; 7] = [
    std::f32::consts::LN_2,
    0.240_226_5,
    0.055_504_11,
    0.009_618_029,
    0.001_333_342,
    0.000_154_696_67,
    1.531_744_2e-5,
];
/// `2 / ln 2` in two parts.
const TWO_LOG2_E: [f32; 2] = [2.884_765_6, 0.000_624_456_73];

impl Float<'_> {
    /// The function's arithmetic; `None` for what every language has.
    fn function(&mut self, op: UnaryOp, x: Value) -> Option<Value> {
        Some(match op {
            UnaryOp::Rsqrt => {
                let root = self.sqrt(x);
                let one = self.c(1.0);
                self.div(one, root)
            }
            UnaryOp::Exp => self.exp(x),
            UnaryOp::Expm1 => self.expm1(x),
            UnaryOp::Log => self.log(x),
            UnaryOp::Log1p => self.log1p(x),
            UnaryOp::Sinh => self.sinh(x),
            UnaryOp::Cosh => self.cosh(x),
            UnaryOp::Tanh => self.tanh(x),
            UnaryOp::Asinh => self.asinh(x),
            UnaryOp::Acosh => self.acosh(x),
            UnaryOp::Atanh => self.atanh(x),
            UnaryOp::Erf => self.erf(x),
            UnaryOp::Sin | UnaryOp::Cos | UnaryOp::Tan => self.circular(op, x),
            UnaryOp::Asin | UnaryOp::Acos => self.arc(op, x),
            UnaryOp::Atan => {
                let size = self.abs(x);
                let angle = self.atan_of_positive(size);
                let signed = self.with_sign(angle, x);
                self.keep_nan(x, signed)
            }
            _ => return None,
        })
    }

    /// `n` and `q` with `e^x = 2^n (1 + q)`, for `x` already clamped.
    fn exp_parts(&mut self, x: Value) -> (Value, Value) {
        let n = self.times(x, std::f32::consts::LOG2_E);
        let n = self.round(n);
        let (high, low) = (self.times(n, LN_2[0]), self.times(n, LN_2[1]));
        let r = self.sub(x, high);
        let r = self.sub(r, low);
        let curve = self.polynomial(r, &EXPM1);
        let square = self.mul(r, r);
        let curve = self.mul(square, curve);
        (self.as_i32(n), self.add(r, curve))
    }

    /// `e^x` for `x` that is not NaN.
    fn exp_of_number(&mut self, x: Value) -> Value {
        let clamped = self.clamp(x, -104.0, 89.0);
        let (n, q) = self.exp_parts(clamped);
        let value = self.plus(q, 1.0);
        self.scale(value, n)
    }

    fn exp(&mut self, x: Value) -> Value {
        let value = self.exp_of_number(x);
        self.keep_nan(x, value)
    }

    /// `e^x - 1` without its sign or NaN.
    fn expm1_unsigned(&mut self, x: Value) -> Value {
        let clamped = self.clamp(x, -20.0, 89.0);
        let (n, q) = self.exp_parts(clamped);
        // Half of 2^n is finite even where 2^n is not.
        let one = self.i(1);
        let n = self.sub(n, one);
        let half = self.power_of_two(n);
        let curved = self.mul(half, q);
        let rest = self.plus(half, -0.5);
        let sum = self.add(curved, rest);
        self.times(sum, 2.0)
    }

    fn expm1(&mut self, x: Value) -> Value {
        let value = self.expm1_unsigned(x);
        let value = self.abs(value);
        let value = self.with_sign(value, x);
        self.keep_nan(x, value)
    }

    fn log(&mut self, x: Value) -> Value {
        let tiny = self.below(x, f32::MIN_POSITIVE);
        let enlarged = self.times(x, 2f32.powi(23));
        let normal = self.select(tiny, enlarged, x);
        let (k, f) = self.split_exponent(normal);
        let k = self.as_f32(k);
        let less = self.plus(k, -23.0);
        let k = self.select(tiny, less, k);
        let low = self.times(k, LN_2[1]);
        let sum = self.log_near_one(f, low);
        let high = self.times(k, LN_2[0]);
        let value = self.add(sum, high);
        self.log_special(x, value)
    }

    /// `k` and `f` with `x = 2^k (1 + f)`, `1 + f` from `sqrt(1/2)` to `sqrt(2)`, for positive normal `x`.
    fn split_exponent(&mut self, x: Value) -> (Value, Value) {
        let bits = self.b.bitcast(Scalar::I32, x);
        let (origin, width) = (self.i(std::f32::consts::FRAC_1_SQRT_2.to_bits() as i32), self.i(23));
        let from_origin = self.sub(bits, origin);
        let k = self.shr(from_origin, width);
        let exponent = self.shl(k, width);
        let mantissa = self.sub(bits, exponent);
        let mantissa = self.float(mantissa);
        (k, self.plus(mantissa, -1.0))
    }

    /// The logarithm's values for zeros, infinity, negative numbers and NaN; `value` elsewhere.
    fn log_special(&mut self, x: Value, value: Value) -> Value {
        let size = super::exact::magnitude(self.b, x);
        let (zero, infinity) = (self.u(0), self.u(0x7f80_0000));
        let bits = self.bits(x);
        let is_infinity = self.eq(bits, infinity);
        let value = self.select(is_infinity, x, value);
        // Above infinity lie NaN and, by their sign bit, all negative numbers.
        let outside = self.gt(bits, infinity);
        let value = self.nan_if(outside, value);
        let is_zero = self.eq(size, zero);
        let below = self.c(f32::NEG_INFINITY);
        self.select(is_zero, below, value)
    }

    /// `log(1 + f) + low` for `1 + f` from `sqrt(1/2)` to `sqrt(2)`.
    fn log_near_one(&mut self, f: Value, low: Value) -> Value {
        let square = self.mul(f, f);
        let curve = self.polynomial(f, &LOG1P);
        let cube = self.mul(f, square);
        let curve = self.mul(cube, curve);
        let sum = self.add(curve, low);
        let half = self.times(square, 0.5);
        let sum = self.sub(sum, half);
        self.add(f, sum)
    }

    fn log1p(&mut self, x: Value) -> Value {
        // Where the sum rounds, it is so far from one that its logarithm hardly notices.
        let sum = self.plus(x, 1.0);
        let far = self.log(sum);
        let none = self.c(0.0);
        let near = self.log_near_one(x, none);
        let (above, below) = (self.above(x, -0.29), self.below(x, 0.41));
        let is_near = self.and(above, below);
        let value = self.select(is_near, near, far);
        let size = self.abs(x);
        let tiny = self.below(size, 2f32.powi(-25));
        self.select(tiny, x, value)
    }

    /// `e^a / 2` for `a` up to 178, where `e^a` may overflow.
    fn half_exp(&mut self, a: Value) -> Value {
        let half = self.times(a, 0.5);
        let root = self.exp_of_number(half);
        let halved = self.times(root, 0.5);
        self.mul(halved, root)
    }

    fn sinh(&mut self, x: Value) -> Value {
        let a = self.abs(x);
        let e = self.expm1_unsigned(a);
        let next = self.plus(e, 1.0);
        let quotient = self.div(e, next);
        let sum = self.add(e, quotient);
        let small = self.times(sum, 0.5);
        let large = self.half_exp(a);
        let is_small = self.below(a, 20.0);
        let value = self.select(is_small, small, large);
        let value = self.with_sign(value, x);
        self.keep_nan(x, value)
    }

    fn cosh(&mut self, x: Value) -> Value {
        let a = self.abs(x);
        let large = self.half_exp(a);
        let quarter = self.c(0.25);
        // e^-a / 2 is a quarter over e^a / 2.
        let other = self.div(quarter, large);
        let value = self.add(large, other);
        self.keep_nan(x, value)
    }

    fn tanh(&mut self, x: Value) -> Value {
        let a = self.abs(x);
        let doubled = self.times(a, 2.0);
        let e = self.expm1_unsigned(doubled);
        let next = self.plus(e, 2.0);
        let value = self.div(e, next);
        let (large, one) = (self.above(a, 10.0), self.c(1.0));
        let value = self.select(large, one, value);
        let value = self.with_sign(value, x);
        self.keep_nan(x, value)
    }

    fn asinh(&mut self, x: Value) -> Value {
        let a = self.abs(x);
        let square = self.mul(a, a);
        let sum = self.plus(square, 1.0);
        let root = self.sqrt(sum);
        let next = self.plus(root, 1.0);
        let quotient = self.div(square, next);
        let argument = self.add(a, quotient);
        let value = self.log1p_or_log_of_double(a, argument);
        let value = self.abs(value);
        let value = self.with_sign(value, x);
        self.keep_nan(x, value)
    }

    fn acosh(&mut self, x: Value) -> Value {
        let t = self.plus(x, -1.0);
        let doubled = self.times(t, 2.0);
        let square = self.mul(t, t);
        let sum = self.add(doubled, square);
        let root = self.sqrt(sum);
        let argument = self.add(t, root);
        let value = self.log1p_or_log_of_double(x, argument);
        let outside = self.below(x, 1.0);
        let value = self.nan_if(outside, value);
        self.keep_nan(x, value)
    }

    /// `log1p(argument)`, or `log(2 x)` where `x` is so large that its square overflows.
    fn log1p_or_log_of_double(&mut self, x: Value, argument: Value) -> Value {
        let large = self.above(x, 1e9);
        let small = self.log1p(argument);
        let far = self.log(x);
        let far = self.plus(far, std::f32::consts::LN_2);
        self.select(large, far, small)
    }

    fn atanh(&mut self, x: Value) -> Value {
        let a = self.abs(x);
        let doubled = self.times(a, 2.0);
        let rest = self.from(1.0, a);
        let quotient = self.div(doubled, rest);
        let value = self.log1p(quotient);
        let value = self.times(value, 0.5);
        let (infinity, one) = (self.c(f32::INFINITY), self.c(1.0));
        let at_end = self.eq(a, one);
        let value = self.select(at_end, infinity, value);
        let outside = self.above(a, 1.0);
        let value = self.with_sign(value, x);
        let value = self.nan_if(outside, value);
        self.keep_nan(x, value)
    }

    fn erf(&mut self, x: Value) -> Value {
        let a = self.abs(x);
        let square = self.mul(a, a);
        let curve = self.polynomial(square, &ERF_NEAR);
        let near = self.mul(a, curve);
        let bounded = self.clamp(a, 0.9, 4.0);
        let exponent = self.polynomial(bounded, &ERF_FAR);
        let complement = self.exp_of_number(exponent);
        let far = self.from(1.0, complement);
        let is_near = self.below(a, 0.95);
        let value = self.select(is_near, near, far);
        let value = self.with_sign(value, x);
        self.keep_nan(x, value)
    }

    /// The first 12 significant bits of `x`. Products of such parts are exact, and a compiler that takes floats for
    /// real numbers cannot see through it.
    fn high_part(&mut self, x: Value) -> Value {
        let (bits, mask) = (self.bits(x), self.u(0xffff_f000));
        let bits = self.and(bits, mask);
        self.float(bits)
    }

    /// `log2(x) + shift` in two parts, for positive normal `x` and an integer `shift`. The first has 12 bits.
    fn log2_parts(&mut self, x: Value, shift: Value) -> (Value, Value) {
        let (k, f) = self.split_exponent(x);
        let k = self.as_f32(k);
        let k = self.add(k, shift);
        // s + s_low = f / (2 + f).
        let d = self.plus(f, 2.0);
        let s = self.div(f, d);
        let (s_high, d_high) = (self.high_part(s), self.high_part(d));
        let d_rest = self.plus(d_high, -2.0);
        let d_rest = self.sub(f, d_rest);
        let s_rest = self.sub(s, s_high);
        let mut rest = f;
        for (a, b) in [(s_high, d_high), (s_rest, d_high), (s, d_rest)] {
            let part = self.mul(a, b);
            rest = self.sub(rest, part);
        }
        let s_low = self.div(rest, d);
        let square = self.mul(s, s);
        let curve = self.polynomial(square, &LOG_BY_QUOTIENT);
        let cube = self.mul(square, s);
        let curve = self.mul(cube, curve);
        let mut low = self.times(curve, std::f32::consts::LOG2_E);
        for (part, factor) in [(s_low, TWO_LOG2_E[0]), (s, TWO_LOG2_E[1]), (s_rest, TWO_LOG2_E[0])] {
            let part = self.times(part, factor);
            low = self.add(low, part);
        }
        let high = self.times(s_high, TWO_LOG2_E[0]);
        let sum = self.add(k, high);
        let sum = self.add(sum, low);
        let first = self.high_part(sum);
        let rest = self.sub(k, first);
        let rest = self.add(rest, high);
        (first, self.add(rest, low))
    }

    fn pow(&mut self, x: Value, y: Value) -> Value {
        let a = self.abs(x);
        let tiny = self.below(a, f32::MIN_POSITIVE);
        let enlarged = self.times(a, 2f32.powi(24));
        let normal = self.select(tiny, enlarged, a);
        let (shift, none) = (self.c(-24.0), self.c(0.0));
        let shift = self.select(tiny, shift, none);
        let (log, log_low) = self.log2_parts(normal, shift);
        let y_high = self.high_part(y);
        let y_rest = self.sub(y, y_high);
        let product = self.mul(log, y_high);
        let (rest, low) = (self.mul(log, y_rest), self.mul(log_low, y));
        let rest = self.add(rest, low);
        let sum = self.add(product, rest);
        let bounded = self.clamp(sum, -160.0, 130.0);
        let n = self.round(bounded);
        let fraction = self.sub(product, n);
        let fraction = self.add(fraction, rest);
        let fraction = self.clamp(fraction, -0.51, 0.51);
        let curve = self.polynomial(fraction, &EXP2);
        let curve = self.mul(fraction, curve);
        let value = self.plus(curve, 1.0);
        let n = self.as_i32(n);
        let value = self.scale(value, n);
        self.pow_special(x, y, a, value)
    }

    /// The power's values for zeros, infinities, ones, NaN and negative bases, given `|x|^y` elsewhere.
    fn pow_special(&mut self, x: Value, y: Value, a: Value, value: Value) -> Value {
        let (zero, one, infinity) = (self.c(0.0), self.c(1.0), self.c(f32::INFINITY));
        let (grows, y_size) = (self.above(y, 0.0), self.abs(y));
        let (a_is_zero, a_is_infinite) = (self.eq(a, zero), self.eq(a, infinity));
        let y_is_infinite = self.eq(y_size, infinity);
        // A base of 0 or infinity, or an infinite exponent, gives 0 or infinity by direction.
        let a_large = self.above(a, 1.0);
        let extreme = self.or(a_is_zero, a_is_infinite);
        let extreme = self.or(extreme, y_is_infinite);
        let up = self.eq(a_large, grows);
        let limit = self.select(up, infinity, zero);
        let value = self.select(extreme, limit, value);
        // An exponent of 2^24 or more is an even integer.
        let truncated = self.b.unary(UnaryOp::Trunc, y);
        let is_integer = self.eq(truncated, y);
        let halved = self.times(y, 0.5);
        let half_truncated = self.b.unary(UnaryOp::Trunc, halved);
        let is_even = self.eq(half_truncated, halved);
        let odd = self.b.unary(UnaryOp::Not, is_even);
        let odd = self.and(odd, is_integer);
        let negative = self.sign_bit(x);
        let no_sign = self.u(0);
        let sign = self.select(odd, negative, no_sign);
        let bits = self.bits(value);
        let bits = self.or(bits, sign);
        let value = self.float(bits);
        let fractional = self.b.unary(UnaryOp::Not, is_integer);
        let (below, finite_base) = (self.below(x, 0.0), self.lt(a, infinity));
        let undefined = self.and(below, fractional);
        let undefined = self.and(undefined, finite_base);
        let value = self.nan_if(undefined, value);
        let value = self.keep_nan(x, value);
        let value = self.keep_nan(y, value);
        // One to any power and anything to the power zero are one, NaN included; so is -1 to an infinite power.
        let (x_bits, y_bits) = (self.bits(x), super::exact::magnitude(self.b, y));
        let (one_bits, no_bits) = (self.u(1f32.to_bits()), self.u(0));
        let is_one = self.eq(x_bits, one_bits);
        let y_is_zero = self.eq(y_bits, no_bits);
        let a_bits = self.bits(a);
        let a_is_one = self.eq(a_bits, one_bits);
        let level = self.and(a_is_one, y_is_infinite);
        let unit = self.or(is_one, y_is_zero);
        let unit = self.or(unit, level);
        self.select(unit, one, value)
    }

    /// The exact remainder, by long division of the significands.
    fn remainder(&mut self, x: Value, y: Value) -> Value {
        let (a, c) = (super::exact::magnitude(self.b, x), super::exact::magnitude(self.b, y));
        let ((a_exponent, a_part), (c_exponent, c_part)) = (self.significand(a), self.significand(c));
        let (zero, one) = (self.u(0), self.u(1));
        let divisor = self.max(c_part, one);
        let first = self.b.binary(BinaryOp::Rem, a_part, divisor);
        let rest = self.b.variable_of(format!("rest{}", self.b.kernel().variables.len()), first);
        let smaller = self.lt(a_exponent, c_exponent);
        let steps = self.sub(a_exponent, c_exponent);
        let steps = self.select(smaller, zero, steps);
        self.b.count(zero, steps, one, |b, _| {
            let mut m = Float { b };
            let now = m.b.get(rest);
            let now = m.shl(now, one);
            let fits = m.ge(now, divisor);
            let less = m.sub(now, divisor);
            let now = m.select(fits, less, now);
            m.b.set(rest, now);
        });
        let now = self.b.get(rest);
        let now = self.as_f32(now);
        let exponent = self.b.cast(Scalar::I32, c_exponent);
        let offset = self.i(150);
        let exponent = self.sub(exponent, offset);
        let value = self.scale(now, exponent);
        let value = self.with_sign(value, x);
        let below = self.lt(a, c);
        let value = self.select(below, x, value);
        let infinity = self.u(0x7f80_0000);
        let x_outside = self.ge(a, infinity);
        let value = self.nan_if(x_outside, value);
        let zero_divisor = self.eq(c, zero);
        let value = self.nan_if(zero_divisor, value);
        let y_nan = is_nan(self.b, y);
        self.nan_if(y_nan, value)
    }

    /// Biased exponent (at least 1) and integer significand of a magnitude's bits.
    fn significand(&mut self, bits: Value) -> (Value, Value) {
        let (width, mask, hidden, zero, one) =
            (self.u(23), self.u(0x7f_ffff), self.u(0x80_0000), self.u(0), self.u(1));
        let exponent = self.shr(bits, width);
        let fraction = self.and(bits, mask);
        let subnormal = self.eq(exponent, zero);
        let hidden = self.select(subnormal, zero, hidden);
        (self.max(exponent, one), self.or(fraction, hidden))
    }
}
