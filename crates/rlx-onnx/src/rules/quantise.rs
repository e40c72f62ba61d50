//! Quantisation: floats as small numbers with scales and zero points, and products of such numbers.

use super::cast::{Rounding, number};
use super::{Rule, rule};
use crate::context::Context;
use crate::host::computed;
use crate::node::{Node, Outcome, Stop};
use crate::tensor;
use rlx_ir::number::mini_float;
use rlx_ir::ops::{Activation, ActivationKind, ReduceKind};
use rlx_ir::{DType, Dim, Graph, Shape, Value};

pub(super) const RULES: &[Rule] = &[
    rule("QuantizeLinear", &[10, 13, 19, 21, 23, 24, 25, 28], quantize_linear),
    rule("DequantizeLinear", &[10, 13, 19, 21, 23, 24, 25, 28], dequantize_linear),
    rule("DynamicQuantizeLinear", &[11], dynamic_quantize_linear),
    rule("MatMulInteger", &[10], matmul_integer),
    rule("QLinearMatMul", &[10, 21], qlinear_matmul),
];

/// How scales lie over a tensor: one for all, one per position along `axis`, or, where `block` is not 0, one for each
/// `block` positions along it.
struct Granularity {
    shape: Shape,
    axis: i64,
    block: usize,
}

impl Granularity {
    fn read<'m>(node: &Node<'m>) -> Result<Granularity, Stop<'m>> {
        let block = node.int_or("block_size", 0)?;
        let negative = || Stop::Invalid(format!("its block_size is {block}"));
        Ok(Granularity {
            shape: node.shape(0)?.clone(),
            axis: node.int_or("axis", 1)?,
            block: usize::try_from(block).map_err(|_| negative())?,
        })
    }

    fn axis<'m>(&self, node: &Node<'m>) -> Result<usize, Stop<'m>> {
        if self.shape.rank() == 1 { Ok(0) } else { node.axis(self.axis, self.shape.rank()) }
    }

    /// Is there one scale for each block, of those of shape `scales`?
    fn is_blocked<'m>(&self, node: &Node<'m>, scales: &Shape) -> Result<bool, Stop<'m>> {
        if self.block == 0 || scales.num_elements().is(1) {
            return Ok(false);
        }
        let axis = self.axis(node)?;
        let mut expected = self.shape.dims().to_vec();
        expected[axis] = expected[axis].ceil_div(&Dim::from(self.block));
        let expected = Shape::from(expected);
        match *scales == expected {
            true => Ok(true),
            false => Err(Stop::Invalid(format!(
                "blocks of {} along axis {axis} of {} have scales of shape {expected}, found {scales}",
                self.block, self.shape
            ))),
        }
    }

    /// Scales or zero points that are not per block, so that they broadcast to the tensor.
    fn aligned<'m>(&self, cx: &mut Context<'m>, node: &Node<'m>, values: Value) -> Result<Value, Stop<'m>> {
        let shape = cx.ty(values)?.shape;
        if shape.num_elements().is(1) {
            return Ok(cx.graph().reshape(values, Shape::scalar()));
        }
        if shape.rank() != 1 {
            return Err(Stop::Invalid(format!("scales of shape {shape} need a block_size")));
        }
        let mut dims = vec![Dim::from(1); self.shape.rank()];
        let axis = self.axis(node)?;
        if shape.dims()[0] != self.shape.dims()[axis] {
            return Err(Stop::Invalid(format!(
                "there are {shape} scales along axis {axis} of {}",
                self.shape
            )));
        }
        dims[axis] = shape.dims()[0].clone();
        Ok(cx.graph().reshape(values, Shape::from(dims)))
    }

    /// Scales or zero points, so that they broadcast to the tensor.
    fn spread<'m>(&self, cx: &mut Context<'m>, node: &Node<'m>, values: Value) -> Result<Value, Stop<'m>> {
        let shape = cx.ty(values)?.shape;
        if !self.is_blocked(node, &shape)? {
            return self.aligned(cx, node, values);
        }
        let axis = self.axis(node)?;
        let mut dims = shape.into_dims();
        let graph = cx.graph();
        let each = graph.unsqueeze(values, axis as i64 + 1);
        dims.insert(axis + 1, Dim::from(self.block));
        let each = graph.expand(each, Shape::from(dims.clone()));
        let len = dims.remove(axis) * Dim::from(self.block);
        dims[axis] = len.clone();
        let each = graph.reshape(each, Shape::from(dims));
        let wanted = self.shape.dims()[axis].clone();
        // The last block need not be whole.
        Ok(if len == wanted { each } else { graph.narrow(each, axis, 0, wanted) })
    }
}

