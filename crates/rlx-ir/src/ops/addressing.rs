//! What the movement and indexing ops share: extents that symbols may leave
//! open, and copies of whole elements.
//!
//! An inequality between extents is refused at build time only where it fails
//! for every binding of the symbols (which are never negative); what symbols
//! leave open is decided when they are bound, by inferring the op again.

use crate::ops::prelude::*;

/// Is `dim` negative for every binding?
fn always_negative(dim: &Dim) -> bool {
    dim.bounds(&|_| (Some(0), None)).1.is_some_and(|high| high < 0)
}

/// `dim` is not negative, as far as symbols decide it.
pub fn check_not_negative(label: &'static str, what: &str, dim: &Dim) -> Result<(), Violation> {
    require!(label, !always_negative(dim) && !dim.is_too_large(), "{what} {dim} is negative or too large");
    Ok(())
}

/// `dim <= bound`, as far as symbols decide it.
pub fn check_at_most(label: &'static str, what: &str, dim: &Dim, bound: &Dim) -> Result<(), Violation> {
    let room = bound.clone() - dim.clone();
    require!(label, !always_negative(&room) && !room.is_too_large(), "{what} {dim} is beyond {bound}");
    Ok(())
}

/// Every operand has elements that can be addressed one by one.
pub fn check_addressable(label: &'static str, operands: &[&TensorType]) -> Result<(), Violation> {
    let packed = operands.iter().find(|ty| ty.dtype.is_storage_only());
    require!(
        label,
        packed.is_none(),
        "{} packs several elements into a byte or block; dequantize it first",
        packed.map_or(DType::Bool, |ty| ty.dtype)
    );
    Ok(())
}

/// A literal of extents `dims` whose elements are those of `source` at the
/// row-major positions that `position` gives.
///
/// # Errors
/// A result too large for this machine.
pub fn select_elements(
    source: &Literal,
    dims: &[usize],
    mut position: impl FnMut(&[usize]) -> usize,
) -> Evaluated {
    let width = source.dtype().size_of().unwrap_or(1);
    element_count(dims)
        .and_then(|count| count.checked_mul(width))
        .ok_or_else(|| Fault(format!("{}{dims:?} does not fit the address space", source.dtype())))?;
    let mut bytes = vec![];
    for_each_index(dims, |index| {
        let start = position(index) * width;
        bytes.extend_from_slice(&source.bytes()[start..start + width]);
    });
    finish(source.dtype(), dims, &bytes)
}

/// `base` with every element of `update` written at the row-major position
/// that `position` gives for its coordinate, in row-major order.
///
/// # Errors
/// None for operands of one addressable dtype.
pub fn overwrite_elements(
    base: &Literal,
    update: &Literal,
    mut position: impl FnMut(&[usize]) -> usize,
) -> Evaluated {
    let width = base.dtype().size_of().unwrap_or(1);
    let mut bytes = base.bytes().to_vec();
    let mut from = 0;
    for_each_index(update.dims(), |index| {
        let to = position(index) * width;
        bytes[to..to + width].copy_from_slice(&update.bytes()[from..from + width]);
        from += width;
    });
    finish(base.dtype(), base.dims(), &bytes)
}

fn finish(dtype: DType, dims: &[usize], bytes: &[u8]) -> Evaluated {
    Ok(vec![Literal::from_bytes(dtype, dims, bytes)?])
}

/// Row-major position of `index` in `dims`, which has as many axes.
pub fn row_major(dims: &[usize], index: &[usize]) -> usize {
    broadcast_position(dims, index)
}

/// `starts` is a vector of `count` indices.
pub fn check_starts(
    label: &'static str,
    starts: &TensorType,
    count: impl Into<Dim>,
) -> Result<(), Violation> {
    check_index_dtype(label, "start positions", starts)?;
    let expected = Shape::new([count.into()]);
    require!(
        label,
        starts.shape == expected,
        "start positions have shape {}, expected {expected}",
        starts.shape
    );
    Ok(())
}

/// `indices` in a dtype in which a sum past the largest index is negative, so
/// that it is never taken for a small one.
pub fn wide_index(g: &mut Graph, indices: Value) -> Value {
    if g.try_ty(indices).is_some_and(|ty| ty.dtype == DType::U32) {
        return g.cast(indices, DType::I64);
    }
    indices
}

/// Coordinate vectors of the window of extents `lens` that begins at `starts`
/// (one entry per axis): shape `lens ++ [lens.len()]`.
pub fn window_vectors(g: &mut Graph, starts: Value, lens: &[Dim]) -> Value {
    let starts = wide_index(g, starts);
    let dtype = g.try_ty(starts).map_or(DType::I64, |ty| ty.dtype);
    let shape = Shape::from([lens, &[Dim::from(1)]].concat());
    let columns: Vec<Value> = (0..lens.len())
        .map(|axis| {
            let offset = g.iota(dtype, shape.clone(), axis);
            let start = g.narrow(starts, 0usize, axis, 1);
            g.add(offset, start)
        })
        .collect();
    g.concat(&columns, lens.len())
}

/// `indices` hold one index along `axis` per element, as `gather_elements` and `scatter_elements` take
/// them. The labels are those of the axis, the index dtype and the extents.
pub fn check_element_indices(
    labels: [&'static str; 3],
    axis: usize,
    table: &TensorType,
    indices: &TensorType,
) -> Result<(), Violation> {
    check_axis(labels[0], axis, table)?;
    require!(
        labels[0],
        indices.rank() == table.rank(),
        "indices have rank {}, expected {}",
        indices.rank(),
        table.rank()
    );
    check_index_dtype(labels[1], "indices", indices)?;
    for other in (0..table.rank()).filter(|&other| other != axis) {
        let what = format!("extent of the indices along axis {other},");
        check_at_most(labels[2], &what, &indices.shape[other], &table.shape[other])?;
    }
    Ok(())
}

/// Coordinate vectors, one per element of `indices`: its own coordinate, with
/// the one along `axis` replaced by the index.
pub fn element_vectors(g: &mut Graph, indices: Value, axis: usize) -> Value {
    let Some(ty) = g.try_ty(indices).cloned() else { return Value::POISON };
    let rank = ty.rank();
    let mut dims = ty.shape.into_dims();
    dims.push(Dim::from(1));
    let columns: Vec<Value> = (0..rank)
        .map(|column| {
            if column == axis {
                g.reshape(indices, dims.clone())
            } else {
                g.iota(ty.dtype, dims.clone(), column)
            }
        })
        .collect();
    g.concat(&columns, rank)
}
