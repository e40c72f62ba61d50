//! Fourier transforms of dense operands, axis by axis.
//!
//! Rows along the last axis are transformed where they lie; rows along another are transposed into
//! scratch and back. The last axis comes first, so that a long row goes from the operand to the result.

use super::fold::around;
use super::view::BoundView;
use super::work::{Call, Work};
use crate::kernels::fft::{Around, FftElement, Pair, Plan, Square, transpose};
use crate::kernels::{Context, KernelError, cast_bytes, cast_bytes_mut};
use rlx_ir::DType;
use rlx_ir::ops::Fft;
use std::sync::OnceLock;

/// Elements that are worth handing to a thread.
const PIECE: usize = 8 << 10;

struct AxisPlan<T> {
    extents: [usize; 3],
    /// The factor by which a long row is cut.
    split: Option<usize>,
    /// Made by the first run: extents that only get planned take no memory.
    tables: OnceLock<Tables<T>>,
}

enum Tables<T> {
    Plan(Plan<T>),
    Square(Square<T>),
}

impl<T: FftElement> AxisPlan<T> {
    fn tables(&self) -> &Tables<T> {
        let length = self.extents[1];
        self.tables.get_or_init(|| match self.split {
            Some(split) => Tables::Square(Square::new(length, split)),
            None => Tables::Plan(Plan::new(length)),
        })
    }

    /// Elements of scratch for a thread.
    fn scratch(&self) -> usize {
        let length = self.extents[1];
        match self.split {
            Some(split) => Plan::<T>::scratch_of(split).max(Plan::<T>::scratch_of(length / split)),
            None => Plan::<T>::scratch_of(length),
        }
    }
}

struct FftStep<T> {
    /// In the order in which they are transformed.
    axes: Vec<AxisPlan<T>>,
    inverse: bool,
    scale: f64,
    /// Elements of the operand where they are needed once more.
    between: usize,
    /// Elements of scratch for each thread.
    share: usize,
    threads: usize,
}

/// The kernel for `op`, if its operand lies as it needs it.
pub fn fft_step(op: &Fft, operand: &BoundView, context: Context<'_>) -> Option<Box<dyn Work>> {
    if !operand.is_dense() {
        return None;
    }
    Some(match operand.dtype {
        DType::C64 => Box::new(FftStep::<f32>::new(op, operand, context)),
        _ => Box::new(FftStep::<f64>::new(op, operand, context)),
    })
}

impl<T: FftElement> FftStep<T> {
    fn new(op: &Fft, operand: &BoundView, context: Context<'_>) -> FftStep<T> {
        let used = if operand.len() == 0 { &[][..] } else { &op.axes[..] };
        let axes: Vec<AxisPlan<T>> = used
            .iter()
            .rev()
            .enumerate()
            .map(|(position, &axis)| {
                let extents = around(&operand.dims, axis, axis);
                let whole = position == 0 && extents[2] == 1;
                let split = Some(extents[1]).filter(|_| whole).and_then(Square::<T>::split);
                AxisPlan { extents, split, tables: OnceLock::new() }
            })
            .collect();
        let copies = axes.iter().any(|axis| axis.extents[2] > 1 || axis.split.is_some());
        FftStep {
            inverse: op.inverse,
            scale: used.iter().map(|&axis| op.norm.scale(op.inverse, operand.dims[axis])).product(),
            between: if copies { operand.len() } else { 0 },
            share: axes.iter().map(AxisPlan::scratch).max().unwrap_or(0),
            threads: context.pool().threads(),
            axes,
        }
    }

    fn all(&self, call: Call<'_, '_>) -> Result<(), KernelError> {
        let context = call.context;
        let operand: &[Pair<T>] = bytemuck::cast_slice(cast_bytes::<T>("operand", call.reads[0])?);
        let result: &mut [Pair<T>] = bytemuck::cast_slice_mut(cast_bytes_mut::<T>("result", call.writes[0])?);
        let scratch: &mut [Pair<T>] = bytemuck::cast_slice_mut(cast_bytes_mut::<T>("scratch", call.scratch)?);
        let (between, scratch) = scratch.split_at_mut(self.between);
        let scratch = &mut scratch[..self.threads * self.share];
        if self.axes.is_empty() {
            result.copy_from_slice(operand);
        }
        for (position, axis) in self.axes.iter().enumerate() {
            let (first, last) = (position == 0, position + 1 == self.axes.len());
            let scale = Some(T::of(self.scale)).filter(|_| last && self.scale != 1.0);
            let around = Around { before: first && self.inverse, after: last && self.inverse, scale };
            let [outer, extent, inner] = axis.extents;
            let plan = match axis.tables() {
                Tables::Plan(plan) => plan,
                Tables::Square(square) => {
                    for row in 0..outer {
                        let row = row * extent..(row + 1) * extent;
                        let to = [&mut result[row.clone()], &mut between[..extent]];
                        square.run(context, around, &operand[row], to, scratch)?;
                    }
                    continue;
                }
            };
            let rows = |data: &mut [Pair<T>], scratch: &mut [Pair<T>]| {
                let piece = PIECE.div_ceil(extent) * extent;
                context.pool().run_pieces_with(data, piece, scratch, |_, data, scratch| {
                    for row in data.chunks_exact_mut(extent) {
                        around.run(context, plan, row, scratch);
                    }
                });
            };
            if inner == 1 {
                if first {
                    result.copy_from_slice(operand);
                }
                rows(result, scratch);
            } else {
                let from = if first { operand } else { &*result };
                transpose(context, [outer, extent, inner], from, between)?;
                rows(between, scratch);
                transpose(context, [outer, inner, extent], between, result)?;
            }
        }
        Ok(())
    }
}

impl<T: FftElement> Work for FftStep<T> {
    fn name(&self) -> &'static str {
        "fft"
    }

    fn scratch(&self) -> usize {
        (self.between + self.threads * self.share) * size_of::<Pair<T>>()
    }

    fn run(&self, call: Call<'_, '_>) -> Result<(), String> {
        self.all(call).map_err(|error| error.to_string())
    }
}
