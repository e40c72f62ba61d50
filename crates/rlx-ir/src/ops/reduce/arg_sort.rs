//! `arg_sort`: the positions that put each row in order.

use crate::ops::ordering::{check_ordered, index_numbers, map_rows, sorted_positions};
use crate::ops::prelude::*;

op! {
    /// Positions along `axis` that put each row of `x` in ascending (`descending`) order.
    ///
    /// Stable: equal elements keep their order. NaN is above every number: last in ascending
    /// order, first in descending order.
    /// (C1) `axis` is an axis of `x`.
    /// (C2) `x` has a float or integer dtype.
    /// (C3) `dtype` is `i32`, `i64` or `u32`.
    /// Source: NumPy argsort; descending as PyTorch's argsort.
    arg_sort: ArgSort(x) -> y {
        /// Axis along which rows are sorted.
        axis: usize,
        /// Largest first?
        descending: bool,
        /// Dtype of the positions.
        dtype: DType,
    }
}

impl OpSpec for ArgSort {
    const MEANING: Meaning<Self> = Meaning::composite_with_eval(Self::decompose, Self::eval);
    const VJP: Vjp<Self> = Vjp::None("its results are discrete");
    const JVP: Jvp<Self> = Jvp::None("its results are discrete");
    const BATCH: Batch<Self> = Batch::Shift(|op, _| ArgSort { axis: op.axis + 1, ..op.clone() });
    const ACCURACY: AccuracyRule<Self> = |_| Accuracy::Exact;
    const SAMPLES: Samples<Self> = Samples::Listed(&[
        "f32[3, 7] {axis = 1, descending = false, dtype = i64}",
        "f32[7, 3] {axis = 0, descending = true, dtype = i32}",
        "i32[2, 9, 2] {descending = true, dtype = u32}",
        "u8[17] {axis = 0}",
        "bf16[2, 5] {dtype = i32}",
        "f16[1] {axis = 0, descending = true, dtype = i32}",
        "i64[2, 0]",
        "f64[0, 3] {descending = true}",
    ]);

    fn infer(&self, operands: &[&TensorType]) -> Inferred {
        check_axis("C1", self.axis, operands[0])?;
        check_ordered("C2", operands[0])?;
        let result = TensorType::new(self.dtype, operands[0].shape.clone());
        check_index_dtype("C3", "dtype", &result)?;
        Ok(vec![result])
    }
}

impl ArgSort {
    fn decompose(&self, g: &mut Graph, operands: &[Value]) -> Vec<Value> {
        let extent = g.ty(operands[0]).shape[self.axis].clone();
        g.top_k(operands[0], extent, self.axis, self.descending, true, self.dtype)
            .into_iter()
            .skip(1)
            .collect()
    }

    fn eval(&self, operands: &[&Literal]) -> Evaluated {
        let x = operands[0];
        map_rows(x, self.axis, x.dims()[self.axis], [self.dtype], |row| {
            [index_numbers(&sorted_positions(row, self.descending))]
        })
    }
}
