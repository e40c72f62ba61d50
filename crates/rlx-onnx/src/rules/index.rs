//! Ops that read and write elements at positions which data gives.

use super::extents::{indices, scalar, with_extent, with_shape};
use super::moved::{Moving, moved};
use super::{Rule, rule};
use crate::context::Context;
use crate::dims::number;
use crate::node::{Node, Outcome, Stop};
use rlx_ir::ops::{BinaryKind, ScatterKind};
use rlx_ir::{DType, Dim, Value};

const FIRST: Moving = Moving::These(&[0]);
const BASE_AND_UPDATES: Moving = Moving::These(&[0, 2]);

pub(super) const RULES: &[Rule] = &[
    rule("Gather", &[1, 11, 13], |cx, node| moved(cx, node, FIRST, gather)),
    rule("GatherElements", &[11, 13], |cx, node| moved(cx, node, FIRST, gather_elements)),
    rule("GatherND", &[11, 12, 13], |cx, node| moved(cx, node, FIRST, gather_nd)),
    rule("Scatter", &[9, 11], |cx, node| moved(cx, node, BASE_AND_UPDATES, scatter_elements)),
    rule("ScatterElements", &[11, 13, 16, 18], |cx, node| {
        moved(cx, node, BASE_AND_UPDATES, scatter_elements)
    }),
    rule("ScatterND", &[11, 13, 16, 18], |cx, node| moved(cx, node, BASE_AND_UPDATES, scatter_nd)),
    rule("ReverseSequence", &[10, 28], |cx, node| moved(cx, node, FIRST, reverse_sequence)),
    rule("TensorScatter", &[24], tensor_scatter),
    rule("OneHot", &[9, 11, 28], |cx, node| moved(cx, node, Moving::These(&[2]), one_hot)),
    Rule {
        domain: "ai.onnx.ml",
        op: "ArrayFeatureExtractor",
        versions: &[1],
        import: |cx, node| moved(cx, node, FIRST, array_feature_extractor),
    },
];

/// `value`, which has elements of operand 0, with its dtype.
fn like<'m>(cx: &mut Context<'m>, node: &Node<'m>, value: Value) -> Outcome<'m> {
    Ok(vec![cx.tensor_as(value, node.dtype(0)?)?])
}

fn gather<'m>(cx: &mut Context<'m>, node: &Node<'m>) -> Outcome<'m> {
    let shape = node.shape(0)?.clone();
    let axis = node.axis(node.int_or("axis", 0)?, shape.rank())?;
    let at = indices(cx, node, 1, &[shape[axis].clone()])?;
    let x = node.value(cx, 0)?;
    let y = cx.graph().gather(x, at, axis);
    like(cx, node, y)
}

fn gather_elements<'m>(cx: &mut Context<'m>, node: &Node<'m>) -> Outcome<'m> {
    let shape = node.shape(0)?.clone();
    let axis = node.axis(node.int_or("axis", 0)?, shape.rank())?;
    let at = indices(cx, node, 1, &[shape[axis].clone()])?;
    let x = node.value(cx, 0)?;
    let y = cx.graph().gather_elements(x, at, axis);
    like(cx, node, y)
}

/// Operand 1, coordinate vectors of axes of operand 0 from axis `first` on; how long they are.
fn vectors<'m>(cx: &mut Context<'m>, node: &Node<'m>, first: usize) -> Result<(Value, usize), Stop<'m>> {
    let (shape, of) = (node.shape(0)?.clone(), node.shape(1)?.clone());
    let depth = of.dims().last().ok_or_else(|| Stop::Invalid("its indices have rank 0".into()))?;
    let depth = depth.as_static().and_then(|depth| usize::try_from(depth).ok());
    let depth = depth.ok_or_else(|| {
        Stop::Refused(format!(
            "how many axes the coordinates name depends on the extent {}",
            of[of.rank() - 1]
        ))
    })?;
    let limits = shape.dims().get(first..first + depth).ok_or_else(|| {
        Stop::Invalid(format!("coordinates of {depth} axes from axis {first} on do not fit {shape}"))
    })?;
    let limits = limits.to_vec();
    // No coordinates: nothing to count from the end.
    let at = if depth == 0 { node.value(cx, 1)? } else { indices(cx, node, 1, &limits)? };
    Ok((at, depth))
}

fn gather_nd<'m>(cx: &mut Context<'m>, node: &Node<'m>) -> Outcome<'m> {
    let batch = usize::try_from(node.int_or("batch_dims", 0)?);
    let batch = batch.map_err(|_| Stop::Invalid("it has a negative number of batch axes".into()))?;
    let (mut at, _) = vectors(cx, node, batch)?;
    let (shape, of) = (node.shape(0)?.clone(), node.shape(1)?.clone());
    if batch >= of.rank() || batch >= shape.rank().max(1) {
        return Err(Stop::Invalid(format!("{batch} batch axes do not fit {shape} and {of}")));
    }
    for axis in 0..batch {
        at = with_extent(cx, at, axis, &shape[axis])?;
    }
    let x = node.value(cx, 0)?;
    let y = cx.graph().gather_nd(x, at, batch);
    like(cx, node, y)
}

