//! `dense_solve`: systems of linear equations.

use crate::ops::matrices::{RESIDUAL, eval_matrices, matrices, square};
use crate::ops::prelude::*;

op! {
    /// `x` with `a x = b` for each matrix of `a`; `b` is [.., N] or [.., N, K] behind the same leading extents.
    ///
    /// Elimination with partial pivoting; a matrix without a pivot is a run-time fault that names it.
    /// (C1) `a` is a batch of square matrices of `f32`, `f64`, `c64` or `c128`.
    /// (C2) `b` has the dtype of `a`.
    /// (C3) `b` has the leading extents of `a` and N rows; it has a rank less where its rows are numbers.
    /// Source: NumPy's `linalg.solve`.
    dense_solve: DenseSolve(a, b) -> x {}
}

impl OpSpec for DenseSolve {
    const MEANING: Meaning<Self> = Meaning::primitive(|op, operands| eval_matrices(op.clone(), operands));
    const VJP: Vjp<Self> = Vjp::Rule(|_, g, given| {
        let (a, x) = (given.operands[0], given.results[0]);
        let across = g.adjoint(a);
        let db = g.dense_solve(across, given.cotangent());
        let is_vector = g.ty(x).rank() < g.ty(a).rank();
        let [columns, rows] = [db, x].map(|value| if is_vector { g.unsqueeze(value, -1) } else { value });
        let rows = g.adjoint(rows);
        let product = g.mm(columns, rows);
        Ok(vec![Some(g.scaled(product, -1.0)), Some(db)])
    });
    const JVP: Jvp<Self> = Jvp::DoubleVjp;
    const BATCH: Batch<Self> = Batch::Shift(|op, _| op.clone());
    const ACCURACY: AccuracyRule<Self> = |_| RESIDUAL;
    const SAMPLES: Samples<Self> = Samples::Listed(&[
        "f32[4, 4] definite, f32[4, 2]",
        "f64[2, 3, 3] definite, f64[2, 3]",
        "f64[3, 3] definite, f64[3]",
        "f32[2, 1, 2, 2] definite, f32[2, 1, 2, 3]",
        "c64[3, 3] definite, c64[3, 1]",
        "c128[2, 2, 2] definite, c128[2, 2]",
        "f32[0, 0] definite, f32[0, 2]",
        "f64[2, 2] definite, f64[2, 0]",
        "f32[0, 2, 2] definite, f32[0, 2]",
    ]);

    fn infer(&self, operands: &[&TensorType]) -> Inferred {
        let (a, b) = (operands[0], operands[1]);
        let (_, rows) = square("C1", a)?;
        same_dtype("C2", operands)?;
        if b.rank() >= a.rank() {
            matrices("C3", "b", b)?;
        }
        let leading = a.rank() - 1;
        let fits = (leading..=leading + 1).contains(&b.rank())
            && b.shape.dims()[..leading] == a.shape.dims()[..leading]
            && b.shape[leading - 1] == rows;
        require!("C3", fits, "`a` is {a} and `b` is {b}");
        Ok(vec![b.clone()])
    }
}

impl Graph {
    /// [`DenseSolve`] under the name for batches, which it takes by shape.
    #[track_caller]
    pub fn batched_dense_solve(&mut self, a: Value, b: Value) -> Value {
        self.dense_solve(a, b)
    }
}
