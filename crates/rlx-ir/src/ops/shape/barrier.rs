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

    fn infer(&self, operands: &[&TensorType]) -> Inferred {
        check_addressable("C1", operands)?;
        Ok(vec![operands[0].clone()])
    }

    fn samples() -> Vec<Sample<Self>> {
        let sample = |dims: &[usize], dtype, after: &[usize]| {
            Sample::new(Barrier {}, [TensorType::new(dtype, dims), TensorType::new(DType::F32, after)])
        };
        vec![
            sample(&[2, 3], DType::F32, &[]),
            sample(&[4], DType::I64, &[3]),
            sample(&[], DType::F64, &[2, 2]),
            sample(&[0, 2], DType::Bool, &[0]),
        ]
    }
}
