//! Normalisation with scales and biases.

use super::reduce::same_dtype;
use super::{Rule, rule};
use crate::context::Context;
use crate::node::{Node, Outcome, Stop};
use crate::tensor;
use crate::value::Imported;
use rlx_ir::ops::{BatchNorm, PoolKind, ReduceKind};
use rlx_ir::{DType, Dim, Graph, Shape, Value};

pub(super) const RULES: &[Rule] = &[
    rule("LayerNormalization", &[17], layer_normalization),
    rule("RMSNormalization", &[23], rms_normalization),
    // What ONNX Runtime calls it, in the domain of ONNX.
    rule("SimplifiedLayerNormalization", &[1], rms_normalization),
    rule("GroupNormalization", &[18, 21], group_normalization),
    rule("InstanceNormalization", &[1, 6, 22], instance_normalization),
    rule("BatchNormalization", &[1, 6, 7, 9, 14, 15], batch_normalization),
    rule("LRN", &[1, 13], lrn),
];

fn epsilon<'m>(node: &Node<'m>) -> Result<f64, Stop<'m>> {
    epsilon_or(node, 1e-5)
}

pub(super) fn epsilon_or<'m>(node: &Node<'m>, default: f32) -> Result<f64, Stop<'m>> {
    Ok(node.float_or("epsilon", default)?.into())
}

/// The dtype of the first stage. Half precision is computed in `f32` whatever it says, and `f64` in `f64`.
fn stash_type<'m>(node: &Node<'m>) -> Result<DType, Stop<'m>> {
    let dtype = tensor::dtype(node.int_or("stash_type", 1)? as i32).map_err(Stop::Invalid)?;
    match dtype.is_float() {
        true => Ok(dtype),
        false => Err(Stop::Invalid(format!("stash_type is {dtype}, expected a float"))),
    }
}

/// The axes from `axis` on.
fn trailing_axes<'m>(node: &Node<'m>) -> Result<Vec<usize>, Stop<'m>> {
    let rank = node.rank(0)?;
    Ok((node.axis(node.int_or("axis", -1)?, rank)?..rank).collect())
}

/// Operand `index`, where it has exactly the extents of `x` from its axis `axis` on.
fn fitting<'m>(
    cx: &mut Context<'m>,
    node: &Node<'m>,
    index: usize,
    axis: usize,
) -> Result<Option<Value>, Stop<'m>> {
    let Some(operand) = node.optional_tensor(index)? else { return Ok(None) };
    let x = node.tensor(0)?;
    match operand.dtype == x.dtype && operand.shape.dims() == &x.shape.dims()[axis..] {
        true => node.optional(cx, index),
        false => Ok(None),
    }
}

/// `y` combined with operand `index`, which broadcasts to it.
fn broadcast<'m>(
    cx: &mut Context<'m>,
    node: &Node<'m>,
    index: usize,
    y: Value,
    combine: fn(&mut Graph, Value, Value) -> Value,
) -> Result<Value, Stop<'m>> {
    let Some(operand) = node.optional(cx, index)? else { return Ok(y) };
    let (ty, of) = (cx.ty(y)?, cx.ty(operand)?);
    let y = cx.graph().cast_to(y, of.dtype);
    let combined = combine(cx.graph(), y, operand);
    match cx.ty(combined)?.shape == ty.shape {
        true => Ok(combined),
        false => Err(Stop::Invalid(format!("operand {index}, {of}, does not broadcast to {}", ty.shape))),
    }
}

fn layer_normalization<'m>(cx: &mut Context<'m>, node: &Node<'m>) -> Outcome<'m> {
    let (axes, eps, stash) = (trailing_axes(node)?, epsilon(node)?, stash_type(node)?);
    let x = node.value(cx, 0)?;
    let scale = fitting(cx, node, 1, axes[0])?;
    let bias = if scale.is_some() { fitting(cx, node, 2, axes[0])? } else { None };
    let mut y = cx.graph().layer_norm(x, scale, bias, axes.clone(), eps);
    if scale.is_none() {
        y = broadcast(cx, node, 1, y, |graph, y, scale| graph.mul(y, scale))?;
    }
    if bias.is_none() {
        y = broadcast(cx, node, 2, y, |graph, y, bias| graph.add(y, bias))?;
    }
    let mut results = vec![cx.tensor(y)?];
    if node.wants(1) || node.wants(2) {
        results.extend(statistics(cx, x, axes, eps, stash)?);
    }
    Ok(results)
}

