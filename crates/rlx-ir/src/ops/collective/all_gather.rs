//! `all_gather`: the parts of all participants, one after the other, for all of them.

use crate::ops::participants::{check_participants, collective_samples, merge_axes, with_extent};
use crate::ops::prelude::*;

op! {
    /// `y[p]` is all `x[q]`, one after the other along `axis`, for each participant `p`.
    ///
    /// (C1) `x` [participants, ..] has elements that can be addressed.
    /// (C2) `axis` is one of its other axes.
    all_gather: AllGather(x) -> y {
        /// Axis of `x` along which the parts stand.
        axis: usize,
    }
}

impl OpSpec for AllGather {
    const MEANING: Meaning<Self> = Meaning::composite(|op, g, operands| {
        let participants = g.ty(operands[0]).shape[0].clone();
        let moved = g.move_axis(operands[0], 0, op.axis - 1);
        let whole = merge_axes(g, moved, op.axis - 1);
        vec![g.expand_batch(whole, &participants)]
    });
    const VJP: Vjp<Self> = Vjp::ViaDecomposition;
    const JVP: Jvp<Self> = Jvp::ViaDecomposition;
    const BATCH: Batch<Self> = Batch::ViaDecomposition;
    const ACCURACY: AccuracyRule<Self> = |_| Accuracy::Exact;
    const SAMPLES: Samples<Self> = Samples::Made(|| collective_samples(|axis| AllGather { axis }));

    fn infer(&self, operands: &[&TensorType]) -> Inferred {
        let participants = check_participants(operands[0], &[self.axis])?;
        with_extent(operands[0], self.axis, operands[0].shape[self.axis].clone() * participants)
    }
}
