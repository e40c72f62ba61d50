//! `dequant_matmul`: a product with a quantised weight.

use crate::ops::prelude::*;
use crate::ops::quantisation::{dequantized, weight_samples};

op! {
    /// `y = x dequantize(w)`; `x` is [.., M, K], `w` is [K, N], or [N, K] with `transpose_w`, as GGUF files store it.
    ///
    /// The scheme follows from the dtype of `w` and from its scales: GGUF formats, integers of 8 and 4 bits with or
    /// without zero points, fp8, mxfp4, nvfp4; see `dequantize`. The weight is dequantised to the dtype of `x`.
    /// (C1) `w`, `scale`, `zero_point` and `block` satisfy the constraints of `dequantize`; blocks lie over `w` as stored.
    /// (C2) `w` has rank 2.
    /// (C3) `x` and the dequantised weight satisfy the constraints of `matmul`.
    dequant_matmul: DequantMatMul(x, w)[scale, zero_point] -> y {
        /// Extents of a block of `w`, one per axis; empty where scales broadcast.
        block: Vec<usize>,
        /// Is `w` given as [N, K]?
        transpose_w: bool,
    }
}

impl OpSpec for DequantMatMul {
    const MEANING: Meaning<Self> = Meaning::composite(|op, g, operands| {
        let weight = op.weight(g.ty(operands[0]).dtype);
        let weight = g.push(weight, &operands[1..]);
        vec![g.push(op.product(), &[operands[0], weight])]
    });
    const VJP: Vjp<Self> = Vjp::ViaDecomposition;
    const JVP: Jvp<Self> = Jvp::ViaDecomposition;
    const BATCH: Batch<Self> = Batch::ViaDecomposition;
    const ACCURACY: AccuracyRule<Self> = |_| Accuracy::Accumulated { terms: 256 };
    const SAMPLES: Samples<Self> = Samples::Made(|| {
        let sample = |x: &[usize], dtype, (weight, types): (Dequantize, Vec<TensorType>)| {
            let Dequantize { block, scale, zero_point, .. } = weight;
            let op = DequantMatMul { block, transpose_w: true, scale, zero_point };
            Sample::new(op, [vec![TensorType::new(dtype, x)], types].concat()).fill(0, -1.0, 1.0)
        };
        let mut samples: Vec<_> = weight_samples(&[3, 256], DType::F32)
            .into_iter()
            .map(|weight| sample(&[2, 256], DType::F32, weight))
            .collect();
        let all = || weight_samples(&[4, 64], DType::F32).into_iter();
        samples.extend(all().take(2).map(|weight| sample(&[2, 1, 64], DType::BF16, weight)));
        samples.extend(all().take(1).map(|weight| sample(&[0, 64], DType::F16, weight)));
        // Blocks down the columns of a weight that is not transposed.
        let op = DequantMatMul { block: vec![8, 1], transpose_w: false, scale: true, zero_point: true };
        let types = [(DType::F64, [3, 16]), (DType::I8, [16, 5]), (DType::F64, [2, 5]), (DType::I8, [2, 5])];
        samples.push(Sample::new(op, types.map(|(dtype, dims)| TensorType::new(dtype, dims))));
        samples
    });

    fn infer(&self, operands: &[&TensorType]) -> Inferred {
        let weight = dequantized("C1", &self.weight(operands[0].dtype), &operands[1..])?;
        require!("C2", weight.rank() == 2, "expected a matrix, found {}", operands[1]);
        let relabel = |violation: Violation| Violation { constraint: "C3", ..violation };
        self.product().infer(&[operands[0], &weight]).map_err(relabel)
    }
}

impl DequantMatMul {
    fn weight(&self, to: DType) -> Dequantize {
        Dequantize { block: self.block.clone(), to, scale: self.scale, zero_point: self.zero_point }
    }

    fn product(&self) -> MatMul {
        MatMul { transpose_a: false, transpose_b: self.transpose_w }
    }
}
