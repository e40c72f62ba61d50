//! Ops over innermost axes on the row kernels: softmax, norms, reductions.

use super::view::BoundView;
use crate::kernels::reduce::{Reduction, reduce};
use crate::kernels::{Context, KernelError, cast_bytes, cast_bytes_mut, rows};
use rlx_ir::Op;
use rlx_ir::ops::ReduceKind;

/// The axes that a norm normalises over, for the norms with a row kernel.
pub fn normalised_axes(op: &Op) -> Option<Vec<usize>> {
    match op {
        Op::LayerNorm(op) if op.gamma => Some(op.axes.clone()),
        _ => None,
    }
}

/// A kernel over dense rows of `f32`.
pub enum RowStep {
    /// Softmax of rows of this width.
    Softmax(usize),
    /// Layer norm; operands are x, gamma and maybe beta.
    LayerNorm {
        /// Added to the variance.
        epsilon: f32,
        /// Is beta given?
        shift: bool,
    },
    /// Reduction of the middle axis of `[outer, extent, inner]`.
    Reduce(Reduction, [usize; 3]),
}

impl RowStep {
    /// The kernel for `op`, if its operands lie as it needs them.
    pub fn new(op: &Op, operands: &[&BoundView]) -> Option<RowStep> {
        if !operands.iter().all(|view| view.is_dense() && view.dtype == rlx_ir::DType::F32) {
            return None;
        }
        let dims = &operands[0].dims;
        match op {
            Op::Softmax(op) if op.axis + 1 == dims.len() => Some(RowStep::Softmax(dims[op.axis])),
            Op::LayerNorm(op) if op.gamma => {
                let first = dims.len() - op.axes.len();
                let inner = (first..dims.len()).eq(op.axes.iter().copied());
                // Scale and shift must have the extents of the row.
                let row = &dims[first..];
                (inner && operands[1..].iter().all(|view| view.dims == row))
                    .then_some(RowStep::LayerNorm { epsilon: op.eps.0 as f32, shift: op.beta })
            }
            Op::Reduce(op) => {
                let (&first, &last) = (op.axes.first()?, op.axes.last()?);
                if last - first + 1 != op.axes.len() {
                    return None;
                }
                let reduction = match op.kind {
                    ReduceKind::Sum => Reduction::Sum,
                    ReduceKind::Mean => Reduction::Mean,
                    ReduceKind::Prod => Reduction::Product,
                    ReduceKind::Max => Reduction::Maximum,
                    ReduceKind::Min => Reduction::Minimum,
                    ReduceKind::Any | ReduceKind::All => return None,
                };
                let product = |part: &[usize]| part.iter().product::<usize>();
                Some(RowStep::Reduce(
                    reduction,
                    [product(&dims[..first]), product(&dims[first..=last]), product(&dims[last + 1..])],
                ))
            }
            _ => None,
        }
    }

    /// Runs the kernel; `reads` are the operands.
    ///
    /// # Errors
    /// What the kernel refuses.
    pub fn run(&self, context: Context<'_>, reads: &[&[u8]], write: &mut [u8]) -> Result<(), KernelError> {
        let input: &[f32] = cast_bytes("operand", reads[0])?;
        let output: &mut [f32] = cast_bytes_mut("result", write)?;
        if output.is_empty() {
            return Ok(());
        }
        match self {
            RowStep::Softmax(width) => rows::softmax(context, *width, Some(input), output),
            RowStep::LayerNorm { epsilon, shift } => {
                let scale = cast_bytes("gamma", reads[1])?;
                let shift = if *shift { Some(cast_bytes("beta", reads[2])?) } else { None };
                rows::layer_norm(context, scale, shift, *epsilon, Some(input), output)
            }
            RowStep::Reduce(reduction, extents) => reduce(context, *reduction, *extents, input, output),
        }
    }
}
