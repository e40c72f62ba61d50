//! Transcendental functions of `f32` in plain arithmetic, so that they are the same everywhere: a language's own may be
//! wrong for large arguments, NaN or infinities.
//!
//! The polynomials were fitted on the reduced range (weighted minimax, then rounded to `f32`). Measured against f64
//! the error is below 4 units in the last place, `tan`, `tanh`-class and `pow` included; subnormal results may be
//! flushed by the device. `rsqrt` is `1 / sqrt`.

use super::Rewrite;
use crate::builder::Builder;
use crate::error::KernelError;
use crate::ir::*;
use crate::num::{INFINITY, Num};
use std::f32::consts::{LN_2 as LN_2_ROUNDED, LOG2_E};

/// The rewrite; see the module's text.
#[derive(Debug)]
pub struct Maths;

impl Rewrite for Maths {
    fn expression(&mut self, b: &Builder, expr: Expr, ty: Scalar, _: Scalar) -> Result<Value, KernelError> {
        let num = |value| b.num(value);
        let result = match expr {
            Expr::Unary(op, x) if ty == Scalar::F32 => num(x).function(op),
            Expr::Binary(BinaryOp::Pow, x, y) => num(x).pow(num(y)),
            Expr::Binary(BinaryOp::Atan2, y, x) => num(y).atan2(num(x)),
            Expr::Binary(BinaryOp::Rem, x, y) if ty == Scalar::F32 => num(x).remainder(num(y)),
            other => num(b.emit(other)),
        };
        Ok(result.value)
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

impl<'b> Num<'b> {
    /// The function's arithmetic; itself where every language has it.
    fn function(self, op: UnaryOp) -> Self {
        match op {
            UnaryOp::Rsqrt => 1.0 / self.sqrt(),
            UnaryOp::Exp => self.exp_of_number().or_nan(self),
            UnaryOp::Expm1 => self.expm1_unsigned().abs().with_sign(self).or_nan(self),
            UnaryOp::Log => self.log(),
            UnaryOp::Log1p => self.log1p(),
            UnaryOp::Sinh => self.sinh(),
            UnaryOp::Cosh => self.cosh(),
            UnaryOp::Tanh => self.tanh(),
            UnaryOp::Asinh => self.asinh(),
            UnaryOp::Acosh => self.acosh(),
            UnaryOp::Atanh => self.atanh(),
            UnaryOp::Erf => self.erf(),
            UnaryOp::Sin | UnaryOp::Cos | UnaryOp::Tan => self.circular(op),
            UnaryOp::Asin | UnaryOp::Acos => self.arc(op),
            UnaryOp::Atan => self.abs().atan_of_positive().with_sign(self).or_nan(self),
            _ => self.unary(op),
        }
    }

    /// `n` and `q` with `e^x = 2^n (1 + q)`, for `x` already clamped.
    fn exp_parts(self) -> (Self, Self) {
        let n = (self * LOG2_E).round();
        let r = self - n * LN_2[0] - n * LN_2[1];
        (n.cast(Scalar::I32), r + r * r * r.polynomial(&EXPM1))
    }

    /// `e^x` for `x` that is not NaN.
    fn exp_of_number(self) -> Self {
        let (n, q) = self.clamp(-104.0, 89.0).exp_parts();
        (q + 1.0).scale(n)
    }

    /// `e^x - 1` without its sign or NaN.
    fn expm1_unsigned(self) -> Self {
        let (n, q) = self.clamp(-20.0, 89.0).exp_parts();
        // Half of 2^n is finite even where 2^n is not.
        let half = (n - 1).power_of_two();
        (half * q + (half - 0.5)) * 2.0
    }

    fn log(self) -> Self {
        let tiny = self.below(f32::MIN_POSITIVE);
        let (k, f) = tiny.choose(self * 2f32.powi(23), self).split_exponent();
        let k = k.cast(Scalar::F32);
        let k = tiny.choose(k - 23.0, k);
        let value = f.log_near_one(k * LN_2[1]) + k * LN_2[0];
        self.log_special(value)
    }

    /// `k` and `f` with `x = 2^k (1 + f)`, `1 + f` from `sqrt(1/2)` to `sqrt(2)`, for positive normal `x`.
    fn split_exponent(self) -> (Self, Self) {
        let bits = self.bitcast(Scalar::I32);
        let k = (bits - std::f32::consts::FRAC_1_SQRT_2.to_bits()) >> 23;
        (k, (bits - (k << 23)).float() - 1.0)
    }

    /// The logarithm's values for zeros, infinity, negative numbers and NaN; `value` elsewhere.
    fn log_special(self, value: Self) -> Self {
        let bits = self.bits();
        // Above infinity lie NaN and, by their sign bit, all negative numbers.
        let value = bits.is(INFINITY).choose(self, value).nan_if(bits.above(INFINITY));
        self.magnitude().is(0).choose(f32::NEG_INFINITY, value)
    }

    /// `log(1 + f) + low` for `1 + f` from `sqrt(1/2)` to `sqrt(2)`.
    fn log_near_one(self, low: Self) -> Self {
        let square = self * self;
        self + (self * square * self.polynomial(&LOG1P) + low - square * 0.5)
    }

    fn log1p(self) -> Self {
        // Where the sum rounds, it is so far from one that its logarithm hardly notices.
        let far = (self + 1.0).log();
        let near = self.log_near_one(self.like(0.0));
        let value = (self.above(-0.29) & self.below(0.41)).choose(near, far);
        self.abs().below(2f32.powi(-25)).choose(self, value)
    }

    /// `e^a / 2` for `a` up to 178, where `e^a` may overflow.
    fn half_exp(self) -> Self {
        let root = (self * 0.5).exp_of_number();
        root * 0.5 * root
    }

    fn sinh(self) -> Self {
        let a = self.abs();
        let e = a.expm1_unsigned();
        let small = (e + e / (e + 1.0)) * 0.5;
        a.below(20.0).choose(small, a.half_exp()).with_sign(self).or_nan(self)
    }

    fn cosh(self) -> Self {
        let large = self.abs().half_exp();
        // e^-a / 2 is a quarter over e^a / 2.
        (large + 0.25 / large).or_nan(self)
    }

    fn tanh(self) -> Self {
        let a = self.abs();
        let e = (a * 2.0).expm1_unsigned();
        a.above(10.0).choose(1.0, e / (e + 2.0)).with_sign(self).or_nan(self)
    }

    fn asinh(self) -> Self {
        let a = self.abs();
        let square = a * a;
        let argument = a + square / ((square + 1.0).sqrt() + 1.0);
        a.log1p_or_log_of_double(argument).abs().with_sign(self).or_nan(self)
    }

    fn acosh(self) -> Self {
        let t = self - 1.0;
        let argument = t + (t * 2.0 + t * t).sqrt();
        self.log1p_or_log_of_double(argument).nan_if(self.below(1.0)).or_nan(self)
    }

    /// `log1p(argument)`, or `log(2 x)` where `x` is so large that its square overflows.
    fn log1p_or_log_of_double(self, argument: Self) -> Self {
        self.above(1e9).choose(self.log() + LN_2_ROUNDED, argument.log1p())
    }

    fn atanh(self) -> Self {
        let a = self.abs();
        let value = (a * 2.0 / (1.0 - a)).log1p() * 0.5;
        let value = a.is(1.0).choose(f32::INFINITY, value);
        value.with_sign(self).nan_if(a.above(1.0)).or_nan(self)
    }

    fn erf(self) -> Self {
        let a = self.abs();
        let near = a * (a * a).polynomial(&ERF_NEAR);
        let far = 1.0 - a.clamp(0.9, 4.0).polynomial(&ERF_FAR).exp_of_number();
        a.below(0.95).choose(near, far).with_sign(self).or_nan(self)
    }

    /// The first 12 significant bits of `x`. Products of such parts are exact, and a compiler that takes floats for
    /// real numbers cannot see through it.
    fn high_part(self) -> Self {
        (self.bits() & 0xffff_f000).float()
    }

    /// `log2(x) + shift` in two parts, for positive normal `x` and an integer `shift`. The first has 12 bits.
    fn log2_parts(self, shift: Self) -> (Self, Self) {
        let (k, f) = self.split_exponent();
        let k = k.cast(Scalar::F32) + shift;
        // s + s_low = f / (2 + f).
        let d = f + 2.0;
        let s = f / d;
        let (s_high, d_high) = (s.high_part(), d.high_part());
        let d_rest = f - (d_high - 2.0);
        let s_rest = s - s_high;
        let s_low = (f - s_high * d_high - s_rest * d_high - s * d_rest) / d;
        let square = s * s;
        let curve = square * s * square.polynomial(&LOG_BY_QUOTIENT);
        let [double, double_low] = TWO_LOG2_E;
        let low = curve * LOG2_E + s_low * double + s * double_low + s_rest * double;
        let high = s_high * double;
        let first = (k + high + low).high_part();
        (first, k - first + high + low)
    }

    fn pow(self, y: Self) -> Self {
        let a = self.abs();
        let tiny = a.below(f32::MIN_POSITIVE);
        let normal = tiny.choose(a * 2f32.powi(24), a);
        let (log, log_low) = normal.log2_parts(tiny.choose(-24.0, 0.0));
        let y_high = y.high_part();
        let product = log * y_high;
        let rest = log * (y - y_high) + log_low * y;
        let n = (product + rest).clamp(-160.0, 130.0).round();
        let fraction = (product - n + rest).clamp(-0.51, 0.51);
        let value = fraction * fraction.polynomial(&EXP2) + 1.0;
        self.pow_special(y, a, value.scale(n.cast(Scalar::I32)))
    }

    /// The power's values for zeros, infinities, ones, NaN and negative bases, given `|x|^y` elsewhere.
    fn pow_special(self, y: Self, a: Self, value: Self) -> Self {
        let y_is_infinite = y.abs().is(f32::INFINITY);
        // A base of 0 or infinity, or an infinite exponent, gives 0 or infinity by direction.
        let extreme = a.is(0.0) | a.is(f32::INFINITY) | y_is_infinite;
        let limit = a.above(1.0).is(y.above(0.0)).choose(f32::INFINITY, 0.0);
        let value = extreme.choose(limit, value);
        // An exponent of 2^24 or more is an even integer.
        let is_integer = y.unary(UnaryOp::Trunc).is(y);
        let half = y * 0.5;
        let odd = !half.unary(UnaryOp::Trunc).is(half) & is_integer;
        let value = (value.bits() | odd.choose(self.sign_bit(), 0)).float();
        let undefined = self.below(0.0) & !is_integer & a.below(f32::INFINITY);
        let value = value.nan_if(undefined).or_nan(self).or_nan(y);
        // One to any power and anything to the power zero are one, NaN included; so is -1 to an infinite power.
        let one = 1f32.to_bits();
        let level = a.bits().is(one) & y_is_infinite;
        (self.bits().is(one) | y.magnitude().is(0) | level).choose(1.0, value)
    }

    /// The exact remainder, by long division of the significands.
    fn remainder(self, y: Self) -> Self {
        let (a, c) = (self.magnitude(), y.magnitude());
        let ((a_exponent, a_part), (c_exponent, c_part)) = (a.significand(), c.significand());
        let divisor = c_part.max(1);
        let rest = (a_part % divisor).local("rest");
        let steps = a_exponent.below(c_exponent).choose(0, a_exponent - c_exponent);
        self.b.count(a.like(0).value, steps.value, a.like(1).value, |_, _| {
            let now = rest.get() << 1;
            rest.set(now.at_least(divisor).choose(now - divisor, now));
        });
        let value = rest.get().cast(Scalar::F32).scale(c_exponent.cast(Scalar::I32) - 150).with_sign(self);
        let value = a.below(c).choose(self, value);
        value.nan_if(a.at_least(INFINITY)).nan_if(c.is(0)).or_nan(y)
    }

    /// Biased exponent (at least 1) and integer significand of a magnitude's bits.
    fn significand(self) -> (Self, Self) {
        let exponent = self >> 23;
        let hidden = exponent.is(0).choose(0, self.like(0x80_0000));
        (exponent.max(1), (self & 0x7f_ffff) | hidden)
    }
}
