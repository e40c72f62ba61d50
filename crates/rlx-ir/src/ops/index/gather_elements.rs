//! `gather_elements`: one index per element of the result.

use crate::ops::prelude::*;

op! {
    /// `y[..i..] = table[..indices[..i..]..]`: each result element replaces its coordinate along `axis` by
    /// the index found there (ONNX `GatherElements`, PyTorch `gather`).
    ///
    /// (C1) `axis` is an axis of `table`, and `indices` has its rank.
    /// (C2) `indices` is i32, i64 or u32.
    /// (C3) Outside `axis`, no extent of `indices` is larger than that of `table`. What symbols leave open
    /// is checked when they are bound.
    /// (C4) The table's dtype is not storage-only.
    /// An index outside `[0, extent)` is a run-time fault.
    gather_elements: GatherElements(table, indices) -> y {
        /// The indexed axis.
        axis: usize,
    }
}

impl OpSpec for GatherElements {
    const MEANING: Meaning<Self> = Meaning::composite_with_eval(Self::decompose, Self::eval)
        .checked(|op, types| vec![ValueRange::below(1, types[0].shape[op.axis].clone())]);
    const VJP: Vjp<Self> = Vjp::Rule(|op, g, given| {
        let zeros = g.zeros_like(given.operands[0]);
        let dx = g.scatter_elements(zeros, given.operands[1], given.cotangent(), op.axis, ScatterKind::Add);
        Ok(vec![Some(dx), None])
    });
    const JVP: Jvp<Self> = Jvp::Linear;
    const BATCH: Batch<Self> = Batch::Shift(|op, _| GatherElements { axis: op.axis + 1 });
    const ACCURACY: AccuracyRule<Self> = |_| Accuracy::Exact;
    const SAMPLES: Samples<Self> = Samples::Listed(&[
        "f32[5, 3], i64[4, 3] in [0, 5) {axis = 0}",
        "i8[2, 5, 3], i32[2, 2, 3] in [0, 5) {axis = 1}",
        "bf16[3, 4], u32[2, 7] in [0, 4) {axis = 1}",
        "bool[4], i64[9] in [0, 4)",
        "f32[3, 0], i64[2, 0] in [0, 3)",
        "f64[0, 2], i64[0, 2] in [0, 0)",
    ]);

    fn infer(&self, operands: &[&TensorType]) -> Inferred {
        let (table, indices) = (operands[0], operands[1]);
        check_element_indices(["C1", "C2", "C3"], self.axis, table, indices)?;
        check_addressable("C4", &[table])?;
        Ok(vec![TensorType::new(table.dtype, indices.shape.clone())])
    }
}

impl GatherElements {
    fn eval(&self, operands: &[&Literal]) -> Evaluated {
        let (table, indices) = (operands[0], operands[1]);
        let rows = read_values(self, operands, 1)?;
        select_elements(table, indices.dims(), |index| {
            let mut source = index.to_vec();
            source[self.axis] = rows[row_major(indices.dims(), index)];
            row_major(table.dims(), &source)
        })
    }

    fn decompose(&self, g: &mut Graph, operands: &[Value]) -> Vec<Value> {
        let vectors = element_vectors(g, operands[1], self.axis);
        vec![g.gather_nd(operands[0], vectors, 0usize)]
    }
}
