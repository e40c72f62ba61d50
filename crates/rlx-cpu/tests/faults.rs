//! Indices that lie outside what they index: each op refuses them with the
//! index, where it stands and what is legal, and runs again on good ones.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

use rlx_cpu::exec::CpuBackend;
use rlx_cpu::simd::SimdLevel;
use rlx_driver::{Backend, TensorRef};
use rlx_ir::op::Fill;
use rlx_ir::ops::*;
use rlx_ir::sample::{Generator, fill_literal};
use rlx_ir::{DType, Graph, Literal, Op, TensorType};
use rlx_opt::{CompileOptions, KernelDispatch};
use rlx_testkit::backend_suite::{check_fault_words, check_values};

/// `op` on floats of the extents in `floats` and the integers `indices` of extents `dims` as
/// operand `slot`: the last one is made `bad`, and `message` is expected.
fn refuses(op: impl Into<Op>, floats: &[&[usize]], (slot, dims): (usize, &[usize]), bad: i64, message: &str) {
    let op = op.into();
    let backend = CpuBackend::with(2, SimdLevel::detect()).unwrap();
    let mut generator = Generator::new(1);
    let mut literals: Vec<Literal> = floats
        .iter()
        .map(|dims| fill_literal(&TensorType::new(DType::F32, *dims), Fill::Any, &mut generator))
        .collect();
    let count: usize = dims.iter().product();
    let mut numbers = vec![0i128; count];
    literals.insert(slot, Literal::ints(DType::I64, dims, &numbers).expect("one value per element"));
    let mut graph = Graph::new("faults");
    let operands: Vec<_> =
        literals.iter().enumerate().map(|(i, literal)| graph.input(format!("x{i}"), literal.ty())).collect();
    let y = graph.push(op.clone(), &operands);
    graph.output("y", y);
    let mut executable = backend.compile(graph.finish().unwrap(), &CompileOptions::default()).unwrap();
    let mut run = |literals: &[Literal]| {
        let names: Vec<String> = (0..literals.len()).map(|i| format!("x{i}")).collect();
        let inputs: Vec<(&str, TensorRef<'_>)> =
            names.iter().zip(literals).map(|(name, literal)| (name.as_str(), literal.into())).collect();
        executable.run_typed(&inputs).map(|_| ()).map_err(|error| error.to_string())
    };
    numbers[count - 1] = i128::from(bad);
    let good = std::mem::replace(
        &mut literals[slot],
        Literal::ints(DType::I64, dims, &numbers).expect("one value per element"),
    );
    let error = run(&literals).unwrap_err();
    assert!(error.contains(message), "{op:?}: found {error}, expected {message}");
    literals[slot] = good;
    run(&literals).unwrap_or_else(|error| panic!("{op:?} on good indices: {error}"));
}

#[test]
fn indices_outside_are_refused() {
    let kind = ScatterKind::Add;
    for (bad, shown) in [(4, "4"), (-1, "-1"), (i64::MIN, "-9223372036854775808")] {
        let says = |position: usize| format!("index {shown} at position {position} is outside [0, 4)");
        refuses(Gather { axis: 0 }, &[&[4, 3]], (1, &[2]), bad, &says(1));
        refuses(Gather { axis: 1 }, &[&[2, 4, 3]], (1, &[2, 2]), bad, &says(3));
        refuses(GatherNd { batch_dims: 0 }, &[&[2, 4]], (1, &[3, 2]), bad, &says(5));
        refuses(GatherElements { axis: 0 }, &[&[4, 3]], (1, &[2, 3]), bad, &says(5));
        refuses(ScatterAdd { axis: 0 }, &[&[4, 3], &[2, 3]], (1, &[2]), bad, &says(1));
        refuses(ScatterNd { kind }, &[&[4, 3], &[2, 3]], (1, &[2, 1]), bad, &says(1));
        refuses(ScatterElements { axis: 0, kind }, &[&[4, 3], &[2, 3]], (1, &[2, 3]), bad, &says(5));
        let rope = Rope { axis: 0, head_dim: 4, n_rot: 4, style: RopeStyle::HalfSplit, positions: true };
        refuses(rope, &[&[2, 4], &[4, 2], &[4, 2]], (3, &[2]), bad, &says(1));
    }
}

#[test]
fn windows_that_do_not_fit_are_refused() {
    for (bad, shown) in [(3, "3"), (-1, "-1"), (i64::MAX, "9223372036854775807")] {
        let message = format!("start {shown} at position 0 leaves no room for 2 elements in 4");
        let slice = DynamicSlice { axes: vec![0], sizes: vec![2.into()] };
        refuses(slice, &[&[4, 3]], (1, &[1]), bad, &message);
        refuses(DynamicUpdateSlice { axes: vec![0] }, &[&[4, 3], &[2, 3]], (2, &[1]), bad, &message);
        refuses(KvAppend { axis: 1 }, &[&[1, 4, 3], &[1, 2, 3]], (2, &[1]), bad, &message);
    }
}

#[test]
fn every_kernel_refuses_exactly_what_its_op_does_not_take() {
    let backend = CpuBackend::with(2, SimdLevel::detect()).unwrap();
    for dispatch in [KernelDispatch::PreferNative, KernelDispatch::ForceDecomposed] {
        check_values(&backend, &CompileOptions { dispatch, ..CompileOptions::default() }, 1000);
    }
}

#[test]
fn words_of_a_module_are_faults() {
    check_fault_words(&CpuBackend::with(1, SimdLevel::detect()).unwrap()).unwrap();
}
