//! What the predictors of `ai.onnx.ml` have in common: features, transforms of scores, and labels.

use super::encoders::literal;
use super::text::made;
use crate::context::Context;
use crate::node::{Node, Outcome, Stop};
use crate::value::{Imported, Tensor};
use rlx_ir::interpret::{Tensors, evaluate};
use rlx_ir::literal::element_count;
use rlx_ir::ops::{ArgReduceKind, ReduceKind};
use rlx_ir::{DType, Dim, Literal, Value};

/// Operand 0 as rows of features in `dtype`: one row where it is a vector.
pub(super) fn features<'m>(
    cx: &mut Context<'m>,
    node: &Node<'m>,
    dtype: DType,
) -> Result<(Value, Dim), Stop<'m>> {
    let x = node.value(cx, 0)?;
    let x = cx.graph().cast_to(x, dtype);
    match node.shape(0)?.dims() {
        [_, count] => Ok((x, count.clone())),
        [count] => Ok((cx.graph().unsqueeze(x, 0), count.clone())),
        dims => Err(Stop::Invalid(format!("its features have rank {}, expected 2", dims.len()))),
    }
}

/// The dtype in which operand 0 is compared and multiplied.
pub(super) fn computed_in<'m>(node: &Node<'m>) -> Result<DType, Stop<'m>> {
    Ok(if node.dtype(0)? == DType::F64 { DType::F64 } else { DType::F32 })
}

/// Numbers of an attribute as a constant.
pub(super) fn table<'m>(
    cx: &mut Context<'m>,
    dtype: DType,
    dims: &[usize],
    values: &[f64],
) -> Result<Value, Stop<'m>> {
    if element_count(dims) != Some(values.len()) {
        return Err(Stop::Invalid(format!("{} numbers are given, expected {dims:?}", values.len())));
    }
    let values = literal(Literal::floats(dtype, dims, values))?;
    Ok(cx.graph().constant(values))
}

/// A list of floats, as numbers to compute with.
pub(super) fn doubles<'m>(node: &Node<'m>, name: &str) -> Result<Option<Vec<f64>>, Stop<'m>> {
    Ok(node.floats(name)?.map(|list| list.into_iter().map(f64::from).collect()))
}

/// What a score becomes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Transform {
    None,
    Softmax,
    Logistic,
    SoftmaxZero,
    Probit,
}

impl Transform {
    pub fn named<'m>(node: &Node<'m>) -> Result<Transform, Stop<'m>> {
        Ok(match node.string_or("post_transform", "NONE")?.as_str() {
            "NONE" => Transform::None,
            "SOFTMAX" => Transform::Softmax,
            "LOGISTIC" => Transform::Logistic,
            "SOFTMAX_ZERO" => Transform::SoftmaxZero,
            "PROBIT" => Transform::Probit,
            other => return Err(Stop::Invalid(format!("there is no post_transform {other:?}"))),
        })
    }

    pub fn numbered<'m>(node: &Node<'m>) -> Result<Transform, Stop<'m>> {
        let all = [
            Transform::None,
            Transform::Softmax,
            Transform::Logistic,
            Transform::SoftmaxZero,
            Transform::Probit,
        ];
        let number = node.int_or("post_transform", 0)?;
        let found = usize::try_from(number).ok().and_then(|number| all.get(number).copied());
        found.ok_or_else(|| Stop::Invalid(format!("there is no post_transform {number}")))
    }

    /// Rows of scores, transformed.
    pub fn apply<'m>(self, cx: &mut Context<'m>, scores: Value) -> Result<Value, Stop<'m>> {
        let dtype = cx.ty(scores)?.dtype;
        let graph = cx.graph();
        let number = |graph: &mut rlx_ir::Graph, value: f64| graph.scalar(dtype, value);
        Ok(match self {
            Transform::None => scores,
            Transform::Softmax => graph.softmax(scores, 1usize),
            Transform::Logistic => graph.sigmoid(scores),
            Transform::SoftmaxZero => {
                // Scores that are (nearly) 0 are scaled like the others, and stay 0.
                let most = graph.reduce(scores, ReduceKind::Max, [1], true);
                let shifted = graph.sub(scores, most);
                let (small, size) = (number(graph, 1e-7), graph.abs(scores));
                let counts = graph.compare_gt(size, small);
                let exponential = graph.exp(shifted);
                let scale = graph.neg(most);
                let scale = graph.exp(scale);
                let scaled = graph.mul(scores, scale);
                let values = graph.where_(counts, exponential, scaled);
                let sum = graph.reduce(values, ReduceKind::Sum, [1], true);
                let zero = number(graph, 0.0);
                let is_empty = graph.compare_eq(sum, zero);
                let (half, shares) = (number(graph, 0.5), graph.div(values, sum));
                graph.where_(is_empty, half, shares)
            }
            Transform::Probit => {
                // sqrt(2) erfinv(2 p - 1), with Winitzki's approximation of erfinv.
                let (one, two) = (number(graph, 1.0), number(graph, 2.0));
                let x = graph.mul(scores, two);
                let x = graph.sub(x, one);
                let square = graph.mul(x, x);
                let rest = graph.sub(one, square);
                let log = graph.log(rest);
                let half = number(graph, 0.5);
                let first = graph.mul(half, log);
                let offset = number(graph, 2.0 / (std::f64::consts::PI * 0.147));
                let first = graph.add(first, offset);
                let scale = number(graph, 1.0 / 0.147);
                let second = graph.mul(scale, log);
                let inner = graph.mul(first, first);
                let inner = graph.sub(inner, second);
                let inner = graph.sqrt(inner);
                let inner = graph.sub(inner, first);
                let size = graph.sqrt(inner);
                let root = number(graph, std::f64::consts::SQRT_2);
                let size = graph.mul(size, root);
                let zero = number(graph, 0.0);
                let (is_negative, negative) = (graph.compare_lt(x, zero), graph.neg(size));
                let signed = graph.where_(is_negative, negative, size);
                let is_end = graph.compare_eq(rest, zero);
                graph.where_(is_end, zero, signed)
            }
        })
    }
}

