//! Reductions, softmax and its kin, running sums, and normalisation by statistics of the input alone.

use super::{Rule, rule};
use crate::context::Context;
use crate::node::{Node, Outcome, Stop};
use crate::value::Tensor;
use rlx_ir::ops::{ArgReduceKind, ReduceKind};
use rlx_ir::{DType, Dim, Graph, Value};

pub(super) const RULES: &[Rule] = &[
    rule("ReduceSum", &[1, 11, 13], |cx, node| {
        reduce(cx, node, |cx, x, over| Ok(over.reduce(cx.graph(), x, ReduceKind::Sum)))
    }),
    rule("ReduceMean", &[1, 11, 13, 18], |cx, node| reduce(cx, node, mean)),
    rule("ReduceMax", &[1, 11, 12, 13, 18, 20], |cx, node| {
        reduce(cx, node, |cx, x, over| extreme(cx, x, over, ReduceKind::Max, ReduceKind::Any))
    }),
    rule("ReduceMin", &[1, 11, 12, 13, 18, 20], |cx, node| {
        reduce(cx, node, |cx, x, over| extreme(cx, x, over, ReduceKind::Min, ReduceKind::All))
    }),
    rule("ReduceProd", &[1, 11, 13, 18], |cx, node| {
        reduce(cx, node, |cx, x, over| Ok(over.reduce(cx.graph(), x, ReduceKind::Prod)))
    }),
    rule("ReduceL1", &[1, 11, 13, 18], |cx, node| reduce(cx, node, sum_of_magnitudes)),
    rule("ReduceL2", &[1, 11, 13, 18], |cx, node| {
        reduce(cx, node, |cx, x, over| {
            let sum = sum_of_squares(cx, x, over)?;
            in_floats(cx, sum, |graph, sum| graph.sqrt(sum))
        })
    }),
    rule("ReduceSumSquare", &[1, 11, 13, 18], |cx, node| reduce(cx, node, sum_of_squares)),
    rule("ReduceLogSum", &[1, 11, 13, 18, 28], |cx, node| {
        reduce(cx, node, |cx, x, over| {
            let sum = over.reduce(cx.graph(), x, ReduceKind::Sum);
            in_floats(cx, sum, |graph, sum| graph.log(sum))
        })
    }),
    rule("ReduceLogSumExp", &[1, 11, 13, 18, 28], |cx, node| {
        reduce(cx, node, |cx, x, over| in_floats(cx, x, |graph, x| log_sum_exp(graph, x, over)))
    }),
    rule("ArgMax", &[1, 11, 12, 13], |cx, node| arg_reduce(cx, node, ArgReduceKind::Max)),
    rule("ArgMin", &[1, 11, 12, 13], |cx, node| arg_reduce(cx, node, ArgReduceKind::Min)),
    rule("Softmax", &[1, 11, 13], softmax),
    rule("LogSoftmax", &[1, 11, 13], |cx, node| {
        along_classes(cx, node, |graph, x, axis| graph.log_softmax(x, axis))
    }),
    rule("Hardmax", &[1, 11, 13], |cx, node| along_classes(cx, node, hardmax)),
    rule("CumSum", &[11, 14], |cx, node| {
        running(cx, node, |graph, x, axis, exclusive, reverse| graph.cumsum(x, axis, exclusive, reverse))
    }),
    rule("CumProd", &[26], |cx, node| {
        running(cx, node, |graph, x, axis, exclusive, reverse| graph.cum_prod(x, axis, exclusive, reverse))
    }),
    rule("LpNormalization", &[1, 22], lp_normalization),
    rule("MeanVarianceNormalization", &[9, 13], mean_variance_normalization),
];

/// What a reduction reduces over.
struct Over {
    axes: Vec<usize>,
    keep_dims: bool,
}

impl Over {
    fn reduce(&self, graph: &mut Graph, x: Value, kind: ReduceKind) -> Value {
        graph.reduce(x, kind, self.axes.clone(), self.keep_dims)
    }
}

type Reduction = for<'a, 'm> fn(&'a mut Context<'m>, Value, &Over) -> Result<Value, Stop<'m>>;

/// Half-precision operands are computed in `f32` throughout.
fn reduce<'m>(cx: &mut Context<'m>, node: &Node<'m>, reduction: Reduction) -> Outcome<'m> {
    let rank = node.rank(0)?;
    let axes = node.axes(cx, "axes", 1)?.unwrap_or_default();
    let is_identity = node.flag("noop_with_empty_axes", false)?;
    let mut axes = match (axes.is_empty(), is_identity) {
        (true, false) => (0..rank).collect(),
        _ => node.axes_of(&axes, rank)?,
    };
    axes.sort_unstable();
    let over = Over { axes, keep_dims: node.flag("keepdims", true)? };
    let x = node.value(cx, 0)?;
    let wide = cx.graph().accumulation_cast(x);
    let y = reduction(cx, wide, &over)?;
    same_dtype(cx, node, y)
}

