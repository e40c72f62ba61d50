//! Preparation of features: `ai.onnx.ml`.

use super::Rule;
use crate::context::Context;
use crate::node::{Node, Outcome, Stop};
use rlx_ir::ops::ReduceKind;
use rlx_ir::{DType, Literal, Shape, Value};

const fn rule(
    op: &'static str,
    import: for<'a, 'm> fn(&'a mut Context<'m>, &'a Node<'m>) -> Outcome<'m>,
) -> Rule {
    Rule { domain: "ai.onnx.ml", op, versions: &[1], import }
}

pub(super) const RULES: &[Rule] =
    &[rule("Binarizer", binarizer), rule("Normalizer", normalizer), rule("Scaler", scaler)];

/// Operand 0 in a float dtype to compute in: `f64` where that tells more numbers apart.
fn features<'m>(cx: &mut Context<'m>, node: &Node<'m>) -> Result<(Value, DType), Stop<'m>> {
    let x = node.value(cx, 0)?;
    let dtype = match node.dtype(0)? {
        DType::F64 | DType::I64 | DType::I32 => DType::F64,
        _ => DType::F32,
    };
    Ok((cx.graph().cast_to(x, dtype), dtype))
}

fn binarizer<'m>(cx: &mut Context<'m>, node: &Node<'m>) -> Outcome<'m> {
    let threshold = node.float_or("threshold", 0.0)?;
    let (x, dtype) = features(cx, node)?;
    let graph = cx.graph();
    let threshold = graph.scalar(dtype, f64::from(threshold));
    let is_above = graph.compare_gt(x, threshold);
    let y = graph.cast(is_above, node.dtype(0)?);
    Ok(vec![cx.tensor(y)?])
}

/// Numbers of an attribute, one for all features or one each, as a tensor that broadcasts to them.
fn per_feature<'m>(
    cx: &mut Context<'m>,
    node: &Node<'m>,
    name: &str,
    dtype: DType,
) -> Result<Option<Value>, Stop<'m>> {
    let Some(values) = node.floats(name)? else { return Ok(None) };
    let values: Vec<f64> = values.into_iter().map(f64::from).collect();
    let features = node.shape(0)?.dims().last();
    let dims = match values.len() {
        1 => vec![],
        count if features.is_some_and(|features| features.is(count as i64)) => vec![count],
        count => {
            return Err(Stop::Invalid(format!(
                "attribute {name:?} has {count} values for {}",
                node.tensor(0)?.ty()
            )));
        }
    };
    let literal = Literal::floats(dtype, &dims, &values).map_err(|error| Stop::Invalid(error.to_string()))?;
    Ok(Some(cx.graph().constant(literal)))
}

fn scaler<'m>(cx: &mut Context<'m>, node: &Node<'m>) -> Outcome<'m> {
    let (mut y, dtype) = features(cx, node)?;
    if let Some(offset) = per_feature(cx, node, "offset", dtype)? {
        y = cx.graph().sub(y, offset);
    }
    if let Some(scale) = per_feature(cx, node, "scale", dtype)? {
        y = cx.graph().mul(y, scale);
    }
    let y = cx.graph().cast_to(y, DType::F32);
    Ok(vec![cx.tensor(y)?])
}

/// Rows over their largest number, the sum of their magnitudes, or their length; rows where that is zero stay.
fn normalizer<'m>(cx: &mut Context<'m>, node: &Node<'m>) -> Outcome<'m> {
    let norm = node.string_or("norm", "MAX")?;
    let rank = node.rank(0)?;
    if !(1..=2).contains(&rank) {
        return Err(Stop::Invalid(format!("operand 0 is {}, expected [N, C] or [C]", node.tensor(0)?.ty())));
    }
    let (x, dtype) = features(cx, node)?;
    let graph = cx.graph();
    let axes = vec![rank - 1];
    let divisor = match norm.as_str() {
        "MAX" => graph.reduce(x, ReduceKind::Max, axes, true),
        "L1" => {
            let magnitudes = graph.abs(x);
            graph.reduce(magnitudes, ReduceKind::Sum, axes, true)
        }
        "L2" => {
            let squares = graph.mul(x, x);
            let sum = graph.reduce(squares, ReduceKind::Sum, axes, true);
            graph.sqrt(sum)
        }
        _ => return Err(Stop::Invalid(format!("norm is {norm:?}, expected MAX, L1 or L2"))),
    };
    let [zero, one] = [0.0, 1.0].map(|value| graph.full(dtype, Shape::scalar(), value));
    let is_zero = graph.compare_eq(divisor, zero);
    let divisor = graph.where_(is_zero, one, divisor);
    let y = graph.div(x, divisor);
    let y = graph.cast_to(y, DType::F32);
    Ok(vec![cx.tensor(y)?])
}
