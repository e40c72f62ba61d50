//! `clamp`: values limited to a range.

use crate::ops::prelude::*;

op! {
    /// `y = min(max(x, low), high)`; a bound that is not given does not limit. NaN stays NaN, and a NaN
    /// bound gives NaN; where `low > high` the result is `high` (NumPy `clip`, ONNX `Clip`).
    ///
    /// (C1) All operands have one dtype, an integer or float dtype that is not storage-only.
    /// (C2) The bounds broadcast to the shape of `x`.
    clamp: Clamp(x)[low, high] -> y {}
}

impl OpSpec for Clamp {
    const MEANING: Meaning<Self> = Meaning::scalar(Self::expand);
    const VJP: Vjp<Self> = Vjp::Scalar;
    const JVP: Jvp<Self> = Jvp::Scalar;
    const BATCH: Batch<Self> = Batch::Rule(|op, g, given| {
        let rank = g.ty(given.operands[0]).rank() - usize::from(given.is_batched[0]);
        let mut aligned = given.aligned(g, rank);
        if !given.is_batched[0] {
            aligned[0] = g.expand_batch(aligned[0], given.size);
        }
        Ok(g.push_all(op.clone(), &aligned))
    });
    const ACCURACY: AccuracyRule<Self> = |_| Accuracy::Exact;
    const SAMPLES: Samples<Self> = Samples::Listed(&[
        "f32[3, 4], f32[] in [-1, 0), f32[] in [0, 1) {low = true, high = true}",
        "f16[7], f16[] {high = false}",
        "f32[3, 4], f32[3, 1] {low = false}",
        "f64[5] {low = false, high = false}",
        "i32[3, 4], i32[4], i32[1]",
        "u8[2, 2], u8[], u8[]",
        "i64[0, 2], i64[], i64[]",
        "bf16[], bf16[], bf16[]",
    ]);

    fn infer(&self, operands: &[&TensorType]) -> Inferred {
        same_dtype("C1", operands)?;
        let x = operands[0];
        let legal = (x.dtype.is_int() || x.dtype.is_float()) && !x.dtype.is_storage_only();
        require!("C1", legal, "cannot limit {}", x.dtype);
        let shape = broadcast_shapes("C2", operands)?;
        require!(
            "C2",
            shape == x.shape,
            "the bounds do not broadcast to {}: the result would be {shape}",
            x.shape
        );
        Ok(vec![x.clone()])
    }
}

impl Clamp {
    fn expand(&self, p: &mut ScalarProgram, args: &[ScalarValue]) -> Vec<ScalarValue> {
        let mut y = args[0];
        for (name, op) in [("low", ScalarOp::Max), ("high", ScalarOp::Min)] {
            if let Some(bound) = self.operand_index(name) {
                y = p.binary(op, y, args[bound]);
            }
        }
        vec![y]
    }
}
