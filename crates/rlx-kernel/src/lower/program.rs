//! Scalar programs as kernel statements.

use super::emitter::Emitter;
use super::{register, small_float, storage};
use crate::builder::Builder;
use crate::error::KernelError;
use crate::ir::*;
use rlx_ir::{DType, ScalarKind, ScalarOp, ScalarProgram};

/// Emits a program; inputs and outputs are in their compute types.
pub(super) fn emit_program(
    e: &mut Emitter<'_>,
    program: &ScalarProgram,
    inputs: &[Value],
    coordinates: &[Value],
) -> Result<Vec<Value>, KernelError> {
    let mut values = inputs.to_vec();
    let dtypes: Vec<DType> =
        program.inputs.iter().copied().chain(program.instrs.iter().map(|instr| instr.dtype)).collect();
    for instr in &program.instrs {
        let ty = e.register(instr.dtype)?;
        let args: Vec<Value> = instr.args.iter().map(|&arg| values[arg as usize]).collect();
        values.push(match instr.kind {
            ScalarKind::Float(bits) if ty == Scalar::F64 => e.b.literal(ty, bits),
            ScalarKind::Float(bits) => e.b.f32(f64::from_bits(bits) as f32),
            ScalarKind::Int(value) => {
                let mask = u64::MAX >> (64 - 8 * ty.bytes());
                e.b.literal(ty, value as u64 & mask)
            }
            ScalarKind::Index(axis) => e.b.cast(Scalar::I64, coordinates[axis as usize]),
            ScalarKind::Op(op) => {
                let from = instr.args.first().map_or(instr.dtype, |&arg| dtypes[arg as usize]);
                emit_op(&mut e.b, op, &args, from, instr.dtype)
                    .ok_or_else(|| e.refuse(format!("{} of {from}", op.name())))?
            }
        });
    }
    Ok(program.outputs.iter().map(|&output| values[output as usize]).collect())
}

/// `None` for a primitive that kernels do not have on this dtype.
fn emit_op(b: &mut Builder, op: ScalarOp, args: &[Value], from: DType, to: DType) -> Option<Value> {
    let (ty, stored) = (register(to)?, storage(to)?);
    Some(match (op, args) {
        (ScalarOp::Select, &[condition, yes, no]) => b.select(condition, yes, no),
        (ScalarOp::Cast, &[x]) => {
            // Round to both types, whatever precision the registers keep.
            let x = round(b, from, x)?;
            round(b, to, x)?
        }
        (ScalarOp::Bitcast, &[x]) => {
            let x = small_float::encode(b, from, x);
            let x = b.cast(storage(from)?, x);
            let x = b.bitcast(stored, x);
            let x = small_float::decode(b, to, x);
            b.cast(ty, x)
        }
        (ScalarOp::Floor | ScalarOp::Ceil | ScalarOp::Trunc | ScalarOp::Round, &[x]) if ty.is_integer() => x,
        (ScalarOp::Pow, &[x, y]) if ty.is_integer() => integer_power(b, x, y),
        (op, &[x]) => {
            let unary = UnaryOp::ALL.iter().find(|unary| unary.name() == op.name())?;
            b.unary(*unary, x)
        }
        (op, &[x, y]) => {
            let binary = BinaryOp::ALL.iter().find(|binary| binary.name() == op.name())?;
            b.binary(*binary, x, y)
        }
        _ => return None,
    })
}

/// A value as `dtype` stores it, in the type that computes it.
fn round(b: &mut Builder, dtype: DType, x: Value) -> Option<Value> {
    let x = small_float::encode(b, dtype, x);
    let x = b.cast(storage(dtype)?, x);
    let x = small_float::decode(b, dtype, x);
    Some(b.cast(register(dtype)?, x))
}

/// Wrapping power by squaring; a negative exponent gives the truncated quotient.
fn integer_power(b: &mut Builder, x: Value, y: Value) -> Value {
    let ty = b.type_of(x);
    let (zero, one) = (b.literal(ty, 0), b.literal(ty, 1));
    let unique = b.kernel().variables.len();
    let result = b.variable_of(format!("power{unique}"), one);
    let square = b.variable_of(format!("square{unique}"), x);
    let negative = b.lt(y, zero);
    let parity = b.and(y, one);
    // A negative exponent leaves only the sign of its parity; the loop does not run for it.
    let exponent = b.select(negative, zero, y);
    let rest = b.variable_of(format!("rest{unique}"), exponent);
    b.repeat(
        |b| {
            let rest = b.get(rest);
            b.binary(BinaryOp::Ne, rest, zero)
        },
        |b| {
            let (now, product, base) = (b.get(rest), b.get(result), b.get(square));
            let low = b.and(now, one);
            let odd = b.binary(BinaryOp::Ne, low, zero);
            let next = b.mul(product, base);
            let next = b.select(odd, next, product);
            b.set(result, next);
            let squared = b.mul(base, base);
            b.set(square, squared);
            let halved = b.binary(BinaryOp::Shr, now, one);
            b.set(rest, halved);
        },
    );
    let power = b.get(result);
    let is_one = b.binary(BinaryOp::Eq, x, one);
    let minus_one = b.unary(UnaryOp::Not, zero);
    let is_minus_one = b.binary(BinaryOp::Eq, x, minus_one);
    let even = b.binary(BinaryOp::Eq, parity, zero);
    let sign = b.select(even, one, minus_one);
    let inverse = b.select(is_minus_one, sign, zero);
    let inverse = b.select(is_one, one, inverse);
    b.select(negative, inverse, power)
}
