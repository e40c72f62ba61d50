//! `selective_scan`: the state-space recurrence of Mamba.

use crate::ops::prelude::*;

op! {
    /// `h = exp(delta a) h + delta b x` and `y = c h` along axis 1 of `x`: `x` and `delta` are [B, S, H], `a` is [H, N],
    /// `b` and `c` are [B, S, N], the state `h` is [B, H, N], from `initial` or zeros, and `y`, [B, S, H], sums over N.
    /// `d`, [H], adds `d x` to `y`, and then `z`, [B, S, H], scales it by `silu(z)`. The second result is the last state.
    ///
    /// (C1) `x` has a float dtype and rank 3, `a` rank 2.
    /// (C2) The other operands have these shapes and the dtype of `x`.
    /// Half precision computes in f32, but for the states given and taken. Source: the reference of Mamba's selective
    /// scan, with `delta` after its softplus.
    selective_scan: SelectiveScan(x, delta, a, b, c)[d, z, initial] -> [y, last] {}
}

impl OpSpec for SelectiveScan {
    const MEANING: Meaning<Self> = Meaning::composite(Self::decompose);
    const VJP: Vjp<Self> = Vjp::ViaDecomposition;
    const JVP: Jvp<Self> = Jvp::ViaDecomposition;
    const BATCH: Batch<Self> = Batch::ViaDecomposition;
    const ACCURACY: AccuracyRule<Self> = |_| Accuracy::Accumulated { terms: 512 };
    const SAMPLES: Samples<Self> = Samples::Listed(&[
        "f32[2, 4, 3], f32[2, 4, 3] in [0.1, 0.8), f32[3, 2] in [-1.5, -0.2), f32[2, 4, 2], f32[2, 4, 2]",
        "f32[1, 5, 2], f32[1, 5, 2] in [0.1, 0.8), f32[2, 3] in [-1.5, -0.2), f32[1, 5, 3], f32[1, 5, 3], \
         f32[2], f32[1, 5, 2], f32[1, 2, 3] {d = true, z = true, initial = true}",
        "f64[2, 3, 2], f64[2, 3, 2] in [0.1, 0.8), f64[2, 2] in [-1.5, -0.2), f64[2, 3, 2], f64[2, 3, 2], \
         f64[2], f64[2, 2, 2] {d = true, initial = true}",
        "bf16[1, 3, 2], bf16[1, 3, 2] in [0.1, 0.8), bf16[2, 2] in [-1.5, -0.2), bf16[1, 3, 2], bf16[1, 3, \
         2], bf16[1, 3, 2] {z = true}",
        "f32[2, 0, 3], f32[2, 0, 3] in [0.1, 0.8), f32[3, 2] in [-1.5, -0.2), f32[2, 0, 2], f32[2, 0, 2], \
         f32[3], f32[2, 0, 3], f32[2, 3, 2] {d = true, z = true, initial = true}",
    ]);

    fn infer(&self, operands: &[&TensorType]) -> Inferred {
        let (x, a) = (operands[0], operands[2]);
        let y = float_like("C1", &[x])?;
        require!("C1", x.rank() == 3 && a.rank() == 2, "`x` is {x} and `a` is {a}, expected ranks 3 and 2");
        let (batch, steps, width, n) = (&x.shape[0], &x.shape[1], &x.shape[2], &a.shape[1]);
        let given = |name| self.operand_index(name).map(|index| (name, operands[index]));
        check_type("C2", "`a`", a, x.dtype, [width, n])?;
        for (name, ty) in [("b", operands[3]), ("c", operands[4])] {
            check_type("C2", name, ty, x.dtype, [batch, steps, n])?;
        }
        for (name, ty) in [("delta", operands[1])].into_iter().chain(given("z")) {
            check_type("C2", name, ty, x.dtype, [batch, steps, width])?;
        }
        if let Some((name, d)) = given("d") {
            check_type("C2", name, d, x.dtype, [width])?;
        }
        let state = TensorType::new(x.dtype, vec![batch.clone(), width.clone(), n.clone()]);
        if let Some((name, ty)) = given("initial") {
            check_type("C2", name, ty, x.dtype, [batch, width, n])?;
        }
        Ok(y.into_iter().chain([state]).collect())
    }
}

impl SelectiveScan {
    fn decompose(&self, g: &mut Graph, operands: &[Value]) -> Vec<Value> {
        let (dtype, dims) = (g.ty(operands[0]).dtype, g.ty(operands[0]).shape.dims().to_vec());
        let wide: Vec<Value> = operands.iter().map(|&operand| g.accumulation_cast(operand)).collect();
        let given = |name| self.operand_index(name).map(|index| wide[index]);
        let (x, delta, a) = (wide[0], wide[1], wide[2]);
        let state = vec![dims[0].clone(), dims[2].clone(), g.ty(a).shape[1].clone()];
        let first = given("initial").unwrap_or_else(|| g.full(g.ty(a).dtype, state, 0.0));
        let input = g.mul(delta, x);
        let stacked = [delta, input, wide[3], wide[4]].map(|value| g.swap_axes(value, 0, 1));
        let results = g.scan_over(dims[1].clone(), false, [&[first], &[a], &stacked], |g, inputs| {
            let [h, a, delta, input, b, c] = inputs[..] else { return vec![] };
            let (delta, input) = (g.unsqueeze(delta, 2), g.unsqueeze(input, 2));
            let (b, c) = (g.unsqueeze(b, 1), g.unsqueeze(c, 1));
            let rate = g.mul(delta, a);
            let decay = g.exp(rate);
            let (kept, new) = (g.mul(decay, h), g.mul(input, b));
            let h = g.add(kept, new);
            let read = g.mul(h, c);
            vec![h, g.reduce(read, ReduceKind::Sum, vec![2], false)]
        });
        let mut y = g.swap_axes(results[1], 0, 1);
        if let Some(d) = given("d") {
            let through = g.mul(d, x);
            y = g.add(y, through);
        }
        if let Some(z) = given("z") {
            let gate = g.silu(z);
            y = g.mul(y, gate);
        }
        [y, results[0]].map(|value| g.cast_to(value, dtype)).to_vec()
    }
}
