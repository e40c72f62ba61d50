//! Pools: reductions of windows and of whole planes, and the way back.

use super::windows::{AutoPad, Places, Windows, check_axes, spatial};
use super::{Rule, rule};
use crate::context::Context;
use crate::dims::materialise;
use crate::node::{Node, Outcome, Stop};
use rlx_ir::attr::Real;
use rlx_ir::ops::{ArgReduceKind, PadMode, Pool, PoolKind, ReduceKind, ScatterKind};
use rlx_ir::{DType, Dim, Graph, Literal, Value};

pub(super) const RULES: &[Rule] = &[
    rule("MaxPool", &[1, 8, 10, 11, 12, 22], max_pool),
    rule("AveragePool", &[1, 7, 10, 11, 19, 22], |cx, node| one_pool(cx, node, PoolKind::Mean)),
    rule("LpPool", &[1, 2, 11, 18, 22], |cx, node| one_pool(cx, node, PoolKind::Lp)),
    rule("GlobalAveragePool", &[1, 22], |cx, node| global(cx, node, PoolKind::Mean)),
    rule("GlobalMaxPool", &[1, 22], |cx, node| global(cx, node, PoolKind::Max)),
    rule("GlobalLpPool", &[1, 2, 22], |cx, node| global(cx, node, PoolKind::Lp)),
    rule("MaxUnpool", &[9, 11, 22], max_unpool),
];

/// The windows of a pool, whose attribute `kernel_shape` says what one is.
fn pool_windows<'m>(node: &Node<'m>) -> Result<(Windows, Vec<Dim>), Stop<'m>> {
    let extents = spatial(node, 0)?;
    check_axes(extents.len())?;
    let window = node.ints("kernel_shape")?.ok_or_else(|| Stop::Invalid("it has no kernel_shape".into()))?;
    let windows = Windows::read(node, &extents, window.into_iter().map(Dim::from).collect())?;
    Ok((windows, extents))
}

/// The lowest number of a dtype.
pub(super) fn lowest(graph: &mut Graph, dtype: DType) -> Value {
    match dtype.int_range().map(|(low, _)| Literal::ints(dtype, &[], &[low])) {
        Some(Ok(low)) => graph.constant(low),
        _ => graph.scalar(dtype, f64::NEG_INFINITY),
    }
}

/// The exponent of a norm, which was a float in the first versions.
fn exponent<'m>(node: &Node<'m>) -> Result<f64, Stop<'m>> {
    let p = if node.version < 2 { f64::from(node.float_or("p", 2.0)?) } else { node.int_or("p", 2)? as f64 };
    if p > 0.0 && p.is_finite() { Ok(p) } else { Err(Stop::Refused(format!("a norm with the exponent {p}"))) }
}

pub(super) fn one_pool<'m>(cx: &mut Context<'m>, node: &Node<'m>, kind: PoolKind) -> Outcome<'m> {
    let y = pool(cx, node, kind)?;
    Ok(vec![cx.tensor(y)?])
}

fn pool<'m>(cx: &mut Context<'m>, node: &Node<'m>, kind: PoolKind) -> Result<Value, Stop<'m>> {
    let (windows, _) = pool_windows(node)?;
    // The extents that auto_pad names are the same with and without it.
    let ceil_mode = node.flag("ceil_mode", false)? && windows.auto_pad == AutoPad::Explicit;
    let norm = if kind == PoolKind::Lp { Some(Real(exponent(node)?)) } else { None };
    let count_include_pad = kind == PoolKind::Mean && node.flag("count_include_pad", false)?;
    if kind == PoolKind::Mean {
        // A mean tells padding from zeros.
        windows.fixed_pads()?;
    }
    let x = node.value(cx, 0)?;
    let filler = if kind == PoolKind::Max { Some(lowest(cx.graph(), node.dtype(0)?)) } else { None };
    let (x, [padding_low, padding_high]) = windows.padded(cx, x, filler);
    let window = windows.fixed_window()?;
    let Windows { stride, dilation, .. } = windows;
    let op = Pool {
        kind,
        window,
        stride,
        padding_low,
        padding_high,
        dilation,
        ceil_mode,
        count_include_pad,
        norm,
    };
    Ok(cx.graph().push(op, &[x]))
}

fn max_pool<'m>(cx: &mut Context<'m>, node: &Node<'m>) -> Outcome<'m> {
    let column_major = node.flag("storage_order", false)?;
    let y = pool(cx, node, PoolKind::Max)?;
    let mut results = vec![cx.tensor(y)?];
    if node.wants(1) {
        let (windows, extents) = pool_windows(node)?;
        let y = cx.ty(y)?.shape.into_dims();
        let x = node.value(cx, 0)?;
        let dtype = node.dtype(0)?;
        let graph = cx.graph();
        let places = Places::new(graph, &windows, &y[2..], &extents)?;
        let indices = largest(graph, (x, dtype), &windows, &places, (&y, column_major))?;
        results.push(cx.tensor(indices)?);
    }
    Ok(results)
}

