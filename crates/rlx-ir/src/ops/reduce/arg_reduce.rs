//! `arg_reduce`: where the largest or smallest element of each row stands.

use crate::ops::ordering::{compare_numbers, map_rows};
use crate::ops::prelude::*;
use std::cmp::Ordering;

attr_enum! {
    /// Which element an [`ArgReduce`] looks for.
    ArgReduceKind {
        /// The largest.
        Max = "max",
        /// The smallest.
        Min = "min",
    }
}

op! {
    /// Position along `axis` of the largest (smallest) element of each row of `x`.
    ///
    /// A NaN wins over every number. Among equals (NaNs are equal) the first wins, with
    /// `select_last` the last. With `keep_dims` the axis stays with extent 1.
    /// (C1) `axis` is an axis of `x`.
    /// (C2) `x` has a float, integer or `bool` dtype.
    /// (C3) The axis is not empty; an extent known at run time only is checked then.
    /// (C4) `dtype` is `i32`, `i64` or `u32`.
    /// Source: NumPy argmax and argmin, ONNX ArgMax and ArgMin.
    arg_reduce: ArgReduce(x) -> y {
        /// Largest or smallest?
        kind: ArgReduceKind,
        /// Axis that is searched.
        axis: usize,
        /// Keep it with extent 1?
        keep_dims: bool,
        /// Does the last of equals win?
        select_last: bool,
        /// Dtype of the positions.
        dtype: DType,
    }
}

impl OpSpec for ArgReduce {
    const MEANING: Meaning<Self> = Meaning::primitive(|op, operands| {
        let x = operands[0];
        if x.dims()[op.axis] == 0 {
            return Err(Fault(format!("axis {} of {} is empty: it has no largest element", op.axis, x.ty())));
        }
        let results = map_rows(x, op.axis, 1, [op.dtype], |row| {
            let mut best = 0;
            for at in 1..row.len() {
                if op.replaces(row[best], row[at]) {
                    best = at;
                }
            }
            [vec![Number::Int(best as i128)]]
        })?;
        let shape = reduced_shape(&x.ty().shape, &[op.axis], op.keep_dims);
        let dims = shape.as_static().unwrap_or_default();
        let reshaped: Option<Vec<_>> = results.iter().map(|result| result.reshaped(&dims)).collect();
        reshaped.ok_or_else(|| Fault(format!("{dims:?} is not the shape of the result")))
    });
    const VJP: Vjp<Self> = Vjp::None("its results are discrete");
    const JVP: Jvp<Self> = Jvp::None("its results are discrete");
    const BATCH: Batch<Self> = Batch::Shift(|op, _| ArgReduce { axis: op.axis + 1, ..op.clone() });
    const ACCURACY: AccuracyRule<Self> = |_| Accuracy::Exact;
    const SAMPLES: Samples<Self> = Samples::Listed(&[
        "f32[3, 7] {kind = max, axis = 1, keep_dims = false, select_last = false, dtype = i64}",
        "f32[3, 7] {kind = min, axis = 0, keep_dims = true, dtype = i32}",
        "i32[2, 5, 3] {select_last = true, dtype = i32}",
        "u8[2, 9] {kind = min, keep_dims = true, select_last = true}",
        "bool[4, 3] {axis = 0, dtype = u32}",
        "bf16[5] {kind = min, axis = 0}",
        "f16[1] {axis = 0, keep_dims = true, dtype = i32}",
        "f64[0, 3]",
    ]);

    fn infer(&self, operands: &[&TensorType]) -> Inferred {
        let x = operands[0];
        check_axis("C1", self.axis, x)?;
        let legal = x.dtype.is_float() || x.dtype.is_int() || x.dtype == DType::Bool;
        require!("C2", legal && !x.dtype.is_storage_only(), "arg_reduce does not take {}", x.dtype);
        require!("C3", !x.shape[self.axis].is(0), "axis {} of {x} is empty", self.axis);
        let result = TensorType::new(self.dtype, reduced_shape(&x.shape, &[self.axis], self.keep_dims));
        check_index_dtype("C4", "dtype", &result)?;
        Ok(vec![result])
    }
}

impl ArgReduce {
    /// Does `next`, which stands later, win over `best`?
    fn replaces(&self, best: Number, next: Number) -> bool {
        let is_nan = |number| matches!(number, Number::Float(value) if value.is_nan());
        let order = match (is_nan(best), is_nan(next)) {
            (false, false) if self.kind == ArgReduceKind::Min => compare_numbers(best, next),
            (false, false) => compare_numbers(next, best),
            (best, next) => next.cmp(&best),
        };
        order == Ordering::Greater || (order == Ordering::Equal && self.select_last)
    }
}
