//! What rules say about extents: that two are equal where symbols cannot prove it, that a tensor has another shape, and
//! which elements lie between two positions.

use crate::context::Context;
use crate::dims::{maximum, minimum, number};
use crate::node::{Node, Stop};
use crate::value::Content;
use rlx_ir::{DType, Dim, Graph, Literal, Shape, Value};

/// `x`, whose extent along `axis` is `dim` by the rules of ONNX. What symbols leave open is checked when they are
/// bound.
pub(crate) fn with_extent<'m>(
    cx: &mut Context<'m>,
    x: Value,
    axis: usize,
    dim: &Dim,
) -> Result<Value, Stop<'m>> {
    let ty = cx.ty(x)?;
    let own = ty.shape.dims().get(axis).cloned().unwrap_or_default();
    if own == *dim {
        return Ok(x);
    }
    if own.as_static().is_some() && dim.as_static().is_some() {
        return Err(Stop::Invalid(format!("axis {axis} of {ty} has the extent {own}, expected {dim}")));
    }
    // Starts at 0 and ends at the end where the extents are equal, and lies outside of `x` everywhere else.
    Ok(cx.graph().narrow(x, axis, dim.clone() - own, dim.clone()))
}

/// `x`, whose shape is `shape` by the rules of ONNX.
pub(crate) fn with_shape<'m>(cx: &mut Context<'m>, x: Value, shape: &[Dim]) -> Result<Value, Stop<'m>> {
    let ty = cx.ty(x)?;
    if ty.rank() != shape.len() {
        return Err(Stop::Invalid(format!("{ty} has another rank than {:?}", Shape::new(shape.to_vec()))));
    }
    shape.iter().enumerate().try_fold(x, |x, (axis, dim)| with_extent(cx, x, axis, dim))
}

/// The elements of `x` under `dims`, which are as many by the rules of ONNX.
pub(crate) fn reshaped<'m>(cx: &mut Context<'m>, x: Value, dims: Vec<Dim>) -> Result<Value, Stop<'m>> {
    let (old, new) = (cx.ty(x)?.shape.num_elements(), Shape::from(dims.clone()).num_elements());
    if old == new {
        return Ok(cx.graph().reshape(x, dims));
    }
    let flat = cx.graph().reshape(x, vec![old]);
    let flat = with_extent(cx, flat, 0, &new)?;
    Ok(cx.graph().reshape(flat, dims))
}

/// The one element of `x`.
pub(crate) fn scalar<'m>(cx: &mut Context<'m>, x: Value) -> Result<Value, Stop<'m>> {
    reshaped(cx, x, vec![])
}

/// `x` broadcast together with the shape `with`, as NumPy does.
pub(crate) fn expanded<'m>(cx: &mut Context<'m>, x: Value, with: &[Dim]) -> Result<Value, Stop<'m>> {
    let mut dims = cx.ty(x)?.shape.into_dims();
    let mut x = x;
    if dims.len() < with.len() {
        dims.splice(0..0, vec![Dim::from(1); with.len() - dims.len()]);
        x = cx.graph().reshape(x, dims.clone());
    }
    let first = dims.len() - with.len();
    for (axis, target) in (first..).zip(with) {
        let own = dims[axis].clone();
        let whole = joint(cx.graph(), &own, target);
        if own.is(1) || own == *target || target.is(1) {
            dims[axis] = whole;
            continue;
        }
        let one = || Dim::from(1);
        let fault = (own.clone() - one()) * (target.clone() - one()) * (own.clone() - target.clone());
        if fault.as_static().is_some() {
            let own = Shape::from(dims);
            return Err(Stop::Invalid(format!("{own} and {} do not broadcast", Shape::new(with.to_vec()))));
        }
        // Lies outside of `x` but where one of the extents is 1, or both are the same.
        x = cx.graph().narrow(x, axis, fault, own.clone());
        if own != whole {
            x = repeated(cx, x, axis, &whole)?;
        }
        dims[axis] = whole;
    }
    Ok(cx.graph().expand(x, dims))
}

