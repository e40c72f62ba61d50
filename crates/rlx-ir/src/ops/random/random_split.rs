//! `random_split`: independent keys from one.

use crate::ops::philox::{Stream, check_key, check_words, words};
use crate::ops::prelude::*;

op! {
    /// `count` keys `[.., count, 2]` from each of the keys `[.., 2]`: the words of a stream of Philox 4x32-10 that
    /// no number is made of.
    ///
    /// (C1) `key` is `u32` and its last extent is 2.
    /// (C2) `count` is not negative and at most 2^33.
    random_split: RandomSplit(key) -> keys {
        /// How many keys.
        count: Dim,
    }
}

impl OpSpec for RandomSplit {
    const MEANING: Meaning<Self> = Meaning::composite(|op, g, operands| {
        let key = g.ty(operands[0]).shape.clone();
        let lead = &key.dims()[..key.rank() - 1];
        let count = op.count.clone() * Dim::from(2);
        let words = words(g, operands[0], Stream::Split, &count);
        vec![g.reshape(words, Shape::from([lead, &[op.count.clone(), Dim::from(2)]].concat()))]
    });
    const VJP: Vjp<Self> = Vjp::None("its results are discrete");
    const JVP: Jvp<Self> = Jvp::None("its results are discrete");
    const BATCH: Batch<Self> = Batch::Shift(|op, _| op.clone());
    const ACCURACY: AccuracyRule<Self> = |_| Accuracy::Random;
    const SAMPLES: Samples<Self> = Samples::Listed(&[
        "u32[2] in [0, 4000000000) {count = 3}",
        "u32[3, 2] in [0, 4000000000) {count = 2}",
        "u32[2] in [0, 4000000000) {count = 0}",
        "u32[2, 1, 2] in [0, 4000000000) {count = 1}",
    ]);

    fn infer(&self, operands: &[&TensorType]) -> Inferred {
        let lead = check_key("C1", operands[0])?;
        check_not_negative("C2", "count", &self.count)?;
        check_words("C2", &(self.count.clone() * Dim::from(2)))?;
        let dims = [&lead[..], &[self.count.clone(), Dim::from(2)]].concat();
        Ok(vec![TensorType::new(DType::U32, Shape::from(dims))])
    }
}