fn reduction<'m>(node: &Node<'m>) -> Result<ScatterKind, Stop<'m>> {
    Ok(match node.string_or("reduction", "none")?.as_str() {
        "none" => ScatterKind::None,
        "add" => ScatterKind::Add,
        "mul" => ScatterKind::Mul,
        "min" => ScatterKind::Min,
        "max" => ScatterKind::Max,
        other => return Err(Stop::Invalid(format!("there is no reduction {other:?}"))),
    })
}

fn scatter_elements<'m>(cx: &mut Context<'m>, node: &Node<'m>) -> Outcome<'m> {
    let shape = node.shape(0)?.clone();
    let axis = node.axis(node.int_or("axis", 0)?, shape.rank())?;
    let kind = reduction(node)?;
    let at = indices(cx, node, 1, &[shape[axis].clone()])?;
    let (x, updates) = (node.value(cx, 0)?, node.value(cx, 2)?);
    let updates = with_shape(cx, updates, node.shape(1)?.dims())?;
    let y = cx.graph().scatter_elements(x, at, updates, axis, kind);
    like(cx, node, y)
}

fn scatter_nd<'m>(cx: &mut Context<'m>, node: &Node<'m>) -> Outcome<'m> {
    let kind = reduction(node)?;
    let (at, depth) = vectors(cx, node, 0)?;
    let (x, updates) = (node.value(cx, 0)?, node.value(cx, 2)?);
    let (shape, of) = (node.shape(0)?, node.shape(1)?);
    let rows = &of.dims()[..of.rank() - 1];
    let updates = with_shape(cx, updates, &[rows, &shape.dims()[depth..]].concat())?;
    let y = cx.graph().scatter_nd(x, at, updates, kind);
    like(cx, node, y)
}

/// A permutation that puts `axes` first; the one that undoes it.
fn to_front(axes: &[usize], rank: usize) -> (Vec<usize>, Vec<usize>) {
    let others = (0..rank).filter(|axis| !axes.contains(axis));
    let there: Vec<usize> = axes.iter().copied().chain(others).collect();
    let mut back = vec![0; rank];
    for (to, &from) in there.iter().enumerate() {
        back[from] = to;
    }
    (there, back)
}

fn reverse_sequence<'m>(cx: &mut Context<'m>, node: &Node<'m>) -> Outcome<'m> {
    let shape = node.shape(0)?.clone();
    let batch = node.axis(node.int_or("batch_axis", 1)?, shape.rank())?;
    let time = node.axis(node.int_or("time_axis", 0)?, shape.rank())?;
    if batch == time {
        return Err(Stop::Invalid(format!("axis {time} is its batch axis and its time axis")));
    }
    let (there, back) = to_front(&[batch, time], shape.rank());
    let (x, lens) = (node.value(cx, 0)?, node.value(cx, 1)?);
    let lens = with_shape(cx, lens, &[shape[batch].clone()])?;
    let g = cx.graph();
    let x = g.transpose(x, there);
    let lens = g.cast_to(lens, DType::I64);
    let lens = g.unsqueeze(lens, -1);
    let grid = vec![shape[batch].clone(), shape[time].clone()];
    let at = g.iota(DType::I64, grid, 1usize);
    let one = g.scalar(DType::I64, 1.0);
    let last = g.sub(lens, one);
    let (is_inside, mirrored) = (g.compare_lt(at, lens), g.sub(last, at));
    let from = g.r#where(is_inside, mirrored, at);
    let from = g.unsqueeze(from, -1);
    let y = g.gather_nd(x, from, 1usize);
    let y = g.transpose(y, back);
    like(cx, node, y)
}

fn tensor_scatter<'m>(cx: &mut Context<'m>, node: &Node<'m>) -> Outcome<'m> {
    let shape = node.shape(0)?.clone();
    let axis = node.axis(node.int_or("axis", -2)?, shape.rank())?;
    if axis == 0 {
        return Err(Stop::Invalid("its axis is the batch axis".into()));
    }
    let count = node.shape(1)?.dims().get(axis).cloned().unwrap_or_default();
    let mut dims = shape.dims().to_vec();
    dims[axis] = count.clone();
    let (x, updates) = (node.value(cx, 0)?, node.value(cx, 1)?);
    let updates = with_shape(cx, updates, &dims)?;
    let batch = shape[0].clone();
    let starts = match node.optional(cx, 2)? {
        Some(starts) => with_shape(cx, starts, std::slice::from_ref(&batch))?,
        None => cx.graph().full(DType::I64, vec![batch.clone()], 0.0),
    };
    let y = match node.string_or("mode", "linear")?.as_str() {
        "linear" => cx.graph().kv_append(x, updates, starts, axis),
        "circular" => {
            let limit = number(cx.graph(), &shape[axis])?;
            let g = cx.graph();
            let (there, back) = to_front(&[0, axis], shape.rank());
            let (x, updates) = (g.transpose(x, there.clone()), g.transpose(updates, there));
            let grid = vec![batch, count];
            let (row, step) = (g.iota(DType::I64, grid.clone(), 0usize), g.iota(DType::I64, grid, 1usize));
            let starts = g.unsqueeze(starts, -1);
            let at = g.add(starts, step);
            let at = g.binary(at, limit, BinaryKind::Mod);
            let at = g.stack(&[row, at], -1);
            let y = g.scatter_nd(x, at, updates, ScatterKind::None);
            g.transpose(y, back)
        }
        other => return Err(Stop::Invalid(format!("there is no mode {other:?}"))),
    };
    like(cx, node, y)
}

