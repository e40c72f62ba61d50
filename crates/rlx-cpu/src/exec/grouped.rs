//! Products of rows with the matrices of their experts.
//!
//! The rows of an expert are brought together and multiplied at once, so that each matrix that is used is read once,
//! whatever the order of the rows. It does not pack the matrices beforehand.

use super::index::index_at;
use super::tape::Element;
use super::view::BoundView;
use super::work::{Call, Work};
use crate::kernels::gemm::{Gemm, Layout, Right, RightElement, Times, gemm, scratch_bytes};
use crate::kernels::{Context, KernelError, Matrix, MatrixMut, cast_bytes, cast_bytes_mut};
use rlx_ir::DType;
use rlx_ir::ops::GroupedMatMul;

/// A product by experts with concrete extents.
pub struct GroupedStep {
    dtype: DType,
    index: DType,
    /// Rows, columns, contracted extent.
    extents: [usize; 3],
    experts: usize,
    /// Strides of the rows and columns of a matrix.
    strides: [isize; 2],
    /// Bytes of scratch of the product, of the rows brought together, of their results.
    scratch: [usize; 3],
}

impl GroupedStep {
    /// The kernel for `op`, if its operands lie as it needs them.
    pub fn new(op: &GroupedMatMul, operands: &[BoundView], context: Context<'_>) -> Option<GroupedStep> {
        let [x, w, expert] = operands else { return None };
        let wide = x.dtype == DType::F64;
        if !operands.iter().all(BoundView::is_dense) || !(wide || x.dtype == DType::F32) {
            return None;
        }
        let (rows, depth) = (x.dims[0], x.dims[1]);
        let columns = w.dims[if op.transpose_w { 1 } else { 2 }];
        let extents = [rows, columns, depth];
        let strides = if op.transpose_w { [1, depth as isize] } else { [columns as isize, 1] };
        let layout = Layout { a_contiguous: true, b_packed: false };
        let (level, threads) = (context.level(), context.pool().threads());
        let kernel = match wide {
            true => scratch_bytes::<f64, f64>(level, threads, extents, layout),
            false => scratch_bytes::<f32, f32>(level, threads, extents, layout),
        };
        let width = x.dtype.size_of()?;
        let scratch =
            [kernel, rows * depth * width, rows * columns * width].map(|len| len.next_multiple_of(64));
        Some(GroupedStep {
            dtype: x.dtype,
            index: expert.dtype,
            extents,
            experts: w.dims[0],
            strides,
            scratch,
        })
    }

    fn run_as<T: Times<T, Output = T> + RightElement + Element>(
        &self,
        call: Call<'_, '_>,
    ) -> Result<(), KernelError> {
        let [rows, columns, depth] = self.extents;
        let (x, w) = (cast_bytes::<T>("x", call.reads[0])?, cast_bytes::<T>("w", call.reads[1])?);
        let y = cast_bytes_mut::<T>("result", call.writes[0])?;
        let (kernel, rest) = call.scratch.split_at_mut(self.scratch[0]);
        let (near, sums) = rest.split_at_mut(self.scratch[1]);
        let near = cast_bytes_mut::<T>("scratch", near)?;
        let sums = cast_bytes_mut::<T>("scratch", &mut sums[..self.scratch[2]])?;
        let expert_of = |row: usize| index_at(self.index, call.reads[2], row) as usize;
        for expert in 0..self.experts {
            let mut count = 0;
            for row in (0..rows).filter(|&row| expert_of(row) == expert) {
                near[count * depth..][..depth].copy_from_slice(&x[row * depth..][..depth]);
                count += 1;
            }
            if count == 0 {
                continue;
            }
            let a = Matrix::dense(&near[..count * depth], count, depth)?;
            let b = Right::Strided(Matrix::new(w, expert * depth * columns, [depth, columns], self.strides)?);
            let c = MatrixMut::dense(&mut sums[..count * columns], count, columns)?;
            gemm(call.context, Gemm { a, b, c, epilogue: None, scratch: &mut *kernel })?;
            let own = (0..rows).filter(|&row| expert_of(row) == expert);
            for (row, sums) in own.zip(sums.chunks_exact(columns)) {
                y[row * columns..][..columns].copy_from_slice(sums);
            }
        }
        Ok(())
    }
}

impl Work for GroupedStep {
    fn name(&self) -> &'static str {
        "grouped gemm"
    }

    fn scratch(&self) -> usize {
        self.scratch.iter().sum()
    }

    fn run(&self, call: Call<'_, '_>) -> Result<(), String> {
        for row in 0..self.extents[0] {
            let expert = index_at(self.index, call.reads[2], row);
            if usize::try_from(expert).ok().is_none_or(|expert| expert >= self.experts) {
                return Err(format!("expert[{row}] is {expert}, outside [0, {})", self.experts));
            }
        }
        if self.extents[0] * self.extents[1] == 0 {
            return Ok(());
        }
        let done = if self.dtype == DType::F64 { self.run_as::<f64>(call) } else { self.run_as::<f32>(call) };
        done.map_err(|error| error.to_string())
    }
}
