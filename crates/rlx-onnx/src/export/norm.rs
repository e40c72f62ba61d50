//! Normalisations, where their statistics are computed as here: the epsilon of ONNX is an f32, and what it computes
//! in f32 leaves f64 to the definitions.

use super::table::Rule;
use super::writer::{Field, Use, Writer, Written};
use rlx_ir::{DType, Op, OpKind};

pub(super) const RULES: &[(OpKind, Rule)] = &[
    (OpKind::LayerNorm, layer_norm),
    (OpKind::RmsNorm, rms_norm),
    (OpKind::GroupNorm, group_norm),
    (OpKind::InstanceNorm, instance_norm),
    (OpKind::BatchNormInference, batch_norm_inference),
];

fn narrow_float(place: &Use<'_>) -> Result<DType, String> {
    match place.dtype() {
        dtype @ (DType::F32 | DType::F16 | DType::BF16) => Ok(dtype),
        dtype => Err(format!("ONNX computes the statistics of {dtype} in f32")),
    }
}

/// Gamma or beta as given, or `value` for each of the elements of `dims`.
fn parameter(
    writer: &mut Writer<'_>,
    place: &Use<'_>,
    (name, first, value): (&str, usize, f64),
    dims: &[rlx_ir::Dim],
) -> Result<String, String> {
    let given = place.op.optional_given();
    if let Some(position) = given.iter().position(|other| *other == name) {
        return Ok(place.operand(first + position).to_string());
    }
    let extents: Option<Vec<usize>> =
        dims.iter().map(|dim| dim.as_static().and_then(|extent| usize::try_from(extent).ok())).collect();
    let extents = extents.filter(|extents| extents.iter().product::<usize>() <= 1 << 16);
    let extents = extents.ok_or_else(|| format!("ONNX requires {name}"))?;
    writer.filled(place.dtype(), &extents, value)
}

/// The first of the normalised axes, where they are the last ones.
fn last_axes(axes: &[usize], rank: usize) -> Result<i64, String> {
    let first = rank - axes.len();
    match axes.iter().copied().eq(first..rank) {
        true => Ok(first as i64),
        false => Err("ONNX normalises the last axes".into()),
    }
}

fn layer_norm(writer: &mut Writer<'_>, place: &Use<'_>) -> Written {
    let Op::LayerNorm(op) = place.op else { return Err(String::new()) };
    narrow_float(place)?;
    let dims = place.operands[0].ty.shape.dims();
    let axis = last_axes(&op.axes, dims.len())?;
    let gamma = parameter(writer, place, ("gamma", 1, 1.0), &dims[axis as usize..])?;
    let beta = match place.op.optional_given().contains(&"beta") {
        true => parameter(writer, place, ("beta", 1, 0.0), &[])?,
        false => String::new(),
    };
    let fields = [("axis", Field::Int(axis)), ("epsilon", Field::Float(op.eps.0))];
    Ok(vec![writer.node("LayerNormalization", &[place.operand(0), &gamma, &beta], &fields)])
}

fn rms_norm(writer: &mut Writer<'_>, place: &Use<'_>) -> Written {
    let Op::RmsNorm(op) = place.op else { return Err(String::new()) };
    narrow_float(place)?;
    if writer.opset < 23 || op.unit_offset || place.op.optional_given().contains(&"beta") {
        return Err("RMSNormalization came with opset 23, and has a factor only".into());
    }
    let dims = place.operands[0].ty.shape.dims();
    let axis = last_axes(&op.axes, dims.len())?;
    let gamma = parameter(writer, place, ("gamma", 1, 1.0), &dims[axis as usize..])?;
    let fields = [("axis", Field::Int(axis)), ("epsilon", Field::Float(op.eps.0))];
    Ok(vec![writer.node("RMSNormalization", &[place.operand(0), &gamma], &fields)])
}

fn group_norm(writer: &mut Writer<'_>, place: &Use<'_>) -> Written {
    let Op::GroupNorm(op) = place.op else { return Err(String::new()) };
    narrow_float(place)?;
    let dims = place.operands[0].ty.shape.dims();
    if dims.len() < 3 {
        return Err("GroupNormalization takes rank 3 or more".into());
    }
    let gamma = parameter(writer, place, ("gamma", 1, 1.0), &dims[1..2])?;
    let beta = parameter(writer, place, ("beta", 1, 0.0), &dims[1..2])?;
    let fields = [("num_groups", Field::Int(op.num_groups as i64)), ("epsilon", Field::Float(op.eps.0))];
    Ok(vec![writer.node("GroupNormalization", &[place.operand(0), &gamma, &beta], &fields)])
}

fn instance_norm(writer: &mut Writer<'_>, place: &Use<'_>) -> Written {
    let Op::InstanceNorm(op) = place.op else { return Err(String::new()) };
    if !matches!(place.dtype(), DType::F32 | DType::F16) {
        return Err(format!("InstanceNormalization takes no {}", place.dtype()));
    }
    let dims = place.operands[0].ty.shape.dims();
    let gamma = parameter(writer, place, ("gamma", 1, 1.0), &dims[1..2])?;
    let beta = parameter(writer, place, ("beta", 1, 0.0), &dims[1..2])?;
    let fields = [("epsilon", Field::Float(op.eps.0))];
    Ok(vec![writer.node("InstanceNormalization", &[place.operand(0), &gamma, &beta], &fields)])
}

fn batch_norm_inference(writer: &mut Writer<'_>, place: &Use<'_>) -> Written {
    let Op::BatchNormInference(op) = place.op else { return Err(String::new()) };
    narrow_float(place)?;
    let dims = place.operands[0].ty.shape.dims();
    if op.axis != 1 {
        return Err("BatchNormalization has its features along axis 1".into());
    }
    let gamma = parameter(writer, place, ("gamma", 3, 1.0), &dims[1..2])?;
    let beta = parameter(writer, place, ("beta", 3, 0.0), &dims[1..2])?;
    let operands = [place.operand(0), &gamma, &beta, place.operand(1), place.operand(2)];
    Ok(vec![writer.node("BatchNormalization", &operands, &[("epsilon", Field::Float(op.eps.0))])])
}
