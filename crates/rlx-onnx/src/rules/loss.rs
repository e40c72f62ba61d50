//! Losses of classes.

use super::reduce::{number, same_dtype};
use super::{Rule, rule};
use crate::context::Context;
use crate::node::{Node, Outcome, Stop};
use rlx_ir::ops::ReduceKind;
use rlx_ir::{Dim, Value};

pub(super) const RULES: &[Rule] = &[
    rule("NegativeLogLikelihoodLoss", &[12, 13, 22], |cx, node| {
        let logs = node.value(cx, 0)?;
        let logs = cx.graph().accumulation_cast(logs);
        let loss = loss(cx, node, logs)?;
        same_dtype(cx, node, loss)
    }),
    rule("SoftmaxCrossEntropyLoss", &[12, 13], softmax_cross_entropy_loss),
];

fn softmax_cross_entropy_loss<'m>(cx: &mut Context<'m>, node: &Node<'m>) -> Outcome<'m> {
    if node.rank(0)? < 2 {
        return Err(Stop::Invalid(format!("scores of rank {} have no classes", node.rank(0)?)));
    }
    let scores = node.value(cx, 0)?;
    let scores = cx.graph().accumulation_cast(scores);
    let logs = cx.graph().log_softmax(scores, 1usize);
    let loss = loss(cx, node, logs)?;
    let mut results = same_dtype(cx, node, loss)?;
    results.extend(same_dtype(cx, node, logs)?);
    Ok(results)
}

/// The loss of logarithms of probabilities, classes along axis 1; operand 1 are the classes, operand 2 their weights.
fn loss<'m>(cx: &mut Context<'m>, node: &Node<'m>, logs: Value) -> Result<Value, Stop<'m>> {
    let (ty, labels) = (cx.ty(logs)?, node.value(cx, 1)?);
    let of = cx.ty(labels)?;
    let mut rows = ty.shape.dims().to_vec();
    if rows.len() < 2 || {
        rows.remove(1);
        of.shape.dims() != rows
    } {
        return Err(Stop::Invalid(format!(
            "labels of the shape {} do not fit classes of {}",
            of.shape, ty.shape
        )));
    }
    let ignored = node.int("ignore_index")?;
    let reduction = node.string_or("reduction", "mean")?;
    let weights = node.optional(cx, 2)?;
    let graph = cx.graph();
    let (zero, one) = (graph.scalar(ty.dtype, 0.0), graph.scalar(ty.dtype, 1.0));
    // What is ignored may name no class.
    let (is_ignored, labels) = match ignored {
        None => (None, labels),
        Some(index) => {
            let index = graph.constant(rlx_ir::Literal::scalar_i64(index));
            let index = graph.cast_to(index, of.dtype);
            let (is_ignored, first) = (graph.compare_eq(labels, index), graph.scalar(of.dtype, 0.0));
            (Some(is_ignored), graph.where_(is_ignored, first, labels))
        }
    };
    let column = graph.unsqueeze(labels, 1);
    let picked = graph.gather_elements(logs, column, 1usize);
    let picked = graph.squeeze(picked, 1);
    let negative = graph.neg(picked);
    let weight = match weights {
        Some(weights) => {
            let weights = graph.cast_to(weights, ty.dtype);
            Some(graph.gather(weights, labels, 0usize))
        }
        None => is_ignored.map(|_| one),
    };
    let weight = match (weight, is_ignored) {
        (Some(weight), Some(is_ignored)) => Some(graph.where_(is_ignored, zero, weight)),
        (weight, _) => weight,
    };
    let losses = match weight {
        Some(weight) => graph.mul(negative, weight),
        None => negative,
    };
    // An infinite logarithm of what is ignored has no influence.
    let losses = is_ignored.map_or(losses, |is_ignored| graph.where_(is_ignored, zero, losses));
    if reduction == "none" {
        return Ok(losses);
    }
    let axes: Vec<usize> = (0..rows.len()).collect();
    let sum = graph.reduce(losses, ReduceKind::Sum, axes.clone(), false);
    match (reduction.as_str(), weight) {
        ("sum", _) => Ok(sum),
        ("mean", Some(weight)) => {
            let total = graph.reduce(weight, ReduceKind::Sum, axes, false);
            Ok(graph.div(sum, total))
        }
        ("mean", None) => {
            let count = rows.iter().fold(Dim::from(1), |a, b| a * b.clone());
            let count = number(cx, count, ty.dtype)?;
            Ok(cx.graph().div(sum, count))
        }
        (other, _) => Err(Stop::Invalid(format!("reduction is {other:?}, expected none, sum or mean"))),
    }
}
