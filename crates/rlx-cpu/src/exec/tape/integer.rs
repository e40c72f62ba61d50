//! Instructions on integers: wrapping, in 32 or 64 bits, then brought back
//! into the range of a narrower dtype.

use super::each;
use crate::kernels::Context;
use rlx_ir::{DType, ScalarOp};

macro_rules! whole_arithmetic {
    ($name:ident, $ty:ty) => {
        /// The primitives on signed integers; unsigned ones differ in a few.
        fn $name(context: Context<'_>, op: ScalarOp, bits: $ty, [a, b]: [&[$ty]; 2], t: &mut [$ty]) {
            use ScalarOp as S;
            match op {
                S::Add => each!(context, t, [x = a, y = b] x.wrapping_add(y)),
                S::Sub => each!(context, t, [x = a, y = b] x.wrapping_sub(y)),
                S::Mul => each!(context, t, [x = a, y = b] x.wrapping_mul(y)),
                S::Div => each!(context, t, [x = a, y = b] if y == 0 { 0 } else { x.wrapping_div(y) }),
                S::Rem => each!(context, t, [x = a, y = b] if y == 0 { 0 } else { x.wrapping_rem(y) }),
                S::Max => each!(context, t, [x = a, y = b] x.max(y)),
                S::Min => each!(context, t, [x = a, y = b] x.min(y)),
                S::And => each!(context, t, [x = a, y = b] x & y),
                S::Or => each!(context, t, [x = a, y = b] x | y),
                S::Xor => each!(context, t, [x = a, y = b] x ^ y),
                S::Not => each!(context, t, [x = a] !x),
                S::Neg => each!(context, t, [x = a] x.wrapping_neg()),
                S::Abs => each!(context, t, [x = a] x.wrapping_abs()),
                S::Sign => each!(context, t, [x = a] x.signum()),
                S::Shl => {
                    each!(context, t, [x = a, y = b] if (0..bits).contains(&y) { x << y } else { 0 });
                }
                S::Shr => {
                    each!(context, t, [x = a, y = b] if (0..bits).contains(&y) { x >> y } else { x >> (<$ty>::BITS - 1) });
                }
                S::Pow => each!(context, t, [x = a, y = b] {
                    if y >= 0 {
                        power(x as u64, y as u64) as $ty
                    } else {
                        // The truncated quotient of 1.
                        match x {
                            1 => 1,
                            -1 if y & 1 == 0 => 1,
                            -1 => -1,
                            _ => 0,
                        }
                    }
                }),
                // Floor, Ceil, Trunc, Round.
                _ => t.copy_from_slice(&a[..t.len()]),
            }
        }
    };
}
whole_arithmetic!(arithmetic32, i32);
whole_arithmetic!(arithmetic64, i64);

/// Brings an `i32` back into the range of a narrower dtype.
#[inline(always)]
pub(super) fn wrap32(dtype: DType, value: i32) -> i32 {
    match dtype {
        DType::I8 => i32::from(value as i8),
        DType::U8 => i32::from(value as u8),
        DType::I16 => i32::from(value as i16),
        DType::U16 => i32::from(value as u16),
        DType::Bool => i32::from(value != 0),
        _ => value,
    }
}

/// Instructions of class `I32` whose result has `dtype`.
pub(super) fn int32(context: Context<'_>, op: ScalarOp, dtype: DType, operands: [&[i32]; 2], t: &mut [i32]) {
    if op == ScalarOp::Not && dtype == DType::Bool {
        each!(context, t, [x = operands[0]] i32::from(x == 0));
        return;
    }
    arithmetic32(context, op, dtype.block_bits() as i32, operands, t);
    match dtype {
        DType::I8 => wrap(context, t, |x| i32::from(x as i8)),
        DType::U8 => wrap(context, t, |x| i32::from(x as u8)),
        DType::I16 => wrap(context, t, |x| i32::from(x as i16)),
        DType::U16 => wrap(context, t, |x| i32::from(x as u16)),
        _ => {}
    }
}

/// Instructions of class `I64` whose result has `dtype`.
pub(super) fn int64(context: Context<'_>, op: ScalarOp, dtype: DType, operands: [&[i64]; 2], t: &mut [i64]) {
    if dtype == DType::U64 && unsigned64(context, op, operands, t) {
        return;
    }
    arithmetic64(context, op, dtype.block_bits() as i64, operands, t);
    if dtype == DType::U32 {
        wrap(context, t, |x| i64::from(x as u32));
    }
}

