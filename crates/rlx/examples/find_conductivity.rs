//! Finds how well each part of a rod conducts heat from measurements of its temperature over time, by gradients
//! through an implicit simulation: a `scan` whose steps each solve a linear system.
//!
//! ```text
//! cargo run --release -p rlx --example find_conductivity
//! ```

use rlx::ir::ops::ReduceKind;
use rlx::train::{StepOptions, training_step};
use rlx::{DType, Device, Graph, Literal, Session, TensorRef, TensorType, Value};
use std::error::Error;

const CELLS: usize = 16;
const STEPS: usize = 30;
const TIME_STEP: f64 = 0.5;
const UPDATES: usize = 400;

fn f64s(dims: &[usize], values: &[f64]) -> Literal {
    Literal::floats(DType::F64, dims, values).expect("one value per element")
}

/// Differences of neighbours, `[CELLS - 1, CELLS]`.
fn differences() -> Literal {
    let mut values = vec![0.0; (CELLS - 1) * CELLS];
    for row in 0..CELLS - 1 {
        values[row * CELLS + row] = -1.0;
        values[row * CELLS + row + 1] = 1.0;
    }
    f64s(&[CELLS - 1, CELLS], &values)
}

/// Temperatures `[STEPS, CELLS]` of a rod that begins hot in the middle. The param `conductivity` is the logarithm of
/// what flows between neighbours at a difference of one. Each step solves `(1 + dt D^T c D) next = now`.
fn simulate(graph: &mut Graph) -> Value {
    let conductivity = graph.param("conductivity", TensorType::new(DType::F64, [CELLS - 1, 1]));
    let flow = graph.exp(conductivity);
    let difference = graph.constant(differences());
    let scaled = graph.mul(flow, difference);
    let back = graph.transpose_last_two(difference);
    let loss = graph.mm(back, scaled);
    let step = graph.scalar(DType::F64, TIME_STEP);
    let loss = graph.mul(loss, step);
    let identity: Vec<f64> = (0..CELLS * CELLS).map(|at| f64::from(at % (CELLS + 1) == 0)).collect();
    let identity = graph.constant(f64s(&[CELLS, CELLS], &identity));
    let system = graph.add(identity, loss);
    let start: Vec<f64> = (0..CELLS).map(|cell| f64::from(cell.abs_diff(CELLS / 2) < 2)).collect();
    let start = graph.constant(f64s(&[CELLS], &start));
    let results = graph.scan_over(STEPS, false, [&[start], &[system], &[]], |body, values| {
        let next = body.dense_solve(values[1], values[0]);
        vec![next, next]
    });
    results[1]
}

fn main() -> Result<(), Box<dyn Error>> {
    let session = Session::new(Device::CPU)?;
    // The rod conducts badly in its right half.
    let truth: Vec<f64> = (0..CELLS - 1).map(|edge| if edge < CELLS / 2 { 0.0 } else { -1.5 }).collect();
    let mut graph = Graph::new("rod");
    let temperatures = simulate(&mut graph);
    graph.output("temperatures", temperatures);
    let mut rod = session.compile(graph.finish()?)?;
    let conductivity = f64s(&[CELLS - 1, 1], &truth);
    rod.set_param_typed("conductivity", TensorRef::from(&conductivity))?;
    let measured = rod.run_typed(&[])?.remove(0).1;

    let mut graph = Graph::new("find");
    let temperatures = simulate(&mut graph);
    let measurement = graph.input("measured", TensorType::new(DType::F64, [STEPS, CELLS]));
    let miss = graph.sub(temperatures, measurement);
    let square = graph.mul(miss, miss);
    let loss = graph.reduce(square, ReduceKind::Sum, vec![0usize, 1], false);
    graph.output("loss", loss);
    let step = training_step(&graph.finish()?, "loss", &["conductivity"], &StepOptions::default())?;
    let mut step = session.compile(step)?;
    let guess = f64s(&[CELLS - 1, 1], &[-0.7; CELLS - 1]);
    step.states().ok_or("the device keeps no state")?.bind_handle("conductivity", TensorRef::from(&guess))?;
    for number in 0..UPDATES {
        let rate = Literal::scalar_f32(0.05 * (1.0 - number as f32 / UPDATES as f32));
        let feeds = [("measured", TensorRef::from(&measured)), ("learning_rate", TensorRef::from(&rate))];
        let outputs = step.run_typed(&feeds)?;
        if number % 100 == 0 {
            let loss = outputs.iter().find(|(name, _)| name == "loss").ok_or("the step has a loss")?;
            println!("update {number:>3}  loss {:.2e}", loss.1.to_f64s()[0]);
        }
    }
    let found = step.states().ok_or("the device keeps no state")?.read_handle("conductivity")?.to_f64s();
    println!("edge  true   found");
    for (edge, (truth, found)) in truth.iter().zip(&found).enumerate() {
        println!(
            "{edge:>4}  {:.3}  {:.3}  {}",
            truth.exp(),
            found.exp(),
            "#".repeat((40.0 * found.exp()) as usize)
        );
    }
    let worst = truth.iter().zip(&found).map(|(a, b)| (a.exp() - b.exp()).abs()).fold(0.0, f64::max);
    println!("largest difference {worst:.4}");
    if worst < 0.05 { Ok(()) } else { Err("the conductivity was not found".into()) }
}
