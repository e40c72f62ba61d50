//! `dynamic_update_slice`: a window overwritten where the data says.

use crate::ops::prelude::*;

op! {
    /// `base`, with the window that begins at `starts[i]` along `axes[i]` (and at 0 elsewhere) replaced by
    /// `update`.
    ///
    /// (C1) `axes` are axes of `base`, strictly increasing, at least one.
    /// (C2) `update` has the dtype and rank of `base` and its extents outside `axes`; along `axes` it is
    /// not larger. What symbols leave open is checked when they are bound.
    /// (C3) `starts` is i32, i64 or u32 of shape `[axes.len()]`.
    /// (C4) The dtype is not storage-only.
    /// A window that does not lie inside `base` is a run-time fault (StableHLO would move it).
    dynamic_update_slice: DynamicUpdateSlice(base, update, starts) -> y {
        /// The axes that have a start.
        axes: Vec<usize>,
    }
}

impl OpSpec for DynamicUpdateSlice {
    const MEANING: Meaning<Self> =
        Meaning::composite_with_eval(Self::decompose, Self::eval).in_place().checked(|op, types| {
            let axes = op.axes.iter();
            let windows = axes.map(|&axis| (types[0].shape[axis].clone(), types[1].shape[axis].clone()));
            vec![ValueRange::windows(2, windows)]
        });
    const VJP: Vjp<Self> = Vjp::Rule(|op, g, given| {
        let (dy, starts) = (given.cotangent(), given.operands[2]);
        let sizes: Vec<_> = op.axes.iter().map(|&axis| g.ty(given.operands[1]).shape[axis].clone()).collect();
        let zeros = g.zeros_like(given.operands[1]);
        let base = g.dynamic_update_slice(dy, zeros, starts, op.axes.clone());
        Ok(vec![Some(base), Some(g.dynamic_slice(dy, starts, op.axes.clone(), sizes)), None])
    });
    const JVP: Jvp<Self> = Jvp::Linear;
    const BATCH: Batch<Self> =
        Batch::ShiftFirst(2, |op, _| DynamicUpdateSlice { axes: shift_axes(&op.axes) });
    const ACCURACY: AccuracyRule<Self> = |_| Accuracy::Exact;
    const SAMPLES: Samples<Self> = Samples::Listed(&[
        "f32[6, 3], f32[2, 3], i64[1] in [0, 5) {axes = [0]}",
        "bf16[2, 5, 3], bf16[2, 1, 3], i32[1] in [0, 5) {axes = [1]}",
        "i64[4, 5, 3], i64[2, 5, 2], u32[2] in [0, 2) {axes = [0, 2]}",
        "bool[4], bool[4], i64[1] in [0, 1)",
        "f64[4, 2], f64[0, 2], i64[1] in [0, 5)",
        "f32[3, 0], f32[1, 0], i64[1] in [0, 3)",
    ]);

    fn infer(&self, operands: &[&TensorType]) -> Inferred {
        let (base, update, starts) = (operands[0], operands[1], operands[2]);
        check_axes("C1", &self.axes, base)?;
        require!("C1", !self.axes.is_empty(), "there is no axis to start at");
        same_dtype("C2", &[base, update])?;
        require!("C2", base.rank() == update.rank(), "{update} has another rank than {base}");
        for axis in 0..base.rank() {
            let (have, room) = (&update.shape[axis], &base.shape[axis]);
            if self.axes.contains(&axis) {
                check_at_most("C2", &format!("extent of axis {axis}"), have, room)?;
            } else {
                require!("C2", have == room, "axis {axis} has extent {have}, expected {room}");
            }
        }
        check_starts("C3", starts, self.axes.len())?;
        check_addressable("C4", &[base])?;
        Ok(vec![base.clone()])
    }
}

impl DynamicUpdateSlice {
    fn eval(&self, operands: &[&Literal]) -> Evaluated {
        let (base, update) = (operands[0], operands[1]);
        let starts = read_values(self, operands, 2)?;
        overwrite_elements(base, update, |index| {
            let mut target = index.to_vec();
            for (&axis, start) in self.axes.iter().zip(&starts) {
                target[axis] += start;
            }
            row_major(base.dims(), &target)
        })
    }

    fn decompose(&self, g: &mut Graph, operands: &[Value]) -> Vec<Value> {
        let (base, update, starts) = (operands[0], operands[1], operands[2]);
        let rank = g.ty(base).rank();
        let lens: Vec<_> = self.axes.iter().map(|&axis| g.ty(update).shape[axis].clone()).collect();
        let indices = window_vectors(g, starts, &lens);
        let (front, back) = axes_to_front(&self.axes, rank);
        let (moved, update) = (g.transpose(base, front.clone()), g.transpose(update, front));
        let y = g.scatter_nd(moved, indices, update, ScatterKind::None);
        vec![g.transpose(y, back)]
    }
}

/// The permutation that brings `axes` to the front, and its inverse.
pub fn axes_to_front(axes: &[usize], rank: usize) -> (Vec<usize>, Vec<usize>) {
    let rest = (0..rank).filter(|axis| !axes.contains(axis));
    let front: Vec<usize> = axes.iter().copied().chain(rest).collect();
    let back = (0..rank).map(|axis| front.iter().position(|&from| from == axis).unwrap_or(axis)).collect();
    (front, back)
}
