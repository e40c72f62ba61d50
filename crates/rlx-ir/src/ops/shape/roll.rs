//! `roll`: elements shifted around the end of an axis.

use crate::ops::prelude::*;

op! {
    /// `x` with every element moved `shifts[i]` positions up along `axes[i]`; what leaves at the end
    /// comes back at the start. Shifts may be negative or larger than the extent (NumPy `roll`).
    ///
    /// (C1) `axes` are axes of `x`, strictly increasing; `shifts` has one entry each.
    /// (C2) The dtype is not storage-only.
    roll: Roll(x) -> y {
        /// The shifted axes.
        axes: Vec<usize>,
        /// How far.
        shifts: Vec<Dim>,
    }
}

impl OpSpec for Roll {
    const MEANING: Meaning<Self> = Meaning::composite(|op, g, operands| {
        let mut x = operands[0];
        for (&axis, shift) in op.axes.iter().zip(&op.shifts) {
            let extent = g.ty(x).shape[axis].clone();
            // An empty axis has nothing to shift; the maximum keeps the remainder defined.
            let wrapped = shift.modulo(&extent.maximum(&Dim::from(1)));
            let kept = extent - wrapped.clone();
            let tail = g.narrow(x, axis, kept.clone(), wrapped);
            let head = g.narrow(x, axis, 0, kept);
            x = g.concat(&[tail, head], axis);
        }
        vec![x]
    });
    const VJP: Vjp<Self> = Vjp::Rule(|op, g, given| {
        let shifts = op.shifts.iter().map(|shift| -shift.clone()).collect::<Vec<_>>();
        Ok(vec![Some(g.roll(given.cotangent(), op.axes.clone(), shifts))])
    });
    const JVP: Jvp<Self> = Jvp::Linear;
    const BATCH: Batch<Self> = Batch::Shift(|op, _| Roll { axes: shift_axes(&op.axes), ..op.clone() });
    const ACCURACY: AccuracyRule<Self> = |_| Accuracy::Exact;
    const SAMPLES: Samples<Self> = Samples::Listed(&[
        "f32[5] {axes = [0], shifts = [2]}",
        "i32[2, 3, 4] {axes = [0, 2], shifts = [-1, 3]}",
        "f16[3, 2] {axes = [0, 1], shifts = [7, 0]}",
        "bool[0, 2] {shifts = [3]}",
        "c64[2] {axes = [], shifts = []}",
    ]);

    fn infer(&self, operands: &[&TensorType]) -> Inferred {
        check_axes("C1", &self.axes, operands[0])?;
        let (axes, shifts) = (self.axes.len(), self.shifts.len());
        require!("C1", axes == shifts, "shifts has {shifts} entries, expected {axes}, one per axis");
        check_addressable("C2", operands)?;
        Ok(vec![operands[0].clone()])
    }
}
