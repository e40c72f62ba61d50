//! Codes: stored narrow integers, quantisation under scales.

use super::table::Rule;
use super::writer::{Field, Use, Writer, Written};
use rlx_ir::{DType, Op, OpKind, TensorType};

pub(super) const RULES: &[(OpKind, Rule)] = &[
    (OpKind::DecodeStorage, decode_storage),
    (OpKind::Dequantize, dequantize),
    (OpKind::Quantize, quantize),
];

fn decode_storage(writer: &mut Writer<'_>, place: &Use<'_>) -> Written {
    let to = place.results[0].dtype;
    super::writer::element_type(place.dtype(), writer.opset)?;
    Ok(vec![writer.cast(place.operand(0), place.dtype(), to)?])
}

/// Where scales lie: of the whole tensor, along an axis, or per block of an axis.
enum Scales {
    Whole,
    Axis(usize),
    Blocks { axis: usize, size: usize },
}

fn scales(x: &TensorType, scale: &TensorType, block: &[usize]) -> Result<Scales, String> {
    let open = || "ONNX has scales per tensor, per axis and per block of an axis".to_string();
    if !block.is_empty() {
        let mut wide = block.iter().enumerate().filter(|(_, size)| **size != 1);
        return match (wide.next(), wide.next(), scale.rank() == x.rank()) {
            (Some((axis, &size)), None, true) => Ok(Scales::Blocks { axis, size }),
            _ => Err(open()),
        };
    }
    if scale.shape.dims().iter().all(|dim| dim.is(1)) {
        return Ok(Scales::Whole);
    }
    let offset = x.rank().checked_sub(scale.rank()).ok_or_else(open)?;
    let dims = scale.shape.dims().iter().enumerate();
    let mut wide = dims.filter(|(_, dim)| !dim.is(1)).map(|(axis, _)| axis + offset);
    match (wide.next(), wide.next()) {
        (Some(axis), None) => Ok(Scales::Axis(axis)),
        _ => Err(open()),
    }
}

/// Names of operands, and attributes.
type Placed = (Vec<String>, Vec<(&'static str, Field<'static>)>);

/// Scales and zero points in ONNX's shape, and the attributes that say where they lie.
fn placed(writer: &mut Writer<'_>, place: &Use<'_>, block: &[usize]) -> Result<Placed, String> {
    let scale = place.operands.get(1).ok_or("ONNX requires a scale")?;
    if scale.ty.dtype != DType::F32 {
        return Err("ONNX computes in the dtype of the scale".into());
    }
    let found = scales(&place.operands[0].ty, &scale.ty, block)?;
    let (shape, fields): (Option<&[i64]>, _) = match found {
        Scales::Whole => (Some(&[]), vec![]),
        Scales::Axis(axis) => (Some(&[-1]), vec![("axis", Field::Int(axis as i64))]),
        Scales::Blocks { axis, size } => {
            let fields = vec![("axis", Field::Int(axis as i64)), ("block_size", Field::Int(size as i64))];
            (None, fields)
        }
    };
    let mut operands = vec![place.operand(0).to_string()];
    for term in &place.operands[1..] {
        let fits = shape.is_none_or(|shape| shape.len() == term.ty.rank());
        operands.push(match shape {
            Some(shape) if !fits => {
                let shape = writer.ints(shape);
                writer.node("Reshape", &[&term.name, &shape], &[])
            }
            _ => term.name.clone(),
        });
    }
    Ok((operands, fields))
}

fn is_code(dtype: DType) -> bool {
    matches!(dtype, DType::I8 | DType::U8 | DType::I16 | DType::U16 | DType::I4 | DType::U4)
}

fn dequantize(writer: &mut Writer<'_>, place: &Use<'_>) -> Written {
    let Op::Dequantize(op) = place.op else { return Err(String::new()) };
    if op.to != DType::F32 || !is_code(place.dtype()) {
        return Err(format!("DequantizeLinear does not make {} of {} here", op.to, place.dtype()));
    }
    let (operands, fields) = placed(writer, place, &op.block)?;
    let operands: Vec<&str> = operands.iter().map(String::as_str).collect();
    Ok(vec![writer.node("DequantizeLinear", &operands, &fields)])
}

fn quantize(writer: &mut Writer<'_>, place: &Use<'_>) -> Written {
    let Op::Quantize(op) = place.op else { return Err(String::new()) };
    if place.dtype() != DType::F32 || !is_code(op.to) {
        return Err(format!("QuantizeLinear does not make {} of {} here", op.to, place.dtype()));
    }
    let (operands, mut fields) = placed(writer, place, &op.block)?;
    if operands.len() < 3 {
        let code = super::writer::element_type(op.to, writer.opset)? as i64;
        fields.push(("output_dtype", Field::Int(code)));
    }
    let operands: Vec<&str> = operands.iter().map(String::as_str).collect();
    Ok(vec![writer.node("QuantizeLinear", &operands, &fields)])
}
