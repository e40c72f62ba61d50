//! Reductions: a fold over some axes, with regions before and after it.
//!
//! Few elements, or elements that lie apart, are folded by one invocation for each result; many by one workgroup, in
//! strides, and then over workgroup memory by halving. Sums of the half formats accumulate in `f32`.

use super::emitter::{Emitter, WORKGROUP};
use super::product;
use crate::builder::Builder;
use crate::error::KernelError;
use crate::ir::*;
use rlx_ir::Dim;
use rlx_ir::lir::{Anchor, Operand};
use rlx_ir::ops::{ArgReduce, ArgReduceKind, Reduce, ReduceKind};

/// The least number of elements for which a workgroup folds together.
const TOGETHER: i64 = 64;

/// What a fold keeps and does.
trait Fold {
    /// The state before the first element.
    fn start(&self, b: &mut Builder) -> Vec<Value>;
    /// The state of one element alone.
    fn element(&self, b: &mut Builder, x: Value, position: Value) -> Vec<Value>;
    /// The state of two sets of elements together.
    fn join(&self, b: &mut Builder, left: &[Value], right: &[Value]) -> Vec<Value>;
    /// The result, given the number of elements.
    fn finish(&self, b: &mut Builder, state: &[Value], count: Value) -> Value;
}

struct Reduction {
    kind: ReduceKind,
    ty: Scalar,
}

impl Fold for Reduction {
    fn start(&self, b: &mut Builder) -> Vec<Value> {
        vec![b.literal(self.ty, identity(self.kind, self.ty))]
    }

    fn element(&self, _: &mut Builder, x: Value, _: Value) -> Vec<Value> {
        vec![x]
    }

    fn join(&self, b: &mut Builder, left: &[Value], right: &[Value]) -> Vec<Value> {
        vec![b.binary(joining(self.kind), left[0], right[0])]
    }

    fn finish(&self, b: &mut Builder, state: &[Value], count: Value) -> Value {
        if self.kind != ReduceKind::Mean {
            return state[0];
        }
        let count = b.cast(self.ty, count);
        b.div(state[0], count)
    }
}

/// What a reduction does with two elements.
pub(super) fn joining(kind: ReduceKind) -> BinaryOp {
    match kind {
        ReduceKind::Sum | ReduceKind::Mean => BinaryOp::Add,
        ReduceKind::Prod => BinaryOp::Mul,
        ReduceKind::Max => BinaryOp::Max,
        ReduceKind::Min => BinaryOp::Min,
        ReduceKind::Any => BinaryOp::Or,
        ReduceKind::All => BinaryOp::And,
    }
}

/// The bits that change nothing in a reduction.
pub(super) fn identity(kind: ReduceKind, ty: Scalar) -> u64 {
    let all = u64::MAX >> (64 - 8 * ty.bytes());
    let float = |value: f64| crate::interp::scalar::from_f64(ty, value);
    match (kind, ty.class()) {
        (ReduceKind::Sum | ReduceKind::Mean | ReduceKind::Any, _) => 0,
        (ReduceKind::Prod, Class::Float) => float(1.0),
        (ReduceKind::Prod | ReduceKind::All, _) => 1,
        (ReduceKind::Max, Class::Float) => float(f64::NEG_INFINITY),
        (ReduceKind::Min, Class::Float) => float(f64::INFINITY),
        (ReduceKind::Max, Class::Signed) => (all >> 1) + 1,
        (ReduceKind::Min, Class::Signed) => all >> 1,
        (ReduceKind::Max, _) => 0,
        (ReduceKind::Min, _) => all,
    }
}

pub(super) fn reduce(e: &mut Emitter<'_>, anchor: &Anchor, op: &Reduce) -> Result<Dim, KernelError> {
    let ty = e.register(anchor.results[0].dtype)?;
    lower(e, anchor, &op.axes, op.keep_dims, &Reduction { kind: op.kind, ty })
}

struct ArgExtreme<'a> {
    op: &'a ArgReduce,
    ty: Scalar,
    result: Scalar,
}

/// The position of a state that holds no element.
const NOWHERE: u32 = u32::MAX;

