//! `broadcast`: what one participant holds, for all of them.

use crate::ops::participants::check_participants;
use crate::ops::prelude::*;

op! {
    /// `y[p] = x[root]` for each participant `p`.
    ///
    /// (C1) `x` [participants, ..] has elements that can be addressed.
    /// (C2) `root` is a participant.
    broadcast: Broadcast(x) -> y {
        /// Whose value all get.
        root: usize,
    }
}

impl OpSpec for Broadcast {
    const MEANING: Meaning<Self> = Meaning::composite(|op, g, operands| {
        let shape = g.ty(operands[0]).shape.clone();
        let one = g.narrow(operands[0], 0usize, op.root, 1);
        vec![g.expand(one, shape)]
    });
    const VJP: Vjp<Self> = Vjp::ViaDecomposition;
    const JVP: Jvp<Self> = Jvp::ViaDecomposition;
    const BATCH: Batch<Self> = Batch::ViaDecomposition;
    const ACCURACY: AccuracyRule<Self> = |_| Accuracy::Exact;
    // The axis of a sample is at most 2; a lone participant is number 0.
    const SAMPLES: Samples<Self> = Samples::Listed(&[
        "f32[2, 4] {root = 0}",
        "f64[3, 2, 6] {root = 1}",
        "bf16[2, 4, 3]",
        "f32[1, 3, 5]",
        "i32[2, 2, 4, 2] {root = 1}",
        "f32[2, 4, 0]",
    ]);

    fn infer(&self, operands: &[&TensorType]) -> Inferred {
        let participants = check_participants(operands[0], &[])?;
        let legal = participants.as_static().is_none_or(|count| (self.root as i64) < count);
        require!("C2", legal, "there is no participant {} of {participants}", self.root);
        Ok(vec![operands[0].clone()])
    }
}
