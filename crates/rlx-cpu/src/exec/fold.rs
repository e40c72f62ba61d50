//! Reductions over neighbouring axes of dense operands.

use super::view::BoundView;
use super::work::{Call, Work};
use crate::kernels::fold::{FoldElement, fold};
use crate::kernels::reduce::{Reduction, reduce};
use crate::kernels::{KernelError, cast_bytes, cast_bytes_mut};
use rlx_ir::DType;
use rlx_ir::ops::{Reduce, ReduceKind};

/// A reduction with concrete extents.
pub struct FoldStep {
    reduction: Reduction,
    dtype: DType,
    /// Before, along and inside the axes.
    extents: [usize; 3],
}

/// Extents before, along and after neighbouring axes.
pub fn around(dims: &[usize], first: usize, last: usize) -> [usize; 3] {
    let product = |part: &[usize]| part.iter().product::<usize>();
    [product(&dims[..first]), product(&dims[first..=last]), product(&dims[last + 1..])]
}

impl FoldStep {
    /// The kernel for `op`, if its operand lies as it needs it.
    pub fn new(op: &Reduce, operand: &BoundView) -> Option<FoldStep> {
        if !operand.is_dense() {
            return None;
        }
        // The reduction of no axis is one over an axis of extent 1.
        let extents = match (op.axes.first(), op.axes.last()) {
            (Some(&first), Some(&last)) if last - first + 1 == op.axes.len() => {
                around(&operand.dims, first, last)
            }
            (None, _) => [operand.len(), 1, 1],
            _ => return None,
        };
        let reduction = match op.kind {
            ReduceKind::Sum => Reduction::Sum,
            ReduceKind::Mean => Reduction::Mean,
            ReduceKind::Prod => Reduction::Product,
            ReduceKind::Max | ReduceKind::Any => Reduction::Maximum,
            ReduceKind::Min | ReduceKind::All => Reduction::Minimum,
        };
        // The neutral values of `u8` are 0 and 255: `bool` knows 1 only.
        let empty_all = op.kind == ReduceKind::All && extents[1] == 0;
        let reduction = if empty_all { Reduction::Product } else { reduction };
        let known = matches!(operand.dtype, DType::F16 | DType::BF16 | DType::F32 | DType::F64);
        let known = known || operand.dtype == DType::Bool || operand.dtype.is_int();
        let known = known && operand.dtype.size_of().is_some();
        known.then_some(FoldStep { reduction, dtype: operand.dtype, extents })
    }

    fn typed<T: FoldElement>(&self, call: Call<'_, '_>) -> Result<(), KernelError> {
        let input = cast_bytes::<T>("operand", call.reads[0])?;
        fold(call.context, self.reduction, self.extents, input, cast_bytes_mut("result", call.writes[0])?)
    }
}

impl Work for FoldStep {
    fn name(&self) -> &'static str {
        "reduce"
    }

    fn run(&self, call: Call<'_, '_>) -> Result<(), String> {
        let done = match self.dtype {
            DType::F32 => cast_bytes("operand", call.reads[0]).and_then(|input| {
                let output = cast_bytes_mut("result", call.writes[0])?;
                reduce(call.context, self.reduction, self.extents, input, output)
            }),
            dtype => with_element!(dtype, [F64 F16 BF16], T => self.typed::<T>(call)),
        };
        done.map_err(|error| error.to_string())
    }
}
