//! Ops that move elements.

use super::table::Rule;
use super::writer::{Field, Use, Writer, Written};
use rlx_ir::ops::PadMode;
use rlx_ir::{DType, Dim, Literal, Op, OpKind};

pub(super) const RULES: &[(OpKind, Rule)] = &[
    (OpKind::Reshape, reshape),
    (OpKind::Transpose, transpose),
    (OpKind::Narrow, narrow),
    (OpKind::Slice, slice),
    (OpKind::Expand, expand),
    (OpKind::Concat, concat),
    (OpKind::Reverse, reverse),
    (OpKind::Pad, pad),
    (OpKind::Tile, tile),
    (OpKind::OneHot, one_hot),
    (OpKind::Barrier, barrier),
];

fn reshape(writer: &mut Writer<'_>, place: &Use<'_>) -> Written {
    let Op::Reshape(op) = place.op else { return Err(String::new()) };
    let dims = op.shape.dims();
    let unknown = dims.iter().filter(|dim| dim.as_static().is_none()).count();
    let others_count = dims.iter().all(|dim| dim.as_static().is_none_or(|extent| extent > 0));
    let shape = if unknown == 1 && others_count {
        writer.ints(&dims.iter().map(|dim| dim.as_static().unwrap_or(-1)).collect::<Vec<_>>())
    } else {
        writer.dims(dims)?
    };
    // A zero is an extent like any other here, and -1 is never beside one.
    let may_be_empty = unknown > 1 || dims.iter().any(|dim| dim.is(0));
    let fields: &[_] = if may_be_empty { &[("allowzero", Field::Int(1))] } else { &[] };
    Ok(vec![writer.node("Reshape", &[place.operand(0), &shape], fields)])
}

fn transpose(writer: &mut Writer<'_>, place: &Use<'_>) -> Written {
    let Op::Transpose(op) = place.op else { return Err(String::new()) };
    let perm = op.permutation.iter().map(|&axis| axis as i64).collect();
    Ok(vec![writer.node("Transpose", &[place.operand(0)], &[("perm", Field::Ints(perm))])])
}

fn narrow(writer: &mut Writer<'_>, place: &Use<'_>) -> Written {
    let Op::Narrow(op) = place.op else { return Err(String::new()) };
    let start = writer.dims(std::slice::from_ref(&op.start))?;
    let end = writer.dims(&[op.start.clone() + op.len.clone()])?;
    let axis = writer.ints(&[op.axis as i64]);
    Ok(vec![writer.node("Slice", &[place.operand(0), &start, &end, &axis], &[])])
}

fn slice(writer: &mut Writer<'_>, place: &Use<'_>) -> Written {
    let Op::Slice(op) = place.op else { return Err(String::new()) };
    let extents = place.operands[0].ty.shape.dims();
    let mut ends = vec![];
    for (index, &axis) in op.axes.iter().enumerate() {
        let (start, step, len) = (&op.starts[index], op.steps[index], &op.lens[index]);
        let end = start.clone() + len.clone() * Dim::from(step);
        if step > 0 {
            ends.push(end.minimum(&extents[axis]));
        } else if len.is(0) {
            ends.push(extents[axis].clone());
        } else if writer.bounds(len).0.is_some_and(|low| low > 0) {
            // The place before the last element, counted from the end: in front of the first one that is -1.
            let before = end - Dim::from(step) - Dim::from(1);
            ends.push(before - extents[axis].clone());
        } else {
            return Err("a slice that runs backwards over what may be no elements".into());
        }
    }
    let axes: Vec<i64> = op.axes.iter().map(|&axis| axis as i64).collect();
    let names = [writer.dims(&op.starts)?, writer.dims(&ends)?, writer.ints(&axes), writer.ints(&op.steps)];
    let [starts, ends, axes, steps] = &names;
    Ok(vec![writer.node("Slice", &[place.operand(0), starts, ends, axes, steps], &[])])
}

