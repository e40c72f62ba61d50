//! Generic tests: each runs for every sample of every op, with no test written
//! for the op itself.
//!
//! Float operands are turned into f64, complex ones into c128, whose parts count
//! by the square root of 2, as Wirtinger's derivatives do. Derivatives are compared with central
//! differences along random directions, the reverse with the forward one by
//! `<u, J t> = <J^T u, t>`, second derivatives with differences of the first,
//! batches with a loop. Samples are filled so that no kink lies near.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

use rlx_autodiff::{Batching, jvp, vjp, vmap};
use rlx_ir::interpret::{Tensors, evaluate};
use rlx_ir::op::{Judgement, Sample};
use rlx_ir::sample::{Generator, fill_literal};
use rlx_ir::text::{parse_graph_using, print_graph};
use rlx_ir::{CustomRegistry, DType, Graph, Literal, Number, Op, OpKind, TensorType};
use std::f64::consts::SQRT_2;

/// Step of a central difference in f64.
const STEP: f64 = 1e-5;
/// Largest error of a central difference, for values and derivatives of about 1.
const DIFFERENCE_TOLERANCE: f64 = 2e-6;
/// Largest error of a second derivative against differences of the first.
const SECOND_TOLERANCE: f64 = 2e-5;
/// Largest relative error between two ways to one derivative, in f64.
const SAME_TOLERANCE: f64 = 1e-9;

/// The sample with its float operands in f64, where the op takes that.
fn wide(sample: &Sample<Op>) -> Sample<Op> {
    let widen = |ty: &TensorType| match ty.dtype {
        DType::F32 | DType::F16 | DType::BF16 => TensorType::new(DType::F64, ty.shape.clone()),
        DType::C64 => TensorType::new(DType::C128, ty.shape.clone()),
        _ => ty.clone(),
    };
    let operands: Vec<_> = sample.operands.iter().map(|(ty, fill)| (widen(ty), *fill)).collect();
    let types: Vec<&TensorType> = operands.iter().map(|(ty, _)| ty).collect();
    match sample.op.infer(&types).is_ok() {
        true => Sample { op: sample.op.clone(), operands },
        false => sample.clone(),
    }
}

/// What is wrong with a sample.
type Checked = Result<(), String>;

/// Visits every sample, then tells all findings at once. A visit gives the number of its comparisons.
fn for_each_sample(at_least: usize, visit: impl Fn(&str, &Sample<Op>) -> Result<usize, String>) {
    let (mut compared, mut findings) = (0, vec![]);
    for &kind in OpKind::ALL {
        for (index, sample) in kind.samples().iter().enumerate() {
            let sample = wide(sample);
            match visit(&format!("{kind} sample {index} {:?}", sample.op), &sample) {
                Ok(count) => compared += count,
                Err(finding) => findings.push(finding),
            }
        }
    }
    assert!(findings.is_empty(), "{} findings:\n{}", findings.len(), findings.join("\n"));
    assert!(compared >= at_least, "only {compared} comparisons");
}

fn is_wide(ty: &TensorType) -> bool {
    matches!(ty.dtype, DType::F64 | DType::C128)
}

/// A graph of the sample with everything that a derivative needs, all in f64 or c128.
struct Case {
    graph: Graph,
    feeds: Tensors,
    /// Names of the wide inputs.
    inputs: Vec<String>,
    /// Names of the wide outputs.
    outputs: Vec<String>,
}

/// Nothing for a sample without wide operands or results.
fn case(sample: &Sample<Op>) -> Option<Case> {
    let (graph, feeds) = sample.graph(7);
    let graph = graph.finish().unwrap();
    let inputs: Vec<String> = (0..sample.operands.len())
        .filter(|&index| is_wide(&sample.operands[index].0))
        .map(|index| format!("x{index}"))
        .collect();
    let outputs: Vec<String> = graph
        .outputs()
        .iter()
        .filter(|output| is_wide(graph.ty(output.value)))
        .map(|output| output.name.clone())
        .collect();
    (!inputs.is_empty() && !outputs.is_empty()).then_some(Case { graph, feeds, inputs, outputs })
}

