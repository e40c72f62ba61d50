//! Convolutions, pooling and resizing.

use super::table::Rule;
use super::writer::{Field, Use, Writer, Written};
use rlx_ir::ops::{CoordinateMode, NearestRounding, PoolKind, ResizeMode};
use rlx_ir::{DType, Op, OpKind};

pub(super) const RULES: &[(OpKind, Rule)] = &[
    (OpKind::Conv, conv),
    (OpKind::ConvTranspose2d, conv_transpose),
    (OpKind::Pool, pool),
    (OpKind::Resize, resize),
];

fn ints(values: &[usize]) -> Field<'static> {
    Field::Ints(values.iter().map(|&value| value as i64).collect())
}

/// bf16 came to these ops with opset 22: before that they compute it in f32.
fn computed(writer: &Writer<'_>, dtype: DType) -> Result<DType, String> {
    match dtype {
        DType::F32 | DType::F64 | DType::F16 => Ok(dtype),
        DType::BF16 if writer.opset >= 22 => Ok(dtype),
        DType::BF16 => Ok(DType::F32),
        dtype => Err(format!("ONNX takes no {dtype} here")),
    }
}

/// All operands in the dtype that the op takes, a node, and its result as it was.
fn node(writer: &mut Writer<'_>, place: &Use<'_>, name: &str, fields: &[(&str, Field<'_>)]) -> Written {
    let (dtype, to) = (place.dtype(), computed(writer, place.dtype())?);
    let mut operands = vec![];
    for term in &place.operands {
        operands.push(writer.cast(&term.name, dtype, to)?);
    }
    let operands: Vec<&str> = operands.iter().map(String::as_str).collect();
    let y = writer.node(name, &operands, fields);
    Ok(vec![writer.cast(&y, to, dtype)?])
}

fn conv(writer: &mut Writer<'_>, place: &Use<'_>) -> Written {
    let Op::Conv(op) = place.op else { return Err(String::new()) };
    let fields = [
        ("strides", ints(&op.stride)),
        ("pads", ints(&[op.padding_low.as_slice(), &op.padding_high].concat())),
        ("dilations", ints(&op.dilation)),
        ("group", Field::Int(op.groups as i64)),
    ];
    node(writer, place, "Conv", &fields)
}

fn conv_transpose(writer: &mut Writer<'_>, place: &Use<'_>) -> Written {
    let Op::ConvTranspose2d(op) = place.op else { return Err(String::new()) };
    let fields = [
        ("strides", ints(&op.stride)),
        ("pads", ints(&[op.padding_low.as_slice(), &op.padding_high].concat())),
        ("dilations", ints(&op.dilation)),
        ("output_padding", ints(&op.output_padding)),
        ("group", Field::Int(op.groups as i64)),
    ];
    node(writer, place, "ConvTranspose", &fields)
}

/// ONNX has pools of maxima and means over axes behind batch and channel. Windows without an element, and means over
/// windows that hang over, are not the same everywhere: they are left to the definitions.
fn pool(writer: &mut Writer<'_>, place: &Use<'_>) -> Written {
    let Op::Pool(op) = place.op else { return Err(String::new()) };
    let spans = op.window.iter().zip(&op.dilation).map(|(window, dilation)| dilation * (window - 1) + 1);
    let is_covered = spans
        .zip(op.padding_low.iter().zip(&op.padding_high))
        .all(|(span, (low, high))| *low < span && *high < span);
    if place.operands[0].ty.rank() != op.window.len() + 2
        || op.ceil_mode
        || !is_covered
        || op.dilation.iter().any(|&dilation| dilation > 1)
    {
        return Err("ONNX does not pool these windows the same everywhere".into());
    }
    let mut fields = vec![
        ("kernel_shape", ints(&op.window)),
        ("strides", ints(&op.stride)),
        ("pads", ints(&[op.padding_low.as_slice(), &op.padding_high].concat())),
    ];
    let name = match op.kind {
        PoolKind::Max => "MaxPool",
        PoolKind::Mean => {
            fields.push(("count_include_pad", Field::Int(op.count_include_pad.into())));
            "AveragePool"
        }
        kind => return Err(format!("ONNX has no pool of {kind}")),
    };
    node(writer, place, name, &fields)
}

fn resize(writer: &mut Writer<'_>, place: &Use<'_>) -> Written {
    let Op::Resize(op) = place.op else { return Err(String::new()) };
    let dtype = place.dtype();
    if op.axes.is_empty() {
        return Ok(vec![writer.node("Identity", &[place.operand(0)], &[])]);
    }
    if !op.scales.is_empty()
        || dtype == DType::F64
        || dtype.block_bits() < 8
        || (dtype.is_float() && dtype.block_bits() < 16)
    {
        return Err("ONNX's scales are f32".into());
    }
    let mut fields = vec![("axes", ints(&op.axes))];
    let mode = match op.mode {
        ResizeMode::Nearest => "nearest",
        ResizeMode::Linear => "linear",
        ResizeMode::Cubic => "cubic",
    };
    fields.push(("mode", Field::Text(mode)));
    let coordinates = match op.coordinates {
        CoordinateMode::HalfPixel => "half_pixel",
        CoordinateMode::HalfPixelSymmetric => "half_pixel_symmetric",
        CoordinateMode::PytorchHalfPixel => "pytorch_half_pixel",
        CoordinateMode::AlignCorners => "align_corners",
        CoordinateMode::Asymmetric => "asymmetric",
    };
    fields.push(("coordinate_transformation_mode", Field::Text(coordinates)));
    if let Some(rounding) = op.rounding {
        let rounding = match rounding {
            NearestRounding::RoundPreferFloor => "round_prefer_floor",
            NearestRounding::RoundPreferCeil => "round_prefer_ceil",
            NearestRounding::Floor => "floor",
            NearestRounding::Ceil => "ceil",
        };
        fields.push(("nearest_mode", Field::Text(rounding)));
    }
    if let Some(coefficient) = op.cubic_coefficient {
        fields.push(("cubic_coeff_a", Field::Float(coefficient.0)));
    }
    if op.exclude_outside {
        fields.push(("exclude_outside", Field::Int(1)));
    }
    let sizes = writer.dims(&op.sizes)?;
    Ok(vec![writer.node("Resize", &[place.operand(0), "", "", &sizes], &fields)])
}
