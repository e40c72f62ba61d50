//! `log_det`: logarithms of determinants.

use crate::ops::matrices::{
    RESIDUAL, batch_of, beside, definite_samples, eval_matrices, imaginary, inverse_adjoint, square,
};
use crate::ops::prelude::*;

op! {
    /// The sign of the determinant of each matrix of `a` (a complex number of magnitude 1, or 0), and the
    /// logarithm of its magnitude, which does not overflow; 0 and minus infinity for a singular matrix.
    ///
    /// (C1) `a` is a batch of square matrices of `f32`, `f64`, `c64` or `c128`; `log_abs` is real.
    /// The derivative is that of invertible matrices; with others it faults as `dense_solve` does.
    /// Source: NumPy's `linalg.slogdet`.
    log_det: LogDet(a) -> [sign, log_abs] {}
}

impl OpSpec for LogDet {
    const MEANING: Meaning<Self> = Meaning::primitive(|op, operands| eval_matrices(op.clone(), operands));
    // By `a`: the inverse transposed. A real sign does not change, a complex one turns.
    const VJP: Vjp<Self> = Vjp::Rule(|_, g, given| {
        let dtype = g.ty(given.results[0]).dtype;
        let factor = given.cotangent_or_zeros(g, 1);
        let mut factor = beside(g, factor, dtype);
        if let Some(dsign) = given.cotangents[0].filter(|_| dtype.is_complex()) {
            let sign = g.conjugate(given.results[0]);
            let product = g.mul(dsign, sign);
            let turn = g.imag(product);
            let turn = imaginary(g, turn);
            factor = g.add(factor, turn);
        }
        let inverse = inverse_adjoint(g, given.operands[0]);
        let factor = g.unsqueeze(factor, -1);
        let factor = g.unsqueeze(factor, -1);
        Ok(vec![Some(g.mul(inverse, factor))])
    });
    const JVP: Jvp<Self> = Jvp::DoubleVjp;
    const BATCH: Batch<Self> = Batch::Shift(|op, _| op.clone());
    const ACCURACY: AccuracyRule<Self> = |_| RESIDUAL;
    const SAMPLES: Samples<Self> = Samples::Made(|| definite_samples(LogDet {}));

    fn infer(&self, operands: &[&TensorType]) -> Inferred {
        let (lead, _) = square("C1", operands[0])?;
        let dtype = operands[0].dtype;
        Ok(vec![batch_of(dtype, &lead, &[]), batch_of(dtype.real(), &lead, &[])])
    }
}
