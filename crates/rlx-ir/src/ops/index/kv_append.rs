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

    fn samples() -> Vec<Sample<Self>> {
        let sample = |state: &[usize], len: usize, axis: usize, dtype, index_dtype| {
            let mut update = state.to_vec();
            update[axis] = len;
            let operands = [
                TensorType::new(dtype, state),
                TensorType::new(dtype, update.as_slice()),
                TensorType::new(index_dtype, [state[0]]),
            ];
            let room = (state[axis] - len) as f64;
            Sample::new(KvAppend { axis }, operands).fill(2, 0.0, room + 1.0)
        };
        vec![
            sample(&[2, 2, 6, 3], 1, 2, DType::F32, DType::I64),
            sample(&[3, 5, 2, 2], 2, 1, DType::F16, DType::I32),
            sample(&[2, 3, 4], 3, 2, DType::BF16, DType::U32),
            sample(&[2, 4], 4, 1, DType::I8, DType::I64),
            sample(&[2, 4], 0, 1, DType::F32, DType::I64),
            sample(&[0, 4, 2], 1, 1, DType::F32, DType::I64),
        ]
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
