//! `random_fold_in`: a key for a number.

use crate::ops::philox::{Stream, block_words, check_key};
use crate::ops::prelude::*;

op! {
    /// A key for each key of `key` `[.., 2]` and number of `data` `[..]`, such as the number of a step: two words
    /// of a stream of Philox 4x32-10 that no number is made of, at the block that the low 32 bits of `data` name.
    ///
    /// (C1) `key` is `u32` and its last extent is 2.
    /// (C2) `data` is `i32`, `i64` or `u32` and has the leading extents of `key`.
    random_fold_in: RandomFoldIn(key, data) -> folded {}
}

impl OpSpec for RandomFoldIn {
    const MEANING: Meaning<Self> = Meaning::composite(|_, g, operands| {
        let shape = g.ty(operands[1]).shape.clone();
        let block = g.cast_to(operands[1], DType::U32);
        let halves = [0usize, 1].map(|half| {
            let word = g.narrow_at(operands[0], -1, half, 1);
            g.reshape(word, Shape::clone(&shape))
        });
        let words = block_words(g, block, halves, Stream::FoldIn, &shape);
        vec![g.stack(&words[..2], -1)]
    });
    const VJP: Vjp<Self> = Vjp::None("its results are discrete");
    const JVP: Jvp<Self> = Jvp::None("its results are discrete");
    const BATCH: Batch<Self> = Batch::Shift(|op, _| op.clone());
    const ACCURACY: AccuracyRule<Self> = |_| Accuracy::Random;
    const SAMPLES: Samples<Self> = Samples::Listed(&[
        "u32[2] in [0, 4000000000), u32[]",
        "u32[3, 2] in [0, 4000000000), i32[3]",
        "u32[0, 2] in [0, 4000000000), i64[0]",
    ]);

    fn infer(&self, operands: &[&TensorType]) -> Inferred {
        let (key, data) = (operands[0], operands[1]);
        let lead = check_key("C1", key)?;
        check_index_dtype("C2", "`data`", data)?;
        require!("C2", data.shape.dims() == lead, "`key` is {key} and `data` is {data}");
        Ok(vec![key.clone()])
    }
}
