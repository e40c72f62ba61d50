//! `top_k`: the largest or smallest elements of each row, and where they stand.

use crate::ops::ordering::{check_ordered, index_numbers, map_rows, sorted_positions};
use crate::ops::prelude::*;

op! {
    /// The `k` largest (smallest) elements of each row of `x` along `axis`, and their positions.
    ///
    /// Of equal elements the one with the smaller position is taken first. NaN is above every
    /// number: first among the largest, last among the smallest. With `sorted` the elements come
    /// best first; without it, by position. With `k` the whole extent this is a stable sort.
    /// (C1) `axis` is an axis of `x`.
    /// (C2) `x` has a float or integer dtype.
    /// (C3) `0 <= k <= n`, the extent of the axis; what only run time knows is checked then.
    /// (C4) `dtype` is `i32`, `i64` or `u32`.
    /// Source: ONNX TopK, with the order of NumPy.
    top_k: TopK(x) -> [values, indices] {
        /// How many elements per row.
        k: Dim,
        /// Axis that is searched.
        axis: usize,
        /// Largest, or smallest?
        largest: bool,
        /// Best first, or by position?
        sorted: bool,
        /// Dtype of the positions.
        dtype: DType,
    }
}

impl OpSpec for TopK {
    const MEANING: Meaning<Self> = Meaning::primitive(|op, operands| {
        let x = operands[0];
        let extent = x.dims()[op.axis];
        let k = op.k.as_static().and_then(|k| usize::try_from(k).ok()).filter(|&k| k <= extent);
        let k = k.ok_or_else(|| {
            Fault(format!("k is {}, but axis {} of {} has {extent}", op.k, op.axis, x.ty()))
        })?;
        map_rows(x, op.axis, k, [x.dtype(), op.dtype], |row| {
            let mut positions = sorted_positions(row, op.largest);
            positions.truncate(k);
            if !op.sorted {
                positions.sort_unstable();
            }
            [positions.iter().map(|&position| row[position]).collect(), index_numbers(&positions)]
        })
    });
    const VJP: Vjp<Self> = Vjp::Rule(|op, g, given| {
        let zeros = g.zeros_like(given.operands[0]);
        let dx = g.scatter_elements(zeros, given.results[1], given.cotangent(), op.axis, ScatterKind::Add);
        Ok(vec![Some(dx)])
    });
    const JVP: Jvp<Self> = Jvp::Rule(|op, g, given| {
        let values = given.tangents[0].map(|tangent| g.gather_elements(tangent, given.results[1], op.axis));
        Ok(vec![values, None])
    });
    const BATCH: Batch<Self> = Batch::Shift(|op, _| TopK { axis: op.axis + 1, ..op.clone() });
    const ACCURACY: AccuracyRule<Self> = |_| Accuracy::Exact;
    const SAMPLES: Samples<Self> = Samples::Listed(&[
        "f32[3, 7] {k = 3, axis = 1, largest = true, sorted = true, dtype = i64}",
        "f32[3, 7] {k = 2, axis = 0, largest = false, dtype = i32}",
        "i32[2, 9, 2] {k = 4, sorted = false, dtype = i32}",
        "u8[11] {k = 11, axis = 0, largest = false, dtype = u32}",
        "bf16[2, 5] {k = 2, largest = false, sorted = false}",
        "f16[1] {k = 1, axis = 0, dtype = i32}",
        "f64[2, 3] {k = 0}",
        "i64[0, 3] {k = 2}",
    ]);

    fn infer(&self, operands: &[&TensorType]) -> Inferred {
        let x = operands[0];
        check_axis("C1", self.axis, x)?;
        check_ordered("C2", x)?;
        let extent = &x.shape[self.axis];
        let left = extent.clone() - self.k.clone();
        require!("C3", self.k.as_static().is_none_or(|k| k >= 0), "k is {}, which is negative", self.k);
        require!(
            "C3",
            left.as_static().is_none_or(|left| left >= 0),
            "k is {}, but axis {} has {extent}",
            self.k,
            self.axis
        );
        let mut dims = x.shape.dims().to_vec();
        dims[self.axis] = self.k.clone();
        let shape = Shape::from(dims);
        let indices = TensorType::new(self.dtype, shape.clone());
        check_index_dtype("C4", "dtype", &indices)?;
        Ok(vec![TensorType::new(x.dtype, shape), indices])
    }
}