/// What differs on `u64`, if the primitive does.
fn unsigned64(context: Context<'_>, op: ScalarOp, [a, b]: [&[i64]; 2], t: &mut [i64]) -> bool {
    use ScalarOp as S;
    let (a, b): (&[u64], &[u64]) = (bytemuck::cast_slice(a), bytemuck::cast_slice(b));
    let t: &mut [u64] = bytemuck::cast_slice_mut(t);
    match op {
        S::Div => each!(context, t, [x = a, y = b] x.checked_div(y).unwrap_or(0)),
        S::Rem => each!(context, t, [x = a, y = b] x.checked_rem(y).unwrap_or(0)),
        S::Max => each!(context, t, [x = a, y = b] x.max(y)),
        S::Min => each!(context, t, [x = a, y = b] x.min(y)),
        S::Abs => t.copy_from_slice(&a[..t.len()]),
        S::Sign => each!(context, t, [x = a] x.min(1)),
        S::Shl => each!(context, t, [x = a, y = b] if y < 64 { x << y } else { 0 }),
        S::Shr => each!(context, t, [x = a, y = b] if y < 64 { x >> y } else { 0 }),
        S::Pow => each!(context, t, [x = a, y = b] power(x, y)),
        _ => return false,
    }
    true
}

/// `x` to the power `y`, wrapping; narrower and signed powers are its low bits.
#[inline(always)]
fn power(x: u64, y: u64) -> u64 {
    let (mut result, mut square, mut rest) = (1u64, x, y);
    while rest > 0 {
        if rest & 1 == 1 {
            result = result.wrapping_mul(square);
        }
        square = square.wrapping_mul(square);
        rest >>= 1;
    }
    result
}

fn wrap<T: Copy>(context: Context<'_>, t: &mut [T], wrap: impl Fn(T) -> T) {
    context.dispatch(super::Vectorised(
        #[inline(always)]
        || t.iter_mut().for_each(|x| *x = wrap(*x)),
    ));
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pool::Pool;
    use rlx_ir::sample::Generator;
    use rlx_ir::{Number, ScalarKind, ScalarProgram};

    #[test]
    fn instructions_agree_with_the_reference() {
        let pool = Pool::inline();
        let context = Context::new(&pool);
        let mut generator = Generator::new(3);
        let corners = [0, 1, -1, 2, 3, 7, 31, 63, 64, 65, -5, i64::MAX, i64::MIN];
        for dtype in
            [DType::I8, DType::U8, DType::I16, DType::U16, DType::I32, DType::U32, DType::I64, DType::U64]
        {
            for &op in ScalarOp::ALL {
                let mut program = ScalarProgram::new(vec![dtype; op.arity()]);
                let args: Vec<_> = (0..op.arity()).map(|index| program.input(index)).collect();
                let result = program.push(ScalarKind::Op(op), &args, dtype);
                program.outputs = vec![result.0];
                if program.check().is_err() || op == ScalarOp::Cast || op == ScalarOp::Bitcast {
                    continue;
                }
                for _ in 0..200 {
                    let mut pick = || match generator.below(3) {
                        0 => corners[generator.below(corners.len())],
                        1 => generator.below(20) as i64 - 10,
                        _ => generator.below(usize::MAX) as i64,
                    };
                    let numbers = [pick(), pick()].map(|x| Number::Int(i128::from(x)).cast(dtype));
                    let [x, y] = numbers.map(|x| if let Number::Int(x) = x { x } else { 0 });
                    let wanted = program.eval(&numbers[..op.arity()], &[]);
                    let wide = super::super::class_of(dtype) == Some(super::super::Class::I64);
                    let found = if wide {
                        let mut t = [0i64];
                        int64(context, op, dtype, [&[x as i64], &[y as i64]], &mut t);
                        if dtype == DType::U64 { i128::from(t[0] as u64) } else { i128::from(t[0]) }
                    } else {
                        let mut t = [0i32];
                        int32(context, op, dtype, [&[x as i32], &[y as i32]], &mut t);
                        i128::from(t[0])
                    };
                    assert_eq!(vec![Number::Int(found)], wanted, "{} of {x} and {y}, {dtype}", op.name());
                }
            }
        }
    }
}
