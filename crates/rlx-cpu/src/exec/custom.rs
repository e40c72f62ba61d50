//! User ops as work: their own CPU function on dense operands and results.

use super::view::BoundView;
use super::work::{Call, Work};
use rlx_ir::ops::Custom;
use rlx_ir::{CustomHandle, DType, TensorRef};

/// A call of a user op.
pub struct CustomStep {
    function: CustomHandle,
    operands: Vec<(DType, Vec<usize>)>,
}

impl CustomStep {
    /// A call on these operands; `None` when one is not dense.
    pub fn new(op: &Custom, operands: &[BoundView]) -> Option<CustomStep> {
        let dense = operands.iter().all(BoundView::is_dense);
        let operands = operands.iter().map(|view| (view.dtype, view.dims.clone())).collect();
        dense.then(|| CustomStep { function: op.function.clone(), operands })
    }
}

impl Work for CustomStep {
    fn name(&self) -> &'static str {
        "custom"
    }

    fn run(&self, call: Call<'_, '_>) -> Result<(), String> {
        let tensors = self.operands.iter().zip(call.reads);
        let tensors = tensors.map(|((dtype, dims), bytes)| TensorRef { dtype: *dtype, dims, bytes });
        self.function.run(&tensors.collect::<Vec<_>>(), call.writes).map_err(|fault| fault.0)
    }
}
