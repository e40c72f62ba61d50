//! `input`: a value that the caller feeds at every run.

use crate::ops::prelude::*;

op! {
    /// A value fed by the caller at every run. No operands; the result has type `result`.
    input: Input() -> value {
        /// Unique among the inputs of the graph.
        name: String,
        /// Type of the value.
        result: TensorType,
    }
}

impl OpSpec for Input {
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