/// The labels of a classifier.
pub(super) enum Labels {
    Ints(Vec<i64>),
    Strings(Vec<String>),
}

impl Labels {
    pub fn of<'m>(node: &Node<'m>, ints: &str) -> Result<Labels, Stop<'m>> {
        match (node.ints(ints)?, node.strings("classlabels_strings")?) {
            (Some(labels), None) => Ok(Labels::Ints(labels)),
            (None, Some(labels)) => Ok(Labels::Strings(labels)),
            _ => Err(Stop::Invalid("expected one list of class labels".into())),
        }
    }

    pub fn len(&self) -> usize {
        match self {
            Labels::Ints(labels) => labels.len(),
            Labels::Strings(labels) => labels.len(),
        }
    }

    /// The labels at `places`, which are i32.
    fn pick<'m>(&self, cx: &mut Context<'m>, places: Value) -> Result<Imported, Stop<'m>> {
        match self {
            Labels::Ints(labels) => {
                let values: Vec<i128> = labels.iter().map(|&label| label.into()).collect();
                let labels = literal(Literal::ints(DType::I64, &[values.len()], &values))?;
                let labels = cx.graph().constant(labels);
                let picked = cx.graph().gather(labels, places, 0usize);
                cx.tensor(picked)
            }
            Labels::Strings(_) => cx.tensor(places),
        }
    }
}

/// The position of the largest score of each row.
pub(super) fn best<'m>(cx: &mut Context<'m>, scores: Value) -> Value {
    cx.graph().arg_reduce(scores, ArgReduceKind::Max, 1usize, false, false, DType::I32)
}

/// The results of a classifier: `build` gives positions of labels, and scores. Strings exist on the host, so labels
/// that are strings are computed when the operand is known.
pub(super) fn classify<'m>(
    cx: &mut Context<'m>,
    node: &Node<'m>,
    labels: &Labels,
    build: impl FnOnce(&mut Context<'m>, &Node<'m>) -> Result<(Value, Value), Stop<'m>>,
) -> Outcome<'m> {
    let Labels::Strings(names) = labels else {
        let (places, scores) = build(cx, node)?;
        return Ok(vec![labels.pick(cx, places)?, cx.tensor(scores)?]);
    };
    let known = Tensor::literal(node.literal(cx, 0)?);
    let host = Node::new(node.proto, node.version, vec![Some(known.into())], node.attributes().clone());
    let (graph, captures) = cx.body("labels", &[], |cx, _| {
        let (places, scores) = build(cx, &host)?;
        Ok(vec![places, scores])
    })?;
    node.read_as(&host);
    let wrong = |error: String| Stop::Invalid(format!("labels cannot be computed: {error}"));
    if !captures.is_empty() {
        return Err(wrong("they depend on more than the operand".into()));
    }
    let graph = graph.finish().map_err(|error| wrong(error.to_string()))?;
    let outputs = evaluate(&graph, &Tensors::new()).map_err(|error| wrong(error.to_string()))?.outputs;
    let mut outputs = outputs.into_iter().map(|(_, literal)| literal);
    let (Some(places), Some(scores)) = (outputs.next(), outputs.next()) else {
        return Err(wrong("nothing was computed".into()));
    };
    let name = |place: i128| usize::try_from(place).ok().and_then(|place| names.get(place).cloned());
    let picked: Option<Vec<String>> = places.to_ints().into_iter().map(name).collect();
    let picked = picked.ok_or_else(|| wrong("a label is missing".into()))?;
    Ok(vec![made(places.dims(), picked)?, Tensor::literal(scores).into()])
}
