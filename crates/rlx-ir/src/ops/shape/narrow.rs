//! `narrow`: a contiguous range along one axis.

use crate::ops::prelude::*;

op! {
    /// Elements `start .. start + len` of `x` along `axis`. For steps see `slice`; for a start that only
    /// the data knows see `dynamic_slice`.
    ///
    /// (C1) `axis` is an axis of `x`.
    /// (C2) `start` and `len` are not negative, and `start + len` is at most the extent. What symbols
    /// leave open is checked when they are bound.
    /// (C3) The dtype is not storage-only.
    narrow: Narrow(x) -> y {
        /// The axis.
        axis: usize,
        /// First element.
        start: Dim,
        /// Number of elements.
        len: Dim,
    }
}

impl OpSpec for Narrow {
    const MEANING: Meaning<Self> =
        Meaning::view(|op, layout, _| Some(layout.slice(op.axis, &op.start, 1, &op.len)));
    const VJP: Vjp<Self> = Vjp::Rule(|op, g, given| {
        let extent = g.ty(given.operands[0]).shape[op.axis].clone();
        Ok(vec![Some(g.place(given.cotangent(), op.axis, &op.start, 1, &extent))])
    });
    const JVP: Jvp<Self> = Jvp::Linear;
    const BATCH: Batch<Self> = Batch::Shift(|op, _| Narrow { axis: op.axis + 1, ..op.clone() });
    const ACCURACY: AccuracyRule<Self> = |_| Accuracy::Exact;
    const SAMPLES: Samples<Self> = Samples::Listed(&[
        "f32[4, 5] {axis = 0, start = 1, len = 2}",
        "f16[4, 5] {axis = 1, start = 2, len = 3}",
        "i64[2, 3, 4] {axis = 1, start = 0, len = 3}",
        "u8[7] {start = 7, len = 0}",
        "c128[2, 3] {axis = 1, start = 2, len = 1}",
        "bool[0, 3] {axis = 1}",
    ]);

    fn infer(&self, operands: &[&TensorType]) -> Inferred {
        let x = operands[0];
        check_axis("C1", self.axis, x)?;
        check_not_negative("C2", "start", &self.start)?;
        check_not_negative("C2", "length", &self.len)?;
        let end = self.start.clone() + self.len.clone();
        check_at_most("C2", "the end", &end, &x.shape[self.axis])?;
        check_addressable("C3", operands)?;
        let mut dims = x.shape.clone().into_dims();
        dims[self.axis] = self.len.clone();
        Ok(vec![TensorType::new(x.dtype, Shape::from(dims))])
    }
}