/// `y` as the result of `node`, in the dtype of its operand 0.
pub(super) fn same_dtype<'m>(cx: &mut Context<'m>, node: &Node<'m>, y: Value) -> Outcome<'m> {
    let x = node.value(cx, 0)?;
    let dtype = cx.ty(x)?.dtype;
    let y = cx.graph().cast_to(y, dtype);
    Ok(vec![cx.tensor(y)?])
}

/// `function` of `x`; integers are `f64` on the way.
fn in_floats<'m>(
    cx: &mut Context<'m>,
    x: Value,
    function: impl FnOnce(&mut Graph, Value) -> Value,
) -> Result<Value, Stop<'m>> {
    let dtype = cx.ty(x)?.dtype;
    let graph = cx.graph();
    let wide = if dtype.is_float() { x } else { graph.cast(x, DType::F64) };
    let y = function(graph, wide);
    Ok(graph.cast_to(y, dtype))
}

/// An extent as a number.
pub(super) fn number<'m>(cx: &mut Context<'m>, dim: Dim, dtype: DType) -> Result<Value, Stop<'m>> {
    let value = cx.value(&Tensor::dims(vec![dim], 0))?;
    Ok(cx.graph().cast_to(value, dtype))
}

/// Means of integers drop the fraction.
fn mean<'m>(cx: &mut Context<'m>, x: Value, over: &Over) -> Result<Value, Stop<'m>> {
    let ty = cx.ty(x)?;
    if ty.dtype.is_float() {
        return Ok(over.reduce(cx.graph(), x, ReduceKind::Mean));
    }
    let count = over.axes.iter().fold(Dim::from(1), |count, &axis| count * ty.shape[axis].clone());
    let count = number(cx, count, ty.dtype)?;
    let sum = over.reduce(cx.graph(), x, ReduceKind::Sum);
    Ok(cx.graph().div(sum, count))
}

fn extreme<'m>(
    cx: &mut Context<'m>,
    x: Value,
    over: &Over,
    of_numbers: ReduceKind,
    of_bools: ReduceKind,
) -> Result<Value, Stop<'m>> {
    let kind = if cx.ty(x)?.dtype == DType::Bool { of_bools } else { of_numbers };
    Ok(over.reduce(cx.graph(), x, kind))
}

fn sum_of_magnitudes<'m>(cx: &mut Context<'m>, x: Value, over: &Over) -> Result<Value, Stop<'m>> {
    let magnitudes = cx.graph().abs(x);
    Ok(over.reduce(cx.graph(), magnitudes, ReduceKind::Sum))
}

fn sum_of_squares<'m>(cx: &mut Context<'m>, x: Value, over: &Over) -> Result<Value, Stop<'m>> {
    let squares = cx.graph().mul(x, x);
    Ok(over.reduce(cx.graph(), squares, ReduceKind::Sum))
}

/// Computed relative to the largest element, so that nothing overflows.
fn log_sum_exp(graph: &mut Graph, x: Value, over: &Over) -> Value {
    let Some(ty) = graph.try_ty(x).cloned() else { return Value::POISON };
    let largest = graph.reduce(x, ReduceKind::Max, over.axes.clone(), true);
    // An infinite maximum would give the difference of infinities.
    let (magnitude, infinity) = (graph.abs(largest), graph.scalar(ty.dtype, f64::INFINITY));
    let is_finite = graph.compare_lt(magnitude, infinity);
    let zero = graph.scalar(ty.dtype, 0.0);
    let shift = graph.where_(is_finite, largest, zero);
    let shifted = graph.sub(x, shift);
    let exponentials = graph.exp(shifted);
    let sum = graph.reduce(exponentials, ReduceKind::Sum, over.axes.clone(), true);
    let log = graph.log(sum);
    let y = graph.add(log, shift);
    let dropped = over.axes.iter().rev().filter(|_| !over.keep_dims);
    dropped.fold(y, |y, &axis| graph.squeeze(y, axis as i64))
}

fn arg_reduce<'m>(cx: &mut Context<'m>, node: &Node<'m>, kind: ArgReduceKind) -> Outcome<'m> {
    let axis = node.axis(node.int_or("axis", 0)?, node.rank(0)?)?;
    let (keep_dims, select_last) = (node.flag("keepdims", true)?, node.flag("select_last_index", false)?);
    let x = node.value(cx, 0)?;
    let y = cx.graph().arg_reduce(x, kind, axis, keep_dims, select_last, DType::I64);
    Ok(vec![cx.tensor(y)?])
}

