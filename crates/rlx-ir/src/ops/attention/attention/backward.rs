//! The derivatives of attention, from its result and log-sum-exp: the weights
//! are computed again, none of them is kept.

use super::decompose::Build;
use super::{Attention, AttentionExtents};
use crate::ops::prelude::*;

/// The rule of [`struct@Attention`]; paged keys go the way of the definition.
pub(super) fn vjp(op: &Attention, g: &mut Graph, given: Backward<'_>) -> Derivatives {
    if op.block_table {
        return Err("paged keys have no derivative of their own");
    }
    let operand = |name| op.operand(given.operands, name);
    let position = |name| op.operand_index(name);
    let (mask, sinks) = (operand("mask"), operand("sinks"));
    let mask_gradient = position("mask").is_some_and(|index| given.wanted[index]);
    let dy = given.cotangent_or_zeros(g, 0);
    let back = AttentionBackward {
        layout: op.layout,
        num_heads: op.num_heads,
        num_kv_heads: op.num_kv_heads,
        scale: op.scale,
        softcap: op.softcap,
        mask_kind: op.mask_kind,
        window: op.window,
        alignment: op.alignment,
        mask_gradient,
        dlse: given.cotangents.get(1).copied().flatten().is_some(),
        mask: mask.is_some(),
        kv_lengths: op.kv_lengths,
        sinks: sinks.is_some(),
    };
    let (&[q, k, v, ..], &[y, lse, ..]) = (given.operands, given.results) else {
        return Err("the log-sum-exp is not there");
    };
    let dlse = given.cotangents.get(1).copied().flatten();
    let optional = [dlse, mask, operand("kv_lengths"), sinks].into_iter().flatten();
    let all: Vec<Value> = [q, k, v, y, lse, dy].into_iter().chain(optional).collect();
    let mut results = g.push_all(back, &all).into_iter();
    let mut derivatives = vec![None; given.operands.len()];
    derivatives.iter_mut().take(3).for_each(|slot| *slot = results.next());
    for (name, is_there) in [("mask", mask_gradient), ("sinks", sinks.is_some())] {
        if let Some(index) = position(name).filter(|_| is_there) {
            derivatives[index] = results.next();
        }
    }
    Ok(derivatives)
}

/// Results of [`struct@AttentionBackward`] for the forward op, with the derivatives of `y` and perhaps `lse`.
pub(in super::super) fn backward(
    op: &Attention,
    g: &mut Graph,
    operands: AttentionOperands,
    [y, lse, dy]: [Value; 3],
    (dlse, mask_gradient): (Option<Value>, bool),
) -> Vec<Value> {
    let AttentionOperands { q, k, v, mask, kv_lengths, sinks, .. } = operands;
    let types = [q, k, v].map(|operand| g.ty(operand).clone());
    let extents = op.extents(&types.each_ref()).expect("inference accepted the operands");
    let AttentionExtents { batch, queries, keys, head, value_head, .. } = extents.clone();
    let mut build = Build { op, dtype: super::lse_dtype(types[0].dtype), extents, g };
    let (heads, kv_heads) = (build.query_heads(), build.kv_heads());
    let one = Dim::from(1);
    let zero = build.constant(0.0);
    let hidden = build.constant(f64::NEG_INFINITY);

    let before_mask = build.scores(q, k);
    let lengths = kv_lengths.map(|lengths| build.lengths(lengths));
    let scores = build.masked(before_mask, mask, lengths);
    let lse = build.shaped(lse, [batch, heads.clone(), queries.clone(), one.clone()]);
    let weight = |build: &mut Build<'_>, scores: Value| {
        let nothing = build.g.compare_eq(scores, hidden);
        let shifted = build.g.sub(scores, lse);
        // Also before the exponential, so that no derivative of this meets -inf - -inf.
        let shifted = build.g.r#where(nothing, zero, shifted);
        let weight = build.g.exp(shifted);
        build.g.r#where(nothing, zero, weight)
    };
    let weights = weight(&mut build, scores);

    let [dy, y] =
        [dy, y].map(|value| build.canonical(value, heads.clone(), queries.clone(), value_head.clone()));
    let product = build.g.mul(dy, y);
    let mut along = build.g.reduce(product, ReduceKind::Sum, vec![3], true);
    if let Some(dlse) = dlse {
        let dlse = build.g.reshape(dlse, build.g.ty(along).shape.clone());
        along = build.g.sub(along, dlse);
    }
    let v = build.canonical(v, kv_heads.clone(), keys.clone(), value_head.clone());
    let dy = build.grouped(dy, value_head.clone());
    let grouped = build.grouped(weights, keys.clone());
    let dv = build.g.matmul(grouped, dy, true, false);
    let dweights = build.g.matmul(dy, v, false, true);
    let dweights = build.ungrouped(dweights, keys.clone());
    let rest = build.g.sub(dweights, along);
    let dscores = build.g.mul(weights, rest);

    let mut slope = dscores;
    if let Some(cap) = op.softcap {
        let (cap, full) = (build.constant(cap.0), build.constant(1.0));
        let ratio = build.g.div(before_mask, cap);
        let square = build.g.mul(ratio, ratio);
        let flat = build.g.sub(full, square);
        slope = build.g.mul(dscores, flat);
    }
    let (q, k) = build.factors(q, k);
    let slope = build.grouped(slope, keys.clone());
    let dq = build.g.matmul(slope, k, false, false);
    let scale = build.constant(op.scale_for(&head));
    let dq = build.g.mul(dq, scale);
    let dq = build.ungrouped(dq, head.clone());
    let dk = build.g.matmul(slope, q, true, false);

    let parts = [
        (dq, heads.clone(), queries, head.clone()),
        (dk, kv_heads.clone(), keys.clone(), head),
        (dv, kv_heads, keys, value_head),
    ];
    let mut results = vec![];
    for ((part, heads, sequence, last), ty) in parts.into_iter().zip(&types) {
        let part = build.restore(part, heads, sequence, last);
        results.push(build.g.cast_to(part, ty.dtype));
    }
    if let Some(mask) = mask.filter(|_| mask_gradient) {
        let ty = build.g.ty(mask).clone();
        let dmask = build.g.sum_to(dscores, &ty.shape);
        results.push(build.g.cast_to(dmask, ty.dtype));
    }
    if let Some(sinks) = sinks {
        let dtype = build.g.ty(sinks).dtype;
        let sinks = build.g.cast_to(sinks, build.dtype);
        let sinks = build.shaped(sinks, [one.clone(), heads, one.clone(), one]);
        let weights = weight(&mut build, sinks);
        let change = build.g.mul(weights, along);
        let change = build.g.neg(change);
        let sum = build.g.reduce(change, ReduceKind::Sum, vec![0, 2, 3], false);
        results.push(build.g.cast_to(sum, dtype));
    }
    results
}
