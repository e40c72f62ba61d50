//! What orders, scans, products, norms and fused layers refuse: by constraint
//! label when types show it, as a fault when only values do.

use rlx_ir::attr::Real;
use rlx_ir::interpret::{Tensors, evaluate, evaluate_op};
use rlx_ir::ops::*;
use rlx_ir::{DType, Dim, Graph, Literal, TensorType};

fn f32s<const N: usize>(dims: [usize; N]) -> TensorType {
    TensorType::new(DType::F32, dims)
}

#[track_caller]
fn refuses(label: &str, op: impl Into<Op>, operands: &[TensorType]) {
    let op = op.into();
    let violation = op.infer(&operands.iter().collect::<Vec<_>>()).expect_err("the operands do not fit");
    assert_eq!(violation.constraint, label, "{violation}");
}

fn arg_max(axis: usize, dtype: DType) -> ArgReduce {
    ArgReduce { kind: ArgReduceKind::Max, axis, keep_dims: false, select_last: false, dtype }
}

fn top_k(k: Dim, axis: usize, dtype: DType) -> TopK {
    TopK { k, axis, largest: true, sorted: true, dtype }
}

#[test]
fn orders_and_scans_refuse_what_does_not_fit() {
    let complex = TensorType::new(DType::C64, [2usize]);
    refuses("C1", arg_max(1, DType::I64), &[f32s([2])]);
    refuses("C2", arg_max(0, DType::I64), std::slice::from_ref(&complex));
    refuses("C3", arg_max(1, DType::I64), &[f32s([2, 0])]);
    refuses("C4", arg_max(0, DType::F32), &[f32s([2])]);
    refuses("C1", top_k(Dim::from(1), usize::MAX, DType::I64), &[f32s([2])]);
    refuses("C2", top_k(Dim::from(1), 0, DType::I64), std::slice::from_ref(&complex));
    refuses("C3", top_k(Dim::from(3), 0, DType::I64), &[f32s([2])]);
    refuses("C3", top_k(Dim::from(-1), 0, DType::I64), &[f32s([2])]);
    refuses("C3", top_k(Dim::from(i64::MAX), 0, DType::I64), &[f32s([2])]);
    refuses("C4", top_k(Dim::from(1), 0, DType::U8), &[f32s([2])]);
    refuses("C1", Sort { axis: 1, descending: false }, &[f32s([2])]);
    refuses("C2", Sort { axis: 0, descending: false }, std::slice::from_ref(&complex));
    refuses("C1", ArgSort { axis: 1, descending: false, dtype: DType::I64 }, &[f32s([2])]);
    refuses("C2", ArgSort { axis: 0, descending: false, dtype: DType::I64 }, std::slice::from_ref(&complex));
    refuses("C3", ArgSort { axis: 0, descending: false, dtype: DType::I8 }, &[f32s([2])]);
    refuses("C1", Cumsum { axis: 1, exclusive: false, reverse: false }, &[f32s([2])]);
    refuses("C2", CumMax { axis: 0, exclusive: false, reverse: false }, &[complex]);
    let ints = TensorType::new(DType::I32, [2usize]);
    refuses("C2", CumLogSumExp { axis: 0, exclusive: false, reverse: false }, std::slice::from_ref(&ints));
    refuses("C1", LogSoftmax { axis: 0 }, &[ints]);
    refuses("C2", LogSoftmax { axis: 1 }, &[f32s([2])]);
}

#[test]
fn products_refuse_what_does_not_fit() {
    let dot = |contracting: [&[usize]; 2], batch: [&[usize]; 2]| DotGeneral {
        lhs_contracting: contracting[0].to_vec(),
        rhs_contracting: contracting[1].to_vec(),
        lhs_batch: batch[0].to_vec(),
        rhs_batch: batch[1].to_vec(),
    };
    let none: [&[usize]; 2] = [&[], &[]];
    refuses("C1", dot(none, none), &[f32s([2]), TensorType::new(DType::F64, [2usize])]);
    refuses(
        "C1",
        dot(none, none),
        &[TensorType::new(DType::Bool, [2usize]), TensorType::new(DType::Bool, [2usize])],
    );
    refuses("C2", dot([&[0], &[]], none), &[f32s([2]), f32s([2])]);
    refuses("C2", dot(none, [&[], &[0]]), &[f32s([2]), f32s([2])]);
    refuses("C3", dot([&[usize::MAX], &[0]], none), &[f32s([2]), f32s([2])]);
    refuses("C3", dot([&[0], &[0]], [&[0], &[0]]), &[f32s([2]), f32s([2])]);
    refuses("C4", dot([&[0], &[0]], none), &[f32s([2]), f32s([3])]);
    refuses("C4", dot(none, [&[0], &[0]]), &[f32s([1]), f32s([3])]);
    let linear = |kind, parameter, bias| FusedMatMulBiasAct { kind, parameter, transpose_w: false, bias };
    refuses("C1", linear(None, None, false), &[f32s([2, 3]), f32s([4, 5])]);
    refuses("C2", linear(None, None, true), &[f32s([2, 3]), f32s([3, 5]), f32s([1, 5])]);
    refuses("C3", linear(None, Some(Real(1.0)), false), &[f32s([2, 3]), f32s([3, 5])]);
    refuses("C3", linear(Some(ActivationKind::Elu), None, false), &[f32s([2, 3]), f32s([3, 5])]);
}

