//! `all_to_all`: a part of each participant for each other one.

use crate::ops::participants::{
    check_participants, collective_samples, merge_axes, parted, split_axis, with_extent,
};
use crate::ops::prelude::*;

op! {
    /// `y[p]` is part `p` along `split_axis` of every `x[q]`, one after the other along `concat_axis`.
    ///
    /// (C1) `x` [participants, ..] has elements that can be addressed.
    /// (C2) The axes are two of its others, or the same one.
    /// (C3) There are equal parts along `split_axis`, one per participant.
    all_to_all: AllToAll(x) -> y {
        /// Axis of `x` that is cut into parts.
        split_axis: usize,
        /// Axis of `x` along which the parts of the participants stand.
        concat_axis: usize,
    }
}

impl OpSpec for AllToAll {
    const MEANING: Meaning<Self> = Meaning::composite(|op, g, operands| {
        let participants = g.ty(operands[0]).shape[0].clone();
        let parts = split_axis(g, operands[0], op.split_axis, &participants);
        // Receivers in front, senders in front of the axis along which their parts stand.
        let to = g.move_axis(parts, op.split_axis, 0);
        let moved = g.move_axis(to, 1, op.concat_axis);
        vec![merge_axes(g, moved, op.concat_axis)]
    });
    const VJP: Vjp<Self> = Vjp::ViaDecomposition;
    const JVP: Jvp<Self> = Jvp::ViaDecomposition;
    const BATCH: Batch<Self> = Batch::ViaDecomposition;
    const ACCURACY: AccuracyRule<Self> = |_| Accuracy::Exact;
    const SAMPLES: Samples<Self> = Samples::Made(|| {
        let at = |concat_axis| move |split_axis| AllToAll { split_axis, concat_axis };
        collective_samples(at(1)).into_iter().chain(collective_samples(|axis| at(axis)(axis))).collect()
    });

    fn infer(&self, operands: &[&TensorType]) -> Inferred {
        let participants = check_participants(operands[0], &[self.split_axis, self.concat_axis])?;
        let part = parted(operands[0], self.split_axis)?;
        with_extent(&part, self.concat_axis, part.shape[self.concat_axis].clone() * participants)
    }
}