fn names(list: &[String]) -> Vec<&str> {
    list.iter().map(String::as_str).collect()
}

fn random_like(literal: &Literal, generator: &mut Generator) -> Literal {
    fill_literal(&literal.ty(), rlx_ir::op::Fill::Range(-1.0, 1.0), generator)
}

/// Runs a graph and takes the outputs called `prefix` and something.
fn run(label: &str, graph: &Graph, feeds: &Tensors, prefix: &str) -> Result<Vec<Literal>, String> {
    let evaluation = evaluate(graph, feeds).map_err(|error| format!("{label}: {error}"))?;
    let outputs = evaluation.outputs.into_iter();
    Ok(outputs.filter(|(name, _)| name.starts_with(prefix)).map(|(_, literal)| literal).collect())
}

/// `feeds` with `step` times the directions added to the named tensors.
fn moved(feeds: &Tensors, directions: &[(String, Literal)], step: f64) -> Tensors {
    let mut feeds = feeds.clone();
    for (name, direction) in directions {
        let old = &feeds[name];
        let moved = old.numbers().into_iter().zip(direction.numbers()).map(|pair| match pair {
            (Number::Complex(a, b), Number::Complex(c, d)) => Number::Complex(a + step * c, b + step * d),
            (a, b) => Number::Float(a.as_f64().unwrap() + step * b.as_f64().unwrap()),
        });
        let new = Literal::from_numbers(old.dtype(), old.dims(), moved).expect("one number per element");
        feeds.insert(name.clone(), new);
    }
    feeds
}

/// The central difference of `f` along the directions, flat per result.
fn difference(
    feeds: &Tensors,
    directions: &[(String, Literal)],
    f: impl Fn(&Tensors) -> Result<Vec<Literal>, String>,
) -> Result<Vec<f64>, String> {
    let (ahead, behind) = (f(&moved(feeds, directions, STEP))?, f(&moved(feeds, directions, -STEP))?);
    let pairs = flat(&ahead).into_iter().zip(flat(&behind));
    Ok(pairs.map(|(a, b)| if a == b { 0.0 } else { (a - b) / (2.0 * STEP) }).collect())
}

fn flat(literals: &[Literal]) -> Vec<f64> {
    let numbers = literals.iter().flat_map(Literal::numbers);
    let parts = |number| match number {
        Number::Complex(re, im) => vec![re * SQRT_2, im * SQRT_2],
        other => vec![other.as_f64().unwrap()],
    };
    numbers.flat_map(parts).collect()
}

fn dot(a: &[f64], b: &[f64]) -> f64 {
    assert_eq!(a.len(), b.len());
    a.iter().zip(b).map(|(a, b)| a * b).sum()
}

/// Equal up to `tolerance` times the largest expected number; a NaN is near everything, since a result that is
/// NaN has no derivative.
fn near(label: &str, found: &[f64], expected: &[f64], tolerance: f64) -> Checked {
    assert_eq!(found.len(), expected.len(), "{label}");
    let scale = expected.iter().filter(|x| x.is_finite()).fold(1.0f64, |scale, x| scale.max(x.abs()));
    for (index, (found, expected)) in found.iter().zip(expected).enumerate() {
        let is_near = (found - expected).abs() <= tolerance * scale || found == expected || expected.is_nan();
        if !is_near {
            return Err(format!("{label}: element {index} is {found}, expected {expected}"));
        }
    }
    Ok(())
}

/// The graph survives its text form.
fn round_trip(label: &str, graph: &Graph) -> Checked {
    let text = print_graph(graph);
    let registry = CustomRegistry::of_samples();
    let parsed = parse_graph_using(&text, &|_| None, &registry)
        .map_err(|error| format!("{label}: {error}\n{text}"))?;
    if parsed == *graph { Ok(()) } else { Err(format!("{label} changes in\n{text}")) }
}

