//! Ops that look for elements: the largest, those that are not zero, those that differ. How many they find is known
//! when a run has found them.

use super::extents::{scalar, with_extent};
use super::moved::{Moving, moved, strings};
use super::{Rule, rule};
use crate::context::Context;
use crate::dims::{maximum, minimum};
use crate::node::{Node, Outcome, Stop};
use crate::value::{Bounded, Content, Imported};
use rlx_ir::ops::{Checkpoint, ReduceKind, Scan, ScatterKind};
use rlx_ir::{Body, DType, Dim, Graph, Literal, TensorType, Value};

pub(super) const RULES: &[Rule] = &[
    rule("TopK", &[1, 10, 11, 24], top_k),
    rule("NonZero", &[9, 13], non_zero),
    rule("Compress", &[9, 11, 28], |cx, node| moved(cx, node, Moving::These(&[0]), compress)),
    rule("Unique", &[11, 28], |cx, node| match node.input(0) {
        Some(Imported::Strings(_)) => strings(cx, node, 1, unique),
        _ => unique(cx, node),
    }),
    rule("NonMaxSuppression", &[10, 11], non_max_suppression),
];

/// `value`, of which the first `count` elements along `axis` count.
fn bounded<'m>(
    cx: &mut Context<'m>,
    value: Value,
    dtype: DType,
    axis: usize,
    count: Value,
) -> Result<Imported, Stop<'m>> {
    let (Imported::Tensor(mut tensor), Imported::Tensor(count)) =
        (cx.tensor_as(value, dtype)?, cx.tensor(count)?)
    else {
        return Err(Stop::Invalid("a count is no tensor".into()));
    };
    tensor.bounded = count.node.map(|count| Bounded { axis, count });
    Ok(tensor.into())
}

/// The results of an op that has two.
fn pair<'m>(cx: &mut Context<'m>, values: Vec<Value>) -> Result<[Value; 2], Stop<'m>> {
    cx.check()?;
    values.try_into().map_err(|_| Stop::Invalid("an op has another number of results".into()))
}

fn top_k<'m>(cx: &mut Context<'m>, node: &Node<'m>) -> Outcome<'m> {
    let axis = node.axis(node.int_or("axis", -1)?, node.rank(0)?)?;
    let k = match node.version {
        1 => node.int("k")?.into_iter().map(Dim::from).collect(),
        _ => node.dims(cx, 1)?,
    };
    let [k] = &k[..] else {
        return Err(Stop::Invalid(format!("k has {} elements, expected one", k.len())));
    };
    let (largest, sorted) = (node.flag("largest", true)?, node.flag("sorted", true)?);
    let x = node.value(cx, 0)?;
    let found = cx.graph().top_k(x, k.clone(), axis, largest, sorted, DType::I64);
    let [values, positions] = pair(cx, found)?;
    Ok(vec![cx.tensor_as(values, node.dtype(0)?)?, cx.tensor(positions)?])
}

fn non_zero<'m>(cx: &mut Context<'m>, node: &Node<'m>) -> Outcome<'m> {
    let mut x = node.value(cx, 0)?;
    let shape = cx.ty(x)?.shape;
    let is_scalar = shape.rank() == 0;
    if is_scalar {
        x = cx.graph().reshape(x, [1usize]);
    }
    let found = cx.graph().non_zero(x, shape.num_elements(), DType::I64);
    let [mut at, count] = pair(cx, found)?;
    let g = cx.graph();
    if is_scalar {
        // A scalar has no axis, so its coordinates are empty.
        at = g.narrow(at, 1usize, 0, 0);
    }
    let at = g.transpose(at, vec![1, 0]);
    Ok(vec![bounded(cx, at, DType::I64, 1, count)?])
}

