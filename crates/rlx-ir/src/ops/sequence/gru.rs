//! `gru`: a recurrent layer with an update gate and a reset gate.

use crate::ops::prelude::*;
use crate::ops::recurrence::{Cell, Recurrence};

op! {
    /// `h = (1 - z) c + z h` along a sequence, with `z` and `r'` the `gate` function of their parts of
    /// `x w^T + h r^T + b` and `c` the `candidate` function of its part, of which `r'` scales the state, or the product
    /// of the state and its bias with `linear_before_reset`. Shapes are those of `rnn`, with 3 H rows, the parts of
    /// `z`, `r'` and `c` in this order, in `w` [D, 3 H, I], `r` [D, 3 H, H] and each half of `b` [D, 6 H].
    ///
    /// (C1) `x` has a float dtype and rank 3.
    /// (C2) `w` and `r` have these shapes and the dtype of `x`.
    /// (C3) So have `b` and the initial state.
    /// (C4) `lengths` is `i32[B]`, `i64[B]` or `u32[B]`.
    /// (C5) `gate` and `candidate` take floats and no parameter.
    /// (C6) `clip`, the bound of what an activation sees, is positive and finite.
    /// Half precision computes in f32. Source: ONNX GRU with layout 0.
    gru: Gru(x, w, r)[b, lengths, initial_h] -> [y, y_h] {
        /// Which way it goes.
        direction: RecurrentDirection,
        /// Function of the gates.
        gate: ActivationKind,
        /// Function of the new content.
        candidate: ActivationKind,
        /// Is the product with the state computed before the reset gate applies?
        linear_before_reset: bool,
        /// Bound of the operands of both functions.
        clip: Option<Real>,
    }
}

impl OpSpec for Gru {
    const MEANING: Meaning<Self> =
        Meaning::composite(|op, g, operands| op.layer(operands).build(g, |g, cell| vec![op.step(g, cell)]));
    const VJP: Vjp<Self> = Vjp::ViaDecomposition;
    const JVP: Jvp<Self> = Jvp::ViaDecomposition;
    const BATCH: Batch<Self> = Batch::ViaDecomposition;
    const ACCURACY: AccuracyRule<Self> = |_| Accuracy::Accumulated { terms: 512 };
    const SAMPLES: Samples<Self> = Samples::Listed(&[
        "f32[3, 2, 3], f32[1, 6, 3] in [-0.8, 0.8), f32[1, 6, 2] in [-0.8, 0.8) \
         {direction = forward, gate = sigmoid, candidate = tanh, linear_before_reset = false, clip = none}",
        "f32[3, 2, 3], f32[1, 6, 3] in [-0.8, 0.8), f32[1, 6, 2] in [-0.8, 0.8), f32[1, 12], i32[2] in [0, \
         4), f32[1, 2, 2] {direction = reverse, candidate = softsign, linear_before_reset = true, b = true, \
         lengths = true, initial_h = true}",
        "f64[4, 2, 3], f64[2, 6, 3] in [-0.8, 0.8), f64[2, 6, 2] in [-0.8, 0.8), f64[2, 12], i32[2] in [0, \
         5), f64[2, 2, 2] {direction = bidirectional, clip = 3.0, b = true, lengths = true, \
         initial_h = true}",
        "bf16[2, 2, 3], bf16[1, 6, 3] in [-0.8, 0.8), bf16[1, 6, 2] in [-0.8, 0.8) \
         {linear_before_reset = true}",
        "f32[0, 2, 3], f32[1, 6, 3] in [-0.8, 0.8), f32[1, 6, 2] in [-0.8, 0.8), f32[1, 12], i32[2] in [0, \
         1), f32[1, 2, 2] {b = true, lengths = true, initial_h = true}",
    ]);

    fn infer(&self, operands: &[&TensorType]) -> Inferred {
        self.layer(operands).infer(&[self.gate, self.candidate])
    }
}

impl Gru {
    fn layer<T: Copy>(&self, operands: &[T]) -> Recurrence<T> {
        let given = |name| self.operand_index(name).map(|index| operands[index]);
        Recurrence {
            direction: self.direction,
            clip: self.clip,
            gates: 3,
            x: operands[0],
            w: operands[1],
            r: operands[2],
            b: given("b"),
            lengths: given("lengths"),
            initial: vec![given("initial_h")],
            p: None,
        }
    }

    fn step(&self, g: &mut Graph, cell: &Cell<'_>) -> Value {
        let h = cell.states[0];
        let products = cell.recurrent(g, h, 0, if self.linear_before_reset { 3 } else { 2 });
        let [update, reset] = [0, 1].map(|index| {
            let (x, product) = (cell.gate(g, cell.x, index), cell.gate(g, products, index));
            let sum = g.add(x, product);
            cell.activate(g, sum, self.gate)
        });
        let content = if self.linear_before_reset {
            let product = cell.gate(g, products, 2);
            g.mul(reset, product)
        } else {
            let state = g.mul(reset, h);
            cell.recurrent(g, state, 2, 1)
        };
        let x = cell.gate(g, cell.x, 2);
        let sum = g.add(x, content);
        let candidate = cell.activate(g, sum, self.candidate);
        // (1 - z) c + z h
        let one = g.scalar(g.ty(h).dtype, 1.0);
        let rest = g.sub(one, update);
        let (new, old) = (g.mul(rest, candidate), g.mul(update, h));
        g.add(new, old)
    }
}
