//! Attention spelled out: `softmax(scale q k^T + mask) v` over `[B, H, S, D]`.

use super::patterns::{is_binary, other_operand};
use super::{Match, Search};
use rlx_ir::attr::Real;
use rlx_ir::ops::{Alignment, Attention, AttentionLayout, BinaryKind, MaskKind};
use rlx_ir::{Literal, NodeId, Number, Op, Value};

/// Matches at the product with the values.
pub(super) fn attention(search: &Search<'_>, id: NodeId) -> Vec<Match> {
    find(search, id).into_iter().collect()
}

fn find(search: &Search<'_>, id: NodeId) -> Option<Match> {
    let Op::MatMul(product) = search.op(id) else { return None };
    let &[weights, v] = search.operands(id) else { return None };
    let Op::Softmax(softmax) = search.op(weights.node) else { return None };
    let plain = !product.transpose_a && !product.transpose_b;
    if !plain || softmax.axis != 3 || search.ty(v).rank() != 4 || search.ty(weights).rank() != 4 {
        return None;
    }
    let mut nodes = vec![id, weights.node];
    let mut scores = inside(search, weights.node, id, search.operands(weights.node)[0])?;
    let mut mask = None;
    if is_binary(search.op(scores.node), BinaryKind::Add) {
        let &[a, b] = search.operands(scores.node) else { return None };
        let (inner, added) = if is_harmless(search, b) { (a, b) } else { (b, a) };
        if !is_harmless(search, added) {
            return None;
        }
        nodes.push(scores.node);
        mask = Some(added);
        scores = inside(search, scores.node, weights.node, inner)?;
    }
    let mut scale = 1.0;
    if let Some((inner, factor)) = scaled(search, scores) {
        nodes.push(scores.node);
        scale = factor;
        let user = scores.node;
        scores = inner;
        only_used_by(search, scores, user)?;
    }
    let Op::MatMul(product) = search.op(scores.node) else { return None };
    let &[q, k] = search.operands(scores.node) else { return None };
    if product.transpose_a || !product.transpose_b || search.ty(q).rank() != 4 || search.ty(k).rank() != 4 {
        return None;
    }
    nodes.push(scores.node);
    nodes.sort_unstable();
    let heads = usize::try_from(search.ty(q).shape[1].as_static()?).ok()?;
    let op = Attention {
        layout: AttentionLayout::Bhsd,
        num_heads: heads,
        num_kv_heads: heads,
        scale: Some(Real(scale)),
        softcap: None,
        mask_kind: if mask.is_some() { MaskKind::Bias } else { MaskKind::None },
        window: 0,
        alignment: Alignment::End,
        with_lse: false,
        mask: mask.is_some(),
        kv_lengths: false,
        block_table: false,
        sinks: false,
    };
    let operands = [q, k, v].into_iter().chain(mask).collect();
    Some(Match { op: op.into(), operands, results: vec![Some(id)], nodes, place: id })
}

/// `value`, an operand of `node`, when `node` feeds `user` alone and `value` feeds `node` alone.
fn inside(search: &Search<'_>, node: NodeId, user: NodeId, value: Value) -> Option<Value> {
    only_used_by(search, Value::first(node), user)?;
    only_used_by(search, value, node)?;
    Some(value)
}

fn only_used_by(search: &Search<'_>, value: Value, user: NodeId) -> Option<()> {
    (search.uses.only_user(value.node) == Some(user)).then_some(())
}

/// The scaled value and the factor, of a product with or a quotient by a constant.
fn scaled(search: &Search<'_>, value: Value) -> Option<(Value, f64)> {
    let constant = |value: Value| match search.op(value.node) {
        Op::Constant(constant) if constant.value.len() == 1 => constant.value.number(0).as_f64(),
        _ => None,
    };
    let &[a, b] = search.operands(value.node) else { return None };
    if is_binary(search.op(value.node), BinaryKind::Mul) {
        let inner = if constant(b).is_some() { a } else { b };
        return Some((inner, constant(other_operand(search, value.node, inner)?)?));
    }
    is_binary(search.op(value.node), BinaryKind::Div).then_some(())?;
    Some((a, 1.0 / constant(b)?))
}

/// A constant mask in which every row sees a key.
fn is_harmless(search: &Search<'_>, value: Value) -> bool {
    let Op::Constant(constant) = search.op(value.node) else { return false };
    let literal: &Literal = &constant.value;
    let row = literal.dims().last().copied().unwrap_or(1);
    let seen = |index: usize| matches!(literal.number(index), Number::Float(value) if value.is_finite());
    row > 0 && (0..literal.len() / row).all(|start| (start * row..(start + 1) * row).any(seen))
}
