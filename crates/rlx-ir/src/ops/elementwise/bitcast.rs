//! `bitcast`: the same bits under another dtype.

use crate::ops::prelude::*;
use crate::scalar::ScalarKind;

op! {
    /// The bits of every element of `x` read as dtype `to`. A NaN that passes through may come out quiet.
    ///
    /// (C1) Both dtypes have one width; neither is storage-only, `bool` or complex.
    bitcast: Bitcast(x) -> y {
        /// The new dtype.
        to: DType,
    }
}

impl OpSpec for Bitcast {
    const MEANING: Meaning<Self> =
        Meaning::scalar(|op, p, args| vec![p.push(ScalarKind::Op(ScalarOp::Bitcast), &[args[0]], op.to)]);
    const VJP: Vjp<Self> = Vjp::None("bits are not numbers");
    const JVP: Jvp<Self> = Jvp::None("bits are not numbers");
    const BATCH: Batch<Self> = Batch::elementwise();
    const ACCURACY: AccuracyRule<Self> = |_| Accuracy::Exact;
    const SAMPLES: Samples<Self> = Samples::Listed(&[
        "f32[2, 5] {to = i32}",
        "i32[7] {to = f32}",
        "f32[3] {to = u32}",
        "f64[3] {to = i64}",
        "bf16[4] {to = u16}",
        "i16[4] {to = f16}",
        "i8[9] {to = u8}",
        "f8e4m3[9] {to = u8}",
        "u64[0, 2] {to = u64}",
    ]);

    fn infer(&self, operands: &[&TensorType]) -> Inferred {
        let from = operands[0].dtype;
        let plain = [from, self.to]
            .iter()
            .all(|dtype| (dtype.is_int() || dtype.is_float()) && !dtype.is_storage_only());
        let legal = plain && from.block_bits() == self.to.block_bits();
        require!("C1", legal, "cannot read the bits of {from} as {}", self.to);
        Ok(vec![TensorType::new(self.to, operands[0].shape.clone())])
    }
}