#[test]
fn norms_refuse_what_does_not_fit() {
    let ints = TensorType::new(DType::I32, [2usize]);
    let layer =
        |axes: &[usize], eps, gamma| LayerNorm { axes: axes.to_vec(), eps: Real(eps), gamma, beta: false };
    refuses("C1", layer(&[0], 0.0, false), std::slice::from_ref(&ints));
    refuses("C2", layer(&[], 0.0, false), &[f32s([2])]);
    refuses("C2", layer(&[1, 0], 0.0, false), &[f32s([2, 3])]);
    refuses("C3", layer(&[0, 1], 0.0, true), &[f32s([2, 3]), f32s([3])]);
    refuses("C3", layer(&[0], 0.0, true), &[f32s([2]), TensorType::new(DType::F64, [2usize])]);
    refuses("C4", layer(&[0], f64::NAN, false), &[f32s([2])]);
    refuses("C4", layer(&[0], -1.0, false), &[f32s([2])]);
    let rms = |axes: &[usize], unit_offset| RmsNorm {
        axes: axes.to_vec(),
        eps: Real(0.0),
        unit_offset,
        gamma: false,
        beta: false,
    };
    refuses("C1", rms(&[0], false), &[ints]);
    refuses("C2", rms(&[3], false), &[f32s([2])]);
    refuses("C5", rms(&[0], true), &[f32s([2])]);
    let group = |num_groups| GroupNorm { num_groups, eps: Real(0.0), gamma: false, beta: false };
    refuses("C2", group(1), &[f32s([2])]);
    refuses("C5", group(0), &[f32s([2, 4])]);
    refuses("C5", group(3), &[f32s([2, 4])]);
    refuses("C5", group(2), &[TensorType::new(DType::F32, vec![Dim::from(2), Dim::symbol("C")])]);
    let instance = InstanceNorm { eps: Real(0.0), gamma: true, beta: false };
    refuses("C2", instance.clone(), &[f32s([2, 3]), f32s([3])]);
    refuses("C3", instance, &[f32s([2, 3, 4]), f32s([4])]);
    refuses("C2", LayerNorm2d { eps: Real(0.0), gamma: false, beta: false }, &[f32s([2, 3, 4])]);
    let batch = BatchNormInference { axis: 1, eps: Real(0.0), gamma: false, beta: false };
    refuses("C2", batch.clone(), &[f32s([2]), f32s([2]), f32s([2])]);
    refuses("C3", batch, &[f32s([2, 3]), f32s([3]), f32s([2])]);
    let residual = |bias| FusedResidualLN { axes: vec![1], eps: Real(0.0), bias, gamma: false, beta: false };
    refuses("C1", residual(false), &[f32s([2, 3]), f32s([3])]);
    refuses("C2", residual(true), &[f32s([2, 3]), f32s([2, 3]), f32s([2])]);
    refuses("C3", residual(false), &[f32s([2]), f32s([2])]);
}

#[test]
fn fused_layers_refuse_what_does_not_fit() {
    let glu = |kind, cast| FusedSwiGLU { gate_first: true, kind, cast };
    refuses("C1", glu(ActivationKind::Silu, None), &[f32s([])]);
    refuses("C2", glu(ActivationKind::Silu, None), &[f32s([3])]);
    refuses("C2", glu(ActivationKind::Silu, None), &[TensorType::new(DType::F32, vec![Dim::symbol("N")])]);
    refuses("C3", glu(ActivationKind::Elu, None), &[f32s([4])]);
    refuses("C4", glu(ActivationKind::Silu, Some(DType::I32)), &[f32s([4])]);
    let block = FusedAttentionBlock::heads(2, 1);
    let operands = [f32s([2, 3, 4]), f32s([4, 8]), f32s([4, 4])];
    assert!(Op::from(block.clone()).infer(&operands.iter().collect::<Vec<_>>()).is_ok());
    refuses("C1", block.clone(), &[f32s([3, 4]), f32s([4, 8]), f32s([4, 4])]);
    refuses("C2", block.clone(), &[f32s([2, 3, 4]), f32s([4, 9]), f32s([4, 4])]);
    refuses("C2", FusedAttentionBlock::heads(0, 0), &operands);
    refuses("C2", FusedAttentionBlock::heads(usize::MAX, 1), &[f32s([2, 3, 4]), f32s([4, 0]), f32s([0, 4])]);
    let half_rotated = FusedAttentionBlock { cos: true, ..block.clone() };
    refuses("C3", half_rotated, &[f32s([2, 3, 4]), f32s([4, 8]), f32s([4, 4]), f32s([3, 1])]);
    let rotated = FusedAttentionBlock { cos: true, sin: true, ..block.clone() };
    let tables = [f32s([3, 2]), f32s([3, 2])];
    refuses("C4", rotated, &[&operands[..], &tables[..]].concat());
    refuses("C4", FusedAttentionBlock { window: 3, ..block }, &operands);
}