/// The positions [limit] at which `marks` [limit] holds, 0 behind the last; how many there are.
fn positions<'m>(cx: &mut Context<'m>, marks: Value, limit: &Dim) -> Result<(Value, Value), Stop<'m>> {
    let found = cx.graph().non_zero(marks, limit.clone(), DType::I64);
    let [at, count] = pair(cx, found)?;
    let g = cx.graph();
    let at = g.reshape(at, vec![limit.clone()]);
    let zero = g.scalar(DType::I64, 0.0);
    Ok((g.maximum(at, zero), count))
}

fn compress<'m>(cx: &mut Context<'m>, node: &Node<'m>) -> Outcome<'m> {
    let dtype = node.dtype(0)?;
    let mut x = node.value(cx, 0)?;
    let axis = match node.int("axis")? {
        Some(axis) => node.axis(axis, node.rank(0)?)?,
        None => {
            x = cx.graph().view(x, [-1]);
            0
        }
    };
    let [limit] = node.shape(1)?.dims() else {
        return Err(Stop::Invalid(format!("its condition is {}, expected a vector", node.tensor(1)?.ty())));
    };
    if let Content::Literal(condition) = &node.tensor(1)?.content {
        let marks = condition.to_ints().into_iter().enumerate();
        let at: Vec<i128> = marks.filter(|(_, mark)| *mark != 0).map(|(at, _)| at as i128).collect();
        let at = Literal::ints(DType::I64, &[at.len()], &at);
        let at = at.map_err(|error| Stop::Invalid(error.to_string()))?;
        let at = cx.graph().constant(at);
        let y = cx.graph().gather(x, at, axis);
        return Ok(vec![cx.tensor_as(y, dtype)?]);
    }
    let marks = node.value(cx, 1)?;
    let (at, count) = positions(cx, marks, limit)?;
    let y = cx.graph().gather(x, at, axis);
    Ok(vec![bounded(cx, y, dtype, axis, count)?])
}

/// Positions that put `rows` [n, m] in lexicographic order; equal ones keep theirs.
fn row_order<'m>(cx: &mut Context<'m>, rows: Value) -> Result<Value, Stop<'m>> {
    let ty = cx.ty(rows)?;
    let (n, m) = (ty.shape[0].clone(), ty.shape[1].clone());
    let order = TensorType::new(DType::I64, vec![n.clone()]);
    let column = TensorType::new(ty.dtype, vec![n.clone()]);
    // Stable sorts by one column after the other, the last one first.
    let (graph, captures) = cx.body("sort_column", &[order, column], |cx, operands| {
        let g = cx.graph();
        let sorted = g.gather(operands[1], operands[0], 0usize);
        let next = g.arg_sort(sorted, 0usize, false, DType::I64);
        Ok(vec![g.gather(operands[0], next, 0usize)])
    })?;
    debug_assert!(captures.is_empty());
    let g = cx.graph();
    let first = g.iota(DType::I64, vec![n], 0usize);
    let columns = g.transpose(rows, vec![1, 0]);
    let body = Body::from(graph);
    let scan = Scan { length: m, carries: 1, stacked: 1, reverse: true, checkpoint: Checkpoint::Every, body };
    Ok(g.push(scan, &[first, columns]))
}