/// The mean of `x` and the inverse of its standard deviation over `axes`, which stay with extent 1.
pub(super) fn statistics<'m>(
    cx: &mut Context<'m>,
    x: Value,
    axes: Vec<usize>,
    eps: f64,
    dtype: DType,
) -> Result<[Imported; 2], Stop<'m>> {
    let x = cx.graph().accumulation_cast(x);
    let (mean, variance) = moments(cx.graph(), x, &axes);
    let wide = cx.ty(x)?.dtype;
    let graph = cx.graph();
    let eps = graph.scalar(wide, eps);
    let sum = graph.add(variance, eps);
    let inverse = graph.rsqrt(sum);
    let (mean, inverse) = (graph.cast_to(mean, dtype), graph.cast_to(inverse, dtype));
    Ok([cx.tensor(mean)?, cx.tensor(inverse)?])
}

/// Mean and mean squared deviation over `axes`, which stay with extent 1.
fn moments(graph: &mut Graph, x: Value, axes: &[usize]) -> (Value, Value) {
    let mean = graph.reduce(x, ReduceKind::Mean, axes.to_vec(), true);
    let centred = graph.sub(x, mean);
    let squares = graph.mul(centred, centred);
    (mean, graph.reduce(squares, ReduceKind::Mean, axes.to_vec(), true))
}

/// The result has the dtype of the scale.
fn rms_normalization<'m>(cx: &mut Context<'m>, node: &Node<'m>) -> Outcome<'m> {
    let (axes, eps) = (trailing_axes(node)?, epsilon(node)?);
    stash_type(node)?;
    let x = node.value(cx, 0)?;
    let scale = fitting(cx, node, 1, axes[0])?;
    let mut y = cx.graph().rms_norm(x, scale, None, axes, eps, false);
    if scale.is_none() {
        y = broadcast(cx, node, 1, y, |graph, y, scale| graph.mul(y, scale))?;
    }
    Ok(vec![cx.tensor(y)?])
}

/// Before version 21 there is one scale per group, then one per channel.
fn group_normalization<'m>(cx: &mut Context<'m>, node: &Node<'m>) -> Outcome<'m> {
    let eps = epsilon(node)?;
    stash_type(node)?;
    let missing = || Stop::Invalid("it has no num_groups".into());
    let count = node.int("num_groups")?.ok_or_else(missing)?;
    let illegal = || Stop::Invalid(format!("num_groups is {count}"));
    let groups = usize::try_from(count).ok().filter(|&count| count > 0).ok_or_else(illegal)?;
    let channels = channels(node)?;
    let x = node.value(cx, 0)?;
    let mut parts = [node.value(cx, 1)?, node.value(cx, 2)?];
    if node.version < 21 {
        for part in &mut parts {
            let graph = cx.graph();
            let column = graph.unsqueeze(*part, 1);
            let each = channels.floor_div(&Dim::from(groups));
            let spread = graph.expand(column, vec![Dim::from(groups), each.clone()]);
            *part = graph.reshape(spread, vec![Dim::from(groups) * each]);
        }
    }
    let [scale, bias] = parts;
    let y = cx.graph().group_norm(x, Some(scale), Some(bias), groups, eps);
    Ok(vec![cx.tensor(y)?])
}

fn channels<'m>(node: &Node<'m>) -> Result<Dim, Stop<'m>> {
    let shape = node.shape(0)?;
    let missing = || Stop::Invalid(format!("its operand {shape} has no channels"));
    shape.dims().get(1).cloned().ok_or_else(missing)
}

fn instance_normalization<'m>(cx: &mut Context<'m>, node: &Node<'m>) -> Outcome<'m> {
    // A hint where results may be stored.
    node.without_influence("consumed_inputs");
    let eps = epsilon(node)?;
    let (x, scale, bias) = (node.value(cx, 0)?, node.value(cx, 1)?, node.value(cx, 2)?);
    let y = cx.graph().instance_norm(x, Some(scale), Some(bias), eps);
    Ok(vec![cx.tensor(y)?])
}

/// Does the node normalise by the statistics of its operand? Versions 7 and 9 say it by the number of results.
fn is_training<'m>(node: &Node<'m>) -> Result<bool, Stop<'m>> {
    Ok(match node.version {
        ..7 => !node.flag("is_test", false)?,
        7..14 => (1..node.output_count()).any(|index| node.wants(index)),
        _ => node.flag("training_mode", false)?,
    })
}

