//! Reductions, sums along an axis, softmax, and what orders elements.

use super::scalar::Takes;
use super::table::Rule;
use super::writer::{Field, Use, Writer, Written};
use rlx_ir::ops::{ArgReduceKind, ReduceKind};
use rlx_ir::{DType, Op, OpKind};

pub(super) const RULES: &[(OpKind, Rule)] = &[
    (OpKind::Reduce, reduce),
    (OpKind::ArgReduce, arg_reduce),
    (OpKind::Softmax, softmax),
    (OpKind::LogSoftmax, log_softmax),
    (OpKind::Cumsum, cumsum),
    (OpKind::CumProd, cum_prod),
    (OpKind::TopK, top_k),
    (OpKind::Sort, sort),
    (OpKind::ArgSort, arg_sort),
];

/// The first operand in a dtype that `takes` says, and that dtype.
fn taken(writer: &mut Writer<'_>, place: &Use<'_>, takes: Takes) -> Result<(String, DType), String> {
    let dtype = place.dtype();
    let computed = takes.computed(dtype).ok_or_else(|| format!("ONNX does not do this to {dtype}"))?;
    Ok((writer.cast(place.operand(0), dtype, computed)?, computed))
}

fn reduce(writer: &mut Writer<'_>, place: &Use<'_>) -> Written {
    let Op::Reduce(op) = place.op else { return Err(String::new()) };
    let dtype = place.dtype();
    if op.axes.is_empty() {
        return Ok(vec![writer.node("Identity", &[place.operand(0)], &[])]);
    }
    let name = match op.kind {
        ReduceKind::Sum => "ReduceSum",
        ReduceKind::Mean => "ReduceMean",
        ReduceKind::Prod => "ReduceProd",
        ReduceKind::Max | ReduceKind::Any => "ReduceMax",
        ReduceKind::Min | ReduceKind::All => "ReduceMin",
    };
    let keeps_small = matches!(dtype, DType::I8 | DType::U8 | DType::Bool)
        && name.ends_with(['x', 'n'])
        && op.kind != ReduceKind::Mean;
    let (x, computed) =
        if keeps_small { (place.operand(0).to_string(), dtype) } else { taken(writer, place, Takes::Words)? };
    let axes = writer.ints(&op.axes.iter().map(|&axis| axis as i64).collect::<Vec<_>>());
    let keep = [("keepdims", Field::Int(op.keep_dims.into()))];
    let result = writer.node(name, &[&x, &axes], &keep);
    // A maximum of no elements is the lowest of the dtype in which it was computed.
    let may_be_empty =
        |axis: &usize| writer.bounds(&place.operands[0].ty.shape.dims()[*axis]).0.is_none_or(|low| low <= 0);
    if computed != dtype && name != "ReduceSum" && name != "ReduceProd" && op.axes.iter().any(may_be_empty) {
        return Err(format!("{name} of what may be no elements of {dtype}"));
    }
    Ok(vec![writer.cast(&result, computed, dtype)?])
}

fn arg_reduce(writer: &mut Writer<'_>, place: &Use<'_>) -> Written {
    let Op::ArgReduce(op) = place.op else { return Err(String::new()) };
    let name = match op.kind {
        ArgReduceKind::Max => "ArgMax",
        ArgReduceKind::Min => "ArgMin",
    };
    let x = match place.dtype() {
        DType::Bool => writer.cast(place.operand(0), DType::Bool, DType::I32)?,
        _ => taken(writer, place, Takes::Numbers)?.0,
    };
    let fields = [
        ("axis", Field::Int(op.axis as i64)),
        ("keepdims", Field::Int(op.keep_dims.into())),
        ("select_last_index", Field::Int(op.select_last.into())),
    ];
    let found = writer.node(name, &[&x], &fields);
    Ok(vec![writer.cast(&found, DType::I64, op.dtype)?])
}

fn softmax(writer: &mut Writer<'_>, place: &Use<'_>) -> Written {
    let Op::Softmax(op) = place.op else { return Err(String::new()) };
    along(writer, place, "Softmax", op.axis)
}

fn log_softmax(writer: &mut Writer<'_>, place: &Use<'_>) -> Written {
    let Op::LogSoftmax(op) = place.op else { return Err(String::new()) };
    along(writer, place, "LogSoftmax", op.axis)
}

