//! `triangular_solve`: systems of linear equations that are solved one by one.

use crate::ops::matrices::{RESIDUAL, eval_matrices, matrices, square};
use crate::ops::prelude::*;

op! {
    /// `x` with `a x = b` (or `a^H x = b`) for each matrix of `a`, of which one triangle is read; `b` is
    /// [.., N, K].
    ///
    /// A zero on the diagonal is a run-time fault that names the matrix.
    /// (C1) `a` is a batch of square matrices of `f32`, `f64`, `c64` or `c128`.
    /// (C2) `b` has the dtype of `a`.
    /// (C3) `b` has the leading extents of `a` and N rows.
    /// Source: StableHLO's `triangular_solve`, on the left side.
    triangular_solve: TriangularSolve(a, b) -> x {
        /// The lower triangle, or the upper one?
        lower: bool,
        /// With the conjugate transpose of the triangle?
        adjoint: bool,
        /// Ones on the diagonal, whatever stands there?
        unit_diagonal: bool,
    }
}

impl OpSpec for TriangularSolve {
    const MEANING: Meaning<Self> = Meaning::primitive(|op, operands| eval_matrices(op.clone(), operands));
    const VJP: Vjp<Self> = Vjp::Rule(|op, g, given| {
        let (a, x) = (given.operands[0], given.results[0]);
        let back = TriangularSolve { adjoint: !op.adjoint, ..op.clone() };
        let db = g.push(back, &[a, given.cotangent()]);
        let (left, right) = if op.adjoint { (x, db) } else { (db, x) };
        let right = g.adjoint(right);
        let product = g.mm(left, right);
        let rank = g.ty(a).rank();
        let beside = i64::from(op.unit_diagonal);
        let diagonal = if op.lower { -beside } else { beside };
        let part = g.trilu(product, !op.lower, diagonal, rank - 2, rank - 1);
        Ok(vec![Some(g.scaled(part, -1.0)), Some(db)])
    });
    const JVP: Jvp<Self> = Jvp::DoubleVjp;
    const BATCH: Batch<Self> = Batch::Shift(|op, _| op.clone());
    const ACCURACY: AccuracyRule<Self> = |_| RESIDUAL;
    const SAMPLES: Samples<Self> = Samples::Listed(&[
        "f32[4, 4] definite, f32[4, 2] {lower = true, adjoint = false, unit_diagonal = false}",
        "f64[2, 3, 3] definite, f64[2, 3, 1] {lower = false}",
        "f64[3, 3] definite, f64[3, 2] {adjoint = true}",
        "f32[3, 3], f32[3, 4] {lower = false, adjoint = true, unit_diagonal = true}",
        "f64[3, 3], f64[3, 2] {unit_diagonal = true}",
        "c64[3, 3] definite, c64[3, 2] {adjoint = true}",
        "c128[2, 2, 2] definite, c128[2, 2, 1] {lower = false}",
        "f32[0, 0] definite, f32[0, 2]",
        "f64[2, 2] definite, f64[2, 0] {lower = false, adjoint = true}",
    ]);

    fn infer(&self, operands: &[&TensorType]) -> Inferred {
        let (a, b) = (operands[0], operands[1]);
        let (lead, rows) = square("C1", a)?;
        same_dtype("C2", operands)?;
        let (lead_b, [rows_b, _]) = matrices("C3", "b", b)?;
        require!("C3", lead == lead_b && rows == rows_b, "`a` is {a} and `b` is {b}");
        Ok(vec![b.clone()])
    }
}
