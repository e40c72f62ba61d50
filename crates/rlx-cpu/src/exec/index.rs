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
            Op::KvAppend(op) if dense(0) && dense(1) && dense(2) => Some(IndexStep::Append {
                batch_stride: bytes(&dims[1..])?,
                outer_stride: bytes(&dims[op.axis..])?,
                outer: dims[1..op.axis].iter().product(),
                capacity: dims[op.axis],
                rows: operands[1].dims[op.axis],
                inner: bytes(&dims[op.axis + 1..])?,
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
            IndexStep::Append { batch_stride, outer_stride, outer, capacity, rows, inner, positions } => {
                let part = rows * inner;
                for batch in 0..positions.len() {
                    let start = index_at(positions, reads[2], batch);
                    let fits = usize::try_from(start).ok().filter(|start| start + rows <= *capacity);
                    let start = fits.ok_or_else(|| {
                        format!("position {start} of batch row {batch}: {rows} rows do not fit a capacity of {capacity}")
                    })?;
                    for row in 0..*outer {
                        let from = (batch * outer + row) * part;
                        let to = batch * batch_stride + row * outer_stride + start * inner;
                        write[to..to + part].copy_from_slice(&reads[1][from..from + part]);
                    }
                }
                Ok(())
            }
        }
    }
}
