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

    fn infer(&self, operands: &[&TensorType]) -> Inferred {
        let (table, indices) = (operands[0], operands[1]);
        check_element_indices(["C1", "C2", "C3"], self.axis, table, indices)?;
        check_addressable("C4", &[table])?;
        Ok(vec![TensorType::new(table.dtype, indices.shape.clone())])
    }

    fn samples() -> Vec<Sample<Self>> {
        let sample = |table: &[usize], dtype, indices: &[usize], index_dtype, axis: usize| {
            let operands = [TensorType::new(dtype, table), TensorType::new(index_dtype, indices)];
            Sample::new(GatherElements { axis }, operands).fill(1, 0.0, table[axis] as f64)
        };
        vec![
            sample(&[5, 3], DType::F32, &[4, 3], DType::I64, 0),
            sample(&[2, 5, 3], DType::I8, &[2, 2, 3], DType::I32, 1),
            sample(&[3, 4], DType::BF16, &[2, 7], DType::U32, 1),
            sample(&[4], DType::Bool, &[9], DType::I64, 0),
            sample(&[3, 0], DType::F32, &[2, 0], DType::I64, 0),
            sample(&[0, 2], DType::F64, &[0, 2], DType::I64, 0),
        ]
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
