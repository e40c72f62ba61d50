//! The defined meaning of operations that a language leaves open, on 32- and 64-bit integers and `f32`.
//!
//! - Comparisons, `min`, `max` and `sign` on `f32` test for NaN by its bits: a compiler may assume that floats are
//!   not NaN.
//! - Casts from `f32` to integers saturate, NaN gives 0.
//! - Integer division and remainder by zero give 0, `MIN / -1` wraps, large shifts give 0 (or the sign).
//! - An `i32` becomes a `u64` by way of `i64`.
//! - Unsigned `neg`, `abs` and `sign` become arithmetic that every language has.

use super::Rewrite;
use crate::builder::Builder;
use crate::error::KernelError;
use crate::ir::*;

/// The rewrite; see the module's text.
#[derive(Debug)]
pub struct Exact;

impl Rewrite for Exact {
    fn expression(
        &mut self,
        b: &mut Builder,
        expr: Expr,
        ty: Scalar,
        operand: Scalar,
    ) -> Result<Value, KernelError> {
        Ok(match expr {
            Expr::Cast(to, a) if operand == Scalar::F32 => cast_float(b, to, a),
            // Widening copies the sign; compilers are seen that do not when the result is unsigned.
            Expr::Cast(Scalar::U64, a) if operand == Scalar::I32 => {
                let wide = b.cast(Scalar::I64, a);
                b.bitcast(Scalar::U64, wide)
            }
            Expr::Binary(op, x, y) if op.is_comparison() && matches!(operand, Scalar::F32 | Scalar::Bool) => {
                compare(b, op, x, y)
            }
            Expr::Binary(op @ (BinaryOp::Min | BinaryOp::Max), x, y) if ty == Scalar::F32 => {
                select_extreme(b, op, x, y)
            }
            Expr::Binary(op @ (BinaryOp::Div | BinaryOp::Rem), x, y) if ty.is_integer() => {
                divide(b, op, x, y)
            }
            Expr::Binary(op @ (BinaryOp::Shl | BinaryOp::Shr), x, y) => shift(b, op, x, y),
            Expr::Unary(op @ (UnaryOp::Neg | UnaryOp::Abs | UnaryOp::Sign), x) => sign(b, op, x),
            other => b.emit(other),
        })
    }
}

fn zero(b: &mut Builder, ty: Scalar) -> Value {
    b.literal(ty, 0)
}

/// The bits of an `f32` without its sign.
pub(super) fn magnitude(b: &mut Builder, x: Value) -> Value {
    let bits = b.bitcast(Scalar::U32, x);
    let mask = b.u32(0x7fff_ffff);
    b.and(bits, mask)
}

/// True when neither operand is NaN.
fn ordered(b: &mut Builder, x: Value, y: Value) -> Value {
    let (x, y) = (magnitude(b, x), magnitude(b, y));
    let larger = b.binary(BinaryOp::Max, x, y);
    let infinity = b.u32(0x7f80_0000);
    b.binary(BinaryOp::Le, larger, infinity)
}

/// True when `x` is NaN.
pub(super) fn is_nan(b: &mut Builder, x: Value) -> Value {
    let (size, infinity) = (magnitude(b, x), b.u32(0x7f80_0000));
    b.binary(BinaryOp::Gt, size, infinity)
}

fn compare(b: &mut Builder, op: BinaryOp, x: Value, y: Value) -> Value {
    if b.type_of(x) == Scalar::Bool {
        let (x, y) = (b.cast(Scalar::U32, x), b.cast(Scalar::U32, y));
        return b.binary(op, x, y);
    }
    let ordered = ordered(b, x, y);
    if op == BinaryOp::Ne {
        let unordered = b.unary(UnaryOp::Not, ordered);
        let differ = b.binary(BinaryOp::Ne, x, y);
        return b.binary(BinaryOp::Or, differ, unordered);
    }
    let result = b.binary(op, x, y);
    b.and(result, ordered)
}

fn select_extreme(b: &mut Builder, op: BinaryOp, x: Value, y: Value) -> Value {
    let ordered = ordered(b, x, y);
    let extreme = b.binary(op, x, y);
    let nan = b.f32(f32::NAN);
    b.select(ordered, extreme, nan)
}

