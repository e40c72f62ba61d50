//! `instance_norm`: zero mean and unit variance of each channel of each instance.

use crate::ops::normalise::{
    Centre, Standard, affine, affine_eval, check_eps, check_parameters, result_like,
};
use crate::ops::prelude::*;

op! {
    /// `y = (x - mean) / sqrt(variance + eps) gamma + beta` for `x` of [N, C, spatial..]; mean and
    /// variance over the spatial axes; `gamma` and `beta` are [C].
    ///
    /// (C1) `x` has a float dtype.
    /// (C2) `x` has rank 3 or more.
    /// (C3) `gamma` and `beta` have the dtype of `x` and the shape [C].
    /// (C4) `eps` is finite and not negative.
    /// Half precision computes in f32. Source: ONNX InstanceNormalization.
    instance_norm: InstanceNorm(x)[gamma, beta] -> y {
        /// Added to the variance.
        eps: Real,
    }
}

impl OpSpec for InstanceNorm {
    const MEANING: Meaning<Self> = Meaning::composite_with_eval(Self::decompose, Self::eval);
    const VJP: Vjp<Self> = Vjp::ViaDecomposition;
    const JVP: Jvp<Self> = Jvp::ViaDecomposition;
    const BATCH: Batch<Self> = Batch::ViaDecomposition;
    const ACCURACY: AccuracyRule<Self> = |_| Accuracy::Accumulated { terms: 64 };
    const SAMPLES: Samples<Self> = Samples::Listed(&[
        "f32[2, 3, 5], f32[3], f32[3] {eps = 1e-5, gamma = true, beta = true}",
        "f64[2, 3, 2, 3], f64[3], f64[3]",
        "f32[1, 2, 2, 3, 2], f32[2] {beta = false}",
        "bf16[1, 3, 4], bf16[3] {gamma = false}",
        "f16[2, 2, 7] {gamma = false, beta = false}",
        "f32[0, 2, 3], f32[2], f32[2]",
        "f32[2, 2, 0], f32[2], f32[2]",
    ]);

    fn infer(&self, operands: &[&TensorType]) -> Inferred {
        let x = operands[0];
        require!("C2", x.rank() >= 3, "expected [N, C, spatial..], found {x}");
        check_parameters("C3", x, &[1], &operands[1..])?;
        check_eps("C4", self.eps.0)?;
        float_like("C1", operands)
    }
}

impl InstanceNorm {
    fn decompose(&self, g: &mut Graph, operands: &[Value]) -> Vec<Value> {
        let ty = g.ty(operands[0]).clone();
        let x = g.accumulation_cast(operands[0]);
        let axes: Vec<usize> = (2..ty.rank()).collect();
        let normal = Standard { axes: &axes, eps: self.eps.0, centre: Centre::Mean }.build(g, x);
        let given = |name| self.operand_index(name).map(|index| operands[index]);
        let y = affine(g, normal, given("gamma"), given("beta"), &[1]);
        vec![g.cast_to(y, ty.dtype)]
    }

    fn eval(&self, operands: &[&Literal]) -> Evaluated {
        let x = operands[0];
        let axes: Vec<usize> = (2..x.dims().len()).collect();
        let standard = Standard { axes: &axes, eps: self.eps.0, centre: Centre::Mean };
        let mut values = standard.eval(x.dims(), &x.to_f64s());
        let given = |name| self.operand_index(name).map(|index| operands[index].to_f64s());
        affine_eval(x.dims(), &mut values, given("gamma").as_deref(), given("beta").as_deref(), &[1]);
        result_like(x, &values)
    }
}