fn along(writer: &mut Writer<'_>, place: &Use<'_>, name: &str, axis: usize) -> Written {
    let (x, computed) = taken(writer, place, Takes::Floats)?;
    let y = writer.node(name, &[&x], &[("axis", Field::Int(axis as i64))]);
    Ok(vec![writer.cast(&y, computed, place.dtype())?])
}

fn cumsum(writer: &mut Writer<'_>, place: &Use<'_>) -> Written {
    let Op::Cumsum(op) = place.op else { return Err(String::new()) };
    cumulative(writer, place, "CumSum", (op.axis, op.exclusive, op.reverse))
}

fn cum_prod(writer: &mut Writer<'_>, place: &Use<'_>) -> Written {
    let Op::CumProd(op) = place.op else { return Err(String::new()) };
    if writer.opset < 26 {
        return Err(format!("CumProd came with opset 26, this is opset {}", writer.opset));
    }
    cumulative(writer, place, "CumProd", (op.axis, op.exclusive, op.reverse))
}

fn cumulative(
    writer: &mut Writer<'_>,
    place: &Use<'_>,
    name: &str,
    (axis, exclusive, reverse): (usize, bool, bool),
) -> Written {
    let (x, computed) = taken(writer, place, Takes::Words)?;
    let axis = rlx_ir::Literal::scalar_i64(axis as i64);
    let axis = writer.constant(&axis)?;
    let fields = [("exclusive", Field::Int(exclusive.into())), ("reverse", Field::Int(reverse.into()))];
    let y = writer.node(name, &[&x, &axis], &fields);
    Ok(vec![writer.cast(&y, computed, place.dtype())?])
}

/// The first operand in a dtype that TopK takes.
fn compared(writer: &mut Writer<'_>, place: &Use<'_>) -> Result<(String, DType), String> {
    let takes = if place.dtype().is_int() { Takes::Numbers } else { Takes::IeeeFloats };
    taken(writer, place, takes)
}

/// Values and positions of the best `k`, best first, equal ones by position.
fn best(
    writer: &mut Writer<'_>,
    place: &Use<'_>,
    (k, axis, largest): (&rlx_ir::Dim, usize, bool),
) -> Result<[String; 2], String> {
    let (x, computed) = compared(writer, place)?;
    let k = writer.dims(std::slice::from_ref(k))?;
    let fields = [("axis", Field::Int(axis as i64)), ("largest", Field::Int(largest.into()))];
    let mut found = writer.nodes("TopK", &[&x, &k], &fields, 2);
    let positions = found.pop().unwrap_or_default();
    let values = writer.cast(&found[0], computed, place.dtype())?;
    Ok([values, positions])
}

fn top_k(writer: &mut Writer<'_>, place: &Use<'_>) -> Written {
    let Op::TopK(op) = place.op else { return Err(String::new()) };
    let [mut values, mut positions] = best(writer, place, (&op.k, op.axis, op.largest))?;
    if !op.sorted {
        // ONNX leaves the order open: the positions are sorted, and the values picked by them.
        let k = writer.dims(std::slice::from_ref(&op.k))?;
        let axis = op.axis as i64;
        let fields = [("axis", Field::Int(axis)), ("largest", Field::Int(0))];
        positions = writer.nodes("TopK", &[&positions, &k], &fields, 2).swap_remove(0);
        let axis = [("axis", Field::Int(axis))];
        let (x, computed) = compared(writer, place)?;
        let picked = writer.node("GatherElements", &[&x, &positions], &axis);
        values = writer.cast(&picked, computed, place.dtype())?;
    }
    Ok(vec![values, writer.cast(&positions, DType::I64, op.dtype)?])
}

fn sort(writer: &mut Writer<'_>, place: &Use<'_>) -> Written {
    let Op::Sort(op) = place.op else { return Err(String::new()) };
    let extent = place.operands[0].ty.shape.dims()[op.axis].clone();
    let [values, _] = best(writer, place, (&extent, op.axis, op.descending))?;
    Ok(vec![values])
}

fn arg_sort(writer: &mut Writer<'_>, place: &Use<'_>) -> Written {
    let Op::ArgSort(op) = place.op else { return Err(String::new()) };
    let extent = place.operands[0].ty.shape.dims()[op.axis].clone();
    let [_, positions] = best(writer, place, (&extent, op.axis, op.descending))?;
    Ok(vec![writer.cast(&positions, DType::I64, op.dtype)?])
}
