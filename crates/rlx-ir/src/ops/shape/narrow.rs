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
    const VJP: Vjp<Self> = Vjp::Rule(Self::vjp);
    const JVP: Jvp<Self> = Jvp::Linear;
    const BATCH: Batch<Self> = Batch::Shift(|op, _| Narrow { axis: op.axis + 1, ..op.clone() });
    const ACCURACY: AccuracyRule<Self> = |_| Accuracy::Exact;

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

    fn samples() -> Vec<Sample<Self>> {
        let sample = |dims: &[usize], axis, start: i64, len: i64, dtype| {
            Sample::new(Narrow { axis, start: start.into(), len: len.into() }, [TensorType::new(dtype, dims)])
        };
        vec![
            sample(&[4, 5], 0, 1, 2, DType::F32),
            sample(&[4, 5], 1, 2, 3, DType::F16),
            sample(&[2, 3, 4], 1, 0, 3, DType::I64),
            sample(&[7], 0, 7, 0, DType::U8),
            sample(&[2, 3], 1, 2, 1, DType::C128),
            sample(&[0, 3], 1, 1, 2, DType::Bool),
        ]
    }
}

impl Narrow {
    fn vjp(&self, g: &mut Graph, given: Backward<'_>) -> Derivatives {
        let extent = g.ty(given.operands[0]).shape[self.axis].clone();
        Ok(vec![Some(g.place(given.cotangent(), self.axis, &self.start, 1, &extent))])
    }
}
