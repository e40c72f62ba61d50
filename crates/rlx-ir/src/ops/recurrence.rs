//! What `rnn`, `gru` and `lstm` share: operands, and a cell that runs along a sequence in one direction or both.
//!
//! A cell sees a whole batch at one position. Half precision computes in f32 from the first product to the results.

use crate::ops::prelude::*;

attr_enum! {
    /// Which way a recurrent layer goes along its sequence.
    RecurrentDirection {
        /// From the first position to the last.
        Forward = "forward",
        /// From the last position to the first.
        Reverse = "reverse",
        /// Both, each with weights of its own.
        Bidirectional = "bidirectional",
    }
}

/// A recurrent layer with its operands, which are types or values.
pub struct Recurrence<T> {
    pub direction: RecurrentDirection,
    pub clip: Option<Real>,
    /// Gates of the cell: rows of `w` and `r` per hidden element.
    pub gates: usize,
    pub x: T,
    pub w: T,
    pub r: T,
    pub b: Option<T>,
    pub lengths: Option<T>,
    /// What is given of the first states; one per state of the cell.
    pub initial: Vec<Option<T>>,
    pub p: Option<T>,
}

/// What a cell computes from, at one position: its product of the input with `w`, [B, G H], with the input's bias, its
/// states, [B, H] each, and the weights of its direction.
pub struct Cell<'a> {
    pub x: Value,
    pub states: &'a [Value],
    pub r: Value,
    pub recurrent_bias: Option<Value>,
    pub p: Option<Value>,
    pub hidden: Dim,
    clip: Option<Real>,
}

impl RecurrentDirection {
    /// For each set of weights: is the sequence read backwards?
    fn backwards(self) -> &'static [bool] {
        match self {
            RecurrentDirection::Forward => &[false],
            RecurrentDirection::Reverse => &[true],
            RecurrentDirection::Bidirectional => &[false, true],
        }
    }
}

impl Recurrence<&TensorType> {
    /// The types of `y` and of the last states, under the labels that the three ops have in common.
    pub fn infer(&self, activations: &[ActivationKind]) -> Inferred {
        let (x, w, r, dtype) = (self.x, self.w, self.r, self.x.dtype);
        float_like("C1", &[x])?;
        require!("C1", x.rank() == 3, "`x` is {x}, expected [S, B, I]");
        require!("C2", r.rank() == 3, "`r` is {r}, expected [D, {} H, H]", self.gates);
        let directions = Dim::from(self.direction.backwards().len());
        let (steps, batch, hidden) = (&x.shape[0], &x.shape[1], &r.shape[2]);
        let rows = hidden.clone() * Dim::from(self.gates);
        check_type("C2", "`w`", w, dtype, [&directions, &rows, &x.shape[2]])?;
        check_type("C2", "`r`", r, dtype, [&directions, &rows, hidden])?;
        if let Some(b) = self.b {
            check_type("C3", "`b`", b, dtype, [&directions, &(rows * Dim::from(2))])?;
        }
        if let Some(p) = self.p {
            check_type("C3", "`p`", p, dtype, [&directions, &(hidden.clone() * Dim::from(3))])?;
        }
        for ty in self.initial.iter().flatten() {
            check_type("C3", "an initial state", ty, dtype, [&directions, batch, hidden])?;
        }
        if let Some(lengths) = self.lengths {
            check_index_dtype("C4", "`lengths`", lengths)?;
            check_type("C4", "`lengths`", lengths, lengths.dtype, [batch])?;
        }
        for &kind in activations {
            let relabel = |violation: Violation| Violation { constraint: "C5", ..violation };
            Activation::of(kind).infer(&[x]).map_err(relabel)?;
        }
        let clips = self.clip.is_none_or(|clip| clip.0 > 0.0 && clip.0.is_finite());
        require!("C6", clips, "`clip` must be positive and finite");
        let state = TensorType::new(dtype, vec![directions.clone(), batch.clone(), hidden.clone()]);
        let y = TensorType::new(dtype, vec![steps.clone(), directions, batch.clone(), hidden.clone()]);
        Ok(std::iter::once(y).chain(vec![state; self.initial.len()]).collect())
    }
}

