//! `cum_min`: running minima along one axis.

use crate::ops::cumulative::{Cumulative, CumulativeKind, cumulative_samples};
use crate::ops::ordering::check_ordered;
use crate::ops::prelude::*;

op! {
    /// `y[i]` is the smallest x[j] over `j <= i` along `axis`; `j < i` with `exclusive`; from the end
    /// with `reverse`. Of nothing: `+inf`, or the highest integer.
    ///
    /// (C1) `axis` is an axis of `x`.
    /// (C2) `x` has a float or integer dtype.
    /// NaN wins from where it stands on. Source: NumPy minimum.accumulate.
    cum_min: CumMin(x) -> y {
        /// Axis along which the minimum runs.
        axis: usize,
        /// Does an element leave itself out?
        exclusive: bool,
        /// Does the minimum run from the end?
        reverse: bool,
    }
}

impl OpSpec for CumMin {
    const MEANING: Meaning<Self> = Meaning::primitive(|op, operands| op.cumulative().eval(operands[0]));
    const VJP: Vjp<Self> = Vjp::Rule(|op, g, given| op.cumulative().extreme_vjp(g, given));
    const JVP: Jvp<Self> = Jvp::DoubleVjp;
    const BATCH: Batch<Self> = Batch::Shift(|op, _| CumMin { axis: op.axis + 1, ..op.clone() });
    const ACCURACY: AccuracyRule<Self> = |_| Accuracy::Exact;
    const SAMPLES: Samples<Self> = Samples::Made(|| {
        let dtypes = [DType::F16, DType::BF16, DType::I64, DType::U8];
        cumulative_samples(&dtypes, |axis, exclusive, reverse| CumMin { axis, exclusive, reverse })
    });

    fn infer(&self, operands: &[&TensorType]) -> Inferred {
        check_axis("C1", self.axis, operands[0])?;
        check_ordered("C2", operands[0])?;
        Ok(vec![operands[0].clone()])
    }
}

impl CumMin {
    /// The op as one of the cumulative ones.
    pub fn cumulative(&self) -> Cumulative {
        let CumMin { axis, exclusive, reverse } = *self;
        Cumulative { kind: CumulativeKind::Min, axis, exclusive, reverse }
    }
}
