//! Support vectors: `ai.onnx.ml`.

use super::encoders::literal;
use super::scores::{Labels, Transform, best, classify, computed_in, doubles, features, table};
use super::{Rule, ml_rule, required};
use crate::context::Context;
use crate::node::{Node, Outcome, Stop};
use rlx_ir::ops::ReduceKind;
use rlx_ir::{DType, Graph, Literal, Value};

pub(super) const RULES: &[Rule] =
    &[ml_rule("SVMRegressor", &[1], svm_regressor), ml_rule("SVMClassifier", &[1], svm_classifier)];

/// Most weights of the functions of all pairs, and most votes.
const MOST_WEIGHTS: usize = 1 << 26;
/// Fewest steps after which the probabilities of several classes are taken as they are.
const STEPS: usize = 100;

/// Operand 0 and its number of features.
fn known_features<'m>(
    cx: &mut Context<'m>,
    node: &Node<'m>,
    dtype: DType,
) -> Result<(Value, usize), Stop<'m>> {
    let (x, width) = features(cx, node, dtype)?;
    let width = width.as_static().and_then(|width| usize::try_from(width).ok());
    Ok((x, width.ok_or_else(|| Stop::Refused("the number of features is not known".into()))?))
}

fn svm_regressor<'m>(cx: &mut Context<'m>, node: &Node<'m>) -> Outcome<'m> {
    let dtype = computed_in(node)?;
    let coefficients = required(doubles(node, "coefficients")?, "coefficients")?;
    let rho = required(doubles(node, "rho")?, "rho")?;
    let [rho] = rho[..] else { return Err(Stop::Refused(format!("{} values of rho", rho.len()))) };
    let count = node.int_or("n_supports", 0)?;
    let (kernel, params) = (node.string_or("kernel_type", "LINEAR")?, doubles(node, "kernel_params")?);
    let vectors = doubles(node, "support_vectors")?.unwrap_or_default();
    let (x, width) = known_features(cx, node, dtype)?;
    let y = match usize::try_from(count) {
        Ok(count @ 1..) => {
            let vectors = table(cx, dtype, &[count, width], &vectors)?;
            let values = kernels(cx, (&kernel, &params.unwrap_or_default()), x, vectors)?;
            let coefficients = table(cx, dtype, &[count, 1], &coefficients)?;
            cx.graph().matmul(values, coefficients, false, false)
        }
        _ => {
            let coefficients = table(cx, dtype, &[width, 1], &coefficients)?;
            cx.graph().matmul(x, coefficients, false, false)
        }
    };
    let rho = cx.graph().scalar(dtype, rho);
    let mut y = cx.graph().add(y, rho);
    if node.flag("one_class", false)? {
        let graph = cx.graph();
        let [zero, one, other] = [0.0, 1.0, -1.0].map(|value| graph.scalar(dtype, value));
        let inside = graph.compare_gt(y, zero);
        y = graph.where_(inside, one, other);
    }
    let y = Transform::named(node)?.apply(cx, y)?;
    let y = cx.graph().cast_to(y, DType::F32);
    Ok(vec![cx.tensor(y)?])
}

/// The kernel of every row of `x` and every support vector.
fn kernels<'m>(
    cx: &mut Context<'m>,
    (kernel, params): (&str, &[f64]),
    x: Value,
    vectors: Value,
) -> Result<Value, Stop<'m>> {
    let dtype = cx.ty(x)?.dtype;
    let param = |index: usize| params.get(index).copied().unwrap_or(0.0);
    let graph = cx.graph();
    let [gamma, offset] = [param(0), param(1)].map(|value| graph.scalar(dtype, value));
    if kernel == "RBF" {
        let rows = graph.unsqueeze(x, 1);
        let difference = graph.sub(rows, vectors);
        let square = graph.mul(difference, difference);
        let distance = graph.reduce(square, ReduceKind::Sum, [2], false);
        let scaled = graph.mul(distance, gamma);
        let scaled = graph.neg(scaled);
        return Ok(graph.exp(scaled));
    }
    let product = graph.matmul(x, vectors, false, true);
    if kernel == "LINEAR" {
        return Ok(product);
    }
    let scaled = graph.mul(product, gamma);
    let scaled = graph.add(scaled, offset);
    match kernel {
        "POLY" => {
            let degree = graph.scalar(dtype, param(2).trunc());
            Ok(graph.pow(scaled, degree))
        }
        "SIGMOID" => Ok(graph.tanh(scaled)),
        other => Err(Stop::Invalid(format!("there is no kernel {other:?}"))),
    }
}

