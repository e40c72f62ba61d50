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

    fn samples() -> Vec<Sample<Self>> {
        let sample = |low: Option<&[usize]>, high: Option<&[usize]>, dims: &[usize], dtype| {
            let op = Clamp { low: low.is_some(), high: high.is_some() };
            let shapes = [Some(dims), low, high];
            Sample::new(op, shapes.into_iter().flatten().map(|dims| TensorType::new(dtype, dims)))
        };
        vec![
            sample(Some(&[]), Some(&[]), &[3, 4], DType::F32).fill(1, -1.0, 0.0).fill(2, 0.0, 1.0),
            sample(Some(&[]), None, &[7], DType::F16),
            sample(None, Some(&[3, 1]), &[3, 4], DType::F32),
            sample(None, None, &[5], DType::F64),
            sample(Some(&[4]), Some(&[1]), &[3, 4], DType::I32),
            sample(Some(&[]), Some(&[]), &[2, 2], DType::U8),
            sample(Some(&[]), Some(&[]), &[0, 2], DType::I64),
            sample(Some(&[]), Some(&[]), &[], DType::BF16),
        ]
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
