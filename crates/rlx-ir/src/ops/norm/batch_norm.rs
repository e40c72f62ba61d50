//! `batch_norm`: standardising by the statistics of the batch, and keeping running ones.

use crate::ops::normalise::{Centre, Standard, affine, check_eps, check_parameters};
use crate::ops::prelude::*;

op! {
    /// The training form: `y = (x - m) / sqrt(v + eps) gamma + beta`, with the mean `m` and the mean squared deviation
    /// `v` of each feature over all axes but `axis`; and `momentum` of the old statistics plus `1 - momentum` of these.
    ///
    /// `batch_norm_inference` takes what has come of them.
    /// (C1) `x` has a float dtype.
    /// (C2) `axis` is an axis of `x`.
    /// (C3) `mean`, `variance`, `gamma` and `beta` have the dtype of `x` and its extent along `axis`.
    /// (C4) `eps` is finite and not negative; `momentum` is in 0 ..= 1.
    /// Half precision computes in f32. Source: ONNX BatchNormalization in training mode.
    batch_norm: BatchNorm(x, mean, variance)[gamma, beta] -> [y, running_mean, running_variance] {
        /// Axis of the features.
        axis: usize,
        /// Added to the variance.
        eps: Real,
        /// Weight of the old statistics.
        momentum: Real,
    }
}

impl OpSpec for BatchNorm {
    const MEANING: Meaning<Self> = Meaning::composite(|op, g, operands| {
        let ty = g.ty(operands[0]).clone();
        let x = g.accumulation_cast(operands[0]);
        let axes: Vec<usize> = (0..ty.rank()).filter(|&axis| axis != op.axis).collect();
        let normal = Standard { axes: &axes, eps: op.eps.0, centre: Centre::Mean }.build(g, x);
        let given = |name| op.operand_index(name).map(|index| operands[index]);
        let y = affine(g, normal, given("gamma"), given("beta"), &[op.axis]);
        let mean = g.reduce(x, ReduceKind::Mean, axes.clone(), true);
        let centred = g.sub(x, mean);
        let square = g.mul(centred, centred);
        let mut results = vec![g.cast_to(y, ty.dtype)];
        for (of, old) in [(x, operands[1]), (square, operands[2])] {
            let (old, new) = (g.accumulation_cast(old), g.reduce(of, ReduceKind::Mean, axes.clone(), false));
            let (old, new) = (g.scaled(old, op.momentum.0), g.scaled(new, 1.0 - op.momentum.0));
            let running = g.add(old, new);
            results.push(g.cast_to(running, ty.dtype));
        }
        results
    });
    const VJP: Vjp<Self> = Vjp::ViaDecomposition;
    const JVP: Jvp<Self> = Jvp::ViaDecomposition;
    const BATCH: Batch<Self> = Batch::ViaDecomposition;
    const ACCURACY: AccuracyRule<Self> = |_| Accuracy::Accumulated { terms: 64 };
    const SAMPLES: Samples<Self> = Samples::Listed(&[
        "f32[4, 3, 5], f32[3], f32[3] in [0.3, 2), f32[3], f32[3] \
         {axis = 1, eps = 0.001, momentum = 0.9, gamma = true, beta = true}",
        "f64[2, 3, 4], f64[4], f64[4] in [0.3, 2), f64[4] {axis = 2, momentum = 0.5, beta = false}",
        "f32[5, 3], f32[5], f32[5] in [0.3, 2), f32[5] {axis = 0, momentum = 0.0, gamma = false}",
        "bf16[1, 3, 2, 2], bf16[3], bf16[3] in [0.3, 2) {momentum = 1.0, gamma = false, beta = false}",
        "f16[2, 3, 2, 2], f16[3], f16[3] in [0.3, 2), f16[3], f16[3]",
        "f32[2, 0], f32[0], f32[0] in [0.3, 2), f32[0], f32[0]",
    ]);

    fn infer(&self, operands: &[&TensorType]) -> Inferred {
        let (x, momentum) = (operands[0], self.momentum.0);
        check_axis("C2", self.axis, x)?;
        check_parameters("C3", x, &[self.axis], &operands[1..])?;
        check_eps("C4", self.eps.0)?;
        require!("C4", (0.0..=1.0).contains(&momentum), "momentum must be in 0 ..= 1, found {momentum}");
        let y = float_like("C1", operands)?;
        Ok(y.into_iter().chain(operands[1..3].iter().map(|&ty| ty.clone())).collect())
    }
}