#[test]
fn what_only_run_time_knows_faults_then() {
    let empty = Literal::floats(DType::F32, &[2, 0], &[]).expect("one value per element");
    let mut graph = Graph::new("empty");
    let x = graph.input_f32("x", [Dim::from(2), Dim::symbol("S")].to_vec());
    let best = graph.push(arg_max(1, DType::I64), &[x]);
    graph.output("y", best);
    let graph = graph.finish().expect("an extent of S may be positive");
    let error =
        evaluate(&graph, &Tensors::from([("x".into(), empty)])).expect_err("there is no largest element");
    assert!(error.to_string().contains("empty"), "{error}");

    let mut graph = Graph::new("few");
    let x = graph.input_f32("x", vec![Dim::symbol("S")]);
    for value in graph.push_all(top_k(Dim::from(3), 0, DType::I32), &[x]) {
        graph.output(format!("y{}", value.result), value);
    }
    let graph = graph.finish().expect("an extent of S may be 3");
    let few = Literal::floats(DType::F32, &[2], &[1.0, 2.0]).expect("one value per element");
    let error = evaluate(&graph, &Tensors::from([("x".into(), few)])).expect_err("3 of 2 elements");
    assert!(error.to_string().contains("k is 3"), "{error}");
    let enough = Literal::floats(DType::F32, &[4], &[1.0, 4.0, 2.0, 4.0]).expect("one value per element");
    let found = evaluate(&graph, &Tensors::from([("x".into(), enough)])).expect("3 of 4 elements");
    assert_eq!(found.outputs[1].1.to_ints(), vec![1, 3, 2]);
}

#[test]
fn scans_wrap_and_carry_nan_as_they_say() {
    let scan =
        |op: Op, literal: &Literal| evaluate_op(&op, &[literal]).expect("a scan has no fault")[0].clone();
    let bytes = Literal::ints(DType::U8, &[3], &[200, 100, 1]).expect("one value per element");
    assert_eq!(
        scan(Cumsum { axis: 0, exclusive: false, reverse: false }.into(), &bytes).to_ints(),
        vec![200, 44, 45]
    );
    let highest = CumMin { axis: 0, exclusive: true, reverse: false };
    assert_eq!(scan(highest.into(), &bytes).to_ints(), vec![255, 200, 100]);
    let floats = Literal::floats(DType::F32, &[3], &[1.0, f64::NAN, 3.0]).expect("one value per element");
    let max = scan(CumMax { axis: 0, exclusive: false, reverse: true }.into(), &floats).to_f64s();
    assert!(max[0].is_nan() && max[1].is_nan() && max[2] == 3.0, "{max:?}");
    let logs = Literal::floats(DType::F64, &[3], &[f64::NEG_INFINITY, 1000.0, 1000.0])
        .expect("one value per element");
    let sums = scan(CumLogSumExp { axis: 0, exclusive: false, reverse: false }.into(), &logs).to_f64s();
    assert_eq!(sums[..2], [f64::NEG_INFINITY, 1000.0]);
    assert!((sums[2] - 1000.0 - 2f64.ln()).abs() < 1e-12, "{sums:?}");
}

#[test]
fn extremes_are_nan_wherever_a_nan_stands() {
    for count in 1..5 {
        for place in 0..count {
            let mut values = vec![f64::NEG_INFINITY, 3.0, f64::INFINITY, -1.0][..count].to_vec();
            values[place] = f64::NAN;
            let x = Literal::floats(DType::F32, &[count], &values).expect("one value per element");
            for kind in
                [ReduceKind::Max, ReduceKind::Min, ReduceKind::Sum, ReduceKind::Mean, ReduceKind::Prod]
            {
                let op = Reduce { kind, axes: vec![0], keep_dims: false };
                let found = evaluate_op(&op.into(), &[&x]).expect("the reduction is legal");
                assert!(found[0].to_f64s()[0].is_nan(), "{kind:?} of {values:?}");
            }
        }
    }
}
