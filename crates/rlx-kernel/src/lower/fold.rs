//! Reductions: a fold over some axes, with regions before and after it.
//!
//! Few elements, or elements that lie apart, are folded by one invocation for each result; many by one workgroup, in
//! strides, and then over workgroup memory by halving. Sums of the half formats accumulate in `f32`.

use super::emitter::{Emitter, WORKGROUP};
use super::ordering::beyond;
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
    fn start(&self, b: &Builder) -> Vec<Value>;
    /// The state of one element alone.
    fn element(&self, b: &Builder, x: Value, position: Value) -> Vec<Value>;
    /// The state of two sets of elements together.
    fn join(&self, b: &Builder, left: &[Value], right: &[Value]) -> Vec<Value>;
    /// The result, given the number of elements.
    fn finish(&self, b: &Builder, state: &[Value], count: Value) -> Value;
}

struct Reduction {
    kind: ReduceKind,
    ty: Scalar,
}

impl Fold for Reduction {
    fn start(&self, b: &Builder) -> Vec<Value> {
        vec![b.literal(self.ty, identity(self.kind, self.ty))]
    }

    fn element(&self, _: &Builder, x: Value, _: Value) -> Vec<Value> {
        vec![x]
    }

    fn join(&self, b: &Builder, left: &[Value], right: &[Value]) -> Vec<Value> {
        vec![b.binary(joining(self.kind), left[0], right[0])]
    }

    fn finish(&self, b: &Builder, state: &[Value], count: Value) -> Value {
        if self.kind != ReduceKind::Mean {
            return state[0];
        }
        b.div(state[0], b.cast(self.ty, count))
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

pub(super) fn reduce(e: &Emitter<'_>, anchor: &Anchor, op: &Reduce) -> Result<Dim, KernelError> {
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
    fn start(&self, b: &Builder) -> Vec<Value> {
        vec![b.literal(self.ty, 0), b.u32(NOWHERE)]
    }

    fn element(&self, _: &Builder, x: Value, position: Value) -> Vec<Value> {
        vec![x, position]
    }

    fn join(&self, b: &Builder, left: &[Value], right: &[Value]) -> Vec<Value> {
        let num = |value| b.num(value);
        let (left, right) = ([0, 1].map(|part| num(left[part])), [0, 1].map(|part| num(right[part])));
        let better = match self.op.kind {
            ArgReduceKind::Max => right[0].above(left[0]),
            ArgReduceKind::Min => right[0].below(left[0]),
        };
        // NaN is beyond every number.
        let (better, same) = beyond(right[0], left[0], better);
        let order = if self.op.select_last { BinaryOp::Gt } else { BinaryOp::Lt };
        let wins = better | (same & right[1].binary(order, left[1])) | left[1].is(NOWHERE);
        let wins = wins & right[1].is_not(NOWHERE);
        [0, 1].map(|part| wins.choose(right[part], left[part]).value).to_vec()
    }

    fn finish(&self, b: &Builder, state: &[Value], _: Value) -> Value {
        b.cast(self.result, state[1])
    }
}

pub(super) fn arg_reduce(e: &Emitter<'_>, anchor: &Anchor, op: &ArgReduce) -> Result<Dim, KernelError> {
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
    fn result(&self, b: &Builder, kept: &[Value]) -> Vec<Value> {
        if !self.keep_dims {
            return kept.to_vec();
        }
        let mut kept = kept.iter();
        let zero = b.u32(0);
        self.folded.iter().map(|&is| if is { zero } else { kept.next().copied().unwrap_or(zero) }).collect()
    }
}

fn lower(
    e: &Emitter<'_>,
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
        let end = e.dim(&count)?;
        let range = [e.b.u32(0), end, e.b.u32(1)];
        accumulate(e, (&anchor.operands[0], &axes, fold), &kept, &state, range)?;
        finish(e, &axes, &kept, &state, end, fold)
    })
}

fn start(e: &Emitter<'_>, fold: &dyn Fold) -> Vec<VariableId> {
    fold.start(&e.b).into_iter().map(|value| e.local(value)).collect()
}

fn state(e: &Emitter<'_>, variables: &[VariableId]) -> Vec<Value> {
    variables.iter().map(|&variable| e.b.get(variable)).collect()
}

/// What is folded, over which axes, and how.
type Folded<'a> = (&'a Operand, &'a Axes, &'a dyn Fold);

fn accumulate(
    e: &Emitter<'_>,
    (operand, axes, fold): Folded<'_>,
    kept: &[Value],
    variables: &[VariableId],
    range: [Value; 3],
) -> Result<(), KernelError> {
    e.count(range, |e, position| {
        let inner = e.coordinates(position, &axes.extents(true))?;
        let x = e.operand(operand, &axes.operand(kept, &inner))?;
        let next = fold.join(&e.b, &state(e, variables), &fold.element(&e.b, x, position));
        variables.iter().zip(next).for_each(|(&variable, value)| e.b.set(variable, value));
        Ok(())
    })
}

fn finish(
    e: &Emitter<'_>,
    axes: &Axes,
    kept: &[Value],
    variables: &[VariableId],
    count: Value,
    fold: &dyn Fold,
) -> Result<(), KernelError> {
    let result = fold.finish(&e.b, &state(e, variables), count);
    e.results(&axes.result(&e.b, kept), &[result])
}

/// One workgroup for each result.
fn together(
    e: &Emitter<'_>,
    operand: &Operand,
    axes: &Axes,
    count: &Dim,
    fold: &dyn Fold,
) -> Result<Dim, KernelError> {
    let kept_dims = axes.extents(false);
    let groups = product(&kept_dims);
    let group = e.b.linear_group();
    e.when(e.b.lt(group, e.dim(&groups)?), |e| {
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
            let other = e.b.add(local, limit);
            e.b.when(e.b.lt(local, limit), |b| {
                let mine: Vec<Value> = tiles.iter().map(|&tile| b.load(tile, local)).collect();
                let theirs: Vec<Value> = tiles.iter().map(|&tile| b.load(tile, other)).collect();
                let joined = fold.join(b, &mine, &theirs);
                tiles.iter().zip(joined).for_each(|(&tile, value)| b.store(tile, local, value));
            });
            width /= 2;
        }
        let zero = e.b.u32(0);
        e.when(e.b.binary(BinaryOp::Eq, local, zero), |e| {
            // Lane 0 wrote the last join itself.
            for (&variable, &tile) in variables.iter().zip(&tiles) {
                e.b.set(variable, e.b.load(tile, zero));
            }
            finish(e, axes, &kept, &variables, end, fold)
        })
    })?;
    Ok(groups)
}
