//! `run_slots` allocates nothing: every kernel, on one thread and on two.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use rlx_cpu::exec::CpuBackend;
use rlx_cpu::simd::SimdLevel;
use rlx_driver::{Backend, ExecutableGraph, SharedBytes, TensorRef};
use rlx_ir::interpret::Tensors;
use rlx_ir::text::parse_graph;
use rlx_ir::{Graph, Literal, OpKind};
use rlx_opt::CompileOptions;
use stats_alloc::{INSTRUMENTED_SYSTEM, Region, StatsAlloc};
use std::alloc::System;

#[global_allocator]
static ALLOCATOR: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

/// Graphs large enough to be shared out to threads.
const LARGE: [&str; 4] = [
    "%x = input {name = \"x\"} : f32[192, 256]
     %w = param {name = \"w\"} : f32[256, 256]
     %m = matmul %x, %w {transpose_a = false, transpose_b = false}
     %t = activation %m {kind = tanh, parameter = none}
     %s = softmax %t {axis = 1}
     %r = reduce %s {kind = max, axes = [1], keep_dims = true}
     output \"y\" = %r",
    "%q = input {name = \"q\"} : f32[1, 4, 64, 32]
     %k = input {name = \"k\"} : f32[1, 4, 64, 32]
     %p = input {name = \"p\"} : i64[1]
     %s = state {name = \"s\"} : f32[1, 4, 128, 32]
     %n = kv_append %s, %k, %p {axis = 2}
     %a = attention %q, %n, %n {layout = bhsd, num_heads = 4, num_kv_heads = 4, scale = none, softcap = none, \
     mask_kind = none, window = 0, alignment = end, with_lse = false, mask = false, kv_lengths = false, \
     block_table = false, sinks = false}
     output \"y\" = %a
     update \"s\" = %n",
    "%x = input {name = \"x\"} : f32[1, 8, 64, 64]
     %w = param {name = \"w\"} : f32[16, 8, 3, 3]
     %c = conv %x, %w {stride = [1, 1], padding_low = [1, 1], padding_high = [1, 1], dilation = [1, 1], \
     groups = 1, bias = false}
     %p = pool %c {kind = max, window = [3, 3], stride = [2, 2], padding_low = [1, 1], padding_high = [1, 1], \
     dilation = [1, 1], ceil_mode = false, count_include_pad = false, norm = none}
     output \"y\" = %p",
    "%x = input {name = \"x\"} : i64[512]
     %w = param {name = \"w\"} : f32[512, 256]
     %g = gather %w, %x {axis = 0}
     %c = cumsum %g {axis = 1, exclusive = false, reverse = false}
     %t = top_k %c {axis = 1, k = 8, largest = true, sorted = true, dtype = i64}
     output \"t\" = %t
     output \"i\" = %t.1",
];

/// What runs through the reference evaluation, which allocates, or allocates itself; nothing where all is well.
fn finding(backend: &CpuBackend, graph: Graph, feeds: &Tensors) -> Option<String> {
    let label = format!("{:?}", graph.nodes().iter().map(|node| &node.op).collect::<Vec<_>>());
    let mut executable = backend.compile(graph, &CompileOptions::default()).unwrap();
    let io = executable.lir().io.clone();
    for param in &io.params {
        executable.bind_param(&param.name, SharedBytes::from(feeds[&param.name].bytes().to_vec())).unwrap();
    }
    let inputs: Vec<(&str, TensorRef<'_>)> =
        io.inputs.iter().map(|entry| (entry.name.as_str(), (&feeds[&entry.name]).into())).collect();
    let slots: Vec<&[u8]> = io.inputs.iter().map(|entry| feeds[&entry.name].bytes()).collect();
    executable.run_typed(&inputs).unwrap();
    executable.timing().unwrap().set_timing(true);
    let steps = executable.timing().unwrap().step_times();
    executable.timing().unwrap().set_timing(false);
    if steps.iter().any(|time| time.step.ends_with("[reference]")) {
        return None;
    }
    executable.run_slots(&slots).unwrap();
    // A worker that starts late allocates for itself once; what a run allocates, every run does.
    let count = (0..3).map(|_| allocations_of(&mut *executable, &slots)).min().unwrap_or(0);
    (count > 0).then(|| format!("{count} allocations: {label}, {:?}", steps.first()))
}

/// Allocations of three runs.
fn allocations_of(executable: &mut dyn ExecutableGraph, slots: &[&[u8]]) -> usize {
    let region = Region::new(ALLOCATOR);
    for _ in 0..3 {
        executable.run_slots(slots).unwrap();
    }
    let change = region.change();
    change.allocations + change.reallocations
}

/// One test, so that nothing else allocates meanwhile.
#[test]
fn run_slots_allocates_nothing() {
    let mut findings = vec![];
    for threads in [1, 2] {
        let backend = CpuBackend::with(threads, SimdLevel::detect()).unwrap();
        for body in LARGE {
            let graph = parse_graph(&format!("rlx 1\ngraph \"g\" {{\n{body}\n}}")).unwrap();
            let leaves = graph.nodes().iter().filter_map(|node| Some((node.op.leaf_name()?, &node.types[0])));
            let zeros = leaves.map(|(name, ty)| {
                let bytes = vec![0; ty.size_bytes().as_static().unwrap() as usize];
                let dims = ty.shape.as_static().unwrap();
                (name.to_string(), Literal::from_bytes(ty.dtype, &dims, &bytes).unwrap())
            });
            let feeds: Tensors = zeros.collect();
            findings.extend(finding(&backend, graph, &feeds));
        }
        // A user's function may allocate.
        let kinds = OpKind::ALL.iter().filter(|kind| **kind != OpKind::Custom);
        for sample in kinds.flat_map(|kind| kind.samples()) {
            let (graph, feeds) = sample.graph(11);
            findings.extend(finding(&backend, graph, &feeds));
        }
    }
    assert!(findings.is_empty(), "{} findings\n{}", findings.len(), findings.join("\n"));
}
