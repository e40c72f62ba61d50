//! Instructions on floats.
//!
//! Those of class `F32` are written over vectors, and most take an operand
//! that is one number; those of `f64` are loops that the compiler vectorises,
//! or the functions of the standard library.

use super::{Class, Code, Lane, Named, Operands, each};
use crate::kernels::Context;
use crate::kernels::map::{self, BinaryFunction, UnaryFunction};
use crate::kernels::math::functions as math;
use crate::simd::{Kernel, Simd, Vector};
use rlx_ir::ScalarOp;
use rlx_ir::special::erf;

/// Does the instruction take operands that are one number?
pub(super) fn takes_numbers(code: Code, class: Class) -> bool {
    use ScalarOp as S;
    let binary = matches!(code, Code::Op(S::Add | S::Sub | S::Mul | S::Div | S::Max | S::Min));
    class == Class::F32 && (binary || code == Code::MulAdd)
}

/// Instructions of class `F32`.
pub(super) fn float32(
    context: Context<'_>,
    code: Code,
    operands: Operands<'_>,
    [a, b, c]: [usize; 3],
    t: &mut [f32],
) {
    match code {
        Code::MulAdd => multiply_add(context, operands, [a, b, c], t),
        Code::Named(named) => {
            let x = operands.each(a);
            match named {
                Named::Sigmoid => unary(context, math::Sigmoid, x, t),
                Named::Silu => unary(context, math::Silu, x, t),
                Named::Gelu => unary(context, math::Gelu, x, t),
                Named::GeluTanh => unary(context, math::GeluTanh, x, t),
            }
        }
        Code::Op(op) if takes_numbers(code, Class::F32) => arithmetic(context, op, operands, [a, b], t),
        Code::Op(op) => function(context, op, operands, [a, b], t),
    }
}

fn unary<F: UnaryFunction>(context: Context<'_>, function: F, x: &[f32], t: &mut [f32]) {
    map::map(context, function, x, t).expect("operand and target have the block's length");
}

fn arithmetic(context: Context<'_>, op: ScalarOp, operands: Operands<'_>, args: [usize; 2], t: &mut [f32]) {
    use ScalarOp as S;
    match op {
        S::Add => binary(context, math::Add, operands, args, t),
        S::Sub => binary(context, math::Subtract, operands, args, t),
        S::Mul => binary(context, math::Multiply, operands, args, t),
        S::Div => binary(context, math::Divide, operands, args, t),
        S::Max => binary(context, math::Maximum, operands, args, t),
        _ => binary(context, math::Minimum, operands, args, t),
    }
}

fn binary<F: BinaryFunction>(
    context: Context<'_>,
    function: F,
    operands: Operands<'_>,
    [a, b]: [usize; 2],
    t: &mut [f32],
) {
    match (operands.lane(a), operands.lane(b)) {
        (Lane::Each(x), Lane::Each(y)) => context.dispatch(Zip { function, a: x, b: y, t }),
        (Lane::Each(x), Lane::All(y)) => context.dispatch(Zip { function, a: x, b: y, t }),
        (Lane::All(x), Lane::Each(y)) => context.dispatch(Zip { function, a: x, b: y, t }),
        (Lane::All(x), Lane::All(_)) => {
            context.dispatch(Zip { function, a: x, b: operands.each::<f32>(b), t });
        }
    }
}

fn multiply_add(context: Context<'_>, operands: Operands<'_>, [a, b, c]: [usize; 3], t: &mut [f32]) {
    // The product commutes: one number, if there is one, stands second.
    let (x, y) = match (operands.lane::<f32>(a), operands.lane::<f32>(b)) {
        (Lane::All(x), y @ Lane::Each(_)) => (y, Lane::All(x)),
        other => other,
    };
    match (x, y, operands.lane::<f32>(c)) {
        (Lane::Each(a), Lane::Each(b), Lane::Each(c)) => context.dispatch(Fused { a, b, c, t }),
        (Lane::Each(a), Lane::Each(b), Lane::All(c)) => context.dispatch(Fused { a, b, c, t }),
        (Lane::Each(a), Lane::All(b), Lane::Each(c)) => context.dispatch(Fused { a, b, c, t }),
        (Lane::Each(a), Lane::All(b), Lane::All(c)) => context.dispatch(Fused { a, b, c, t }),
        (Lane::All(a), Lane::All(b), Lane::Each(c)) => context.dispatch(Fused { a, b, c, t }),
        (Lane::All(a), Lane::All(b), Lane::All(_)) => {
            context.dispatch(Fused { a, b, c: operands.each::<f32>(c), t });
        }
        // Exchanged above.
        (Lane::All(_), Lane::Each(_), _) => {}
    }
}

