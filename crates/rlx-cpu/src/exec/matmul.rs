//! Matrix products: `matmul` steps on the GEMM kernels.
//!
//! Leading dims are a batch. When the right operand is the same for the whole
//! batch and the left one is dense, the batch becomes rows of one product.

use super::region::RegionCore;
use super::view::BoundView;
use crate::kernels::gemm::{Gemm, Layout, PackedB, Right, TileMut, gemm, scratch_bytes};
use crate::kernels::{Context, KernelError, Matrix, MatrixMut, Plain, cast_bytes, cast_bytes_mut};
use crate::pool::{Pool, SharedSlice};
use crate::simd::SimdLevel;

/// Where the right operand comes from.
pub enum RightOperand {
    /// A strided view in read slice `slot`.
    View {
        /// Its read slice.
        slot: usize,
        /// K and N are its last axes after the transpose.
        view: BoundView,
    },
    /// Packed bytes in read slice `slot`.
    Packed {
        /// Its read slice.
        slot: usize,
    },
}

/// A product with concrete extents.
pub struct MatmulStep {
    /// Rows, columns, contracted extent.
    extents: [usize; 3],
    batch: Vec<usize>,
    left: BoundView,
    left_slot: usize,
    right: RightOperand,
    /// Finishes tiles; the domain is `[batch.., M, N]`.
    epilogue: Option<RegionCore>,
    scratch: usize,
    by_batch: bool,
}

/// The last two axes of an operand swapped.
pub fn swap_last(view: &mut BoundView) {
    let rank = view.dims.len();
    view.dims.swap(rank - 1, rank - 2);
    view.strides.swap(rank - 1, rank - 2);
}

impl MatmulStep {
    /// Bytes of the registers of the region that finishes tiles.
    pub fn register_bytes(&self) -> usize {
        self.epilogue.as_ref().map_or(0, RegionCore::register_bytes)
    }

    /// A product of `left` `[batch.., M, K]` and `right` `[batch.., K, N]`, both
    /// already broadcast over the batch; the result is dense.
    pub fn new(
        mut left: BoundView,
        left_slot: usize,
        mut right: RightOperand,
        columns: usize,
        epilogue: Option<RegionCore>,
        context: Context<'_>,
    ) -> MatmulStep {
        let rank = left.dims.len();
        let (rows, depth) = (left.dims[rank - 2], left.dims[rank - 1]);
        let mut batch = left.dims[..rank - 2].to_vec();
        let mut extents = [rows, columns, depth];
        let shared_right = match &right {
            RightOperand::Packed { .. } => true,
            RightOperand::View { view, .. } => {
                view.strides[..view.dims.len() - 2].iter().zip(&batch).all(|(&s, &d)| s == 0 || d == 1)
            }
        };
        if shared_right && !batch.is_empty() && rows_continue(&left) {
            extents[0] = batch.iter().product::<usize>() * rows;
            let innermost = (0..rank - 1).rev().find(|&axis| left.dims[axis] > 1).unwrap_or(rank - 2);
            left.strides = vec![left.strides[innermost], left.strides[rank - 1]];
            left.dims = vec![extents[0], depth];
            if let RightOperand::View { view, .. } = &mut right {
                let from = view.dims.len() - 2;
                view.dims.drain(..from);
                view.strides.drain(..from);
            }
            batch.clear();
        }
        let count: usize = batch.iter().product();
        let threads = context.pool().threads();
        let layout = Layout {
            a_contiguous: left.strides.last() == Some(&1),
            b_packed: matches!(right, RightOperand::Packed { .. }),
        };
        let by_batch = count >= threads && threads > 1;
        let one =
            scratch_bytes::<f32, f32>(context.level(), if by_batch { 1 } else { threads }, extents, layout)
                .next_multiple_of(64);
        let scratch = if by_batch { one * threads } else { one };
        MatmulStep { extents, batch, left, left_slot, right, epilogue, scratch, by_batch }
    }

    /// Bytes of scratch that [`MatmulStep::run`] needs.
    pub fn scratch(&self) -> usize {
        self.scratch
    }