/// `values` as operands of one broadcast, but for their last `inner` axes. Extents that symbols cannot compare are taken
/// to be equal, or 1 where the extents that are fed are; a run with others is refused when they are bound.
pub(crate) fn agreed<'m>(cx: &mut Context<'m>, values: &mut [Value], inner: usize) -> Result<(), Stop<'m>> {
    let shapes = values.iter().map(|&value| Ok(cx.ty(value)?.shape.into_dims()));
    let shapes = shapes.collect::<Result<Vec<_>, Stop<'m>>>()?;
    let outermost = shapes.iter().map(Vec::len).max().unwrap_or(0);
    for back in inner + 1..=outermost {
        let axes: Vec<Option<usize>> = shapes.iter().map(|dims| dims.len().checked_sub(back)).collect();
        let wide = |(dims, axis): (&Vec<Dim>, &Option<usize>)| axis.map(|axis| dims[axis].clone());
        let mut wide: Vec<Dim> = shapes.iter().zip(&axes).filter_map(wide).filter(|dim| !dim.is(1)).collect();
        wide.sort_by_key(|dim| (dim.as_static().is_none(), dim.weight()));
        wide.dedup();
        if wide.len() < 2 || wide.iter().all(|dim| dim.as_static().is_some()) {
            continue;
        }
        let is_one = |dim: &Dim, cx: &Context<'m>| dim.eval(&cx.bindings) == Ok(1);
        let one = Dim::from(1);
        let target = wide.iter().find(|dim| !is_one(dim, cx)).unwrap_or(&wide[0]).clone();
        for ((value, dims), axis) in values.iter_mut().zip(&shapes).zip(axes) {
            let Some(axis) = axis.filter(|&axis| !dims[axis].is(1) && dims[axis] != target) else { continue };
            let taken = if is_one(&dims[axis], cx) && !is_one(&target, cx) { &one } else { &target };
            *value = with_extent(cx, *value, axis, taken)?;
        }
    }
    Ok(())
}

/// Extent that two extents have together.
fn joint(graph: &Graph, a: &Dim, b: &Dim) -> Dim {
    let is_positive = |dim: &Dim| graph.dim_bounds(dim).0.is_some_and(|low| low > 0);
    match (a.as_static(), b.as_static()) {
        _ if a == b => a.clone(),
        (Some(1), _) => b.clone(),
        (_, Some(1)) => a.clone(),
        (Some(_), _) => a.clone(),
        (_, Some(_)) => b.clone(),
        _ if is_positive(a) && is_positive(b) => maximum(graph, a, b),
        // The larger one, but 0 where one of them is 0.
        _ => (a.clone() * b.clone()).floor_div(&a.minimum(b).maximum(&Dim::from(1))),
    }
}

/// `x` as often along `axis` as makes the extent `whole`.
fn repeated<'m>(cx: &mut Context<'m>, x: Value, axis: usize, whole: &Dim) -> Result<Value, Stop<'m>> {
    let mut dims = cx.ty(x)?.shape.into_dims();
    let own = dims[axis].clone();
    let times = whole.floor_div(&own.maximum(&Dim::from(1)));
    dims.insert(axis, Dim::from(1));
    let x = cx.graph().reshape(x, dims.clone());
    dims[axis] = times.clone();
    let x = cx.graph().expand(x, dims.clone());
    dims.remove(axis);
    dims[axis] = times * own;
    let x = cx.graph().reshape(x, dims);
    with_extent(cx, x, axis, whole)
}

/// Elements along an axis.
pub(crate) struct Run {
    pub axis: usize,
    pub start: Dim,
    pub step: i64,
    pub len: Dim,
}

/// The elements of an axis of extent `extent` from `start` to `end`, both counted from the end where they are
/// negative and clamped to the axis (ONNX `Slice`).
pub(crate) fn run(graph: &Graph, axis: usize, extent: &Dim, ends: (&Dim, &Dim), step: i64) -> Run {
    let (zero, one) = (Dim::from(0), Dim::from(1));
    let (start, end) = (from_front(graph, ends.0, extent), from_front(graph, ends.1, extent));
    let start = maximum(graph, &start, &zero);
    let width = Dim::from(step.saturating_abs());
    let (start, span) = if step > 0 {
        (minimum(graph, &start, extent), minimum(graph, &end, extent) - start)
    } else {
        let last = minimum(graph, &start, &(extent.clone() - one.clone()));
        (maximum(graph, &last, &zero), last - maximum(graph, &end, &-one))
    };
    Run { axis, start, step, len: maximum(graph, &span.ceil_div(&width), &zero) }
}

/// A position that may count from the end.
fn from_front(graph: &Graph, at: &Dim, extent: &Dim) -> Dim {
    // What stands for an end that is not known.
    const FAR: i64 = i32::MAX as i64;
    match (at.as_static(), graph.dim_bounds(at)) {
        (Some(FAR..), _) => extent.clone(),
        (Some(at), _) if at <= -FAR => Dim::from(-1),
        (_, (Some(0..), _)) => at.clone(),
        (_, (_, Some(..=-1))) => at.clone() + extent.clone(),
        // The factor is 1 where `at` is negative, and else 0.
        _ => at.clone() + extent.clone() * (-at.clone()).maximum(&Dim::from(0)).minimum(&Dim::from(1)),
    }
}

