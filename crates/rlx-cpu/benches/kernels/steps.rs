//! Whole steps through the executor: convolutions, pooling, running sums, orders.

use crate::{Bench, noise};
use rlx_cpu::exec::CpuBackend;
use rlx_driver::Backend;
use rlx_ir::ops::{
    ArgReduce, ArgReduceKind, Binary, BinaryKind, Conv, Cumsum, Pool, PoolKind, ScatterAdd, Sort,
};
use rlx_ir::{DType, Graph, Value};
use rlx_opt::CompileOptions;
use std::time::{Duration, Instant};

/// The group `steps`.
pub fn run(bench: &Bench<'_>) {
    let window = |padding: usize, groups: usize| Conv {
        padding_low: vec![padding; 2],
        padding_high: vec![padding; 2],
        groups,
        ..Conv::plain(2)
    };
    convolution(bench, "conv 3x3 64 to 64, 56x56", window(1, 1), [64, 64, 56, 3]);
    convolution(bench, "conv 3x3 256 to 256, 14x14", window(1, 1), [256, 256, 14, 3]);
    convolution(bench, "conv 1x1 256 to 64, 56x56", window(0, 1), [256, 64, 56, 1]);
    convolution(
        bench,
        "conv 7x7 stride 2, 3 to 64, 224x224",
        Conv { stride: vec![2; 2], ..window(3, 1) },
        [3, 64, 224, 7],
    );
    convolution(bench, "conv 3x3 of 96 lone channels, 56x56", window(1, 96), [96, 96, 56, 3]);
    movement(bench);
}

fn convolution(bench: &Bench<'_>, name: &str, op: Conv, [channels, outputs, extent, width]: [usize; 4]) {
    let inputs = channels / op.groups;
    let after = (extent + 2 * op.padding_low[0] - width) / op.stride[0] + 1;
    let flops = 2.0 * (outputs * after * after * inputs * width * width) as f64;
    let time = step(bench, &[&[1, channels, extent, extent], &[outputs, inputs, width, width]], |g, x| {
        g.push(op.clone(), x)
    });
    bench.report_flops(name, time, flops);
}

fn movement(bench: &Bench<'_>) {
    let report = |name: &str, bytes: usize, dims: &[usize], build: &dyn Fn(&mut Graph, Value) -> Value| {
        let time = step(bench, &[dims], |g, x| build(g, x[0]));
        bench.report_bytes(name, time, bytes);
    };
    let mib = 4 << 20;
    report("cumsum of rows 4096x1024", 8 * mib, &[4096, 1024], &|g, x| {
        g.push(Cumsum { axis: 1, exclusive: false, reverse: false }, &[x])
    });
    report("cumsum of columns 4096x1024", 8 * mib, &[4096, 1024], &|g, x| {
        g.push(Cumsum { axis: 0, exclusive: false, reverse: false }, &[x])
    });
    report("cumsum of one row of 4194304", 8 * mib, &[1, mib], &|g, x| {
        g.push(Cumsum { axis: 1, exclusive: false, reverse: false }, &[x])
    });
    report("top 40 of rows 32x131072", 4 * mib, &[32, 1 << 17], &|g, x| {
        g.top_k(x, 40, 1usize, true, true, DType::I32)[0]
    });
    report("greatest of rows 32x131072", 4 * mib, &[32, 1 << 17], &|g, x| {
        let (kind, dtype) = (ArgReduceKind::Max, DType::I32);
        g.push(ArgReduce { kind, axis: 1, keep_dims: false, select_last: false, dtype }, &[x])
    });
    report("sort of rows 4096x1024", 8 * mib, &[4096, 1024], &|g, x| {
        g.push(Sort { axis: 1, descending: false }, &[x])
    });
    let pool = |kind| Pool {
        kind,
        window: vec![3, 3],
        stride: vec![2, 2],
        padding_low: vec![1, 1],
        padding_high: vec![1, 1],
        dilation: vec![1, 1],
        ceil_mode: false,
        count_include_pad: false,
        norm: None,
    };
    for kind in [PoolKind::Max, PoolKind::Mean] {
        report(
            &format!("{kind:?} pool 3x3 stride 2 of 64x112x112"),
            64 * 112 * 112 * 5,
            &[1, 64, 112, 112],
            &|g, x| g.push(pool(kind), &[x]),
        );
    }
    report("sum of 65536 rows of 64 into 4096", 65536 * 64 * 4, &[65536, 64], &|g, x| {
        let base = g.full(DType::F32, [4096, 64], 0.0);
        let rows = g.iota(DType::I32, [65536], 0usize);
        let mask = g.scalar(DType::I32, 4095.0);
        let rows = g.push(Binary { kind: BinaryKind::BitAnd }, &[rows, mask]);
        g.push(ScatterAdd { axis: 0 }, &[base, rows, x])
    });
}

/// The time of a graph of `f32` inputs of these extents.
fn step(bench: &Bench<'_>, dims: &[&[usize]], build: impl Fn(&mut Graph, &[Value]) -> Value) -> Duration {
    let (context, mut graph) = (bench.context, Graph::new("step"));
    let operands: Vec<Value> =
        dims.iter().enumerate().map(|(i, dims)| graph.input_f32(&format!("x{i}"), *dims)).collect();
    let y = build(&mut graph, &operands);
    graph.output("y", y);
    let threads = context.pool().threads();
    let backend = CpuBackend::with(threads, context.level()).expect("the processor has the level");
    let graph = graph.finish().expect("the graph is legal");
    let mut executable = backend.compile(graph, &CompileOptions::default()).expect("the graph compiles");
    let inputs: Vec<Vec<f32>> = dims.iter().map(|dims| noise(dims.iter().product())).collect();
    let bytes: Vec<&[u8]> = inputs.iter().map(|input| bytemuck::cast_slice(input)).collect();
    // The times of the steps leave out the copies of inputs.
    let (start, mut shortest) = (Instant::now(), Duration::MAX);
    while start.elapsed() < Duration::from_millis(400) {
        executable.timing().expect("the executor takes times").set_timing(true);
        executable.run_slots(&bytes).expect("the run has no fault");
        let times = executable.timing().expect("the executor takes times").step_times();
        shortest = shortest.min(times.iter().map(|time| time.total).sum());
    }
    shortest
}
