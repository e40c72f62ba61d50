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
    const MEANING: Meaning<Self> = Meaning::view(Self::view);
    const VJP: Vjp<Self> = Vjp::Rule(|op, g, given| Ok(vec![Some(g.push(op.clone(), &[given.cotangent()]))]));
    const JVP: Jvp<Self> = Jvp::Linear;
    const BATCH: Batch<Self> = Batch::Shift(|op, _| Reverse { axes: shift_axes(&op.axes) });
    const ACCURACY: AccuracyRule<Self> = |_| Accuracy::Exact;

    fn infer(&self, operands: &[&TensorType]) -> Inferred {
        check_axes("C1", &self.axes, operands[0])?;
        check_addressable("C2", operands)?;
        Ok(vec![operands[0].clone()])
    }

    fn samples() -> Vec<Sample<Self>> {
        let sample = |dims: &[usize], axes: &[usize], dtype| {
            Sample::new(Reverse { axes: axes.to_vec() }, [TensorType::new(dtype, dims)])
        };
        vec![
            sample(&[5], &[0], DType::F32),
            sample(&[2, 3, 4], &[0, 2], DType::I16),
            sample(&[2, 3], &[], DType::Bool),
            sample(&[1, 3], &[0, 1], DType::C128),
            sample(&[0, 3], &[0, 1], DType::F16),
        ]
    }
}

impl Reverse {
    fn view(&self, layout: &Layout, _: &TensorType) -> Option<Layout> {
        Some(self.axes.iter().fold(layout.clone(), |layout, &axis| {
            let extent = layout.shape[axis].clone();
            layout.slice(axis, &(extent.clone() - Dim::from(1)), -1, &extent)
        }))
    }
}
