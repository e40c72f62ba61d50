//! `reduce_scatter`: what all participants hold, combined, a part for each of them.

use crate::ops::participants::{check_participants, collective_samples, parted, split_axis};
use crate::ops::prelude::*;

op! {
    /// `y[p]` is part `p` along `axis` of `kind of x[q] over all q`, for each participant `p`.
    ///
    /// (C1) `x` [participants, ..] has elements that can be addressed, of a dtype that `reduce` takes for `kind`.
    /// (C2) `axis` is one of its other axes.
    /// (C3) There are equal parts along it, one per participant.
    reduce_scatter: ReduceScatter(x) -> y {
        /// How values are combined.
        kind: ReduceKind,
        /// Axis of `x` that is cut into parts.
        axis: usize,
    }
}

impl OpSpec for ReduceScatter {
    const MEANING: Meaning<Self> = Meaning::composite(|op, g, operands| {
        let participants = g.ty(operands[0]).shape[0].clone();
        let total = g.push(op.reduce(), operands);
        let parts = split_axis(g, total, op.axis - 1, &participants);
        vec![g.move_axis(parts, op.axis - 1, 0)]
    });
    const VJP: Vjp<Self> = Vjp::ViaDecomposition;
    const JVP: Jvp<Self> = Jvp::ViaDecomposition;
    const BATCH: Batch<Self> = Batch::ViaDecomposition;
    const ACCURACY: AccuracyRule<Self> = |op| Reduce::ACCURACY(&op.reduce());
    const SAMPLES: Samples<Self> = Samples::Made(|| {
        let kinds = ReduceKind::ALL.iter().filter(|kind| !matches!(kind, ReduceKind::Any | ReduceKind::All));
        let samples = kinds.flat_map(|&kind| collective_samples(|axis| ReduceScatter { kind, axis }));
        // A mean of integers is none.
        let is_mean = |sample: &Sample<Self>| sample.op.kind == ReduceKind::Mean;
        samples.filter(|sample| !is_mean(sample) || sample.operands[0].0.dtype.is_float()).collect()
    });

    fn infer(&self, operands: &[&TensorType]) -> Inferred {
        check_participants(operands[0], &[self.axis])?;
        self.reduce().infer(operands)?;
        Ok(vec![parted(operands[0], self.axis)?])
    }
}

impl ReduceScatter {
    fn reduce(&self) -> Reduce {
        Reduce { kind: self.kind, axes: vec![0], keep_dims: false }
    }
}
