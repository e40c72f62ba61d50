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
use crate::num::{INFINITY, Num, Operand};

/// The rewrite; see the module's text.
#[derive(Debug)]
pub struct Exact;

impl Rewrite for Exact {
    fn expression(
        &mut self,
        b: &Builder,
        expr: Expr,
        ty: Scalar,
        operand: Scalar,
    ) -> Result<Value, KernelError> {
        use BinaryOp::*;
        let num = |value| b.num(value);
        let exact = match expr {
            Expr::Cast(to, x) if operand == Scalar::F32 => cast_float(num(x), to),
            // Widening copies the sign; compilers are seen that do not when the result is unsigned.
            Expr::Cast(Scalar::U64, x) if operand == Scalar::I32 => {
                num(x).cast(Scalar::I64).bitcast(Scalar::U64)
            }
            Expr::Binary(op, x, y) if op.is_comparison() && matches!(operand, Scalar::F32 | Scalar::Bool) => {
                compare(op, num(x), num(y))
            }
            Expr::Binary(op @ (Min | Max), x, y) if ty == Scalar::F32 => {
                let (x, y) = (num(x), num(y));
                ordered(x, y).choose(x.binary(op, y), f32::NAN)
            }
            Expr::Binary(op @ (Div | Rem), x, y) if ty.is_integer() => divide(op, num(x), num(y)),
            Expr::Binary(op @ (Shl | Shr), x, y) => shift(op, num(x), num(y)),
            Expr::Unary(op @ (UnaryOp::Neg | UnaryOp::Abs | UnaryOp::Sign), x) => sign(op, num(x)),
            other => num(b.emit(other)),
        };
        Ok(exact.value)
    }
}

/// All bits of an integer type.
fn all_bits(ty: Scalar) -> Literal {
    Literal { ty, bits: u64::MAX >> (64 - 8 * ty.bytes()) }
}

/// True when neither operand is NaN.
fn ordered<'b>(x: Num<'b>, y: Num<'b>) -> Num<'b> {
    x.magnitude().max(y.magnitude()).at_most(INFINITY)
}

fn compare<'b>(op: BinaryOp, x: Num<'b>, y: impl Operand<'b>) -> Num<'b> {
    let y = x.like(y);
    if x.ty() == Scalar::Bool {
        return x.cast(Scalar::U32).binary(op, y.cast(Scalar::U32));
    }
    let ordered = ordered(x, y);
    if op == BinaryOp::Ne { !ordered | x.is_not(y) } else { x.binary(op, y) & ordered }
}

fn cast_float(x: Num<'_>, to: Scalar) -> Num<'_> {
    if to == Scalar::Bool {
        return compare(BinaryOp::Ne, x, 0.0);
    }
    if !to.is_integer() {
        return x.cast(to);
    }
    let signed = to.class() == Class::Signed;
    let range = 8 * to.bytes() - u32::from(signed);
    // `limit` is the first power of two above the range; the float below it is the largest that converts.
    let limit = 2f32.powi(range as i32);
    let inside = x.max(if signed { -limit } else { 0.0 }).min(limit.next_down()).cast(to);
    let largest = Literal { ty: to, bits: u64::MAX >> (64 - range) };
    x.is_nan().choose(0, compare(BinaryOp::Ge, x, limit).choose(largest, inside))
}

fn divide<'b>(op: BinaryOp, x: Num<'b>, y: Num<'b>) -> Num<'b> {
    let minus_one = all_bits(y.ty());
    if y.b.constant_of(y.value).is_some_and(|literal| literal.bits != 0 && literal != minus_one) {
        return x.binary(op, y);
    }
    let by_zero = y.is(0);
    let divisor = by_zero.choose(1, y);
    if y.ty().class() != Class::Signed {
        return by_zero.choose(0, x.binary(op, divisor));
    }
    // Division by -1 is negation, which wraps; its remainder is 0.
    let by_minus_one = y.is(minus_one);
    let quotient = x.binary(op, by_minus_one.choose(1, divisor));
    let special = if op == BinaryOp::Div { by_minus_one.choose(0 - x, 0) } else { y.like(0) };
    (by_zero | by_minus_one).choose(special, quotient)
}

fn shift<'b>(op: BinaryOp, x: Num<'b>, y: Num<'b>) -> Num<'b> {
    let ty = x.ty();
    let width = 8 * ty.bytes();
    let known = x.b.constant_of(y.value).map(|literal| literal.bits);
    let largest =
        known.unwrap_or_else(|| if ty == Scalar::U32 { x.b.upper_bound(y.value) } else { u64::MAX });
    if largest < u64::from(width) {
        return x.binary(op, y);
    }
    let amount = y.bitcast(if width == 64 { Scalar::U64 } else { Scalar::U32 });
    let shifted = x.binary(op, amount.min(width - 1).bitcast(ty));
    if op == BinaryOp::Shr && ty.class() == Class::Signed {
        return shifted;
    }
    amount.above(width - 1).choose(0, shifted)
}

fn sign(op: UnaryOp, x: Num<'_>) -> Num<'_> {
    match (op, x.ty().class()) {
        (UnaryOp::Neg, Class::Signed | Class::Unsigned) => 0 - x,
        (UnaryOp::Abs, Class::Unsigned) => x,
        (UnaryOp::Abs, Class::Signed) => x.max(0 - x),
        (UnaryOp::Sign, Class::Unsigned) => x.min(1),
        (UnaryOp::Sign, Class::Signed) => x.min(1).max(all_bits(x.ty())),
        (UnaryOp::Sign, _) => {
            let below = compare(BinaryOp::Lt, x, 0.0).choose(-1.0, x);
            compare(BinaryOp::Gt, x, 0.0).choose(1.0, below)
        }
        // The sign bit alone, so that NaN and zero keep their other bits.
        (UnaryOp::Neg, _) => x.negate(),
        _ => x.abs(),
    }
}
