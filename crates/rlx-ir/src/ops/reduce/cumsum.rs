//! `cumsum`: running sums along one axis.

use crate::ops::cumulative::{Cumulative, CumulativeKind, cumulative_samples};
use crate::ops::ordering::check_ordered;
use crate::ops::prelude::*;

op! {
    /// `y[i] = sum of x[j] for j <= i` along `axis`; `j < i` with `exclusive`; from the end with `reverse`.
    ///
    /// (C1) `axis` is an axis of `x`.
    /// (C2) `x` has a float or integer dtype.
    /// Half-precision sums accumulate in f32; integers wrap. Source: ONNX CumSum.
    cumsum: Cumsum(x) -> y {
        /// Axis along which the sum runs.
        axis: usize,
        /// Does an element leave itself out?
        exclusive: bool,
        /// Does the sum run from the end?
        reverse: bool,
    }
}

impl OpSpec for Cumsum {
    const MEANING: Meaning<Self> = Meaning::primitive(|op, operands| op.cumulative().eval(operands[0]));
    const VJP: Vjp<Self> = Vjp::Rule(|op, g, given| Ok(vec![Some(g.cumsum_backward(op, given.cotangent()))]));
    const JVP: Jvp<Self> = Jvp::Linear;
    const BATCH: Batch<Self> = Batch::Shift(|op, _| Cumsum { axis: op.axis + 1, ..op.clone() });
    const ACCURACY: AccuracyRule<Self> = |_| Accuracy::Accumulated { terms: 64 };
    const SAMPLES: Samples<Self> = Samples::Made(|| {
        cumulative_samples(&[DType::F16, DType::BF16, DType::I32, DType::U8], |axis, exclusive, reverse| {
            Cumsum { axis, exclusive, reverse }
        })
    });

    fn infer(&self, operands: &[&TensorType]) -> Inferred {
        check_axis("C1", self.axis, operands[0])?;
        check_ordered("C2", operands[0])?;
        Ok(vec![operands[0].clone()])
    }
}

impl Cumsum {
    /// The op as one of the cumulative ones.
    pub fn cumulative(&self) -> Cumulative {
        let Cumsum { axis, exclusive, reverse } = *self;
        Cumulative { kind: CumulativeKind::Sum, axis, exclusive, reverse }
    }
}
