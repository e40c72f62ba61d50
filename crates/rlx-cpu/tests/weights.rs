//! Weights give way to what is prepared of them, and can be bound again.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use rlx_cpu::exec::CpuBackend;
use rlx_cpu::simd::SimdLevel;
use rlx_driver::{Backend, ExecutableGraph, HostValues, SharedBytes};
use rlx_ir::Graph;
use rlx_opt::CompileOptions;
use std::sync::{Arc, Weak};

/// `x * 2 * packed * (left + right)`, all of them matrices, the last two factors made of weights.
fn executable() -> Box<dyn ExecutableGraph> {
    let mut graph = Graph::new("weights");
    let x = graph.input_f32("x", [2, 2]);
    let [packed, left, right] = ["packed", "left", "right"].map(|name| graph.param_f32(name, [2, 2]));
    let sum = graph.add(left, right);
    let y = graph.mm(x, packed);
    let y = graph.mm(y, sum);
    graph.output("y", y);
    let backend = CpuBackend::with(1, SimdLevel::detect()).unwrap();
    backend.compile(graph.finish().unwrap(), &CompileOptions::default()).unwrap()
}

/// Binds `factor` times the identity; tells whether its bytes are still there.
fn bind(executable: &mut dyn ExecutableGraph, name: &str, factor: f32) -> Weak<Vec<u8>> {
    let values = [factor, 0.0, 0.0, factor];
    let bytes = Arc::new(values.iter().flat_map(|value| value.to_le_bytes()).collect::<Vec<u8>>());
    let alive = Arc::downgrade(&bytes);
    executable.bind_param(name, SharedBytes::new(bytes)).unwrap();
    alive
}

fn run(executable: &mut dyn ExecutableGraph) -> Vec<f32> {
    executable.run(&[("x", &[2, 2], &[1.0, 2.0, 3.0, 4.0])]).unwrap().remove(0)
}

#[test]
fn packed_weights_are_let_go_and_bound_again() {
    let mut executable = executable();
    let packed = bind(&mut *executable, "packed", 2.0);
    let left = bind(&mut *executable, "left", 1.0);
    assert!(executable.run(&[("x", &[2, 2], &[0.0; 4])]).unwrap_err().to_string().contains("right"));
    let right = bind(&mut *executable, "right", 2.0);
    assert_eq!(run(&mut *executable), [6.0, 12.0, 18.0, 24.0]);
    // Either of the summands may be bound anew without the other.
    assert_eq!((packed.strong_count(), left.strong_count(), right.strong_count()), (0, 1, 1));
    let mut clone = executable.clone_box().unwrap();
    bind(&mut *executable, "packed", 4.0);
    assert_eq!(run(&mut *executable), [12.0, 24.0, 36.0, 48.0]);
    bind(&mut *executable, "left", 0.0);
    assert_eq!(run(&mut *executable), [8.0, 16.0, 24.0, 32.0]);
    assert_eq!(run(&mut *clone), [6.0, 12.0, 18.0, 24.0]);
    let memory = executable.memory_estimate(&rlx_ir::Bindings::new()).unwrap();
    assert_eq!(memory.weights, 2 * 16);
}
