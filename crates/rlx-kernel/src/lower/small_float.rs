//! 8-bit floats: stored as bytes, computed as `f32`.
//!
//! Conversions work on the bits of an `f32`, so that they do not depend on what a device does with numbers too small
//! for a normal `f32`. They round as `rlx_ir::number` does.

use crate::builder::Builder;
use crate::ir::{BinaryOp, Scalar, Value};
use rlx_ir::DType;
use rlx_ir::number::{MiniFloat, Special, mini_float};

const NAN: u32 = 0x7fc0_0000;
const INFINITY: u32 = 0x7f80_0000;

/// How a dtype of one byte codes floats.
#[derive(Clone, Copy)]
enum Coding {
    Signed(MiniFloat),
    /// Powers of two from 2^-127 on.
    Powers,
}

fn coding(dtype: DType) -> Option<Coding> {
    match dtype {
        DType::F8E8M0 => Some(Coding::Powers),
        _ => mini_float(dtype).filter(|_| dtype.size_of() == Some(1)).map(Coding::Signed),
    }
}

/// Is this an 8-bit float?
pub(super) fn is_small(dtype: DType) -> bool {
    coding(dtype).is_some()
}

/// The `f32` that a stored byte stands for; any other value as it is.
pub(super) fn decode(b: &mut Builder, dtype: DType, value: Value) -> Value {
    let Some(coding) = coding(dtype) else { return value };
    let code = b.cast(Scalar::U32, value);
    let bits = match coding {
        Coding::Signed(format) => decode_signed(b, &format, code),
        Coding::Powers => decode_power(b, code),
    };
    b.bitcast(Scalar::F32, bits)
}

/// The byte nearest to an `f32`, ties to even; any other value as it is.
pub(super) fn encode(b: &mut Builder, dtype: DType, value: Value) -> Value {
    let Some(coding) = coding(dtype) else { return value };
    let value = b.cast(Scalar::F32, value);
    let bits = b.bitcast(Scalar::U32, value);
    let code = match coding {
        Coding::Signed(format) => encode_signed(b, &format, bits),
        Coding::Powers => encode_power(b, bits),
    };
    b.cast(Scalar::U8, code)
}

/// Unsigned words, with constants on the right.
impl Builder {
    fn word(&mut self, op: BinaryOp, a: Value, b: u32) -> Value {
        let b = self.u32(b);
        self.binary(op, a, b)
    }

    fn choose(&mut self, condition: Value, then: u32, otherwise: Value) -> Value {
        let then = self.u32(then);
        self.select(condition, then, otherwise)
    }
}

fn decode_signed(b: &mut Builder, format: &MiniFloat, code: Value) -> Value {
    let MiniFloat { mantissa_bits, bias, special, .. } = *format;
    let magnitude = b.word(BinaryOp::And, code, format.sign_bit() - 1);
    let shifted = b.word(BinaryOp::Shl, magnitude, 23 - mantissa_bits);
    let normal = b.word(BinaryOp::Add, shifted, ((127 - bias) as u32) << 23);
    // Below the normal numbers, the code counts units.
    let count = b.cast(Scalar::F32, magnitude);
    let unit = b.f32(2f32.powi(1 - bias - mantissa_bits as i32));
    let small = b.mul(count, unit);
    let small = b.bitcast(Scalar::U32, small);
    let is_small = b.word(BinaryOp::Lt, magnitude, 1 << mantissa_bits);
    let mut bits = b.select(is_small, small, normal);
    if special == Special::Ieee {
        let infinite = b.word(BinaryOp::Eq, magnitude, format.max_code() + 1);
        bits = b.choose(infinite, INFINITY, bits);
    }
    let sign = b.word(BinaryOp::And, code, format.sign_bit());
    let sign = b.word(BinaryOp::Shl, sign, 24);
    let bits = b.binary(BinaryOp::Or, bits, sign);
    let is_nan = match special {
        Special::Ieee => b.word(BinaryOp::Gt, magnitude, format.max_code() + 1),
        Special::FiniteNan => b.word(BinaryOp::Eq, magnitude, format.nan_code()),
        Special::UnsignedZero => b.word(BinaryOp::Eq, code, format.nan_code()),
        Special::Finite => return bits,
    };
    b.choose(is_nan, NAN, bits)
}

