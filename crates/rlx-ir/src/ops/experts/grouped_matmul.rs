//! `grouped_matmul`: each row times the matrix of its expert.

use crate::ops::prelude::*;

op! {
    /// `y[i, n] = sum_k x[i, k] w[expert[i], k, n]`: `x` is [M, K], `w` is [E, K, N], or [E, N, K] with `transpose_w`,
    /// and `expert` is [M]. A token that goes to several experts stands in several rows.
    ///
    /// (C1) `x` and `w` have one float dtype.
    /// (C2) `x` has rank 2, `w` rank 3, `expert` rank 1.
    /// (C3) The contracted extents agree, and `expert` has an entry per row.
    /// (C4) `expert` is i32, i64 or u32.
    /// An expert outside `[0, E)` is a run-time fault. Half-precision products accumulate in f32.
    grouped_matmul: GroupedMatMul(x, w, expert) -> y {
        /// Is `w` given as [E, N, K]?
        transpose_w: bool,
    }
}

impl GroupedMatMul {
    /// Contracted extent and columns of the weights `w`.
    fn weight_dims(&self, w: &TensorType) -> [Dim; 2] {
        let (k, n) = if self.transpose_w { (2, 1) } else { (1, 2) };
        [w.shape[k].clone(), w.shape[n].clone()]
    }
}

impl OpSpec for GroupedMatMul {
    const MEANING: Meaning<Self> = Meaning::composite_with_eval(Self::decompose, Self::eval)
        .checked(|_, types| vec![ValueRange::below(2, types[1].shape[0].clone())]);
    const VJP: Vjp<Self> = Vjp::Rule(|op, g, given| {
        let (x, w, expert, dy) = (given.operands[0], given.operands[1], given.operands[2], given.cotangent());
        let dx = g.grouped_matmul(dy, w, expert, !op.transpose_w);
        // Per expert, the rows of the others count as 0.
        let (ty, experts) = (g.ty(x).clone(), g.ty(w).shape[0].clone());
        let index = g.ty(expert).dtype;
        let all = g.iota(index, vec![experts, Dim::from(1)], 0usize);
        let is_own = g.compare_eq(all, expert);
        let is_own = g.unsqueeze(is_own, 2);
        let zero = g.scalar(ty.dtype, 0.0);
        let own = g.where_(is_own, x, zero);
        let dw = if op.transpose_w { g.matmul(dy, own, true, false) } else { g.matmul(own, dy, true, false) };
        Ok(vec![Some(dx), Some(dw), None])
    });
    const JVP: Jvp<Self> = Jvp::Multilinear;
    // A batch of rows and experts is more rows. One of weights has copies made by the decomposition.
    const BATCH: Batch<Self> = Batch::Rule(|op, g, given| {
        if given.is_batched[1] {
            return Err("the weights have a batch");
        }
        let expanded = |g: &mut Graph, index: usize| match given.is_batched[index] {
            true => given.operands[index],
            false => g.expand_batch(given.operands[index], given.size),
        };
        let (x, expert) = (expanded(g, 0), expanded(g, 2));
        let dims = g.ty(x).shape.dims().to_vec();
        let rows = dims[0].clone() * dims[1].clone();
        let x = g.reshape(x, vec![rows.clone(), dims[2].clone()]);
        let expert = g.reshape(expert, vec![rows]);
        let y = g.push(op.clone(), &[x, given.operands[1], expert]);
        let columns = g.try_ty(y).map_or(Dim::from(0), |ty| ty.shape[1].clone());
        Ok(vec![g.reshape(y, vec![dims[0].clone(), dims[1].clone(), columns])])
    });
    const ACCURACY: AccuracyRule<Self> = |_| Accuracy::Accumulated { terms: 256 };
    const SAMPLES: Samples<Self> = Samples::Listed(&[
        "f32[7, 4], f32[3, 4, 5], i64[7] in [0, 3) {transpose_w = false}",
        "f32[7, 4], f32[3, 5, 4], i32[7] in [0, 3) {transpose_w = true}",
        "f32[40, 33], f32[4, 18, 33], u32[40] in [0, 4) {transpose_w = true}",
        "f64[5, 3], f64[8, 3, 2], i32[5] in [0, 8)",
        "bf16[6, 8], bf16[2, 3, 8], i64[6] in [0, 2) {transpose_w = true}",
        "f16[3, 2], f16[1, 2, 4], i64[3] in [0, 1)",
        "f32[0, 3], f32[2, 3, 4], i64[0] in [0, 2)",
        "f32[2, 0], f32[2, 4, 0], i64[2] in [0, 2) {transpose_w = true}",
        "f32[2, 3], f32[2, 3, 0], i64[2] in [0, 2)",
    ]);

    fn infer(&self, operands: &[&TensorType]) -> Inferred {
        let (x, w, expert) = (operands[0], operands[1], operands[2]);
        same_dtype("C1", &operands[..2])?;
        float_like("C1", operands)?;
        for (name, ty, rank) in [("x", x, 2), ("w", w, 3), ("expert", expert, 1)] {
            require!("C2", ty.rank() == rank, "`{name}` is {ty}, expected rank {rank}");
        }
        let [k, n] = self.weight_dims(w);
        require!("C3", x.shape[1] == k, "contracted extents differ: {} and {k}", x.shape[1]);
        let (rows, found) = (&x.shape[0], &expert.shape[0]);
        require!("C3", rows == found, "{found} experts for {rows} rows");
        check_index_dtype("C4", "expert", expert)?;
        Ok(vec![TensorType::new(x.dtype, vec![rows.clone(), n])])
    }
}

impl GroupedMatMul {
    fn eval(&self, operands: &[&Literal]) -> Evaluated {
        let (x, w) = (operands[0], operands[1]);
        let experts = read_values(self, operands, 2)?;
        let (a, b, depth) = (x.to_f64s(), w.to_f64s(), x.dims()[1]);
        let columns = w.dims()[if self.transpose_w { 1 } else { 2 }];
        let mut results = vec![];
        for (row, &expert) in experts.iter().enumerate() {
            for column in 0..columns {
                let weight = |k| if self.transpose_w { [expert, column, k] } else { [expert, k, column] };
                let products = (0..depth).map(|k| a[row * depth + k] * b[row_major(w.dims(), &weight(k))]);
                results.push(Number::Float(products.sum()));
            }
        }
        Ok(vec![Literal::from_numbers(x.dtype(), &[experts.len(), columns], results)?])
    }

    /// Each row's own copy of its matrix; a backend with a kernel makes none.
    fn decompose(&self, g: &mut Graph, operands: &[Value]) -> Vec<Value> {
        let weights = g.gather(operands[1], operands[2], 0usize);
        let rows = g.unsqueeze(operands[0], 1);
        let y = g.matmul(rows, weights, false, self.transpose_w);
        vec![g.squeeze(y, 1)]
    }
}
