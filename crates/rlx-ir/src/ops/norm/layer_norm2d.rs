//! `layer_norm2d`: layer norm of images over their channels, at each pixel.

use crate::ops::normalise::{Centre, Standard, affine_eval, check_eps, check_parameters, result_like};
use crate::ops::prelude::*;

op! {
    /// `y = (x - mean) / sqrt(variance + eps) gamma + beta` for `x` of [N, C, H, W], mean and
    /// variance over C at each pixel; `gamma` and `beta` are [C].
    ///
    /// (C1) `x` has a float dtype.
    /// (C2) `x` has rank 4.
    /// (C3) `gamma` and `beta` have the dtype of `x` and the shape [C].
    /// (C4) `eps` is finite and not negative.
    /// Half precision computes in f32.
    layer_norm2d: LayerNorm2d(x)[gamma, beta] -> y {
        /// Added to the variance.
        eps: Real,
    }
}

impl OpSpec for LayerNorm2d {
    const MEANING: Meaning<Self> = Meaning::composite_with_eval(Self::decompose, Self::eval);
    const VJP: Vjp<Self> = Vjp::ViaDecomposition;
    const JVP: Jvp<Self> = Jvp::ViaDecomposition;
    const BATCH: Batch<Self> = Batch::ViaDecomposition;
    const ACCURACY: AccuracyRule<Self> = |_| Accuracy::Accumulated { terms: 64 };
    const SAMPLES: Samples<Self> = Samples::Listed(&[
        "f32[2, 5, 3, 2], f32[5], f32[5] {eps = 1e-6, gamma = true, beta = true}",
        "f64[1, 4, 2, 2] {gamma = false, beta = false}",
        "f16[2, 3, 1, 1], f16[3] {beta = false}",
        "bf16[1, 6, 2, 3], bf16[6] {gamma = false}",
        "f32[0, 3, 2, 2], f32[3], f32[3]",
        "f32[2, 0, 2, 2], f32[0], f32[0]",
    ]);

    fn infer(&self, operands: &[&TensorType]) -> Inferred {
        let x = operands[0];
        require!("C2", x.rank() == 4, "expected [N, C, H, W], found {x}");
        check_parameters("C3", x, &[1], &operands[1..])?;
        check_eps("C4", self.eps.0)?;
        float_like("C1", operands)
    }
}

impl LayerNorm2d {
    fn decompose(&self, g: &mut Graph, operands: &[Value]) -> Vec<Value> {
        let given = |name| self.operand_index(name).map(|index| operands[index]);
        vec![g.layer_norm(operands[0], given("gamma"), given("beta"), vec![1], self.eps)]
    }

    fn eval(&self, operands: &[&Literal]) -> Evaluated {
        let x = operands[0];
        let standard = Standard { axes: &[1], eps: self.eps.0, centre: Centre::Mean };
        let mut values = standard.eval(x.dims(), &x.to_f64s());
        let given = |name| self.operand_index(name).map(|index| operands[index].to_f64s());
        affine_eval(x.dims(), &mut values, given("gamma").as_deref(), given("beta").as_deref(), &[1]);
        result_like(x, &values)
    }
}
