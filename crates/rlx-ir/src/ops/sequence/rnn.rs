//! `rnn`: a recurrent layer with one gate.

use crate::ops::prelude::*;
use crate::ops::recurrence::Recurrence;

op! {
    /// `h = activation(x w^T + h r^T + b)` along a sequence: `x` is [S, B, I], `w` [D, H, I], `r` [D, H, H], `b`
    /// [D, 2 H] with the bias of the input before that of the state, `initial_h` [D, B, H], zeros if not given; D is the
    /// number of directions. `y`, [S, D, B, H], has the state after every position, `y_h`, [D, B, H], the last one.
    ///
    /// Positions from `lengths[b]` on, also of a sequence read backwards, leave the state as it is and give zeros.
    /// (C1) `x` has a float dtype and rank 3.
    /// (C2) `w` and `r` have these shapes and the dtype of `x`.
    /// (C3) So have `b` and the initial state.
    /// (C4) `lengths` is `i32[B]`, `i64[B]` or `u32[B]`.
    /// (C5) `activation` takes floats and no parameter.
    /// (C6) `clip`, the bound of what an activation sees, is positive and finite.
    /// Half precision computes in f32. Source: ONNX RNN with layout 0.
    rnn: Rnn(x, w, r)[b, lengths, initial_h] -> [y, y_h] {
        /// Which way it goes.
        direction: RecurrentDirection,
        /// The function.
        activation: ActivationKind,
        /// Bound of its operand.
        clip: Option<Real>,
    }
}

impl OpSpec for Rnn {
    const MEANING: Meaning<Self> = Meaning::composite(|op, g, operands| {
        op.layer(operands).build(g, |g, cell| {
            let recurrent = cell.recurrent(g, cell.states[0], 0, 1);
            let sum = g.add(cell.x, recurrent);
            vec![cell.activate(g, sum, op.activation)]
        })
    });
    const VJP: Vjp<Self> = Vjp::ViaDecomposition;
    const JVP: Jvp<Self> = Jvp::ViaDecomposition;
    const BATCH: Batch<Self> = Batch::ViaDecomposition;
    const ACCURACY: AccuracyRule<Self> = |_| Accuracy::Accumulated { terms: 512 };
    const SAMPLES: Samples<Self> = Samples::Listed(&[
        "f32[3, 2, 3], f32[1, 2, 3] in [-0.8, 0.8), f32[1, 2, 2] in [-0.8, 0.8) \
         {direction = forward, activation = tanh, clip = none}",
        "f32[3, 2, 3], f32[1, 2, 3] in [-0.8, 0.8), f32[1, 2, 2] in [-0.8, 0.8), f32[1, 4], i32[2] in [0, \
         4), f32[1, 2, 2] {direction = reverse, activation = sigmoid, b = true, lengths = true, \
         initial_h = true}",
        "f64[4, 2, 3], f64[2, 2, 3] in [-0.8, 0.8), f64[2, 2, 2] in [-0.8, 0.8), f64[2, 4], i32[2] in [0, \
         5), f64[2, 2, 2] {direction = bidirectional, clip = 3.0, b = true, lengths = true, \
         initial_h = true}",
        "bf16[2, 2, 3], bf16[1, 2, 3] in [-0.8, 0.8), bf16[1, 2, 2] in [-0.8, 0.8)",
        "f32[0, 2, 3], f32[1, 2, 3] in [-0.8, 0.8), f32[1, 2, 2] in [-0.8, 0.8), f32[1, 4], i32[2] in [0, \
         1), f32[1, 2, 2] {b = true, lengths = true, initial_h = true}",
    ]);

    fn infer(&self, operands: &[&TensorType]) -> Inferred {
        self.layer(operands).infer(&[self.activation])
    }
}

impl Rnn {
    fn layer<T: Copy>(&self, operands: &[T]) -> Recurrence<T> {
        let given = |name| self.operand_index(name).map(|index| operands[index]);
        Recurrence {
            direction: self.direction,
            clip: self.clip,
            gates: 1,
            x: operands[0],
            w: operands[1],
            r: operands[2],
            b: given("b"),
            lengths: given("lengths"),
            initial: vec![given("initial_h")],
            p: None,
        }
    }
}
