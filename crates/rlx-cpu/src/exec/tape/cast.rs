//! Conversions between dtypes, with the reference's meaning: floats round to
//! nearest even, integers truncate, floats saturate into integers.

use super::{Class, Element, Instr, Operands, Target, class_of, each, integer};
use crate::kernels::Context;
use crate::kernels::convert::Half;
use half::{bf16, f16};
use rlx_ir::number::{decode, encode};
use rlx_ir::{DType, Number};

pub(super) fn cast(context: Context<'_>, instr: &Instr, operands: Operands<'_>, target: Target<'_>) {
    let (from, to) = (instr.from, instr.to);
    let slot = instr.args[0];
    match (class_of(from), target) {
        (Some(Class::F32), Target::F32(t)) => round_floats(context, to, operands.each(slot), t),
        (Some(Class::F32), Target::F64(t)) => {
            each!(context, t, [x = operands.each::<f32>(slot)] f64::from(x));
        }
        (Some(Class::F64), Target::F32(t)) if to == DType::F32 => {
            each!(context, t, [x = operands.each::<f64>(slot)] x as f32);
        }
        (Some(Class::I32), Target::F32(t)) if to == DType::F32 => {
            each!(context, t, [x = operands.each::<i32>(slot)] x as f32);
        }
        (Some(Class::I64), Target::F32(t)) if to == DType::F32 && from != DType::U64 => {
            each!(context, t, [x = operands.each::<i64>(slot)] x as f32);
        }
        (Some(Class::I32), Target::I64(t)) if to == DType::I64 => {
            each!(context, t, [x = operands.each::<i32>(slot)] i64::from(x));
        }
        (Some(Class::F32), Target::I32(t)) if to == DType::I32 => {
            each!(context, t, [x = operands.each::<f32>(slot)] x as i32);
        }
        (Some(Class::F32), Target::I64(t)) if to == DType::I64 => {
            each!(context, t, [x = operands.each::<f32>(slot)] x as i64);
        }
        (Some(Class::I64), Target::I32(t)) if to == DType::I32 => {
            each!(context, t, [x = operands.each::<i64>(slot)] x as i32);
        }
        (Some(Class::I32), Target::I32(t)) => {
            each!(context, t, [x = operands.each::<i32>(slot)] integer::wrap32(to, x));
        }
        (_, target) => one_by_one(instr, operands, target, |number| number.cast(to)),
    }
}

/// Rounds floats to a narrower dtype and widens them again.
fn round_floats(context: Context<'_>, to: DType, from: &[f32], t: &mut [f32]) {
    match to {
        DType::F16 => round_halves::<f16>(context, from, t),
        DType::BF16 => round_halves::<bf16>(context, from, t),
        DType::F32 => t.copy_from_slice(&from[..t.len()]),
        _ => {
            for (t, &x) in t.iter_mut().zip(from) {
                *t = Number::Float(f64::from(x)).cast(to).as_f64().unwrap_or(f64::NAN) as f32;
            }
        }
    }
}

fn round_halves<H: Half + Default>(context: Context<'_>, from: &[f32], t: &mut [f32]) {
    context.dispatch(super::Vectorised(
        #[inline(always)]
        || {
            let mut halves = [H::default(); 64];
            for (t, from) in t.chunks_mut(64).zip(from.chunks(64)) {
                let halves = &mut halves[..t.len()];
                H::narrow_slice(&from[..t.len()], halves);
                H::widen_slice(halves, t);
            }
        },
    ));
}

pub(super) fn bitcast(instr: &Instr, operands: Operands<'_>, target: Target<'_>) {
    one_by_one(instr, operands, target, |number| {
        let mut bytes = [0u8; 16];
        encode(instr.from, number, &mut bytes);
        decode(instr.to, &bytes)
    });
}

/// Applies `function` to each element as a number.
fn one_by_one(
    instr: &Instr,
    operands: Operands<'_>,
    target: Target<'_>,
    function: impl Fn(Number) -> Number,
) {
    let slot = instr.args[0];
    match class_of(instr.from) {
        Some(Class::F32) => {
            each_number(operands.each::<f32>(slot), |x| function(Number::Float(f64::from(x))), target);
        }
        Some(Class::F64) => each_number(operands.each::<f64>(slot), |x| function(Number::Float(x)), target),
        Some(Class::I32) => {
            each_number(operands.each::<i32>(slot), |x| function(Number::Int(i128::from(x))), target);
        }
        _ if instr.from == DType::U64 => {
            each_number(operands.each(slot), |x: i64| function(Number::Int(i128::from(x as u64))), target);
        }
        _ => each_number(operands.each(slot), |x: i64| function(Number::Int(i128::from(x))), target),
    }
}

fn each_number<T: Element>(values: &[T], number: impl Fn(T) -> Number, target: Target<'_>) {
    match target {
        Target::F32(t) => t.iter_mut().zip(values).for_each(|(t, &x)| *t = float(number(x)) as f32),
        Target::F64(t) => t.iter_mut().zip(values).for_each(|(t, &x)| *t = float(number(x))),
        Target::I32(t) => t.iter_mut().zip(values).for_each(|(t, &x)| *t = int(number(x)) as i32),
        Target::I64(t) => t.iter_mut().zip(values).for_each(|(t, &x)| *t = int(number(x))),
    }
}

fn float(number: Number) -> f64 {
    number.as_f64().unwrap_or(f64::NAN)
}

fn int(number: Number) -> i64 {
    if let Number::Int(int) = number { int as i64 } else { 0 }
}
