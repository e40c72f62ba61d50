//! `conjugate`: complex conjugates.

use crate::ops::complex_parts::{check_complex, complex_samples};
use crate::ops::prelude::*;

op! {
    /// Every element of `z` with its imaginary part negated.
    ///
    /// (C1) `z` has a complex dtype, which the result has too.
    conjugate: Conjugate(z) -> y {}
}

impl OpSpec for Conjugate {
    const MEANING: Meaning<Self> = Meaning::scalar(|_, p, args| {
        let (re, im) = (p.part(ScalarOp::Real, args[0]), p.part(ScalarOp::Imag, args[0]));
        let im = p.unary(ScalarOp::Neg, im);
        vec![p.complex(re, im)]
    });
    const VJP: Vjp<Self> = Vjp::Rule(|_, g, given| Ok(vec![Some(g.conjugate(given.cotangent()))]));
    const JVP: Jvp<Self> = Jvp::Linear;
    const BATCH: Batch<Self> = Batch::elementwise();
    const ACCURACY: AccuracyRule<Self> = |_| Accuracy::Exact;
    const SAMPLES: Samples<Self> = Samples::Made(|| complex_samples(Conjugate {}));

    fn infer(&self, operands: &[&TensorType]) -> Inferred {
        check_complex("C1", operands[0])?;
        Ok(vec![operands[0].clone()])
    }
}
