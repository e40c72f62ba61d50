//! The memory estimate against what an allocator counts.

use rlx_ir::{Bindings, DType, Dim, Graph, Literal, TensorType};
use rlx_runtime::{CompiledGraph, Device, Session, TensorRef};
use rlx_weights::BytesWeightLoader;
use stats_alloc::{INSTRUMENTED_SYSTEM, Region, StatsAlloc};
use std::alloc::System;

#[global_allocator]
static ALLOCATOR: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

const WIDTH: usize = 512;
const LAYERS: usize = 3;

fn network() -> Graph {
    let mut graph = Graph::new("network");
    let mut x = graph.input_f32("x", vec![Dim::symbol("B"), Dim::from(WIDTH)]);
    for layer in 0..LAYERS {
        let w = graph.param_f32(&format!("w{layer}"), [WIDTH, WIDTH]);
        let product = graph.mm(x, w);
        let active = graph.tanh(product);
        x = graph.add(active, x);
    }
    // Widened once, then packed: neither the half form nor the wide one stays.
    let half = graph.param("half", TensorType::new(DType::F16, [WIDTH, WIDTH]));
    let wide = graph.cast_to(half, DType::F32);
    let x = graph.mm(x, wide);
    let y = graph.softmax(x, 1usize);
    graph.output("y", y);
    graph.finish().expect("the graph is well formed")
}

fn load(compiled: &mut CompiledGraph) {
    let pairs = (0..LAYERS).map(|layer| {
        let bytes = vec![0u8; WIDTH * WIDTH * 4];
        let literal = Literal::from_bytes(DType::F32, &[WIDTH, WIDTH], &bytes).expect("sizes agree");
        (format!("w{layer}"), literal)
    });
    let half =
        Literal::from_bytes(DType::F16, &[WIDTH, WIDTH], &[0; WIDTH * WIDTH * 2]).expect("sizes agree");
    let loader =
        BytesWeightLoader::from_pairs(pairs.chain([("half".to_string(), half)])).expect("names differ");
    compiled.bind_weights(&loader).expect("the weights fit");
}

/// One test, so that nothing else allocates meanwhile.
#[test]
fn the_estimate_is_within_two_percent_of_what_is_used() {
    let session = Session::new(Device::CPU).expect("the cpu is there");
    let input = vec![0f32; 256 * WIDTH];
    for rows in [8, 256] {
        let mut compiled = session.compile(network()).expect("it compiles");
        let mut bindings = Bindings::new();
        bindings.set("B", rows as i64);
        let estimate = compiled.memory_estimate(&bindings).expect("all symbols are bound");
        assert_eq!(estimate.weights, 0, "packed forms take the place of the weights");
        let estimate = estimate.total();
        let region = Region::new(ALLOCATOR);
        load(&mut compiled);
        let dims = [rows, WIDTH];
        let x = TensorRef::f32(&dims, &input[..rows * WIDTH]).expect("sizes agree");
        compiled.run_raw(&[("x", x)]).expect("it runs");
        let change = region.change();
        let used = (change.bytes_allocated - change.bytes_deallocated) as u64;
        let (low, high) = (used - used / 50, used + used / 50);
        assert!((low..=high).contains(&estimate), "estimated {estimate}, used {used}, {rows} rows");
    }
}