impl Recurrence<Value> {
    /// `y` and the last states; `cell` gives the next states, the first of which is the output of the position.
    pub fn build(&self, g: &mut Graph, cell: impl Fn(&mut Graph, &Cell<'_>) -> Vec<Value>) -> Vec<Value> {
        let dtype = g.ty(self.x).dtype;
        let states = self.initial.len();
        let mut results = vec![vec![]; states + 1];
        for (index, &reverse) in self.direction.backwards().iter().enumerate() {
            let values = self.along(g, index, reverse, &cell);
            // The scan gives the last states first.
            results[0].push(values[states]);
            results[1..].iter_mut().zip(&values).for_each(|(all, &last)| all.push(last));
        }
        let stacked = results.into_iter().enumerate().map(|(index, parts)| {
            let all = g.stack(&parts, i64::from(index == 0));
            g.cast_to(all, dtype)
        });
        stacked.collect()
    }

    fn along(
        &self,
        g: &mut Graph,
        index: usize,
        reverse: bool,
        cell: &impl Fn(&mut Graph, &Cell<'_>) -> Vec<Value>,
    ) -> Vec<Value> {
        let part = |g: &mut Graph, value: Value| {
            let part = g.narrow(value, 0usize, index, 1);
            let part = g.squeeze(part, 0);
            g.accumulation_cast(part)
        };
        let (steps, batch) = (g.ty(self.x).shape[0].clone(), g.ty(self.x).shape[1].clone());
        let hidden = g.ty(self.r).shape[2].clone();
        let (x, w, r) = (g.accumulation_cast(self.x), part(g, self.w), part(g, self.r));
        let mut xs = g.matmul(x, w, false, true);
        let mut fixed = vec![r];
        if let Some(b) = self.b {
            let (b, rows) = (part(g, b), hidden.clone() * Dim::from(self.gates));
            let halves = g.split(b, 0, &[rows.clone(), rows]);
            xs = g.add(xs, halves[0]);
            fixed.push(halves[1]);
        }
        fixed.extend(self.p.map(|p| part(g, p)));
        let mut stacked = vec![xs];
        if let Some(lengths) = self.lengths {
            stacked.push(g.iota(g.ty(lengths).dtype, vec![steps.clone()], 0usize));
            fixed.push(lengths);
        }
        let dtype = g.ty(xs).dtype;
        let first = self.initial.iter().map(|given| match given {
            Some(given) => part(g, *given),
            None => g.full(dtype, vec![batch.clone(), hidden.clone()], 0.0),
        });
        let first: Vec<Value> = first.collect();
        let count = first.len();
        g.scan_over(steps, reverse, [&first, &fixed, &stacked], |g, inputs| {
            let (states, rest) = inputs.split_at(count);
            let mut rest = rest.iter().copied();
            let r = rest.next().unwrap_or(Value::POISON);
            let recurrent_bias = self.b.and_then(|_| rest.next());
            let p = self.p.and_then(|_| rest.next());
            let lengths = self.lengths.and_then(|_| rest.next());
            let x = rest.next().unwrap_or(Value::POISON);
            let cell_inputs =
                Cell { x, states, r, recurrent_bias, p, hidden: hidden.clone(), clip: self.clip };
            let mut next = cell(g, &cell_inputs);
            let mut y = next[0];
            if let (Some(lengths), Some(position)) = (lengths, rest.next()) {
                let inside = g.compare_lt(position, lengths);
                let inside = g.unsqueeze(inside, 1);
                next = next.iter().zip(states).map(|(&new, &old)| g.where_(inside, new, old)).collect();
                let zero = g.scalar(dtype, 0.0);
                y = g.where_(inside, y, zero);
            }
            next.push(y);
            next
        })
    }
}

impl Cell<'_> {
    /// Gates `first .. first + count` of the recurrent part: `h r^T` and its bias.
    pub fn recurrent(&self, g: &mut Graph, h: Value, first: usize, count: usize) -> Value {
        let (start, len) = (self.hidden.clone() * Dim::from(first), self.hidden.clone() * Dim::from(count));
        let r = g.narrow(self.r, 0usize, start.clone(), len.clone());
        let product = g.matmul(h, r, false, true);
        let bias = self.recurrent_bias.map(|bias| g.narrow(bias, 0usize, start, len));
        bias.map_or(product, |bias| g.add(product, bias))
    }

    /// Gate `index` of a value of [B, ..] or [..] with a part of H elements per gate.
    pub fn gate(&self, g: &mut Graph, value: Value, index: usize) -> Value {
        g.narrow_at(value, -1, self.hidden.clone() * Dim::from(index), self.hidden.clone())
    }

    /// The activation, of a clipped input.
    pub fn activate(&self, g: &mut Graph, x: Value, kind: ActivationKind) -> Value {
        let x = self.clip.map_or(x, |clip| g.clip(x, -clip.0, clip.0));
        g.activation(x, kind, None)
    }
}