/// Fed and taken around `graph`, with directions for its inputs and cotangents for its outputs.
struct Derivatives {
    tangents: Vec<(String, Literal)>,
    cotangents: Vec<Literal>,
    forward: Vec<f64>,
    reverse: Vec<f64>,
    vjp: Graph,
    feeds: Tensors,
}

fn derivatives(label: &str, case: &Case, generator: &mut Generator) -> Result<Derivatives, String> {
    let Case { graph, feeds, inputs, outputs } = case;
    let forward = jvp(graph, &names(inputs)).map_err(|error| format!("{label}: {error}"))?;
    let reverse = vjp(graph, &names(outputs), &names(inputs)).map_err(|error| format!("{label}: {error}"))?;
    round_trip(label, &forward)?;
    round_trip(label, &reverse)?;
    let tangents: Vec<_> =
        inputs.iter().map(|name| (name.clone(), random_like(&feeds[name], generator))).collect();
    let mut forward_feeds = feeds.clone();
    forward_feeds.extend(tangents.iter().map(|(name, t)| (format!("tangent:{name}"), t.clone())));
    let tangent_of_outputs = run(label, &forward, &forward_feeds, "tangent:")?;
    let mut reverse_feeds = feeds.clone();
    let mut cotangents = vec![];
    for (name, tangent) in outputs.iter().zip(&tangent_of_outputs) {
        let cotangent = random_like(tangent, generator);
        reverse_feeds.insert(format!("cotangent:{name}"), cotangent.clone());
        cotangents.push(cotangent);
    }
    let gradients = run(label, &reverse, &reverse_feeds, "grad:")?;
    let (forward, gradients) = (flat(&tangent_of_outputs), flat(&gradients));
    Ok(Derivatives { tangents, cotangents, forward, reverse: gradients, vjp: reverse, feeds: reverse_feeds })
}

fn of_tangents(tangents: &[(String, Literal)]) -> Vec<f64> {
    flat(&tangents.iter().map(|(_, literal)| literal.clone()).collect::<Vec<_>>())
}

fn is_judged(judgement: Judgement) -> bool {
    matches!(judgement, Judgement::Is(_))
}

/// Is there a derivative that differences approach? A surrogate is none.
fn is_derivative(judgement: Judgement) -> bool {
    is_judged(judgement) && judgement != Judgement::Is("surrogate")
}

/// The derivatives of a case, forward against differences, reverse against forward.
fn check(label: &str, case: &Case, found: &Derivatives, tolerance: f64) -> Checked {
    let measured = difference(&case.feeds, &found.tangents, |feeds| {
        let values = run(label, &case.graph, feeds, "y")?;
        Ok(values.into_iter().filter(|literal| is_wide(&literal.ty())).collect())
    })?;
    near(&format!("jvp of {label}"), &found.forward, &measured, tolerance)?;
    let (cotangents, tangents) = (flat(&found.cotangents), of_tangents(&found.tangents));
    let left = dot(&cotangents, &found.forward);
    near(&format!("vjp of {label}"), &[dot(&found.reverse, &tangents)], &[left], SAME_TOLERANCE)
}

#[test]
fn derivatives_agree_with_differences_and_with_each_other() {
    for_each_sample(300, |label, sample| {
        let Some(case) = case(sample).filter(|_| is_derivative(sample.op.kind().judgements().vjp)) else {
            return Ok(0);
        };
        let found = derivatives(label, &case, &mut Generator::new(11))?;
        check(label, &case, &found, DIFFERENCE_TOLERANCE).map(|()| 1)
    });
}

