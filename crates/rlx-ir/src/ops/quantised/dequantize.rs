//! `dequantize`: codes with scales and zero points as floats.

use crate::ops::prelude::*;
use crate::ops::quantisation::{Blocked, check_scales, numbers, weight_samples, wide};

op! {
    /// `y = (x - zero_point) scale`, computed in f32 (f64 for a result of f64), rounded to `to` at the end.
    ///
    /// Scales are per tensor or per axis where they broadcast to `x`, or per block: with `block` [1, 32], say, each 32
    /// elements of a row share one (GPTQ, AWQ), with [128, 128] each tile (fp8 of DeepSeek). mxfp4 is `f4e2m1` with
    /// scales of `f8e8m0` per 32, nvfp4 with `f8e4m3` per 16; a scale of the whole tensor is a factor of the result.
    /// The GGUF formats (`q4_k`, ..) hold their scales themselves.
    /// (C1) `x` has an integer dtype of 32 bits or less, a float dtype of 8 bits or less, or a block format.
    /// (C2) `to` is f64, f32, f16 or bf16.
    /// (C3) A block format takes no scale and no zero point, and its rows are whole blocks; all others take a scale.
    /// (C4) `scale` has a float dtype.
    /// (C5) `zero_point` has the dtype of `x`, an integer one, and the shape of `scale`.
    /// (C6) Without `block` the scale broadcasts to `x`. Else `block` has an entry per axis, and there are
    /// `ceil(x.shape[i] / block[i])` scales along axis `i`.
    /// Source: ONNX DequantizeLinear, with blocks along any set of axes.
    dequantize: Dequantize(x)[scale, zero_point] -> y {
        /// Extents of a block, one per axis; empty where scales broadcast.
        block: Vec<usize>,
        /// Dtype of the result.
        to: DType,
    }
}

impl OpSpec for Dequantize {
    const MEANING: Meaning<Self> = Meaning::composite(|op, g, operands| {
        let (dtype, shape) = (wide(op.to), g.ty(operands[0]).shape.clone());
        let x = numbers(g, operands[0], dtype);
        let blocked = Blocked::new(&shape, &op.block);
        let mut y = blocked.values(g, x);
        for (index, name) in [(op.operand_index("zero_point"), "sub"), (op.operand_index("scale"), "mul")] {
            let Some(index) = index else { continue };
            let by = numbers(g, operands[index], dtype);
            let by = blocked.scales(g, by, &op.block);
            y = if name == "sub" { g.sub(y, by) } else { g.mul(y, by) };
        }
        let y = blocked.join(g, y);
        vec![g.cast_to(y, op.to)]
    });
    const VJP: Vjp<Self> = Vjp::ViaDecomposition;
    const JVP: Jvp<Self> = Jvp::ViaDecomposition;
    const BATCH: Batch<Self> = Batch::ViaDecomposition;
    const ACCURACY: AccuracyRule<Self> = |_| Accuracy::Approx { ulp: 2.0 };
    const SAMPLES: Samples<Self> = Samples::Made(|| {
        use DType as D;
        let sample =
            |x: D, dims: &[usize], scale: (D, &[usize]), zero_point: bool, block: &[usize], to: D| {
                let mut operands = vec![TensorType::new(x, dims), TensorType::new(scale.0, scale.1)];
                operands.extend(zero_point.then(|| TensorType::new(x, scale.1)));
                Sample::new(Dequantize { block: block.to_vec(), to, scale: true, zero_point }, operands)
            };
        let mut samples: Vec<_> =
            weight_samples(&[2, 256], D::F32).into_iter().map(|(op, types)| Sample::new(op, types)).collect();
        samples.extend([
            sample(D::I8, &[3, 4], (D::F32, &[]), false, &[], D::F32),
            sample(D::U8, &[3, 4], (D::F32, &[4]), true, &[], D::F32),
            sample(D::I8, &[2, 3, 4], (D::F64, &[3, 1]), true, &[], D::F64),
            sample(D::U4, &[3, 5], (D::F16, &[3, 1]), true, &[], D::F16),
            sample(D::I2, &[2, 6], (D::F32, &[2, 3]), false, &[1, 2], D::BF16),
            sample(D::U2, &[7], (D::F32, &[3]), true, &[3], D::F32),
            sample(D::I8, &[5, 6], (D::F64, &[3, 2]), true, &[2, 4], D::F64),
            sample(D::F8E4M3, &[4, 4], (D::F32, &[2, 2]), false, &[2, 2], D::F32),
            sample(D::F8E5M2, &[3], (D::F32, &[]), false, &[], D::F32),
            sample(D::I32, &[3], (D::F32, &[3]), false, &[], D::F32),
            sample(D::I16, &[2, 2], (D::F32, &[]), true, &[], D::F32),
            sample(D::U8, &[0, 4], (D::F32, &[0, 2]), true, &[1, 2], D::F32),
            sample(D::I8, &[], (D::F32, &[]), false, &[], D::F32),
        ]);
        samples.push(Sample::new(
            Dequantize { block: vec![], to: D::F16, scale: false, zero_point: false },
            [TensorType::new(D::Q8_0, [2, 32])],
        ));
        samples
    });

    fn infer(&self, operands: &[&TensorType]) -> Inferred {
        let x = operands[0];
        let (is_block, bits) = (x.dtype.class() == DTypeClass::Block, x.dtype.block_bits());
        let legal = x.dtype.is_int() && bits <= 32 || x.dtype.is_float() && bits <= 8 || is_block;
        require!("C1", legal, "{} is not a quantised dtype", x.dtype);
        let float = matches!(self.to, DType::F64 | DType::F32 | DType::F16 | DType::BF16);
        require!("C2", float, "the result cannot be {}", self.to);
        if is_block {
            let plain = !self.scale && !self.zero_point && self.block.is_empty();
            require!("C3", plain, "{} holds its scales itself", x.dtype);
            check_whole_units("C3", x)?;
        } else {
            require!("C3", self.scale, "{} needs a scale", x.dtype);
            let zero_point = self.operand_index("zero_point").map(|index| operands[index]);
            check_scales(["C4", "C5", "C6"], (x, x.dtype), operands[1], zero_point, &self.block)?;
        }
        Ok(vec![TensorType::new(self.to, x.shape.clone())])
    }
}