/// For every window the place of its largest element, counted through all of `x`.
fn largest<'m>(
    graph: &mut Graph,
    (x, dtype): (Value, DType),
    windows: &Windows,
    places: &Places,
    (y, column_major): (&[Dim], bool),
) -> Result<Value, Stop<'m>> {
    let product = |dims: &[Dim]| dims.iter().cloned().fold(Dim::from(1), |a, b| a * b);
    let (planes, outputs) = (product(&y[..2]), product(&y[2..]));
    let taps = product(&windows.window);
    let zero = graph.scalar(DType::I64, 0.0);
    let flat = places.flat(graph, false);
    let safe = graph.where_(places.inside, flat, zero);
    let index = graph.reshape(safe, vec![taps.clone() * outputs.clone()]);
    let rows = graph.view(x, [planes.clone(), Dim::from(-1)]);
    let elements = graph.gather(rows, index, 1usize);
    let elements = graph.reshape(elements, vec![planes.clone(), taps.clone(), outputs.clone()]);
    let inside = graph.reshape(places.inside, vec![taps.clone(), outputs.clone()]);
    let low = lowest(graph, dtype);
    let elements = graph.where_(inside, elements, low);
    let tap = graph.arg_reduce(elements, ArgReduceKind::Max, 1usize, false, false, DType::I64);
    // The tap of every window as its place in the plane, then in all of them.
    let width = materialise(graph, std::slice::from_ref(&outputs), 0)?;
    let row = graph.mul(tap, width);
    let column = graph.iota(DType::I64, vec![planes.clone(), outputs.clone()], 1usize);
    let at = graph.add(row, column);
    let numbering = if column_major { places.flat(graph, true) } else { flat };
    let numbering = graph.reshape(numbering, vec![taps * outputs.clone()]);
    let within = graph.gather(numbering, at, 0usize);
    let plane = graph.iota(DType::I64, vec![planes, outputs], 0usize);
    let ty = graph.try_ty(rows).map(|ty| ty.shape[1].clone());
    let size = materialise(graph, &[ty.unwrap_or_else(|| Dim::from(0))], 0)?;
    let start = graph.mul(plane, size);
    let place = graph.add(start, within);
    Ok(graph.reshape(place, y.to_vec()))
}

pub(super) fn global<'m>(cx: &mut Context<'m>, node: &Node<'m>, kind: PoolKind) -> Outcome<'m> {
    spatial(node, 0)?;
    let (rank, dtype) = (node.rank(0)?, node.dtype(0)?);
    let axes: Vec<usize> = (2..rank).collect();
    let p = if kind == PoolKind::Lp { exponent(node)? } else { 1.0 };
    let x = node.value(cx, 0)?;
    let graph = cx.graph();
    let y = match kind {
        PoolKind::Lp => {
            let x = graph.accumulation_cast(x);
            let wide = if dtype == DType::F64 { dtype } else { DType::F32 };
            let (power, root) = (graph.scalar(wide, p), graph.scalar(wide, 1.0 / p));
            let size = graph.abs(x);
            let powers = graph.pow(size, power);
            let sum = graph.reduce(powers, ReduceKind::Sum, axes, true);
            let norm = graph.pow(sum, root);
            graph.cast_to(norm, dtype)
        }
        PoolKind::Max => graph.reduce(x, ReduceKind::Max, axes, true),
        _ => graph.reduce(x, ReduceKind::Mean, axes, true),
    };
    Ok(vec![cx.tensor(y)?])
}

/// Puts every element to its place among zeros. Places count through the extents that the windows cover; the extents
/// that are asked for add or cut what stands at the end.
fn max_unpool<'m>(cx: &mut Context<'m>, node: &Node<'m>) -> Outcome<'m> {
    let (windows, extents) = pool_windows(node)?;
    let (x, index) = (node.value(cx, 0)?, node.value(cx, 1)?);
    let (dtype, leading) = (node.dtype(0)?, node.shape(0)?.dims()[..2].to_vec());
    let covered = extents.iter().enumerate().map(|(axis, extent)| {
        let (low, high) = windows.pads[axis].clone();
        (extent.clone() - Dim::from(1)) * Dim::from(windows.stride[axis]) + windows.span(axis) - low - high
    });
    let covered = [leading, covered.collect()].concat();
    let wanted = match node.input(2) {
        Some(_) => Some(node.dims(cx, 2)?),
        None => None,
    };
    let graph = cx.graph();
    let count = covered.iter().cloned().fold(Dim::from(1), |a, b| a * b);
    let zeros = graph.full(dtype, vec![count], 0.0);
    let [index, x] = [index, x].map(|value| graph.view(value, [Dim::from(-1)]));
    let flat = graph.scatter_elements(zeros, index, x, 0usize, ScatterKind::None);
    let mut y = graph.reshape(flat, covered.clone());
    if let Some(wanted) = wanted {
        if wanted.len() != covered.len() {
            return Err(Stop::Invalid(format!("output_shape has {} entries", wanted.len())));
        }
        let mut high = vec![];
        for (axis, (wanted, covered)) in wanted.iter().zip(&covered).enumerate() {
            let more = wanted.clone() - covered.clone();
            if more.as_static().is_some_and(|more| more < 0) {
                y = graph.narrow(y, axis, 0, wanted.clone());
                high.push(Dim::from(0));
            } else {
                high.push(more);
            }
        }
        y = graph.pad(y, None, vec![Dim::from(0); high.len()], high, PadMode::Constant);
    }
    Ok(vec![cx.tensor(y)?])
}
