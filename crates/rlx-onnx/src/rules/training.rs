//! Steps of optimisers: `ai.onnx.preview.training`.
//!
//! Operands are the learning rate, the count of updates, and then groups of as many tensors as there are to train:
//! the tensors, their gradients, and what the optimiser keeps of each.

use super::Rule;
use crate::context::Context;
use crate::node::{Node, Outcome, Stop};
use rlx_ir::{DType, Graph, Shape, Value};

const fn rule(
    op: &'static str,
    import: for<'a, 'm> fn(&'a mut Context<'m>, &'a Node<'m>) -> Outcome<'m>,
) -> Rule {
    Rule { domain: "ai.onnx.preview.training", op, versions: &[1], import }
}

pub(super) const RULES: &[Rule] = &[rule("Adagrad", adagrad), rule("Adam", adam), rule("Momentum", momentum)];

/// What all tensors of a step share, in the dtype of one of them.
struct Step {
    dtype: DType,
    rate: Value,
    /// How many updates there were.
    count: Value,
}

impl Step {
    fn constant(&self, graph: &mut Graph, value: f32) -> Value {
        graph.scalar(self.dtype, f64::from(value))
    }

    /// `factor x + gradient`: the derivative of the loss and of half the square of the norm, times `factor`.
    fn regularised(&self, graph: &mut Graph, factor: f32, [x, gradient]: [Value; 2]) -> Value {
        let factor = self.constant(graph, factor);
        let decay = graph.mul(factor, x);
        graph.add(decay, gradient)
    }

    /// `a x + b y`.
    fn blend(&self, graph: &mut Graph, [a, b]: [Value; 2], [x, y]: [Value; 2]) -> Value {
        let (x, y) = (graph.mul(a, x), graph.mul(b, y));
        graph.add(x, y)
    }

    /// `at_first` before the first update, `later` afterwards.
    fn after_first(&self, graph: &mut Graph, later: Value, at_first: Value) -> Value {
        let zero = self.constant(graph, 0.0);
        let is_later = graph.compare_gt(self.count, zero);
        graph.where_(is_later, later, at_first)
    }

    /// `x - rate direction`.
    fn moved(&self, graph: &mut Graph, x: Value, rate: Value, direction: Value) -> Value {
        let change = graph.mul(rate, direction);
        graph.sub(x, change)
    }

    /// `sqrt(x) + epsilon`.
    fn root(&self, graph: &mut Graph, x: Value, epsilon: f32) -> Value {
        let (root, epsilon) = (graph.sqrt(x), self.constant(graph, epsilon));
        graph.add(root, epsilon)
    }
}

/// Does `update` for every tensor: it takes one value of each of the `N` groups and gives one of each of the `M`
/// groups of results.
fn each<'m, const N: usize, const M: usize>(
    cx: &mut Context<'m>,
    node: &Node<'m>,
    mut update: impl FnMut(&mut Graph, &Step, [Value; N]) -> [Value; M],
) -> Outcome<'m> {
    let count = node.inputs.len().saturating_sub(2) / N;
    if count == 0 || node.inputs.len() != 2 + N * count {
        return Err(Stop::Invalid(format!("it has {} operands, expected groups of {N}", node.inputs.len())));
    }
    let mut results = vec![vec![]; M];
    for tensor in 0..count {
        let mut values = [Value::POISON; N];
        for (group, value) in values.iter_mut().enumerate() {
            *value = node.value(cx, 2 + group * count + tensor)?;
        }
        let dtype = node.dtype(2 + tensor)?;
        let [rate, updates] = [node.value(cx, 0)?, node.value(cx, 1)?].map(|value| {
            let value = cx.graph().cast_to(value, dtype);
            cx.graph().reshape(value, Shape::scalar())
        });
        let updated = update(cx.graph(), &Step { dtype, rate, count: updates }, values);
        for (group, value) in results.iter_mut().zip(updated) {
            group.push(value);
        }
    }
    cx.tensors(results.into_iter().flatten())
}

