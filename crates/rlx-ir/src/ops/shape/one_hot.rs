//! `one_hot`: indices as unit vectors.

use crate::ops::prelude::*;

op! {
    /// A new axis of extent `depth` at `axis`, along which the element at the index is 1 and the rest are
    /// 0. An index outside `[0, depth)` gives only zeros (ONNX `OneHot`).
    ///
    /// (C1) `indices` is i32, i64 or u32.
    /// (C2) `axis` is an axis of the result.
    /// (C3) `depth` is not negative.
    /// (C4) `dtype` is not storage-only.
    one_hot: OneHot(indices) -> y {
        /// Extent of the new axis.
        depth: Dim,
        /// Position of the new axis in the result.
        axis: usize,
        /// Dtype of the result.
        dtype: DType,
    }
}

impl OpSpec for OneHot {
    const MEANING: Meaning<Self> = Meaning::composite(|op, g, operands| {
        let ty = g.ty(operands[0]).clone();
        let mut dims = ty.shape.into_dims();
        dims.insert(op.axis, Dim::from(1));
        let mut counter = vec![Dim::from(1); dims.len()];
        counter[op.axis] = op.depth.clone();
        let indices = g.reshape(operands[0], dims);
        let counter = g.iota(ty.dtype, counter, op.axis);
        let hot = g.compare(indices, counter, CompareKind::Eq);
        vec![g.cast_to(hot, op.dtype)]
    });
    const VJP: Vjp<Self> = Vjp::None("its operands are integers");
    const JVP: Jvp<Self> = Jvp::None("its operands are integers");
    const BATCH: Batch<Self> = Batch::Shift(|op, _| OneHot { axis: op.axis + 1, ..op.clone() });
    const ACCURACY: AccuracyRule<Self> = |_| Accuracy::Exact;
    const SAMPLES: Samples<Self> = Samples::Listed(&[
        "i64[4] in [0, 6) {depth = 5, axis = 1, dtype = f32}",
        "i32[4] in [0, 4) {depth = 3, axis = 0, dtype = bool}",
        "u32[2, 3] in [0, 5) {depth = 4, dtype = bf16}",
        "i64[] in [0, 4) {depth = 3, axis = 0, dtype = i32}",
        "i64[2] in [0, 1) {depth = 0, dtype = f64}",
        "i64[0, 2] in [0, 4) {depth = 3, axis = 2, dtype = u8}",
    ]);

    fn infer(&self, operands: &[&TensorType]) -> Inferred {
        let indices = operands[0];
        check_index_dtype("C1", "indices", indices)?;
        let rank = indices.rank();
        require!(
            "C2",
            self.axis <= rank,
            "axis {} is out of range for a result of rank {}",
            self.axis,
            rank + 1
        );
        check_not_negative("C3", "depth", &self.depth)?;
        require!("C4", !self.dtype.is_storage_only(), "the result cannot be {}", self.dtype);
        let mut dims = indices.shape.dims().to_vec();
        dims.insert(self.axis, self.depth.clone());
        Ok(vec![TensorType::new(self.dtype, Shape::from(dims))])
    }
}
