//! Matrix products: `matmul` steps on the GEMM kernels.
//!
//! Leading dims are a batch. When the right operand is the same for the whole
//! batch and the left one is dense, the batch becomes rows of one product.
//! Products accumulate in `f32`, `f64`, `i32` or `i64`; where the result has
//! another dtype, the sums stand in scratch and each finished tile goes
//! through a region that rounds them once.

use super::region::{Files, RegionCore};
use super::tape::{Class, Element, class_of};
use super::view::BoundView;
use super::work::{Call, Work};
use crate::kernels::gemm::{
    Epilogue, Gemm, Layout, PackedB, Right, RightElement, TileMut, Times, gemm, scratch_bytes,
};
use crate::kernels::{Context, KernelError, Matrix, MatrixMut, Plain, cast_bytes, cast_bytes_mut};
use crate::pool::SharedSlice;
use crate::simd::SimdLevel;
use half::{bf16, f16};
use rlx_ir::DType;

/// Element types of a product.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Elements {
    /// `f32`.
    F32,
    /// `f32` times `bf16`.
    F32Brain,
    /// `f32` times `f16`.
    F32Half,
    /// `bf16`, summed in `f32`.
    Brain,
    /// `f16`, summed in `f32`.
    Half,
    /// `f64`.
    F64,
    /// `i32` and `u32`.
    I32,
    /// `i64` and `u64`.
    I64,
}

/// Evaluates an expression with names for the element types of a product's operands.
macro_rules! with_types {
    ($elements:expr, [$a:ident, $b:ident] => $body:expr) => {
        with_types!(@ $elements, [$a, $b] => $body, F32: f32, f32, F32Brain: f32, bf16, F32Half: f32, f16,
            Brain: bf16, bf16, Half: f16, f16, F64: f64, f64, I32: i32, i32, I64: i64, i64)
    };
    (@ $elements:expr, [$a:ident, $b:ident] => $body:expr, $($name:ident: $left:ty, $right:ty),*) => {
        match $elements { $(Elements::$name => { type $a = $left; type $b = $right; $body })* }
    };
}

impl Elements {
    /// The product of two dtypes; `None` for what no kernel multiplies.
    pub fn of(left: DType, right: DType) -> Option<Elements> {
        Some(match (left, right) {
            (DType::F32, DType::F32) => Elements::F32,
            (DType::F32, DType::BF16) => Elements::F32Brain,
            (DType::F32, DType::F16) => Elements::F32Half,
            (DType::BF16, DType::BF16) => Elements::Brain,
            (DType::F16, DType::F16) => Elements::Half,
            (DType::F64, DType::F64) => Elements::F64,
            (DType::I32 | DType::U32, right) if left == right => Elements::I32,
            (DType::I64 | DType::U64, right) if left == right => Elements::I64,
            _ => return None,
        })
    }

    /// The dtype that operands of `dtype` are converted to first, where no
    /// kernel multiplies it but one multiplies the other.
    pub fn widened(dtype: DType) -> Option<DType> {
        match class_of(dtype)? {
            _ if Elements::of(dtype, dtype).is_some() => None,
            Class::F32 => Some(DType::F32),
            Class::I32 if dtype.is_int() => Some(DType::I32),
            _ => None,
        }
    }

    /// Dtypes whose elements are those of the sums.
    pub fn sums(self) -> &'static [DType] {
        match self {
            Elements::F64 => &[DType::F64],
            Elements::I32 => &[DType::I32, DType::U32],
            Elements::I64 => &[DType::I64, DType::U64],
            _ => &[DType::F32],
        }
    }
}

/// Can a region of a product of `dtype` take its sums? Those of `u32` are of
/// another class than its elements.
pub fn takes_region(dtype: DType) -> bool {
    let computed = Elements::widened(dtype).unwrap_or(dtype);
    let class = class_of(dtype);
    Elements::of(computed, computed).is_some_and(|elements| class == class_of(elements.sums()[0]))
}

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

/// What happens to finished tiles.
pub struct Finish {
    /// The region; the domain is `[batch.., M, N]`.
    pub region: RegionCore,
    /// Dtype of its result.
    pub dtype: DType,
}

/// A product with concrete extents.
pub struct MatmulStep {
    elements: Elements,
    /// Rows, columns, contracted extent.
    extents: [usize; 3],
    batch: Vec<usize>,
    left: BoundView,
    left_slot: usize,
    right: RightOperand,
    finish: Option<Finish>,
    /// Scratch of one thread, or of all where the kernel has them all.
    scratch: usize,
    /// Bytes of it that hold the sums of one matrix.
    sums: usize,
    by_batch: bool,
    threads: usize,
}

/// The last two axes of an operand swapped.
pub fn swap_last(view: &mut BoundView) {
    let rank = view.dims.len();
    view.dims.swap(rank - 1, rank - 2);
    view.strides.swap(rank - 1, rank - 2);
}

impl MatmulStep {
    /// A product of `left` `[batch.., M, K]` and `right` `[batch.., K, N]`, both
    /// already broadcast over the batch; the result is dense. Without `finish`
    /// its dtype is that of the sums.
    pub fn new(
        elements: Elements,
        (mut left, left_slot): (BoundView, usize),
        mut right: RightOperand,
        columns: usize,
        finish: Option<Finish>,
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
        let kernel_threads = if by_batch { 1 } else { threads };
        let level = context.level();
        let kernel =
            with_types!(elements, [A, B] => scratch_bytes::<A, B>(level, kernel_threads, extents, layout));
        let apart = finish.as_ref().is_some_and(|finish| !elements.sums().contains(&finish.dtype));
        let width = elements.sums()[0].size_of().unwrap_or(1);
        let sums = if apart { (extents[0] * extents[1] * width).next_multiple_of(64) } else { 0 };
        let scratch = kernel.next_multiple_of(64) + sums;
        MatmulStep {
            elements,
            extents,
            batch,
            left,
            left_slot,
            right,
            finish,
            scratch,
            sums,
            by_batch,
            threads,
        }
    }

