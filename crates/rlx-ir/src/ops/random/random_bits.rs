//! `random_bits`: uniform integers.

use crate::ops::philox::{Stream, check_key, check_words, words};
use crate::ops::prelude::*;

op! {
    /// Integers each of whose bits is 0 or 1 with equal chance: `[.., shape]`, for each of the keys `[.., 2]`.
    ///
    /// Element `i` in row-major order is word `i` of Philox 4x32-10 under the key (of `u64`, words `2 i` and
    /// `2 i + 1`, the lower half first), the counter counting blocks of four words from 0: the same on every
    /// backend.
    /// (C1) `key` is `u32` and its last extent is 2.
    /// (C2) `dtype` is `u32` or `u64`.
    /// (C3) No extent is negative; there are at most 2^34 words.
    random_bits: RandomBits(key) -> y {
        /// Element type.
        dtype: DType,
        /// Extents of what each key gives.
        shape: Shape,
    }
}

impl OpSpec for RandomBits {
    const MEANING: Meaning<Self> = Meaning::composite(|op, g, operands| {
        let key = g.ty(operands[0]).shape.clone();
        let lead = &key.dims()[..key.rank() - 1];
        let mut y = words(g, operands[0], Stream::Numbers, &op.words());
        if op.dtype == DType::U64 {
            let pairs = Shape::from([lead, &[op.shape.num_elements(), Dim::from(2)]].concat());
            let pairs = g.reshape(y, pairs);
            let [low, high] = [0usize, 1].map(|half| {
                let word = g.narrow_at(pairs, -1, half, 1);
                g.cast(word, DType::U64)
            });
            let width = g.scalar(DType::U64, 32.0);
            let high = g.push(Binary { kind: BinaryKind::Shl }, &[high, width]);
            y = g.add(high, low);
        }
        vec![g.reshape(y, Shape::from([lead, op.shape.dims()].concat()))]
    });
    const VJP: Vjp<Self> = Vjp::None("its results are discrete");
    const JVP: Jvp<Self> = Jvp::None("its results are discrete");
    const BATCH: Batch<Self> = Batch::Shift(|op, _| op.clone());
    const ACCURACY: AccuracyRule<Self> = |_| Accuracy::Random;
    const SAMPLES: Samples<Self> = Samples::Listed(&[
        "u32[2] in [0, 4000000000) {dtype = u32, shape = [7]}",
        "u32[2] in [0, 4000000000) {dtype = u64, shape = [2, 3]}",
        "u32[2] in [0, 4000000000) {shape = []}",
        "u32[3, 2] in [0, 4000000000) {shape = [2, 2]}",
        "u32[2] in [0, 4000000000) {dtype = u64, shape = [0, 3]}",
        "u32[0, 2] in [0, 4000000000) {shape = [2]}",
    ]);

    fn infer(&self, operands: &[&TensorType]) -> Inferred {
        let lead = check_key("C1", operands[0])?;
        let legal = matches!(self.dtype, DType::U32 | DType::U64);
        require!("C2", legal, "expected u32 or u64, found {}", self.dtype);
        for dim in self.shape.dims() {
            check_not_negative("C3", "extent", dim)?;
        }
        check_words("C3", &self.words())?;
        let dims = [&lead[..], self.shape.dims()].concat();
        Ok(vec![TensorType::new(self.dtype, Shape::from(dims))])
    }
}

impl RandomBits {
    fn words(&self) -> Dim {
        self.shape.num_elements() * Dim::from(self.dtype.block_bits() / 32)
    }
}