/// The dtype that attribute `name` names, if it names one.
fn named_dtype<'m>(node: &Node<'m>, name: &str) -> Result<Option<DType>, Stop<'m>> {
    match node.int_or(name, 0)? {
        0 => Ok(None),
        code => tensor::dtype(i32::try_from(code).unwrap_or(-1)).map(Some).map_err(Stop::Refused),
    }
}

pub(super) fn quantize_linear<'m>(cx: &mut Context<'m>, node: &Node<'m>) -> Outcome<'m> {
    let (x, scale, zero_point) = (node.value(cx, 0)?, node.value(cx, 1)?, node.optional(cx, 2)?);
    let named = named_dtype(node, "output_dtype")?;
    let given = node.optional_tensor(2)?.map(|tensor| tensor.dtype);
    if let (Some(named), Some(given)) = (named, given)
        && named != given
    {
        return Err(Stop::Invalid(format!("its output_dtype is {named}, its zero point is {given}")));
    }
    let to = given.or(named).unwrap_or(DType::U8);
    let scales = node.dtype(1)?;
    let precision = match named_dtype(node, "precision")? {
        Some(precision) => precision,
        None if scales.is_int() => DType::F64,
        None if scales == DType::F8E8M0 => DType::F32,
        None => scales,
    };
    if !precision.is_float() || precision.block_bits() < 16 {
        return Err(Stop::Invalid(format!("its precision is {precision}")));
    }
    let wide = if precision == DType::F64 { DType::F64 } else { DType::F32 };
    let granularity = Granularity::read(node)?;
    let scale = granularity.spread(cx, node, scale)?;
    let graph = cx.graph();
    // Each step rounds to `precision`.
    let rounded = |graph: &mut Graph, value: Value| {
        let value = graph.cast_to(value, precision);
        graph.cast_to(value, wide)
    };
    let (x, scale) = (rounded(graph, x), rounded(graph, scale));
    let y = graph.div(x, scale);
    let y = rounded(graph, y);
    let zero_point = match zero_point {
        Some(zero_point) => Some(granularity.spread(cx, node, zero_point)?),
        None => None,
    };
    let rounding = Rounding { saturates: node.flag("saturate", true)?, ..Rounding::SATURATING };
    let y = codes(cx.graph(), (y, wide), zero_point, to, rounding)
        .ok_or_else(|| Stop::Invalid(format!("{to} is no quantised type")))?;
    Ok(vec![cx.tensor_as(y, to)?])
}

/// Numbers in units of their scale as codes of dtype `to`; `None` where codes are not of that dtype.
fn codes(
    graph: &mut Graph,
    (x, wide): (Value, DType),
    zero_point: Option<Value>,
    to: DType,
    rounding: Rounding,
) -> Option<Value> {
    let range = to.int_range().filter(|_| to.is_int() && to.block_bits() <= 16);
    if range.is_none() && mini_float(to).is_none() {
        return None;
    }
    let mut y = x;
    if range.is_some() {
        y = graph.push(Activation::of(ActivationKind::Round), &[y]);
    }
    if let Some(zero_point) = zero_point {
        let zero_point = graph.cast_to(zero_point, wide);
        y = graph.add(y, zero_point);
    }
    Some(match range {
        Some((low, high)) => {
            let y = graph.clip(y, low as f64, high as f64);
            graph.cast(y, computed(to))
        }
        None => number(graph, y, (wide, to), rounding),
    })
}

