//! `sample`: a token of each row of logits.

use crate::ops::philox::check_key;
use crate::ops::prelude::*;

op! {
    /// A position along the last axis of `logits` [.., V], drawn with the chances that the softmax of
    /// `logits / temperature` gives to what the filters leave; they apply one after the other to the row in
    /// descending order, equal logits in the order of their positions:
    ///
    /// - the first `top_k`; all where it is 0 or less;
    /// - of these the first whose chances together reach `top_p`, the one that reaches it included; all where it
    ///   is 1 or more;
    /// - of these the ones with a chance of at least `min_p` times the greatest.
    ///
    /// One is always left. With temperature 0 it is the greatest. The draw is `random_uniform` under the row's key.
    /// Rows that hold NaN give the position of the first, rows of minus infinity alone the first.
    /// (C1) `logits` has a float dtype and rank 1 or more; it is computed in `f32`, in `f64` for `f64`.
    /// (C2) `key` is `u32` [.., 2], with the leading extents of `logits`.
    /// (C3) `temperature`, `top_p` and `min_p` have a float dtype, `top_k` is `i32`, `i64` or `u32`, and all have
    /// the leading extents of `logits`.
    /// (C4) `dtype` is `i32`, `i64` or `u32`.
    sample: Sample(logits, key, temperature, top_k, top_p, min_p) -> token {
        /// Dtype of the token.
        dtype: DType,
    }
}

impl OpSpec for Sample {
    const MEANING: Meaning<Self> = Meaning::composite(Self::decompose);
    const VJP: Vjp<Self> = Vjp::None("its results are discrete");
    const JVP: Jvp<Self> = Jvp::None("its results are discrete");
    const BATCH: Batch<Self> = Batch::Shift(|op, _| op.clone());
    const ACCURACY: AccuracyRule<Self> = |_| Accuracy::Random;
    const SAMPLES: Samples<Self> = Samples::Listed(&[
        "f32[3, 9], u32[3, 2] in [0, 4000000000), f32[3] in [1, 1.1000000010000002), i64[3] in [0, 3), \
         f32[3] in [1, 1.1000000010000002), f32[3] in [0, 0.000000001) {dtype = i64}",
        "f32[2, 2, 7], u32[2, 2, 2] in [0, 4000000000), f32[2, 2] in [0.7, 0.770000001), i32[2, 2] in [2, \
         5), f32[2, 2] in [0.8, 0.8800000010000001), f32[2, 2] in [0, 0.000000001) {dtype = i32}",
        "bf16[4, 12], u32[4, 2] in [0, 4000000000), f32[4] in [1.5, 1.6500000010000002), u32[4] in [5, 8), \
         f32[4] in [0.9, 0.9900000010000001), f32[4] in [0.1, 0.11000000100000001) {dtype = u32}",
        "f64[5], u32[2] in [0, 4000000000), f32[] in [0.5, 0.550000001), i64[] in [1, 4), f32[] in [0.5, \
         0.550000001), f32[] in [0.5, 0.550000001)",
        "f16[2, 1], u32[2, 2] in [0, 4000000000), f32[2] in [1, 1.1000000010000002), i32[2] in [0, 3), \
         f32[2] in [0, 0.000000001), f32[2] in [0, 0.000000001) {dtype = i32}",
        "f32[0, 4], u32[0, 2] in [0, 4000000000), f32[0] in [1, 1.1000000010000002), i32[0] in [0, 3), \
         f32[0] in [1, 1.1000000010000002), f32[0] in [0, 0.000000001) {dtype = i32}",
    ]);

