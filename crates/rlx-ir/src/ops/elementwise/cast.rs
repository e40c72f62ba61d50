//! `cast`: conversion between dtypes.

use crate::ops::prelude::*;

op! {
    /// `x` converted to dtype `to`. Float to integer truncates and saturates, with NaN to 0; integer to
    /// integer wraps; anything to `bool` is `!= 0`; floats round to nearest even; complex to real drops
    /// the imaginary part.
    ///
    /// (C1) Neither dtype is storage-only.
    cast: Cast(x) -> y {
        /// The new dtype.
        to: DType,
    }
}

impl OpSpec for Cast {
    const MEANING: Meaning<Self> = Meaning::scalar(|op, p, args| vec![p.cast(args[0], op.to)]);
    // Between complex and real, the factor is what Wirtinger's derivative makes of a real part.
    const VJP: Vjp<Self> = Vjp::Rule(|op, g, given| {
        let from = g.ty(given.operands[0]).dtype;
        if !from.is_differentiable() {
            return Ok(vec![None]);
        }
        let dx = g.cast_to(given.cotangent(), from);
        let factor = match (from.is_complex(), op.to.is_complex()) {
            (true, false) => 0.5,
            (false, true) => 2.0,
            _ => return Ok(vec![Some(dx)]),
        };
        let factor = g.scalar(from, factor);
        Ok(vec![Some(g.mul(dx, factor))])
    });
    const JVP: Jvp<Self> = Jvp::Linear;
    const BATCH: Batch<Self> = Batch::elementwise();
    const ACCURACY: AccuracyRule<Self> = |_| Accuracy::Exact;
    const SAMPLES: Samples<Self> = Samples::Made(|| {
        let real: Vec<_> = DType::ALL.iter().copied().filter(|dtype| !dtype.is_storage_only()).collect();
        let mut samples = vec![];
        for &from in &real {
            for &to in &real {
                samples.push(Sample::new(Cast { to }, [TensorType::new(from, [2, 5])]));
            }
        }
        samples
    });

    fn infer(&self, operands: &[&TensorType]) -> Inferred {
        let from = operands[0].dtype;
        let storage = [from, self.to].into_iter().find(|dtype| dtype.is_storage_only());
        require!(
            "C1",
            storage.is_none(),
            "cannot cast {from} to {}; storage-only dtypes go through dequantize",
            self.to
        );
        Ok(vec![TensorType::new(self.to, operands[0].shape.clone())])
    }
}
