//! `barrier`: a value that is not there before another.

use crate::ops::prelude::*;

op! {
    /// `x`, which what uses the result cannot have before `after` is computed; the values of `after` do not
    /// matter. What is computed from the result is never merged with the same computation of `x`.
    ///
    /// (C1) The dtypes are not storage-only.
    barrier: Barrier(x, after) -> y {}
}

impl OpSpec for Barrier {
    const MEANING: Meaning<Self> = Meaning::view(|_, layout, _| Some(layout.clone()));
    const VJP: Vjp<Self> = Vjp::Rule(|_, _, given| Ok(vec![Some(given.cotangent()), None]));
    const JVP: Jvp<Self> = Jvp::Rule(|_, _, given| Ok(vec![given.tangents[0]]));
    const BATCH: Batch<Self> = Batch::Shift(|_, _| Barrier {});
    const ACCURACY: AccuracyRule<Self> = |_| Accuracy::Exact;
    const SAMPLES: Samples<Self> =
        Samples::Listed(&["f32[2, 3], f32[]", "i64[4], f32[3]", "f64[], f32[2, 2]", "bool[0, 2], f32[0]"]);

    fn infer(&self, operands: &[&TensorType]) -> Inferred {
        check_addressable("C1", operands)?;
        Ok(vec![operands[0].clone()])
    }
}
