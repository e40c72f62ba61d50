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

    fn infer(&self, operands: &[&TensorType]) -> Inferred {
        let from = operands[0].dtype;
        let plain = [from, self.to]
            .iter()
            .all(|dtype| (dtype.is_int() || dtype.is_float()) && !dtype.is_storage_only());
        let legal = plain && from.block_bits() == self.to.block_bits();
        require!("C1", legal, "cannot read the bits of {from} as {}", self.to);
        Ok(vec![TensorType::new(self.to, operands[0].shape.clone())])
    }

    fn samples() -> Vec<Sample<Self>> {
        let sample = |from, to, dims: &[usize]| Sample::new(Bitcast { to }, [TensorType::new(from, dims)]);
        vec![
            sample(DType::F32, DType::I32, &[2, 5]),
            sample(DType::I32, DType::F32, &[7]),
            sample(DType::F32, DType::U32, &[3]),
            sample(DType::F64, DType::I64, &[3]),
            sample(DType::BF16, DType::U16, &[4]),
            sample(DType::I16, DType::F16, &[4]),
            sample(DType::I8, DType::U8, &[9]),
            sample(DType::F8E4M3, DType::U8, &[9]),
            sample(DType::U64, DType::U64, &[0, 2]),
        ]
    }
}