/// Vectors of an operand.
trait Source: Copy {
    fn whole<S: Simd>(self, simd: S, start: usize) -> S::F32;
    fn part<S: Simd>(self, simd: S, start: usize, len: usize) -> S::F32;
}

impl Source for &[f32] {
    #[inline(always)]
    fn whole<S: Simd>(self, simd: S, start: usize) -> S::F32 {
        S::F32::read(simd, &self[start..])
    }
    #[inline(always)]
    fn part<S: Simd>(self, simd: S, start: usize, len: usize) -> S::F32 {
        S::F32::read_partial(simd, &self[start..start + len], 0.0)
    }
}

impl Source for f32 {
    #[inline(always)]
    fn whole<S: Simd>(self, simd: S, _: usize) -> S::F32 {
        S::F32::splat(simd, self)
    }
    #[inline(always)]
    fn part<S: Simd>(self, simd: S, _: usize, _: usize) -> S::F32 {
        S::F32::splat(simd, self)
    }
}

struct Zip<'a, F, A, B> {
    function: F,
    a: A,
    b: B,
    t: &'a mut [f32],
}

impl<F: BinaryFunction, A: Source, B: Source> Kernel for Zip<'_, F, A, B> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, simd: S) {
        let Zip { function, a, b, t } = self;
        let lanes = S::F32::LANES;
        let whole = t.len() / lanes * lanes;
        for start in (0..whole).step_by(lanes) {
            let y = function.apply(simd, a.whole(simd, start), b.whole(simd, start));
            y.write(&mut t[start..start + lanes]);
        }
        let rest = t.len() - whole;
        if rest > 0 {
            let y = function.apply(simd, a.part(simd, whole, rest), b.part(simd, whole, rest));
            y.write_partial(&mut t[whole..]);
        }
    }
}

struct Fused<'a, A, B, C> {
    a: A,
    b: B,
    c: C,
    t: &'a mut [f32],
}

impl<A: Source, B: Source, C: Source> Kernel for Fused<'_, A, B, C> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, simd: S) {
        let Fused { a, b, c, t } = self;
        let lanes = S::F32::LANES;
        let whole = t.len() / lanes * lanes;
        for start in (0..whole).step_by(lanes) {
            let (a, b) = (a.whole(simd, start), b.whole(simd, start));
            a.mul_add(b, c.whole(simd, start)).write(&mut t[start..start + lanes]);
        }
        let rest = t.len() - whole;
        if rest > 0 {
            let (a, b) = (a.part(simd, whole, rest), b.part(simd, whole, rest));
            a.mul_add(b, c.part(simd, whole, rest)).write_partial(&mut t[whole..]);
        }
    }
}

