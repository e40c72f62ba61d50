//! Values and gradients of composite functions against an independent oracle.
//!
//! What the golden file holds is said in `support`.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

use rlx_autodiff::{hvp, value_and_grad};
use rlx_ir::Literal;
use rlx_ir::interpret::{Tensors, evaluate};

mod support;
use support::{Golden, golden};

/// Largest relative error in f64, of values and gradients.
const TOLERANCE: f64 = 1e-9;

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
