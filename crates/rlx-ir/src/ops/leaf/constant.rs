//! `constant`: a value known when the graph is built.

use crate::ops::prelude::*;

op! {
    /// A value known when the graph is built. Its byte count was checked when the literal was made.
    constant: Constant() -> value {
        /// The value.
        value: Literal,
    }
}

impl OpSpec for Constant {
    const MEANING: Meaning<Self> = Meaning::primitive(|op, _| Ok(vec![op.value.clone()]));
    const VJP: Vjp<Self> = Vjp::None("it has no operands");
    const JVP: Jvp<Self> = Jvp::None("it has no operands");
    const BATCH: Batch<Self> = Batch::None("it has no operands");
    const ACCURACY: AccuracyRule<Self> = |_| Accuracy::Exact;
    const SAMPLES: Samples<Self> = Samples::Made(|| {
        let literals = [
            Literal::scalar_f32(1.5),
            Literal::floats(DType::BF16, &[2, 2], &[f64::NAN, f64::INFINITY, -0.0, 1e-3])
                .expect("one value per element"),
            Literal::ints(DType::U8, &[3], &[0, 1, 255]).expect("one value per element"),
            Literal::ints(DType::Bool, &[0], &[]).expect("one value per element"),
        ];
        literals.into_iter().map(|value| Sample::new(Constant { value }, [])).collect()
    });

    fn infer(&self, _: &[&TensorType]) -> Inferred {
        Ok(vec![self.value.ty()])
    }
}