/// Functions with a vector form of their own, and simple loops.
fn function(context: Context<'_>, op: ScalarOp, operands: Operands<'_>, [a, b]: [usize; 2], t: &mut [f32]) {
    use ScalarOp as S;
    let a = operands.each::<f32>(a);
    match op {
        S::Exp => unary(context, math::Exp, a, t),
        S::Expm1 => unary(context, math::Expm1, a, t),
        S::Log => unary(context, math::Log, a, t),
        S::Log1p => unary(context, math::Log1p, a, t),
        S::Tanh => unary(context, math::Tanh, a, t),
        S::Erf => unary(context, math::Erf, a, t),
        S::Sin => unary(context, math::Sin, a, t),
        S::Cos => unary(context, math::Cos, a, t),
        S::Sqrt => unary(context, math::Sqrt, a, t),
        S::Neg => each!(context, t, [x = a] - x),
        S::Abs => each!(context, t, [x = a] x.abs()),
        S::Sign => each!(context, t, [x = a] if x == 0.0 || x.is_nan() { x } else { 1f32.copysign(x) }),
        S::Floor => each!(context, t, [x = a] x.floor()),
        S::Ceil => each!(context, t, [x = a] x.ceil()),
        S::Trunc => each!(context, t, [x = a] x.trunc()),
        S::Round => each!(context, t, [x = a] x.round_ties_even()),
        S::Rsqrt => each!(context, t, [x = a] 1.0 / x.sqrt()),
        S::Rem => each!(context, t, [x = a, y = operands.each::<f32>(b)] x % y),
        S::Pow | S::Atan2 => {
            let (wide, b) = (two_operands(op), operands.each::<f32>(b));
            each!(context, t, [x = a, y = b] wide(f64::from(x), f64::from(y)) as f32);
        }
        _ => {
            let wide = one_operand(op);
            each!(context, t, [x = a] wide(f64::from(x)) as f32);
        }
    }
}

/// Instructions on `f64`.
pub(super) fn float64(
    context: Context<'_>,
    op: ScalarOp,
    operands: Operands<'_>,
    [a, b]: [usize; 2],
    t: &mut [f64],
) {
    use ScalarOp as S;
    let a = operands.each::<f64>(a);
    if op.arity() == 1 {
        return match op {
            S::Neg => each!(context, t, [x = a] - x),
            S::Abs => each!(context, t, [x = a] x.abs()),
            S::Sqrt => each!(context, t, [x = a] x.sqrt()),
            S::Rsqrt => each!(context, t, [x = a] 1.0 / x.sqrt()),
            S::Floor => each!(context, t, [x = a] x.floor()),
            S::Ceil => each!(context, t, [x = a] x.ceil()),
            S::Trunc => each!(context, t, [x = a] x.trunc()),
            S::Round => each!(context, t, [x = a] x.round_ties_even()),
            S::Sign => each!(context, t, [x = a] if x == 0.0 || x.is_nan() { x } else { 1f64.copysign(x) }),
            _ => {
                let function = one_operand(op);
                each!(context, t, [x = a] function(x));
            }
        };
    }
    let b = operands.each::<f64>(b);
    match op {
        S::Add => each!(context, t, [x = a, y = b] x + y),
        S::Sub => each!(context, t, [x = a, y = b] x - y),
        S::Mul => each!(context, t, [x = a, y = b] x * y),
        S::Div => each!(context, t, [x = a, y = b] x / y),
        S::Max => each!(context, t, [x = a, y = b] if x > y || x.is_nan() { x } else { y }),
        S::Min => each!(context, t, [x = a, y = b] if x < y || x.is_nan() { x } else { y }),
        S::Rem => each!(context, t, [x = a, y = b] x % y),
        _ => {
            let function = two_operands(op);
            each!(context, t, [x = a, y = b] function(x, y));
        }
    }
}

fn two_operands(op: ScalarOp) -> fn(f64, f64) -> f64 {
    if op == ScalarOp::Pow { f64::powf } else { f64::atan2 }
}

fn one_operand(op: ScalarOp) -> fn(f64) -> f64 {
    use ScalarOp as S;
    match op {
        S::Exp => f64::exp,
        S::Expm1 => f64::exp_m1,
        S::Log => f64::ln,
        S::Log1p => f64::ln_1p,
        S::Sin => f64::sin,
        S::Cos => f64::cos,
        S::Tan => f64::tan,
        S::Asin => f64::asin,
        S::Acos => f64::acos,
        S::Atan => f64::atan,
        S::Sinh => f64::sinh,
        S::Cosh => f64::cosh,
        S::Tanh => f64::tanh,
        S::Asinh => f64::asinh,
        S::Acosh => f64::acosh,
        S::Erf => erf,
        _ => f64::atanh,
    }
}
