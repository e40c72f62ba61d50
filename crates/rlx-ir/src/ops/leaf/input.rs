//! `input`: a value that the caller feeds at every run.

use crate::accuracy::Accuracy;
use crate::op;
use crate::op::{Inferred, Meaning, OpSpec, Sample};
use crate::shape::TensorType;

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
    fn infer(&self, _: &[&TensorType]) -> Inferred {
        Ok(vec![self.result.clone()])
    }
    fn accuracy(&self) -> Accuracy {
        Accuracy::Exact
    }
    fn samples() -> Vec<Sample<Self>> {
        vec![]
    }
}