impl Fold for ArgExtreme<'_> {
    fn start(&self, b: &mut Builder) -> Vec<Value> {
        vec![b.literal(self.ty, 0), b.u32(NOWHERE)]
    }

    fn element(&self, _: &mut Builder, x: Value, position: Value) -> Vec<Value> {
        vec![x, position]
    }

    fn join(&self, b: &mut Builder, left: &[Value], right: &[Value]) -> Vec<Value> {
        let better = match self.op.kind {
            ArgReduceKind::Max => BinaryOp::Gt,
            ArgReduceKind::Min => BinaryOp::Lt,
        };
        let mut wins = b.binary(better, right[0], left[0]);
        let mut ties = b.binary(BinaryOp::Eq, right[0], left[0]);
        if self.ty.is_float() {
            // NaN is beyond every number.
            let left_nan = b.binary(BinaryOp::Ne, left[0], left[0]);
            let right_nan = b.binary(BinaryOp::Ne, right[0], right[0]);
            let left_number = b.unary(UnaryOp::Not, left_nan);
            let beyond = b.and(right_nan, left_number);
            wins = b.binary(BinaryOp::Or, wins, beyond);
            let both = b.and(left_nan, right_nan);
            ties = b.binary(BinaryOp::Or, ties, both);
        }
        let order = if self.op.select_last { BinaryOp::Gt } else { BinaryOp::Lt };
        let placed = b.binary(order, right[1], left[1]);
        let ties = b.and(ties, placed);
        let wins = b.binary(BinaryOp::Or, wins, ties);
        let nowhere = b.u32(NOWHERE);
        let left_empty = b.binary(BinaryOp::Eq, left[1], nowhere);
        let right_full = b.binary(BinaryOp::Ne, right[1], nowhere);
        let wins = b.binary(BinaryOp::Or, wins, left_empty);
        let wins = b.and(wins, right_full);
        vec![b.select(wins, right[0], left[0]), b.select(wins, right[1], left[1])]
    }

    fn finish(&self, b: &mut Builder, state: &[Value], _: Value) -> Value {
        b.cast(self.result, state[1])
    }
}

pub(super) fn arg_reduce(e: &mut Emitter<'_>, anchor: &Anchor, op: &ArgReduce) -> Result<Dim, KernelError> {
    let ty = e.register(anchor.operands[0].ty().dtype)?;
    let result = e.register(anchor.results[0].dtype)?;
    lower(e, anchor, &[op.axis], op.keep_dims, &ArgExtreme { op, ty, result })
}

/// The shapes of a fold.
struct Axes {
    /// Extents of the operand.
    dims: Vec<Dim>,
    folded: Vec<bool>,
    keep_dims: bool,
}

impl Axes {
    fn extents(&self, folded: bool) -> Vec<Dim> {
        let axes = self.dims.iter().zip(&self.folded);
        axes.filter(|&(_, &is)| is == folded).map(|(dim, _)| dim.clone()).collect()
    }

    /// Coordinates of the operand from those of the two kinds of axes.
    fn operand(&self, kept: &[Value], folded: &[Value]) -> Vec<Value> {
        let (mut kept, mut folded) = (kept.iter(), folded.iter());
        let next = self.folded.iter().map(|&is| if is { folded.next() } else { kept.next() });
        next.flatten().copied().collect()
    }

    /// Coordinates of the result.
    fn result(&self, b: &mut Builder, kept: &[Value]) -> Vec<Value> {
        if !self.keep_dims {
            return kept.to_vec();
        }
        let mut kept = kept.iter();
        let zero = b.u32(0);
        self.folded.iter().map(|&is| if is { zero } else { kept.next().copied().unwrap_or(zero) }).collect()
    }
}

fn lower(
    e: &mut Emitter<'_>,
    anchor: &Anchor,
    axes: &[usize],
    keep_dims: bool,
    fold: &dyn Fold,
) -> Result<Dim, KernelError> {
    let dims = anchor.operands[0].ty().shape.dims().to_vec();
    let folded: Vec<bool> = (0..dims.len()).map(|axis| axes.contains(&axis)).collect();
    let axes = Axes { dims, folded, keep_dims };
    let count = product(&axes.extents(true));
    let innermost = axes.folded.last().copied().unwrap_or(false);
    let many = count.as_static().is_none_or(|count| count >= TOGETHER);
    if many && innermost {
        return together(e, &anchor.operands[0], &axes, &count, fold);
    }
    let kept = axes.extents(false);
    e.each(&kept, |e, id| {
        let kept = e.coordinates(id, &kept)?;
        let state = start(e, fold);
        let (zero, one) = (e.b.u32(0), e.b.u32(1));
        let end = e.dim(&count)?;
        accumulate(e, (&anchor.operands[0], &axes, fold), &kept, &state, [zero, end, one])?;
        finish(e, &axes, &kept, &state, end, fold)
    })
}

