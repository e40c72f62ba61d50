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
    const MEANING: Meaning<Self> = Meaning::primitive(Self::eval);
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

    fn samples() -> Vec<Sample<Self>> {
        let sample = |dims: &[usize], k: usize, axis, largest, sorted, dtype, of| {
            let op = TopK { k: Dim::from(k), axis, largest, sorted, dtype };
            Sample::new(op, [TensorType::new(of, dims)])
        };
        vec![
            sample(&[3, 7], 3, 1, true, true, DType::I64, DType::F32),
            sample(&[3, 7], 2, 0, false, true, DType::I32, DType::F32),
            sample(&[2, 9, 2], 4, 1, true, false, DType::I32, DType::I32),
            sample(&[11], 11, 0, false, true, DType::U32, DType::U8),
            sample(&[2, 5], 2, 1, false, false, DType::I64, DType::BF16),
            sample(&[1], 1, 0, true, true, DType::I32, DType::F16),
            sample(&[2, 3], 0, 1, true, true, DType::I64, DType::F64),
            sample(&[0, 3], 2, 1, true, true, DType::I64, DType::I64),
        ]
    }
}

impl TopK {
    fn eval(&self, operands: &[&Literal]) -> Evaluated {
        let x = operands[0];
        let extent = x.dims()[self.axis];
        let k = self.k.as_static().and_then(|k| usize::try_from(k).ok()).filter(|&k| k <= extent);
        let k = k.ok_or_else(|| {
            Fault(format!("k is {}, but axis {} of {} has {extent}", self.k, self.axis, x.ty()))
        })?;
        map_rows(x, self.axis, k, [x.dtype(), self.dtype], |row| {
            let mut positions = sorted_positions(row, self.largest);
            positions.truncate(k);
            if !self.sorted {
                positions.sort_unstable();
            }
            [positions.iter().map(|&position| row[position]).collect(), index_numbers(&positions)]
        })
    }
}
