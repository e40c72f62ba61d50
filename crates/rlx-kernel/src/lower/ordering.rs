//! Running combinations and the best elements of each row.

use super::emitter::Emitter;
use crate::error::KernelError;
use crate::ir::*;
use crate::num::Num;
use rlx_ir::Dim;
use rlx_ir::lir::Anchor;
use rlx_ir::ops::{Cumulative, CumulativeKind, TopK};

/// One invocation for each row.
pub(super) fn cumulative(e: &Emitter<'_>, anchor: &Anchor, op: Cumulative) -> Result<Dim, KernelError> {
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
        let sum = e.local(e.b.literal(ty, first));
        let end = e.dim(&extent)?;
        e.upto(end, |e, at| {
            let mut place = at;
            if op.reverse {
                place = e.b.sub(e.b.sub(end, e.b.u32(1)), at);
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

fn combine(e: &Emitter<'_>, kind: CumulativeKind, so_far: Value, x: Value) -> Value {
    let op = match kind {
        CumulativeKind::Sum => BinaryOp::Add,
        CumulativeKind::Prod => BinaryOp::Mul,
        CumulativeKind::Max => BinaryOp::Max,
        CumulativeKind::Min => BinaryOp::Min,
        CumulativeKind::LogSumExp => return log_add_exp(e.b.num(so_far), e.b.num(x)).value,
    };
    e.b.binary(op, so_far, x)
}

/// `log(e^a + e^b)` without overflow.
fn log_add_exp<'b>(x: Num<'b>, y: Num<'b>) -> Num<'b> {
    let (high, low) = (x.max(y), x.min(y));
    let sum = high + (low - high).unary(UnaryOp::Exp).unary(UnaryOp::Log1p);
    // An infinity is the whole sum, and its distance to another is not a number.
    let ty = x.ty();
    let infinity = Literal { ty, bits: crate::interp::scalar::from_f64(ty, f64::INFINITY) };
    high.unary(UnaryOp::Abs).is(infinity).choose(high, sum)
}

/// One invocation for each element counts the elements that come before it; that is its place in the result. Without
/// `sorted`, its place is the number of chosen elements at smaller positions.
pub(super) fn top_k(e: &Emitter<'_>, anchor: &Anchor, op: &TopK) -> Result<Dim, KernelError> {
    let dims = anchor.operands[0].ty().shape.dims().to_vec();
    let position_ty = e.register(op.dtype)?;
    e.each(&dims, |e, id| {
        let mut coordinates = e.coordinates(id, &dims)?;
        let mine = e.operand(&anchor.operands[0], &coordinates)?;
        let own = coordinates[op.axis];
        let own_rank = rank(e, anchor, op, &coordinates, [mine, own])?;
        e.when(e.b.lt(own_rank, e.dim(&op.k)?), |e| {
            let place = if op.sorted { own_rank } else { chosen_before(e, anchor, op, &coordinates)? };
            coordinates[op.axis] = place;
            e.results(&coordinates, &[mine, e.b.cast(position_ty, own)])
        })
    })
}

/// Adds up a condition over the elements of the row below `end`.
fn tally(
    e: &Emitter<'_>,
    end: Value,
    condition: impl FnOnce(&Emitter<'_>, Value) -> Result<Value, KernelError>,
) -> Result<Value, KernelError> {
    let total = e.local(e.b.u32(0));
    e.upto(end, |e, at| {
        let holds = condition(e, at)?;
        e.accumulate(total, BinaryOp::Add, e.b.cast(Scalar::U32, holds));
        Ok(())
    })?;
    Ok(e.b.get(total))
}

/// The number of elements of the row that come before an element.
fn rank(
    e: &Emitter<'_>,
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
fn chosen_before(e: &Emitter<'_>, anchor: &Anchor, op: &TopK, row: &[Value]) -> Result<Value, KernelError> {
    tally(e, row[op.axis], |e, other| {
        let mut place = row.to_vec();
        place[op.axis] = other;
        let theirs = e.operand(&anchor.operands[0], &place)?;
        let rank = rank(e, anchor, op, row, [theirs, other])?;
        Ok(e.b.lt(rank, e.dim(&op.k)?))
    })
}

/// Does the first of two elements come before the second? NaN is above every number; equals go by position.
fn comes_before(e: &Emitter<'_>, largest: bool, values: [Value; 2], positions: [Value; 2]) -> Value {
    let ([x, y], [i, j]) = (values.map(|x| e.b.num(x)), positions.map(|i| e.b.num(i)));
    let (high, low) = if largest { (x, y) } else { (y, x) };
    let (before, same) = beyond(high, low, high.above(low));
    (before | (same & i.below(j))).value
}

/// Where floats are compared by `better`: with NaN beyond every number; and are the two the same?
pub(super) fn beyond<'b>(x: Num<'b>, y: Num<'b>, better: Num<'b>) -> (Num<'b>, Num<'b>) {
    let same = x.is(y);
    if !x.ty().is_float() {
        return (better, same);
    }
    let (x_nan, y_nan) = (x.is_not(x), y.is_not(y));
    (better | (x_nan & !y_nan), same | (x_nan & y_nan))
}