pub(super) fn dequantize_linear<'m>(cx: &mut Context<'m>, node: &Node<'m>) -> Outcome<'m> {
    let (x, mut scale, mut zero_point) = (node.value(cx, 0)?, node.value(cx, 1)?, node.optional(cx, 2)?);
    let scales = node.dtype(1)?;
    let to = named_dtype(node, "output_dtype")?.unwrap_or(scales);
    if !to.is_float() || to.block_bits() < 16 {
        return Err(Stop::Invalid(format!("its result is {to}, expected a float type; see output_dtype")));
    }
    let granularity = Granularity::read(node)?;
    let is_integer = node.dtype(0)?.is_int();
    if is_integer || zero_point.is_none() && node.dtype(0)? != DType::F4E2M1 {
        let mut block = vec![];
        if granularity.is_blocked(node, node.shape(1)?)? {
            block = vec![1; granularity.shape.rank()];
            block[granularity.axis(node)?] = granularity.block;
        } else {
            scale = granularity.aligned(cx, node, scale)?;
            zero_point =
                zero_point.map(|zero_point| granularity.aligned(cx, node, zero_point)).transpose()?;
        }
        let y = cx.graph().dequantize(x, Some(scale), zero_point, block, to);
        return Ok(vec![cx.tensor(y)?]);
    }
    let scale = granularity.spread(cx, node, scale)?;
    let graph = cx.graph();
    let (mut y, scale) = (graph.cast_to(x, DType::F32), graph.cast_to(scale, DType::F32));
    if let Some(zero_point) = zero_point {
        let zero_point = granularity.spread(cx, node, zero_point)?;
        let zero_point = cx.graph().cast_to(zero_point, DType::F32);
        y = cx.graph().sub(y, zero_point);
    }
    let y = cx.graph().mul(y, scale);
    let y = cx.graph().cast_to(y, to);
    Ok(vec![cx.tensor(y)?])
}

pub(super) fn dynamic_quantize_linear<'m>(cx: &mut Context<'m>, node: &Node<'m>) -> Outcome<'m> {
    let (x, rank) = (node.value(cx, 0)?, node.rank(0)?);
    let graph = cx.graph();
    let (zero, levels) = (graph.scalar(DType::F32, 0.0), graph.scalar(DType::F32, 255.0));
    let axes: Vec<usize> = (0..rank).collect();
    let high = graph.reduce(x, ReduceKind::Max, axes.clone(), false);
    let low = graph.reduce(x, ReduceKind::Min, axes, false);
    let (high, low) = (graph.maximum(high, zero), graph.minimum(low, zero));
    let span = graph.sub(high, low);
    let scale = graph.div(span, levels);
    let first = graph.div(low, scale);
    let first = graph.neg(first);
    let first = graph.clip(first, 0.0, 255.0);
    let first = graph.push(Activation::of(ActivationKind::Round), &[first]);
    let zero_point = graph.cast(first, DType::U8);
    let y = graph.quantize(x, Some(scale), Some(zero_point), vec![], DType::U8);
    cx.tensors([y, scale, zero_point])
}

/// Scales or zero points of the left operand of a product: a vector has one for each row.
pub(super) fn by_rows<'m>(cx: &mut Context<'m>, values: Value) -> Result<Value, Stop<'m>> {
    let shape = cx.ty(values)?.shape;
    let graph = cx.graph();
    Ok(match shape.rank() {
        _ if shape.num_elements().is(1) => graph.reshape(values, Shape::scalar()),
        1 => graph.unsqueeze(values, 1),
        _ => values,
    })
}

