//! Gradients through the whole pipeline: what derivatives build compiles, and
//! gives on the CPU what the oracle and the interpreter say.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

use rlx_autodiff::{by_block, checkpointed, jvp, value_and_grad, vjp};
use rlx_ir::TensorRef;
use rlx_ir::interpret::{Tensors, evaluate};
use rlx_ir::sample::{Generator, fill_literal};
use rlx_ir::text::{parse_graph, print_graph};
use rlx_ir::{DType, Graph, Literal, OpKind};
use rlx_runtime::{CompileOptions, Device, KernelDispatch, Session};
use rlx_testkit::random_graph;

#[path = "../../rlx-autodiff/tests/support/mod.rs"]
mod support;

/// Outputs on the CPU.
fn run(label: &str, graph: Graph, feeds: &Tensors, options: &CompileOptions) -> Vec<(String, Literal)> {
    let session = Session::new(Device::CPU).unwrap();
    let leaves = |kind| -> Vec<String> {
        graph.nodes_of(kind).filter_map(|(_, node)| node.op.leaf_name().map(str::to_string)).collect()
    };
    let (params, states) = (leaves(OpKind::Param), leaves(OpKind::State));
    let mut compiled =
        session.compile_with(graph, options).unwrap_or_else(|error| panic!("{label}: {error}"));
    let mut inputs = vec![];
    for (name, literal) in feeds {
        let tensor = TensorRef::from(literal);
        if params.contains(name) {
            compiled.set_param_typed(name, tensor).unwrap();
        } else if states.contains(name) {
            compiled.states().unwrap().bind_handle(name, tensor).unwrap();
        } else {
            inputs.push((name.as_str(), tensor));
        }
    }
    compiled.run_typed(&inputs).unwrap_or_else(|error| panic!("{label}: {error}"))
}

fn largest(values: &[f64]) -> f64 {
    values.iter().filter(|x| x.is_finite()).fold(1.0, |scale: f64, x| scale.max(x.abs()))
}

fn assert_near(label: &str, found: &Literal, expected: &Literal, tolerance: f64) {
    let (found, expected) = (found.to_f64s(), expected.to_f64s());
    let scale = largest(&expected);
    let near =
        |(a, b): (&f64, &f64)| (a - b).abs() <= tolerance * scale || a == b || (a.is_nan() && b.is_nan());
    assert!(found.len() == expected.len(), "{label}");
    assert!(found.iter().zip(&expected).all(near), "{label}: {found:?}, expected {expected:?}");
}

#[test]
fn golden_gradients_on_the_cpu() {
    let decomposed = CompileOptions { dispatch: KernelDispatch::ForceDecomposed, ..Default::default() };
    for function in support::golden() {
        let names: Vec<&str> = function.feeds.keys().map(String::as_str).collect();
        let graph = value_and_grad(&function.graph, "y", &names).unwrap();
        for options in [&CompileOptions::default(), &decomposed] {
            let found = run(&function.graph.name, graph.clone(), &function.feeds, options);
            assert_eq!(found.len(), function.expected.len(), "{}", function.graph.name);
            for (name, found) in found {
                let label = format!("{} {name}", function.graph.name);
                assert_near(&label, &found, &function.expected[&name], 1e-9);
            }
        }
    }
}

/// Names of the leaves and outputs of a graph that have derivatives.
fn differentiable(graph: &Graph) -> (Vec<String>, Vec<String>) {
    let leaves = graph.nodes().iter().filter(|node| node.types[0].dtype.is_differentiable());
    let leaves = leaves.filter_map(|node| node.op.leaf_name().map(str::to_string)).collect();
    let outputs = graph.outputs().iter().filter(|output| graph.ty(output.value).dtype.is_differentiable());
    (leaves, outputs.map(|output| output.name.clone()).collect())
}

#[test]
fn random_graphs_have_derivatives_that_compile() {
    let mut compared = 0;
    for seed in 0..120 {
        let random = random_graph(seed);
        let (leaves, outputs) = differentiable(&random.graph);
        if leaves.is_empty() || outputs.is_empty() {
            continue;
        }
        let leaf_names: Vec<&str> = leaves.iter().map(String::as_str).collect();
        let output_names: Vec<&str> = outputs.iter().map(String::as_str).collect();
        let label = format!("seed {seed}\n{}", print_graph(&random.graph));
        let values = evaluate(&random.graph, &random.feeds).unwrap().outputs;
        let mut generator = Generator::new(seed);
        let mut random_like = |literal: &Literal| {
            fill_literal(&literal.ty(), rlx_ir::op::Fill::Range(-1.0, 1.0), &mut generator)
        };
        let (mut ahead, mut back) = (random.feeds.clone(), random.feeds.clone());
        for name in &leaves {
            ahead.insert(format!("tangent:{name}"), random_like(&random.feeds[name]));
        }
        for (name, literal) in values.iter().filter(|(name, _)| outputs.contains(name)) {
            back.insert(format!("cotangent:{name}"), random_like(literal));
        }
        let forward = jvp(&random.graph, &leaf_names).unwrap_or_else(|error| panic!("{label}: {error}"));
        let mut derivatives = vec![(forward, ahead)];
        match vjp(&random.graph, &output_names, &leaf_names) {
            Ok(reverse) => derivatives.push((reverse, back)),
            // A loop of any number of iterations keeps no tape.
            Err(error) => {
                assert!(random.graph.nodes_of(OpKind::While).next().is_some(), "{label}: {error}");
            }
        }
        for (graph, feeds) in derivatives {
            assert_eq!(parse_graph(&print_graph(&graph)).unwrap(), graph, "{label}");
            let expected = evaluate(&graph, &feeds).unwrap().outputs;
            let found = run(&label, graph, &feeds, &CompileOptions::default());
            for ((name, found), (_, expected)) in found.iter().zip(&expected) {
                if found.dtype() == DType::F32 {
                    assert_near(&format!("{label}\n{name}"), found, expected, 1e-3);
                    compared += 1;
                }
            }
        }
    }
    assert!(compared > 200, "only {compared} results were compared");
}

#[test]
fn what_is_computed_again_is_not_merged() {
    let mut g = Graph::new("layers");
    let mut x = g.input_f32("x", [4, 4]);
    for layer in 0..3 {
        g.set_path(&format!("layers.{layer}"));
        let w = g.param_f32(&format!("w{layer}"), [4, 4]);
        let y = g.mm(x, w);
        x = g.tanh(y);
    }
    let y = g.reduce(x, rlx_ir::ops::ReduceKind::Sum, vec![0, 1], false);
    g.output("y", y);
    let graph = g.finish().unwrap();
    let names = ["x", "w0", "w1", "w2"];
    let products = |graph: Graph| {
        let compiled = Session::new(Device::CPU).unwrap().compile(graph).unwrap();
        rlx_ir::lir::print_lir(compiled.lir()).matches("= matmul(").count()
    };
    let plain = products(value_and_grad(&graph, "y", &names).unwrap());
    let lean = products(checkpointed(&graph, "y", &names, by_block("layers")).unwrap());
    assert_eq!((plain, lean), (9, 12));
}
