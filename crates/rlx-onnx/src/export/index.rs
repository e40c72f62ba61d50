//! Gathers, scatters and windows at positions of the data.

use super::table::Rule;
use super::writer::{Field, Use, Writer, Written};
use rlx_ir::ops::ScatterKind;
use rlx_ir::{DType, Op, OpKind};

pub(super) const RULES: &[(OpKind, Rule)] = &[
    (OpKind::Gather, gather),
    (OpKind::GatherElements, gather_elements),
    (OpKind::GatherNd, gather_nd),
    (OpKind::ScatterElements, scatter_elements),
    (OpKind::ScatterNd, scatter_nd),
    (OpKind::DynamicSlice, dynamic_slice),
];

/// Positions in the dtype that ONNX takes.
fn positions(writer: &mut Writer<'_>, place: &Use<'_>) -> Result<String, String> {
    let to = match place.operands[1].ty.dtype {
        DType::I32 => DType::I32,
        _ => DType::I64,
    };
    writer.cast(place.operand(1), place.operands[1].ty.dtype, to)
}

fn plain_table(place: &Use<'_>) -> Result<(), String> {
    let dtype = place.dtype();
    if dtype.is_storage_only() || (dtype.is_float() && dtype.block_bits() < 16) {
        return Err(format!("ONNX picks no elements of {dtype}"));
    }
    Ok(())
}

fn gather(writer: &mut Writer<'_>, place: &Use<'_>) -> Written {
    let Op::Gather(op) = place.op else { return Err(String::new()) };
    plain_table(place)?;
    let indices = positions(writer, place)?;
    Ok(vec![writer.node("Gather", &[place.operand(0), &indices], &[("axis", Field::Int(op.axis as i64))])])
}

fn gather_elements(writer: &mut Writer<'_>, place: &Use<'_>) -> Written {
    let Op::GatherElements(op) = place.op else { return Err(String::new()) };
    plain_table(place)?;
    let indices = positions(writer, place)?;
    let axis = [("axis", Field::Int(op.axis as i64))];
    Ok(vec![writer.node("GatherElements", &[place.operand(0), &indices], &axis)])
}

fn gather_nd(writer: &mut Writer<'_>, place: &Use<'_>) -> Written {
    let Op::GatherNd(op) = place.op else { return Err(String::new()) };
    plain_table(place)?;
    if place.operands[1].ty.shape.dims().last().is_none_or(|count| count.is(0)) {
        return Err("GatherND takes vectors of one position or more".into());
    }
    let indices = writer.cast(place.operand(1), place.operands[1].ty.dtype, DType::I64)?;
    let batch = [("batch_dims", Field::Int(op.batch_dims as i64))];
    Ok(vec![writer.node("GatherND", &[place.operand(0), &indices], &batch)])
}

fn reduction(kind: ScatterKind, dtype: DType) -> Result<Field<'static>, String> {
    if dtype.is_complex() && kind != ScatterKind::None {
        return Err(format!("ONNX combines no elements of {dtype}"));
    }
    Ok(Field::Text(match kind {
        ScatterKind::None => "none",
        ScatterKind::Add => "add",
        ScatterKind::Mul => "mul",
        ScatterKind::Min => "min",
        ScatterKind::Max => "max",
    }))
}

fn scatter_elements(writer: &mut Writer<'_>, place: &Use<'_>) -> Written {
    let Op::ScatterElements(op) = place.op else { return Err(String::new()) };
    plain_table(place)?;
    let fields = [("axis", Field::Int(op.axis as i64)), ("reduction", reduction(op.kind, place.dtype())?)];
    let indices = positions(writer, place)?;
    Ok(vec![writer.node("ScatterElements", &[place.operand(0), &indices, place.operand(2)], &fields)])
}

fn scatter_nd(writer: &mut Writer<'_>, place: &Use<'_>) -> Written {
    let Op::ScatterNd(op) = place.op else { return Err(String::new()) };
    plain_table(place)?;
    if place.operands[1].ty.shape.dims().last().is_none_or(|count| count.is(0)) {
        return Err("ScatterND takes vectors of one position or more".into());
    }
    let fields = [("reduction", reduction(op.kind, place.dtype())?)];
    let indices = writer.cast(place.operand(1), place.operands[1].ty.dtype, DType::I64)?;
    Ok(vec![writer.node("ScatterND", &[place.operand(0), &indices, place.operand(2)], &fields)])
}

fn dynamic_slice(writer: &mut Writer<'_>, place: &Use<'_>) -> Written {
    let Op::DynamicSlice(op) = place.op else { return Err(String::new()) };
    plain_table(place)?;
    let starts = writer.cast(place.operand(1), place.operands[1].ty.dtype, DType::I64)?;
    let sizes = writer.dims(&op.sizes)?;
    let ends = writer.node("Add", &[&starts, &sizes], &[]);
    let axes = writer.ints(&op.axes.iter().map(|&axis| axis as i64).collect::<Vec<_>>());
    Ok(vec![writer.node("Slice", &[place.operand(0), &starts, &ends, &axes], &[])])
}
