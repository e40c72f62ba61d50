//! `softmax_cross_entropy_with_logits`: the usual loss of a classifier.

use crate::ops::prelude::*;

op! {
    /// `loss = -sum over c of target[c] log softmax(logits)[c]` along `axis`, one per row.
    ///
    /// Integer `labels` have the shape of `logits` without `axis`, and name the class whose target is 1; a row
    /// whose label is `ignore_index` has the loss 0. Float `labels` have the type of `logits` and are the targets.
    /// With `label_smoothing` e, targets become `(1 - e) target + e / C`, `C` classes there are.
    /// (C1) `logits` has a float dtype.
    /// (C2) `axis` is an axis of `logits`.
    /// (C3) `labels` is i32, i64 or u32 of the shape of `logits` without `axis`, or of the type of `logits`.
    /// (C4) `ignore_index` is given with integer labels only.
    /// (C5) `label_smoothing` is in `0 ..= 1`.
    /// A class of target 0 adds nothing, whatever its logit. A label outside the classes is a run-time fault.
    /// Half precision computes in f32. Source: PyTorch `cross_entropy`, not reduced.
    softmax_cross_entropy_with_logits: SoftmaxCrossEntropyWithLogits(logits, labels) -> loss {
        /// Axis of the classes.
        axis: usize,
        /// Label of the rows that do not count.
        ignore_index: Option<i64>,
        /// Part of the target that goes to all classes alike.
        label_smoothing: Real,
    }
}

impl OpSpec for SoftmaxCrossEntropyWithLogits {
    const MEANING: Meaning<Self> = Meaning::composite(Self::decompose)
        .checked(|op, operands| label_range(op.axis, op.ignore_index, operands));
    const VJP: Vjp<Self> = Vjp::Rule(|op, g, given| match given.wanted[1] {
        true => Err("the labels are differentiated"),
        false => {
            let Self { axis, ignore_index, label_smoothing } = op.clone();
            let back = SoftmaxCrossEntropyBackward { axis, ignore_index, label_smoothing };
            let operands = [given.operands[0], given.operands[1], given.cotangent()];
            Ok(vec![Some(g.push(back, &operands)), None])
        }
    });
    const JVP: Jvp<Self> = Jvp::ViaDecomposition;
    const BATCH: Batch<Self> =
        Batch::Shift(|op, _| SoftmaxCrossEntropyWithLogits { axis: op.axis + 1, ..op.clone() });
    const ACCURACY: AccuracyRule<Self> = |_| Accuracy::Accumulated { terms: 64 };
    const SAMPLES: Samples<Self> = Samples::Listed(&[
        "f32[3, 5], i64[3] in [0, 5) {axis = 1, ignore_index = none, label_smoothing = 0.0}",
        "f32[5, 3], i32[3] in [0, 5) {axis = 0, label_smoothing = 0.1}",
        "f64[2, 3, 4], u32[2, 4] in [0, 3) {ignore_index = 1}",
        "bf16[4, 3], i64[4] in [0, 3) {ignore_index = -100, label_smoothing = 0.25}",
        "f32[3, 5], f32[3, 5] in [0, 1)",
        "f16[2, 4], f16[2, 4] in [0, 1) {label_smoothing = 0.5}",
        "f32[0, 4], i64[0] in [0, 4)",
        "f32[1, 1], i64[1] in [0, 1)",
    ]);

    fn infer(&self, operands: &[&TensorType]) -> Inferred {
        let (logits, labels) = (operands[0], operands[1]);
        float_like("C1", operands)?;
        check_axis("C2", self.axis, logits)?;
        let rows = reduced_shape(&logits.shape, &[self.axis], false);
        let soft = labels.dtype.is_float();
        if soft {
            require!("C3", labels == logits, "targets are {labels}, expected {logits}");
        } else {
            check_index_dtype("C3", "labels", labels)?;
            require!("C3", labels.shape == rows, "labels have shape {}, expected {rows}", labels.shape);
        }
        require!("C4", !soft || self.ignore_index.is_none(), "ignore_index has no meaning for targets");
        let share = self.label_smoothing.0;
        require!("C5", (0.0..=1.0).contains(&share), "label_smoothing must be in 0 ..= 1, found {share}");
        Ok(vec![TensorType::new(logits.dtype, rows)])
    }
}

impl SoftmaxCrossEntropyWithLogits {
    fn decompose(&self, g: &mut Graph, operands: &[Value]) -> Vec<Value> {
        let (ty, labels) = (g.ty(operands[0]).clone(), operands[1]);
        let logits = g.accumulation_cast(operands[0]);
        let logs = g.log_softmax(logits, self.axis);
        let dtype = g.ty(logs).dtype;
        let zero = g.scalar(dtype, 0.0);
        let is_ignored = ignored(g, labels, self.ignore_index);
        let mut loss = if g.ty(labels).dtype.is_float() {
            let targets = g.accumulation_cast(labels);
            let nothing = g.compare_eq(targets, zero);
            let part = g.mul(targets, logs);
            let part = g.r#where(nothing, zero, part);
            g.reduce(part, ReduceKind::Sum, vec![self.axis], false)
        } else {
            let class = counted(g, labels, is_ignored);
            let class = g.unsqueeze(class, self.axis as i64);
            let picked = g.gather_elements(logs, class, self.axis);
            g.squeeze(picked, self.axis as i64)
        };
        if self.label_smoothing.0 > 0.0 {
            let kept = g.scalar(dtype, 1.0 - self.label_smoothing.0);
            let shared = share(g, dtype, self.label_smoothing.0, &ty.shape[self.axis]);
            let sum = g.reduce(logs, ReduceKind::Sum, vec![self.axis], false);
            let (own, all) = (g.mul(loss, kept), g.mul(sum, shared));
            loss = g.add(own, all);
        }
        let loss = g.neg(loss);
        let loss = is_ignored.map_or(loss, |ignored| g.r#where(ignored, zero, loss));
        vec![g.cast_to(loss, ty.dtype)]
    }
}

/// Labels are classes, or `ignore_index`.
pub(super) fn label_range(
    axis: usize,
    ignore_index: Option<i64>,
    operands: &[&TensorType],
) -> Vec<ValueRange> {
    let labels = ValueRange::below(1, operands[0].shape[axis].clone());
    let labels = ValueRange { except: ignore_index, ..labels };
    if operands[1].dtype.is_float() { vec![] } else { vec![labels] }
}

/// Which rows do not count; none if all do.
pub(super) fn ignored(g: &mut Graph, labels: Value, ignore_index: Option<i64>) -> Option<Value> {
    let dtype = g.ty(labels).dtype;
    let label = ignore_index?;
    // A label that the dtype cannot hold stands nowhere.
    let (low, high) = dtype.int_range()?;
    (low..=high).contains(&i128::from(label)).then_some(())?;
    let literal = Literal::from_numbers(dtype, &[], [Number::Int(i128::from(label))]);
    let label = g.constant(literal.expect("one number is a literal of rank 0"));
    Some(g.compare_eq(labels, label))
}

/// The labels, class 0 for the rows that do not count.
pub(super) fn counted(g: &mut Graph, labels: Value, ignored: Option<Value>) -> Value {
    let dtype = g.ty(labels).dtype;
    let first = g.scalar(dtype, 0.0);
    ignored.map_or(labels, |ignored| g.r#where(ignored, first, labels))
}

/// What smoothing gives each class.
pub(super) fn share(g: &mut Graph, dtype: DType, smoothing: f64, classes: &Dim) -> Value {
    let (all, count) = (g.scalar(dtype, smoothing), g.extent(dtype, classes));
    g.div(all, count)
}
