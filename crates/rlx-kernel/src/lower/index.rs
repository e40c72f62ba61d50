//! Reading and writing where integers say.

use super::emitter::Emitter;
use super::product;
use crate::error::KernelError;
use crate::ir::*;
use rlx_ir::Dim;
use rlx_ir::lir::{Anchor, Operand, View};
use rlx_ir::ops::{Gather, GatherNd, ScatterKind, ScatterNd};

fn view<'a>(e: &Emitter<'_>, operand: &'a Operand) -> Result<&'a View, KernelError> {
    match operand {
        Operand::View(view) => Ok(view),
        _ => Err(e.refuse("an operand that is not in memory".into())),
    }
}

/// `dims` with 1 in place of 0, so that an index is looked at where it leads to no element.
fn padded(dims: &[Dim]) -> Vec<Dim> {
    dims.iter().map(|dim| dim.maximum(&Dim::from(1))).collect()
}

/// `inside`, where extents of `dims` that the kernel pads are not 0.
fn and_filled(e: &Emitter<'_>, inside: Value, dims: &[Dim]) -> Result<Value, KernelError> {
    if padded(dims) == dims {
        return Ok(inside);
    }
    let filled = e.b.lt(e.b.u32(0), e.dim(&product(dims))?);
    Ok(e.b.and(inside, filled))
}

pub(super) fn gather(e: &Emitter<'_>, anchor: &Anchor, op: &Gather) -> Result<Dim, KernelError> {
    let (table, indices) = (view(e, &anchor.operands[0])?, view(e, &anchor.operands[1])?);
    let (axis, rank) = (op.axis, indices.layout.shape.rank());
    let (result, looked_up) = (anchor.results[0].shape.dims(), indices.layout.shape.dims());
    let slice = [&result[..axis], &result[axis + rank..]].concat();
    let dims = [&padded(&result[..axis]), looked_up, &padded(&result[axis + rank..])].concat();
    e.each(&dims, |e, id| {
        let coordinates = e.coordinates(id, &dims)?;
        let index = e.load(indices, &coordinates[axis..axis + rank])?;
        let (row, inside) = e.check_index(index, e.dim(&table.layout.shape[axis])?);
        e.when(and_filled(e, inside, &slice)?, |e| {
            let place = [&coordinates[..axis], &[row], &coordinates[axis + rank..]].concat();
            e.results(&coordinates, &[e.load(table, &place)?])
        })?;
        e.fault_unless(inside, id)
    })
}

pub(super) fn gather_nd(e: &Emitter<'_>, anchor: &Anchor, op: &GatherNd) -> Result<Dim, KernelError> {
    let (table, indices) = (view(e, &anchor.operands[0])?, view(e, &anchor.operands[1])?);
    let lead = indices.layout.shape.rank() - 1;
    let (vectors, slice) = anchor.results[0].shape.dims().split_at(lead);
    let dims = [vectors, &padded(slice)].concat();
    let depth = depth(e, indices)?;
    e.each(&dims, |e, id| {
        let coordinates = e.coordinates(id, &dims)?;
        let (vector, inside) = read_vector(e, indices, &coordinates[..lead], table, op.batch_dims, depth)?;
        e.when(and_filled(e, inside, slice)?, |e| {
            let place = [&coordinates[..op.batch_dims], &vector, &coordinates[lead..]].concat();
            e.results(&coordinates, &[e.load(table, &place)?])
        })?;
        e.fault_unless(inside, id)
    })
}

/// The static length of coordinate vectors.
fn depth(e: &Emitter<'_>, indices: &View) -> Result<usize, KernelError> {
    let last = indices.layout.shape.dims().last().and_then(Dim::as_static);
    let depth = last.and_then(|depth| usize::try_from(depth).ok());
    depth.ok_or_else(|| e.refuse("coordinate vectors of unknown length".into()))
}

/// The coordinate vector at `outer`, which names `depth` axes of `table` from axis `first` on, and whether it lies
/// inside.
fn read_vector(
    e: &Emitter<'_>,
    indices: &View,
    outer: &[Value],
    table: &View,
    first: usize,
    depth: usize,
) -> Result<(Vec<Value>, Value), KernelError> {
    let (mut vector, mut inside) = (Vec::with_capacity(depth), e.b.bool(true));
    for axis in 0..depth {
        let at = e.b.u32(axis as u32);
        let index = e.load(indices, &[outer, &[at]].concat())?;
        let (row, below) = e.check_index(index, e.dim(&table.layout.shape[first + axis])?);
        inside = e.b.and(inside, below);
        vector.push(row);
    }
    Ok((vector, inside))
}

/// One invocation for each element of a slice goes through all updates in order: repeats combine in index order, and
/// no two invocations write one element.
pub(super) fn scatter_nd(e: &Emitter<'_>, anchor: &Anchor, op: &ScatterNd) -> Result<Dim, KernelError> {
    let base = &e.step.outputs[0];
    let (indices, updates) = (view(e, &anchor.operands[1])?, view(e, &anchor.operands[2])?);
    let lead = &indices.layout.shape.dims()[..indices.layout.shape.rank() - 1];
    let depth = depth(e, indices)?;
    let slice = base.layout.shape.dims()[depth..].to_vec();
    let ty = e.register(base.dtype)?;
    let elements = padded(&slice);
    e.each(&elements, |e, id| {
        let inner = e.coordinates(id, &elements)?;
        let vectors = e.dim(&product(lead))?;
        e.upto(vectors, |e, vector| {
            let outer = e.coordinates(vector, lead)?;
            let (mut place, inside) = read_vector(e, indices, &outer, base, 0, depth)?;
            place.extend(&inner);
            e.when(and_filled(e, inside, &slice)?, |e| {
                let update = e.load(updates, &[outer.as_slice(), &inner].concat())?;
                let value = match op.kind {
                    ScatterKind::None => update,
                    kind => e.b.binary(combine(kind), e.load(base, &place)?, update),
                };
                e.store(base, &place, e.b.cast(ty, value))
            })?;
            e.fault_unless(inside, vector)
        })
    })
}

fn combine(kind: ScatterKind) -> BinaryOp {
    match kind {
        ScatterKind::None | ScatterKind::Add => BinaryOp::Add,
        ScatterKind::Mul => BinaryOp::Mul,
        ScatterKind::Min => BinaryOp::Min,
        ScatterKind::Max => BinaryOp::Max,
    }
}
