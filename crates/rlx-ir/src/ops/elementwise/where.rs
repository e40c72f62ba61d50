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

    fn infer(&self, operands: &[&TensorType]) -> Inferred {
        let condition = operands[0].dtype;
        require!("C1", condition == DType::Bool, "the condition must be bool, found {condition}");
        same_dtype("C2", &operands[1..])?;
        check_addressable("C2", &operands[1..])?;
        Ok(vec![TensorType::new(operands[1].dtype, broadcast_shapes("C3", operands)?)])
    }

    fn samples() -> Vec<Sample<Self>> {
        let sample = |dtype, condition: &[usize], yes: &[usize], no: &[usize]| {
            let values = [TensorType::new(dtype, yes), TensorType::new(dtype, no)];
            Sample::new(Where {}, [TensorType::new(DType::Bool, condition)].into_iter().chain(values))
        };
        let mut samples = vec![
            sample(DType::F32, &[4, 1, 3], &[2, 1], &[]),
            sample(DType::F32, &[], &[3], &[2, 1]),
            sample(DType::F32, &[0, 2], &[2], &[1, 1]),
            sample(DType::F32, &[], &[], &[]),
        ];
        for dtype in [DType::F16, DType::BF16, DType::F64, DType::I64, DType::U8, DType::Bool, DType::C64] {
            samples.push(sample(dtype, &[5], &[5], &[5]));
        }
        samples
    }
}
