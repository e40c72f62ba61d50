//! The patterns of `fuse_named` but attention. Each looks at one node, where
//! the pattern starts or ends, and lists its matches, the longest first.

use super::{Match, Search, attention};
use rlx_ir::ops::{
    BinaryKind, FusedMatMulBiasAct, FusedResidualLN, FusedResidualRmsNorm, FusedSwiGLU, Narrow,
};
use rlx_ir::{Dim, NodeId, Op, Shape, Value};

pub(super) type Pattern = fn(&Search<'_>, NodeId) -> Vec<Match>;

/// Every pattern.
pub(super) const PATTERNS: &[Pattern] = &[matmul_bias_act, residual_norm, swiglu, attention::attention];

pub(super) fn is_binary(op: &Op, kind: BinaryKind) -> bool {
    matches!(op, Op::Binary(op) if op.kind == kind)
}

/// The operand of the binary node `id` that is not `value`.
pub(super) fn other_operand(search: &Search<'_>, id: NodeId, value: Value) -> Option<Value> {
    match search.operands(id) {
        [a, b] if *a == value && *b != value => Some(*b),
        [a, b] if *b == value && *a != value => Some(*a),
        _ => None,
    }
}

/// Product, then a bias along the last axis, then an activation; either may be missing.
fn matmul_bias_act(search: &Search<'_>, id: NodeId) -> Vec<Match> {
    let Op::MatMul(product) = search.op(id) else { return vec![] };
    let columns = match search.graph.node(id).types[0].shape.dims().last() {
        Some(columns) if !product.transpose_a => columns.clone(),
        _ => return vec![],
    };
    let mut last = id;
    let mut nodes = vec![id];
    let mut operands = search.operands(id).to_vec();
    let mut fused =
        FusedMatMulBiasAct { kind: None, parameter: None, transpose_w: product.transpose_b, bias: false };
    let mut matches = vec![];
    let bias =
        search.uses.only_user(last).filter(|&user| is_binary(search.op(user), BinaryKind::Add)).and_then(
            |user| {
                let bias = other_operand(search, user, Value::first(last))?;
                (search.ty(bias).shape == Shape::from(vec![columns.clone()])).then_some((user, bias))
            },
        );
    if let Some((user, bias)) = bias {
        fused.bias = true;
        operands.push(bias);
        nodes.push(user);
        last = user;
        matches.push((fused.clone(), nodes.clone()));
    }
    if let Some(user) = search.uses.only_user(last)
        && let Op::Activation(activation) = search.op(user)
    {
        fused.kind = Some(activation.kind);
        fused.parameter = activation.parameter;
        nodes.push(user);
        matches.push((fused, nodes));
    }
    let finish = |(op, nodes): (FusedMatMulBiasAct, Vec<NodeId>)| {
        let last = *nodes.last()?;
        let op = op.into();
        Some(Match {
            op,
            operands: operands.clone(),
            orders: vec![],
            unseen_rows: None,
            results: vec![Some(last)],
            nodes,
            place: last,
        })
    };
    matches.into_iter().rev().filter_map(finish).collect()
}

/// A norm of a sum of two tensors of one type; the sum may have other users, all later than the norm.
fn residual_norm(search: &Search<'_>, id: NodeId) -> Vec<Match> {
    let (sum, axes) = match (search.op(id), search.operands(id).first()) {
        (Op::LayerNorm(norm), Some(&sum)) => (sum, norm.axes.clone()),
        (Op::RmsNorm(norm), Some(&sum)) => (sum, norm.axes.clone()),
        _ => return vec![],
    };
    let [a, b] = match search.operands(sum.node) {
        &[a, b] if is_binary(search.op(sum.node), BinaryKind::Add) => [a, b],
        _ => return vec![],
    };
    if search.ty(a) != search.ty(b) || search.uses.users(sum.node).first() != Some(&id) {
        return vec![];
    }
    let op: Op = match search.op(id) {
        Op::LayerNorm(norm) => {
            let (gamma, beta) = (norm.gamma, norm.beta);
            FusedResidualLN { axes, eps: norm.eps, bias: false, gamma, beta }.into()
        }
        Op::RmsNorm(norm) => {
            let (gamma, beta, unit_offset) = (norm.gamma, norm.beta, norm.unit_offset);
            FusedResidualRmsNorm { axes, eps: norm.eps, unit_offset, bias: false, gamma, beta }.into()
        }
        _ => return vec![],
    };
    let operands = [a, b].into_iter().chain(search.operands(id)[1..].iter().copied()).collect();
    let (results, nodes) = (vec![Some(id), Some(sum.node)], vec![sum.node, id]);
    vec![Match { op, operands, orders: vec![], unseen_rows: None, results, nodes, place: id }]
}

/// `kind(half of x) other half of x`.
fn swiglu(search: &Search<'_>, id: NodeId) -> Vec<Match> {
    if !is_binary(search.op(id), BinaryKind::Mul) {
        return vec![];
    }
    let half = |value: Value| match search.op(value.node) {
        Op::Narrow(Narrow { axis, start, len }) if search.uses.only_user(value.node).is_some() => {
            Some((search.operands(value.node)[0], *axis, start.clone(), len.clone()))
        }
        _ => None,
    };
    let &[a, b] = search.operands(id) else { return vec![] };
    let mut matches = vec![];
    for (gate, up) in [(a, b), (b, a)] {
        let Op::Activation(activation) = search.op(gate.node) else { continue };
        let gate_half = search.operands(gate.node)[0];
        let (Some(first), Some(second)) = (half(gate_half), half(up)) else { continue };
        let (x, axis, len) = (first.0, first.1, first.3.clone());
        let whole = &search.ty(x).shape;
        let halves = second.0 == x
            && second.1 == axis
            && second.3 == len
            && axis + 1 == whole.rank()
            && whole[axis] == len.clone() * Dim::from(2);
        let gate_first = first.2.is(0) && second.2 == len;
        let up_first = second.2.is(0) && first.2 == len;
        let alone = search.uses.only_user(gate.node) == Some(id) && activation.parameter.is_none();
        if halves && (gate_first || up_first) && alone {
            let op = FusedSwiGLU { gate_first, kind: activation.kind, cast: None }.into();
            let nodes = vec![gate_half.node, up.node, gate.node, id];
            let (operands, results) = (vec![x], vec![Some(id)]);
            matches.push(Match {
                op,
                operands,
                orders: vec![],
                unseen_rows: None,
                results,
                nodes,
                place: id,
            });
        }
    }
    matches
}