fn unique<'m>(cx: &mut Context<'m>, node: &Node<'m>) -> Outcome<'m> {
    let (dtype, shape) = (node.dtype(0)?, node.shape(0)?.clone());
    let is_sorted = node.flag("sorted", true)?;
    let axis = node.int("axis")?.map(|axis| node.axis(axis, shape.rank())).transpose()?;
    let x = node.value(cx, 0)?;
    let n = axis.map_or_else(|| shape.num_elements(), |axis| shape[axis].clone());
    // One row per element that is compared.
    let own = cx.ty(x)?.dtype;
    let g = cx.graph();
    let ordered = if own == DType::Bool { g.cast(x, DType::U8) } else { x };
    let front = axis.map_or(ordered, |axis| g.swap_axes(ordered, 0, axis as i64));
    let width = match axis {
        None => Dim::from(1),
        Some(axis) => (0..shape.rank())
            .filter(|&other| other != axis)
            .fold(Dim::from(1), |width, other| width * shape[other].clone()),
    };
    let rows = g.reshape(front, vec![n.clone(), width.clone()]);
    let order = if width.is(1) {
        let column = g.reshape(rows, vec![n.clone()]);
        g.arg_sort(column, 0usize, false, DType::I64)
    } else {
        row_order(cx, rows)?
    };
    let groups = Groups::of(cx, rows, order, &n)?;
    let groups = if is_sorted { groups } else { groups.by_occurrence(cx.graph(), &n) };
    let from = if axis.is_none() { cx.graph().reshape(x, vec![n]) } else { x };
    let axis = axis.unwrap_or(0);
    let y = cx.graph().gather(from, groups.first, axis);
    Ok(vec![
        bounded(cx, y, dtype, axis, groups.count)?,
        bounded(cx, groups.first, DType::I64, 0, groups.count)?,
        cx.tensor(groups.group)?,
        bounded(cx, groups.sizes, DType::I64, 0, groups.count)?,
    ])
}

/// Equal rows among n.
struct Groups {
    /// Position [n] of the first row of each group.
    first: Value,
    /// The group [n] of each row.
    group: Value,
    /// The number [n] of rows of each group.
    sizes: Value,
    /// How many groups there are.
    count: Value,
}

impl Groups {
    /// The groups of `rows` [n, m] in the order `order` [n], which brings equal ones together.
    fn of<'m>(cx: &mut Context<'m>, rows: Value, order: Value, n: &Dim) -> Result<Groups, Stop<'m>> {
        let is_float = cx.ty(rows)?.dtype.is_float();
        let g = cx.graph();
        let sorted = g.gather(rows, order, 0usize);
        let before = g.roll(sorted, vec![0], vec![Dim::from(1)]);
        let mut differs = g.compare_ne(sorted, before);
        if is_float {
            // All NaN are one value.
            let (a, b) = (g.compare_eq(sorted, sorted), g.compare_eq(before, before));
            let is_number = g.or(a, b);
            differs = g.and(differs, is_number);
        }
        let differs = g.reduce(differs, ReduceKind::Any, [1], false);
        let row = vec![n.clone()];
        let (at, zero) = (g.iota(DType::I64, row.clone(), 0usize), g.scalar(DType::I64, 0.0));
        let is_first = g.compare_eq(at, zero);
        let begins = g.or(differs, is_first);
        let (starts, count) = positions(cx, begins, n)?;
        let g = cx.graph();
        let first = g.gather(order, starts, 0usize);
        let steps = g.cast(begins, DType::I64);
        let one = g.scalar(DType::I64, 1.0);
        let until = g.cumsum(steps, 0usize, false, false);
        let sorted_group = g.sub(until, one);
        let zeros = g.full(DType::I64, row.clone(), 0.0);
        let (to, of) = (g.unsqueeze(order, -1), g.unsqueeze(sorted_group, -1));
        let group = g.scatter_nd(zeros, to, sorted_group, ScatterKind::None);
        let ones = g.full(DType::I64, row, 1.0);
        let sizes = g.scatter_nd(zeros, of, ones, ScatterKind::Add);
        Ok(Groups { first, group, sizes, count })
    }

    /// The same groups, in the order in which their first rows stand.
    fn by_occurrence(self, g: &mut Graph, n: &Dim) -> Groups {
        let at = g.iota(DType::I64, vec![n.clone()], 0usize);
        let is_group = g.compare_lt(at, self.count);
        // What stands behind the last group stays there.
        let largest = g.constant(Literal::scalar_i64(i64::MAX));
        let key = g.r#where(is_group, self.first, largest);
        let order = g.arg_sort(key, 0usize, false, DType::I64);
        let rank = g.arg_sort(order, 0usize, false, DType::I64);
        Groups {
            first: g.gather(self.first, order, 0usize),
            group: g.gather(rank, self.group, 0usize),
            sizes: g.gather(self.sizes, order, 0usize),
            count: self.count,
        }
    }
}

