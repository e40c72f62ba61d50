//! `gated_delta_net`: linear attention whose state forgets and is corrected.

use crate::ops::prelude::*;

op! {
    /// Along axis 1: the state `S` becomes `e^gate S`, then `S + k d^T` with `d = beta (v - S^T k)`; `y = S^T q / sqrt(N)`.
    /// `q` and `k` are [B, S, H, N], `v` is [B, S, H, M], `gate`, the logarithm of what is kept, and `beta` are
    /// [B, S, H], the state is [B, H, N, M]; `y` is as `v`, and the second result is the last state.
    ///
    /// (C1) `q` has a float dtype and rank 4; so has `v`.
    /// (C2) The other operands have these shapes and the dtype of `q`.
    /// (C3) `N` is static and not 0.
    /// Half precision computes in f32. Source: the recurrent form of Gated Delta Networks.
    gated_delta_net: GatedDeltaNet(q, k, v, gate, beta, state) -> [y, last] {}
}

impl OpSpec for GatedDeltaNet {
    const MEANING: Meaning<Self> = Meaning::composite(Self::decompose);
    const VJP: Vjp<Self> = Vjp::ViaDecomposition;
    const JVP: Jvp<Self> = Jvp::ViaDecomposition;
    const BATCH: Batch<Self> = Batch::ViaDecomposition;
    const ACCURACY: AccuracyRule<Self> = |_| Accuracy::Accumulated { terms: 512 };
    const SAMPLES: Samples<Self> = Samples::Listed(&[
        "f32[2, 4, 1, 3], f32[2, 4, 1, 3] in [-0.5, 0.5), f32[2, 4, 1, 2], f32[2, 4, 1] in [-1, 0), f32[2, \
         4, 1] in [0.1, 0.9), f32[2, 1, 3, 2]",
        "f64[1, 3, 2, 2], f64[1, 3, 2, 2] in [-0.5, 0.5), f64[1, 3, 2, 2], f64[1, 3, 2] in [-1, 0), f64[1, \
         3, 2] in [0.1, 0.9), f64[1, 2, 2, 2]",
        "bf16[1, 2, 1, 4], bf16[1, 2, 1, 4] in [-0.5, 0.5), bf16[1, 2, 1, 4], bf16[1, 2, 1] in [-1, 0), \
         bf16[1, 2, 1] in [0.1, 0.9), bf16[1, 1, 4, 4]",
        "f32[1, 0, 2, 3], f32[1, 0, 2, 3] in [-0.5, 0.5), f32[1, 0, 2, 3], f32[1, 0, 2] in [-1, 0), f32[1, \
         0, 2] in [0.1, 0.9), f32[1, 2, 3, 3]",
    ]);

    fn infer(&self, operands: &[&TensorType]) -> Inferred {
        let [q, k, v, gate, beta, state] = operands[..] else { return Ok(vec![]) };
        float_like("C1", &[q])?;
        require!("C1", q.rank() == 4 && v.rank() == 4, "`q` is {q} and `v` is {v}, expected rank 4");
        let [batch, steps, heads, n] = [0, 1, 2, 3].map(|axis| &q.shape[axis]);
        let m = &v.shape[3];
        check_type("C2", "`k`", k, q.dtype, [batch, steps, heads, n])?;
        check_type("C2", "`v`", v, q.dtype, [batch, steps, heads, m])?;
        check_type("C2", "`gate`", gate, q.dtype, [batch, steps, heads])?;
        check_type("C2", "`beta`", beta, q.dtype, [batch, steps, heads])?;
        check_type("C2", "`state`", state, q.dtype, [batch, heads, n, m])?;
        require!(
            "C3",
            n.as_static().is_some_and(|n| n > 0),
            "the extent of the keys is {n}, expected a number above 0"
        );
        Ok(vec![v.clone(), state.clone()])
    }
}

impl GatedDeltaNet {
    fn decompose(&self, g: &mut Graph, operands: &[Value]) -> Vec<Value> {
        let dtype = g.ty(operands[0]).dtype;
        let wide: Vec<Value> = operands.iter().map(|&operand| g.accumulation_cast(operand)).collect();
        let dims: Vec<Dim> = g.ty(wide[0]).shape.dims().to_vec();
        let kept = g.exp(wide[3]);
        let stacked = [wide[0], wide[1], wide[2], kept, wide[4]].map(|value| g.swap_axes(value, 0, 1));
        let results = g.scan_over(dims[1].clone(), false, [&wide[5..], &[], &stacked], |g, inputs| {
            let [state, q, k, v, kept, beta] = inputs[..] else { return vec![] };
            let [q, k] = [q, k].map(|row| g.unsqueeze(row, -1));
            // S^T x for x [B, H, N, 1] gives [B, H, M].
            let read = |g: &mut Graph, state: Value, x: Value| {
                let product = g.matmul(state, x, true, false);
                g.squeeze(product, -1)
            };
            let [kept, beta] = [kept, beta].map(|gate| g.unsqueeze(gate, -1));
            let kept = g.unsqueeze(kept, -1);
            let state = g.mul(kept, state);
            let known = read(g, state, k);
            let wrong = g.sub(v, known);
            let change = g.mul(beta, wrong);
            let change = g.unsqueeze(change, -2);
            let update = g.mul(k, change);
            let state = g.add(state, update);
            vec![state, read(g, state, q)]
        });
        let y = g.swap_axes(results[1], 0, 1);
        let n = dims[3].as_static().unwrap_or(1) as f64;
        let scale = g.scalar(g.ty(y).dtype, 1.0 / n.sqrt());
        let y = g.mul(y, scale);
        [y, results[0]].map(|value| g.cast_to(value, dtype)).to_vec()
    }
}