/// A classifier of support vectors: one function for every pair of classes.
struct Machine {
    classes: usize,
    /// How many support vectors each class has; they stand one class after the other.
    counts: Vec<usize>,
    vectors: Vec<f64>,
    coefficients: Vec<f64>,
    rho: Vec<f64>,
    kernel: String,
    params: Vec<f64>,
    /// Slopes and offsets of the probabilities of the pairs.
    probabilities: Option<[Vec<f64>; 2]>,
}

impl Machine {
    fn read<'m>(node: &Node<'m>, classes: usize) -> Result<Machine, Stop<'m>> {
        let list = |name: &str| doubles(node, name).map(Option::unwrap_or_default);
        let counts = node.ints("vectors_per_class")?.unwrap_or_default();
        let counts: Result<Vec<usize>, _> = counts.into_iter().map(usize::try_from).collect();
        let counts = counts.map_err(|_| Stop::Invalid("a class has fewer than no vectors".into()))?;
        let machine = Machine {
            classes,
            counts,
            vectors: list("support_vectors")?,
            coefficients: required(doubles(node, "coefficients")?, "coefficients")?,
            rho: required(doubles(node, "rho")?, "rho")?,
            kernel: node.string_or("kernel_type", "LINEAR")?,
            params: list("kernel_params")?,
            probabilities: Some([list("prob_a")?, list("prob_b")?]).filter(|[a, b]| a.len() + b.len() > 0),
        };
        let pairs = classes.saturating_mul(classes - 1) / 2;
        let lengths = machine.probabilities.iter().flatten().map(Vec::len);
        let is_whole = machine.rho.len() == pairs && lengths.into_iter().all(|length| length == pairs);
        let fits = machine.counts.len() == classes && is_whole;
        if !(fits || machine.counts.is_empty()) {
            let (counts, rho) = (machine.counts.len(), machine.rho.len());
            return Err(Stop::Invalid(format!(
                "{classes} classes have {counts} counts and {rho} values of rho"
            )));
        }
        let vectors: usize = machine.counts.iter().fold(classes, |sum, &count| sum.saturating_add(count));
        if !machine.counts.is_empty() && pairs.saturating_mul(vectors) > MOST_WEIGHTS {
            return Err(Stop::Refused(format!("{pairs} pairs of classes share {vectors} vectors")));
        }
        Ok(machine)
    }

    fn pairs(&self) -> impl Iterator<Item = (usize, usize)> {
        let classes = self.classes;
        (0..classes).flat_map(move |first| (first + 1..classes).map(move |second| (first, second)))
    }

    /// What the functions of the pairs say: [rows, pairs].
    fn decisions<'m>(&self, cx: &mut Context<'m>, x: Value, width: usize) -> Result<Value, Stop<'m>> {
        let dtype = cx.ty(x)?.dtype;
        let total: usize = self.counts.iter().fold(0, |sum, &count| sum.saturating_add(count));
        let coefficients = self.coefficients.len();
        if total.checked_mul(self.classes - 1) != Some(coefficients) {
            return Err(Stop::Invalid(format!("{coefficients} coefficients for {total} vectors")));
        }
        let start = |class: usize| self.counts[..class].iter().sum::<usize>();
        let pairs: Vec<(usize, usize)> = self.pairs().collect();
        let mut weights = vec![0.0; total * pairs.len()];
        for (column, &(first, second)) in pairs.iter().enumerate() {
            for (class, other) in [(first, second - 1), (second, first)] {
                for vector in start(class)..start(class) + self.counts[class] {
                    weights[vector * pairs.len() + column] = self.coefficients[other * total + vector];
                }
            }
        }
        let vectors = table(cx, dtype, &[total, width], &self.vectors)?;
        let values = kernels(cx, (&self.kernel, &self.params), x, vectors)?;
        let weights = table(cx, dtype, &[total, pairs.len()], &weights)?;
        let rho = table(cx, dtype, &[pairs.len()], &self.rho)?;
        let sums = cx.graph().matmul(values, weights, false, false);
        Ok(cx.graph().add(sums, rho))
    }

    /// The class that wins most pairs.
    fn winner<'m>(&self, cx: &mut Context<'m>, decisions: Value) -> Result<Value, Stop<'m>> {
        let (dtype, classes) = (cx.ty(decisions)?.dtype, self.classes);
        // A pair won by its first class counts 1 more for it, and 1 less for the second, which has all others.
        let mut turns = vec![0.0; self.rho.len() * classes];
        let mut lost = vec![0.0; classes];
        for (row, (first, second)) in self.pairs().enumerate() {
            turns[row * classes + first] = 1.0;
            turns[row * classes + second] = -1.0;
            lost[second] += 1.0;
        }
        let turns = table(cx, dtype, &[self.rho.len(), classes], &turns)?;
        let lost = table(cx, dtype, &[classes], &lost)?;
        let graph = cx.graph();
        let [zero, one] = [0.0, 1.0].map(|value| graph.scalar(dtype, value));
        let is_first = graph.compare_gt(decisions, zero);
        let wins = graph.where_(is_first, one, zero);
        let votes = graph.matmul(wins, turns, false, false);
        let votes = graph.add(votes, lost);
        Ok(best(cx, votes))
    }

    /// The probabilities of the classes (Wu, Lin and Weng's second method, as LIBSVM computes it).
    fn coupled<'m>(
        &self,
        cx: &mut Context<'m>,
        decisions: Value,
        [slopes, offsets]: &[Vec<f64>; 2],
    ) -> Result<Value, Stop<'m>> {
        let (dtype, classes) = (cx.ty(decisions)?.dtype, self.classes);
        let rows = cx.ty(decisions)?.shape[0].clone();
        let pairs = slopes.len();
        let (slopes, offsets) = (table(cx, dtype, &[pairs], slopes)?, table(cx, dtype, &[pairs], offsets)?);
        // Where what each class has against each other one stands: in the probabilities of the pairs, or behind them
        // in what is left to 1. The last number is 0.
        let mut places = vec![2 * pairs as i128; classes * classes];
        for (index, (first, second)) in self.pairs().enumerate() {
            places[first * classes + second] = index as i128;
            places[second * classes + first] = (pairs + index) as i128;
        }
        let places = literal(Literal::ints(DType::I64, &[places.len()], &places))?;
        let graph = cx.graph();
        let scaled = graph.mul(decisions, slopes);
        let shifted = graph.add(scaled, offsets);
        let falling = graph.neg(shifted);
        let probabilities = graph.sigmoid(falling);
        let probabilities = graph.clip(probabilities, 1e-7, 1.0 - 1e-7);
        let (one, zero) = (graph.scalar(dtype, 1.0), graph.scalar(dtype, 0.0));
        let rest = graph.sub(one, probabilities);
        let zero = graph.expand(zero, vec![rows.clone(), 1.into()]);
        let all = graph.concat(&[probabilities, rest, zero], 1usize);
        let places = graph.constant(places);
        let against = graph.gather(all, places, 1usize);
        let against = graph.reshape(against, vec![rows.clone(), classes.into(), classes.into()]);
        let turned = graph.swap_axes(against, 1, 2);
        // Q[t, t] is the sum of the squares of what the others have against t; Q[t, j] = -r[j, t] r[t, j].
        let products = graph.mul(against, turned);
        let outside = graph.neg(products);
        let squares = graph.mul(turned, turned);
        let diagonal = graph.reduce(squares, ReduceKind::Sum, [2], true);
        let identity: Vec<f64> =
            (0..classes * classes).map(|at| f64::from(u8::from(at % (classes + 1) == 0))).collect();
        let identity = table(cx, dtype, &[classes, classes], &identity)?;
        let graph = cx.graph();
        let diagonal = graph.mul(diagonal, identity);
        let quadratic = graph.add(outside, diagonal);
        let even = graph.scalar(dtype, 1.0 / classes as f64);
        let even = graph.expand(even, vec![rows.clone(), classes.into()]);
        let undone = graph.scalar(DType::Bool, 0.0);
        let undone = graph.expand(undone, vec![rows, 1.into()]);
        let steps = STEPS.max(classes);
        let results =
            graph.scan_over(steps, false, [&[even, undone], &[quadratic], &[]], |graph, operands| {
                let [p, is_done, quadratic] = operands[..] else { return vec![] };
                let (next, is_done) = step(graph, (p, is_done), quadratic, classes);
                vec![next, is_done]
            });
        cx.check()?;
        Ok(results.first().copied().unwrap_or(Value::POISON))
    }
}

