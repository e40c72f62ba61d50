//! Random numbers, and dropout, which draws some.
//!
//! A seed that stands in the model gives the same numbers in every run. Without one a run draws its own: see
//! [`Context::random_key`]. The numbers are those of RLX's generator; no two systems draw alike.

use super::cast::{Rounding, number};
use super::{Rule, rule};
use crate::context::Context;
use crate::node::{Node, Outcome, Stop};
use crate::tensor;
use rlx_ir::{DType, Dim, Shape, Value};

pub(super) const RULES: &[Rule] = &[
    rule("RandomNormal", &[1, 22], |cx, node| {
        let shape = listed_shape(node)?;
        normal(cx, node, shape, DType::F32)
    }),
    rule("RandomNormalLike", &[1, 22], |cx, node| normal(cx, node, node.shape(0)?.clone(), node.dtype(0)?)),
    rule("RandomUniform", &[1, 22], |cx, node| {
        let shape = listed_shape(node)?;
        uniform(cx, node, shape, DType::F32)
    }),
    rule("RandomUniformLike", &[1, 22], |cx, node| uniform(cx, node, node.shape(0)?.clone(), node.dtype(0)?)),
    rule("Bernoulli", &[15, 22], bernoulli),
    rule("Multinomial", &[7, 22], multinomial),
    rule("Dropout", &[1, 6, 7, 10, 12, 13, 22], dropout),
];

/// The key of the node's numbers, by its seed if it has one.
fn key<'m>(cx: &mut Context<'m>, node: &Node<'m>) -> Result<Value, Stop<'m>> {
    let seed = node.float("seed")?;
    cx.random_key(seed.map(f32::to_bits))
}

fn listed_shape<'m>(node: &Node<'m>) -> Result<Shape, Stop<'m>> {
    let dims = node.ints("shape")?.ok_or_else(|| Stop::Invalid("it has no shape".into()))?;
    match dims.iter().all(|&dim| dim >= 0) {
        true => Ok(Shape::new(dims)),
        false => Err(Stop::Invalid(format!("its shape is {dims:?}"))),
    }
}

fn named_dtype<'m>(node: &Node<'m>, default: DType) -> Result<DType, Stop<'m>> {
    let named = node.int("dtype")?.map(|code| tensor::dtype(i32::try_from(code).unwrap_or(-1)));
    named.unwrap_or(Ok(default)).map_err(Stop::Refused)
}

/// The float dtype of the result.
fn float_dtype<'m>(node: &Node<'m>, default: DType) -> Result<DType, Stop<'m>> {
    let dtype = named_dtype(node, default)?;
    match dtype {
        DType::F64 | DType::F32 | DType::F16 | DType::BF16 => Ok(dtype),
        _ => Err(Stop::Invalid(format!("random numbers have a float type, found {dtype}"))),
    }
}

/// `drawn scale + shift`, in `dtype` at the end.
fn moved<'m>(cx: &mut Context<'m>, drawn: Value, [scale, shift]: [f64; 2], dtype: DType) -> Outcome<'m> {
    let wide = cx.ty(drawn)?.dtype;
    let graph = cx.graph();
    let [scale, shift] = [scale, shift].map(|value| graph.scalar(wide, value));
    let y = graph.mul(drawn, scale);
    let y = graph.add(y, shift);
    let y = graph.cast_to(y, dtype);
    Ok(vec![cx.tensor(y)?])
}

/// The dtype in which numbers of `dtype` are drawn.
fn wide(dtype: DType) -> DType {
    if dtype == DType::F64 { DType::F64 } else { DType::F32 }
}

fn normal<'m>(cx: &mut Context<'m>, node: &Node<'m>, shape: Shape, default: DType) -> Outcome<'m> {
    let dtype = float_dtype(node, default)?;
    let (scale, mean) = (node.float_or("scale", 1.0)?, node.float_or("mean", 0.0)?);
    let key = key(cx, node)?;
    let drawn = cx.graph().random_normal(key, wide(dtype), shape);
    moved(cx, drawn, [scale.into(), mean.into()], dtype)
}

fn uniform<'m>(cx: &mut Context<'m>, node: &Node<'m>, shape: Shape, default: DType) -> Outcome<'m> {
    let dtype = float_dtype(node, default)?;
    let (low, high) = (f64::from(node.float_or("low", 0.0)?), f64::from(node.float_or("high", 1.0)?));
    let key = key(cx, node)?;
    let drawn = cx.graph().random_uniform(key, wide(dtype), shape);
    moved(cx, drawn, [high - low, low], dtype)
}

fn bernoulli<'m>(cx: &mut Context<'m>, node: &Node<'m>) -> Outcome<'m> {
    let (chances, from) = (node.value(cx, 0)?, wide(node.dtype(0)?));
    let to = named_dtype(node, node.dtype(0)?)?;
    let key = key(cx, node)?;
    let graph = cx.graph();
    let drawn = graph.random_uniform(key, from, node.shape(0)?.clone());
    let chances = graph.cast_to(chances, from);
    let holds = graph.compare_lt(drawn, chances);
    let y = number(graph, holds, (DType::Bool, to), Rounding::SATURATING);
    Ok(vec![cx.tensor_as(y, to)?])
}

