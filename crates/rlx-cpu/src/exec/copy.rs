//! Copies between strided views, by the width of the element.

use super::view::BoundView;
use super::work::{Call, Work};
use crate::kernels::copy::{Axis, MAX_AXES, copy_strided};

/// Bytes of a plain copy that are worth handing to another thread.
const PIECE: usize = 256 << 10;

/// A copy with concrete extents.
pub struct CopyStep {
    width: usize,
    axes: Vec<Axis>,
    from: usize,
    to: usize,
    /// Both sides are dense.
    plain: bool,
}

impl CopyStep {
    /// The copy of `from` to `to`, of the same extents; `None` where no kernel does it.
    pub fn new(from: &BoundView, to: &BoundView) -> Option<CopyStep> {
        let plain = from.is_dense() && to.is_dense();
        if plain && from.dtype.is_storage_only() {
            return Some(CopyStep { width: 1, axes: vec![], from: 0, to: 0, plain });
        }
        let width = from.dtype.size_of().filter(|width| matches!(width, 1 | 2 | 4 | 8 | 16))?;
        let (mut from, mut to) = (from.clone(), to.clone());
        BoundView::merge_axes(&mut [&mut from, &mut to]);
        let mut axes = vec![];
        let mut spread = 1usize;
        for axis in (0..to.dims.len()).rev() {
            let stride = usize::try_from(to.strides[axis]).ok()?;
            axes.push(Axis { extent: to.dims[axis], from: from.strides[axis], to: stride });
        }
        // Elements of the target must not overlap.
        let mut by_stride = axes.clone();
        by_stride.sort_by_key(|axis| axis.to);
        for axis in &by_stride {
            if axis.to < spread {
                return None;
            }
            spread = spread.saturating_add(axis.to.saturating_mul(axis.extent.saturating_sub(1)));
        }
        axes.reverse();
        (axes.len() <= MAX_AXES).then_some(CopyStep { width, axes, from: from.offset, to: to.offset, plain })
    }
}

impl Work for CopyStep {
    fn name(&self) -> &'static str {
        "copy"
    }

    fn run(&self, call: Call<'_, '_>) -> Result<(), String> {
        let (read, write) = (call.reads[0], &mut *call.writes[0]);
        if self.plain {
            call.context.pool().run_pieces(write, PIECE, |index, piece| {
                piece.copy_from_slice(&read[index * PIECE..][..piece.len()]);
            });
            return Ok(());
        }
        let target = &mut write[self.to * self.width..];
        copy_strided(call.context, self.width, &self.axes, (read, self.from), target)
            .map_err(|error| error.to_string())
    }
}
