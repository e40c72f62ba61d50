//! `softmax`: normalised exponential along one axis.

use crate::ops::prelude::*;

op! {
    /// `y[i] = exp(x[i] - m) / sum_j exp(x[j] - m)` along `axis`, with `m` the maximum.
    ///
    /// (C1) `x` has a float dtype.
    /// (C2) `axis` is an axis of `x`.
    /// A row of only `-inf`, or with a NaN or `+inf`, is NaN.
    softmax: Softmax(x) -> y {
        /// Axis that sums to one.
        axis: usize,
    }
}

impl OpSpec for Softmax {
    const MEANING: Meaning<Self> = Meaning::composite(|op, g, operands| {
        let dtype = g.ty(operands[0]).dtype;
        let x = g.accumulation_cast(operands[0]);
        let max = g.reduce(x, ReduceKind::Max, vec![op.axis], true);
        let shifted = g.sub(x, max);
        let exp = g.exp(shifted);
        let sum = g.reduce(exp, ReduceKind::Sum, vec![op.axis], true);
        let y = g.div(exp, sum);
        vec![g.cast_to(y, dtype)]
    });
    const VJP: Vjp<Self> =
        Vjp::Rule(|op, g, given| Ok(vec![Some(op.slope(g, given.results[0], given.cotangent()))]));
    const JVP: Jvp<Self> = Jvp::Rule(|op, g, given| {
        Ok(vec![given.tangents[0].map(|tangent| op.slope(g, given.results[0], tangent))])
    });
    const BATCH: Batch<Self> = Batch::Shift(|op, _| Softmax { axis: op.axis + 1 });
    const ACCURACY: AccuracyRule<Self> = |_| Accuracy::Accumulated { terms: 64 };
    const SAMPLES: Samples<Self> = Samples::Listed(&[
        "f32[3, 5] {axis = 1}",
        "f32[3, 5] {axis = 0}",
        "f16[2, 3, 4]",
        "f64[1] {axis = 0}",
        "f32[2, 0]",
        "bf16[2, 0] {axis = 0}",
    ]);

    fn infer(&self, operands: &[&TensorType]) -> Inferred {
        check_axis("C2", self.axis, operands[0])?;
        float_like("C1", operands)
    }
}

impl Softmax {
    /// The Jacobian, which is symmetric, times `change`: `y (change - sum(y change))`.
    fn slope(&self, g: &mut Graph, y: Value, change: Value) -> Value {
        let dtype = g.ty(y).dtype;
        let (y, change) = (g.accumulation_cast(y), g.accumulation_cast(change));
        let product = g.mul(y, change);
        let sum = g.reduce(product, ReduceKind::Sum, vec![self.axis], true);
        let rest = g.sub(change, sum);
        let slope = g.mul(y, rest);
        g.cast_to(slope, dtype)
    }
}
