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

    fn infer(&self, operands: &[&TensorType]) -> Inferred {
        check_axis("C1", self.axis, operands[0])?;
        check_ordered("C2", operands[0])?;
        Ok(vec![operands[0].clone()])
    }

    fn samples() -> Vec<Sample<Self>> {
        let sample = |dims: &[usize], axis, descending, dtype| {
            Sample::new(Sort { axis, descending }, [TensorType::new(dtype, dims)])
        };
        vec![
            sample(&[3, 7], 1, false, DType::F32),
            sample(&[7, 3], 0, true, DType::F32),
            sample(&[2, 9, 2], 1, true, DType::I32),
            sample(&[17], 0, false, DType::U8),
            sample(&[2, 5], 1, false, DType::BF16),
            sample(&[1], 0, true, DType::F16),
            sample(&[2, 0], 1, false, DType::I64),
            sample(&[0, 3], 1, true, DType::F64),
        ]
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