fn encode_signed(b: &mut Builder, format: &MiniFloat, bits: Value) -> Value {
    let MiniFloat { mantissa_bits, bias, special, .. } = *format;
    let magnitude = b.word(BinaryOp::And, bits, i32::MAX as u32);
    let dropped = 23 - mantissa_bits;
    // Half of what is dropped, less one where the last kept bit is even, carries into the kept bits.
    let last = b.word(BinaryOp::Shr, magnitude, dropped);
    let last = b.word(BinaryOp::And, last, 1);
    let rounded = b.word(BinaryOp::Add, magnitude, (1 << (dropped - 1)) - 1);
    let rounded = b.add(rounded, last);
    let kept = b.word(BinaryOp::Shr, rounded, dropped);
    let normal = b.word(BinaryOp::Sub, kept, ((127 - bias) as u32) << mantissa_bits);
    // Below the normal numbers, the code counts units; adding 2^23 rounds to a whole count.
    let value = b.bitcast(Scalar::F32, magnitude);
    let units = b.f32(2f32.powi(bias - 1 + mantissa_bits as i32));
    let (units, whole) = (b.mul(value, units), b.f32(8_388_608.0));
    let count = b.add(units, whole);
    let count = b.bitcast(Scalar::U32, count);
    let small = b.word(BinaryOp::Sub, count, 8_388_608f32.to_bits());
    let is_small = b.word(BinaryOp::Lt, magnitude, ((128 - bias) as u32) << 23);
    let code = b.select(is_small, small, normal);
    let sign = b.word(BinaryOp::Shr, bits, 24);
    let sign = b.word(BinaryOp::And, sign, format.sign_bit());
    let signed = b.binary(BinaryOp::Or, code, sign);
    let too_large = b.word(BinaryOp::Gt, code, format.max_code());
    let beyond = match special {
        Special::Ieee => b.word(BinaryOp::Or, sign, format.max_code() + 1),
        Special::FiniteNan | Special::UnsignedZero => b.u32(format.nan_code()),
        Special::Finite => b.word(BinaryOp::Or, sign, format.max_code()),
    };
    let mut result = b.select(too_large, beyond, signed);
    if special == Special::UnsignedZero {
        let is_zero = b.word(BinaryOp::Eq, code, 0);
        result = b.choose(is_zero, 0, result);
    }
    let is_nan = b.word(BinaryOp::Gt, magnitude, INFINITY);
    b.choose(is_nan, format.nan_code(), result)
}

/// The code of NaN among the powers of two.
const NO_POWER: u32 = 255;

fn decode_power(b: &mut Builder, code: Value) -> Value {
    let bits = b.word(BinaryOp::Shl, code, 23);
    let is_first = b.word(BinaryOp::Eq, code, 0);
    // 2^-127 is no normal number.
    let bits = b.choose(is_first, 1 << 22, bits);
    let is_nan = b.word(BinaryOp::Eq, code, NO_POWER);
    b.choose(is_nan, NAN, bits)
}

/// The nearest exponent: up from the square root of two on.
fn encode_power(b: &mut Builder, bits: Value) -> Value {
    let exponent = b.word(BinaryOp::Shr, bits, 23);
    let mantissa = b.word(BinaryOp::And, bits, (1 << 23) - 1);
    let root = std::f32::consts::SQRT_2.to_bits() & ((1 << 23) - 1);
    let up = b.word(BinaryOp::Gt, mantissa, root);
    // Numbers that are not normal lie below 2^-126; their mantissa counts from 2^-149.
    let root = (std::f64::consts::FRAC_1_SQRT_2 * f64::from(1u32 << 23)) as u32;
    let up_to_normal = b.word(BinaryOp::Gt, mantissa, root);
    let is_small = b.word(BinaryOp::Eq, exponent, 0);
    let up = b.select(is_small, up_to_normal, up);
    let up = b.cast(Scalar::U32, up);
    let code = b.add(exponent, up);
    let code = b.word(BinaryOp::Min, code, NO_POWER - 1);
    // Zero, and what is negative or NaN, is no power of two.
    let before = b.word(BinaryOp::Sub, bits, 1);
    let outside = b.word(BinaryOp::Ge, before, INFINITY);
    b.choose(outside, NO_POWER, code)
}
