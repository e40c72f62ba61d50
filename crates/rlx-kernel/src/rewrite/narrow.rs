//! Types narrower than 32 bits: their 32-bit carriers, and conversion between a carrier and the stored bits.
//!
//! A carrier holds exactly the narrow type's values: f16 and bf16 in `f32`, narrow integers in `i32` or `u32`.

use crate::builder::Builder;
use crate::ir::*;

/// The type that carries values of `ty` in registers and workgroup arrays; `ty` itself when it is not narrow.
pub fn carrier(ty: Scalar) -> Scalar {
    match (ty.class(), ty.bytes()) {
        (Class::Bool, _) | (_, 4 | 8) => ty,
        (Class::Float, _) => Scalar::F32,
        (Class::Signed, _) => Scalar::I32,
        (Class::Unsigned, _) => Scalar::U32,
    }
}

/// Carrier from the stored bits, given in the low end of a `u32` whose other bits are zero.
pub fn from_bits(b: &mut Builder, ty: Scalar, bits: Value) -> Value {
    match ty {
        Scalar::Bool => b.cast(Scalar::Bool, bits),
        Scalar::F16 => f16_from_bits(b, bits),
        Scalar::BF16 => {
            let sixteen = b.u32(16);
            let wide = b.binary(BinaryOp::Shl, bits, sixteen);
            b.bitcast(Scalar::F32, wide)
        }
        Scalar::I8 | Scalar::I16 => {
            let signed = b.bitcast(Scalar::I32, bits);
            wrap(b, ty, signed)
        }
        _ => b.bitcast(ty.max(carrier(ty)), bits),
    }
}

/// Stored bits of a carrier, in the low end of a `u32` whose other bits are zero.
pub fn to_bits(b: &mut Builder, ty: Scalar, value: Value) -> Value {
    match ty {
        Scalar::Bool => b.cast(Scalar::U32, value),
        Scalar::F16 => f16_to_bits(b, value),
        Scalar::BF16 => bf16_to_bits(b, value),
        _ => {
            let bits = b.bitcast(Scalar::U32, value);
            if ty.bytes() == 4 {
                return bits;
            }
            let mask = b.u32((1 << (8 * ty.bytes())) - 1);
            b.and(bits, mask)
        }
    }
}

/// A result computed in the carrier, rounded or wrapped to the narrow type.
pub fn round(b: &mut Builder, ty: Scalar, value: Value) -> Value {
    match ty.class() {
        _ if carrier(ty) == ty => value,
        Class::Float => {
            let bits = to_bits(b, ty, value);
            from_bits(b, ty, bits)
        }
        _ => wrap(b, ty, value),
    }
}

/// A conversion to `ty`, as a carrier, of a value that is not narrow itself.
pub fn cast(b: &mut Builder, ty: Scalar, value: Value) -> Value {
    let from_float = b.type_of(value).is_float();
    let wide = b.cast(carrier(ty), value);
    if carrier(ty) == ty || !from_float || ty.is_float() {
        return round(b, ty, wide);
    }
    // The cast saturated at 32 bits; saturate at the narrow range.
    let width = 8 * ty.bytes();
    if ty.class() == Class::Unsigned {
        let high = b.u32((1 << width) - 1);
        return b.binary(BinaryOp::Min, wide, high);
    }
    let (low, high) = (b.i32(-(1 << (width - 1))), b.i32((1 << (width - 1)) - 1));
    let wide = b.binary(BinaryOp::Min, wide, high);
    b.binary(BinaryOp::Max, wide, low)
}

fn wrap(b: &mut Builder, ty: Scalar, value: Value) -> Value {
    if ty.class() == Class::Unsigned {
        let mask = b.u32((1 << (8 * ty.bytes())) - 1);
        return b.and(value, mask);
    }
    let unused = b.i32(32 - 8 * ty.bytes() as i32);
    let high = b.binary(BinaryOp::Shl, value, unused);
    b.binary(BinaryOp::Shr, high, unused)
}

