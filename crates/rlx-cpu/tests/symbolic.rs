//! Ops whose extents are known at run time only: one executable, several
//! bindings of its symbols, against the reference interpreter.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

use rlx_cpu::exec::CpuBackend;
use rlx_cpu::simd::SimdLevel;
use rlx_driver::{Backend, TensorRef};
use rlx_ir::accuracy::{Accuracy, compare};
use rlx_ir::interpret::{Tensors, evaluate};
use rlx_ir::op::Fill;
use rlx_ir::ops::*;
use rlx_ir::sample::{Generator, fill_literal};
use rlx_ir::{Bindings, DType, Dim, Graph, OpKind, Shape, TensorType, Value};
use rlx_opt::CompileOptions;

fn symbol(name: &str) -> Dim {
    Dim::symbol(name)
}

/// An input of these extents.
fn input<const N: usize>(g: &mut Graph, name: &str, dtype: DType, dims: [Dim; N]) -> Value {
    g.input(name, TensorType::new(dtype, Shape::from(dims.to_vec())))
}

/// Runs what `build` makes with each of `extents` as `B` and `S`. Integer inputs are indices: 0 or 1.
fn check(extents: &[[i64; 2]], build: impl Fn(&mut Graph) -> Vec<Value>) {
    let mut graph = Graph::new("symbolic");
    for (index, value) in build(&mut graph).into_iter().enumerate() {
        graph.output(format!("y{index}"), value);
    }
    let graph = graph.finish().unwrap();
    let mut generator = Generator::new(5);
    for threads in [1, 2] {
        let backend = CpuBackend::with(threads, SimdLevel::detect()).unwrap();
        let mut executable = backend.compile(graph.clone(), &CompileOptions::default()).unwrap();
        for &[batch, sequence] in extents {
            let mut bindings = Bindings::new();
            bindings.set("B", batch);
            bindings.set("S", sequence);
            let mut feeds = Tensors::new();
            for (_, node) in graph.nodes_of(OpKind::Input) {
                let ty = &node.types[0];
                let dims = ty.shape.eval(&bindings).unwrap();
                let fill = if ty.dtype.is_int() { Fill::Range(0.0, 2.0) } else { Fill::Any };
                let literal = fill_literal(&TensorType::new(ty.dtype, dims.as_slice()), fill, &mut generator);
                feeds.insert(node.op.leaf_name().unwrap().into(), literal);
            }
            let inputs: Vec<(&str, TensorRef<'_>)> =
                feeds.iter().map(|(name, literal)| (name.as_str(), literal.into())).collect();
            let expected = evaluate(&graph, &feeds).unwrap();
            let outputs = executable.run_typed(&inputs).unwrap();
            assert_eq!(outputs.len(), expected.outputs.len());
            for ((name, actual), (_, reference)) in outputs.iter().zip(&expected.outputs) {
                compare(actual, reference, Accuracy::Accumulated { terms: 256 }, None)
                    .unwrap_or_else(|error| panic!("B = {batch}, S = {sequence}, {name}: {error}"));
            }
        }
    }
}

const ANY: [[i64; 2]; 6] = [[2, 5], [1, 1], [3, 200], [0, 4], [2, 0], [2, 5]];
const FILLED: [[i64; 2]; 5] = [[2, 5], [1, 2], [3, 200], [0, 4], [2, 5]];

#[test]
fn running_sums_and_orders() {
    for dtype in [DType::F32, DType::BF16, DType::I64] {
        check(&ANY, |g| {
            let x = input(g, "x", dtype, [symbol("B"), symbol("S"), 3.into()]);
            let flipped = g.transpose(x, vec![2, 0, 1]);
            vec![
                g.push(Cumsum { axis: 1, exclusive: false, reverse: true }, &[x]),
                g.push(CumMax { axis: 2, exclusive: true, reverse: false }, &[flipped]),
                g.push(Sort { axis: 1, descending: true }, &[x]),
                g.push(ArgSort { axis: 2, descending: false, dtype: DType::I32 }, &[flipped]),
            ]
        });
        check(&FILLED, |g| {
            let x = input(g, "x", dtype, [symbol("B"), symbol("S")]);
            let (kind, dtype) = (ArgReduceKind::Min, DType::I64);
            let mut results = g.top_k(x, 2, 1usize, true, true, dtype);
            results
                .push(g.push(ArgReduce { kind, axis: 1, keep_dims: true, select_last: true, dtype }, &[x]));
            results
        });
    }
}

#[test]
fn moves_by_index() {
    for dtype in [DType::F32, DType::F16, DType::I32] {
        check(&FILLED, |g| {
            let table = input(g, "table", dtype, [symbol("S"), 4.into()]);
            let rows = input(g, "rows", DType::I32, [symbol("B"), 3.into()]);
            let updates = input(g, "updates", dtype, [symbol("B"), 3.into(), 4.into()]);
            let start = input(g, "start", DType::I64, [2.into()]);
            vec![
                g.push(Gather { axis: 0 }, &[table, rows]),
                g.push(ScatterAdd { axis: 0 }, &[table, rows, updates]),
                g.push(DynamicSlice { axes: vec![0, 1], sizes: vec![1.into(), 3.into()] }, &[table, start]),
            ]
        });
        check(&FILLED, |g| {
            let data = input(g, "data", dtype, [symbol("B"), symbol("S"), 2.into()]);
            let picks = input(g, "picks", DType::U32, [symbol("B"), 1.into(), 2.into()]);
            let updates = input(g, "updates", dtype, [symbol("B"), 1.into(), 2.into()]);
            let positions = input(g, "positions", DType::I32, [symbol("B")]);
            let kind = ScatterKind::Max;
            vec![
                g.push(GatherElements { axis: 1 }, &[data, picks]),
                g.push(ScatterElements { axis: 1, kind }, &[data, picks, updates]),
                g.push(KvAppend { axis: 1 }, &[data, updates, positions]),
            ]
        });
    }
}

#[test]
fn rotations() {
    check(&ANY, |g| {
        let x = input(g, "x", DType::F32, [symbol("B"), symbol("S"), 12.into()]);
        let cos = input(g, "cos", DType::F32, [symbol("S"), 2.into()]);
        let sin = input(g, "sin", DType::F32, [symbol("S"), 2.into()]);
        let op = |style| Rope { axis: 1, head_dim: 6, n_rot: 4, style, positions: false };
        vec![
            g.push(op(RopeStyle::HalfSplit), &[x, cos, sin]),
            g.push(op(RopeStyle::Interleaved), &[x, cos, sin]),
        ]
    });
}

#[test]
fn images() {
    for dtype in [DType::F32, DType::BF16, DType::F64] {
        check(&FILLED, |g| {
            let x = input(g, "x", dtype, [symbol("B"), 4.into(), symbol("S"), 6.into()]);
            let dense = input(g, "dense", dtype, [5.into(), 4.into(), 3.into(), 3.into()]);
            let point = input(g, "point", dtype, [3.into(), 4.into(), 1.into(), 1.into()]);
            let deep = input(g, "deep", dtype, [4.into(), 1.into(), 2.into(), 2.into()]);
            let bias = input(g, "bias", dtype, [5.into()]);
            let padded = Conv { padding_low: vec![1, 1], padding_high: vec![1, 1], ..Conv::plain(2) };
            let y = g.convolve(padded, x, dense, Some(bias));
            let pool = Pool {
                kind: PoolKind::Max,
                window: vec![2, 3],
                stride: vec![2, 1],
                padding_low: vec![0, 1],
                padding_high: vec![0, 1],
                dilation: vec![1, 1],
                ceil_mode: true,
                count_include_pad: false,
                norm: None,
            };
            vec![
                g.push(Activation::of(ActivationKind::Relu), &[y]),
                g.convolve(Conv::plain(2), x, point, None),
                g.convolve(Conv { groups: 4, ..Conv::plain(2) }, x, deep, None),
                g.push(pool, &[x]),
                g.push(Resize::linear([2], [symbol("S") * Dim::from(2)]), &[x]),
            ]
        });
    }
}
