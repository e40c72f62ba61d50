//! Reductions over neighbouring axes of dense operands.

use super::view::BoundView;
use super::work::{Call, Work};
use crate::kernels::fold::{FoldElement, fold};
use crate::kernels::reduce::{Reduction, reduce};
use crate::kernels::{KernelError, cast_bytes, cast_bytes_mut};
use half::{bf16, f16};
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

    fn any_type(&self, call: Call<'_, '_>) -> Result<(), KernelError> {
        match self.dtype {
            DType::F32 => {
                let (input, output) =
                    (cast_bytes("operand", call.reads[0])?, cast_bytes_mut("result", call.writes[0])?);
                reduce(call.context, self.reduction, self.extents, input, output)
            }
            DType::F16 => self.typed::<f16>(call),
            DType::BF16 => self.typed::<bf16>(call),
            DType::F64 => self.typed::<f64>(call),
            DType::I8 => self.typed::<i8>(call),
            DType::I16 => self.typed::<i16>(call),
            DType::U16 => self.typed::<u16>(call),
            DType::I32 => self.typed::<i32>(call),
            DType::U32 => self.typed::<u32>(call),
            DType::I64 => self.typed::<i64>(call),
            DType::U64 => self.typed::<u64>(call),
            _ => self.typed::<u8>(call),
        }
    }
}

impl Work for FoldStep {
    fn name(&self) -> &'static str {
        "reduce"
    }

    fn run(&self, call: Call<'_, '_>) -> Result<(), String> {
        self.any_type(call).map_err(|error| error.to_string())
    }
}
