//! `complex_norm_sq`: squared magnitudes.

use crate::ops::complex_parts::{complex_samples, real_like};
use crate::ops::prelude::*;

op! {
    /// `y = z conj(z)`: the sum of the squares of the parts, a real number.
    ///
    /// (C1) `z` has a complex dtype; the result has the dtype of its parts.
    complex_norm_sq: ComplexNormSq(z) -> y {}
}

impl OpSpec for ComplexNormSq {
    const MEANING: Meaning<Self> = Meaning::scalar(|_, p, args| {
        let (re, im) = (p.part(ScalarOp::Real, args[0]), p.part(ScalarOp::Imag, args[0]));
        let (re, im) = (p.binary(ScalarOp::Mul, re, re), p.binary(ScalarOp::Mul, im, im));
        vec![p.binary(ScalarOp::Add, re, im)]
    });
    const VJP: Vjp<Self> = Vjp::Rule(|_, g, given| {
        Ok(vec![Some(g.complex_norm_sq_backward(given.operands[0], given.cotangent()))])
    });
    const JVP: Jvp<Self> = Jvp::Scalar;
    const BATCH: Batch<Self> = Batch::elementwise();
    const ACCURACY: AccuracyRule<Self> = |_| Accuracy::Approx { ulp: 2.0 };
    const SAMPLES: Samples<Self> = Samples::Made(|| complex_samples(ComplexNormSq {}));

    fn infer(&self, operands: &[&TensorType]) -> Inferred {
        real_like("C1", operands)
    }
}
