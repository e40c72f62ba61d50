//! `layer_norm_backward`: the derivatives of [`LayerNorm`], in one pass.

use crate::ops::normalise::{Centre, Standard, check_backward};
use crate::ops::prelude::*;

op! {
    /// The derivatives by `x`, `gamma` and `beta` of `layer_norm` whose result has the derivative `dy`. With `n` the
    /// normalised `x`, `s` its factor `1 / sqrt(variance + eps)` and `d = dy gamma`:
    /// `dx = s (d - mean(d) - n mean(d n))`, `dgamma = sum dy n`, `dbeta = sum dy`.
    ///
    /// `gamma` and the last two results have the extents of `x` along `axes`; without `gamma` it counts as 1.
    /// (C1) `x` has a float dtype.
    /// (C2) `axes` are axes of `x`, strictly increasing, at least one.
    /// (C3) `dy` has the type of `x`, `gamma` its dtype and one dim per axis of `axes`.
    /// (C4) `eps` is finite and not negative.
    /// Half precision computes in f32.
    layer_norm_backward: LayerNormBackward(x, dy)[gamma] -> [dx, dgamma, dbeta] {
        /// Axes of one group.
        axes: Vec<usize>,
        /// Added to the variance.
        eps: Real,
    }
}

impl OpSpec for LayerNormBackward {
    const MEANING: Meaning<Self> = Meaning::composite(|op, g, operands| {
        let standard = Standard { axes: &op.axes, eps: op.eps.0, centre: Centre::Mean };
        let gamma = operands.get(2).map(|&gamma| g.accumulation_cast(gamma));
        standard.backward(g, operands[0], operands[1], gamma)
    });
    const VJP: Vjp<Self> = Vjp::ViaDecomposition;
    const JVP: Jvp<Self> = Jvp::ViaDecomposition;
    const BATCH: Batch<Self> = Batch::ViaDecomposition;
    const ACCURACY: AccuracyRule<Self> = |_| Accuracy::Accumulated { terms: 256 };
    const SAMPLES: Samples<Self> = Samples::Listed(&[
        "f32[3, 8], f32[3, 8], f32[8] {axes = [1], eps = 1e-5, gamma = true}",
        "f64[2, 3, 5], f64[2, 3, 5], f64[3, 5] {axes = [1, 2]}",
        "f32[2, 3, 5], f32[2, 3, 5] {gamma = false}",
        "bf16[2, 7], bf16[2, 7], bf16[7]",
        "f16[2, 7], f16[2, 7] {axes = [0, 1], gamma = false}",
        "f32[0, 4], f32[0, 4], f32[4]",
        "f32[2, 0], f32[2, 0], f32[0]",
    ]);

    fn infer(&self, operands: &[&TensorType]) -> Inferred {
        check_backward(["C1", "C2", "C3", "C4"], &self.axes, self.eps.0, operands)
    }
}