/// Scales or zero points of the right operand of a product: a vector has one for each column.
pub(super) fn by_columns<'m>(cx: &mut Context<'m>, values: Value) -> Result<Value, Stop<'m>> {
    let shape = cx.ty(values)?.shape;
    Ok(if shape.num_elements().is(1) { cx.graph().reshape(values, Shape::scalar()) } else { values })
}

/// A product of matrices, where a vector on the left is a row and one on the right a column, whose axis the result
/// does not have.
fn product<'m>(
    cx: &mut Context<'m>,
    node: &Node<'m>,
    [left, right]: [usize; 2],
    multiply: impl FnOnce(&mut Graph, Value, Value) -> Value,
) -> Result<Value, Stop<'m>> {
    let (mut a, mut b) = (node.value(cx, left)?, node.value(cx, right)?);
    let (is_row, is_column) = (node.rank(left)? == 1, node.rank(right)? == 1);
    let graph = cx.graph();
    if is_row {
        a = graph.unsqueeze(a, 0);
    }
    if is_column {
        b = graph.unsqueeze(b, 1);
    }
    let mut y = multiply(graph, a, b);
    if is_column {
        y = graph.squeeze(y, -1);
    }
    Ok(if is_row { graph.squeeze(y, if is_column { -1 } else { -2 }) } else { y })
}

pub(super) fn matmul_integer<'m>(cx: &mut Context<'m>, node: &Node<'m>) -> Outcome<'m> {
    let (a, b) = (node.optional(cx, 2)?, node.optional(cx, 3)?);
    let a = a.map(|zero_point| by_rows(cx, zero_point)).transpose()?;
    let b = b.map(|zero_point| by_columns(cx, zero_point)).transpose()?;
    let y = product(cx, node, [0, 1], |graph, x, w| graph.qmatmul(x, w, a, b, None, None, None, DType::I32))?;
    Ok(vec![cx.tensor(y)?])
}

/// The product of the scales of two factors over that of the result, in `f32`.
fn multiplier<'m>(cx: &mut Context<'m>, [a, b, y]: [Value; 3]) -> Value {
    let graph = cx.graph();
    let [a, b, y] = [a, b, y].map(|scale| graph.cast_to(scale, DType::F32));
    let factor = graph.mul(a, b);
    graph.div(factor, y)
}

fn qlinear_matmul<'m>(cx: &mut Context<'m>, node: &Node<'m>) -> Outcome<'m> {
    let mut operands = vec![];
    for index in [1, 2, 4, 5, 6, 7] {
        let value = node.value(cx, index)?;
        operands.push(if index < 3 { by_rows(cx, value)? } else { by_columns(cx, value)? });
    }
    let [a_scale, a_zero, b_scale, b_zero, y_scale, y_zero] = operands[..] else {
        return Err(Stop::Invalid("it has eight operands".into()));
    };
    for index in [6, 7] {
        let shape = node.shape(index)?;
        if shape.rank() == 1 && !shape.num_elements().is(1) {
            return Err(Stop::Refused(format!("operand {index} is a vector {shape}, of rows or of columns")));
        }
    }
    let factor = multiplier(cx, [a_scale, b_scale, y_scale]);
    let to = node.dtype(7)?;
    let is_integer = [node.dtype(0)?, node.dtype(3)?, to].iter().all(|dtype| dtype.is_int());
    let y = product(cx, node, [0, 3], |graph, a, b| {
        if is_integer {
            return graph.qmatmul(a, b, Some(a_zero), Some(b_zero), None, Some(factor), Some(y_zero), to);
        }
        let [a, b] = [(a, a_zero), (b, b_zero)].map(|(x, zero)| {
            let (x, zero) = (graph.cast_to(x, DType::F32), graph.cast_to(zero, DType::F32));
            graph.sub(x, zero)
        });
        let sum = graph.mm(a, b);
        let scaled = graph.mul(sum, factor);
        codes(graph, (scaled, DType::F32), Some(y_zero), to, Rounding::SATURATING).unwrap_or(Value::POISON)
    })?;
    Ok(vec![cx.tensor(y)?])
}
