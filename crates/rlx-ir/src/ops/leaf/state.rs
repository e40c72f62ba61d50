//! `state`: a tensor that lives on the device between runs.

use crate::ops::prelude::*;

op! {
    /// The content, at the start of a run, of a tensor that lives between runs. Its shape is its capacity; a new content is declared with `update`. No operands; the result has type `result`.
    state: State() -> value {
        /// Unique among the states of the graph.
        name: String,
        /// Type of the value.
        result: TensorType,
    }
}

impl OpSpec for State {
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
