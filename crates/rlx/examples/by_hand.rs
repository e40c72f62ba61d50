//! A graph written by hand: attention over a batch of any size, checked against the reference interpreter.
//!
//! ```text
//! cargo run --release -p rlx --example by_hand
//! ```

use rlx::{DType, Device, Dim, Graph, Literal, Session, TensorRef};
use std::error::Error;

fn attention() -> Result<Graph, rlx::IrError> {
    let mut graph = Graph::new("attention");
    // `S` is bound by the input of each run; nothing is compiled again.
    let shape = || vec![Dim::symbol("S"), Dim::from(4)];
    let query = graph.input_f32("query", shape());
    let memory = graph.input_f32("memory", shape());
    let keys = graph.transpose_last_two(memory);
    let scores = graph.mm(query, keys);
    let weights = graph.softmax(scores, 1usize);
    let mixed = graph.mm(weights, memory);
    graph.output("mixed", mixed);
    graph.finish()
}

fn main() -> Result<(), Box<dyn Error>> {
    let graph = attention()?;
    println!("{}", rlx::ir::text::print_graph(&graph));

    let session = Session::new(Device::CPU)?;
    let mut compiled = session.compile(graph.clone())?;
    for rows in [1, 3] {
        let values: Vec<f64> = (0..rows * 4).map(|i| (i as f64).sin()).collect();
        let tensor = Literal::floats(DType::F32, &[rows, 4], &values).expect("one value per element");
        let outputs = compiled
            .run_typed(&[("query", TensorRef::from(&tensor)), ("memory", TensorRef::from(&tensor))])?;

        let feeds = [("query".to_string(), tensor.clone()), ("memory".to_string(), tensor)].into();
        let expected = rlx::ir::interpret::evaluate(&graph, &feeds)?;
        let (found, expected) = (&outputs[0].1, &expected.outputs[0].1);
        let difference = (0..found.len())
            .filter_map(|i| Some((found.number(i).as_f64()? - expected.number(i).as_f64()?).abs()))
            .fold(0.0, f64::max);
        println!(
            "S = {rows}: {} elements, largest difference from the interpreter {difference:.1e}",
            found.len()
        );
    }
    Ok(())
}
