//! Gather and cache updates by rows of bytes.

use super::view::BoundView;
use super::work::{Call, Work};
use rlx_ir::number::decode;
use rlx_ir::{Number, Op};

/// The index at row-major position `position` of a dense integer view.
fn index_at(view: &BoundView, bytes: &[u8], position: usize) -> i128 {
    let width = view.dtype.size_of().unwrap_or(1);
    match decode(view.dtype, &bytes[position * width..]) {
        Number::Int(index) => index,
        _ => -1,
    }
}

/// Bytes from one batch row (axis 0), outer row (the axes before `axis`) and row (`axis`) of `view` to the
/// next; `None` unless each row is dense and the outer rows are evenly apart.
fn row_strides(view: &BoundView, axis: usize) -> Option<[usize; 3]> {
    let width = view.dtype.size_of()?;
    let rank = view.dims.len();
    // The stride with which axes `from .. to` count as one, row-major.
    let merged = |from: usize, to: usize| {
        let axes: Vec<usize> = (from..to).filter(|&axis| view.dims[axis] != 1).collect();
        let step =
            |pair: &[usize]| view.strides[pair[0]] == view.strides[pair[1]] * view.dims[pair[1]] as isize;
        let last = axes.last().map_or(0, |&axis| view.strides[axis]);
        axes.windows(2).all(step).then_some(last).and_then(|stride| usize::try_from(stride).ok())
    };
    let inner: usize = view.dims[axis + 1..].iter().product();
    if inner > 1 && merged(axis + 1, rank)? != 1 {
        return None;
    }
    let row = if view.dims[axis] == 1 { inner } else { merged(axis, axis + 1)? };
    Some([merged(0, 1)? * width, merged(1, axis)? * width, row * width])
}

/// Data movement decided by indices.
pub enum IndexStep {
    /// `[outer, extent, inner bytes]` of the table, dense.
    Gather {
        /// Rows before the axis.
        outer: usize,
        /// Extent of the axis.
        extent: usize,
        /// Bytes of one slice.
        inner: usize,
        /// The indices, dense.
        indices: BoundView,
    },
    /// Rows of `update` into a state at a position per batch row.
    Append {
        /// Bytes per batch row of the state.
        batch_stride: usize,
        /// Bytes from one outer row (head) of the state to the next.
        outer_stride: usize,
        /// Outer rows per batch row.
        outer: usize,
        /// Capacity along the sequence.
        capacity: usize,
        /// Rows appended.
        rows: usize,
        /// Bytes of one row.
        inner: usize,
        /// Bytes from one batch row, outer row and row of the update to the next.
        source: [usize; 3],
        /// The positions, dense.
        positions: BoundView,
    },
}

impl IndexStep {
    /// The kernel for `op`, if its operands lie as it needs them.
    pub fn new(op: &Op, operands: &[&BoundView]) -> Option<IndexStep> {
        let dense = |index: usize| operands[index].is_dense();
        let bytes = |dims: &[usize]| Some(dims.iter().product::<usize>() * operands[0].dtype.size_of()?);
        let dims = &operands[0].dims;
        match op {
            Op::Gather(op) if dense(0) && dense(1) => Some(IndexStep::Gather {
                outer: dims[..op.axis].iter().product(),
                extent: dims[op.axis],
                inner: bytes(&dims[op.axis + 1..])?,
                indices: operands[1].clone(),
            }),
            Op::KvAppend(op) if dense(0) && dense(2) => Some(IndexStep::Append {
                batch_stride: bytes(&dims[1..])?,
                outer_stride: bytes(&dims[op.axis..])?,
                outer: dims[1..op.axis].iter().product(),
                capacity: dims[op.axis],
                rows: operands[1].dims[op.axis],
                inner: bytes(&dims[op.axis + 1..])?,
                source: row_strides(operands[1], op.axis)?,
                positions: operands[2].clone(),
            }),
            _ => None,
        }
    }
}

impl Work for IndexStep {
    fn name(&self) -> &'static str {
        "index"
    }

    fn run(&self, call: Call<'_, '_>) -> Result<(), String> {
        let (reads, write) = (call.reads, &mut *call.writes[0]);
        match self {
            IndexStep::Gather { outer, extent, inner, indices } => {
                let count = indices.len();
                for position in 0..count {
                    let index = index_at(indices, reads[1], position);
                    let row = usize::try_from(index).ok().filter(|row| row < extent);
                    let row = row.ok_or_else(|| {
                        format!("index {index} at position {position} is outside 0..{extent}")
                    })?;
                    for outer in 0..*outer {
                        let from = (outer * extent + row) * inner;
                        let to = (outer * count + position) * inner;
                        write[to..to + inner].copy_from_slice(&reads[0][from..from + inner]);
                    }
                }
                Ok(())
            }
            IndexStep::Append {
                batch_stride,
                outer_stride,
                outer,
                capacity,
                rows,
                inner,
                source: [from_batch, from_outer, from_row],
                positions,
            } => {
                // Rows that follow each other go at once.
                let (count, part) = if from_row == inner { (1, rows * inner) } else { (*rows, *inner) };
                for batch in 0..positions.len() {
                    let start = index_at(positions, reads[2], batch);
                    let fits = usize::try_from(start).ok().filter(|start| start + rows <= *capacity);
                    let start = fits.ok_or_else(|| {
                        format!("position {start} of batch row {batch}: {rows} rows do not fit a capacity of {capacity}")
                    })?;
                    for row in 0..*outer * count {
                        let (outer, row) = (row / count, row % count);
                        let from = batch * from_batch + outer * from_outer + row * from_row;
                        let to = batch * batch_stride + outer * outer_stride + (start + row) * inner;
                        write[to..to + part].copy_from_slice(&reads[1][from..from + part]);
                    }
                }
                Ok(())
            }
        }
    }
}
