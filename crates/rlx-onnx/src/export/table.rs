//! The table: which function writes which op. It is also what the pipeline asks before it decomposes.

use super::writer::{Term, Use, Writer, Written};
use super::{control, conv, elementwise, index, linear, movement, norm, quantised, reduce, scalar, sequence};
use crate::model::NEWEST_OPSET;
use rlx_ir::OpKind;
use rlx_opt::{Claim, OpView};

/// Writes one use of an op, or says why it cannot.
pub(super) type Rule = fn(&mut Writer<'_>, &Use<'_>) -> Written;

const FAMILIES: &[&[(OpKind, Rule)]] = &[
    elementwise::RULES,
    movement::RULES,
    index::RULES,
    reduce::RULES,
    linear::RULES,
    norm::RULES,
    conv::RULES,
    sequence::RULES,
    quantised::RULES,
    control::RULES,
];

fn find(kind: OpKind) -> Option<Rule> {
    let mut entries = FAMILIES.iter().flat_map(|family| family.iter());
    entries.find(|(of, _)| *of == kind).map(|&(_, rule)| rule)
}

/// Writes `place` by its entry; elementwise ops that have none for this case by their scalar programs.
pub(super) fn write(writer: &mut Writer<'_>, place: &Use<'_>) -> Written {
    let (found, mark) = (find(place.op.kind()), writer.mark());
    let refusal = match found.map(|rule| rule(writer, place)) {
        Some(Ok(names)) => return Ok(names),
        Some(Err(reason)) => reason,
        None => format!("there is no entry for {} in the exporter's table", place.op.kind()),
    };
    writer.forget(mark);
    let dtypes: Vec<_> = place.operands.iter().map(|term| term.ty.dtype).collect();
    match place.op.scalar_program(&dtypes) {
        Some(program) => scalar::write(writer, place, &program),
        None => Err(refusal),
    }
}

/// Writes on trial.
fn claim<const OPSET: i64>(view: &OpView<'_>) -> Claim {
    let mut writer = Writer::trial(OPSET, view.symbols);
    let term = |(index, ty): (usize, &&rlx_ir::TensorType)| Term {
        name: format!("operand{index}"),
        ty: (*ty).clone(),
    };
    let operands = view.operands.iter().enumerate().map(term).collect();
    match write(&mut writer, &Use { op: view.op, operands, results: view.results }) {
        Ok(_) => Claim::Native,
        Err(reason) => Claim::No(reason),
    }
}

/// The claims of an opset.
pub(super) fn claim_at(opset: i64) -> fn(&OpView<'_>) -> Claim {
    match opset {
        ..=21 => claim::<21>,
        22 => claim::<22>,
        23 => claim::<23>,
        24 => claim::<24>,
        25 => claim::<25>,
        26 => claim::<26>,
        27 => claim::<27>,
        _ => claim::<NEWEST_OPSET>,
    }
}
