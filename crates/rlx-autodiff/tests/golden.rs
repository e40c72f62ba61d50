//! Values and gradients of composite functions against an independent oracle.
//!
//! `tests/golden/*.rlx` holds graphs in the text form, made by a recipe in
//! `recipes/`: functions of inputs `x0`, `x1`, .. with the output `y`. Beside it
//! stand constants: `feed:NAME` for each input, `expected:y`, and
//! `expected:grad:NAME`.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

use rlx_autodiff::{hvp, value_and_grad};
use rlx_ir::interpret::{Tensors, evaluate};
use rlx_ir::text::parse_graph;
use rlx_ir::{Graph, Literal, Op};
use std::collections::BTreeMap;

/// Largest relative error in f64, of values and gradients.
const TOLERANCE: f64 = 1e-9;

struct Golden {
    graph: Graph,
    feeds: Tensors,
    expected: BTreeMap<String, Literal>,
}

/// Every function of the golden file, its outputs that are constants taken away.
fn golden() -> Vec<Golden> {
    let text = include_str!("golden/gradients.rlx");
    let parts = text.split("rlx 1\n").filter(|part| !part.trim().is_empty());
    let parsed = parts.map(|part| {
        let mut graph = parse_graph(&format!("rlx 1\n{part}")).unwrap();
        let (mut feeds, mut expected, mut outputs) = (Tensors::new(), BTreeMap::new(), vec![]);
        for output in graph.outputs() {
            let constant = || match graph.op(output.value) {
                Op::Constant(constant) => constant.value.clone(),
                other => panic!("{} is {other:?}", output.name),
            };
            match (output.name.strip_prefix("feed:"), output.name.strip_prefix("expected:")) {
                (Some(name), _) => drop(feeds.insert(name.to_string(), constant())),
                (_, Some(name)) => drop(expected.insert(name.to_string(), constant())),
                _ => outputs.push((output.name.clone(), output.value)),
            }
        }
        graph.set_outputs(outputs);
        Golden { graph, feeds, expected }
    });
    parsed.collect()
}

fn near(a: f64, b: f64, scale: f64) -> bool {
    (a - b).abs() <= TOLERANCE * scale.max(1.0)
}

#[test]
fn values_and_gradients_agree_with_the_oracle() {
    let functions = golden();
    assert!(functions.len() >= 60, "only {} functions", functions.len());
    let mut findings = vec![];
    for Golden { graph, feeds, expected } in &functions {
        let names: Vec<&str> = feeds.keys().map(String::as_str).collect();
        let built =
            value_and_grad(graph, "y", &names).unwrap_or_else(|error| panic!("{}: {error}", graph.name));
        let found = evaluate(&built, feeds).unwrap().outputs;
        assert_eq!(found.len(), expected.len(), "{}", graph.name);
        for (name, found) in &found {
            let (found, expected) = (found.to_f64s(), expected[name].to_f64s());
            let scale = expected.iter().fold(0.0f64, |scale, x| scale.max(x.abs()));
            if found.len() != expected.len() || !found.iter().zip(&expected).all(|(a, b)| near(*a, *b, scale))
            {
                findings.push(format!("{} {name}: {found:?}, expected {expected:?}", graph.name));
            }
        }
    }
    assert!(findings.is_empty(), "{}", findings.join("\n"));
}

#[test]
fn second_derivatives_are_symmetric() {
    for Golden { graph, feeds, .. } in golden() {
        let names: Vec<&str> = feeds.keys().map(String::as_str).collect();
        let built = hvp(&graph, "y", &names).unwrap_or_else(|error| panic!("{}: {error}", graph.name));
        let directions = |shift: f64| -> Tensors {
            let direction = |(name, literal): (&String, &Literal)| {
                let values: Vec<f64> = (0..literal.len()).map(|at| (at as f64 * 1.7 + shift).sin()).collect();
                let direction = Literal::floats(literal.dtype(), literal.dims(), &values).unwrap();
                (format!("tangent:{name}"), direction)
            };
            feeds.iter().map(direction).collect()
        };
        let product = |along: &Tensors, with: &Tensors| -> f64 {
            let all: Tensors = feeds.iter().chain(along).map(|(name, x)| (name.clone(), x.clone())).collect();
            let found = evaluate(&built, &all).unwrap().outputs;
            let parts = found.iter().filter_map(|(name, x)| Some((name.strip_prefix("hvp:")?, x)));
            parts
                .flat_map(|(name, x)| {
                    let other = with[&format!("tangent:{name}")].to_f64s();
                    x.to_f64s().into_iter().zip(other).map(|(a, b)| a * b).collect::<Vec<_>>()
                })
                .sum()
        };
        let (u, v) = (directions(0.3), directions(2.1));
        let (left, right) = (product(&u, &v), product(&v, &u));
        assert!(near(left, right, left.abs()), "{}: {left} and {right}", graph.name);
    }
}