/// Each sample is a draw from the softmax of its row.
fn multinomial<'m>(cx: &mut Context<'m>, node: &Node<'m>) -> Outcome<'m> {
    let logits = node.value(cx, 0)?;
    let [batch, classes] = node.shape(0)?.dims() else {
        return Err(Stop::Invalid(format!("operand 0 is {}, expected [batch, class]", node.tensor(0)?.ty())));
    };
    let samples = node.int_or("sample_size", 1)?;
    let dtype = named_dtype(node, DType::I32)?;
    if samples < 0 || !matches!(dtype, DType::I32 | DType::I64) {
        return Err(Stop::Invalid(format!("it draws {samples} samples of {dtype}")));
    }
    let rows = [batch.clone(), Dim::from(samples)];
    let with = |last: Dim| Shape::new(rows.iter().cloned().chain([last]));
    let key = key(cx, node)?;
    let graph = cx.graph();
    let keys = graph.random_split(key, batch.clone() * Dim::from(samples));
    let keys = graph.reshape(keys, with(Dim::from(2)));
    let logits = graph.unsqueeze(logits, 1);
    let logits = graph.expand(logits, with(classes.clone()));
    let rows = Shape::new(rows.iter().cloned());
    let [one, zero] = [1.0, 0.0].map(|value| graph.full(DType::F32, rows.clone(), value));
    let all = graph.full(DType::I32, rows, 0.0);
    let y = graph.sample(logits, keys, one, all, one, zero, dtype);
    Ok(vec![cx.tensor(y)?])
}

/// Without training everything stays. Up to version 6 attribute `is_test` says so, from 7 to 10 it is always so, then
/// operand `training_mode` says it.
fn dropout<'m>(cx: &mut Context<'m>, node: &Node<'m>) -> Outcome<'m> {
    let (x, dtype, shape) = (node.value(cx, 0)?, node.dtype(0)?, node.shape(0)?.clone());
    let (ratio, seed) = (node.float_or("ratio", 0.5)?, node.int("seed")?);
    let trains = match node.version {
        ..6 => {
            node.without_influence("consumed_inputs");
            !node.flag("is_test", false)?
        }
        6 => !node.flag("is_test", false)?,
        7..12 => false,
        _ => node.optional_literal(cx, 2)?.is_some_and(|mode| mode.to_ints().iter().any(|&mode| mode != 0)),
    };
    let mask_dtype = if node.version < 10 { dtype } else { DType::Bool };
    if !trains {
        let mask = cx.graph().full(mask_dtype, shape, 1.0);
        return cx.tensors([x, mask]);
    }
    let ratio = match node.optional(cx, 1)? {
        Some(ratio) => ratio,
        None => cx.graph().scalar(DType::F32, f64::from(ratio)),
    };
    let key = cx.random_key(seed.map(|seed| (seed ^ (seed >> 32)) as u32))?;
    let from = wide(dtype);
    let graph = cx.graph();
    let ratio = graph.cast_to(ratio, from);
    let ratio = graph.reshape(ratio, Shape::scalar());
    let drawn = graph.random_uniform(key, from, shape);
    let stays = graph.compare_ge(drawn, ratio);
    let (one, zero) = (graph.scalar(from, 1.0), graph.scalar(from, 0.0));
    let rest = graph.sub(one, ratio);
    let wide = graph.cast_to(x, from);
    let scaled = graph.div(wide, rest);
    let y = graph.where_(stays, scaled, zero);
    let y = number(graph, y, (from, dtype), Rounding::SATURATING);
    let mask = graph.cast_to(stays, mask_dtype);
    cx.tensors([y, mask])
}

#[cfg(test)]
mod tests {
    use crate::OnnxProgram;
    use crate::host::HostValue;
    use crate::single::{self, float, ints};

    /// A program of two nodes that each draw 1000 normal numbers.
    fn program(seed: Option<f32>) -> OnnxProgram {
        let mut attributes = vec![ints("shape", &[10, 100]), float("mean", 5.0), float("scale", 2.0)];
        attributes.extend(seed.map(|seed| float("seed", seed)));
        single::program(("RandomNormal", 22, 2), &attributes, &[])
    }

    fn draws(program: &mut OnnxProgram) -> Vec<Vec<f64>> {
        let results = program.run(&[]).expect("it runs");
        let numbers = |value: HostValue| match value {
            HostValue::Tensor(literal) => literal.to_f64s(),
            _ => vec![],
        };
        results.into_iter().map(|(_, value)| numbers(value)).collect()
    }

    #[test]
    fn numbers_have_the_mean_and_the_deviation_that_are_asked_for() {
        for numbers in draws(&mut program(Some(3.0))) {
            assert_eq!(numbers.len(), 1000);
            let mean = numbers.iter().sum::<f64>() / 1000.0;
            let variance = numbers.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / 1000.0;
            assert!((mean - 5.0).abs() < 0.3 && (variance.sqrt() - 2.0).abs() < 0.2, "{mean} {variance}");
        }
    }

    #[test]
    fn seeds_of_the_model_fix_the_numbers_of_every_run() {
        let mut own = program(Some(3.0));
        let first = draws(&mut own);
        assert_eq!(first, draws(&mut own));
        assert_eq!(first, draws(&mut program(Some(3.0))));
        assert_ne!(first, draws(&mut program(Some(4.0))));
        assert_ne!(first[0], first[1]);
    }

    #[test]
    fn runs_without_a_seed_differ_unless_the_program_gets_one() {
        let mut own = program(None);
        let runs = [draws(&mut own), draws(&mut own), draws(&mut program(None))];
        assert!(runs[0] != runs[1] && runs[0] != runs[2] && runs[0][0] != runs[0][1]);
        own.seed(7);
        let seeded = [draws(&mut own), draws(&mut own)];
        let mut other = program(None);
        other.seed(7);
        assert_eq!(seeded, [draws(&mut other), draws(&mut other)]);
        assert_ne!(seeded[0], seeded[1]);
    }
}
