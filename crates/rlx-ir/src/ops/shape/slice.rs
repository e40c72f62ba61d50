//! `slice`: strided ranges along several axes.

use crate::ops::prelude::*;

op! {
    /// Along axis `axes[i]` of `x`, the `lens[i]` elements `starts[i], starts[i] + steps[i], ..`. Steps may
    /// be negative. Giving the count instead of an end keeps the extent a plain expression.
    ///
    /// (C1) `axes` are axes of `x`, strictly increasing; `starts`, `steps` and `lens` have one entry each.
    /// (C2) No step is 0.
    /// (C3) No start or length is negative, and no element lies outside the axis; a start may equal the
    /// extent where the length is 0. What symbols leave open is checked when they are bound.
    /// (C4) The dtype is not storage-only.
    slice: Slice(x) -> y {
        /// The sliced axes.
        axes: Vec<usize>,
        /// First element along each of them.
        starts: Vec<Dim>,
        /// Distance from one element to the next.
        steps: Vec<i64>,
        /// Number of elements.
        lens: Vec<Dim>,
    }
}

impl OpSpec for Slice {
    const MEANING: Meaning<Self> = Meaning::view(|op, layout, _| {
        let axes = op.axes.iter().enumerate();
        Some(axes.fold(layout.clone(), |layout, (position, &axis)| {
            layout.slice(axis, &op.starts[position], op.steps[position], &op.lens[position])
        }))
    });
    const VJP: Vjp<Self> = Vjp::Rule(|op, g, given| {
        let shape = g.ty(given.operands[0]).shape.clone();
        let mut dx = given.cotangent();
        for (position, &axis) in op.axes.iter().enumerate() {
            let (mut start, len) = (op.starts[position].clone(), &op.lens[position]);
            let step = op.steps[position];
            if step < 0 {
                dx = g.reverse(dx, vec![axis]);
                start = start + (len.clone() - Dim::from(1)) * Dim::from(step);
            }
            dx = g.place(dx, axis, &start, step.unsigned_abs(), &shape[axis]);
        }
        Ok(vec![Some(dx)])
    });
    const JVP: Jvp<Self> = Jvp::Linear;
    const BATCH: Batch<Self> = Batch::Shift(|op, _| Slice { axes: shift_axes(&op.axes), ..op.clone() });
    const ACCURACY: AccuracyRule<Self> = |_| Accuracy::Exact;
    const SAMPLES: Samples<Self> = Samples::Listed(&[
        "f32[7] {axes = [0], starts = [1], steps = [2], lens = [3]}",
        "i32[7] {starts = [6], steps = [-3]}",
        "f32[4, 5] {axes = [0, 1], starts = [3, 0], steps = [-1, 4], lens = [4, 2]}",
        "bf16[2, 3, 4] {axes = [1], steps = [1], lens = [2]}",
        "u8[2, 3] {axes = [1], starts = [3], steps = [-1], lens = [0]}",
        "f64[2, 0] {axes = [0, 1], starts = [1, 0], steps = [-1, 1], lens = [2, 0]}",
        "bool[3] {axes = [], starts = [], steps = [], lens = []}",
    ]);

    fn infer(&self, operands: &[&TensorType]) -> Inferred {
        let x = operands[0];
        check_axes("C1", &self.axes, x)?;
        let count = self.axes.len();
        let fits = [self.starts.len(), self.steps.len(), self.lens.len()].iter().all(|&len| len == count);
        require!("C1", fits, "starts, steps and lens must have {count} entries each, one per axis");
        check_addressable("C4", operands)?;
        let mut dims = x.shape.clone().into_dims();
        for (position, &axis) in self.axes.iter().enumerate() {
            self.check_range(position, &x.shape[axis])?;
            dims[axis] = self.lens[position].clone();
        }
        Ok(vec![TensorType::new(x.dtype, Shape::from(dims))])
    }
}

impl Slice {
    fn check_range(&self, position: usize, extent: &Dim) -> Result<(), Violation> {
        let (start, step, len) = (&self.starts[position], self.steps[position], &self.lens[position]);
        require!("C2", step != 0, "the step of axis {} is 0", self.axes[position]);
        check_not_negative("C3", "start", start)?;
        check_not_negative("C3", "length", len)?;
        check_at_most("C3", "start", start, extent)?;
        if len.is(0) {
            return Ok(());
        }
        let last = start.clone() + (len.clone() - Dim::from(1)) * Dim::from(step);
        check_not_negative("C3", "the last element", &last)?;
        // One element past the last would be too strict for an empty range of symbolic length.
        let furthest = if len.as_static().is_some() { start.clone().maximum(&last) } else { last };
        let bound = extent.clone() - Dim::from(i64::from(len.as_static().is_some()));
        check_at_most("C3", "element", &furthest, &bound)
    }
}
