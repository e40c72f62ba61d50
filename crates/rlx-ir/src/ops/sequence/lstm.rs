//! `lstm`: a recurrent layer with input, output and forget gates and a cell state.

use crate::ops::prelude::*;
use crate::ops::recurrence::{Cell, Recurrence};

op! {
    /// `c = f c + i c'` and `h = o output(c)` along a sequence, with `i`, `o` and `f` the `gate` function of their parts
    /// of `x w^T + h r^T + b`, plus `p c` for the old cell state (`o`: the new one) and their parts of `p`, and `c'` the
    /// `candidate` function of its part. With `input_forget`, `f` is `1 - i`. Shapes are those of `rnn`, with 4 H rows,
    /// the parts of `i`, `o`, `f` and `c'` in this order, in `w` [D, 4 H, I], `r` [D, 4 H, H] and each half of `b`
    /// [D, 8 H]; `p` is [D, 3 H] with `i`, `o` and `f`; both states have the same shape.
    ///
    /// (C1) `x` has a float dtype and rank 3.
    /// (C2) `w` and `r` have these shapes and the dtype of `x`.
    /// (C3) So have `b`, `p` and the initial states.
    /// (C4) `lengths` is `i32[B]`, `i64[B]` or `u32[B]`.
    /// (C5) `gate`, `candidate` and `output` take floats and no parameter.
    /// (C6) `clip`, the bound of what an activation of a gate or of new content sees, is positive and finite.
    /// Half precision computes in f32. Source: ONNX LSTM with layout 0.
    lstm: Lstm(x, w, r)[b, lengths, initial_h, initial_c, p] -> [y, y_h, y_c] {
        /// Which way it goes.
        direction: RecurrentDirection,
        /// Function of the gates.
        gate: ActivationKind,
        /// Function of the new content.
        candidate: ActivationKind,
        /// Function of the cell state that is given out.
        output: ActivationKind,
        /// Is the forget gate what the input gate leaves?
        input_forget: bool,
        /// Bound of the operands of the first two functions.
        clip: Option<Real>,
    }
}

impl OpSpec for Lstm {
    const MEANING: Meaning<Self> =
        Meaning::composite(|op, g, operands| op.layer(operands).build(g, |g, cell| op.step(g, cell)));
    const VJP: Vjp<Self> = Vjp::ViaDecomposition;
    const JVP: Jvp<Self> = Jvp::ViaDecomposition;
    const BATCH: Batch<Self> = Batch::ViaDecomposition;
    const ACCURACY: AccuracyRule<Self> = |_| Accuracy::Accumulated { terms: 512 };
    const SAMPLES: Samples<Self> = Samples::Listed(&[
        "f32[3, 2, 3], f32[1, 8, 3] in [-0.8, 0.8), f32[1, 8, 2] in [-0.8, 0.8) \
         {direction = forward, gate = sigmoid, candidate = tanh, output = tanh, input_forget = false, \
         clip = none}",
        "f32[3, 2, 3], f32[1, 8, 3] in [-0.8, 0.8), f32[1, 8, 2] in [-0.8, 0.8), f32[1, 16], i32[2] in [0, \
         4), f32[1, 2, 2], f32[1, 2, 2], f32[1, 6] \
         {direction = reverse, output = softsign, b = true, lengths = true, initial_h = true, \
         initial_c = true, p = true}",
        "f64[4, 2, 3], f64[2, 8, 3] in [-0.8, 0.8), f64[2, 8, 2] in [-0.8, 0.8), f64[2, 16], i32[2] in [0, \
         5), f64[2, 2, 2], f64[2, 2, 2], f64[2, 6] \
         {direction = bidirectional, input_forget = true, clip = 3.0, b = true, lengths = true, \
         initial_h = true, initial_c = true, p = true}",
        "bf16[2, 2, 3], bf16[1, 8, 3] in [-0.8, 0.8), bf16[1, 8, 2] in [-0.8, 0.8)",
        "f32[0, 2, 3], f32[1, 8, 3] in [-0.8, 0.8), f32[1, 8, 2] in [-0.8, 0.8), f32[1, 16], i32[2] in [0, \
         1), f32[1, 2, 2], f32[1, 2, 2], f32[1, 6] \
         {b = true, lengths = true, initial_h = true, initial_c = true, p = true}",
    ]);

    fn infer(&self, operands: &[&TensorType]) -> Inferred {
        self.layer(operands).infer(&[self.gate, self.candidate, self.output])
    }
}

impl Lstm {
    fn layer<T: Copy>(&self, operands: &[T]) -> Recurrence<T> {
        let given = |name| self.operand_index(name).map(|index| operands[index]);
        Recurrence {
            direction: self.direction,
            clip: self.clip,
            gates: 4,
            x: operands[0],
            w: operands[1],
            r: operands[2],
            b: given("b"),
            lengths: given("lengths"),
            initial: vec![given("initial_h"), given("initial_c")],
            p: given("p"),
        }
    }

    fn step(&self, g: &mut Graph, cell: &Cell<'_>) -> Vec<Value> {
        let (h, c) = (cell.states[0], cell.states[1]);
        let recurrent = cell.recurrent(g, h, 0, 4);
        let sums = g.add(cell.x, recurrent);
        let gate = |g: &mut Graph, index: usize, c: Value| {
            let mut sum = cell.gate(g, sums, index);
            if let Some(p) = cell.p {
                let p = cell.gate(g, p, index);
                let peek = g.mul(p, c);
                sum = g.add(sum, peek);
            }
            cell.activate(g, sum, self.gate)
        };
        let input = gate(g, 0, c);
        let forget = if self.input_forget {
            let one = g.scalar(g.ty(c).dtype, 1.0);
            g.sub(one, input)
        } else {
            gate(g, 2, c)
        };
        let content = cell.gate(g, sums, 3);
        let content = cell.activate(g, content, self.candidate);
        let (kept, new) = (g.mul(forget, c), g.mul(input, content));
        let c = g.add(kept, new);
        let output = gate(g, 1, c);
        let shown = g.activation(c, self.output, None);
        vec![g.mul(output, shown), c]
    }
}
