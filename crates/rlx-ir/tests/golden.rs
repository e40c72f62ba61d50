//! Every op against an independent oracle.
//!
//! `tests/golden/*.rlx` holds graphs in the text form, made by the recipes in
//! `recipes/`: operands are constants, and next to each output `y` stands an
//! output `expected:y`, a constant that NumPy, SciPy, JAX or ONNX computed.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

use rlx_ir::interpret::{Tensors, evaluate};
use rlx_ir::text::parse_graph_using;
use rlx_ir::{Accuracy, CustomRegistry, Graph, OpKind};
use std::collections::BTreeSet;
use std::path::Path;

fn golden_graphs() -> Vec<(String, Graph)> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden");
    let mut files: Vec<_> = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.sort();
    let registry = CustomRegistry::of_samples();
    let mut graphs = vec![];
    for file in files.iter().filter(|file| file.extension().is_some_and(|extension| extension == "rlx")) {
        let text = std::fs::read_to_string(file).unwrap();
        for (index, part) in text.split("\nrlx 1\n").enumerate() {
            let part = if index == 0 { part.to_string() } else { format!("rlx 1\n{part}") };
            let label = format!("{} graph {index}", file.file_name().unwrap().to_string_lossy());
            let graph = parse_graph_using(&part, &|_| None, &registry)
                .unwrap_or_else(|error| panic!("{label}: {error}"));
            graphs.push((label, graph));
        }
    }
    graphs
}

/// The interpreter computes in f64, so it may differ from an f64 oracle by little more than a rounding.
fn interpreter_accuracy(declared: Accuracy) -> Accuracy {
    match declared {
        Accuracy::Exact => Accuracy::Exact,
        Accuracy::Accumulated { terms } => Accuracy::Accumulated { terms },
        Accuracy::Residual { factor } => Accuracy::Residual { factor },
        _ => Accuracy::Approx { ulp: 4.0 },
    }
}

#[test]
fn interpreter_agrees_with_the_oracles() {
    let graphs = golden_graphs();
    assert!(graphs.len() > 10, "only {} golden graphs were found", graphs.len());
    for (label, graph) in graphs {
        let accuracy = graph
            .nodes()
            .iter()
            .map(|node| interpreter_accuracy(node.op.accuracy()))
            .max_by_key(|accuracy| match accuracy {
                Accuracy::Exact => 0,
                Accuracy::Accumulated { .. } | Accuracy::Residual { .. } => 2,
                _ => 1,
            })
            .unwrap();
        let evaluation = evaluate(&graph, &Tensors::new()).unwrap_or_else(|error| panic!("{label}: {error}"));
        let find =
            |name: &str| evaluation.outputs.iter().find(|(other, _)| other == name).map(|(_, value)| value);
        let mut compared = 0;
        for (name, value) in &evaluation.outputs {
            let Some(expected) = find(&format!("expected:{name}")) else { continue };
            rlx_ir::accuracy::compare(value, expected, accuracy, None)
                .unwrap_or_else(|error| panic!("{label} \"{}\" output {name}: {error}", graph.name));
            compared += 1;
        }
        assert!(compared > 0, "{label} has no expected output");
    }
}

#[test]
fn every_op_has_an_oracle() {
    let covered: BTreeSet<OpKind> = golden_graphs()
        .iter()
        .flat_map(|(_, graph)| graph.nodes().iter().map(|node| node.op.kind()).collect::<Vec<_>>())
        .collect();
    let fed = [OpKind::Input, OpKind::Param, OpKind::State];
    let missing: Vec<_> = OpKind::ALL
        .iter()
        .filter(|kind| !covered.contains(kind) && !fed.contains(kind))
        .map(ToString::to_string)
        .collect();
    assert!(missing.is_empty(), "no golden data for: {}", missing.join(", "));
}
