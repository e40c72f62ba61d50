//! What an iteration of a small loop costs: `scan` and `while`, beside the same arithmetic in a loop of Rust, and
//! beside a call of a compiled graph for each iteration.

use crate::{Bench, best};
use rlx_cpu::exec::CpuBackend;
use rlx_driver::{Backend, ExecutableGraph};
use rlx_ir::ops::Checkpoint;
use rlx_ir::{DType, Graph, Shape, TensorType, Value};
use rlx_opt::CompileOptions;
use std::hint::black_box;
use std::time::Duration;

/// Iterations of the long loop; the short one has two, and their difference leaves out the call.
const LONG: usize = 20_002;
const SHORT: usize = 2;

/// The group `loops`.
pub fn run(bench: &Bench<'_>) {
    let report = |name: &str, time: Duration, count: usize| {
        println!("{name:44} {:9.1} ns an iteration", time.as_secs_f64() * 1e9 / count as f64);
    };
    for width in [1usize, 64] {
        let time = |graph: &dyn Fn(usize) -> Graph| {
            let [long, short] = [LONG, SHORT].map(|length| call(bench, graph(length), width));
            long.saturating_sub(short)
        };
        report(&format!("scan, carry f32[{width}]"), time(&|length| scan(width, length)), LONG - SHORT);
        report(&format!("while, carry f32[{width}]"), time(&|length| repeat(width, length)), LONG - SHORT);
        report(&format!("graph call, f32[{width}]"), call(bench, once(width), width), 1);
        let plain = best(1, || {
            let mut x = vec![0.5f32; width];
            for _ in 0..black_box(LONG) {
                for x in black_box(&mut x).iter_mut() {
                    *x = *x * 0.5 + 1.0;
                }
            }
            black_box(&x);
        });
        report(&format!("loop of Rust, f32[{width}]"), plain, LONG);
    }
}

fn ty(width: usize) -> TensorType {
    TensorType::new(DType::F32, [width])
}

/// `x / 2 + 1`.
fn halfway(g: &mut Graph, x: Value) -> Value {
    let (half, one) = (g.scalar(DType::F32, 0.5), g.scalar(DType::F32, 1.0));
    let half = g.mul(x, half);
    g.add(half, one)
}

fn once(width: usize) -> Graph {
    let mut g = Graph::new("once");
    let x = g.input("x", ty(width));
    let y = halfway(&mut g, x);
    g.output("y", y);
    g
}

fn scan(width: usize, length: usize) -> Graph {
    let mut g = Graph::new("scan");
    let x = g.input("x", ty(width));
    let mut body = once(width);
    body.name = "body".into();
    let y = g.scan(&[x], length, 1usize, 0usize, false, Checkpoint::Every, body);
    g.output("y", y[0]);
    g
}

fn repeat(width: usize, length: usize) -> Graph {
    let mut g = Graph::new("while");
    let x = g.input("x", ty(width));
    let count = TensorType::new(DType::I32, Shape::scalar());
    let [mut condition, mut body] = ["condition", "body"].map(Graph::new);
    let step = condition.input("step", count.clone());
    condition.input("x", ty(width));
    let most = condition.scalar(DType::I32, length as f64);
    let goes_on = condition.compare_lt(step, most);
    condition.output("goes_on", goes_on);
    let (step, value) = (body.input("step", count), body.input("x", ty(width)));
    let one = body.scalar(DType::I32, 1.0);
    let (step, value) = (body.add(step, one), halfway(&mut body, value));
    body.set_outputs([("step", step), ("y", value)]);
    let start = g.scalar(DType::I32, 0.0);
    let y = g.r#while(&[start, x], 2usize, None, condition, body);
    g.output("y", y[1]);
    g
}

/// The time of a call.
fn call(bench: &Bench<'_>, graph: Graph, width: usize) -> Duration {
    let level = bench.context.level();
    let backend = CpuBackend::with(1, level).expect("the processor has the level");
    let mut executable: Box<dyn ExecutableGraph> =
        backend.compile(graph, &CompileOptions::default()).expect("the graph is well formed");
    let x: Vec<u8> = vec![0.5f32; width].iter().flat_map(|x| x.to_le_bytes()).collect();
    best(1, || {
        executable.run_slots(&[&x]).expect("the graph has one input");
    })
}
