//! `quantize`: floats as codes under given scales and zero points.

use crate::number::{decode, mini_float};
use crate::ops::prelude::*;
use crate::ops::quantisation::{Blocked, check_scales, numbers, wide};
use crate::ops::quantised::encode_storage::encodes;

op! {
    /// `y = saturate(round(x / scale) + zero_point)` for integers, rounding half to even; `saturate(x / scale)` for
    /// small floats. Computed in f32 (f64 for `x` of f64). A NaN becomes the integer 0, or NaN
    /// where `to` has it.
    ///
    /// Scales lie over `x` as for `dequantize`. A block format chooses its scales itself.
    /// (C1) `x` has a float dtype of 16 bits or more.
    /// (C2) `to` is an integer dtype of 16 bits or less, `f8e4m3`, `f8e5m2` (or their fnuz forms), `f4e2m1`, or a block
    /// format that `encode_storage` takes.
    /// (C3) A block format takes no scale and no zero point, and its rows are whole blocks; all others take a scale.
    /// (C4) `scale` has a float dtype.
    /// (C5) `zero_point` has the dtype `to`, an integer one, and the shape of `scale`.
    /// (C6) Scales broadcast to `x`, or there is one per block, as for `dequantize`.
    /// Source: ONNX QuantizeLinear.
    quantize: Quantize(x)[scale, zero_point] -> y {
        /// Extents of a block, one per axis; empty where scales broadcast.
        block: Vec<usize>,
        /// Dtype of the result.
        to: DType,
    }
}

impl OpSpec for Quantize {
    const MEANING: Meaning<Self> = Meaning::composite(Self::decompose);
    const VJP: Vjp<Self> = Vjp::None("it computes with codes");
    const JVP: Jvp<Self> = Jvp::None("it computes with codes");
    const BATCH: Batch<Self> = Batch::ViaDecomposition;
    const ACCURACY: AccuracyRule<Self> = |_| Accuracy::Exact;

    fn infer(&self, operands: &[&TensorType]) -> Inferred {
        let x = operands[0];
        require!("C1", x.dtype.is_float() && x.dtype.block_bits() >= 16, "expected a wide float, found {x}");
        let is_block = self.to.class() == DTypeClass::Block;
        let small = self.to.is_int() && self.to.block_bits() <= 16 || mini_float(self.to).is_some();
        require!("C2", small || is_block && encodes(self.to), "the result cannot be {}", self.to);
        let y = TensorType::new(self.to, x.shape.clone());
        if is_block {
            let plain = !self.scale && !self.zero_point && self.block.is_empty();
            require!("C3", plain, "{} chooses its scales itself", self.to);
            check_whole_units("C3", &y)?;
        } else {
            require!("C3", self.scale, "{} needs a scale", self.to);
            let zero_point = self.operand_index("zero_point").map(|index| operands[index]);
            check_scales(["C4", "C5", "C6"], (x, self.to), operands[1], zero_point, &self.block)?;
        }
        Ok(vec![y])
    }

    fn samples() -> Vec<Sample<Self>> {
        use DType as D;
        let sample =
            |x: D, dims: &[usize], scale: (D, &[usize]), zero_point: bool, block: &[usize], to: D| {
                let mut operands = vec![TensorType::new(x, dims), TensorType::new(scale.0, scale.1)];
                operands.extend(zero_point.then(|| TensorType::new(to, scale.1)));
                Sample::new(Quantize { block: block.to_vec(), to, scale: true, zero_point }, operands)
                    .fill(1, 0.01, 0.3)
            };
        let plain = |to, dims: &[usize], x| {
            Sample::new(
                Quantize { block: vec![], to, scale: false, zero_point: false },
                [TensorType::new(x, dims)],
            )
        };
        vec![
            sample(D::F32, &[3, 4], (D::F32, &[]), false, &[], D::I8),
            sample(D::F32, &[3, 4], (D::F32, &[4]), true, &[], D::U8),
            sample(D::F64, &[2, 3, 4], (D::F64, &[3, 1]), true, &[], D::I8),
            sample(D::F16, &[3, 5], (D::F16, &[3, 1]), true, &[], D::U4),
            sample(D::BF16, &[2, 6], (D::F32, &[2, 3]), false, &[1, 2], D::I4),
            sample(D::F32, &[7], (D::F32, &[3]), true, &[3], D::U2),
            sample(D::F32, &[3, 3], (D::F32, &[1, 3]), false, &[], D::I2),
            sample(D::F32, &[5, 6], (D::F32, &[3, 2]), true, &[2, 4], D::I16),
            sample(D::F32, &[4, 4], (D::F32, &[2, 2]), false, &[2, 2], D::F8E4M3),
            sample(D::F32, &[9], (D::F32, &[]), false, &[], D::F8E5M2),
            sample(D::F32, &[2, 32], (D::F8E8M0, &[2, 2]), false, &[1, 16], D::F4E2M1),
            sample(D::F32, &[0, 4], (D::F32, &[0, 2]), true, &[1, 2], D::U8),
            sample(D::F32, &[], (D::F32, &[]), false, &[], D::U8),
            plain(D::Q4_0, &[2, 64], D::F32),
            plain(D::Q8_0, &[2, 64], D::F16),
            plain(D::Mxfp4, &[0, 32], D::F32),
        ]
    }
}

impl Quantize {
    fn decompose(&self, g: &mut Graph, operands: &[Value]) -> Vec<Value> {
        let (ty, to) = (g.ty(operands[0]).clone(), self.to);
        let dtype = wide(ty.dtype);
        let blocked = Blocked::new(&ty.shape, &self.block);
        let mut y = g.cast_to(operands[0], dtype);
        if let Some(index) = self.operand_index("scale") {
            let scale = numbers(g, operands[index], dtype);
            let scale = blocked.scales(g, scale, &self.block);
            y = blocked.values(g, y);
            y = g.div(y, scale);
            if to.is_int() {
                y = g.push(Activation::of(ActivationKind::Round), &[y]);
            }
        }
        if let Some(index) = self.operand_index("zero_point") {
            let zero_point = numbers(g, operands[index], dtype);
            let zero_point = blocked.scales(g, zero_point, &self.block);
            y = g.add(y, zero_point);
        }
        y = blocked.join(g, y);
        let largest = mini_float(to).and_then(|format| decode(to, &[format.max_code() as u8]).as_f64());
        let range = to.int_range().map(|(low, high)| (low as f64, high as f64));
        if let Some((low, high)) = range.or(largest.map(|largest| (-largest, largest))) {
            y = g.clip(y, low, high);
        }
        if !to.is_storage_only() {
            return vec![g.cast(y, to)];
        }
        let y = g.cast_to(y, DecodeStorage::result(to));
        vec![g.encode_storage(y, to)]
    }
}
