//! Running combinations and the best elements of each row.

use super::emitter::Emitter;
use crate::error::KernelError;
use crate::ir::*;
use rlx_ir::Dim;
use rlx_ir::lir::Anchor;
use rlx_ir::ops::{Cumulative, CumulativeKind, TopK};

/// One invocation for each row.
pub(super) fn cumulative(e: &mut Emitter<'_>, anchor: &Anchor, op: Cumulative) -> Result<Dim, KernelError> {
    let dims = anchor.results[0].shape.dims().to_vec();
    let ty = e.register(anchor.results[0].dtype)?;
    let mut rows = dims.clone();
    let extent = rows.remove(op.axis);
    let combine = match op.kind {
        CumulativeKind::Sum => BinaryOp::Add,
        CumulativeKind::Prod => BinaryOp::Mul,
        CumulativeKind::Max => BinaryOp::Max,
        CumulativeKind::Min => BinaryOp::Min,
        kind => return Err(e.refuse(format!("a running {kind:?}"))),
    };
    let first = match op.start(anchor.results[0].dtype) {
        rlx_ir::Number::Float(value) => crate::interp::scalar::from_f64(ty, value),
        rlx_ir::Number::Int(value) => crate::interp::scalar::from_integer(ty, value),
        rlx_ir::Number::Complex(..) => return Err(e.refuse("a complex running combination".into())),
    };
    e.each(&rows, |e, id| {
        let outer = e.coordinates(id, &rows)?;
        let first = e.b.literal(ty, first);
        let sum = e.local(first);
        let end = e.dim(&extent)?;
        e.upto(end, |e, at| {
            let mut place = at;
            if op.reverse {
                let one = e.b.u32(1);
                let last = e.b.sub(end, one);
                place = e.b.sub(last, at);
            }
            let mut coordinates = outer.clone();
            coordinates.insert(op.axis, place);
            let x = e.operand(&anchor.operands[0], &coordinates)?;
            let so_far = e.b.get(sum);
            let next = e.b.binary(combine, so_far, x);
            e.b.set(sum, next);
            e.results(&coordinates, &[if op.exclusive { so_far } else { next }])
        })
    })
}

/// One invocation for each element counts the elements that come before it; that is its place in the result.
pub(super) fn top_k(e: &mut Emitter<'_>, anchor: &Anchor, op: &TopK) -> Result<Dim, KernelError> {
    if !op.sorted {
        return Err(e.refuse("unsorted top_k".into()));
    }
    let dims = anchor.operands[0].ty().shape.dims().to_vec();
    let extent = dims[op.axis].clone();
    let position_ty = e.register(op.dtype)?;
    e.each(&dims, |e, id| {
        let mut coordinates = e.coordinates(id, &dims)?;
        let mine = e.operand(&anchor.operands[0], &coordinates)?;
        let own = coordinates[op.axis];
        let zero = e.b.u32(0);
        let rank = e.local(zero);
        let end = e.dim(&extent)?;
        e.upto(end, |e, other| {
            let mut place = coordinates.clone();
            place[op.axis] = other;
            let theirs = e.operand(&anchor.operands[0], &place)?;
            let before = comes_before(e, op.largest, [theirs, mine], [other, own]);
            let one = e.b.cast(Scalar::U32, before);
            let so_far = e.b.get(rank);
            let next = e.b.add(so_far, one);
            e.b.set(rank, next);
            Ok(())
        })?;
        let (rank, k) = (e.b.get(rank), e.dim(&op.k)?);
        let chosen = e.b.lt(rank, k);
        e.when(chosen, |e| {
            coordinates[op.axis] = rank;
            let own = e.b.cast(position_ty, own);
            e.results(&coordinates, &[mine, own])
        })
    })
}

/// Does the first of two elements come before the second? NaN is above every number; equals go by position.
fn comes_before(e: &mut Emitter<'_>, largest: bool, [x, y]: [Value; 2], [i, j]: [Value; 2]) -> Value {
    let b = &mut e.b;
    let (high, low) = if largest { (x, y) } else { (y, x) };
    let mut before = b.binary(BinaryOp::Gt, high, low);
    let mut same = b.binary(BinaryOp::Eq, x, y);
    if b.type_of(x).is_float() {
        let (high_nan, low_nan) = (b.binary(BinaryOp::Ne, high, high), b.binary(BinaryOp::Ne, low, low));
        let low_number = b.unary(UnaryOp::Not, low_nan);
        let above = b.and(high_nan, low_number);
        before = b.binary(BinaryOp::Or, before, above);
        let both = b.and(high_nan, low_nan);
        same = b.binary(BinaryOp::Or, same, both);
    }
    let earlier = b.lt(i, j);
    let tie = b.and(same, earlier);
    b.binary(BinaryOp::Or, before, tie)
}