fn one_hot<'m>(cx: &mut Context<'m>, node: &Node<'m>) -> Outcome<'m> {
    let depth = match node.dtype(1)?.is_int() {
        true => node.dims(cx, 1)?,
        false => node.literal(cx, 1)?.to_f64s().into_iter().map(|depth| Dim::from(depth as i64)).collect(),
    };
    let [depth] = &depth[..] else {
        return Err(Stop::Invalid(format!("its depth has {} elements, expected one", depth.len())));
    };
    let mut dims = node.shape(0)?.dims().to_vec();
    let axis = node.axis(node.int_or("axis", -1)?, dims.len() + 1)?;
    dims.insert(axis, Dim::from(1));
    let (at, values) = (node.value(cx, 0)?, node.value(cx, 2)?);
    let values = with_shape(cx, values, &[Dim::from(2)])?;
    let limit = number(cx.graph(), depth)?;
    let g = cx.graph();
    let at = g.cast_to(at, DType::I64);
    let (zero, shifted) = (g.scalar(DType::I64, 0.0), g.add(at, limit));
    let is_negative = g.compare_lt(at, zero);
    let at = g.r#where(is_negative, shifted, at);
    let at = g.reshape(at, dims.clone());
    for (own, dim) in dims.iter_mut().enumerate() {
        *dim = if own == axis { depth.clone() } else { Dim::from(1) };
    }
    let place = g.iota(DType::I64, dims, axis);
    let is_on = g.compare_eq(at, place);
    let (off, on) = (g.narrow(values, 0usize, 0, 1), g.narrow(values, 0usize, 1, 1));
    let (off, on) = (scalar(cx, off)?, scalar(cx, on)?);
    let y = cx.graph().r#where(is_on, on, off);
    Ok(vec![cx.tensor_as(y, node.tensor(2)?.dtype)?])
}

fn array_feature_extractor<'m>(cx: &mut Context<'m>, node: &Node<'m>) -> Outcome<'m> {
    let shape = node.shape(0)?.clone();
    let last = shape.rank().checked_sub(1).ok_or_else(|| Stop::Invalid("its operand has rank 0".into()))?;
    let (x, at) = (node.value(cx, 0)?, node.value(cx, 1)?);
    let g = cx.graph();
    let at = g.view(at, [-1]);
    let y = g.gather(x, at, last);
    // A vector is one row.
    let y = if last == 0 { g.unsqueeze(y, 0) } else { y };
    like(cx, node, y)
}

#[cfg(test)]
mod tests {
    use crate::single::{int, run, strings, tensor, text};
    use rlx_ir::DType::{F32, I32, I64};

    #[test]
    fn strings_are_picked_and_replaced() {
        let (x, at) = (strings(&["a", "b", "c"]), tensor(I64, &[2], &[-1.0, 0.0]));
        assert_eq!(run("Gather", 13, &[], &[x.clone(), at.clone()]), Ok(strings(&["c", "a"])));
        let replaced = run("ScatterElements", 18, &[], &[x, at, strings(&["y", "z"])]);
        assert_eq!(replaced, Ok(strings(&["z", "b", "y"])));
        let values = strings(&["off", "on"]);
        let (at, depth) = (tensor(I64, &[], &[-1.0]), tensor(I64, &[], &[2.0]));
        assert_eq!(run("OneHot", 11, &[], &[at, depth, values]), Ok(strings(&["off", "on"])));
    }

    #[test]
    fn positions_outside_are_faults() {
        let x = tensor(F32, &[3], &[0.0, 1.0, 2.0]);
        for at in [3.0, -4.0] {
            let at = tensor(I32, &[1], &[at]);
            for op in ["Gather", "GatherElements"] {
                assert!(run(op, 13, &[], &[x.clone(), at.clone()]).is_err(), "{op}");
            }
        }
        let at = tensor(I64, &[1, 1], &[3.0]);
        assert!(run("GatherND", 13, &[], &[x, at]).is_err());
    }

    #[test]
    fn caches_are_written_past_their_end_only_where_they_are_rings() {
        let cache = tensor(F32, &[1, 3, 1], &[0.0; 3]);
        let (update, at) = (tensor(F32, &[1, 2, 1], &[1.0, 2.0]), tensor(I64, &[1], &[2.0]));
        let inputs = [cache, update, at];
        let ring = run("TensorScatter", 24, &[text("mode", "circular"), int("axis", 1)], &inputs);
        assert_eq!(ring, Ok(tensor(F32, &[1, 3, 1], &[2.0, 0.0, 1.0])));
        assert!(run("TensorScatter", 24, &[int("axis", 1)], &inputs).is_err());
    }
}