fn non_max_suppression<'m>(cx: &mut Context<'m>, node: &Node<'m>) -> Outcome<'m> {
    let center_point = node.flag("center_point_box", false)?;
    let scores_shape = node.shape(1)?.clone();
    let [batch, _, count] = scores_shape.dims() else {
        return Err(Stop::Invalid(format!("its scores have rank {}, expected 3", scores_shape.rank())));
    };
    let limit = match node.input(2) {
        Some(_) => node.dims(cx, 2)?,
        None => vec![Dim::from(0)],
    };
    let [limit] = &limit[..] else {
        return Err(Stop::Invalid(format!("its limit has {} elements, expected one", limit.len())));
    };
    let limit = maximum(cx.graph(), limit, &Dim::from(0));
    let limit = minimum(cx.graph(), &limit, count);
    let (mut boxes, scores) = (node.value(cx, 0)?, node.value(cx, 1)?);
    for (axis, extent) in [(0, batch), (1, count), (2, &Dim::from(4))] {
        boxes = with_extent(cx, boxes, axis, extent)?;
    }
    let dtype = cx.ty(scores)?.dtype;
    let mut thresholds = vec![];
    for (index, default) in [(3, 0.0), (4, f64::NEG_INFINITY)] {
        thresholds.push(match node.optional(cx, index)? {
            Some(threshold) => scalar(cx, threshold)?,
            None => cx.graph().scalar(dtype, default),
        });
    }
    let found = cx.graph().non_max_suppression(
        boxes,
        scores,
        thresholds[0],
        thresholds[1],
        limit,
        center_point,
        DType::I64,
    );
    let [found, count] = pair(cx, found)?;
    Ok(vec![bounded(cx, found, DType::I64, 0, count)?])
}

#[cfg(test)]
mod tests {
    use crate::single::{int, run, strings, tensor};
    use rlx_ir::DType::{Bool, F32, I64};

    #[test]
    fn equal_rows_are_found_in_either_order() {
        let rows = [2.0, 9.0, 1.0, 5.0, 2.0, 3.0, 1.0, 5.0];
        let x = tensor(F32, &[4, 2], &rows);
        let sorted = run("Unique", 11, &[int("axis", 0)], std::slice::from_ref(&x));
        assert_eq!(sorted, Ok(tensor(F32, &[3, 2], &[1.0, 5.0, 2.0, 3.0, 2.0, 9.0])));
        let found = run("Unique", 11, &[int("axis", -2), int("sorted", 0)], &[x]);
        assert_eq!(found, Ok(tensor(F32, &[3, 2], &[2.0, 9.0, 1.0, 5.0, 2.0, 3.0])));
        let texts = strings(&["pear", "fig", "", "fig"]);
        assert_eq!(run("Unique", 11, &[], std::slice::from_ref(&texts)), Ok(strings(&["", "fig", "pear"])));
        assert_eq!(run("Unique", 11, &[int("sorted", 0)], &[texts]), Ok(strings(&["pear", "fig", ""])));
        let bits = tensor(Bool, &[2, 2], &[1.0, 0.0, 1.0, 1.0]);
        assert_eq!(run("Unique", 11, &[], &[bits]), Ok(tensor(Bool, &[2], &[0.0, 1.0])));
    }

    #[test]
    fn what_is_not_zero_may_be_nothing() {
        let none = tensor(F32, &[2, 2], &[0.0; 4]);
        assert_eq!(run("NonZero", 13, &[], std::slice::from_ref(&none)), Ok(tensor(I64, &[2, 0], &[])));
        let one = tensor(F32, &[], &[3.0]);
        assert_eq!(run("NonZero", 13, &[], &[one]), Ok(tensor(I64, &[0, 1], &[])));
        let marks = tensor(Bool, &[1], &[0.0]);
        assert_eq!(run("Compress", 11, &[int("axis", 1)], &[none, marks]), Ok(tensor(F32, &[2, 0], &[])));
    }
}