    /// All matrices of the batch.
    fn run_as<A: Times<B>, B: RightElement>(&self, call: Call<'_, '_>) -> Result<(), KernelError>
    where
        A::Output: Element,
    {
        let count: usize = self.batch.iter().product();
        let [rows, columns, _] = self.extents;
        if count * rows * columns == 0 {
            return Ok(());
        }
        let (inline, files, reads) = (call.inline, call.files, call.reads);
        let whole: &mut [u8] = &mut call.writes[0][..];
        cast_bytes_mut::<A::Output>("scratch", call.scratch)?;
        let result = SharedSlice::new(whole);
        let part = Part { inline, files, reads, result: &result };
        if !self.by_batch {
            for index in 0..count {
                self.one::<A, B>(call.context, &part, index, &mut call.scratch[..self.scratch])?;
            }
            return Ok(());
        }
        let scratch = SharedSlice::new(call.scratch);
        call.context.pool().try_with_slot(count, |thread, index| {
            // SAFETY: the scratch of a thread is used by one task at a time.
            let scratch = unsafe { scratch.part(thread * self.scratch, self.scratch) };
            self.one::<A, B>(inline, &part, index, scratch)
        })
    }

    /// Matrix `index` of the batch.
    fn one<A: Times<B>, B: RightElement>(
        &self,
        context: Context<'_>,
        part: &Part<'_>,
        index: usize,
        scratch: &mut [u8],
    ) -> Result<(), KernelError>
    where
        A::Output: Element,
    {
        let [rows, columns, depth] = self.extents;
        let reads = part.reads;
        let a: Matrix<'_, A> = matrix(&self.left, &self.batch, index, reads[self.left_slot])?;
        let b = match &self.right {
            RightOperand::View { slot, view } => {
                Right::Strided(matrix::<B>(view, &self.batch, index, reads[*slot])?)
            }
            RightOperand::Packed { slot } => {
                Right::Packed(PackedB::from_bytes(context.level(), [depth, columns], reads[*slot])?)
            }
        };
        let (sums, scratch) = scratch.split_at_mut(self.sums);
        let apart = self.sums > 0;
        let c: &mut [A::Output] = if apart {
            cast_bytes_mut("scratch", sums)?
        } else {
            let bytes = rows * columns * size_of::<A::Output>();
            // SAFETY: matrix `index` of the result is computed once, and nothing else touches it.
            cast_bytes_mut("result", unsafe { part.result.part(index * bytes, bytes) })?
        };
        let c = MatrixMut::dense(c, rows, columns)?;
        let finish = |tile: &mut TileMut<'_, A::Output>| {
            if let Some(finish) = &self.finish {
                let start_of = |row: usize| (index * rows + row) * columns;
                let files = (part.inline, part.files);
                finish.region.finish(files, reads, tile, &start_of, apart.then_some(part.result));
            }
        };
        let epilogue = self.finish.is_some().then_some(&finish as &Epilogue<'_, A::Output>);
        gemm(context, Gemm { a, b, c, epilogue, scratch })
    }
}

/// What the matrices of a batch share.
struct Part<'a> {
    inline: Context<'a>,
    files: &'a Files,
    reads: &'a [&'a [u8]],
    result: &'a SharedSlice<'a, u8>,
}

impl Work for MatmulStep {
    fn name(&self) -> &'static str {
        "gemm"
    }

    fn scratch(&self) -> usize {
        if self.by_batch { self.scratch * self.threads } else { self.scratch }
    }

    fn slots(&self) -> usize {
        self.finish.as_ref().map_or(0, |finish| finish.region.slots())
    }

    fn run(&self, call: Call<'_, '_>) -> Result<(), String> {
        with_types!(self.elements, [A, B] => self.run_as::<A, B>(call)).map_err(|error| error.to_string())
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

/// Bytes of a packed right operand of `dtype`; `None` when that overflows or no kernel takes it.
pub fn packed_bytes(level: SimdLevel, dtype: DType, rows: usize, columns: usize) -> Option<usize> {
    with_types!(Elements::of(dtype, dtype)?, [_A, B] => PackedB::<B>::bytes(level, rows, columns))
}

/// Packs a right operand `[K, N]`.
pub struct PackWork {
    view: BoundView,
    elements: Elements,
}

impl PackWork {
    /// Packing of `view`; `None` for a dtype that no kernel multiplies.
    pub fn new(view: BoundView) -> Option<PackWork> {
        let elements = Elements::of(view.dtype, view.dtype)?;
        Some(PackWork { view, elements })
    }
}

impl Work for PackWork {
    fn name(&self) -> &'static str {
        "pack"
    }

    fn run(&self, call: Call<'_, '_>) -> Result<(), String> {
        let (read, write) = (call.reads[0], &mut *call.writes[0]);
        let packed = with_types!(self.elements, [_A, B] => {
            matrix::<B>(&self.view, &[], 0, read).and_then(|b| PackedB::pack(call.context, b, write).map(|_| ()))
        });
        packed.map_err(|error| error.to_string())
    }
}