#[test]
fn second_derivatives_agree_with_differences() {
    for_each_sample(300, |label, sample| {
        let Some(case) = case(sample).filter(|_| is_derivative(sample.op.kind().judgements().vjp)) else {
            return Ok(0);
        };
        let mut generator = Generator::new(13);
        let first = derivatives(label, &case, &mut generator)?;
        // The gradients of the sample are the outputs whose derivatives are looked at.
        let mut graph = first.vjp.clone();
        let gradients = graph.outputs().iter().filter(|output| output.name.starts_with("grad:"));
        let gradients: Vec<_> =
            gradients.enumerate().map(|(index, output)| (format!("yy{index}"), output.value)).collect();
        let outputs = gradients.iter().map(|(name, _)| name.clone()).collect();
        graph.set_outputs(gradients);
        let label = format!("the vjp of {label}");
        let again = Case { graph, feeds: first.feeds.clone(), inputs: case.inputs.clone(), outputs };
        let second = derivatives(&label, &again, &mut generator)?;
        check(&label, &again, &second, SECOND_TOLERANCE).map(|()| 1)
    });
}

/// Element `index` of a stack along `axis`.
fn element(stack: &Literal, axis: usize, index: usize) -> Literal {
    let mut dims = stack.dims().to_vec();
    let count = dims.remove(axis);
    let inner: usize = dims[axis..].iter().product();
    let outer: usize = dims[..axis].iter().product();
    let numbers: Vec<Number> = (0..outer * inner)
        .map(|at| stack.number(((at / inner.max(1)) * count + index) * inner + at % inner.max(1)))
        .collect();
    Literal::from_numbers(stack.dtype(), &dims, numbers).unwrap()
}

#[test]
fn batches_agree_with_a_loop() {
    const SIZE: usize = 3;
    for_each_sample(500, |label, sample| {
        let count = sample.operands.len();
        let types: Vec<&TensorType> = sample.operands.iter().map(|(ty, _)| ty).collect();
        let results = sample.op.infer(&types).unwrap();
        let mut all = types.into_iter().chain(&results);
        let addressable = all.all(|ty| !ty.dtype.is_storage_only());
        if count == 0 || !addressable || !is_judged(sample.op.kind().judgements().batch) {
            return Ok(0);
        }
        let (graph, feeds) = sample.graph(3);
        let graph = graph.finish().unwrap();
        // All operands, then each alone.
        let mut subsets: Vec<Vec<usize>> = vec![(0..count).collect()];
        if count > 1 {
            subsets.extend((0..count).map(|index| vec![index]));
        }
        for subset in subsets {
            let label = format!("{label}, operands {subset:?} batched");
            let mut generator = Generator::new(5);
            let mut batched_feeds = feeds.clone();
            let mut inputs = vec![];
            for &index in &subset {
                let (ty, fill) = &sample.operands[index];
                let axis = index % (ty.rank() + 1);
                let mut dims = ty.shape.as_static().unwrap();
                dims.insert(axis, SIZE);
                let stack = fill_literal(&TensorType::new(ty.dtype, dims.as_slice()), *fill, &mut generator);
                batched_feeds.insert(format!("x{index}"), stack);
                inputs.push((format!("x{index}"), axis));
            }
            let named: Vec<(&str, usize)> =
                inputs.iter().map(|(name, axis)| (name.as_str(), *axis)).collect();
            let batching = Batching { size: SIZE.into(), inputs: &named, output_axis: 0 };
            let batched = vmap(&graph, &batching).map_err(|error| format!("{label}: {error}"))?;
            round_trip(&label, &batched)?;
            let found = run(&label, &batched, &batched_feeds, "y")?;
            for index in 0..SIZE {
                let mut one = feeds.clone();
                for (name, axis) in &inputs {
                    one.insert(name.clone(), element(&batched_feeds[name], *axis, index));
                }
                let expected = run(&label, &graph, &one, "y")?;
                for (found, expected) in found.iter().zip(&expected) {
                    let found = element(found, 0, index);
                    assert_eq!(found.ty(), expected.ty(), "{label}");
                    let tolerance = match expected.dtype() {
                        DType::F64 | DType::C128 => SAME_TOLERANCE,
                        _ => 1e-5,
                    };
                    near(&label, &flat(&[found]), &flat(std::slice::from_ref(expected)), tolerance)?;
                }
            }
        }
        Ok(1)
    });
}
