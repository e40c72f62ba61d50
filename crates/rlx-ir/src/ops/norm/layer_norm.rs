//! `layer_norm`: zero mean and unit variance over a set of axes.

use crate::ops::normalise::{
    Centre, Standard, affine, affine_eval, check_eps, check_parameters, result_like,
};
use crate::ops::prelude::*;

op! {
    /// `y = (x - mean) / sqrt(variance + eps) gamma + beta`, mean and variance over `axes`.
    ///
    /// `gamma` and `beta` have the extents of `x` along `axes`, in that order.
    /// (C1) `x` has a float dtype.
    /// (C2) `axes` are axes of `x`, strictly increasing, at least one.
    /// (C3) `gamma` and `beta` have the dtype of `x` and one dim per axis of `axes`.
    /// (C4) `eps` is finite and not negative.
    /// The variance divides by the count and is taken in two passes; half precision computes in f32.
    /// Source: ONNX LayerNormalization, with any axes.
    layer_norm: LayerNorm(x)[gamma, beta] -> y {
        /// Axes of one group.
        axes: Vec<usize>,
        /// Added to the variance.
        eps: Real,
    }
}

impl OpSpec for LayerNorm {
    const MEANING: Meaning<Self> = Meaning::composite_with_eval(Self::decompose, Self::eval);
    const VJP: Vjp<Self> = Vjp::Rule(|op, g, given| {
        let back = LayerNormBackward { axes: op.axes.clone(), eps: op.eps, gamma: op.gamma };
        let mut operands = vec![given.operands[0], given.cotangent()];
        operands.extend(op.operand_index("gamma").map(|index| given.operands[index]));
        let results = g.push_all(back, &operands);
        let wanted = [true, op.gamma, op.beta];
        Ok(results
            .into_iter()
            .zip(wanted)
            .filter(|(_, wanted)| *wanted)
            .map(|(result, _)| Some(result))
            .collect())
    });
    const JVP: Jvp<Self> = Jvp::ViaDecomposition;
    const BATCH: Batch<Self> =
        Batch::ShiftFirst(1, |op, _| LayerNorm { axes: shift_axes(&op.axes), ..op.clone() });
    const ACCURACY: AccuracyRule<Self> = |_| Accuracy::Accumulated { terms: 64 };
    const SAMPLES: Samples<Self> = Samples::Listed(&[
        "f32[3, 8], f32[8], f32[8] {axes = [1], eps = 1e-5, gamma = true, beta = true}",
        "f32[2, 3, 5], f32[5] {axes = [2], beta = false}",
        "f64[2, 3, 5], f64[3, 5], f64[3, 5] {axes = [1, 2]}",
        "f32[2, 3, 5], f32[3], f32[3]",
        "f32[2, 3, 5], f32[2, 5] {axes = [0, 2], gamma = false}",
        "bf16[4, 6] {axes = [0], gamma = false, beta = false}",
        "f16[2, 7], f16[7], f16[7]",
        "f32[1], f32[1], f32[1] {axes = [0]}",
        "f32[0, 4], f32[4], f32[4]",
        "f32[2, 0], f32[0], f32[0]",
    ]);

    fn infer(&self, operands: &[&TensorType]) -> Inferred {
        let x = operands[0];
        check_axes("C2", &self.axes, x)?;
        require!("C2", !self.axes.is_empty(), "at least one axis is needed");
        check_parameters("C3", x, &self.axes, &operands[1..])?;
        check_eps("C4", self.eps.0)?;
        float_like("C1", operands)
    }
}

impl LayerNorm {
    fn standard(&self) -> Standard<'_> {
        Standard { axes: &self.axes, eps: self.eps.0, centre: Centre::Mean }
    }

    fn decompose(&self, g: &mut Graph, operands: &[Value]) -> Vec<Value> {
        let dtype = g.ty(operands[0]).dtype;
        let x = g.accumulation_cast(operands[0]);
        let normal = self.standard().build(g, x);
        let given = |name| self.operand_index(name).map(|index| operands[index]);
        let y = affine(g, normal, given("gamma"), given("beta"), &self.axes);
        vec![g.cast_to(y, dtype)]
    }

    fn eval(&self, operands: &[&Literal]) -> Evaluated {
        let x = operands[0];
        let mut values = self.standard().eval(x.dims(), &x.to_f64s());
        let given = |name| self.operand_index(name).map(|index| operands[index].to_f64s());
        affine_eval(x.dims(), &mut values, given("gamma").as_deref(), given("beta").as_deref(), &self.axes);
        result_like(x, &values)
    }
}
