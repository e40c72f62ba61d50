//! Types narrower than 32 bits: their 32-bit carriers, and conversion between a carrier and the stored bits.
//!
//! A carrier holds exactly the narrow type's values: f16 and bf16 in `f32`, narrow integers in `i32` or `u32`.

use crate::ir::*;
use crate::num::{INFINITY, Num};

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
pub fn from_bits(ty: Scalar, bits: Num<'_>) -> Num<'_> {
    match ty {
        Scalar::Bool => bits.cast(Scalar::Bool),
        Scalar::F16 => f16_from_bits(bits),
        Scalar::BF16 => (bits << 16).float(),
        Scalar::I8 | Scalar::I16 => wrap(ty, bits.bitcast(Scalar::I32)),
        _ => bits.bitcast(ty.max(carrier(ty))),
    }
}

/// Stored bits of a carrier, in the low end of a `u32` whose other bits are zero.
pub fn to_bits(ty: Scalar, value: Num<'_>) -> Num<'_> {
    match ty {
        Scalar::Bool => value.cast(Scalar::U32),
        Scalar::F16 => f16_to_bits(value),
        Scalar::BF16 => bf16_to_bits(value),
        _ if ty.bytes() == 4 => value.bits(),
        _ => value.bits() & ((1 << (8 * ty.bytes())) - 1),
    }
}

/// A result computed in the carrier, rounded or wrapped to the narrow type.
pub fn round(ty: Scalar, value: Num<'_>) -> Num<'_> {
    match ty.class() {
        _ if carrier(ty) == ty => value,
        Class::Float => from_bits(ty, to_bits(ty, value)),
        _ => wrap(ty, value),
    }
}

/// A conversion to `ty`, as a carrier, of a value that is not narrow itself.
pub fn cast(ty: Scalar, value: Num<'_>) -> Num<'_> {
    let wide = value.cast(carrier(ty));
    if carrier(ty) == ty || !value.ty().is_float() || ty.is_float() {
        return round(ty, wide);
    }
    // The cast saturated at 32 bits; saturate at the narrow range.
    let width = 8 * ty.bytes();
    if ty.class() == Class::Unsigned {
        return wide.min((1 << width) - 1);
    }
    let high = (1 << (width - 1)) - 1;
    wide.min(high).max(!high)
}

fn wrap(ty: Scalar, value: Num<'_>) -> Num<'_> {
    let unused = 32 - 8 * ty.bytes();
    if ty.class() == Class::Unsigned { value & (u32::MAX >> unused) } else { value << unused >> unused }
}

fn f16_from_bits(bits: Num<'_>) -> Num<'_> {
    let sign = (bits & 0x8000) << 16;
    let size = bits & 0x7fff;
    let shifted = size << 13;
    let normal = shifted + (112 << 23);
    let tiny = (size.cast(Scalar::F32) * 2f32.powi(-24)).bits();
    let finite = size.below(0x400).choose(tiny, normal);
    let size = size.at_least(0x7c00).choose(shifted | INFINITY, finite);
    (size | sign).float()
}

fn f16_to_bits(value: Num<'_>) -> Num<'_> {
    let (bits, size) = (value.bits(), value.magnitude());
    // Normal numbers: half a unit less one, plus the last kept bit, makes ties even.
    let odd = (size >> 13) & 1;
    let normal = ((size + 0xfff + odd) >> 13) - (112 << 10);
    // Subnormal numbers: adding 0.5 puts their unit at the end of the significand.
    let tiny = (size.float() + 0.5).bits() - 0.5f32.to_bits();
    let result = size.below(0x3880_0000).choose(tiny, normal);
    let result = size.at_least(0x477f_f000).choose(0x7c00, result);
    size.above(INFINITY).choose(0x7e00, result) | ((bits >> 16) & 0x8000)
}

fn bf16_to_bits(value: Num<'_>) -> Num<'_> {
    let bits = value.bits();
    let high = bits >> 16;
    let rounded = (bits + 0x7fff + (high & 1)) >> 16;
    value.is_nan().choose(high | 0x40, rounded)
}
