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
    const SAMPLES: Samples<Self> = Samples::Listed(&[
        "f32[3, 4], f32[] in [0.01, 0.3) {block = [], to = i8, scale = true}",
        "f32[3, 4], f32[4] in [0.01, 0.3), u8[4] {to = u8, zero_point = true}",
        "f64[2, 3, 4], f64[3, 1] in [0.01, 0.3), i8[3, 1] {zero_point = true}",
        "f16[3, 5], f16[3, 1] in [0.01, 0.3), u4[3, 1] {to = u4, zero_point = true}",
        "bf16[2, 6], f32[2, 3] in [0.01, 0.3) {block = [1, 2], to = i4}",
        "f32[7], f32[3] in [0.01, 0.3), u2[3] {block = [3], to = u2, zero_point = true}",
        "f32[3, 3], f32[1, 3] in [0.01, 0.3) {to = i2}",
        "f32[5, 6], f32[3, 2] in [0.01, 0.3), i16[3, 2] {block = [2, 4], to = i16, zero_point = true}",
        "f32[4, 4], f32[2, 2] in [0.01, 0.3) {block = [2, 2], to = f8e4m3}",
        "f32[9], f32[] in [0.01, 0.3) {to = f8e5m2}",
        "f32[2, 32], f8e8m0[2, 2] in [0.01, 0.3) {block = [1, 16], to = f4e2m1}",
        "f32[0, 4], f32[0, 2] in [0.01, 0.3), u8[0, 2] {block = [1, 2], to = u8, zero_point = true}",
        "f32[], f32[] in [0.01, 0.3) {to = u8}",
        "f32[2, 64] {to = q4_0, scale = false}",
        "f16[2, 64] {to = q8_0, scale = false}",
        "f32[0, 32] {to = mxfp4, scale = false}",
    ]);

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
