//! `reverse`: axes read backwards.

use crate::ops::prelude::*;

op! {
    /// `x` with the order of its elements along `axes` reversed.
    ///
    /// (C1) `axes` are axes of `x`, strictly increasing.
    /// (C2) The dtype is not storage-only.
    reverse: Reverse(x) -> y {
        /// The reversed axes.
        axes: Vec<usize>,
    }
}

impl OpSpec for Reverse {
    const MEANING: Meaning<Self> = Meaning::view(|op, layout, _| {
        Some(op.axes.iter().fold(layout.clone(), |layout, &axis| {
            let extent = layout.shape[axis].clone();
            layout.slice(axis, &(extent.clone() - Dim::from(1)), -1, &extent)
        }))
    });
    const VJP: Vjp<Self> = Vjp::Rule(|op, g, given| Ok(vec![Some(g.push(op.clone(), &[given.cotangent()]))]));
    const JVP: Jvp<Self> = Jvp::Linear;
    const BATCH: Batch<Self> = Batch::Shift(|op, _| Reverse { axes: shift_axes(&op.axes) });
    const ACCURACY: AccuracyRule<Self> = |_| Accuracy::Exact;
    const SAMPLES: Samples<Self> = Samples::Listed(&[
        "f32[5] {axes = [0]}",
        "i16[2, 3, 4] {axes = [0, 2]}",
        "bool[2, 3] {axes = []}",
        "c128[1, 3] {axes = [0, 1]}",
        "f16[0, 3] {axes = [0, 1]}",
    ]);

    fn infer(&self, operands: &[&TensorType]) -> Inferred {
        check_axes("C1", &self.axes, operands[0])?;
        check_addressable("C2", operands)?;
        Ok(vec![operands[0].clone()])
    }
}
