//! Recurrent layers. Those whose activations the ops of the graph have become these ops; the others become a scan per
//! direction.

use super::{Rule, rule};
use crate::context::Context;
use crate::node::{Node, Outcome, Stop};
use rlx_ir::attr::Real;
use rlx_ir::ops::{ActivationKind, Gru, Lstm, RecurrentDirection, Rnn};
use rlx_ir::{DType, Dim, Graph, Value};

pub(super) const RULES: &[Rule] = &[
    rule("RNN", &[1, 7, 14, 22], |cx, node| recurrent(cx, node, Cell::Rnn)),
    rule("GRU", &[1, 3, 7, 14, 22], |cx, node| recurrent(cx, node, Cell::Gru)),
    rule("LSTM", &[1, 7, 14, 22], |cx, node| recurrent(cx, node, Cell::Lstm)),
];

#[derive(Clone, Copy, PartialEq, Eq)]
enum Cell {
    Rnn,
    Gru,
    Lstm,
}

impl Cell {
    /// Its gates, and the names of its activations where none are given.
    fn shape(self) -> (usize, &'static [&'static str]) {
        match self {
            Cell::Rnn => (1, &["Tanh"]),
            Cell::Gru => (3, &["Sigmoid", "Tanh"]),
            Cell::Lstm => (4, &["Sigmoid", "Tanh", "Tanh"]),
        }
    }
}

/// An activation with its parameters.
#[derive(Clone, Debug, PartialEq)]
struct Function {
    name: String,
    alpha: f64,
    beta: f64,
}

impl Function {
    /// What is used of `alpha` and `beta`, with the values that stand for missing ones.
    fn defaults(name: &str) -> (Option<f64>, Option<f64>) {
        match name {
            "affine" => (Some(1.0), Some(0.0)),
            "leakyrelu" => (Some(0.01), None),
            "thresholdedrelu" | "elu" => (Some(1.0), None),
            "scaledtanh" => (Some(1.0), Some(1.0)),
            "hardsigmoid" => (Some(0.2), Some(0.5)),
            _ => (None, None),
        }
    }

    /// The activation of the graph that it is, if any.
    fn kind(&self) -> Option<ActivationKind> {
        match self.name.as_str() {
            "tanh" => Some(ActivationKind::Tanh),
            "sigmoid" => Some(ActivationKind::Sigmoid),
            "relu" => Some(ActivationKind::Relu),
            "softsign" => Some(ActivationKind::Softsign),
            "softplus" => Some(ActivationKind::Softplus),
            _ => None,
        }
    }

    fn apply(&self, graph: &mut Graph, x: Value) -> Value {
        if let Some(kind) = self.kind() {
            return graph.activation(x, kind, None);
        }
        let dtype = graph.try_ty(x).map_or(DType::F32, |ty| ty.dtype);
        let (alpha, beta) = (graph.scalar(dtype, self.alpha), graph.scalar(dtype, self.beta));
        let affine = |graph: &mut Graph| {
            let scaled = graph.mul(x, alpha);
            graph.add(scaled, beta)
        };
        match self.name.as_str() {
            "affine" => affine(graph),
            "hardsigmoid" => {
                let line = affine(graph);
                graph.clip(line, 0.0, 1.0)
            }
            "leakyrelu" => graph.activation(x, ActivationKind::LeakyRelu, Some(Real(self.alpha))),
            "elu" => graph.activation(x, ActivationKind::Elu, Some(Real(self.alpha))),
            "scaledtanh" => {
                let inner = graph.mul(x, beta);
                let bounded = graph.tanh(inner);
                graph.mul(bounded, alpha)
            }
            _ => {
                let zero = graph.scalar(dtype, 0.0);
                let above = graph.compare_ge(x, alpha);
                graph.where_(above, x, zero)
            }
        }
    }
}

/// The activations of all directions, `per` for each.
fn functions<'m>(node: &Node<'m>, defaults: &[&str], directions: usize) -> Result<Vec<Function>, Stop<'m>> {
    let count = defaults.len() * directions;
    let mut names = node.strings("activations")?.unwrap_or_default();
    // The schema of RNN states two defaults, whatever the direction.
    if names.is_empty() || (defaults.len() == 1 && names.len() == 2 && names == ["Tanh", "Tanh"]) {
        names = (0..count).map(|index| defaults[index % defaults.len()].to_string()).collect();
    }
    if names.len() != count {
        return Err(Stop::Invalid(format!("it has {} activations, expected {count}", names.len())));
    }
    let mut alphas = node.floats("activation_alpha")?.unwrap_or_default().into_iter();
    let mut betas = node.floats("activation_beta")?.unwrap_or_default().into_iter();
    let known = [
        "tanh",
        "sigmoid",
        "relu",
        "softsign",
        "softplus",
        "affine",
        "leakyrelu",
        "thresholdedrelu",
        "elu",
        "scaledtanh",
        "hardsigmoid",
    ];
    let mut functions = vec![];
    for name in names {
        let name = name.to_lowercase();
        if !known.contains(&name.as_str()) {
            return Err(Stop::Refused(format!("the activation {name:?}")));
        }
        // Only the functions that have a parameter take one from the list.
        let (alpha, beta) = Function::defaults(&name);
        let alpha = alpha.map_or(0.0, |default| alphas.next().map_or(default, f64::from));
        let beta = beta.map_or(0.0, |default| betas.next().map_or(default, f64::from));
        functions.push(Function { name, alpha, beta });
    }
    Ok(functions)
}

