//! Ops with bodies: symbols, faults, what the verifier finds in them, user ops.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

use rlx_ir::derive::{Backward, Batched, Derivatives, Forward};
use rlx_ir::interpret::{Tensors, evaluate};
use rlx_ir::op::{Evaluated, Inferred};
use rlx_ir::ops::control::custom::SumAndDifference;
use rlx_ir::ops::{Checkpoint, Custom};
use rlx_ir::text::{parse_graph, parse_graph_using, print_graph};
use rlx_ir::{
    Accuracy, Body, CustomHandle, CustomOp, CustomRegistry, DType, Dim, Graph, Literal, SymbolBounds,
    TensorType, Value,
};

/// Rows of a table, gathered one index at a time.
const LOOKUP: &str = r#"rlx 1
graph "lookup" {
  symbol S in [0, 8]
  %0 = input {name = "table"} : f32[3]
  %1 = input {name = "indices"} : i64[S]
  %2 = scan %0, %1 {length = S, carries = 0, stacked = 1, reverse = false, checkpoint = every, body = graph "step" {
      %0 = input {name = "table"} : f32[3]
      %1 = input {name = "index"} : i64[]
      %2 = gather %0, %1 {axis = 0} : f32[]
      output "row" = %2
    }} : f32[S]
  output "y" = %2
}
"#;

fn feeds(indices: &[i128]) -> Tensors {
    let table = Literal::floats(DType::F32, &[3], &[1.0, 2.0, 4.0]).unwrap();
    [
        ("table".to_owned(), table),
        ("indices".to_owned(), Literal::ints(DType::I64, &[indices.len()], indices).unwrap()),
    ]
    .into()
}

#[test]
fn symbolic_lengths_are_bound_and_printed() {
    let graph = parse_graph(LOOKUP).unwrap();
    assert_eq!(print_graph(&graph), LOOKUP);
    for indices in [&[2, 0, 1, 1][..], &[]] {
        let found = evaluate(&graph, &feeds(indices)).unwrap().outputs[0].1.to_f64s();
        let expected: Vec<f64> = indices.iter().map(|&index| [1.0, 2.0, 4.0][index as usize]).collect();
        assert_eq!(found, expected);
    }
}

#[test]
fn faults_name_the_body_and_the_iteration() {
    let graph = parse_graph(LOOKUP).unwrap();
    let error = evaluate(&graph, &feeds(&[2, 0, 3])).unwrap_err().to_string();
    assert!(error.starts_with("%2 scan: body, iteration 2: %2 gather: "), "{error}");
}

#[test]
fn symbols_are_replaced_in_bodies() {
    let graph = parse_graph(LOOKUP).unwrap();
    let bound = graph.map_dims(&|dim| dim.substitute(&|_| Some(Dim::from(2))));
    assert!(!print_graph(&bound).contains('S'), "{}", print_graph(&bound));
    rlx_ir::verify::verify(&bound).unwrap();
    assert_eq!(graph.map_dims(&Dim::clone), graph);
}

#[test]
fn a_body_keeps_to_the_symbols_around_it() {
    let mut graph = parse_graph(LOOKUP).unwrap();
    let mut body = Graph::new("body");
    body.bound_symbol("T", SymbolBounds { min: 1, max: Some(4) });
    let (x, y) = (
        body.input("x", TensorType::new(DType::F32, [3usize])),
        body.full(DType::F32, vec![Dim::symbol("T")], 1.0),
    );
    body.output("x", x);
    body.output("y", y);
    let table = Value::first(rlx_ir::NodeId(0));
    let results = graph.scan(&[table], 2, 1usize, 0usize, false, Checkpoint::Every, body);
    graph.output("ones", results[1]);
    assert_eq!(graph.symbols()["T" as &str].max, Some(4));
    rlx_ir::verify::verify(&graph).unwrap();
    graph.bound_symbol("T", SymbolBounds::default());
    let error = rlx_ir::verify::verify(&graph).unwrap_err().to_string();
    assert_eq!(error, "%3 scan body: symbol T: is in [1, 4], the graph around it lets it be in [0, inf]");
}

