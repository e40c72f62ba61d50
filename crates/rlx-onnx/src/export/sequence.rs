//! Recurrent layers, whose meaning here is that of ONNX.

use super::table::Rule;
use super::writer::{Field, Use, Writer, Written};
use rlx_ir::attr::Real;
use rlx_ir::ops::{ActivationKind, RecurrentDirection};
use rlx_ir::{DType, Op, OpKind};

pub(super) const RULES: &[(OpKind, Rule)] = &[(OpKind::Rnn, rnn), (OpKind::Gru, gru), (OpKind::Lstm, lstm)];

/// What the layers share.
struct Layer<'a> {
    name: &'a str,
    gates: i64,
    direction: RecurrentDirection,
    activations: &'a [ActivationKind],
    clip: Option<Real>,
}

fn activation(kind: ActivationKind) -> Result<&'static str, String> {
    Ok(match kind {
        ActivationKind::Tanh => "Tanh",
        ActivationKind::Sigmoid => "Sigmoid",
        ActivationKind::Relu => "Relu",
        ActivationKind::Softsign => "Softsign",
        ActivationKind::Softplus => "Softplus",
        kind => return Err(format!("recurrent layers of ONNX have no {kind}")),
    })
}

fn write(
    writer: &mut Writer<'_>,
    place: &Use<'_>,
    layer: &Layer<'_>,
    mut fields: Vec<(&str, Field<'_>)>,
) -> Written {
    if !matches!(place.dtype(), DType::F32 | DType::F64 | DType::F16) {
        return Err(format!("{} takes no {}", layer.name, place.dtype()));
    }
    // A bound is an f32.
    if layer.clip.is_some_and(|clip| place.dtype() == DType::F64 && f64::from(clip.0 as f32) != clip.0) {
        return Err("the bound is no f32".into());
    }
    let (direction, count) = match layer.direction {
        RecurrentDirection::Forward => ("forward", 1),
        RecurrentDirection::Reverse => ("reverse", 1),
        RecurrentDirection::Bidirectional => ("bidirectional", 2),
    };
    let one = layer.activations.iter().map(|&kind| activation(kind)).collect::<Result<Vec<_>, _>>()?;
    let rows = place.operands[1].ty.shape.dims().get(1).and_then(|rows| rows.as_static());
    let rows = rows.ok_or("the hidden size is a symbol")?;
    fields.push(("direction", Field::Text(direction)));
    fields.push(("activations", Field::Texts(one.repeat(count))));
    fields.push(("hidden_size", Field::Int(rows / layer.gates)));
    if let Some(clip) = layer.clip {
        fields.push(("clip", Field::Float(clip.0)));
    }
    let given = place.op.optional_given();
    let mut operands: Vec<String> = place.operands[..3].iter().map(|term| term.name.clone()).collect();
    for &name in place.op.def().optional {
        operands.push(match given.iter().position(|other| *other == name) {
            None => String::new(),
            Some(at) if name == "lengths" => {
                let lengths = &place.operands[3 + at];
                writer.cast(&lengths.name, lengths.ty.dtype, DType::I32)?
            }
            Some(at) => place.operands[3 + at].name.clone(),
        });
    }
    let operands: Vec<&str> = operands.iter().map(String::as_str).collect();
    Ok(writer.nodes(layer.name, &operands, &fields, place.results.len()))
}

fn rnn(writer: &mut Writer<'_>, place: &Use<'_>) -> Written {
    let Op::Rnn(op) = place.op else { return Err(String::new()) };
    let activations = [op.activation];
    let layer =
        Layer { name: "RNN", gates: 1, direction: op.direction, activations: &activations, clip: op.clip };
    write(writer, place, &layer, vec![])
}

fn gru(writer: &mut Writer<'_>, place: &Use<'_>) -> Written {
    let Op::Gru(op) = place.op else { return Err(String::new()) };
    let activations = [op.gate, op.candidate];
    let layer =
        Layer { name: "GRU", gates: 3, direction: op.direction, activations: &activations, clip: op.clip };
    let fields = vec![("linear_before_reset", Field::Int(op.linear_before_reset.into()))];
    write(writer, place, &layer, fields)
}

fn lstm(writer: &mut Writer<'_>, place: &Use<'_>) -> Written {
    let Op::Lstm(op) = place.op else { return Err(String::new()) };
    let activations = [op.gate, op.candidate, op.output];
    let layer =
        Layer { name: "LSTM", gates: 4, direction: op.direction, activations: &activations, clip: op.clip };
    let fields = vec![("input_forget", Field::Int(op.input_forget.into()))];
    write(writer, place, &layer, fields)
}