/// A layer, its operands with the sequence first and everything in one dtype.
struct Layer {
    cell: Cell,
    direction: RecurrentDirection,
    functions: Vec<Function>,
    clip: Option<f64>,
    linear_before_reset: bool,
    input_forget: bool,
    x: Value,
    w: Value,
    r: Value,
    bias: Option<Value>,
    lengths: Option<Value>,
    initial: Option<Value>,
    initial_cell: Option<Value>,
    peepholes: Option<Value>,
}

fn direction<'m>(node: &Node<'m>) -> Result<RecurrentDirection, Stop<'m>> {
    match node.string_or("direction", "forward")?.as_str() {
        "forward" => Ok(RecurrentDirection::Forward),
        "reverse" => Ok(RecurrentDirection::Reverse),
        "bidirectional" => Ok(RecurrentDirection::Bidirectional),
        other => Err(Stop::Invalid(format!("direction {other:?} is not known"))),
    }
}

fn read<'m>(cx: &mut Context<'m>, node: &Node<'m>, cell: Cell, batch_first: bool) -> Result<Layer, Stop<'m>> {
    for (index, name) in [(0, "X"), (1, "W"), (2, "R")] {
        if node.rank(index)? != 3 {
            return Err(Stop::Invalid(format!("{name} is of rank {}, expected 3", node.rank(index)?)));
        }
    }
    let direction = direction(node)?;
    let directions = if direction == RecurrentDirection::Bidirectional { 2 } else { 1 };
    let hidden = node.shape(2)?[2].clone();
    if let Some(stated) = node.int("hidden_size")?
        && hidden.as_static().is_some_and(|hidden| hidden != stated)
    {
        return Err(Stop::Invalid(format!("hidden_size is {stated}, R has {hidden}")));
    }
    if node.version < 7 {
        node.without_influence("output_sequence");
    }
    let functions = functions(node, cell.shape().1, directions)?;
    let clip = node.float("clip")?.map(f64::from).filter(|&clip| clip > 0.0);
    let linear_before_reset = cell == Cell::Gru && node.flag("linear_before_reset", false)?;
    let input_forget = cell == Cell::Lstm && node.flag("input_forget", false)?;
    let state = |cx: &mut Context<'m>, index: usize| -> Result<Option<Value>, Stop<'m>> {
        let value = node.optional(cx, index)?;
        Ok(value.map(|value| if batch_first { cx.graph().swap_axes(value, 0, 1) } else { value }))
    };
    let mut x = node.value(cx, 0)?;
    if batch_first {
        x = cx.graph().swap_axes(x, 0, 1);
    }
    let is_lstm = cell == Cell::Lstm;
    let [initial, initial_cell] = [state(cx, 5)?, if is_lstm { state(cx, 6)? } else { None }];
    Ok(Layer {
        cell,
        direction,
        functions,
        clip,
        linear_before_reset,
        input_forget,
        x,
        w: node.value(cx, 1)?,
        r: node.value(cx, 2)?,
        bias: node.optional(cx, 3)?,
        lengths: node.optional(cx, 4)?,
        initial,
        initial_cell,
        peepholes: if is_lstm { node.optional(cx, 7)? } else { None },
    })
}

fn recurrent<'m>(cx: &mut Context<'m>, node: &Node<'m>, cell: Cell) -> Outcome<'m> {
    let batch_first = node.version >= 14 && node.flag("layout", false)?;
    let layer = read(cx, node, cell, batch_first)?;
    let mut results = match layer.native(cx.graph()) {
        Some(results) => results,
        None => layer.composed(cx)?,
    };
    if batch_first {
        for (index, result) in results.iter_mut().enumerate() {
            *result = match index {
                0 => cx.graph().transpose(*result, vec![2usize, 0, 1, 3]),
                _ => cx.graph().swap_axes(*result, 0, 1),
            };
        }
    }
    cx.tensors(results)
}