fn reverse(writer: &mut Writer<'_>, place: &Use<'_>) -> Written {
    let Op::Reverse(op) = place.op else { return Err(String::new()) };
    let axes: Vec<i64> = op.axes.iter().map(|&axis| axis as i64).collect();
    let all = |writer: &mut Writer<'_>, value: i64| writer.ints(&vec![value; axes.len()]);
    let (first, end) = (all(writer, -1), all(writer, i64::MIN + 1));
    let (axes, steps) = (writer.ints(&axes), all(writer, -1));
    Ok(vec![writer.node("Slice", &[place.operand(0), &first, &end, &axes, &steps], &[])])
}

fn expand(writer: &mut Writer<'_>, place: &Use<'_>) -> Written {
    let Op::Expand(op) = place.op else { return Err(String::new()) };
    let shape = writer.dims(op.shape.dims())?;
    Ok(vec![writer.node("Expand", &[place.operand(0), &shape], &[])])
}

fn concat(writer: &mut Writer<'_>, place: &Use<'_>) -> Written {
    let Op::Concat(op) = place.op else { return Err(String::new()) };
    let parts: Vec<&str> = place.operands.iter().map(|term| term.name.as_str()).collect();
    Ok(vec![writer.node("Concat", &parts, &[("axis", Field::Int(op.axis as i64))])])
}

fn pad(writer: &mut Writer<'_>, place: &Use<'_>) -> Written {
    let Op::Pad(op) = place.op else { return Err(String::new()) };
    let mode = match op.mode {
        PadMode::Constant => "constant",
        PadMode::Reflect => "reflect",
        PadMode::Edge => "edge",
    };
    let pads = writer.dims(&[op.low.as_slice(), &op.high].concat())?;
    let value = place.operand(1);
    Ok(vec![writer.node("Pad", &[place.operand(0), &pads, value], &[("mode", Field::Text(mode))])])
}

fn tile(writer: &mut Writer<'_>, place: &Use<'_>) -> Written {
    let Op::Tile(op) = place.op else { return Err(String::new()) };
    let repeats = writer.dims(&op.repeats)?;
    Ok(vec![writer.node("Tile", &[place.operand(0), &repeats], &[])])
}

/// A negative index counts from the end in ONNX and is outside here.
fn one_hot(writer: &mut Writer<'_>, place: &Use<'_>) -> Written {
    let Op::OneHot(op) = place.op else { return Err(String::new()) };
    if !matches!(op.dtype, DType::F32 | DType::F64 | DType::I32 | DType::I64) {
        return Err(format!("OneHot gives no {}", op.dtype));
    }
    let indices = writer.cast(place.operand(0), place.dtype(), DType::I64)?;
    let depth = writer.dims(std::slice::from_ref(&op.depth))?;
    let zero = writer.ints(&[0]);
    let is_negative = writer.node("Less", &[&indices, &zero], &[]);
    let rank = place.operands[0].ty.rank();
    let outside = writer.node("Where", &[&is_negative, &depth, &indices], &[]);
    let values = match op.dtype.is_float() {
        true => Literal::floats(op.dtype, &[2], &[0.0, 1.0]),
        false => Literal::ints(op.dtype, &[2], &[0, 1]),
    };
    let values = writer.constant(&values.map_err(|error| error.to_string())?)?;
    let axis = if op.axis == rank { -1 } else { op.axis as i64 };
    let y = writer.node("OneHot", &[&outside, &depth, &values], &[("axis", Field::Int(axis))]);
    // ONNX takes no index of rank 0: beside the depth it has become one of rank 1.
    Ok(vec![if rank == 0 { writer.node("Reshape", &[&y, &depth], &[]) } else { y }])
}

/// ONNX has no order but that of values, which the graph keeps.
fn barrier(writer: &mut Writer<'_>, place: &Use<'_>) -> Written {
    Ok(vec![writer.node("Identity", &[place.operand(0)], &[])])
}
