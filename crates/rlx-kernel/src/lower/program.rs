//! Scalar programs as kernel statements.

use super::emitter::Emitter;
use super::{register, small_float, storage};
use crate::error::KernelError;
use crate::ir::*;
use crate::num::Num;
use rlx_ir::{DType, ScalarKind, ScalarOp, ScalarProgram};

/// Emits a program; inputs and outputs are in their compute types.
pub(super) fn emit_program(
    e: &Emitter<'_>,
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
                let args: Vec<Num<'_>> = args.into_iter().map(|arg| e.b.num(arg)).collect();
                let result = emit_op(op, &args, from, instr.dtype);
                result.ok_or_else(|| e.refuse(format!("{} of {from}", op.name())))?.value
            }
        });
    }
    Ok(program.outputs.iter().map(|&output| values[output as usize]).collect())
}

/// `None` for a primitive that kernels do not have on this dtype.
fn emit_op<'b>(op: ScalarOp, args: &[Num<'b>], from: DType, to: DType) -> Option<Num<'b>> {
    let (ty, stored) = (register(to)?, storage(to)?);
    Some(match (op, args) {
        (ScalarOp::Select, &[condition, yes, no]) => condition.choose(yes, no),
        // Round to both types, whatever precision the registers keep.
        (ScalarOp::Cast, &[x]) => round(to, round(from, x)?)?,
        (ScalarOp::Bitcast, &[x]) => {
            let x = small_float::encode(from, x).cast(storage(from)?).bitcast(stored);
            small_float::decode(to, x).cast(ty)
        }
        (ScalarOp::Floor | ScalarOp::Ceil | ScalarOp::Trunc | ScalarOp::Round, &[x]) if ty.is_integer() => x,
        (ScalarOp::Pow, &[x, y]) if ty.is_integer() => integer_power(x, y),
        (op, &[x]) => x.unary(*UnaryOp::ALL.iter().find(|unary| unary.name() == op.name())?),
        (op, &[x, y]) => x.binary(*BinaryOp::ALL.iter().find(|binary| binary.name() == op.name())?, y),
        _ => return None,
    })
}

/// A value as `dtype` stores it, in the type that computes it.
fn round(dtype: DType, x: Num<'_>) -> Option<Num<'_>> {
    let x = small_float::encode(dtype, x).cast(storage(dtype)?);
    Some(small_float::decode(dtype, x).cast(register(dtype)?))
}

/// Wrapping power by squaring; a negative exponent gives the truncated quotient.
fn integer_power<'b>(x: Num<'b>, y: Num<'b>) -> Num<'b> {
    let (result, square) = (x.like(1).local("power"), x.local("square"));
    let negative = y.below(0);
    // A negative exponent leaves only the sign of its parity; the loop does not run for it.
    let rest = negative.choose(0, y).local("rest");
    x.b.repeat(
        |_| rest.get().is_not(0).value,
        |_| {
            let (now, product, base) = (rest.get(), result.get(), square.get());
            result.set((now & 1).is_not(0).choose(product * base, product));
            square.set(base * base);
            rest.set(now >> 1);
        },
    );
    let minus_one = !x.like(0);
    let sign = (y & 1).is(0).choose(1, minus_one);
    let inverse = x.is(1).choose(1, x.is(minus_one).choose(sign, 0));
    negative.choose(inverse, result.get())
}
