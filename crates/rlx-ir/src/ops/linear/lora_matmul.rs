//! `lora_matmul`: a matrix product with a low-rank correction of its weight.

use crate::ops::prelude::*;

op! {
    /// `y = x w + scale (x a) b`; `x` is [.., M, K], `w` is [K, N], `a` is [K, R], `b` is [R, N] and
    /// `scale` one number. `w + a b` is never formed, so that adapters share `w`.
    ///
    /// With `adapter` [M], `x` is [M, K], and `a`, `b` and `scale` are those of E adapters, [E, ..]: row `i` takes the
    /// ones of `adapter[i]`. An adapter outside `[0, E)` is a run-time fault.
    ///
    /// (C1) `w` has rank 2; so have `a` and `b`, and one more with `adapter`.
    /// (C2) `x` and `w`, `x` and `a`, then `x a` and `b` satisfy the constraints of `matmul` (with `adapter` the latter
    /// two those of `grouped_matmul`).
    /// (C3) `w` and `b` have the same number of columns N.
    /// (C4) `scale` has the dtype of `x` and no axes, or that of the adapters.
    /// The rank R may be a symbol; with 0 there is no correction. The meaning is that of `matmul` and
    /// `binary` one after the other.
    lora_matmul: LoraMatMul(x, w, a, b, scale)[adapter] -> y {
        /// Are `w`, `a` and `b` given as [N, K], [R, K] and [N, R]?
        transpose_w: bool,
    }
}

impl OpSpec for LoraMatMul {
    const MEANING: Meaning<Self> = Meaning::composite(|op: &Self, g, operands| {
        let y = g.push(op.product(), &operands[..2]);
        let (correction, scale) = match operands.get(5) {
            Some(&adapter) => {
                let narrow = g.push(op.grouped(), &[operands[0], operands[2], adapter]);
                let scale = g.gather(operands[4], adapter, 0usize);
                (g.push(op.grouped(), &[narrow, operands[3], adapter]), g.unsqueeze(scale, -1))
            }
            None => {
                let narrow = g.push(op.product(), &[operands[0], operands[2]]);
                (g.push(op.product(), &[narrow, operands[3]]), operands[4])
            }
        };
        let scaled = g.mul(correction, scale);
        vec![g.add(y, scaled)]
    })
    .checked(|op, types| {
        let range = |index| ValueRange::below(index, types[2].shape[0].clone());
        op.operand_index("adapter").map(range).into_iter().collect()
    });
    const VJP: Vjp<Self> = Vjp::ViaDecomposition;
    const JVP: Jvp<Self> = Jvp::ViaDecomposition;
    const BATCH: Batch<Self> = Batch::ViaDecomposition;
    const ACCURACY: AccuracyRule<Self> = |_| Accuracy::Accumulated { terms: 256 };
    // Sums of one sign: what cancels shows the roundings on the way.
    const SAMPLES: Samples<Self> = Samples::Listed(&[
        "f32[6, 4], f32[4, 5], f32[3, 4, 2], f32[3, 2, 5], f32[3], i32[6] in [0, 3) \
         {transpose_w = false, adapter = true}",
        "f64[5, 4], f64[3, 4], f64[2, 1, 4], f64[2, 3, 1], f64[2], i32[5] in [0, 2) {transpose_w = true}",
        "bf16[3, 4] in [0.1, 1), bf16[4, 3] in [0.1, 1), bf16[4, 4, 2] in [0.1, 1), bf16[4, 2, 3] in [0.1, \
         1), bf16[4] in [0.1, 1), i32[3] in [0, 4)",
        "f32[0, 4], f32[4, 3], f32[1, 4, 2], f32[1, 2, 3], f32[1], i32[0] in [0, 1)",
        "f32[3, 4], f32[4, 5], f32[4, 2], f32[2, 5], f32[] {adapter = false}",
        "f32[2, 3, 4], f32[5, 4], f32[1, 4], f32[5, 1], f32[] {transpose_w = true, adapter = false}",
        "f64[3, 4], f64[4, 5], f64[4, 0], f64[0, 5], f64[] {adapter = false}",
        "bf16[1, 6], bf16[4, 6], bf16[3, 6], bf16[4, 3], bf16[] {transpose_w = true, adapter = false}",
        "f16[2, 4], f16[4, 3], f16[4, 2], f16[2, 3], f16[] {adapter = false}",
        "f32[0, 4], f32[4, 3], f32[4, 2], f32[2, 3], f32[] {adapter = false}",
        "f32[2, 0], f32[3, 0], f32[2, 0], f32[3, 2], f32[] {transpose_w = true, adapter = false}",
    ]);

    fn infer(&self, operands: &[&TensorType]) -> Inferred {
        let (x, w, a, b, scale) = (operands[0], operands[1], operands[2], operands[3], operands[4]);
        for (name, ty) in [("w", w), ("a", a), ("b", b)] {
            let rank = 2 + usize::from(self.adapter && name != "w");
            require!("C1", ty.rank() == rank, "`{name}` is {ty}, expected rank {rank}");
        }
        let relabel = |violation: Violation| Violation { constraint: "C2", ..violation };
        let product = |left: &TensorType, right| match operands.get(5) {
            Some(adapter) => self.grouped().infer(&[left, right, adapter]),
            None => self.product().infer(&[left, right]),
        };
        let y = self.product().infer(&[x, w]).map_err(relabel)?;
        let narrow = product(x, a).map_err(relabel)?;
        let correction = product(&narrow[0], b).map_err(relabel)?;
        let columns = |ty: &TensorType| ty.shape[ty.rank() - 1].clone();
        let (expected, found) = (columns(&y[0]), columns(&correction[0]));
        require!("C3", expected == found, "`w` has {expected} columns and `b` has {found}");
        let adapters = if self.adapter { &a.shape.dims()[..1] } else { &[] };
        require!("C1", !self.adapter || a.shape[0] == b.shape[0], "`a` is {a} and `b` is {b}");
        let number = TensorType::new(x.dtype, adapters.to_vec());
        require!("C4", *scale == number, "expected a scale of type {number}, found {scale}");
        Ok(y)
    }
}

impl LoraMatMul {
    fn grouped(&self) -> GroupedMatMul {
        GroupedMatMul { transpose_w: self.transpose_w }
    }

    fn product(&self) -> MatMul {
        MatMul { transpose_a: false, transpose_b: self.transpose_w }
    }
}