#[test]
fn graphs_nest_sixteen_deep_and_no_deeper() {
    let nest = |levels: usize| {
        let ty = TensorType::new(DType::F32, [1usize]);
        let mut graph = Graph::new("leaf");
        let x = graph.input("x", ty.clone());
        graph.output("x", x);
        for _ in 0..levels {
            let body = Body::from(std::mem::replace(&mut graph, Graph::new("level")));
            let x = graph.input("x", ty.clone());
            let y = graph.custom_fn(&[x], body, None, None);
            graph.output("y", y.first().copied().unwrap_or(x));
        }
        graph
    };
    let graph = nest(16).finish().unwrap();
    assert_eq!(parse_graph(&print_graph(&graph)).unwrap(), graph);
    let error = nest(17).finish().unwrap_err().to_string();
    assert!(error.contains("graphs nest deeper than 16 levels (C1)"), "{error}");
    let text = format!("rlx 1\ngraph \"g\" {{\n{}", "%0 = custom_fn {body = graph \"b\" {\n".repeat(100_000));
    assert!(parse_graph(&text).unwrap_err().to_string().contains("graphs nest deeper than 16 levels"));
}

/// Claims a type that it does not give.
struct Liar;

impl CustomOp for Liar {
    fn name(&self) -> &str {
        "sum_and_difference"
    }
    fn version(&self) -> u32 {
        2
    }
    fn infer(&self, operands: &[&TensorType]) -> Inferred {
        Ok(vec![operands[0].clone()])
    }
    fn evaluate(&self, _: &[&Literal]) -> Evaluated {
        Ok(vec![Literal::scalar_f32(1.0)])
    }
    fn accuracy(&self) -> Accuracy {
        Accuracy::Exact
    }
    fn vjp(&self, _: &mut Graph, _: Backward<'_>) -> Derivatives {
        Err("it lies")
    }
    fn jvp(&self, _: &mut Graph, _: Forward<'_>) -> Derivatives {
        Err("it lies")
    }
    fn batch(&self, _: &mut Graph, _: Batched<'_>) -> Result<Vec<Value>, &'static str> {
        Err("it lies")
    }
}

#[test]
fn user_ops_are_found_by_name_and_version() {
    let mut graph = Graph::new("g");
    let x = graph.input_f32("x", [2]);
    let results = graph.push_all(Custom { function: CustomHandle::new(SumAndDifference) }, &[x, x]);
    graph.output("zero", results[1]);
    let graph = graph.finish().unwrap();
    let text = print_graph(&graph);
    let read = |registry: &CustomRegistry| parse_graph_using(&text, &|_| None, registry);
    let mut registry = CustomRegistry::default();
    let refused = read(&registry).unwrap_err().to_string();
    assert!(
        refused.ends_with(
            "custom \"sum_and_difference\": the registry that the text is read with holds no such user op"
        ),
        "{refused}"
    );
    registry.register(CustomHandle::new(SumAndDifference)).unwrap();
    assert_eq!(read(&registry).unwrap(), graph);
    let taken = registry.register(CustomHandle::new(Liar)).unwrap_err().to_string();
    assert!(taken.contains("is registered already"), "{taken}");
    let mut newer = CustomRegistry::default();
    newer.register(CustomHandle::new(Liar)).unwrap();
    let refused = read(&newer).unwrap_err().to_string();
    assert!(refused.ends_with("the registry holds version 2, found version 1"), "{refused}");
    let newer = parse_graph_using(
        &text
            .replace("difference\" 1", "difference\" 2")
            .replace(" : f32[2], f32[2]", "")
            .replace("%1.1", "%1"),
        &|_| None,
        &newer,
    );
    let error = evaluate(
        &newer.unwrap(),
        &[("x".to_owned(), Literal::floats(DType::F32, &[2], &[1.0, 2.0]).unwrap())].into(),
    )
    .unwrap_err();
    assert!(error.to_string().contains("gives [f32[]], it infers [f32[2]]"), "{error}");
}
