//! `kv_append`: new rows written into a cache, each batch row at its own position.

use crate::ops::prelude::*;

op! {
    /// The new state of a cache: `state`, with `update[b]` written into row `b` at positions
    /// `positions[b] ..` along `axis`, whose extent is the capacity. Axis 0 is the batch. In place where
    /// the state is donated.
    ///
    /// (C1) `axis` is an axis of `state`, not 0.
    /// (C2) `update` has the dtype and rank of `state` and its extents outside `axis`; along it, it is not
    /// larger than the capacity. What symbols leave open is checked when they are bound.
    /// (C3) `positions` is i32, i64 or u32 of shape `[batch]`.
    /// (C4) The dtype is not storage-only.
    /// A negative position, or one from which the update runs past the capacity, is a run-time fault.
    kv_append: KvAppend(state, update, positions) -> new_state {
        /// The sequence axis.
        axis: usize,
    }
}

impl OpSpec for KvAppend {
    const MEANING: Meaning<Self> =
        Meaning::composite_with_eval(Self::decompose, Self::eval).in_place().checked(|op, types| {
            let [capacity, len] = [0, 1].map(|operand: usize| types[operand].shape[op.axis].clone());
            vec![ValueRange::windows(2, [(capacity, len)])]
        });
    const VJP: Vjp<Self> = Vjp::ViaDecomposition;
    const JVP: Jvp<Self> = Jvp::Linear;
    const BATCH: Batch<Self> = Batch::ViaDecomposition;
    const ACCURACY: AccuracyRule<Self> = |_| Accuracy::Exact;
    const SAMPLES: Samples<Self> = Samples::Listed(&[
        "f32[2, 2, 6, 3], f32[2, 2, 1, 3], i64[2] in [0, 6) {axis = 2}",
        "f16[3, 5, 2, 2], f16[3, 2, 2, 2], i32[3] in [0, 4) {axis = 1}",
        "bf16[2, 3, 4], bf16[2, 3, 3], u32[2] in [0, 2)",
        "i8[2, 4], i8[2, 4], i64[2] in [0, 1) {axis = 1}",
        "f32[2, 4], f32[2, 0], i64[2] in [0, 5) {axis = 1}",
        "f32[0, 4, 2], f32[0, 1, 2], i64[0] in [0, 4) {axis = 1}",
    ]);

    fn infer(&self, operands: &[&TensorType]) -> Inferred {
        let (state, update, positions) = (operands[0], operands[1], operands[2]);
        check_axis("C1", self.axis, state)?;
        require!("C1", self.axis != 0, "axis 0 is the batch, not the sequence");
        same_dtype("C2", &[state, update])?;
        require!("C2", state.rank() == update.rank(), "{update} has another rank than {state}");
        for axis in 0..state.rank() {
            let (have, room) = (&update.shape[axis], &state.shape[axis]);
            if axis == self.axis {
                check_at_most("C2", "the length of the update", have, room)?;
            } else {
                require!("C2", have == room, "axis {axis} has extent {have}, expected {room}");
            }
        }
        check_starts("C3", positions, state.shape[0].clone())?;
        check_addressable("C4", &[state])?;
        Ok(vec![state.clone()])
    }
}

impl KvAppend {
    fn eval(&self, operands: &[&Literal]) -> Evaluated {
        let (state, update) = (operands[0], operands[1]);
        let starts = read_values(self, operands, 2)?;
        overwrite_elements(state, update, |index| {
            let mut target = index.to_vec();
            target[self.axis] += starts[index[0]];
            row_major(state.dims(), &target)
        })
    }

    fn decompose(&self, g: &mut Graph, operands: &[Value]) -> Vec<Value> {
        let (state, update) = (operands[0], operands[1]);
        let positions = wide_index(g, operands[2]);
        let (rank, dtype) = (g.ty(state).rank(), g.ty(positions).dtype);
        let (batch, len) = (g.ty(update).shape[0].clone(), g.ty(update).shape[self.axis].clone());
        let window = Shape::new([batch.clone(), len.clone(), 1.into()]);
        let row = g.iota(dtype, window.clone(), 0usize);
        let offset = g.iota(dtype, window, 1usize);
        let start = g.reshape(positions, Shape::new([batch, 1.into(), 1.into()]));
        let position = g.add(start, offset);
        let indices = g.concat(&[row, position], 2usize);
        let (front, back) = axes_to_front(&[0, self.axis], rank);
        let (moved, update) = (g.transpose(state, front.clone()), g.transpose(update, front));
        let y = g.scatter_nd(moved, indices, update, ScatterKind::None);
        vec![g.transpose(y, back)]
    }
}
