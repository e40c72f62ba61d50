//! `svd`: singular values and vectors of matrices.

use crate::ops::matrices::{
    RESIDUAL, batch_of, beside, eval_matrices, factor_samples, imaginary, inverse_gaps, matrices,
    on_diagonal, turning, unturned,
};
use crate::ops::prelude::*;

op! {
    /// `a = u diag(s) vh` for each matrix [M, N] of `a`: `u` [M, K] and `vh` [K, N] have orthonormal columns and
    /// rows, `s` [K] descends and is not negative; K is the smaller of M and N. Of each column of `u` the first of
    /// the largest elements is real and positive.
    ///
    /// (C1) `a` is a batch of matrices of `f32`, `f64`, `c64` or `c128`; `s` is real.
    /// The derivative exists where the singular values differ and are positive. Source: NumPy's `linalg.svd`
    /// without full matrices, which leaves the signs open.
    svd: Svd(a) -> [u, s, vh] {}
}

impl OpSpec for Svd {
    const MEANING: Meaning<Self> = Meaning::primitive(|op, operands| eval_matrices(op.clone(), operands));
    const VJP: Vjp<Self> = Vjp::Rule(Self::vjp);
    const JVP: Jvp<Self> = Jvp::DoubleVjp;
    const BATCH: Batch<Self> = Batch::Shift(|op, _| op.clone());
    const ACCURACY: AccuracyRule<Self> = |_| RESIDUAL;
    const SAMPLES: Samples<Self> = Samples::Made(|| factor_samples(Svd {}));

    fn infer(&self, operands: &[&TensorType]) -> Inferred {
        let a = operands[0];
        let (lead, [rows, columns]) = matrices("C1", "a", a)?;
        let least = rows.minimum(&columns);
        let s = batch_of(a.dtype.real(), &lead, &[&least]);
        Ok(vec![batch_of(a.dtype, &lead, &[&rows, &least]), s, batch_of(a.dtype, &lead, &[&least, &columns])])
    }
}

impl Svd {
    fn vjp(&self, g: &mut Graph, given: Backward<'_>) -> Derivatives {
        let &[u, s, vh] = given.results else { return Err("it has three results") };
        let dtype = g.ty(u).dtype;
        let squares = g.mul(s, s);
        let gaps = inverse_gaps(g, squares);
        let gaps = g.cast_to(gaps, dtype);
        let whole = g.cast_to(s, dtype);
        let (row, column) = (g.unsqueeze(whole, -2), g.unsqueeze(whole, -1));
        let v = g.adjoint(vh);
        let mut du = given.cotangents[0];
        let dv = given.cotangents[2].map(|dvh| g.adjoint(dvh));
        let ds = given.cotangent_or_zeros(g, 1);
        let ds = beside(g, ds, dtype);
        let mut inner = on_diagonal(g, ds);
        if dtype.is_complex() {
            // A turn of a column of `u` turns that of `v`; what is left of one of `v` is the phase of `u^H da v`.
            let of_u = given.cotangent_or_zeros(g, 0);
            let mut turn = turning(g, u, of_u);
            if let Some(dv) = dv {
                let other = turning(g, v, dv);
                turn = g.add(turn, other);
                let shape = g.ty(s).shape.clone();
                let left = g.reshape(other, shape);
                let left = g.div(left, s);
                let left = imaginary(g, left);
                let left = on_diagonal(g, left);
                inner = g.add(inner, left);
            }
            du = Some(unturned(g, u, of_u, turn));
        }
        // What leaves the spaces of `u` and `v`: one term with `vh` on its right, one with `u` on its left.
        let (mut beside_u, mut beside_v) = (None, None);
        if let Some(du) = du {
            let turned = twisted(g, u, du, gaps);
            let turned = g.mul(turned, row);
            inner = g.add(inner, turned);
            beside_u = Some(outside(g, u, du, row));
        }
        if let Some(dv) = dv {
            let turned = twisted(g, v, dv, gaps);
            let turned = g.mul(turned, column);
            inner = g.add(inner, turned);
            let outside = outside(g, v, dv, row);
            beside_v = Some(g.adjoint(outside));
        }
        let left = g.mm(u, inner);
        let left = beside_u.map_or(left, |more| g.add(left, more));
        let mut da = g.mm(left, vh);
        if let Some(more) = beside_v {
            let more = g.mm(u, more);
            da = g.add(da, more);
        }
        Ok(vec![Some(da)])
    }
}

/// `x^H dx` minus its adjoint, times `gaps`.
fn twisted(g: &mut Graph, x: Value, dx: Value, gaps: Value) -> Value {
    let across = g.adjoint(x);
    let product = g.mm(across, dx);
    let mirrored = g.adjoint(product);
    let difference = g.sub(product, mirrored);
    g.mul(difference, gaps)
}

/// `(1 - x x^H) dx / s`.
fn outside(g: &mut Graph, x: Value, dx: Value, s: Value) -> Value {
    let divided = g.div(dx, s);
    let across = g.adjoint(x);
    let inside = g.mm(across, divided);
    let inside = g.mm(x, inside);
    g.sub(divided, inside)
}
