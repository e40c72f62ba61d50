//! `random_normal`: numbers of the standard normal distribution.

use crate::ops::prelude::*;
use std::f64::consts::TAU;

op! {
    /// Numbers of mean 0 and variance 1: `[.., shape]`, for each of the keys `[.., 2]`.
    ///
    /// Elements `2 i` and `2 i + 1` in row-major order are `r cos t` and `r sin t` with
    /// `r = sqrt(-2 log(1 - u))` and `t = 2 pi v`; `u` and `v` are elements `2 i` and `2 i + 1` of
    /// `random_uniform` under the same key (Box and Muller), in `f32` for the narrow dtypes.
    /// (C1) `key` is `u32` and its last extent is 2.
    /// (C2) `dtype` is `f64`, `f32`, `f16` or `bf16`.
    /// (C3) No extent is negative; there are at most 2^34 words.
    random_normal: RandomNormal(key) -> y {
        /// Element type.
        dtype: DType,
        /// Extents of what each key gives.
        shape: Shape,
    }
}

impl OpSpec for RandomNormal {
    const MEANING: Meaning<Self> = Meaning::composite(|op, g, operands| {
        let key = g.ty(operands[0]).shape.clone();
        let lead = &key.dims()[..key.rank() - 1];
        let count = op.shape.num_elements();
        let pairs = count.ceil_div(&Dim::from(2));
        let dtype = if op.dtype == DType::F64 { DType::F64 } else { DType::F32 };
        let uniform = g.random_uniform(operands[0], dtype, vec![pairs.clone(), Dim::from(2)]);
        let [u, v] = [0usize, 1].map(|half| g.narrow_at(uniform, -1, half, 1));
        let one = g.scalar(dtype, 1.0);
        let left = g.sub(one, u);
        let log = g.log(left);
        let square = g.scaled(log, -2.0);
        let r = g.sqrt(square);
        let angle = g.scaled(v, TAU);
        let parts = [ActivationKind::Cos, ActivationKind::Sin].map(|kind| {
            let part = g.push(Activation { kind, parameter: None::<Real> }, &[angle]);
            g.mul(r, part)
        });
        let y = g.concat_at(&parts, -1);
        let y = g.reshape(y, Shape::from([lead, &[pairs * Dim::from(2)]].concat()));
        let y = g.narrow_at(y, -1, 0, count);
        let y = g.cast_to(y, op.dtype);
        vec![g.reshape(y, Shape::from([lead, op.shape.dims()].concat()))]
    });
    const VJP: Vjp<Self> = Vjp::None("its operands are integers");
    const JVP: Jvp<Self> = Jvp::None("its operands are integers");
    const BATCH: Batch<Self> = Batch::Shift(|op, _| op.clone());
    const ACCURACY: AccuracyRule<Self> = |_| Accuracy::Accumulated { terms: 16 };
    const SAMPLES: Samples<Self> = Samples::Listed(&[
        "u32[2] in [0, 4000000000) {dtype = f32, shape = [9]}",
        "u32[2] in [0, 4000000000) {dtype = f64, shape = [2, 3]}",
        "u32[2, 2] in [0, 4000000000) {dtype = f16, shape = [5]}",
        "u32[2] in [0, 4000000000) {dtype = bf16, shape = [2, 2]}",
        "u32[2] in [0, 4000000000) {shape = []}",
        "u32[2] in [0, 4000000000) {dtype = f64, shape = [0]}",
    ]);

    fn infer(&self, operands: &[&TensorType]) -> Inferred {
        RandomUniform { dtype: self.dtype, shape: self.shape.clone() }.infer(operands)
    }
}
