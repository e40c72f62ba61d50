//! `transpose`: axes in another order.

use crate::ops::prelude::*;

op! {
    /// Axis `i` of the result is axis `permutation[i]` of `x`.
    ///
    /// (C1) `permutation` names every axis of `x` once.
    /// (C2) The dtype is not storage-only.
    transpose: Transpose(x) -> y {
        /// Source axis of each result axis.
        permutation: Vec<usize>,
    }
}

impl OpSpec for Transpose {
    const MEANING: Meaning<Self> = Meaning::view(|op, layout, _| Some(layout.transpose(&op.permutation)));
    const VJP: Vjp<Self> = Vjp::Rule(|op, g, given| {
        let mut inverse = vec![0; op.permutation.len()];
        op.permutation.iter().enumerate().for_each(|(axis, &from)| inverse[from] = axis);
        Ok(vec![Some(g.transpose(given.cotangent(), inverse))])
    });
    const JVP: Jvp<Self> = Jvp::Linear;
    const BATCH: Batch<Self> =
        Batch::Shift(|op, _| Transpose { permutation: [vec![0], shift_axes(&op.permutation)].concat() });
    const ACCURACY: AccuracyRule<Self> = |_| Accuracy::Exact;
    const SAMPLES: Samples<Self> = Samples::Listed(&[
        "f32[2, 3] {permutation = [1, 0]}",
        "i32[2, 3, 4] {permutation = [2, 0, 1]}",
        "f64[] {permutation = []}",
        "u8[0, 2]",
    ]);

    fn infer(&self, operands: &[&TensorType]) -> Inferred {
        let x = operands[0];
        let mut sorted = self.permutation.clone();
        sorted.sort_unstable();
        require!(
            "C1",
            sorted.iter().copied().eq(0..x.rank()),
            "permutation {:?} does not fit rank {}",
            self.permutation,
            x.rank()
        );
        check_addressable("C2", operands)?;
        let dims = self.permutation.iter().map(|&axis| x.shape[axis].clone()).collect::<Vec<_>>();
        Ok(vec![TensorType::new(x.dtype, Shape::from(dims))])
    }
}