fn cast_float(b: &mut Builder, to: Scalar, x: Value) -> Value {
    if to == Scalar::Bool {
        let zero = b.f32(0.0);
        return compare(b, BinaryOp::Ne, x, zero);
    }
    if !to.is_integer() {
        return b.cast(to, x);
    }
    let width = 8 * to.bytes() as i32;
    let signed = to.class() == Class::Signed;
    // `limit` is the first power of two above the range; the float below it is the largest that converts.
    let limit = 2f32.powi(if signed { width - 1 } else { width });
    let low = b.f32(if signed { -limit } else { 0.0 });
    let high = b.f32(limit.next_down());
    let limit = b.f32(limit);
    let clamped = b.binary(BinaryOp::Max, x, low);
    let clamped = b.binary(BinaryOp::Min, clamped, high);
    let inside = b.cast(to, clamped);
    let above = compare(b, BinaryOp::Ge, x, limit);
    let largest = b.literal(to, u64::MAX >> (64 - width + i32::from(signed)));
    let result = b.select(above, largest, inside);
    let nan = is_nan(b, x);
    let zero = zero(b, to);
    b.select(nan, zero, result)
}

fn divide(b: &mut Builder, op: BinaryOp, x: Value, y: Value) -> Value {
    let ty = b.type_of(y);
    if b.constant_of(y)
        .is_some_and(|literal| literal.bits != 0 && literal.bits != u64::MAX >> (64 - 8 * ty.bytes()))
    {
        return b.binary(op, x, y);
    }
    let (zero, one) = (zero(b, ty), b.literal(ty, 1));
    let mut by_zero = b.binary(BinaryOp::Eq, y, zero);
    let mut safe = b.select(by_zero, one, y);
    let mut special = zero;
    if ty.class() == Class::Signed {
        // Division by -1 is negation, which wraps; its remainder is 0.
        let all = b.literal(ty, u64::MAX >> (64 - 8 * ty.bytes()));
        let by_minus_one = b.binary(BinaryOp::Eq, y, all);
        safe = b.select(by_minus_one, one, safe);
        let negated = b.sub(zero, x);
        if op == BinaryOp::Div {
            special = b.select(by_minus_one, negated, zero);
        }
        by_zero = b.binary(BinaryOp::Or, by_zero, by_minus_one);
    }
    let result = b.binary(op, x, safe);
    b.select(by_zero, special, result)
}

fn shift(b: &mut Builder, op: BinaryOp, x: Value, y: Value) -> Value {
    let ty = b.type_of(x);
    let width = 8 * ty.bytes();
    let known = b.constant_of(y).map(|literal| literal.bits);
    let largest = known.unwrap_or_else(|| if ty == Scalar::U32 { b.upper_bound(y) } else { u64::MAX });
    if largest < u64::from(width) {
        return b.binary(op, x, y);
    }
    let unsigned = if width == 64 { Scalar::U64 } else { Scalar::U32 };
    let amount = b.bitcast(unsigned, y);
    let largest = b.literal(unsigned, u64::from(width - 1));
    let clamped = b.binary(BinaryOp::Min, amount, largest);
    let clamped = b.bitcast(ty, clamped);
    let result = b.binary(op, x, clamped);
    if op == BinaryOp::Shr && ty.class() == Class::Signed {
        return result;
    }
    let over = b.binary(BinaryOp::Gt, amount, largest);
    let zero = zero(b, ty);
    b.select(over, zero, result)
}

fn sign(b: &mut Builder, op: UnaryOp, x: Value) -> Value {
    let ty = b.type_of(x);
    let zero = zero(b, ty);
    match (op, ty.class()) {
        (UnaryOp::Neg, Class::Signed | Class::Unsigned) => b.sub(zero, x),
        (UnaryOp::Abs, Class::Unsigned) => x,
        (UnaryOp::Abs, Class::Signed) => {
            let negated = b.sub(zero, x);
            b.binary(BinaryOp::Max, x, negated)
        }
        (UnaryOp::Sign, Class::Unsigned) => {
            let one = b.literal(ty, 1);
            b.binary(BinaryOp::Min, x, one)
        }
        (UnaryOp::Sign, Class::Signed) => {
            let (one, minus_one) = (b.literal(ty, 1), b.literal(ty, u64::MAX >> (64 - 8 * ty.bytes())));
            let x = b.binary(BinaryOp::Min, x, one);
            b.binary(BinaryOp::Max, x, minus_one)
        }
        (UnaryOp::Sign, _) => {
            let (one, minus_one) = (b.f32(1.0), b.f32(-1.0));
            let above = compare(b, BinaryOp::Gt, x, zero);
            let below = compare(b, BinaryOp::Lt, x, zero);
            let rest = b.select(below, minus_one, x);
            b.select(above, one, rest)
        }
        // The sign bit alone, so that NaN and zero keep their other bits.
        (UnaryOp::Neg, _) => {
            let (bits, mask) = (b.bitcast(Scalar::U32, x), b.u32(0x8000_0000));
            let flipped = b.binary(BinaryOp::Xor, bits, mask);
            b.bitcast(Scalar::F32, flipped)
        }
        _ => {
            let size = magnitude(b, x);
            b.bitcast(Scalar::F32, size)
        }
    }
}
