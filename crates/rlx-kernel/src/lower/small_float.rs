//! 8-bit floats: stored as bytes, computed as `f32`.
//!
//! Conversions work on the bits of an `f32`, so that they do not depend on what a device does with numbers too small
//! for a normal `f32`. They round as `rlx_ir::number` does.

use crate::ir::Scalar;
use crate::num::{INFINITY, Num};
use rlx_ir::DType;
use rlx_ir::number::{MiniFloat, Special, mini_float};

const NAN: u32 = 0x7fc0_0000;

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
pub(super) fn decode(dtype: DType, value: Num<'_>) -> Num<'_> {
    match coding(dtype) {
        None => value,
        Some(Coding::Signed(format)) => decode_signed(&format, value.cast(Scalar::U32)).float(),
        Some(Coding::Powers) => decode_power(value.cast(Scalar::U32)).float(),
    }
}

/// The byte nearest to an `f32`, ties to even; any other value as it is.
pub(super) fn encode(dtype: DType, value: Num<'_>) -> Num<'_> {
    let Some(coding) = coding(dtype) else { return value };
    let bits = value.cast(Scalar::F32).bits();
    let code = match coding {
        Coding::Signed(format) => encode_signed(&format, bits),
        Coding::Powers => encode_power(bits),
    };
    code.cast(Scalar::U8)
}

fn decode_signed<'b>(format: &MiniFloat, code: Num<'b>) -> Num<'b> {
    let MiniFloat { mantissa_bits, bias, special, .. } = *format;
    let magnitude = code & (format.sign_bit() - 1);
    let normal = (magnitude << (23 - mantissa_bits)) + (((127 - bias) as u32) << 23);
    // Below the normal numbers, the code counts units.
    let small = (magnitude.cast(Scalar::F32) * 2f32.powi(1 - bias - mantissa_bits as i32)).bits();
    let mut bits = magnitude.below(1 << mantissa_bits).choose(small, normal);
    if special == Special::Ieee {
        bits = magnitude.is(format.max_code() + 1).choose(INFINITY, bits);
    }
    let bits = bits | ((code & format.sign_bit()) << 24);
    let is_nan = match special {
        Special::Ieee => magnitude.above(format.max_code() + 1),
        Special::FiniteNan => magnitude.is(format.nan_code()),
        Special::UnsignedZero => code.is(format.nan_code()),
        Special::Finite => return bits,
    };
    is_nan.choose(NAN, bits)
}

fn encode_signed<'b>(format: &MiniFloat, bits: Num<'b>) -> Num<'b> {
    let MiniFloat { mantissa_bits, bias, special, .. } = *format;
    let magnitude = bits & i32::MAX as u32;
    let dropped = 23 - mantissa_bits;
    // Half of what is dropped, less one where the last kept bit is even, carries into the kept bits.
    let last = (magnitude >> dropped) & 1;
    let rounded = magnitude + ((1 << (dropped - 1)) - 1) + last;
    let normal = (rounded >> dropped) - (((127 - bias) as u32) << mantissa_bits);
    // Below the normal numbers, the code counts units; adding 2^23 rounds to a whole count.
    let count = magnitude.float() * 2f32.powi(bias - 1 + mantissa_bits as i32) + 8_388_608.0;
    let small = count.bits() - 8_388_608f32.to_bits();
    let code = magnitude.below(((128 - bias) as u32) << 23).choose(small, normal);
    let sign = (bits >> 24) & format.sign_bit();
    let beyond = match special {
        Special::Ieee => sign | (format.max_code() + 1),
        Special::FiniteNan | Special::UnsignedZero => code.like(format.nan_code()),
        Special::Finite => sign | format.max_code(),
    };
    let mut result = code.above(format.max_code()).choose(beyond, code | sign);
    if special == Special::UnsignedZero {
        result = code.is(0).choose(0, result);
    }
    magnitude.above(INFINITY).choose(format.nan_code(), result)
}

/// The code of NaN among the powers of two.
const NO_POWER: u32 = 255;

fn decode_power(code: Num<'_>) -> Num<'_> {
    // 2^-127 is no normal number.
    let bits = code.is(0).choose(1 << 22, code << 23);
    code.is(NO_POWER).choose(NAN, bits)
}

/// The nearest exponent: up from the square root of two on.
fn encode_power(bits: Num<'_>) -> Num<'_> {
    let exponent = bits >> 23;
    let mantissa = bits & ((1 << 23) - 1);
    let root = std::f32::consts::SQRT_2.to_bits() & ((1 << 23) - 1);
    // Numbers that are not normal lie below 2^-126; their mantissa counts from 2^-149.
    let root_of_small = (std::f64::consts::FRAC_1_SQRT_2 * f64::from(1u32 << 23)) as u32;
    let up = exponent.is(0).choose(mantissa.above(root_of_small), mantissa.above(root));
    let code = (exponent + up.cast(Scalar::U32)).min(NO_POWER - 1);
    // Zero, and what is negative or NaN, is no power of two.
    (bits - 1).at_least(INFINITY).choose(NO_POWER, code)
}
