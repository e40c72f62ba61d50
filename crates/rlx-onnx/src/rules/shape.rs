//! Ops that arrange the elements of tensors in other shapes.

use super::extents::{expanded, reshaped, with_extent, with_shape};
use super::moved::{Moving, moved};
use super::{Rule, rule};
use crate::context::Context;
use crate::dims::{maximum, minimum};
use crate::node::{Node, Outcome, Stop};
use rlx_ir::{Dim, Shape, Value};

const FIRST: Moving = Moving::These(&[0]);

pub(super) const RULES: &[Rule] = &[
    rule("Reshape", &[1, 5, 13, 14, 19, 21, 23, 24, 25], |cx, node| moved(cx, node, FIRST, reshape)),
    rule("Transpose", &[1, 13, 21, 23, 24, 25], |cx, node| moved(cx, node, FIRST, transpose)),
    rule("Squeeze", &[1, 11, 13, 21, 23, 24, 25], |cx, node| moved(cx, node, FIRST, squeeze)),
    rule("Unsqueeze", &[1, 11, 13, 21, 23, 24, 25], |cx, node| moved(cx, node, FIRST, unsqueeze)),
    rule("Flatten", &[1, 9, 11, 13, 21, 23, 24, 25], |cx, node| moved(cx, node, FIRST, flatten)),
    rule("Expand", &[8, 13], |cx, node| moved(cx, node, FIRST, expand)),
    rule("Concat", &[1, 4, 11, 13], |cx, node| moved(cx, node, Moving::All, concat)),
    rule("Split", &[1, 2, 11, 13, 18], |cx, node| moved(cx, node, FIRST, split)),
    rule("Tile", &[1, 6, 13], |cx, node| moved(cx, node, FIRST, tile)),
    rule("DepthToSpace", &[1, 11, 13, 28], |cx, node| moved(cx, node, FIRST, depth_to_space)),
    rule("SpaceToDepth", &[1, 13, 28], |cx, node| moved(cx, node, FIRST, space_to_depth)),
];

/// `value`, which has the elements of operand 0, with its dtype.
fn like<'m>(cx: &mut Context<'m>, node: &Node<'m>, value: Value) -> Outcome<'m> {
    Ok(vec![cx.tensor_as(value, node.dtype(0)?)?])
}

fn reshape<'m>(cx: &mut Context<'m>, node: &Node<'m>) -> Outcome<'m> {
    node.without_influence("consumed_inputs");
    let mut dims = match node.version {
        1 => node.ints("shape")?.unwrap_or_default().into_iter().map(Dim::from).collect(),
        _ => node.dims(cx, 1)?,
    };
    let own = node.shape(0)?.clone();
    if !node.flag("allowzero", false)? {
        for (axis, dim) in dims.iter_mut().enumerate().filter(|(_, dim)| dim.is(0)) {
            let kept = own.dims().get(axis).cloned();
            *dim = kept.ok_or_else(|| Stop::Invalid(format!("{own} has no axis {axis} to keep")))?;
        }
    }
    let open: Vec<usize> = (0..dims.len()).filter(|&axis| dims[axis].is(-1)).collect();
    match open[..] {
        [] => {}
        [axis] => {
            // Extents that stay are not divided by: quotients of sums are not always found.
            let (mut left, mut rest) = (own.dims().to_vec(), dims.clone());
            rest.remove(axis);
            rest.retain(|dim| match left.iter().position(|own| own == dim && own.as_static().is_none()) {
                Some(at) => {
                    left.remove(at);
                    false
                }
                None => true,
            });
            let rest = Shape::from(rest).num_elements();
            if rest.is(0) {
                return Err(Stop::Invalid(format!("axis {axis} of its result may have any extent")));
            }
            dims[axis] = Shape::from(left).num_elements().floor_div(&rest);
        }
        _ => return Err(Stop::Invalid(format!("its shape {dims:?} leaves more than one extent open"))),
    }
    let x = node.value(cx, 0)?;
    let y = reshaped(cx, x, dims)?;
    like(cx, node, y)
}

fn transpose<'m>(cx: &mut Context<'m>, node: &Node<'m>) -> Outcome<'m> {
    let rank = node.rank(0)?;
    let permutation = match node.ints("perm")? {
        Some(axes) => node.axes_of(&axes, rank)?,
        None => (0..rank).rev().collect(),
    };
    let x = node.value(cx, 0)?;
    let y = cx.graph().transpose(x, permutation);
    like(cx, node, y)
}

