//! `cholesky`: the triangular root of positive definite matrices.

use crate::ops::matrices::{
    RESIDUAL, by_lower_triangle, definite_samples, eval_matrices, halved_lower, square,
};
use crate::ops::prelude::*;

op! {
    /// The lower triangular `l` with `a = l l^H`, its diagonal positive, for each Hermitian matrix of `a`, of
    /// which the lower triangle is read.
    ///
    /// A matrix that is not positive definite is a run-time fault that names it.
    /// (C1) `a` is a batch of square matrices of `f32`, `f64`, `c64` or `c128`.
    /// Source: LAPACK's `potrf`.
    cholesky: Cholesky(a) -> l {}
}

impl OpSpec for Cholesky {
    const MEANING: Meaning<Self> = Meaning::primitive(|op, operands| eval_matrices(op.clone(), operands));
    // With `p` the lower triangle of `l^H dl`, half of its diagonal: `l^-H p l^-1` by all of `a`.
    const VJP: Vjp<Self> = Vjp::Rule(|_, g, given| {
        let l = given.results[0];
        let across = g.adjoint(l);
        let product = g.mm(across, given.cotangent());
        let p = halved_lower(g, product);
        let left = g.triangular_solve(l, p, true, true, false);
        let left = g.adjoint(left);
        let full = g.triangular_solve(l, left, true, true, false);
        Ok(vec![Some(by_lower_triangle(g, full))])
    });
    const JVP: Jvp<Self> = Jvp::DoubleVjp;
    const BATCH: Batch<Self> = Batch::Shift(|op, _| op.clone());
    const ACCURACY: AccuracyRule<Self> = |_| RESIDUAL;
    const SAMPLES: Samples<Self> = Samples::Made(|| definite_samples(Cholesky {}));

    fn infer(&self, operands: &[&TensorType]) -> Inferred {
        square("C1", operands[0])?;
        Ok(vec![operands[0].clone()])
    }
}
