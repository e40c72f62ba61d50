//! `cum_log_sum_exp`: running logarithms of sums of exponentials along one axis.

use crate::ops::cumulative::{Cumulative, CumulativeKind, cumulative_samples};
use crate::ops::prelude::*;

op! {
    /// `y[i]` is log of the sum of exp(x[j]) over `j <= i` along `axis`; `j < i` with `exclusive`; from the end
    /// with `reverse`. `-inf` of nothing.
    ///
    /// (C1) `axis` is an axis of `x`.
    /// (C2) `x` has a float dtype.
    /// Computed without overflow, in f32 for half precision. Source: JAX cumlogsumexp.
    cum_log_sum_exp: CumLogSumExp(x) -> y {
        /// Axis along which the combination runs.
        axis: usize,
        /// Does an element leave itself out?
        exclusive: bool,
        /// Does the combination run from the end?
        reverse: bool,
    }
}

impl OpSpec for CumLogSumExp {
    const MEANING: Meaning<Self> = Meaning::primitive(|op, operands| op.cumulative().eval(operands[0]));
    const VJP: Vjp<Self> = Vjp::Rule(|op, g, given| op.cumulative().log_sum_exp_vjp(g, given));
    const JVP: Jvp<Self> = Jvp::Rule(|op, g, given| op.cumulative().log_sum_exp_jvp(g, given));
    const BATCH: Batch<Self> = Batch::Shift(|op, _| CumLogSumExp { axis: op.axis + 1, ..op.clone() });
    const ACCURACY: AccuracyRule<Self> = |_| Accuracy::Accumulated { terms: 64 };
    const SAMPLES: Samples<Self> = Samples::Made(|| {
        let dtypes = [DType::F16, DType::BF16];
        cumulative_samples(&dtypes, |axis, exclusive, reverse| CumLogSumExp { axis, exclusive, reverse })
    });

    fn infer(&self, operands: &[&TensorType]) -> Inferred {
        check_axis("C1", self.axis, operands[0])?;
        float_like("C2", operands)
    }
}

impl CumLogSumExp {
    /// The op as one of the cumulative ones.
    pub fn cumulative(&self) -> Cumulative {
        let CumLogSumExp { axis, exclusive, reverse } = *self;
        Cumulative { kind: CumulativeKind::LogSumExp, axis, exclusive, reverse }
    }
}
