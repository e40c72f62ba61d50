//! The table: which function writes which op. It is also what the pipeline asks before it decomposes.

use super::writer::{Term, Use, Writer, Written};
use super::{control, conv, elementwise, index, linear, movement, norm, quantised, reduce, scalar, sequence};
use crate::model::NEWEST_OPSET;
use rlx_ir::{DType, OpKind, TensorType};
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

/// Ops whose ONNX forms move no floats of 8 bits; an f32 holds all of their values.
const MOVED_WIDE: &[OpKind] = &[
    OpKind::Narrow,
    OpKind::Slice,
    OpKind::Reverse,
    OpKind::Expand,
    OpKind::Concat,
    OpKind::Tile,
    OpKind::Gather,
    OpKind::GatherElements,
    OpKind::GatherNd,
    OpKind::ScatterElements,
    OpKind::ScatterNd,
    OpKind::DynamicSlice,
];

fn is_small_float(ty: &TensorType) -> bool {
    ty.dtype.is_float() && ty.dtype.block_bits() == 8
}

/// Writes `place` with its small floats as f32.
fn write_wide(writer: &mut Writer<'_>, place: &Use<'_>) -> Written {
    let wide = |ty: &TensorType| match is_small_float(ty) {
        true => TensorType::new(DType::F32, ty.shape.clone()),
        false => ty.clone(),
    };
    let mut operands = vec![];
    for term in &place.operands {
        let ty = wide(&term.ty);
        operands.push(Term { name: writer.cast(&term.name, term.ty.dtype, ty.dtype)?, ty });
    }
    let results: Vec<TensorType> = place.results.iter().map(wide).collect();
    let names = write(writer, &Use { op: place.op, operands, results: &results })?;
    let narrowed = names.iter().zip(place.results.iter().zip(&results));
    narrowed.map(|(name, (to, from))| writer.cast(name, from.dtype, to.dtype)).collect()
}

/// Writes `place` by its entry; elementwise ops that have none for this case by their scalar programs.
pub(super) fn write(writer: &mut Writer<'_>, place: &Use<'_>) -> Written {
    if MOVED_WIDE.contains(&place.op.kind()) && place.operands.iter().any(|term| is_small_float(&term.ty)) {
        return write_wide(writer, place);
    }
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
    let term =
        |(index, ty): (usize, &&TensorType)| Term { name: format!("operand{index}"), ty: (*ty).clone() };
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

/// Is an op with these operand types written as it stands, or by its scalar program?
pub(super) fn is_whole(op: &rlx_ir::Op, operands: &[&TensorType], opset: i64) -> bool {
    let symbols = std::collections::BTreeMap::new();
    let results = op.infer(operands).unwrap_or_default();
    claim_at(opset)(&OpView { op, operands, results: &results, symbols: &symbols }).is_native()
}