fn f16_from_bits(b: &mut Builder, bits: Value) -> Value {
    let (sign_mask, size_mask) = (b.u32(0x8000), b.u32(0x7fff));
    let (thirteen, sixteen) = (b.u32(13), b.u32(16));
    let sign = b.and(bits, sign_mask);
    let sign = b.binary(BinaryOp::Shl, sign, sixteen);
    let size = b.and(bits, size_mask);
    let shifted = b.binary(BinaryOp::Shl, size, thirteen);
    let bias = b.u32(112 << 23);
    let normal = b.add(shifted, bias);
    let infinity = b.u32(0x7f80_0000);
    let special = b.binary(BinaryOp::Or, shifted, infinity);
    let as_float = b.cast(Scalar::F32, size);
    let unit = b.f32(2f32.powi(-24));
    let tiny = b.mul(as_float, unit);
    let tiny = b.bitcast(Scalar::U32, tiny);
    let (first_normal, first_special) = (b.u32(0x400), b.u32(0x7c00));
    let is_tiny = b.lt(size, first_normal);
    let is_special = b.binary(BinaryOp::Ge, size, first_special);
    let finite = b.select(is_tiny, tiny, normal);
    let size = b.select(is_special, special, finite);
    let bits = b.binary(BinaryOp::Or, size, sign);
    b.bitcast(Scalar::F32, bits)
}

fn f16_to_bits(b: &mut Builder, value: Value) -> Value {
    let bits = b.bitcast(Scalar::U32, value);
    let size_mask = b.u32(0x7fff_ffff);
    let size = b.and(bits, size_mask);
    let (thirteen, sixteen, one) = (b.u32(13), b.u32(16), b.u32(1));
    let sign = b.binary(BinaryOp::Shr, bits, sixteen);
    let sign_mask = b.u32(0x8000);
    let sign = b.and(sign, sign_mask);
    // Normal numbers: half a unit less one, plus the last kept bit, makes ties even.
    let shifted = b.binary(BinaryOp::Shr, size, thirteen);
    let odd = b.and(shifted, one);
    let half = b.u32(0xfff);
    let rounded = b.add(size, half);
    let rounded = b.add(rounded, odd);
    let rounded = b.binary(BinaryOp::Shr, rounded, thirteen);
    let bias = b.u32(112 << 10);
    let normal = b.sub(rounded, bias);
    // Subnormal numbers: adding 0.5 puts their unit at the end of the significand.
    let as_float = b.bitcast(Scalar::F32, size);
    let half = b.f32(0.5);
    let aligned = b.add(as_float, half);
    let aligned = b.bitcast(Scalar::U32, aligned);
    let half = b.u32(0.5f32.to_bits());
    let tiny = b.sub(aligned, half);
    let (first_normal, overflow) = (b.u32(0x3880_0000), b.u32(0x477f_f000));
    let is_tiny = b.lt(size, first_normal);
    let result = b.select(is_tiny, tiny, normal);
    let is_overflow = b.binary(BinaryOp::Ge, size, overflow);
    let infinity = b.u32(0x7c00);
    let result = b.select(is_overflow, infinity, result);
    let wide_infinity = b.u32(0x7f80_0000);
    let is_nan = b.binary(BinaryOp::Gt, size, wide_infinity);
    let nan = b.u32(0x7e00);
    let result = b.select(is_nan, nan, result);
    b.binary(BinaryOp::Or, result, sign)
}

fn bf16_to_bits(b: &mut Builder, value: Value) -> Value {
    let bits = b.bitcast(Scalar::U32, value);
    let (sixteen, one, half) = (b.u32(16), b.u32(1), b.u32(0x7fff));
    let high = b.binary(BinaryOp::Shr, bits, sixteen);
    let odd = b.and(high, one);
    let rounded = b.add(bits, half);
    let rounded = b.add(rounded, odd);
    let rounded = b.binary(BinaryOp::Shr, rounded, sixteen);
    let (size_mask, infinity, quiet) = (b.u32(0x7fff_ffff), b.u32(0x7f80_0000), b.u32(0x40));
    let size = b.and(bits, size_mask);
    let is_nan = b.binary(BinaryOp::Gt, size, infinity);
    let nan = b.binary(BinaryOp::Or, high, quiet);
    b.select(is_nan, nan, rounded)
}
