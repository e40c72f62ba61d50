//! `softmax_cross_entropy_backward`: the derivative of the loss by the logits.

use super::softmax_cross_entropy_with_logits::{counted, ignored, label_range, share};
use crate::ops::prelude::*;

op! {
    /// `dlogits = (softmax(logits) sum(target) - target) dloss` along `axis`, the targets as
    /// `softmax_cross_entropy_with_logits` makes them of `labels`; 0 in the rows that do not count.
    ///
    /// (C1) to (C5) are those of `softmax_cross_entropy_with_logits`.
    /// (C6) `dloss` has the type of the loss.
    /// A label outside the classes is a run-time fault.
    /// Half precision computes in f32.
    softmax_cross_entropy_backward: SoftmaxCrossEntropyBackward(logits, labels, dloss) -> dlogits {
        /// Axis of the classes.
        axis: usize,
        /// Label of the rows that do not count.
        ignore_index: Option<i64>,
        /// Part of the target that goes to all classes alike.
        label_smoothing: Real,
    }
}

impl OpSpec for SoftmaxCrossEntropyBackward {
    const MEANING: Meaning<Self> = Meaning::composite(Self::decompose)
        .checked(|op, operands| label_range(op.axis, op.ignore_index, operands));
    const VJP: Vjp<Self> = Vjp::ViaDecomposition;
    const JVP: Jvp<Self> = Jvp::ViaDecomposition;
    const BATCH: Batch<Self> =
        Batch::Shift(|op, _| SoftmaxCrossEntropyBackward { axis: op.axis + 1, ..op.clone() });
    const ACCURACY: AccuracyRule<Self> = |_| Accuracy::Accumulated { terms: 64 };
    const SAMPLES: Samples<Self> = Samples::Listed(&[
        "f32[3, 5], i64[3] in [0, 5), f32[3] {axis = 1, ignore_index = none, label_smoothing = 0.0}",
        "f32[5, 3], i32[3] in [0, 5), f32[3] {axis = 0, label_smoothing = 0.1}",
        "f64[2, 3, 4], u32[2, 4] in [0, 3), f64[2, 4] {ignore_index = 1}",
        "bf16[4, 3], i64[4] in [0, 3), bf16[4] {ignore_index = -100, label_smoothing = 0.25}",
        "f32[3, 5], f32[3, 5] in [0, 1), f32[3]",
        "f16[2, 4], f16[2, 4] in [0, 1), f16[2] {label_smoothing = 0.5}",
        "f32[0, 4], i64[0] in [0, 4), f32[0]",
        "f32[1, 1], i64[1] in [0, 1), f32[1]",
    ]);

    fn infer(&self, operands: &[&TensorType]) -> Inferred {
        let Self { axis, ignore_index, label_smoothing } = self.clone();
        let forward = SoftmaxCrossEntropyWithLogits { axis, ignore_index, label_smoothing };
        let loss = forward.infer(&operands[..2])?;
        require!("C6", loss[0] == *operands[2], "dloss is {}, expected {}", operands[2], loss[0]);
        Ok(vec![operands[0].clone()])
    }
}

impl SoftmaxCrossEntropyBackward {
    fn decompose(&self, g: &mut Graph, operands: &[Value]) -> Vec<Value> {
        let (ty, labels) = (g.ty(operands[0]).clone(), operands[1]);
        let (logits, dloss) = (g.accumulation_cast(operands[0]), g.accumulation_cast(operands[2]));
        let softmax = g.softmax(logits, self.axis);
        let dtype = g.ty(softmax).dtype;
        let is_ignored = ignored(g, labels, self.ignore_index);
        let classes = ty.shape[self.axis].clone();
        let smoothing = self.label_smoothing.0;
        let shared = (smoothing > 0.0).then(|| share(g, dtype, smoothing, &classes));
        let slope = if g.ty(labels).dtype.is_float() {
            let mut targets = g.accumulation_cast(labels);
            if let Some(shared) = shared {
                let kept = g.scalar(dtype, 1.0 - smoothing);
                let own = g.mul(targets, kept);
                targets = g.add(own, shared);
            }
            let sum = g.reduce(targets, ReduceKind::Sum, vec![self.axis], true);
            let mass = g.mul(softmax, sum);
            g.sub(mass, targets)
        } else {
            let rest = shared.map_or(softmax, |shared| g.sub(softmax, shared));
            let class = counted(g, labels, is_ignored);
            let class = g.unsqueeze(class, self.axis as i64);
            let own = g.full(dtype, g.ty(class).shape.clone(), smoothing - 1.0);
            g.scatter_elements(rest, class, own, self.axis, ScatterKind::Add)
        };
        let zero = g.scalar(dtype, 0.0);
        let dloss = is_ignored.map_or(dloss, |ignored| g.r#where(ignored, zero, dloss));
        let dloss = g.unsqueeze(dloss, self.axis as i64);
        let dlogits = g.mul(slope, dloss);
        vec![g.cast_to(dlogits, ty.dtype)]
    }
}
