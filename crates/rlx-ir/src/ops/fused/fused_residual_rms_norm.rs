//! `fused_residual_rms_norm`: a residual sum and the RMS norm of it.

use crate::ops::fused_residual::{infer_residual, residual_sum, sample_operands};
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
    const MEANING: Meaning<Self> = Meaning::composite(Self::decompose);
    const VJP: Vjp<Self> = Vjp::ViaDecomposition;
    const JVP: Jvp<Self> = Jvp::ViaDecomposition;
    const BATCH: Batch<Self> = Batch::ViaDecomposition;
    const ACCURACY: AccuracyRule<Self> = |_| Accuracy::Accumulated { terms: 64 };

    fn infer(&self, operands: &[&TensorType]) -> Inferred {
        infer_residual(operands, &self.axes, self.bias, |operands| self.norm().infer(operands))
    }

    fn samples() -> Vec<Sample<Self>> {
        let sample = |dims: &[usize], axes: &[usize], [bias, gamma, beta]: [bool; 3], unit_offset, dtype| {
            let operands = sample_operands(dims, axes, [bias, gamma, beta], dtype);
            let (axes, eps) = (axes.to_vec(), Real(1e-6));
            Sample::new(FusedResidualRmsNorm { axes, eps, unit_offset, bias, gamma, beta }, operands)
        };
        vec![
            sample(&[3, 8], &[1], [false, true, false], false, DType::F32),
            sample(&[2, 3, 5], &[2], [true, true, true], true, DType::F64),
            sample(&[2, 3, 5], &[1], [true, true, false], false, DType::F32),
            sample(&[2, 7], &[0, 1], [false, false, true], false, DType::F32),
            sample(&[2, 7], &[1], [false, true, false], true, DType::BF16),
            sample(&[1, 6], &[1], [false, false, false], false, DType::F16),
            sample(&[0, 4], &[1], [false, true, false], false, DType::F32),
        ]
    }
}

impl FusedResidualRmsNorm {
    fn norm(&self) -> RmsNorm {
        let FusedResidualRmsNorm { eps, unit_offset, gamma, beta, .. } = *self;
        RmsNorm { axes: self.axes.clone(), eps, unit_offset, gamma, beta }
    }

    fn decompose(&self, g: &mut Graph, operands: &[Value]) -> Vec<Value> {
        let (sum, parameters) = residual_sum(g, operands, self.bias, &self.axes);
        let normalised = g.push(self.norm(), &[&[sum], parameters].concat());
        vec![normalised, sum]
    }
}