impl Layer {
    /// As an op of the graph, where it has the activations.
    fn native(&self, graph: &mut Graph) -> Option<Vec<Value>> {
        let kinds: Vec<ActivationKind> = self.functions.iter().map(Function::kind).collect::<Option<_>>()?;
        let per = self.cell.shape().1.len();
        let own = kinds.get(..per)?;
        if kinds.chunks(per).any(|kinds| kinds != own) {
            return None;
        }
        let (direction, clip) = (self.direction, self.clip.map(Real));
        let (b, lengths, initial_h) = (self.bias.is_some(), self.lengths.is_some(), self.initial.is_some());
        let mut operands = vec![self.x, self.w, self.r];
        operands.extend([self.bias, self.lengths, self.initial].into_iter().flatten());
        Some(match (self.cell, own) {
            (Cell::Rnn, &[activation]) => {
                graph.push_all(Rnn { direction, activation, clip, b, lengths, initial_h }, &operands)
            }
            (Cell::Gru, &[gate, candidate]) => {
                let linear_before_reset = self.linear_before_reset;
                let op = Gru { direction, gate, candidate, linear_before_reset, clip, b, lengths, initial_h };
                graph.push_all(op, &operands)
            }
            (Cell::Lstm, &[gate, candidate, output]) => {
                operands.extend([self.initial_cell, self.peepholes].into_iter().flatten());
                let op = Lstm {
                    direction,
                    gate,
                    candidate,
                    output,
                    input_forget: self.input_forget,
                    clip,
                    b,
                    lengths,
                    initial_h,
                    initial_c: self.initial_cell.is_some(),
                    p: self.peepholes.is_some(),
                };
                graph.push_all(op, &operands)
            }
            _ => return None,
        })
    }

    /// As a scan per direction.
    fn composed<'m>(&self, cx: &mut Context<'m>) -> Result<Vec<Value>, Stop<'m>> {
        let per = self.cell.shape().1.len();
        let mut directions = vec![];
        for (index, functions) in self.functions.chunks(per).enumerate() {
            let is_reverse = self.direction == RecurrentDirection::Reverse || index == 1;
            directions.push(self.direction_scan(cx, index, functions, is_reverse)?);
        }
        let count = directions.first().map_or(0, Vec::len);
        let graph = cx.graph();
        let join = |result: usize| {
            let parts: Vec<Value> = directions.iter().map(|direction| direction[result]).collect();
            graph.stack(&parts, i64::from(result == 0))
        };
        Ok((0..count).map(join).collect())
    }

    /// One direction: the states after every position, and the last ones.
    fn direction_scan<'m>(
        &self,
        cx: &mut Context<'m>,
        index: usize,
        functions: &[Function],
        is_reverse: bool,
    ) -> Result<Vec<Value>, Stop<'m>> {
        let ty = cx.ty(self.x)?;
        let hidden = cx.ty(self.r)?.shape[2].clone();
        let wide = if ty.dtype == DType::F64 { DType::F64 } else { DType::F32 };
        let (length, batch) = (ty.shape[0].clone(), ty.shape[1].clone());
        let gates = Dim::from(self.cell.shape().0) * hidden.clone();
        let graph = cx.graph();
        let own = |graph: &mut Graph, value: Value| {
            let value = graph.cast_to(value, wide);
            let value = graph.narrow(value, 0usize, index, 1);
            graph.squeeze(value, 0)
        };
        let (w, r) = (own(graph, self.w), own(graph, self.r));
        let x = graph.cast_to(self.x, wide);
        let mut projected = graph.matmul(x, w, false, true);
        let mut recurrent_bias = graph.full(wide, vec![gates.clone()], 0.0);
        if let Some(bias) = self.bias {
            let bias = own(graph, bias);
            let input_bias = graph.narrow(bias, 0usize, 0, gates.clone());
            recurrent_bias = graph.narrow(bias, 0usize, gates.clone(), gates);
            projected = graph.add(projected, input_bias);
        }
        let state = |graph: &mut Graph, value: Option<Value>| match value {
            Some(value) => own(graph, value),
            None => graph.full(wide, vec![batch.clone(), hidden.clone()], 0.0),
        };
        let mut carries = vec![state(graph, self.initial)];
        if self.cell == Cell::Lstm {
            carries.push(state(graph, self.initial_cell));
        }
        let mut fixed = vec![r, recurrent_bias];
        if let Some(peepholes) = self.peepholes {
            fixed.push(own(graph, peepholes));
        }
        let mut stacked = vec![projected];
        if let Some(lengths) = self.lengths {
            let position = graph.iota(DType::I64, vec![length.clone(), batch.clone()], 0usize);
            let lengths = graph.cast_to(lengths, DType::I64);
            let active = graph.compare_lt(position, lengths);
            stacked.push(graph.unsqueeze(active, 2));
        }
        let count = carries.len();
        let scanned = graph.scan_over(length, is_reverse, [&carries, &fixed, &stacked], |graph, inputs| {
            let (states, rest) = inputs.split_at(count);
            let (fixed, stacked) = rest.split_at(fixed.len());
            let step = Step { layer: self, functions, hidden: &hidden };
            let mut next = step.next(graph, states, fixed, stacked[0]);
            let mut shown = next.first().copied().unwrap_or(Value::POISON);
            if let Some(&active) = stacked.get(1) {
                let zero = graph.scalar(wide, 0.0);
                shown = graph.where_(active, shown, zero);
                for (next, &old) in next.iter_mut().zip(states) {
                    *next = graph.where_(active, *next, old);
                }
            }
            next.push(shown);
            next
        });
        let mut results: Vec<Value> = scanned.iter().map(|&value| graph.cast_to(value, ty.dtype)).collect();
        results.rotate_right(1);
        Ok(results)
    }
}

