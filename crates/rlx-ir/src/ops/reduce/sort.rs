//! `sort`: the elements of each row in order.

use crate::ops::ordering::{check_ordered, map_rows, sorted_positions};
use crate::ops::prelude::*;

op! {
    /// The elements of each row of `x` along `axis` in ascending (`descending`) order.
    ///
    /// Stable: equal elements keep their order. NaN is above every number: last in ascending
    /// order, first in descending order.
    /// (C1) `axis` is an axis of `x`.
    /// (C2) `x` has a float or integer dtype.
    /// Source: NumPy sort; descending as PyTorch's sort.
    sort: Sort(x) -> y {
        /// Axis along which rows are sorted.
        axis: usize,
        /// Largest first?
        descending: bool,
    }
}

impl OpSpec for Sort {
    const MEANING: Meaning<Self> = Meaning::composite_with_eval(Self::decompose, Self::eval);
    const VJP: Vjp<Self> = Vjp::ViaDecomposition;
    const JVP: Jvp<Self> = Jvp::ViaDecomposition;
    const BATCH: Batch<Self> = Batch::Shift(|op, _| Sort { axis: op.axis + 1, ..op.clone() });
    const ACCURACY: AccuracyRule<Self> = |_| Accuracy::Exact;
    const SAMPLES: Samples<Self> = Samples::Listed(&[
        "f32[3, 7] {axis = 1, descending = false}",
        "f32[7, 3] {axis = 0, descending = true}",
        "i32[2, 9, 2] {descending = true}",
        "u8[17] {axis = 0}",
        "bf16[2, 5]",
        "f16[1] {axis = 0, descending = true}",
        "i64[2, 0]",
        "f64[0, 3] {descending = true}",
    ]);

    fn infer(&self, operands: &[&TensorType]) -> Inferred {
        check_axis("C1", self.axis, operands[0])?;
        check_ordered("C2", operands[0])?;
        Ok(vec![operands[0].clone()])
    }
}

impl Sort {
    fn decompose(&self, g: &mut Graph, operands: &[Value]) -> Vec<Value> {
        let extent = g.ty(operands[0]).shape[self.axis].clone();
        g.top_k(operands[0], extent, self.axis, self.descending, true, DType::I64)
            .into_iter()
            .take(1)
            .collect()
    }

    fn eval(&self, operands: &[&Literal]) -> Evaluated {
        let x = operands[0];
        map_rows(x, self.axis, x.dims()[self.axis], [x.dtype()], |row| {
            [sorted_positions(row, self.descending).into_iter().map(|position| row[position]).collect()]
        })
    }
}
