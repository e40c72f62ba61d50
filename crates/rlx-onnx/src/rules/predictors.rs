//! Linear models, and what is made of features before them: `ai.onnx.ml`.

use super::encoders::literal;
use super::scores::{Labels, Transform, best, classify, computed_in, doubles, features, table};
use super::{Rule, ml_rule, required};
use crate::context::Context;
use crate::node::{Node, Outcome, Stop};
use rlx_ir::{DType, Literal, Value};

pub(super) const RULES: &[Rule] = &[
    ml_rule("LinearRegressor", &[1], linear_regressor),
    ml_rule("LinearClassifier", &[1], linear_classifier),
    ml_rule("Imputer", &[1], imputer),
    ml_rule("FeatureVectorizer", &[1], feature_vectorizer),
];

/// `targets` linear functions of the features of operand 0.
fn linear<'m>(cx: &mut Context<'m>, node: &Node<'m>, targets: usize) -> Result<Value, Stop<'m>> {
    let dtype = computed_in(node)?;
    let coefficients = required(doubles(node, "coefficients")?, "coefficients")?;
    let (x, count) = features(cx, node, dtype)?;
    let width = coefficients.len() / targets.max(1);
    if targets == 0 || width * targets != coefficients.len() || !count.is(width as i64) {
        let found = coefficients.len();
        return Err(Stop::Invalid(format!(
            "{found} coefficients for {targets} functions of {count} features"
        )));
    }
    let table = table(cx, dtype, &[targets, width], &coefficients)?;
    let y = cx.graph().matmul(x, table, false, true);
    shifted(cx, node, y, targets)
}

/// Adds the intercepts.
fn shifted<'m>(cx: &mut Context<'m>, node: &Node<'m>, y: Value, targets: usize) -> Result<Value, Stop<'m>> {
    match doubles(node, "intercepts")?.filter(|list| !list.is_empty()) {
        None => Ok(y),
        Some(intercepts) => {
            let dtype = cx.ty(y)?.dtype;
            let intercepts = table(cx, dtype, &[targets], &intercepts)?;
            Ok(cx.graph().add(y, intercepts))
        }
    }
}

fn linear_regressor<'m>(cx: &mut Context<'m>, node: &Node<'m>) -> Outcome<'m> {
    let targets = node.int_or("targets", 1)?;
    let targets = usize::try_from(targets).map_err(|_| Stop::Invalid(format!("targets is {targets}")))?;
    let y = linear(cx, node, targets)?;
    let y = Transform::named(node)?.apply(cx, y)?;
    let y = cx.graph().cast_to(y, DType::F32);
    Ok(vec![cx.tensor(y)?])
}

fn linear_classifier<'m>(cx: &mut Context<'m>, node: &Node<'m>) -> Outcome<'m> {
    // One against the rest or all at once: scores are the same.
    node.without_influence("multi_class");
    let labels = Labels::of(node, "classlabels_ints")?;
    let transform = Transform::named(node)?;
    let classes = labels.len();
    let given = required(doubles(node, "coefficients")?, "coefficients")?.len();
    if classes < 2 {
        return Err(Stop::Refused(format!("{classes} class labels")));
    }
    let rank = node.rank(0)?;
    let width = node.shape(0)?.dims().get(rank.wrapping_sub(1)).and_then(|dim| dim.as_static());
    let width = width.ok_or_else(|| Stop::Refused("the number of features is not known".into()))?;
    let is_single = classes == 2 && given as i64 == width;
    classify(cx, node, &labels, |cx, node| {
        let mut scores = linear(cx, node, if is_single { 1 } else { classes })?;
        if is_single {
            let graph = cx.graph();
            let negative = graph.neg(scores);
            scores = graph.concat(&[negative, scores], 1usize);
        }
        let place = best(cx, scores);
        let scores = transform.apply(cx, scores)?;
        Ok((place, cx.graph().cast_to(scores, DType::F32)))
    })
}

fn imputer<'m>(cx: &mut Context<'m>, node: &Node<'m>) -> Outcome<'m> {
    let dtype = node.dtype(0)?;
    let (from, to) = if dtype.is_float() {
        for name in ["replaced_value_int64", "imputed_value_int64s"] {
            node.without_influence(name);
        }
        let from = node.float_or("replaced_value_float", 0.0)?;
        let to = required(doubles(node, "imputed_value_floats")?, "imputed_value_floats")?;
        let from = literal(Literal::floats(dtype, &[], &[from.into()]))?;
        (from, literal(Literal::floats(dtype, &[to.len()], &to))?)
    } else {
        for name in ["replaced_value_float", "imputed_value_floats"] {
            node.without_influence(name);
        }
        let from = node.int_or("replaced_value_int64", 0)?;
        let to = required(node.ints("imputed_value_int64s")?, "imputed_value_int64s")?;
        let to: Vec<i128> = to.into_iter().map(i128::from).collect();
        let from = literal(Literal::ints(dtype, &[], &[from.into()]))?;
        (from, literal(Literal::ints(dtype, &[to.len()], &to))?)
    };
    let last = node.shape(0)?.dims().last().cloned();
    if to.len() != 1 && last.is_none_or(|last| !last.is(to.len() as i64)) {
        return Err(Stop::Invalid(format!("{} values for the features of {:?}", to.len(), node.shape(0)?)));
    }
    let is_odd = from.to_f64s().iter().any(|value| value.is_nan());
    let x = node.value(cx, 0)?;
    let graph = cx.graph();
    let (from, to) = (graph.constant(from), graph.constant(to));
    let is_missing = if is_odd { graph.compare_ne(x, x) } else { graph.compare_eq(x, from) };
    let y = graph.where_(is_missing, to, x);
    // One value for a scalar leaves it one.
    let shape = node.shape(0)?.clone();
    let y = if shape.rank() == 0 { cx.graph().reshape(y, shape) } else { y };
    Ok(vec![cx.tensor(y)?])
}

fn feature_vectorizer<'m>(cx: &mut Context<'m>, node: &Node<'m>) -> Outcome<'m> {
    let widths = node.ints("inputdimensions")?;
    let mut parts = vec![];
    for index in 0..node.inputs.len() {
        let mut value = node.value(cx, index)?;
        let dims = node.shape(index)?.dims().to_vec();
        let width = match &dims[..] {
            [width] => {
                value = cx.graph().unsqueeze(value, 0);
                width.clone()
            }
            [_, width] => width.clone(),
            _ => return Err(Stop::Invalid(format!("operand {index} has rank {}, expected 2", dims.len()))),
        };
        if let Some(&expected) = widths.as_ref().and_then(|widths| widths.get(index))
            && !width.is(expected)
        {
            return Err(Stop::Refused(format!("operand {index} has {width} features, expected {expected}")));
        }
        parts.push(cx.graph().cast_to(value, DType::F32));
    }
    let y = cx.graph().concat(&parts, 1usize);
    Ok(vec![cx.tensor(y)?])
}
