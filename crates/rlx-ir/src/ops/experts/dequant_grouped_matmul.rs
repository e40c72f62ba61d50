//! `dequant_grouped_matmul`: each row times the quantised matrix of its expert.

use crate::ops::prelude::*;
use crate::ops::quantisation::{dequantized, weight_samples};

op! {
    /// `grouped_matmul(x, dequant_moe_weights(w), expert)`, the weights in the dtype of `x`.
    ///
    /// (C1) `w`, `scale`, `zero_point` and `block` satisfy the constraints of `dequantize`.
    /// (C2) `x`, the dequantised weights and `expert` satisfy the constraints of `grouped_matmul`.
    /// An expert outside `[0, E)` is a run-time fault.
    dequant_grouped_matmul: DequantGroupedMatMul(x, w, expert)[scale, zero_point] -> y {
        /// Extents of a block of `w`, one per axis; empty where scales broadcast.
        block: Vec<usize>,
        /// Is `w` given as [E, N, K]?
        transpose_w: bool,
    }
}

impl OpSpec for DequantGroupedMatMul {
    const MEANING: Meaning<Self> = Meaning::composite(|op: &Self, g, operands| {
        let weights = op.weights(g.ty(operands[0]).dtype);
        let weights = g.push(weights, &[&operands[1..2], &operands[3..]].concat());
        vec![g.push(op.product(), &[operands[0], weights, operands[2]])]
    })
    .checked(|_, types| vec![ValueRange::below(2, types[1].shape[0].clone())]);
    const VJP: Vjp<Self> = Vjp::ViaDecomposition;
    const JVP: Jvp<Self> = Jvp::ViaDecomposition;
    const BATCH: Batch<Self> = Batch::ViaDecomposition;
    const ACCURACY: AccuracyRule<Self> = |_| Accuracy::Accumulated { terms: 256 };
    const SAMPLES: Samples<Self> = Samples::Made(|| {
        let sample = |rows: usize, dtype, (op, types): (Dequantize, Vec<TensorType>)| {
            let Dequantize { block, scale, zero_point, .. } = op;
            let dims = types[0].shape.as_static().unwrap_or_default();
            let mut operands = vec![TensorType::new(dtype, [rows, dims[2]]), types[0].clone()];
            operands.push(TensorType::new(DType::I32, [rows]));
            operands.extend_from_slice(&types[1..]);
            let op = DequantGroupedMatMul { block, transpose_w: true, scale, zero_point };
            Sample::new(op, operands).fill(0, -1.0, 1.0).fill(2, 0.0, dims[0] as f64)
        };
        let all = |dims: &[usize]| weight_samples(dims, DType::F32).into_iter();
        let mut samples: Vec<_> =
            all(&[2, 3, 256]).step_by(2).map(|weight| sample(3, DType::F32, weight)).collect();
        samples.extend(all(&[3, 2, 64]).skip(1).step_by(4).map(|weight| sample(5, DType::BF16, weight)));
        samples.extend(all(&[3, 2, 32]).take(1).map(|weight| sample(0, DType::F32, weight)));
        samples
    });

    fn infer(&self, operands: &[&TensorType]) -> Inferred {
        let DequantMoEWeights { block, to, scale, zero_point } = self.weights(operands[0].dtype);
        let op = Dequantize { block, to, scale, zero_point };
        let weights = dequantized("C1", &op, &[&operands[1..2], &operands[3..]].concat())?;
        let relabel = |violation: Violation| Violation { constraint: "C2", ..violation };
        self.product().infer(&[operands[0], &weights, operands[2]]).map_err(relabel)
    }
}

impl DequantGroupedMatMul {
    fn weights(&self, to: DType) -> DequantMoEWeights {
        DequantMoEWeights { block: self.block.clone(), to, scale: self.scale, zero_point: self.zero_point }
    }

    fn product(&self) -> GroupedMatMul {
        GroupedMatMul { transpose_w: self.transpose_w }
    }
}
