//! `qr`: orthogonal factors of matrices.

use crate::ops::matrices::{RESIDUAL, batch_of, eval_matrices, factor_samples, halved_lower, matrices};
use crate::ops::prelude::*;

op! {
    /// `a = q r` for each matrix [M, N] of `a`: `q` is [M, K] with orthonormal columns, `r` is [K, N], zero below
    /// its diagonal, which is real and not negative; K is the smaller of M and N.
    ///
    /// (C1) `a` is a batch of matrices of `f32`, `f64`, `c64` or `c128`.
    /// The derivative exists where the first K columns are independent. Source: NumPy's `linalg.qr`, which leaves
    /// the signs open.
    qr: Qr(a) -> [q, r] {}
}

impl OpSpec for Qr {
    const MEANING: Meaning<Self> = Meaning::primitive(|op, operands| eval_matrices(op.clone(), operands));
    const VJP: Vjp<Self> = Vjp::Rule(|_, g, given| {
        let (a, q, r) = (given.operands[0], given.results[0], given.results[1]);
        let ty = g.ty(a).clone();
        let (rows, columns) = (&ty.shape[ty.rank() - 2], &ty.shape[ty.rank() - 1]);
        let (dq, dr) = (given.cotangent_or_zeros(g, 0), given.cotangent_or_zeros(g, 1));
        let least = rows.minimum(columns);
        if least == *columns {
            return Ok(vec![Some(tall(g, [q, r, dq, dr]))]);
        }
        if least != *rows {
            return Err("it is not known whether there are more rows or more columns");
        }
        // The columns behind the square part are `q` times those of `r`.
        let rest = columns.clone() - rows.clone();
        let behind = |g: &mut Graph, x| g.narrow_at(x, -1, rows.clone(), rest.clone());
        let (right, dright) = (behind(g, a), behind(g, dr));
        let across = g.adjoint(dright);
        let more = g.mm(right, across);
        let dq = g.add(dq, more);
        let square = |g: &mut Graph, x| g.narrow_at(x, -1, 0, rows.clone());
        let (r, dr) = (square(g, r), square(g, dr));
        let dleft = tall(g, [q, r, dq, dr]);
        let dright = g.mm(q, dright);
        Ok(vec![Some(g.concat_at(&[dleft, dright], -1))])
    });
    const JVP: Jvp<Self> = Jvp::DoubleVjp;
    const BATCH: Batch<Self> = Batch::Shift(|op, _| op.clone());
    const ACCURACY: AccuracyRule<Self> = |_| RESIDUAL;
    const SAMPLES: Samples<Self> = Samples::Made(|| factor_samples(Qr {}));

    fn infer(&self, operands: &[&TensorType]) -> Inferred {
        let a = operands[0];
        let (lead, [rows, columns]) = matrices("C1", "a", a)?;
        let least = rows.minimum(&columns);
        Ok(vec![batch_of(a.dtype, &lead, &[&rows, &least]), batch_of(a.dtype, &lead, &[&least, &columns])])
    }
}

/// `(dq + q m) r^-H`, `m` the Hermitian matrix with the lower triangle of `r dr^H - dq^H q`.
fn tall(g: &mut Graph, [q, r, dq, dr]: [Value; 4]) -> Value {
    let dr = g.adjoint(dr);
    let first = g.mm(r, dr);
    let dq_across = g.adjoint(dq);
    let second = g.mm(dq_across, q);
    let m = g.sub(first, second);
    let halved = halved_lower(g, m);
    let upper = g.adjoint(halved);
    let m = g.add(halved, upper);
    let product = g.mm(q, m);
    let sum = g.add(dq, product);
    let sum = g.adjoint(sum);
    let solved = g.triangular_solve(r, sum, false, false, false);
    g.adjoint(solved)
}