fn squeeze<'m>(cx: &mut Context<'m>, node: &Node<'m>) -> Outcome<'m> {
    let shape = node.shape(0)?.clone();
    let axes = match node.axes(cx, "axes", 1)? {
        Some(axes) => node.axes_of(&axes, shape.rank())?,
        None => {
            if shape.as_static().is_none() {
                return Err(Stop::Refused(format!("which axes of {shape} have the extent 1 is not known")));
            }
            (0..shape.rank()).filter(|&axis| shape[axis].is(1)).collect()
        }
    };
    let mut x = node.value(cx, 0)?;
    for &axis in &axes {
        x = with_extent(cx, x, axis, &Dim::from(1))?;
    }
    let rest = (0..shape.rank()).filter(|axis| !axes.contains(axis)).map(|axis| shape[axis].clone());
    let y = cx.graph().reshape(x, rest.collect::<Vec<_>>());
    like(cx, node, y)
}

fn unsqueeze<'m>(cx: &mut Context<'m>, node: &Node<'m>) -> Outcome<'m> {
    let axes = node.axes(cx, "axes", 1)?;
    let axes = axes.ok_or_else(|| Stop::Invalid("it has no axes".into()))?;
    let mut own = node.shape(0)?.dims().iter().cloned();
    let rank = own.len() + axes.len();
    let axes = node.axes_of(&axes, rank)?;
    let dims = (0..rank).map(|axis| {
        if axes.contains(&axis) { Dim::from(1) } else { own.next().unwrap_or_else(|| Dim::from(1)) }
    });
    let dims: Vec<Dim> = dims.collect();
    let x = node.value(cx, 0)?;
    let y = cx.graph().reshape(x, dims);
    like(cx, node, y)
}

fn flatten<'m>(cx: &mut Context<'m>, node: &Node<'m>) -> Outcome<'m> {
    let shape = node.shape(0)?.clone();
    // The result may be cut behind the last axis too.
    let axis = node.int_or("axis", 1)?;
    let at = match axis {
        0.. => node.axis(axis, shape.rank() + 1)?,
        _ => node.axis(axis, shape.rank())?,
    };
    let (rows, columns) = shape.dims().split_at(at);
    let count = |dims: &[Dim]| dims.iter().cloned().fold(Dim::from(1), |a, b| a * b);
    let x = node.value(cx, 0)?;
    let y = cx.graph().reshape(x, vec![count(rows), count(columns)]);
    like(cx, node, y)
}

fn expand<'m>(cx: &mut Context<'m>, node: &Node<'m>) -> Outcome<'m> {
    let dims = node.dims(cx, 1)?;
    let x = node.value(cx, 0)?;
    let y = expanded(cx, x, &dims)?;
    like(cx, node, y)
}

fn concat<'m>(cx: &mut Context<'m>, node: &Node<'m>) -> Outcome<'m> {
    let axis = match node.int("axis")? {
        Some(axis) => axis,
        None if node.version == 1 => 1,
        None => return Err(Stop::Invalid("it has no axis".into())),
    };
    let first = node.shape(0)?.clone();
    let axis = node.axis(axis, first.rank())?;
    let mut parts = node.values(cx)?;
    for (index, part) in parts.iter_mut().enumerate().skip(1) {
        let own = node.shape(index)?;
        let mut dims = first.dims().to_vec();
        dims[axis] = own.dims().get(axis).cloned().unwrap_or_default();
        *part = with_shape(cx, *part, &dims)?;
    }
    let y = if let [one] = parts[..] { one } else { cx.graph().concat(&parts, axis) };
    like(cx, node, y)
}

/// Operand `index` as integers, which the first versions write in the dtype of the data.
fn rounded<'m>(cx: &mut Context<'m>, node: &Node<'m>, index: usize) -> Result<Vec<i64>, Stop<'m>> {
    Ok(node.literal(cx, index)?.to_f64s().into_iter().map(|value| value as i64).collect())
}

