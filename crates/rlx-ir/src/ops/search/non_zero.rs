//! `non_zero`: where elements are not zero.

use crate::ops::prelude::*;

op! {
    /// Coordinates of the elements of `x` that are not zero, in row-major order: `indices` [limit, rank], and how
    /// many there are, which may be more than `limit`. Rows behind the last hold -1.
    ///
    /// (C1) `x` has rank 1 or more and is not storage-only.
    /// (C2) `dtype` is `i32` or `i64`.
    /// (C3) `limit` is not negative.
    /// Source: NumPy's `argwhere`, ONNX `NonZero` transposed.
    non_zero: NonZero(x) -> [indices, count] {
        /// Rows of `indices`: with the number of elements of `x`, all find room.
        limit: Dim,
        /// Dtype of the results.
        dtype: DType,
    }
}

impl OpSpec for NonZero {
    const MEANING: Meaning<Self> = Meaning::composite(|op, g, operands| {
        let shape = g.ty(operands[0]).shape.clone();
        let count = shape.num_elements();
        let found = g.cast_to(operands[0], DType::Bool);
        let found = g.reshape(found, vec![count.clone()]);
        let coordinates: Vec<Value> = (0..shape.rank())
            .map(|axis| {
                let along = g.iota(op.dtype, shape.clone(), axis);
                g.reshape(along, vec![count.clone(), Dim::from(1)])
            })
            .collect();
        let coordinates = g.concat(&coordinates, 1usize);
        let ones = g.cast(found, op.dtype);
        let place = g.cumsum(ones, 0usize, true, false);
        let indices = pack_rows(g, coordinates, found, place, &op.limit, -1.0);
        vec![indices, g.reduce(ones, ReduceKind::Sum, vec![0], false)]
    });
    const VJP: Vjp<Self> = Vjp::None("its results are discrete");
    const JVP: Jvp<Self> = Jvp::None("its results are discrete");
    const BATCH: Batch<Self> = Batch::ViaDecomposition;
    const ACCURACY: AccuracyRule<Self> = |_| Accuracy::Exact;
    const SAMPLES: Samples<Self> = Samples::Listed(&[
        "bool[3, 4] {limit = 12, dtype = i64}",
        "i32[7] in [-1, 2) {limit = 3, dtype = i32}",
        "u8[2, 2, 3] in [0, 2) {limit = 20, dtype = i32}",
        "f32[5] {limit = 5}",
        "bool[4] {limit = 0}",
        "f64[0, 3] {limit = 2, dtype = i32}",
    ]);

    fn infer(&self, operands: &[&TensorType]) -> Inferred {
        let x = operands[0];
        require!("C1", x.rank() > 0, "expected rank 1 or more, found {x}");
        check_addressable("C1", operands)?;
        let legal = matches!(self.dtype, DType::I32 | DType::I64);
        require!("C2", legal, "expected i32 or i64, found {}", self.dtype);
        check_not_negative("C3", "limit", &self.limit)?;
        let indices = TensorType::new(self.dtype, vec![self.limit.clone(), Dim::from(x.rank())]);
        Ok(vec![indices, TensorType::new(self.dtype, Shape::scalar())])
    }
}