/// The elements `runs` of `x`.
pub(crate) fn cut<'m>(cx: &mut Context<'m>, x: Value, mut runs: Vec<Run>) -> Result<Value, Stop<'m>> {
    let shape = cx.ty(x)?.shape;
    runs.retain(|run| run.step != 1 || !run.start.is(0) || run.len != shape[run.axis]);
    if runs.is_empty() {
        return Ok(x);
    }
    runs.sort_by_key(|run| run.axis);
    let axes: Vec<usize> = runs.iter().map(|run| run.axis).collect();
    let steps: Vec<i64> = runs.iter().map(|run| run.step).collect();
    let (starts, lens): (Vec<Dim>, Vec<Dim>) = runs.into_iter().map(|run| (run.start, run.len)).unzip();
    Ok(cx.graph().slice(x, axes, starts, steps, lens))
}

/// Operand `index`, indices that count from the end where they are negative, as indices that do not. Their last axis
/// names axes of the extents `extents`; one alone is that of all.
pub(crate) fn indices<'m>(
    cx: &mut Context<'m>,
    node: &Node<'m>,
    index: usize,
    extents: &[Dim],
) -> Result<Value, Stop<'m>> {
    let tensor = node.tensor(index)?;
    if !matches!(tensor.dtype, DType::I32 | DType::I64) {
        return Err(Stop::Invalid(format!("operand {index} is {}, expected int32 or int64", tensor.ty())));
    }
    if let Content::Literal(literal) = &tensor.content
        && let Some(known) = known_indices(literal, extents)
    {
        return Ok(cx.graph().constant(known));
    }
    let dtype = tensor.dtype;
    let x = node.value(cx, index)?;
    let mut limits = vec![];
    for extent in extents {
        let extent = number(cx.graph(), extent)?;
        limits.push(cx.graph().cast_to(extent, dtype));
    }
    let g = cx.graph();
    let limits = if let [limit] = limits[..] { limit } else { g.stack(&limits, 0) };
    let zero = g.scalar(dtype, 0.0);
    let (is_negative, shifted) = (g.compare_lt(x, zero), g.add(x, limits));
    Ok(g.r#where(is_negative, shifted, x))
}

fn known_indices(literal: &Literal, extents: &[Dim]) -> Option<Literal> {
    let values = literal.to_ints().into_iter().enumerate().map(|(at, index)| match index {
        0.. => Some(index),
        _ => Some(index + i128::from(extents.get(at % extents.len().max(1))?.as_static()?)),
    });
    Literal::ints(literal.dtype(), literal.dims(), &values.collect::<Option<Vec<_>>>()?).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use rlx_ir::Bindings;

    /// The elements of an axis as ONNX's text counts them.
    fn expected(extent: i64, start: i64, end: i64, step: i64) -> Vec<i64> {
        let shifted = |at: i64| if at < 0 { at + extent } else { at };
        let (start, end) = (shifted(start), shifted(end));
        if extent == 0 {
            return vec![];
        }
        let mut at = if step > 0 { start.clamp(0, extent) } else { start.clamp(0, extent - 1) };
        let end = if step > 0 { end.clamp(0, extent) } else { end.clamp(-1, extent - 1) };
        let mut all = vec![];
        while if step > 0 { at < end } else { at > end } {
            all.push(at);
            at += step;
        }
        all
    }

    #[test]
    fn runs_are_those_of_the_specification() {
        let graph = Graph::new("runs");
        let names = ["n", "start", "end"].map(Dim::symbol);
        for step in [-3, -2, -1, 1, 2, 3] {
            for (extent, start, end) in
                (0..5).flat_map(|n| (-7..8).flat_map(move |s| (-7..8).map(move |e| (n, s, e))))
            {
                let wanted = expected(extent, start, end, step);
                // Ends that are numbers, and ends of unknown sign: a symbol less a number.
                let known = run(&graph, 0, &names[0], (&start.into(), &end.into()), step);
                let ends = [names[1].clone() - Dim::from(10), names[2].clone() - Dim::from(10)];
                let open = run(&graph, 0, &names[0], (&ends[0], &ends[1]), step);
                let bindings: Bindings =
                    [("n", extent), ("start", start + 10), ("end", end + 10)].into_iter().collect();
                for found in [known, open] {
                    let (first, len) = (found.start.eval(&bindings), found.len.eval(&bindings));
                    let (first, len) = (first.expect("it is bound"), len.expect("it is bound"));
                    let all: Vec<i64> = (0..len).map(|index| first + index * step).collect();
                    assert_eq!(all, wanted, "{extent}: {start} to {end} by {step}");
                    assert!(first >= 0 && first <= extent);
                }
            }
        }
    }
}
