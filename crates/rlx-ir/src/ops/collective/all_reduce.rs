//! `all_reduce`: what all participants hold, combined, for all of them.

use crate::ops::participants::{check_participants, collective_samples};
use crate::ops::prelude::*;

op! {
    /// `y[p] = kind of x[q] over all q`, for each participant `p`.
    ///
    /// (C1) `x` [participants, ..] has elements that can be addressed, of a dtype that `reduce` takes for `kind`.
    all_reduce: AllReduce(x) -> y {
        /// How values are combined.
        kind: ReduceKind,
    }
}

impl OpSpec for AllReduce {
    const MEANING: Meaning<Self> = Meaning::composite(|op, g, operands| {
        let participants = g.ty(operands[0]).shape[0].clone();
        let total = g.push(op.reduce(), operands);
        vec![g.expand_batch(total, &participants)]
    });
    const VJP: Vjp<Self> = Vjp::ViaDecomposition;
    const JVP: Jvp<Self> = Jvp::ViaDecomposition;
    const BATCH: Batch<Self> = Batch::ViaDecomposition;
    const ACCURACY: AccuracyRule<Self> = |op| Reduce::ACCURACY(&op.reduce());
    const SAMPLES: Samples<Self> = Samples::Made(|| {
        let kinds = ReduceKind::ALL.iter().filter(|kind| !matches!(kind, ReduceKind::Any | ReduceKind::All));
        let samples = kinds.flat_map(|&kind| collective_samples(|_| AllReduce { kind }));
        // A mean of integers is none.
        let is_mean = |sample: &Sample<Self>| sample.op.kind == ReduceKind::Mean;
        samples.filter(|sample| !is_mean(sample) || sample.operands[0].0.dtype.is_float()).collect()
    });

    fn infer(&self, operands: &[&TensorType]) -> Inferred {
        check_participants(operands[0], &[])?;
        self.reduce().infer(operands)?;
        Ok(vec![operands[0].clone()])
    }
}

impl AllReduce {
    fn reduce(&self) -> Reduce {
        Reduce { kind: self.kind, axes: vec![0], keep_dims: false }
    }
}
