//! `det`: determinants.

use crate::ops::matrices::{RESIDUAL, batch_of, definite_samples, eval_matrices, inverse_adjoint, square};
use crate::ops::prelude::*;

op! {
    /// The determinant of each matrix of `a`; that of a matrix without rows is 1.
    ///
    /// (C1) `a` is a batch of square matrices of `f32`, `f64`, `c64` or `c128`.
    /// The derivative is that of invertible matrices; with others it faults as `dense_solve` does.
    det: Det(a) -> y {}
}

impl OpSpec for Det {
    const MEANING: Meaning<Self> = Meaning::primitive(|op, operands| eval_matrices(op.clone(), operands));
    // By `a`: the determinant times the inverse, both conjugate, and that transposed.
    const VJP: Vjp<Self> = Vjp::Rule(|_, g, given| {
        let y = g.conjugated(given.results[0]);
        let factor = g.mul(y, given.cotangent());
        let inverse = inverse_adjoint(g, given.operands[0]);
        let factor = g.unsqueeze(factor, -1);
        let factor = g.unsqueeze(factor, -1);
        Ok(vec![Some(g.mul(inverse, factor))])
    });
    const JVP: Jvp<Self> = Jvp::DoubleVjp;
    const BATCH: Batch<Self> = Batch::Shift(|op, _| op.clone());
    const ACCURACY: AccuracyRule<Self> = |_| RESIDUAL;
    const SAMPLES: Samples<Self> = Samples::Made(|| definite_samples(Det {}));

    fn infer(&self, operands: &[&TensorType]) -> Inferred {
        let (lead, _) = square("C1", operands[0])?;
        Ok(vec![batch_of(operands[0].dtype, &lead, &[])])
    }
}