fn split<'m>(cx: &mut Context<'m>, node: &Node<'m>) -> Outcome<'m> {
    let shape = node.shape(0)?.clone();
    let axis = node.axis(node.int_or("axis", 0)?, shape.rank())?;
    let extent = shape[axis].clone();
    let lens = match (node.ints("split")?, node.input(1)) {
        (Some(lens), _) => lens.into_iter().map(Dim::from).collect(),
        (None, Some(_)) if node.version == 1 => {
            rounded(cx, node, 1)?.into_iter().map(Dim::from).collect::<Vec<_>>()
        }
        (None, Some(_)) => node.dims(cx, 1)?,
        (None, None) => equal_parts(cx, node, &extent)?,
    };
    if lens.len() < node.output_count() {
        let found = node.output_count();
        return Err(Stop::Invalid(format!("it has {found} results and {} parts", lens.len())));
    }
    let total = lens.iter().cloned().fold(Dim::from(0), |a, b| a + b);
    let x = node.value(cx, 0)?;
    let x = with_extent(cx, x, axis, &total)?;
    let parts = cx.graph().split(x, axis as i64, &lens);
    let dtype = node.dtype(0)?;
    parts.into_iter().map(|part| cx.tensor_as(part, dtype)).collect()
}

/// As many parts as there are results; the last one may be smaller from version 18 on.
fn equal_parts<'m>(cx: &mut Context<'m>, node: &Node<'m>, extent: &Dim) -> Result<Vec<Dim>, Stop<'m>> {
    let count = node.int_or("num_outputs", node.output_count() as i64)?;
    if count < 1 || count != node.output_count() as i64 {
        return Err(Stop::Invalid(format!("it has {} results and {count} parts", node.output_count())));
    }
    let whole = extent.floor_div(&Dim::from(count));
    if node.version < 18 || extent.modulo(&Dim::from(count)).is(0) {
        return Ok(vec![whole; count as usize]);
    }
    let part = extent.ceil_div(&Dim::from(count));
    let rest = |index: i64| {
        let rest = maximum(cx.graph(), &(extent.clone() - part.clone() * Dim::from(index)), &Dim::from(0));
        minimum(cx.graph(), &part, &rest)
    };
    Ok((0..count).map(rest).collect())
}

fn tile<'m>(cx: &mut Context<'m>, node: &Node<'m>) -> Outcome<'m> {
    let rank = node.rank(0)?;
    let repeats = if node.version == 1 {
        let (times, axis) = (rounded(cx, node, 1)?, rounded(cx, node, 2)?);
        let (&[times], &[axis]) = (&times[..], &axis[..]) else {
            return Err(Stop::Invalid("its repeats and its axis must be one number each".into()));
        };
        let mut repeats = vec![Dim::from(1); rank];
        repeats[node.axis(axis, rank)?] = Dim::from(times);
        repeats
    } else {
        node.dims(cx, 1)?
    };
    if repeats.len() != rank {
        return Err(Stop::Invalid(format!("it has {} repeats for rank {rank}", repeats.len())));
    }
    let x = node.value(cx, 0)?;
    let y = cx.graph().tile(x, repeats);
    like(cx, node, y)
}

/// The extents of an image operand and the size of blocks.
fn blocks<'m>(node: &Node<'m>) -> Result<([Dim; 4], Dim, bool), Stop<'m>> {
    let size = node.int("blocksize")?.filter(|&size| size > 0);
    let size = size.ok_or_else(|| Stop::Invalid("its block size is not positive".into()))?;
    let is_depth_first = match node.string_or("mode", "DCR")?.as_str() {
        "DCR" => true,
        "CRD" => false,
        other => return Err(Stop::Invalid(format!("there is no mode {other:?}"))),
    };
    match node.shape(0)?.dims() {
        [n, c, h, w] => Ok(([n.clone(), c.clone(), h.clone(), w.clone()], Dim::from(size), is_depth_first)),
        dims => Err(Stop::Invalid(format!("it has rank {}, expected 4", dims.len()))),
    }
}

/// `x` with `axis` cut into `count` and the rest, which comes first or last.
fn cut_axis<'m>(cx: &mut Context<'m>, x: Value, axis: usize, counts: &Dim) -> Result<(Value, Dim), Stop<'m>> {
    let rest = cx.ty(x)?.shape[axis].floor_div(counts);
    Ok((with_extent(cx, x, axis, &(rest.clone() * counts.clone()))?, rest))
}

