//! `where`: elementwise choice between two values.

use crate::ops::prelude::*;

op! {
    /// `y = condition ? on_true : on_false`, elementwise over the NumPy broadcast of all three. The value
    /// that is not chosen has no influence, NaN or not.
    ///
    /// (C1) `condition` is `bool`.
    /// (C2) `on_true` and `on_false` have one dtype, which is not storage-only.
    /// (C3) The shapes broadcast.
    r#where: Where(condition, on_true, on_false) -> y {}
}

impl OpSpec for Where {
    const MEANING: Meaning<Self> = Meaning::scalar(|_, p, args| vec![p.select(args[0], args[1], args[2])]);
    const VJP: Vjp<Self> = Vjp::Scalar;
    const JVP: Jvp<Self> = Jvp::Scalar;
    const BATCH: Batch<Self> = Batch::elementwise();
    const ACCURACY: AccuracyRule<Self> = |_| Accuracy::Exact;
    const SAMPLES: Samples<Self> = Samples::Listed(&[
        "bool[4, 1, 3], f32[2, 1], f32[]",
        "bool[], f32[3], f32[2, 1]",
        "bool[0, 2], f32[2], f32[1, 1]",
        "bool[], f32[], f32[]",
        "bool[5], f16[5], f16[5]",
        "bool[5], bf16[5], bf16[5]",
        "bool[5], f64[5], f64[5]",
        "bool[5], i64[5], i64[5]",
        "bool[5], u8[5], u8[5]",
        "bool[5], bool[5], bool[5]",
        "bool[5], c64[5], c64[5]",
    ]);

    fn infer(&self, operands: &[&TensorType]) -> Inferred {
        let condition = operands[0].dtype;
        require!("C1", condition == DType::Bool, "the condition must be bool, found {condition}");
        same_dtype("C2", &operands[1..])?;
        check_addressable("C2", &operands[1..])?;
        Ok(vec![TensorType::new(operands[1].dtype, broadcast_shapes("C3", operands)?)])
    }
}
