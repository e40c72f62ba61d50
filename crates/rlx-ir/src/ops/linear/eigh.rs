//! `eigh`: eigenvalues and eigenvectors of Hermitian matrices.

use crate::ops::matrices::{
    RESIDUAL, batch_of, beside, by_lower_triangle, definite_samples, eval_matrices, inverse_gaps,
    on_diagonal, square, turning, unturned,
};
use crate::ops::prelude::*;

op! {
    /// `a v = v diag(w)` for each Hermitian matrix of `a`, of which the lower triangle is read: `w` holds the
    /// eigenvalues in ascending order, the columns of `v` unit eigenvectors, of each of which the first of the
    /// largest elements is real and positive.
    ///
    /// (C1) `a` is a batch of square matrices of `f32`, `f64`, `c64` or `c128`; `w` is real.
    /// The derivative of `v` exists where the eigenvalues differ. Source: NumPy's `linalg.eigh`, which leaves the
    /// signs open.
    eigh: Eigh(a) -> [w, v] {}
}

impl OpSpec for Eigh {
    const MEANING: Meaning<Self> = Meaning::primitive(|op, operands| eval_matrices(op.clone(), operands));
    // By all of `a`: `v (diag(dw) + f (v^H dv)) v^H`, `f` the inverse gaps between eigenvalues.
    const VJP: Vjp<Self> = Vjp::Rule(|_, g, given| {
        let (w, v) = (given.results[0], given.results[1]);
        let dtype = g.ty(v).dtype;
        let dw = given.cotangent_or_zeros(g, 0);
        let dw = beside(g, dw, dtype);
        let across = g.adjoint(v);
        let mut inner = on_diagonal(g, dw);
        if let Some(mut dv) = given.cotangents[1] {
            if dtype.is_complex() {
                let turning = turning(g, v, dv);
                dv = unturned(g, v, dv, turning);
            }
            let gaps = inverse_gaps(g, w);
            let gaps = g.cast_to(gaps, dtype);
            let turned = g.mm(across, dv);
            let turned = g.mul(turned, gaps);
            inner = g.add(inner, turned);
        }
        let left = g.mm(v, inner);
        let full = g.mm(left, across);
        Ok(vec![Some(by_lower_triangle(g, full))])
    });
    const JVP: Jvp<Self> = Jvp::DoubleVjp;
    const BATCH: Batch<Self> = Batch::Shift(|op, _| op.clone());
    const ACCURACY: AccuracyRule<Self> = |_| RESIDUAL;
    const SAMPLES: Samples<Self> = Samples::Made(|| definite_samples(Eigh {}));

    fn infer(&self, operands: &[&TensorType]) -> Inferred {
        let (lead, rows) = square("C1", operands[0])?;
        Ok(vec![batch_of(operands[0].dtype.real(), &lead, &[&rows]), operands[0].clone()])
    }
}