fn depth_to_space<'m>(cx: &mut Context<'m>, node: &Node<'m>) -> Outcome<'m> {
    let ([n, _, h, w], b, is_depth_first) = blocks(node)?;
    let x = node.value(cx, 0)?;
    let (x, c) = cut_axis(cx, x, 1, &(b.clone() * b.clone()))?;
    let g = cx.graph();
    let (dims, permutation) = if is_depth_first {
        ([&n, &b, &b, &c, &h, &w], vec![0, 3, 4, 1, 5, 2])
    } else {
        ([&n, &c, &b, &b, &h, &w], vec![0, 1, 4, 2, 5, 3])
    };
    let x = g.reshape(x, dims.map(Dim::clone).to_vec());
    let x = g.transpose(x, permutation);
    let y = g.reshape(x, vec![n, c, h * b.clone(), w * b]);
    like(cx, node, y)
}

fn space_to_depth<'m>(cx: &mut Context<'m>, node: &Node<'m>) -> Outcome<'m> {
    let ([n, c, _, _], b, is_depth_first) = blocks(node)?;
    let x = node.value(cx, 0)?;
    let (x, h) = cut_axis(cx, x, 2, &b)?;
    let (x, w) = cut_axis(cx, x, 3, &b)?;
    let g = cx.graph();
    let x = g.reshape(x, [&n, &c, &h, &b, &w, &b].map(Dim::clone).to_vec());
    let permutation = if is_depth_first { vec![0, 3, 5, 1, 2, 4] } else { vec![0, 1, 3, 5, 2, 4] };
    let x = g.transpose(x, permutation);
    let y = g.reshape(x, vec![n, c * b.clone() * b, h, w]);
    like(cx, node, y)
}

#[cfg(test)]
mod tests {
    use crate::single::{int, ints, run, strings, tensor};
    use rlx_ir::DType::{F32, I64};

    #[test]
    fn first_versions_take_attributes_and_floats() {
        let x = tensor(F32, &[2, 2], &[0.0, 1.0, 2.0, 3.0]);
        let flat = run("Reshape", 1, &[ints("shape", &[-1])], std::slice::from_ref(&x));
        assert_eq!(flat, Ok(tensor(F32, &[4], &[0.0, 1.0, 2.0, 3.0])));
        let (times, axis) = (tensor(F32, &[1], &[2.0]), tensor(F32, &[1], &[1.0]));
        let tiled = run("Tile", 1, &[], &[x.clone(), times, axis]);
        assert_eq!(tiled, Ok(tensor(F32, &[2, 4], &[0.0, 1.0, 0.0, 1.0, 2.0, 3.0, 2.0, 3.0])));
        let joined = run("Concat", 1, &[], &[x.clone(), x]);
        assert_eq!(joined, Ok(tensor(F32, &[2, 4], &[0.0, 1.0, 0.0, 1.0, 2.0, 3.0, 2.0, 3.0])));
    }

    #[test]
    fn shapes_that_do_not_fit_are_refused() {
        let x = tensor(F32, &[2, 3], &[0.0; 6]);
        let to = |dims: &[f64]| tensor(I64, &[dims.len()], dims);
        for dims in [&[4.0, -1.0][..], &[-1.0, -1.0], &[7.0], &[2.0, 3.0, 0.0]] {
            assert!(run("Reshape", 14, &[], &[x.clone(), to(dims)]).is_err(), "{dims:?}");
        }
        assert!(run("Expand", 13, &[], &[x.clone(), to(&[4.0, 3.0])]).is_err());
        assert!(run("Squeeze", 13, &[], &[x, to(&[0.0])]).is_err());
        let none = tensor(F32, &[0, 3], &[]);
        assert_eq!(
            run("Reshape", 14, &[int("allowzero", 1)], &[none, to(&[5.0, 0.0])]),
            Ok(tensor(F32, &[5, 0], &[]))
        );
    }

    #[test]
    fn strings_take_other_shapes() {
        let texts = run("Concat", 13, &[int("axis", 0)], &[strings(&["b"]), strings(&["a", "b"])]);
        assert_eq!(texts, Ok(strings(&["b", "a", "b"])));
        let twice = tensor(I64, &[1], &[2.0]);
        assert_eq!(run("Tile", 13, &[], &[strings(&["x", ""]), twice]), Ok(strings(&["x", "", "x", ""])));
    }
}
