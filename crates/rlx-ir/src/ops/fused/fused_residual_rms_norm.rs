//! `fused_residual_rms_norm`: a residual sum and the RMS norm of it.

use crate::ops::fused_residual::{infer_residual, residual_sum};
use crate::ops::prelude::*;

op! {
    /// `sum = x + residual + bias` and `normalised = rms_norm(sum)` over `axes`.
    ///
    /// `bias`, `gamma` and `beta` have the extents of `x` along `axes`.
    /// (C1) `x` and `residual` have one type.
    /// (C2) `bias` has the dtype of `x` and its extents along `axes`.
    /// (C3) `sum`, `gamma`, `beta` and the attributes satisfy the constraints of `rms_norm`.
    /// The norm is that of the result `sum`, as rounded to its dtype.
    fused_residual_rms_norm: FusedResidualRmsNorm(x, residual)[bias, gamma, beta] -> [normalised, sum] {
        /// Axes of one group.
        axes: Vec<usize>,
        /// Added to the mean square.
        eps: Real,
        /// Is `gamma` stored minus one?
        unit_offset: bool,
    }
}

impl OpSpec for FusedResidualRmsNorm {
    const MEANING: Meaning<Self> = Meaning::composite(|op, g, operands| {
        let (sum, parameters) = residual_sum(g, operands, op.bias, &op.axes);
        let normalised = g.push(op.norm(), &[&[sum], parameters].concat());
        vec![normalised, sum]
    });
    const VJP: Vjp<Self> = Vjp::ViaDecomposition;
    const JVP: Jvp<Self> = Jvp::ViaDecomposition;
    const BATCH: Batch<Self> = Batch::ViaDecomposition;
    const ACCURACY: AccuracyRule<Self> = |_| Accuracy::Accumulated { terms: 64 };
    const SAMPLES: Samples<Self> = Samples::Listed(&[
        "f32[3, 8], f32[3, 8], f32[8] {axes = [1], eps = 1e-6, unit_offset = false, gamma = true}",
        "f64[2, 3, 5], f64[2, 3, 5], f64[5], f64[5], f64[5] \
         {axes = [2], unit_offset = true, bias = true, beta = true}",
        "f32[2, 3, 5], f32[2, 3, 5], f32[3], f32[3] {bias = true}",
        "f32[2, 7], f32[2, 7], f32[2, 7] {axes = [0, 1], gamma = false, beta = true}",
        "bf16[2, 7], bf16[2, 7], bf16[7] {unit_offset = true}",
        "f16[1, 6], f16[1, 6] {gamma = false}",
        "f32[0, 4], f32[0, 4], f32[4]",
    ]);

    fn infer(&self, operands: &[&TensorType]) -> Inferred {
        infer_residual(operands, &self.axes, self.bias, |operands| self.norm().infer(operands))
    }
}

impl FusedResidualRmsNorm {
    fn norm(&self) -> RmsNorm {
        let FusedResidualRmsNorm { eps, unit_offset, gamma, beta, .. } = *self;
        RmsNorm { axes: self.axes.clone(), eps, unit_offset, gamma, beta }
    }
}