fn batch_normalization<'m>(cx: &mut Context<'m>, node: &Node<'m>) -> Outcome<'m> {
    node.without_influence("consumed_inputs");
    let (eps, momentum) = (epsilon(node)?, f64::from(node.float_or("momentum", 0.9)?));
    let is_training = is_training(node)?;
    let shape = node.shape(0)?.clone();
    let is_per_channel = node.version >= 9 || node.flag("spatial", true)?;
    // A vector is a batch of one channel; statistics per element are those of one long row of channels.
    let flat = match shape.rank() {
        0 => return Err(Stop::Invalid("its operand is a scalar".into())),
        1 => Shape::from(vec![shape[0].clone(), Dim::from(1)]),
        _ if is_per_channel => shape.clone(),
        _ => {
            let row = shape.dims()[1..].iter().fold(Dim::from(1), |a, b| a * b.clone());
            Shape::from(vec![shape[0].clone(), row])
        }
    };
    let dtypes = (0..5).map(|index| node.dtype(index)).collect::<Result<Vec<_>, _>>()?;
    let is_mixed = dtypes.iter().any(|&dtype| dtype != dtypes[0]);
    let wide = if dtypes.contains(&DType::F64) { DType::F64 } else { DType::F32 };
    let dtype = if is_mixed { wide } else { dtypes[0] };
    let mut operands = vec![];
    for index in 0..5 {
        let value = node.value(cx, index)?;
        let to = if index == 0 { flat.clone() } else { Shape::from(vec![flat[1].clone()]) };
        let value = cx.graph().cast_to(value, dtype);
        operands.push(if cx.ty(value)?.shape == to { value } else { cx.graph().reshape(value, to) });
    }
    let [x, scale, bias, mean, variance] = operands[..] else {
        return Err(Stop::Invalid("it has 5 operands".into()));
    };
    let per_channel = node.shape(3)?.clone();
    let graph = cx.graph();
    let mut values = if is_training {
        let op = BatchNorm { axis: 1, eps: eps.into(), momentum: momentum.into(), gamma: true, beta: true };
        graph.push_all(op, &[x, mean, variance, scale, bias])
    } else {
        vec![graph.batch_norm_inference(x, mean, variance, Some(scale), Some(bias), 1usize, eps)]
    };
    if node.version < 14 && is_training && (node.wants(3) || node.wants(4)) {
        let axes: Vec<usize> = (0..flat.rank()).filter(|&axis| axis != 1).collect();
        let x = graph.accumulation_cast(x);
        let (mean, variance) = moments(graph, x, &axes);
        values.extend([mean, variance]);
    }
    let mut results = vec![];
    for (index, value) in values.into_iter().enumerate() {
        let (shape, dtype) = if index == 0 { (&shape, dtypes[0]) } else { (&per_channel, dtypes[3]) };
        let value = cx.graph().cast_to(value, dtype);
        let value =
            if cx.ty(value)?.shape == *shape { value } else { cx.graph().reshape(value, shape.clone()) };
        results.push(cx.tensor(value)?);
    }
    Ok(results)
}

/// The mean of squares over a window of channels is that of a pool that counts its padding.
fn lrn<'m>(cx: &mut Context<'m>, node: &Node<'m>) -> Outcome<'m> {
    let missing = || Stop::Invalid("it has no size".into());
    let size = node.int("size")?.ok_or_else(missing)?;
    let illegal = || Stop::Invalid(format!("size is {size}, expected 1 or more"));
    let size = usize::try_from(size).ok().filter(|&size| size > 0).ok_or_else(illegal)?;
    let (alpha, beta) = (node.float_or("alpha", 1e-4)?, node.float_or("beta", 0.75)?);
    let bias = node.float_or("bias", 1.0)?;
    let (shape, channels) = (node.shape(0)?.clone(), channels(node)?);
    let x = node.value(cx, 0)?;
    let x = cx.graph().accumulation_cast(x);
    let dtype = cx.ty(x)?.dtype;
    let graph = cx.graph();
    let squares = graph.mul(x, x);
    let row = shape.dims()[2..].iter().fold(Dim::from(1), |a, b| a * b.clone());
    let flat = graph.reshape(squares, vec![shape[0].clone(), Dim::from(1), channels, row]);
    let (low, high) = ((size - 1) / 2, size / 2);
    let means = graph.pool(
        flat,
        PoolKind::Mean,
        vec![size, 1],
        vec![1, 1],
        vec![low, 0],
        vec![high, 0],
        vec![1, 1],
        false,
        true,
        None,
    );
    let means = graph.reshape(means, shape);
    let [alpha, beta, bias] = [alpha, -beta, bias].map(|number| graph.scalar(dtype, number.into()));
    let scaled = graph.mul(means, alpha);
    let base = graph.add(scaled, bias);
    let factor = graph.pow(base, beta);
    let y = graph.mul(x, factor);
    same_dtype(cx, node, y)
}