/// One step of one direction.
struct Step<'a> {
    layer: &'a Layer,
    functions: &'a [Function],
    hidden: &'a Dim,
}

impl Step<'_> {
    /// Function number `index` of `x`, which is clipped first.
    fn activate(&self, graph: &mut Graph, index: usize, x: Value) -> Value {
        let x = match self.layer.clip {
            Some(clip) => graph.clip(x, -clip, clip),
            None => x,
        };
        self.functions[index].apply(graph, x)
    }

    /// Part `index` of `x`, each as wide as the state.
    fn part(&self, graph: &mut Graph, x: Value, index: usize) -> Value {
        graph.narrow_at(x, -1, Dim::from(index) * self.hidden.clone(), self.hidden.clone())
    }

    fn next(&self, graph: &mut Graph, states: &[Value], fixed: &[Value], x: Value) -> Vec<Value> {
        match (self.layer.cell, states) {
            (Cell::Lstm, &[h, c]) => self.lstm(graph, (h, c), fixed, x),
            (Cell::Gru, &[h]) => vec![self.gru(graph, h, fixed, x)],
            (_, &[h, ..]) => {
                let sum = self.sum(graph, h, fixed, x);
                vec![self.activate(graph, 0, sum)]
            }
            _ => vec![],
        }
    }

    /// `x + h r^T + bias`.
    fn sum(&self, graph: &mut Graph, h: Value, fixed: &[Value], x: Value) -> Value {
        let product = graph.matmul(h, fixed[0], false, true);
        let product = graph.add(product, fixed[1]);
        graph.add(x, product)
    }

    fn gru(&self, graph: &mut Graph, h: Value, fixed: &[Value], x: Value) -> Value {
        let sum = self.sum(graph, h, fixed, x);
        let (update, reset) = (self.part(graph, sum, 0), self.part(graph, sum, 1));
        let (update, reset) = (self.activate(graph, 0, update), self.activate(graph, 0, reset));
        let weights = graph.narrow(fixed[0], 0usize, Dim::from(2) * self.hidden.clone(), self.hidden.clone());
        let bias = self.part(graph, fixed[1], 2);
        let kept = if self.layer.linear_before_reset {
            let product = graph.matmul(h, weights, false, true);
            let product = graph.add(product, bias);
            graph.mul(reset, product)
        } else {
            let scaled = graph.mul(reset, h);
            let product = graph.matmul(scaled, weights, false, true);
            graph.add(product, bias)
        };
        let own = self.part(graph, x, 2);
        let content = graph.add(own, kept);
        let content = self.activate(graph, 1, content);
        // (1 - z) c + z h = c + z (h - c)
        let difference = graph.sub(h, content);
        let moved = graph.mul(update, difference);
        graph.add(content, moved)
    }

    fn lstm(&self, graph: &mut Graph, (h, c): (Value, Value), fixed: &[Value], x: Value) -> Vec<Value> {
        let sum = self.sum(graph, h, fixed, x);
        // Gates stand as input, output, forget and cell, peepholes as the first three of them.
        let gate = |graph: &mut Graph, index: usize, cell: Value| {
            let mut part = self.part(graph, sum, index);
            if let Some(&peepholes) = fixed.get(2) {
                let own = self.part(graph, peepholes, index);
                let seen = graph.mul(own, cell);
                part = graph.add(part, seen);
            }
            self.activate(graph, 0, part)
        };
        let input = gate(graph, 0, c);
        let forget = if self.layer.input_forget {
            let one = graph.full(graph.try_ty(input).map_or(DType::F32, |ty| ty.dtype), [1usize; 0], 1.0);
            graph.sub(one, input)
        } else {
            gate(graph, 2, c)
        };
        let content = self.part(graph, sum, 3);
        let content = self.activate(graph, 1, content);
        let (kept, added) = (graph.mul(forget, c), graph.mul(input, content));
        let cell = graph.add(kept, added);
        let output = gate(graph, 1, cell);
        let shown = self.functions[2].apply(graph, cell);
        vec![graph.mul(output, shown), cell]
    }
}