    fn infer(&self, operands: &[&TensorType]) -> Inferred {
        let is_float = |ty: &TensorType| ty.dtype.is_float() && !ty.dtype.is_storage_only();
        let logits = operands[0];
        let legal = is_float(logits) && logits.rank() > 0;
        require!("C1", legal, "expected rows of floats, found {logits}");
        let lead = &logits.shape.dims()[..logits.rank() - 1];
        let keys = check_key("C2", operands[1])?;
        require!("C2", keys == lead, "`logits` is {logits} and `key` is {}", operands[1]);
        for (index, name) in [(2, "temperature"), (3, "top_k"), (4, "top_p"), (5, "min_p")] {
            let ty = operands[index];
            if name == "top_k" {
                check_index_dtype("C3", "`top_k`", ty)?;
            } else {
                require!("C3", is_float(ty), "`{name}` must be floats, found {ty}");
            }
            require!("C3", ty.shape.dims() == lead, "`logits` is {logits} and `{name}` is {ty}");
        }
        let token = TensorType::new(self.dtype, Shape::from(lead.to_vec()));
        check_index_dtype("C4", "dtype", &token)?;
        Ok(vec![token])
    }
}

impl Sample {
    fn decompose(&self, g: &mut Graph, operands: &[Value]) -> Vec<Value> {
        let logits = g.accumulation_cast(operands[0]);
        let ty = g.ty(logits).clone();
        let (axis, dtype) = (ty.rank() - 1, ty.dtype);
        let extent = ty.shape[axis].clone();
        // Per row one number, beside its logits.
        let [temperature, top_p, min_p] = [2, 4, 5].map(|index| {
            let number = g.cast_to(operands[index], dtype);
            g.unsqueeze(number, -1)
        });
        let top_k = g.cast_to(operands[3], DType::I32);
        let top_k = g.unsqueeze(top_k, -1);
        let (zero, one) = (g.scalar(dtype, 0.0), g.scalar(dtype, 1.0));
        let (none, rank) = (g.scalar(DType::I32, 0.0), g.iota(DType::I32, vec![extent.clone()], 0usize));
        let is_first = g.compare_eq(rank, none);

        let sorted = g.top_k(logits, extent, axis, true, true, self.dtype);
        let (values, positions) = (sorted[0], sorted[1]);
        let greedy = g.compare_eq(temperature, zero);
        let divisor = g.where_(greedy, one, temperature);
        let largest = g.reduce(values, ReduceKind::Max, vec![axis], true);
        let difference = g.sub(values, largest);
        let scaled = g.div(difference, divisor);
        let chances = g.exp(scaled);

        let (within, all) = (g.compare_lt(rank, top_k), g.compare_le(top_k, none));
        let kept = g.or(within, all);
        let left = g.where_(kept, chances, zero);
        let total = g.reduce(left, ReduceKind::Sum, vec![axis], true);
        let before = g.cumsum(left, axis, true, false);
        let limit = g.mul(top_p, total);
        let (within, all) = (g.compare_lt(before, limit), g.compare_ge(top_p, one));
        let kept = g.or(within, all);
        let kept = g.or(kept, is_first);
        let left = g.where_(kept, left, zero);
        let likely = g.compare_ge(chances, min_p);
        let kept = g.or(likely, is_first);
        let left = g.where_(kept, left, zero);

        let total = g.reduce(left, ReduceKind::Sum, vec![axis], true);
        let u = g.random_uniform(operands[1], dtype, Shape::scalar());
        let u = g.unsqueeze(u, -1);
        let target = g.mul(u, total);
        let until = g.cumsum(left, axis, false, false);
        let count = |g: &mut Graph, condition: Value| {
            let ones = g.cast(condition, DType::I32);
            g.reduce(ones, ReduceKind::Sum, vec![axis], true)
        };
        // What is left stands in front, so a sum that rounding lets fall short of the target ends there.
        let passed = g.compare_le(until, target);
        let some = g.compare_gt(left, zero);
        let (passed, some) = (count(g, passed), count(g, some));
        let step = g.scalar(DType::I32, 1.0);
        let last = g.sub(some, step);
        let last = g.maximum(last, none);
        let drawn = g.minimum(passed, last);
        let drawn = g.where_(greedy, none, drawn);
        let token = g.gather_elements(positions, drawn, axis);
        vec![g.squeeze(token, -1)]
    }
}