fn adagrad<'m>(cx: &mut Context<'m>, node: &Node<'m>) -> Outcome<'m> {
    let (factor, decay) = (node.float_or("norm_coefficient", 0.0)?, node.float_or("decay_factor", 0.0)?);
    let epsilon = node.float_or("epsilon", 1e-6)?;
    each(cx, node, |graph, step, [x, gradient, squares]| {
        let (one, decay) = (step.constant(graph, 1.0), step.constant(graph, decay));
        let slowed = graph.mul(step.count, decay);
        let slowed = graph.add(one, slowed);
        let rate = graph.div(step.rate, slowed);
        let gradient = step.regularised(graph, factor, [x, gradient]);
        let square = graph.mul(gradient, gradient);
        let squares = graph.add(squares, square);
        let root = step.root(graph, squares, epsilon);
        let change = graph.mul(rate, gradient);
        let change = graph.div(change, root);
        [graph.sub(x, change), squares]
    })
}

fn adam<'m>(cx: &mut Context<'m>, node: &Node<'m>) -> Outcome<'m> {
    let (alpha, beta) = (node.float_or("alpha", 0.9)?, node.float_or("beta", 0.999)?);
    let epsilon = node.float_or("epsilon", 1e-6)?;
    let factor = node.float_or("norm_coefficient", 0.0)?;
    let factor_after = node.float_or("norm_coefficient_post", 0.0)?;
    each(cx, node, |graph, step, [x, gradient, mean, squares]| {
        let [one, alpha, beta, factor_after] =
            [1.0, alpha, beta, factor_after].map(|value| step.constant(graph, value));
        let [new, new_square, kept] = [alpha, beta, factor_after].map(|value| graph.sub(one, value));
        let gradient = step.regularised(graph, factor, [x, gradient]);
        let mean = step.blend(graph, [alpha, new], [mean, gradient]);
        let square = graph.mul(gradient, gradient);
        let squares = step.blend(graph, [beta, new_square], [squares, square]);
        let root = step.root(graph, squares, epsilon);
        // Both averages begin at zero, which this makes up for.
        let [mean_share, square_share] = [alpha, beta].map(|base| {
            let rest = graph.pow(base, step.count);
            graph.sub(one, rest)
        });
        let corrected = graph.sqrt(square_share);
        let corrected = graph.mul(step.rate, corrected);
        let corrected = graph.div(corrected, mean_share);
        let rate = step.after_first(graph, corrected, step.rate);
        let change = graph.mul(rate, mean);
        let change = graph.div(change, root);
        let x = graph.sub(x, change);
        [graph.mul(kept, x), mean, squares]
    })
}

fn momentum<'m>(cx: &mut Context<'m>, node: &Node<'m>) -> Outcome<'m> {
    let required = |name: &str| {
        let value = node.float(name)?;
        value.ok_or_else(|| Stop::Invalid(format!("attribute {name:?} is missing")))
    };
    let (alpha, beta, factor) = (required("alpha")?, required("beta")?, required("norm_coefficient")?);
    let mode = node.string_or("mode", "")?;
    let looks_ahead = match mode.as_str() {
        "nesterov" => true,
        "standard" => false,
        _ => return Err(Stop::Invalid(format!("mode is {mode:?}, expected \"nesterov\" or \"standard\""))),
    };
    each(cx, node, |graph, step, [x, gradient, velocity]| {
        let [one, alpha, beta] = [1.0, alpha, beta].map(|value| step.constant(graph, value));
        let gradient = step.regularised(graph, factor, [x, gradient]);
        let beta = step.after_first(graph, beta, one);
        let velocity = step.blend(graph, [alpha, beta], [velocity, gradient]);
        let direction = match looks_ahead {
            true => step.blend(graph, [one, alpha], [gradient, velocity]),
            false => velocity,
        };
        [step.moved(graph, x, step.rate, direction), velocity]
    })
}
