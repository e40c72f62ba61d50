//! Scalar meaning: each operation on the bits of its operands.
//!
//! Floats are computed in f64 and rounded once to their type, which is correctly rounded for the arithmetic of every
//! narrower type; integers are computed in `i128` and wrapped.

use crate::ir::*;
use half::{bf16, f16};

/// The value of a float's bits.
pub fn to_f64(ty: Scalar, bits: u64) -> f64 {
    match ty {
        Scalar::F16 => f16::from_bits(bits as u16).to_f64(),
        Scalar::BF16 => bf16::from_bits(bits as u16).to_f64(),
        Scalar::F32 => f64::from(f32::from_bits(bits as u32)),
        _ => f64::from_bits(bits),
    }
}

/// The bits of a float, rounded to nearest even.
pub fn from_f64(ty: Scalar, value: f64) -> u64 {
    match ty {
        Scalar::F16 => u64::from(f16::from_f32(odd_f32(value)).to_bits()),
        Scalar::BF16 => u64::from(bf16::from_f32(odd_f32(value)).to_bits()),
        Scalar::F32 => u64::from((value as f32).to_bits()),
        _ => value.to_bits(),
    }
}

/// The nearest `f32` if exact, else the neighbour whose last bit is 1: rounding that to a type at least two bits
/// narrower gives what rounding once would.
fn odd_f32(value: f64) -> f32 {
    let near = value as f32;
    if near.is_nan() || f64::from(near) == value {
        return near;
    }
    let below = if f64::from(near).abs() > value.abs() { near.to_bits() - 1 } else { near.to_bits() };
    f32::from_bits(below | 1)
}

/// The value of an integer's (or bool's) bits.
pub fn to_integer(ty: Scalar, bits: u64) -> i128 {
    let width = 8 * ty.bytes();
    let bits = i128::from(bits);
    let negative = ty.class() == Class::Signed && (bits >> (width - 1)) & 1 == 1;
    if negative { bits - (1i128 << width) } else { bits }
}

/// The bits of an integer, wrapped.
pub fn from_integer(ty: Scalar, value: i128) -> u64 {
    (value & ((1i128 << (8 * ty.bytes())) - 1)) as u64
}

/// The smallest and largest value of an integer type.
fn range(ty: Scalar) -> (i128, i128) {
    let width = 8 * ty.bytes();
    match ty.class() {
        Class::Signed => (-(1i128 << (width - 1)), (1i128 << (width - 1)) - 1),
        _ => (0, (1i128 << width) - 1),
    }
}

/// Conversion of a value.
pub fn cast(from: Scalar, to: Scalar, bits: u64) -> u64 {
    match (from.is_float(), to.class()) {
        (true, Class::Bool) => u64::from(to_f64(from, bits) != 0.0),
        (false, Class::Bool) => u64::from(bits != 0),
        (true, Class::Float) => from_f64(to, to_f64(from, bits)),
        // Rounding an integer to f64 first would round twice on the way to f32.
        (false, Class::Float) if to == Scalar::F32 => u64::from((to_integer(from, bits) as f32).to_bits()),
        (false, Class::Float) => from_f64(to, to_integer(from, bits) as f64),
        (true, _) => {
            let (low, high) = range(to);
            from_integer(to, (to_f64(from, bits).trunc() as i128).clamp(low, high))
        }
        (false, _) => from_integer(to, to_integer(from, bits)),
    }
}

/// A function of one operand.
pub fn unary(op: UnaryOp, ty: Scalar, bits: u64) -> u64 {
    match ty.class() {
        Class::Float => match op {
            // Sign operations keep every other bit, NaN payloads included.
            UnaryOp::Neg => bits ^ (1 << (8 * ty.bytes() - 1)),
            UnaryOp::Abs => bits & !(1 << (8 * ty.bytes() - 1)),
            _ => from_f64(ty, float_function(op, to_f64(ty, bits))),
        },
        Class::Bool => bits ^ 1,
        _ => {
            let value = to_integer(ty, bits);
            let result = match op {
                UnaryOp::Neg => -value,
                UnaryOp::Abs => value.abs(),
                UnaryOp::Sign => value.signum(),
                _ => !value,
            };
            from_integer(ty, result)
        }
    }
}

