//! `random_uniform`: uniform numbers.

use crate::ops::philox::check_key;
use crate::ops::prelude::*;

op! {
    /// Multiples of `2^-p` in [0, 1), all with equal chance: `[.., shape]`, for each of the keys `[.., 2]`; `p`
    /// is the precision of `dtype` (8, 11, 24 or 53 bits).
    ///
    /// Each number is the upper `p` bits of an element of `random_bits` under the same key (of `u64` for `f64`).
    /// (C1) `key` is `u32` and its last extent is 2.
    /// (C2) `dtype` is `f64`, `f32`, `f16` or `bf16`.
    /// (C3) No extent is negative; there are at most 2^34 words.
    random_uniform: RandomUniform(key) -> y {
        /// Element type.
        dtype: DType,
        /// Extents of what each key gives.
        shape: Shape,
    }
}

/// Bits of a significand.
fn precision(dtype: DType) -> Option<u32> {
    match dtype {
        DType::F64 => Some(53),
        DType::F32 => Some(24),
        DType::F16 => Some(11),
        DType::BF16 => Some(8),
        _ => None,
    }
}

impl OpSpec for RandomUniform {
    const MEANING: Meaning<Self> = Meaning::composite(|op, g, operands| {
        let bits = g.push(op.bits(), operands);
        let (integer, kept) = (op.bits().dtype, precision(op.dtype).unwrap_or(1));
        let below = g.scalar(integer, integer.block_bits() as f64 - f64::from(kept));
        let whole = g.push(Binary { kind: BinaryKind::Shr }, &[bits, below]);
        let whole = g.cast(whole, op.dtype);
        vec![g.scaled(whole, 2f64.powi(-(kept as i32)))]
    });
    const VJP: Vjp<Self> = Vjp::None("its operands are integers");
    const JVP: Jvp<Self> = Jvp::None("its operands are integers");
    const BATCH: Batch<Self> = Batch::Shift(|op, _| op.clone());
    const ACCURACY: AccuracyRule<Self> = |_| Accuracy::Random;
    const SAMPLES: Samples<Self> = Samples::Listed(&[
        "u32[2] in [0, 4000000000) {dtype = f32, shape = [9]}",
        "u32[2] in [0, 4000000000) {dtype = f64, shape = [2, 3]}",
        "u32[2, 2] in [0, 4000000000) {dtype = f16, shape = [5]}",
        "u32[2] in [0, 4000000000) {dtype = bf16, shape = [2, 2]}",
        "u32[2] in [0, 4000000000) {shape = []}",
        "u32[2] in [0, 4000000000) {shape = [0]}",
    ]);

    fn infer(&self, operands: &[&TensorType]) -> Inferred {
        check_key("C1", operands[0])?;
        require!(
            "C2",
            precision(self.dtype).is_some(),
            "expected f64, f32, f16 or bf16, found {}",
            self.dtype
        );
        for dim in self.shape.dims() {
            check_not_negative("C3", "extent", dim)?;
        }
        let bits = self.bits().infer(operands)?;
        Ok(vec![TensorType::new(self.dtype, bits[0].shape.clone())])
    }
}

impl RandomUniform {
    fn bits(&self) -> RandomBits {
        let dtype = if self.dtype == DType::F64 { DType::U64 } else { DType::U32 };
        RandomBits { dtype, shape: self.shape.clone() }
    }
}
