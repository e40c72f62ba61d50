//! `scatter_elements`: one index per element of the updates.

use crate::ops::prelude::*;

op! {
    /// `base`, in which each element of `updates` is combined with the element at its coordinate, the one
    /// along `axis` replaced by the index found there; in row-major order of the updates (ONNX
    /// `ScatterElements`, PyTorch `scatter_reduce`).
    ///
    /// (C1) `axis` is an axis of `base`, and `indices` has its rank.
    /// (C2) `indices` is i32, i64 or u32.
    /// (C3) Outside `axis`, no extent of `indices` is larger than that of `base`. What symbols leave open
    /// is checked when they are bound.
    /// (C4) `updates` has the shape of `indices`.
    /// (C5) `base` and `updates` have one dtype, which is not storage-only.
    /// (C6) `add` and `mul` take numbers; `min` and `max` take integers and floats.
    /// An index outside `[0, extent)` is a run-time fault. Half-precision sums accumulate in f32.
    scatter_elements: ScatterElements(base, indices, updates) -> y {
        /// The indexed axis.
        axis: usize,
        /// What an update does.
        kind: ScatterKind,
    }
}

impl OpSpec for ScatterElements {
    const MEANING: Meaning<Self> = Meaning::composite_with_eval(Self::decompose, Self::eval)
        .in_place()
        .checked(|op, types| vec![ValueRange::below(1, types[0].shape[op.axis].clone())]);
    const VJP: Vjp<Self> = Vjp::ViaDecomposition;
    const JVP: Jvp<Self> = Jvp::ViaDecomposition;
    const BATCH: Batch<Self> = Batch::Shift(|op, _| ScatterElements { axis: op.axis + 1, ..op.clone() });
    const ACCURACY: AccuracyRule<Self> = |op| op.kind.accuracy();
    const SAMPLES: Samples<Self> = Samples::Listed(&[
        "f32[4, 3], i64[5, 3] in [0, 4), f32[5, 3] {axis = 0, kind = none}",
        "i64[2, 3, 2], i32[2, 3, 1] in [0, 3), i64[2, 3, 1] {axis = 1}",
        "f32[4, 3], i64[5, 3] in [0, 4), f32[5, 3] {kind = add}",
        "i64[2, 3, 2], i32[2, 3, 1] in [0, 3), i64[2, 3, 1] {axis = 1, kind = add}",
        "f32[4, 3], i64[5, 3] in [0, 4), f32[5, 3] {kind = mul}",
        "i64[2, 3, 2], i32[2, 3, 1] in [0, 3), i64[2, 3, 1] {axis = 1, kind = mul}",
        "f32[4, 3], i64[5, 3] in [0, 4), f32[5, 3] {kind = min}",
        "i64[2, 3, 2], i32[2, 3, 1] in [0, 3), i64[2, 3, 1] {axis = 1, kind = min}",
        "f32[4, 3], i64[5, 3] in [0, 4), f32[5, 3] {kind = max}",
        "i64[2, 3, 2], i32[2, 3, 1] in [0, 3), i64[2, 3, 1] {axis = 1, kind = max}",
        "bool[5], u32[3] in [0, 5), bool[3]",
        "c64[2, 3], i64[2, 4] in [0, 3), c64[2, 4] {axis = 1, kind = add}",
        "f16[2, 3], i64[0, 3] in [0, 2), f16[0, 3] {kind = add}",
        "f32[3, 0], i64[2, 0] in [0, 3), f32[2, 0] {kind = max}",
    ]);

    fn infer(&self, operands: &[&TensorType]) -> Inferred {
        let (base, indices, updates) = (operands[0], operands[1], operands[2]);
        check_element_indices(["C1", "C2", "C3"], self.axis, base, indices)?;
        let fits = updates.shape == indices.shape;
        require!("C4", fits, "updates have shape {}, expected {}", updates.shape, indices.shape);
        self.kind.check("C5", "C6", base, updates)?;
        Ok(vec![base.clone()])
    }
}

impl ScatterElements {
    fn eval(&self, operands: &[&Literal]) -> Evaluated {
        let (base, indices, updates) = (operands[0], operands[1], operands[2]);
        let rows = read_values(self, operands, 1)?;
        self.kind.apply(base, updates, |index| {
            let mut target = index.to_vec();
            target[self.axis] = rows[row_major(indices.dims(), index)];
            row_major(base.dims(), &target)
        })
    }

    fn decompose(&self, g: &mut Graph, operands: &[Value]) -> Vec<Value> {
        let vectors = element_vectors(g, operands[1], self.axis);
        vec![g.scatter_nd(operands[0], vectors, operands[2], self.kind)]
    }
}