    /// Runs the product.
    ///
    /// # Errors
    /// What the kernel refuses.
    pub fn run(
        &self,
        context: Context<'_>,
        inline: &Pool,
        reads: &[&[u8]],
        write: &mut [u8],
        scratch: &mut [u8],
    ) -> Result<(), KernelError> {
        let [rows, columns, _] = self.extents;
        let out: &mut [f32] = cast_bytes_mut("result", write)?;
        let inline_context = Context::with_level(inline, context.level())?;
        let count: usize = self.batch.iter().product();
        if !self.by_batch {
            for index in 0..count {
                let c = &mut out[index * rows * columns..(index + 1) * rows * columns];
                self.one(context, inline_context, reads, index, c, scratch)?;
            }
            return Ok(());
        }
        let piece = rows * columns;
        if piece == 0 {
            return Ok(());
        }
        let per_thread = self.scratch / context.pool().threads();
        let (out, scratch) = (SharedSlice::new(out), SharedSlice::new(scratch));
        let failure = std::sync::Mutex::new(None);
        context.pool().run_with_slot(count, |thread, index| {
            // SAFETY: matrix `index` of the result belongs to this task alone.
            let c = unsafe { out.part(index * piece, piece) };
            // SAFETY: the scratch of a thread is used by one task at a time.
            let scratch = unsafe { scratch.part(thread * per_thread, per_thread) };
            if let Err(error) = self.one(inline_context, inline_context, reads, index, c, scratch) {
                failure.lock().unwrap_or_else(std::sync::PoisonError::into_inner).get_or_insert(error);
            }
        });
        failure.into_inner().unwrap_or_else(std::sync::PoisonError::into_inner).map_or(Ok(()), Err)
    }

    fn one(
        &self,
        context: Context<'_>,
        inline: Context<'_>,
        reads: &[&[u8]],
        index: usize,
        c: &mut [f32],
        scratch: &mut [u8],
    ) -> Result<(), KernelError> {
        let [rows, columns, depth] = self.extents;
        let a: Matrix<'_, f32> = matrix(&self.left, &self.batch, index, reads[self.left_slot])?;
        let b = match &self.right {
            RightOperand::View { slot, view } => {
                Right::Strided(matrix::<f32>(view, &self.batch, index, reads[*slot])?)
            }
            RightOperand::Packed { slot } => {
                Right::Packed(PackedB::from_bytes(context.level(), [depth, columns], reads[*slot])?)
            }
        };
        let c = MatrixMut::dense(c, rows, columns)?;
        let Some(region) = &self.epilogue else {
            return gemm(context, Gemm { a, b, c, accumulate: false, epilogue: None, scratch });
        };
        let finish = |tile: &mut TileMut<'_, f32>| {
            for row in tile.rows() {
                let start = (index * rows + row) * columns + tile.columns().start;
                region.finish(inline, reads, start, tile.row_mut(row));
            }
        };
        gemm(context, Gemm { a, b, c, accumulate: false, epilogue: Some(&finish), scratch })
    }
}

/// Does the left operand's batch step like further rows?
fn rows_continue(left: &BoundView) -> bool {
    let rank = left.dims.len();
    let mut expected = None;
    for axis in (0..rank - 1).rev() {
        if left.dims[axis] == 1 {
            continue;
        }
        match expected {
            Some(stride) if left.strides[axis] != stride => return false,
            _ => {}
        }
        expected = Some(left.strides[axis] * left.dims[axis] as isize);
    }
    true
}

/// Matrix `index` of a batch.
fn matrix<'a, T: Plain>(
    view: &BoundView,
    batch: &[usize],
    index: usize,
    bytes: &'a [u8],
) -> Result<Matrix<'a, T>, KernelError> {
    let rank = view.dims.len();
    let mut offset = view.offset as isize;
    let mut rest = index;
    for (axis, &dim) in batch.iter().enumerate().rev() {
        offset += (rest % dim) as isize * view.strides[axis];
        rest /= dim;
    }
    let data = cast_bytes("operand", bytes)?;
    Matrix::new(
        data,
        offset as usize,
        [view.dims[rank - 2], view.dims[rank - 1]],
        [view.strides[rank - 2], view.strides[rank - 1]],
    )
}

/// Bytes of a packed right operand; `None` when that overflows.
pub fn packed_bytes(level: SimdLevel, rows: usize, columns: usize) -> Option<usize> {
    PackedB::<f32>::bytes(level, rows, columns)
}

/// Packs a right operand `[K, N]`.
///
/// # Errors
/// What the kernel refuses.
pub fn pack(
    context: Context<'_>,
    view: &BoundView,
    bytes: &[u8],
    target: &mut [u8],
) -> Result<(), KernelError> {
    let b: Matrix<'_, f32> = matrix(view, &[], 0, bytes)?;
    PackedB::pack(context, b, target).map(|_| ())
}
