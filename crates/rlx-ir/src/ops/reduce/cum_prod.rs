//! `cum_prod`: running products along one axis.

use crate::ops::cumulative::{Cumulative, CumulativeKind, cumulative_samples};
use crate::ops::ordering::check_ordered;
use crate::ops::prelude::*;

op! {
    /// `y[i]` is the product of x[j] over `j <= i` along `axis`; `j < i` with `exclusive`; from the end
    /// with `reverse`. 1 of nothing.
    ///
    /// (C1) `axis` is an axis of `x`.
    /// (C2) `x` has a float or integer dtype.
    /// Half-precision products accumulate in f32; integers wrap. Source: NumPy cumprod.
    cum_prod: CumProd(x) -> y {
        /// Axis along which the product runs.
        axis: usize,
        /// Does an element leave itself out?
        exclusive: bool,
        /// Does the product run from the end?
        reverse: bool,
    }
}

impl OpSpec for CumProd {
    const MEANING: Meaning<Self> = Meaning::primitive(|op, operands| op.cumulative().eval(operands[0]));
    const VJP: Vjp<Self> = Vjp::Rule(|op, g, given| op.cumulative().product_vjp(g, given));
    const JVP: Jvp<Self> = Jvp::DoubleVjp;
    const BATCH: Batch<Self> = Batch::Shift(|op, _| CumProd { axis: op.axis + 1, ..op.clone() });
    const ACCURACY: AccuracyRule<Self> = |_| Accuracy::Accumulated { terms: 64 };
    const SAMPLES: Samples<Self> = Samples::Made(|| {
        let dtypes = [DType::F16, DType::BF16, DType::I32, DType::U8];
        cumulative_samples(&dtypes, |axis, exclusive, reverse| CumProd { axis, exclusive, reverse })
    });

    fn infer(&self, operands: &[&TensorType]) -> Inferred {
        check_axis("C1", self.axis, operands[0])?;
        check_ordered("C2", operands[0])?;
        Ok(vec![operands[0].clone()])
    }
}

impl CumProd {
    /// The op as one of the cumulative ones.
    pub fn cumulative(&self) -> Cumulative {
        let CumProd { axis, exclusive, reverse } = *self;
        Cumulative { kind: CumulativeKind::Prod, axis, exclusive, reverse }
    }
}
