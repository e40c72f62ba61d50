//! `param`: a weight, bound once and constant over runs.

use crate::ops::prelude::*;

op! {
    /// A weight, bound by name before the first run and constant over runs. No operands; the result has type `result`.
    param: Param() -> value {
        /// Unique among the params of the graph.
        name: String,
        /// Type of the value.
        result: TensorType,
    }
}

impl OpSpec for Param {
    const MEANING: Meaning<Self> = Meaning::leaf();
    const VJP: Vjp<Self> = Vjp::None("it has no operands");
    const JVP: Jvp<Self> = Jvp::None("it has no operands");
    const BATCH: Batch<Self> = Batch::None("it has no operands");
    const ACCURACY: AccuracyRule<Self> = |_| Accuracy::Exact;
    const SAMPLES: Samples<Self> = Samples::Listed(&[]);

    fn infer(&self, _: &[&TensorType]) -> Inferred {
        Ok(vec![self.result.clone()])
    }
}
