//! `imag`: imaginary parts.

use crate::ops::complex_parts::{complex_samples, real_like};
use crate::ops::prelude::*;

op! {
    /// The imaginary part of every element of `z`.
    ///
    /// (C1) `z` has a complex dtype; the result has the dtype of its parts.
    imag: Imag(z) -> im {}
}

impl OpSpec for Imag {
    const MEANING: Meaning<Self> = Meaning::scalar(|_, p, args| vec![p.part(ScalarOp::Imag, args[0])]);
    // `Im z = (z - conj z) / 2i`.
    const VJP: Vjp<Self> = Vjp::Rule(|_, g, given| {
        let halved = g.scaled(given.cotangent(), 0.5);
        let zeros = g.zeros_like(halved);
        Ok(vec![Some(g.complex(zeros, halved))])
    });
    const JVP: Jvp<Self> = Jvp::Linear;
    const BATCH: Batch<Self> = Batch::elementwise();
    const ACCURACY: AccuracyRule<Self> = |_| Accuracy::Exact;
    const SAMPLES: Samples<Self> = Samples::Made(|| complex_samples(Imag {}));

    fn infer(&self, operands: &[&TensorType]) -> Inferred {
        real_like("C1", operands)
    }
}
