//! Elementwise ops that ONNX has by name. All others, and those on other dtypes, are written by their scalar programs.

use super::table::Rule;
use super::writer::{Field, Use, Writer, Written};
use rlx_ir::ops::ActivationKind;
use rlx_ir::{DType, Literal, Op, OpKind};

pub(super) const RULES: &[(OpKind, Rule)] =
    &[(OpKind::Activation, activation), (OpKind::Clamp, clamp), (OpKind::Trilu, trilu)];

/// Functions with a name. The others are the primitives, which have entries of their own, or are composed.
fn activation(writer: &mut Writer<'_>, place: &Use<'_>) -> Written {
    use ActivationKind as K;
    let Op::Activation(op) = place.op else { return Err(String::new()) };
    let dtype = place.dtype();
    // Attributes are f32, and older ops take no bf16.
    let is_precise = matches!(dtype, DType::F32 | DType::F16);
    let name = match op.kind {
        K::Recip => "Reciprocal",
        K::Relu if dtype.is_float() || dtype.is_signed_int() => "Relu",
        K::Sigmoid => "Sigmoid",
        K::Softplus if dtype != DType::BF16 => "Softplus",
        K::Softsign if dtype != DType::BF16 => "Softsign",
        K::Gelu | K::GeluApprox => "Gelu",
        K::Elu if is_precise => "Elu",
        K::LeakyRelu if is_precise => "LeakyRelu",
        K::HardSwish if is_precise => "HardSwish",
        K::HardSigmoid if is_precise => "HardSigmoid",
        K::Mish if is_precise => "Mish",
        kind => return Err(format!("ONNX has no {kind} of {dtype}")),
    };
    if dtype.block_bits() < 16 && dtype.is_float() {
        return Err(format!("ONNX has no {name} of {dtype}"));
    }
    let mut fields = vec![];
    if let Some(parameter) = op.parameter {
        fields.push(("alpha", Field::Float(parameter.0)));
    }
    match op.kind {
        K::GeluApprox => fields.push(("approximate", Field::Text("tanh"))),
        K::HardSigmoid => {
            fields.push(("alpha", Field::Float(1.0 / 6.0)));
            fields.push(("beta", Field::Float(0.5)));
        }
        _ => {}
    }
    Ok(vec![writer.node(name, &[place.operand(0)], &fields)])
}

/// `Clip` takes bounds of rank 0.
fn clamp(writer: &mut Writer<'_>, place: &Use<'_>) -> Written {
    let dtype = place.dtype();
    let bounds = &place.operands[1..];
    if bounds.iter().any(|bound| bound.ty.rank() > 0) || (dtype.is_float() && dtype.block_bits() < 16) {
        return Err("Clip takes two numbers".into());
    }
    let given = place.op.optional_given();
    let mut names = bounds.iter().map(|bound| bound.name.as_str());
    let mut bound = |name: &str| if given.contains(&name) { names.next().unwrap_or("") } else { "" };
    let (low, high) = (bound("low"), bound("high"));
    Ok(vec![writer.node("Clip", &[place.operand(0), low, high], &[])])
}

fn trilu(writer: &mut Writer<'_>, place: &Use<'_>) -> Written {
    let Op::Trilu(op) = place.op else { return Err(String::new()) };
    let rank = place.operands[0].ty.rank();
    if (op.row_axis + 2, op.column_axis + 1) != (rank, rank) || place.dtype().block_bits() < 16 {
        return Err("Trilu takes the last two axes".into());
    }
    let diagonal = writer.constant(&Literal::scalar_i64(op.diagonal))?;
    let upper = [("upper", Field::Int(op.upper.into()))];
    Ok(vec![writer.node("Trilu", &[place.operand(0), &diagonal], &upper)])
}