/// One step towards the `p` that make `p' Q p` least; rows that are near enough stay.
fn step(graph: &mut Graph, (p, is_done): (Value, Value), quadratic: Value, classes: usize) -> (Value, Value) {
    let dtype = graph.try_ty(p).map_or(DType::F32, |ty| ty.dtype);
    let (one, two) = (graph.scalar(dtype, 1.0), graph.scalar(dtype, 2.0));
    let column = graph.unsqueeze(p, 2);
    let slopes = graph.matmul(quadratic, column, false, false);
    let mut slopes = graph.squeeze(slopes, 2);
    let parts = graph.mul(p, slopes);
    let mut least = graph.reduce(parts, ReduceKind::Sum, [1], true);
    let error = graph.sub(slopes, least);
    let error = graph.abs(error);
    let error = graph.reduce(error, ReduceKind::Max, [1], true);
    let limit = graph.scalar(dtype, 0.005 / classes as f64);
    let is_near = graph.compare_lt(error, limit);
    let is_done = graph.or(is_done, is_near);
    let mut next = p;
    for class in 0..classes {
        let row = graph.narrow_at(quadratic, 1, class, 1);
        let row = graph.squeeze(row, 1);
        let own = graph.narrow_at(row, 1, class, 1);
        let slope = graph.narrow_at(slopes, 1, class, 1);
        let away = graph.sub(least, slope);
        let difference = graph.div(away, own);
        let factor = graph.add(one, difference);
        // The form at the new place.
        let (curved, linear) = (graph.mul(difference, own), graph.mul(two, slope));
        let change = graph.add(curved, linear);
        let change = graph.mul(difference, change);
        let sum = graph.add(least, change);
        let square = graph.mul(factor, factor);
        least = graph.div(sum, square);
        let moved = graph.mul(difference, row);
        let moved = graph.add(slopes, moved);
        slopes = graph.div(moved, factor);
        let here: Vec<f64> = (0..classes).map(|other| f64::from(u8::from(other == class))).collect();
        let here = Literal::floats(dtype, &[classes], &here);
        let here = here.map_or(Value::POISON, |here| graph.constant(here));
        let added = graph.mul(difference, here);
        let added = graph.add(next, added);
        next = graph.div(added, factor);
    }
    (graph.where_(is_done, p, next), is_done)
}

