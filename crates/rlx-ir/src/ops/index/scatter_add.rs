//! `scatter_add`: rows added to a table, the adjoint of `gather`.

use crate::ops::prelude::*;

op! {
    /// `base`, with `updates[a.., i.., b..]` added to `base[a.., indices[i..], b..]`. Updates of one element
    /// are added in row-major order of `i`.
    ///
    /// (C1) `axis` is an axis of `base`.
    /// (C2) `indices` is i32, i64 or u32.
    /// (C3) The shape of `updates` is `base[:axis] ++ indices ++ base[axis + 1:]`.
    /// (C4) `base` and `updates` have one dtype, which is not storage-only.
    /// (C5) The dtype is not `bool`.
    /// An index outside `[0, extent)` is a run-time fault. Half-precision sums accumulate in f32.
    scatter_add: ScatterAdd(base, indices, updates) -> y {
        /// The indexed axis.
        axis: usize,
    }
}

impl OpSpec for ScatterAdd {
    const MEANING: Meaning<Self> = Meaning::composite_with_eval(Self::decompose, Self::eval)
        .in_place()
        .checked(|op, types| vec![ValueRange::below(1, types[0].shape[op.axis].clone())]);
    const VJP: Vjp<Self> = Vjp::Rule(|op, g, given| {
        let dy = given.cotangent();
        Ok(vec![Some(dy), None, Some(g.gather(dy, given.operands[1], op.axis))])
    });
    const JVP: Jvp<Self> = Jvp::Linear;
    const BATCH: Batch<Self> = Batch::ViaDecomposition;
    const ACCURACY: AccuracyRule<Self> = |_| ScatterKind::Add.accuracy();
    const SAMPLES: Samples<Self> = Samples::Listed(&[
        "f32[4, 3], i64[6] in [0, 4), f32[6, 3] {axis = 0}",
        "f32[2, 3, 4], i32[2, 2] in [0, 3), f32[2, 2, 2, 4] {axis = 1}",
        "bf16[2, 3], u32[5] in [0, 3), bf16[2, 5] {axis = 1}",
        "i32[3, 2], i64[] in [0, 3), i32[2]",
        "c64[3, 2], i64[0] in [0, 3), c64[0, 2]",
        "f64[3, 0], i64[2] in [0, 3), f64[2, 0]",
    ]);

    fn infer(&self, operands: &[&TensorType]) -> Inferred {
        let (base, indices, updates) = (operands[0], operands[1], operands[2]);
        check_axis("C1", self.axis, base)?;
        check_index_dtype("C2", "indices", indices)?;
        let dims = base.shape.dims();
        let expected =
            Shape::from([&dims[..self.axis], indices.shape.dims(), &dims[self.axis + 1..]].concat());
        require!(
            "C3",
            updates.shape == expected,
            "updates have shape {}, expected {expected}",
            updates.shape
        );
        ScatterKind::Add.check("C4", "C5", base, updates)?;
        Ok(vec![base.clone()])
    }
}

impl ScatterAdd {
    fn eval(&self, operands: &[&Literal]) -> Evaluated {
        let (base, indices, updates) = (operands[0], operands[1], operands[2]);
        let (axis, rank) = (self.axis, indices.dims().len());
        let rows = read_values(self, operands, 1)?;
        ScatterKind::Add.apply(base, updates, |index| {
            let row = rows[row_major(indices.dims(), &index[axis..axis + rank])];
            row_major(base.dims(), &[&index[..axis], &[row], &index[axis + rank..]].concat())
        })
    }

    fn decompose(&self, g: &mut Graph, operands: &[Value]) -> Vec<Value> {
        let (base, updates) = (operands[0], operands[2]);
        let mut vectors = g.ty(operands[1]).shape.dims().to_vec();
        let index_axes: Vec<usize> = (self.axis..self.axis + vectors.len()).collect();
        vectors.push(1.into());
        let vectors = g.reshape(operands[1], vectors);
        let (front, back) = axes_to_front(&[self.axis], g.ty(base).rank());
        let (updates_front, _) = axes_to_front(&index_axes, g.ty(updates).rank());
        let (base, updates) = (g.transpose(base, front), g.transpose(updates, updates_front));
        let y = g.scatter_nd(base, vectors, updates, ScatterKind::Add);
        vec![g.transpose(y, back)]
    }
}
