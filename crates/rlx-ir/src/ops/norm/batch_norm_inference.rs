//! `batch_norm_inference`: standardising by statistics that are given.

use crate::ops::normalise::{
    affine, affine_eval, along_axes, check_eps, check_parameters, for_each_parameter, inverse_root,
    result_like,
};
use crate::ops::prelude::*;

op! {
    /// `y = (x - mean) / sqrt(variance + eps) gamma + beta`; every parameter has one element per
    /// feature, the features stand along `axis`.
    ///
    /// (C1) `x` has a float dtype.
    /// (C2) `axis` is an axis of `x`.
    /// (C3) `mean`, `variance`, `gamma` and `beta` have the dtype of `x` and its extent along `axis`.
    /// (C4) `eps` is finite and not negative.
    /// Half precision computes in f32. Source: StableHLO batch_norm_inference.
    batch_norm_inference: BatchNormInference(x, mean, variance)[gamma, beta] -> y {
        /// Axis of the features.
        axis: usize,
        /// Added to the variance.
        eps: Real,
    }
}

impl OpSpec for BatchNormInference {
    const MEANING: Meaning<Self> = Meaning::composite_with_eval(Self::decompose, Self::eval);
    const VJP: Vjp<Self> = Vjp::ViaDecomposition;
    const JVP: Jvp<Self> = Jvp::ViaDecomposition;
    const BATCH: Batch<Self> = Batch::ViaDecomposition;
    const ACCURACY: AccuracyRule<Self> = |_| Accuracy::Accumulated { terms: 16 };

    fn infer(&self, operands: &[&TensorType]) -> Inferred {
        let x = operands[0];
        check_axis("C2", self.axis, x)?;
        check_parameters("C3", x, &[self.axis], &operands[1..])?;
        check_eps("C4", self.eps.0)?;
        float_like("C1", operands)
    }

    fn samples() -> Vec<Sample<Self>> {
        let sample = |dims: &[usize], axis: usize, gamma, beta, dtype| {
            let mut operands = vec![TensorType::new(dtype, dims)];
            let count = 2 + usize::from(gamma) + usize::from(beta);
            operands.extend(vec![TensorType::new(dtype, [dims[axis]]); count]);
            Sample::new(BatchNormInference { axis, eps: Real(1e-3), gamma, beta }, operands).fill(2, 0.3, 2.0)
        };
        vec![
            sample(&[2, 3, 4], 1, true, true, DType::F32),
            sample(&[2, 3, 4], 2, true, true, DType::F64),
            sample(&[5, 3], 0, true, false, DType::F32),
            sample(&[4], 0, false, true, DType::F32),
            sample(&[1, 3, 2, 2], 1, false, false, DType::BF16),
            sample(&[2, 3, 2, 2], 1, true, true, DType::F16),
            sample(&[0, 3], 1, true, true, DType::F32),
            sample(&[2, 0], 1, true, true, DType::F32),
        ]
    }
}

impl BatchNormInference {
    fn decompose(&self, g: &mut Graph, operands: &[Value]) -> Vec<Value> {
        let ty = g.ty(operands[0]).clone();
        let x = g.accumulation_cast(operands[0]);
        let mean = along_axes(g, operands[1], &[self.axis], ty.rank());
        let variance = g.accumulation_cast(operands[2]);
        let scale = inverse_root(g, variance, self.eps.0);
        let centred = g.sub(x, mean);
        let normal = affine(g, centred, Some(scale), None, &[self.axis]);
        let given = |name| self.operand_index(name).map(|index| operands[index]);
        let y = affine(g, normal, given("gamma"), given("beta"), &[self.axis]);
        vec![g.cast_to(y, ty.dtype)]
    }

    fn eval(&self, operands: &[&Literal]) -> Evaluated {
        let x = operands[0];
        let (mean, variance) = (operands[1].to_f64s(), operands[2].to_f64s());
        let mut values = x.to_f64s();
        for_each_parameter(x.dims(), &mut values, &[self.axis], |value, at| {
            *value = (*value - mean[at]) / (variance[at] + self.eps.0).sqrt();
        });
        let given = |name| self.operand_index(name).map(|index| operands[index].to_f64s());
        affine_eval(x.dims(), &mut values, given("gamma").as_deref(), given("beta").as_deref(), &[self.axis]);
        result_like(x, &values)
    }
}
