//! `log_softmax`: logarithm of the softmax along one axis.

use crate::ops::prelude::*;

op! {
    /// `y[i] = x[i] - m - log(sum_j exp(x[j] - m))` along `axis`, with `m` the maximum.
    ///
    /// (C1) `x` has a float dtype.
    /// (C2) `axis` is an axis of `x`.
    /// A row of only `-inf`, or with a NaN or `+inf`, is NaN. Half precision computes in f32.
    log_softmax: LogSoftmax(x) -> y {
        /// Axis whose exponentials sum to one.
        axis: usize,
    }
}

impl OpSpec for LogSoftmax {
    const MEANING: Meaning<Self> = Meaning::composite(|op, g, operands| {
        let dtype = g.ty(operands[0]).dtype;
        let x = g.accumulation_cast(operands[0]);
        let max = g.reduce(x, ReduceKind::Max, vec![op.axis], true);
        let shifted = g.sub(x, max);
        let exp = g.exp(shifted);
        let sum = g.reduce(exp, ReduceKind::Sum, vec![op.axis], true);
        let log = g.log(sum);
        let y = g.sub(shifted, log);
        vec![g.cast_to(y, dtype)]
    });
    const VJP: Vjp<Self> = Vjp::Rule(|op, g, given| {
        let (y, dy) = (g.accumulation_cast(given.results[0]), g.accumulation_cast(given.cotangent()));
        let sum = g.reduce(dy, ReduceKind::Sum, vec![op.axis], true);
        let softmax = g.exp(y);
        let part = g.mul(softmax, sum);
        let dx = g.sub(dy, part);
        Ok(vec![Some(g.cast_to(dx, g.ty(given.results[0]).dtype))])
    });
    const JVP: Jvp<Self> = Jvp::DoubleVjp;
    const BATCH: Batch<Self> = Batch::Shift(|op, _| LogSoftmax { axis: op.axis + 1 });
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