fn start(e: &mut Emitter<'_>, fold: &dyn Fold) -> Vec<VariableId> {
    let first = fold.start(&mut e.b);
    first.into_iter().map(|value| e.local(value)).collect()
}

fn state(e: &mut Emitter<'_>, variables: &[VariableId]) -> Vec<Value> {
    variables.iter().map(|&variable| e.b.get(variable)).collect()
}

/// What is folded, over which axes, and how.
type Folded<'a> = (&'a Operand, &'a Axes, &'a dyn Fold);

fn accumulate(
    e: &mut Emitter<'_>,
    (operand, axes, fold): Folded<'_>,
    kept: &[Value],
    variables: &[VariableId],
    range: [Value; 3],
) -> Result<(), KernelError> {
    e.count(range, |e, position| {
        let inner = e.coordinates(position, &axes.extents(true))?;
        let x = e.operand(operand, &axes.operand(kept, &inner))?;
        let so_far = state(e, variables);
        let next = fold.element(&mut e.b, x, position);
        let next = fold.join(&mut e.b, &so_far, &next);
        variables.iter().zip(next).for_each(|(&variable, value)| e.b.set(variable, value));
        Ok(())
    })
}

fn finish(
    e: &mut Emitter<'_>,
    axes: &Axes,
    kept: &[Value],
    variables: &[VariableId],
    count: Value,
    fold: &dyn Fold,
) -> Result<(), KernelError> {
    let total = state(e, variables);
    let result = fold.finish(&mut e.b, &total, count);
    let coordinates = axes.result(&mut e.b, kept);
    e.results(&coordinates, &[result])
}

/// One workgroup for each result.
fn together(
    e: &mut Emitter<'_>,
    operand: &Operand,
    axes: &Axes,
    count: &Dim,
    fold: &dyn Fold,
) -> Result<Dim, KernelError> {
    let kept_dims = axes.extents(false);
    let groups = product(&kept_dims);
    let (group, end) = (e.b.linear_group(), e.dim(&groups)?);
    let inside = e.b.lt(group, end);
    e.when(inside, |e| {
        let kept = e.coordinates(group, &kept_dims)?;
        let variables = start(e, fold);
        let (local, step, end) = (e.b.builtin(Builtin::LocalId(0)), e.b.u32(WORKGROUP), e.dim(count)?);
        accumulate(e, (operand, axes, fold), &kept, &variables, [local, end, step])?;
        let mut tiles = Vec::new();
        for value in state(e, &variables) {
            let (name, ty) = (format!("tile{}", tiles.len()), e.b.type_of(value));
            let tile = e.b.array(name, ty, WORKGROUP);
            e.b.store(tile, local, value);
            tiles.push(tile);
        }
        let mut width = WORKGROUP / 2;
        while width > 0 {
            e.b.barrier(Fence::Arrays);
            let limit = e.b.u32(width);
            let active = e.b.lt(local, limit);
            let other = e.b.add(local, limit);
            e.b.when(active, |b| {
                let mine: Vec<Value> = tiles.iter().map(|&tile| b.load(tile, local)).collect();
                let theirs: Vec<Value> = tiles.iter().map(|&tile| b.load(tile, other)).collect();
                let joined = fold.join(b, &mine, &theirs);
                tiles.iter().zip(joined).for_each(|(&tile, value)| b.store(tile, local, value));
            });
            width /= 2;
        }
        let zero = e.b.u32(0);
        let first = e.b.binary(BinaryOp::Eq, local, zero);
        e.when(first, |e| {
            // Lane 0 wrote the last join itself.
            for (&variable, &tile) in variables.iter().zip(&tiles) {
                let value = e.b.load(tile, zero);
                e.b.set(variable, value);
            }
            finish(e, axes, &kept, &variables, end, fold)
        })
    })?;
    Ok(groups)
}
