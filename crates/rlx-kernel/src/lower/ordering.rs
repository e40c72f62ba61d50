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
            let next = combine(e, op.kind, so_far, x);
            e.b.set(sum, next);
            e.results(&coordinates, &[if op.exclusive { so_far } else { next }])
        })
    })
}

fn combine(e: &mut Emitter<'_>, kind: CumulativeKind, so_far: Value, x: Value) -> Value {
    let op = match kind {
        CumulativeKind::Sum => BinaryOp::Add,
        CumulativeKind::Prod => BinaryOp::Mul,
        CumulativeKind::Max => BinaryOp::Max,
        CumulativeKind::Min => BinaryOp::Min,
        CumulativeKind::LogSumExp => return log_add_exp(e, so_far, x),
    };
    e.b.binary(op, so_far, x)
}

/// `log(e^a + e^b)` without overflow.
fn log_add_exp(e: &mut Emitter<'_>, x: Value, y: Value) -> Value {
    let b = &mut e.b;
    let (high, low) = (b.binary(BinaryOp::Max, x, y), b.binary(BinaryOp::Min, x, y));
    let distance = b.sub(low, high);
    let ratio = b.unary(UnaryOp::Exp, distance);
    let rest = b.unary(UnaryOp::Log1p, ratio);
    let sum = b.add(high, rest);
    // An infinity is the whole sum, and its distance to another is not a number.
    let size = b.unary(UnaryOp::Abs, high);
    let infinity = crate::interp::scalar::from_f64(b.type_of(x), f64::INFINITY);
    let infinity = b.literal(b.type_of(x), infinity);
    let infinite = b.binary(BinaryOp::Eq, size, infinity);
    b.select(infinite, high, sum)
}

/// One invocation for each element counts the elements that come before it; that is its place in the result. Without
/// `sorted`, its place is the number of chosen elements at smaller positions.
pub(super) fn top_k(e: &mut Emitter<'_>, anchor: &Anchor, op: &TopK) -> Result<Dim, KernelError> {
    let dims = anchor.operands[0].ty().shape.dims().to_vec();
    let position_ty = e.register(op.dtype)?;
    e.each(&dims, |e, id| {
        let mut coordinates = e.coordinates(id, &dims)?;
        let mine = e.operand(&anchor.operands[0], &coordinates)?;
        let own = coordinates[op.axis];
        let own_rank = rank(e, anchor, op, &coordinates, [mine, own])?;
        let k = e.dim(&op.k)?;
        let chosen = e.b.lt(own_rank, k);
        e.when(chosen, |e| {
            let place = if op.sorted { own_rank } else { chosen_before(e, anchor, op, &coordinates)? };
            coordinates[op.axis] = place;
            let own = e.b.cast(position_ty, own);
            e.results(&coordinates, &[mine, own])
        })
    })
}

/// Adds up a condition over the elements of the row below `end`.
fn tally(
    e: &mut Emitter<'_>,
    end: Value,
    condition: impl FnOnce(&mut Emitter<'_>, Value) -> Result<Value, KernelError>,
) -> Result<Value, KernelError> {
    let zero = e.b.u32(0);
    let total = e.local(zero);
    e.upto(end, |e, at| {
        let holds = condition(e, at)?;
        let one = e.b.cast(Scalar::U32, holds);
        let so_far = e.b.get(total);
        let next = e.b.add(so_far, one);
        e.b.set(total, next);
        Ok(())
    })?;
    Ok(e.b.get(total))
}

/// The number of elements of the row that come before an element.
fn rank(
    e: &mut Emitter<'_>,
    anchor: &Anchor,
    op: &TopK,
    row: &[Value],
    [value, position]: [Value; 2],
) -> Result<Value, KernelError> {
    let extent = anchor.operands[0].ty().shape[op.axis].clone();
    let end = e.dim(&extent)?;
    tally(e, end, |e, other| {
        let mut place = row.to_vec();
        place[op.axis] = other;
        let theirs = e.operand(&anchor.operands[0], &place)?;
        Ok(comes_before(e, op.largest, [theirs, value], [other, position]))
    })
}

/// The number of chosen elements of the row at positions below that of the element at `row`.
fn chosen_before(
    e: &mut Emitter<'_>,
    anchor: &Anchor,
    op: &TopK,
    row: &[Value],
) -> Result<Value, KernelError> {
    tally(e, row[op.axis], |e, other| {
        let mut place = row.to_vec();
        place[op.axis] = other;
        let theirs = e.operand(&anchor.operands[0], &place)?;
        let rank = rank(e, anchor, op, row, [theirs, other])?;
        let k = e.dim(&op.k)?;
        Ok(e.b.lt(rank, k))
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
