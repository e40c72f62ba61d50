//! `dequant_moe_weights`: a bank of quantised expert matrices as floats.

use crate::ops::prelude::*;
use crate::ops::quantisation::{dequantized, weight_samples};

op! {
    /// `dequantize(w)` for a bank `w` of shape [E, K, N] or [E, N, K], in the dtype `to`.
    ///
    /// (C1) `w`, `scale`, `zero_point`, `block` and `to` satisfy the constraints of `dequantize`.
    /// (C2) `w` has rank 3.
    dequant_moe_weights: DequantMoEWeights(w)[scale, zero_point] -> y {
        /// Extents of a block of `w`, one per axis; empty where scales broadcast.
        block: Vec<usize>,
        /// Dtype of the result.
        to: DType,
    }
}

impl OpSpec for DequantMoEWeights {
    const MEANING: Meaning<Self> =
        Meaning::composite(|op, g, operands| vec![g.push(op.dequantize(), operands)]);
    const VJP: Vjp<Self> = Vjp::ViaDecomposition;
    const JVP: Jvp<Self> = Jvp::ViaDecomposition;
    const BATCH: Batch<Self> = Batch::ViaDecomposition;
    const ACCURACY: AccuracyRule<Self> = |_| Accuracy::Approx { ulp: 2.0 };
    const SAMPLES: Samples<Self> = Samples::Made(|| {
        let all = [(&[2, 3, 256], DType::F32), (&[3, 2, 64], DType::BF16), (&[0, 2, 32], DType::F32)];
        let weights =
            all.iter().flat_map(|(dims, dtype)| weight_samples(&dims[..], *dtype).into_iter().step_by(3));
        let sample = |(op, types): (Dequantize, Vec<TensorType>)| {
            let Dequantize { block, to, scale, zero_point } = op;
            Sample::new(DequantMoEWeights { block, to, scale, zero_point }, types)
        };
        weights.map(sample).collect()
    });

    fn infer(&self, operands: &[&TensorType]) -> Inferred {
        let weights = dequantized("C1", &self.dequantize(), operands)?;
        require!("C2", weights.rank() == 3, "expected a matrix per expert, found {}", operands[0]);
        Ok(vec![weights])
    }
}

impl DequantMoEWeights {
    fn dequantize(&self) -> Dequantize {
        Dequantize { block: self.block.clone(), to: self.to, scale: self.scale, zero_point: self.zero_point }
    }
}