fn svm_classifier<'m>(cx: &mut Context<'m>, node: &Node<'m>) -> Outcome<'m> {
    let labels = Labels::of(node, "classlabels_ints")?;
    let (transform, dtype) = (Transform::named(node)?, computed_in(node)?);
    let classes = labels.len();
    if classes < 2 {
        return Err(Stop::Refused(format!("{classes} class labels")));
    }
    let machine = Machine::read(node, classes)?;
    let is_single = classes == 2 && machine.probabilities.is_none() && !machine.counts.is_empty();
    if is_single && !matches!(transform, Transform::None | Transform::Logistic) {
        let reason = format!("one decision with transform {transform:?}: ONNX does not say what it means");
        return Err(Stop::Refused(reason));
    }
    if classes == 2 && machine.counts.is_empty() {
        let reason = "two classes without support vectors: implementations differ in which of them is meant";
        return Err(Stop::Refused(reason.into()));
    }
    classify(cx, node, &labels, |cx, node| {
        let (x, width) = known_features(cx, node, dtype)?;
        let (place, mut scores) = if machine.counts.is_empty() {
            // One linear function for each class.
            let weights = table(cx, dtype, &[classes, width], &machine.coefficients)?;
            let rho = machine.rho.first().copied().unwrap_or(0.0);
            let sums = cx.graph().matmul(x, weights, false, true);
            let rho = cx.graph().scalar(dtype, rho);
            let scores = cx.graph().add(sums, rho);
            (best(cx, scores), scores)
        } else {
            let decisions = machine.decisions(cx, x, width)?;
            let place = machine.winner(cx, decisions)?;
            match &machine.probabilities {
                Some(probabilities) => (place, machine.coupled(cx, decisions, probabilities)?),
                None => (place, decisions),
            }
        };
        if is_single {
            let graph = cx.graph();
            let negative = graph.neg(scores);
            scores = graph.concat(&[negative, scores], 1usize);
        }
        let scores = transform.apply(cx, scores)?;
        Ok((place, cx.graph().cast_to(scores, DType::F32)))
    })
}

#[cfg(test)]
mod tests {
    use crate::single::{floats, ints, run, tensor, text};
    use rlx_ir::DType::F32;

    #[test]
    fn what_onnx_leaves_open_or_does_not_fit_is_refused() {
        let x = [tensor(F32, &[1, 2], &[1.0, 2.0])];
        let refusal =
            |attributes: &[_]| run("ai.onnx.ml::SVMClassifier", 3, attributes, &x).expect_err("refused");
        let labels = ints("classlabels_ints", &[0, 1]);
        let linear = [labels.clone(), floats("coefficients", &[1.0; 4]), floats("rho", &[0.5])];
        assert!(refusal(&linear).contains("two classes without support vectors"), "{}", refusal(&linear));
        let vectors = [ints("vectors_per_class", &[1, 1]), floats("support_vectors", &[1.0, 2.0, 3.0, 4.0])];
        let pair = [labels, floats("coefficients", &[1.0, -1.0]), floats("rho", &[0.5])];
        let softmax = [&vectors[..], &pair, &[text("post_transform", "SOFTMAX")]].concat();
        assert!(refusal(&softmax).contains("one decision with transform Softmax"), "{}", refusal(&softmax));
        let short =
            [&vectors[..], &[pair[0].clone(), floats("coefficients", &[1.0]), pair[2].clone()]].concat();
        assert!(refusal(&short).contains("1 coefficients for 2 vectors"), "{}", refusal(&short));
        let more = [&vectors[..1], &pair, &[ints("vectors_per_class", &[1])]].concat();
        assert!(refusal(&more).contains("vectors_per_class"), "{}", refusal(&more));
    }
}