fn float_function(op: UnaryOp, x: f64) -> f64 {
    match op {
        UnaryOp::Neg => -x,
        UnaryOp::Abs => x.abs(),
        UnaryOp::Sign if x == 0.0 || x.is_nan() => x,
        UnaryOp::Sign => x.signum(),
        UnaryOp::Not => f64::NAN,
        UnaryOp::Floor => x.floor(),
        UnaryOp::Ceil => x.ceil(),
        UnaryOp::Trunc => x.trunc(),
        UnaryOp::Round => x.round_ties_even(),
        UnaryOp::Sqrt => x.sqrt(),
        UnaryOp::Rsqrt => 1.0 / x.sqrt(),
        UnaryOp::Exp => x.exp(),
        UnaryOp::Expm1 => x.exp_m1(),
        UnaryOp::Log => x.ln(),
        UnaryOp::Log1p => x.ln_1p(),
        UnaryOp::Sin => x.sin(),
        UnaryOp::Cos => x.cos(),
        UnaryOp::Tan => x.tan(),
        UnaryOp::Asin => x.asin(),
        UnaryOp::Acos => x.acos(),
        UnaryOp::Atan => x.atan(),
        UnaryOp::Sinh => x.sinh(),
        UnaryOp::Cosh => x.cosh(),
        UnaryOp::Tanh => x.tanh(),
        UnaryOp::Asinh => x.abs().asinh().copysign(x),
        UnaryOp::Acosh => x.acosh(),
        UnaryOp::Atanh => x.atanh(),
        UnaryOp::Erf => erf(x),
    }
}

/// The error function to about 1e-15: Maclaurin series near 0, a continued fraction for `1 - erf` further out.
fn erf(x: f64) -> f64 {
    let size = x.abs();
    if x.is_nan() || size > 6.0 {
        return if x.is_nan() { x } else { 1f64.copysign(x) };
    }
    if size < 2.5 {
        let (mut term, mut sum) = (x, x);
        for n in 1..80 {
            term *= -x * x / f64::from(n);
            sum += term / f64::from(2 * n + 1);
        }
        return (sum * std::f64::consts::FRAC_2_SQRT_PI).copysign(x);
    }
    let tail = (1..=60).rev().fold(0.0, |tail, n| f64::from(n) / 2.0 / (size + tail));
    let complement = (-size * size).exp() / std::f64::consts::PI.sqrt() / (size + tail);
    (1.0 - complement).copysign(x)
}

/// A function of two operands; a comparison gives 0 or 1.
pub fn binary(op: BinaryOp, ty: Scalar, a: u64, b: u64) -> u64 {
    if ty.is_float() {
        let (x, y) = (to_f64(ty, a), to_f64(ty, b));
        return match compare(op, &x, &y) {
            Some(result) => u64::from(result),
            None => from_f64(ty, float_binary(op, x, y)),
        };
    }
    let (x, y) = (to_integer(ty, a), to_integer(ty, b));
    match compare(op, &x, &y) {
        Some(result) => u64::from(result),
        None => from_integer(ty, integer_binary(op, x, y, 8 * ty.bytes())),
    }
}

fn compare<T: PartialOrd>(op: BinaryOp, x: &T, y: &T) -> Option<bool> {
    Some(match op {
        BinaryOp::Eq => x == y,
        BinaryOp::Ne => x != y,
        BinaryOp::Lt => x < y,
        BinaryOp::Le => x <= y,
        BinaryOp::Gt => x > y,
        BinaryOp::Ge => x >= y,
        _ => return None,
    })
}

fn float_binary(op: BinaryOp, x: f64, y: f64) -> f64 {
    match op {
        BinaryOp::Add => x + y,
        BinaryOp::Sub => x - y,
        BinaryOp::Mul => x * y,
        BinaryOp::Div => x / y,
        BinaryOp::Rem => x % y,
        BinaryOp::Pow => x.powf(y),
        BinaryOp::Atan2 => x.atan2(y),
        BinaryOp::Min | BinaryOp::Max if x.is_nan() || y.is_nan() => f64::NAN,
        BinaryOp::Min => x.min(y),
        BinaryOp::Max => x.max(y),
        _ => f64::NAN,
    }
}

fn integer_binary(op: BinaryOp, x: i128, y: i128, width: u32) -> i128 {
    // Shift amounts are unsigned: a negative amount is a large one.
    let amount = || u32::try_from(y).ok().filter(|&amount| amount < width);
    match op {
        BinaryOp::Add => x + y,
        BinaryOp::Sub => x - y,
        BinaryOp::Mul => x.wrapping_mul(y),
        BinaryOp::Div => x.checked_div(y).unwrap_or(0),
        BinaryOp::Rem => x.checked_rem(y).unwrap_or(0),
        BinaryOp::Min => x.min(y),
        BinaryOp::Max => x.max(y),
        BinaryOp::And => x & y,
        BinaryOp::Or => x | y,
        BinaryOp::Xor => x ^ y,
        BinaryOp::Shl => amount().map_or(0, |amount| x << amount),
        BinaryOp::Shr => x >> amount().unwrap_or(width),
        _ => 0,
    }
}

/// What an atomic leaves in memory.
pub fn atomic(op: AtomicOp, ty: Scalar, old: u64, value: u64) -> u64 {
    let op = match op {
        AtomicOp::Load => return old,
        AtomicOp::Exchange => return value,
        AtomicOp::Add => BinaryOp::Add,
        AtomicOp::Min => BinaryOp::Min,
        AtomicOp::Max => BinaryOp::Max,
        AtomicOp::And => BinaryOp::And,
        AtomicOp::Or => BinaryOp::Or,
        AtomicOp::Xor => BinaryOp::Xor,
    };
    binary(op, ty, old, value)
}