pub(super) fn softmax<'m>(cx: &mut Context<'m>, node: &Node<'m>) -> Outcome<'m> {
    along_classes(cx, node, |graph, x, axis| graph.softmax(x, axis))
}

/// Softmax and its kin. Before version 13 all axes from `axis` on are one.
fn along_classes<'m>(
    cx: &mut Context<'m>,
    node: &Node<'m>,
    function: fn(&mut Graph, Value, usize) -> Value,
) -> Outcome<'m> {
    let is_flattening = node.version < 13;
    let shape = node.shape(0)?.clone();
    let axis = node.axis(node.int_or("axis", if is_flattening { 1 } else { -1 })?, shape.rank())?;
    let x = node.value(cx, 0)?;
    let y = if is_flattening && axis + 1 < shape.rank() {
        let product = |dims: &[Dim]| dims.iter().fold(Dim::from(1), |a, b| a * b.clone());
        let (outer, inner) = shape.dims().split_at(axis);
        let flat = cx.graph().reshape(x, vec![product(outer), product(inner)]);
        let y = function(cx.graph(), flat, 1);
        cx.graph().reshape(y, shape)
    } else {
        function(cx.graph(), x, axis)
    };
    Ok(vec![cx.tensor(y)?])
}

fn hardmax(graph: &mut Graph, x: Value, axis: usize) -> Value {
    let Some(ty) = graph.try_ty(x).cloned() else { return Value::POISON };
    let largest = graph.arg_reduce(x, ArgReduceKind::Max, axis, false, false, DType::I64);
    graph.one_hot(largest, ty.shape[axis].clone(), axis, ty.dtype)
}

/// Running sums and products; the axis is operand 1.
fn running<'m>(
    cx: &mut Context<'m>,
    node: &Node<'m>,
    function: fn(&mut Graph, Value, usize, bool, bool) -> Value,
) -> Outcome<'m> {
    let axis = node.axis(node.known_int(cx, 1)?, node.rank(0)?)?;
    let (exclusive, reverse) = (node.flag("exclusive", false)?, node.flag("reverse", false)?);
    let x = node.value(cx, 0)?;
    let y = function(cx.graph(), x, axis, exclusive, reverse);
    Ok(vec![cx.tensor(y)?])
}

/// A row of zeros stays what it is.
fn lp_normalization<'m>(cx: &mut Context<'m>, node: &Node<'m>) -> Outcome<'m> {
    let axis = node.axis(node.int_or("axis", -1)?, node.rank(0)?)?;
    let over = Over { axes: vec![axis], keep_dims: true };
    let x = node.value(cx, 0)?;
    let x = cx.graph().accumulation_cast(x);
    let norm = match node.int_or("p", 2)? {
        1 => sum_of_magnitudes(cx, x, &over)?,
        2 => {
            let sum = sum_of_squares(cx, x, &over)?;
            cx.graph().sqrt(sum)
        }
        p => return Err(Stop::Invalid(format!("p is {p}, expected 1 or 2"))),
    };
    let dtype = cx.ty(x)?.dtype;
    let graph = cx.graph();
    let (zero, one) = (graph.scalar(dtype, 0.0), graph.scalar(dtype, 1.0));
    let is_zero = graph.compare_eq(norm, zero);
    let divisor = graph.where_(is_zero, one, norm);
    let y = graph.div(x, divisor);
    same_dtype(cx, node, y)
}

fn mean_variance_normalization<'m>(cx: &mut Context<'m>, node: &Node<'m>) -> Outcome<'m> {
    let axes = node.ints("axes")?.unwrap_or_else(|| vec![0, 2, 3]);
    let mut axes = node.axes_of(&axes, node.rank(0)?)?;
    axes.sort_unstable();
    let over = Over { axes, keep_dims: true };
    let x = node.value(cx, 0)?;
    let x = cx.graph().accumulation_cast(x);
    let (dtype, graph) = (cx.ty(x)?.dtype, cx.graph());
    let mean = over.reduce(graph, x, ReduceKind::Mean);
    let centred = graph.sub(x, mean);
    let squares = graph.mul(centred, centred);
    let variance = over.reduce(graph, squares, ReduceKind::Mean);
    let deviation = graph.sqrt(variance);
    let least = graph.scalar(dtype, 1e-9);
    let divisor = graph.add(deviation, least);
    let y = graph.div(centred, divisor);
    same_dtype(cx, node, y)
}
