//! Products of matrices and what is made of them.

use super::extents::{agreed, with_extent};
use super::reduce::same_dtype;
use super::{Rule, rule};
use crate::context::Context;
use crate::node::{Node, Outcome, Stop};
use rlx_ir::Value;

pub(super) const RULES: &[Rule] = &[
    rule("MatMul", &[1, 9, 13], matmul),
    rule("Gemm", &[1, 6, 7, 9, 11, 13], gemm),
    rule("Einsum", &[12, 28], einsum),
    rule("Det", &[11, 22], det),
];

fn matmul<'m>(cx: &mut Context<'m>, node: &Node<'m>) -> Outcome<'m> {
    let (a, b) = (node.value(cx, 0)?, node.value(cx, 1)?);
    let y = product(cx, a, b)?;
    Ok(vec![cx.tensor(y)?])
}

/// The product as NumPy defines it: a vector is a row on the left and a column on the right, without that axis in the
/// result.
pub(super) fn product<'m>(cx: &mut Context<'m>, a: Value, b: Value) -> Result<Value, Stop<'m>> {
    let (left, right) = (cx.ty(a)?.rank(), cx.ty(b)?.rank());
    if left == 0 || right == 0 {
        return Err(Stop::Invalid("an operand of a product is a scalar".into()));
    }
    let graph = cx.graph();
    let a = if left == 1 { graph.unsqueeze(a, 0) } else { a };
    let b = if right == 1 { graph.unsqueeze(b, 1) } else { b };
    let (rows, columns) = (right.max(2) - 2, left.max(2) - 1);
    let inner = cx.ty(a)?.shape[columns].clone();
    let mut operands = [a, with_extent(cx, b, rows, &inner)?];
    agreed(cx, &mut operands, 2)?;
    let graph = cx.graph();
    let mut y = graph.mm(operands[0], operands[1]);
    if right == 1 {
        y = graph.squeeze(y, -1);
    }
    if left == 1 {
        y = graph.squeeze(y, if right == 1 { -1 } else { -2 });
    }
    Ok(y)
}

/// `alpha A B + beta C`. A `beta` of 0 leaves `C` out, whatever its elements.
fn gemm<'m>(cx: &mut Context<'m>, node: &Node<'m>) -> Outcome<'m> {
    if node.rank(0)? != 2 || node.rank(1)? != 2 {
        return Err(Stop::Invalid(format!("A and B have the ranks {} and {}", node.rank(0)?, node.rank(1)?)));
    }
    let (a, b) = (node.value(cx, 0)?, node.value(cx, 1)?);
    let y = cx.graph().matmul(a, b, node.flag("transA", false)?, node.flag("transB", false)?);
    let mut y = scaled(cx, y, node.float_or("alpha", 1.0)?)?;
    let shape = cx.ty(y)?.shape;
    let beta = node.float_or("beta", 1.0)?;
    let may_broadcast = node.version >= 7 || node.flag("broadcast", false)?;
    if let Some(c) = node.optional(cx, 2)?
        && beta != 0.0
    {
        let of = cx.ty(c)?.shape;
        if !may_broadcast && of != shape {
            return Err(Stop::Invalid(format!(
                "C has the shape {of}, expected {shape}: it does not broadcast"
            )));
        }
        let c = scaled(cx, c, beta)?;
        y = cx.graph().add(y, c);
        if cx.ty(y)?.shape != shape {
            return Err(Stop::Invalid(format!("C of the shape {of} does not broadcast to {shape}")));
        }
    }
    Ok(vec![cx.tensor(y)?])
}

pub(super) fn scaled<'m>(cx: &mut Context<'m>, x: Value, factor: f32) -> Result<Value, Stop<'m>> {
    let dtype = cx.ty(x)?.dtype;
    if factor == 1.0 {
        return Ok(x);
    }
    if !dtype.is_float() && factor.fract() != 0.0 {
        return Err(Stop::Refused(format!("it scales {dtype} by {factor}")));
    }
    let factor = cx.graph().scalar(dtype, factor.into());
    Ok(cx.graph().mul(x, factor))
}

fn einsum<'m>(cx: &mut Context<'m>, node: &Node<'m>) -> Outcome<'m> {
    let missing = || Stop::Invalid("it has no equation".into());
    let equation = node.string("equation")?.ok_or_else(missing)?;
    let operands = node.values(cx)?;
    let y = cx.graph().einsum(&equation, &operands);
    Ok(vec![cx.tensor(y)?])
}

fn det<'m>(cx: &mut Context<'m>, node: &Node<'m>) -> Outcome<'m> {
    let x = node.value(cx, 0)?;
    let x = cx.graph().accumulation_cast(x);
    let y = cx.graph().det(x);
    same_dtype(cx, node, y)
}
