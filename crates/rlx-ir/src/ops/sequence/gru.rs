//! `gru`: a recurrent layer with an update gate and a reset gate.

use crate::ops::prelude::*;
use crate::ops::recurrence::{Cell, Recurrence, samples_of};

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

    fn infer(&self, operands: &[&TensorType]) -> Inferred {
        self.layer(operands).infer(&[self.gate, self.candidate])
    }

    fn samples() -> Vec<Sample<Self>> {
        samples_of(3, 1, false, |direction, clip, index, given| Gru {
            direction,
            gate: ActivationKind::Sigmoid,
            candidate: if index == 1 { ActivationKind::Softsign } else { ActivationKind::Tanh },
            linear_before_reset: index % 2 == 1,
            clip,
            b: given,
            lengths: given,
            initial_h: given,
        })
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
