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
    const SAMPLES: Samples<Self> = Samples::Listed(&[
        "f32[2, 3, 4], f32[3], f32[3] in [0.3, 2), f32[3], f32[3] \
         {axis = 1, eps = 0.001, gamma = true, beta = true}",
        "f64[2, 3, 4], f64[4], f64[4] in [0.3, 2), f64[4], f64[4] {axis = 2}",
        "f32[5, 3], f32[5], f32[5] in [0.3, 2), f32[5] {axis = 0, beta = false}",
        "f32[4], f32[4], f32[4] in [0.3, 2), f32[4] {axis = 0, gamma = false}",
        "bf16[1, 3, 2, 2], bf16[3], bf16[3] in [0.3, 2) {gamma = false, beta = false}",
        "f16[2, 3, 2, 2], f16[3], f16[3] in [0.3, 2), f16[3], f16[3]",
        "f32[0, 3], f32[3], f32[3] in [0.3, 2), f32[3], f32[3]",
        "f32[2, 0], f32[0], f32[0] in [0.3, 2), f32[0], f32[0]",
    ]);

    fn infer(&self, operands: &[&TensorType]) -> Inferred {
        let x = operands[0];
        check_axis("C2", self.axis, x)?;
        check_parameters("C3", x, &[self.axis], &operands[1..])?;
        check_eps("C4", self.eps.0)?;
        float_like("C1", operands)
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
