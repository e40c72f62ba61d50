//! `unique`: the distinct elements.

use crate::ops::ordering::check_ordered;
use crate::ops::prelude::*;

op! {
    /// The distinct ones of the N elements of `x` in ascending order.
    ///
    /// `values` [N] holds them, then zeros; `indices` [N] where each stands first among the elements in row-major
    /// order, then -1; `counts` [N] how often, then 0; `inverse` [N] which of the values each element is; `count` how
    /// many there are. All NaN are one value, the last; so are both zeros.
    /// (C1) `x` has a float or integer dtype.
    /// (C2) `dtype` is `i32` or `i64`.
    /// Source: ONNX `Unique`, sorted, without an axis; NumPy's `unique`.
    unique: Unique(x) -> [values, indices, inverse, counts, count] {
        /// Dtype of all results but the values.
        dtype: DType,
    }
}

impl OpSpec for Unique {
    const MEANING: Meaning<Self> = Meaning::composite(Self::decompose);
    const VJP: Vjp<Self> = Vjp::ViaDecomposition;
    const JVP: Jvp<Self> = Jvp::ViaDecomposition;
    const BATCH: Batch<Self> = Batch::ViaDecomposition;
    const ACCURACY: AccuracyRule<Self> = |_| Accuracy::Exact;
    const SAMPLES: Samples<Self> = Samples::Listed(&[
        "i32[12] {dtype = i64}",
        "u8[3, 4] {dtype = i32}",
        "f32[5]",
        "f64[4] {dtype = i32}",
        "i64[]",
        "f16[0, 2] {dtype = i32}",
    ]);

    fn infer(&self, operands: &[&TensorType]) -> Inferred {
        let x = operands[0];
        check_ordered("C1", x)?;
        let legal = matches!(self.dtype, DType::I32 | DType::I64);
        require!("C2", legal, "expected i32 or i64, found {}", self.dtype);
        let row = |dtype| TensorType::new(dtype, vec![x.shape.num_elements()]);
        let positions = row(self.dtype);
        let count = TensorType::new(self.dtype, Shape::scalar());
        Ok(vec![row(x.dtype), positions.clone(), positions.clone(), positions, count])
    }
}

impl Unique {
    fn decompose(&self, g: &mut Graph, operands: &[Value]) -> Vec<Value> {
        let ty = g.ty(operands[0]).clone();
        let count = ty.shape.num_elements();
        let row = vec![count.clone()];
        let x = g.reshape(operands[0], row.clone());
        let order = g.arg_sort(x, 0usize, false, self.dtype);
        let sorted = g.gather(x, order, 0usize);
        let previous = g.roll(sorted, vec![0], vec![Dim::from(1)]);
        let mut is_new = g.compare_ne(sorted, previous);
        if ty.dtype.is_float() {
            let (a, b) = (g.compare_eq(sorted, sorted), g.compare_eq(previous, previous));
            let number = g.or(a, b);
            is_new = g.and(is_new, number);
        }
        let at = g.iota(self.dtype, row.clone(), 0usize);
        let zero = g.scalar(self.dtype, 0.0);
        let is_first = g.compare_eq(at, zero);
        let is_new = g.or(is_new, is_first);
        let ones = g.cast(is_new, self.dtype);
        let until = g.cumsum(ones, 0usize, false, false);
        let one = g.scalar(self.dtype, 1.0);
        let group = g.sub(until, one);
        let packed = |g: &mut Graph, x, fill| {
            let rows = g.unsqueeze(x, -1);
            let rows = pack_rows(g, rows, is_new, group, &count, fill);
            g.reshape(rows, row.clone())
        };
        let values = packed(g, sorted, 0.0);
        let indices = packed(g, order, -1.0);
        let zeros = g.full(self.dtype, row.clone(), 0.0);
        let (to, of) = (g.unsqueeze(order, -1), g.unsqueeze(group, -1));
        let inverse = g.scatter_nd(zeros, to, group, ScatterKind::None);
        let each = g.full(self.dtype, row, 1.0);
        let counts = g.scatter_nd(zeros, of, each, ScatterKind::Add);
        vec![values, indices, inverse, counts, g.reduce(ones, ReduceKind::Sum, vec![0], false)]
    }
}
