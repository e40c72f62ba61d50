//! What the shape, indexing and choice ops refuse: by constraint label when
//! types show it, as a fault when only values do, and neither by panicking.

use rlx_ir::interpret::{Tensors, evaluate, evaluate_op};
use rlx_ir::op::Violation;
use rlx_ir::ops::*;
use rlx_ir::scalar::{ScalarInstr, ScalarKind};
use rlx_ir::{Bindings, DType, Dim, Graph, Literal, ScalarOp, ScalarProgram, Shape, TensorType};
use std::sync::Arc;

fn f32s<const N: usize>(dims: [usize; N]) -> TensorType {
    TensorType::new(DType::F32, dims)
}
fn i64s<const N: usize>(dims: [usize; N]) -> TensorType {
    TensorType::new(DType::I64, dims)
}
fn dims<const N: usize>(dims: [i64; N]) -> Vec<Dim> {
    dims.map(Dim::from).to_vec()
}

fn violation(op: impl Into<Op>, operands: &[TensorType]) -> Violation {
    let op = op.into();
    let label = format!("{op:?} on {operands:?}");
    op.infer(&operands.iter().collect::<Vec<_>>()).expect_err(&label)
}

#[track_caller]
fn refuses(label: &str, op: impl Into<Op>, operands: &[TensorType]) {
    let violation = violation(op, operands);
    assert_eq!(violation.constraint, label, "{violation}");
}

#[track_caller]
fn faults(op: impl Into<Op>, operands: &[Literal], message: &str) {
    let op = op.into();
    let meaning = op.meaning();
    let operands: Vec<_> = operands.iter().collect();
    let fault = evaluate_op(&op, &operands).expect_err("the values are wrong");
    assert_eq!(fault.0, message);
    if let Some(rule) = meaning.decompose {
        rlx_ir::interpret::evaluate_decomposition(&op, &*rule, &operands)
            .expect_err("the decomposition finds the same values wrong");
    }
}

#[test]
fn choices_refuse_what_does_not_fit() {
    let bools = TensorType::new(DType::Bool, [2usize]);
    let less = Compare { kind: CompareKind::Lt };
    refuses("C1", less.clone(), &[f32s([2]), i64s([2])]);
    refuses(
        "C2",
        less.clone(),
        &[TensorType::new(DType::C64, [2usize]), TensorType::new(DType::C64, [2usize])],
    );
    refuses("C3", less, &[f32s([2]), f32s([3])]);
    refuses("C1", Where {}, &[f32s([2]), f32s([2]), f32s([2])]);
    refuses("C2", Where {}, &[bools.clone(), f32s([2]), i64s([2])]);
    refuses("C3", Where {}, &[bools.clone(), f32s([3]), f32s([2])]);
    refuses("C1", Clamp { low: true, high: false }, &[bools.clone(), bools.clone()]);
    refuses("C2", Clamp { low: true, high: false }, &[f32s([1]), f32s([2])]);
    refuses("C1", Bitcast { to: DType::F64 }, &[f32s([2])]);
    refuses("C1", Bitcast { to: DType::U8 }, &[bools]);
}

#[test]
fn views_refuse_what_lies_outside() {
    let narrow = |axis, start: i64, len: i64| Narrow { axis, start: start.into(), len: len.into() };
    refuses("C1", narrow(2, 0, 1), &[f32s([3, 4])]);
    refuses("C2", narrow(0, -1, 1), &[f32s([3, 4])]);
    refuses("C2", narrow(0, 1, -1), &[f32s([3, 4])]);
    refuses("C2", narrow(0, 2, 2), &[f32s([3, 4])]);
    refuses("C2", narrow(0, i64::MAX, i64::MAX), &[f32s([3, 4])]);
    refuses("C3", narrow(0, 0, 1), &[TensorType::new(DType::I4, [4usize])]);

    let slice = |start: i64, step, len: i64| Slice {
        axes: vec![0],
        starts: dims([start]),
        steps: vec![step],
        lens: dims([len]),
    };
    refuses("C2", slice(0, 0, 1), &[f32s([3])]);
    refuses("C3", slice(1, 1, 3), &[f32s([3])]);
    refuses("C3", slice(1, -1, 3), &[f32s([3])]);
    refuses("C3", slice(3, -1, 1), &[f32s([3])]);
    refuses("C3", slice(0, i64::MIN, 2), &[f32s([3])]);
    refuses("C3", slice(0, i64::MAX, i64::MAX), &[f32s([3])]);
    refuses("C1", Slice { starts: vec![], ..slice(0, 1, 1) }, &[f32s([3])]);
    refuses("C1", Expand { shape: Shape::from([3]) }, &[f32s([2])]);
    refuses("C2", Expand { shape: Shape::from(dims([-1, 2])) }, &[f32s([2])]);
    refuses("C1", Reverse { axes: vec![1, 0] }, &[f32s([2, 2])]);
}

#[test]
fn rearrangements_refuse_what_does_not_fit() {
    refuses("C1", Concat { axis: 0 }, &[]);
    refuses("C2", Concat { axis: usize::MAX }, &[f32s([2])]);
    refuses("C3", Concat { axis: 0 }, &[f32s([2, 3]), f32s([2, 4])]);
    refuses("C3", Concat { axis: 0 }, &[f32s([2, 3]), f32s([2])]);
    let pad = |low: i64, mode, value| Pad { low: dims([low]), high: dims([0]), mode, value };
    refuses("C1", pad(-1, PadMode::Constant, false), &[f32s([3])]);
    refuses("C1", pad(1, PadMode::Constant, false), &[f32s([3, 3])]);
    refuses("C2", pad(1, PadMode::Edge, true), &[f32s([3]), f32s([])]);
    refuses("C2", pad(1, PadMode::Constant, true), &[f32s([3]), i64s([])]);
    refuses("C3", pad(3, PadMode::Reflect, false), &[f32s([3])]);
    refuses("C3", pad(1, PadMode::Edge, false), &[f32s([0])]);
    refuses("C1", Tile { repeats: dims([-2]) }, &[f32s([3])]);
    refuses("C1", Roll { axes: vec![0], shifts: vec![] }, &[f32s([3])]);
    refuses("C2", OneHot { depth: 3.into(), axis: usize::MAX, dtype: DType::F32 }, &[i64s([3])]);
    refuses("C1", OneHot { depth: 3.into(), axis: 0, dtype: DType::F32 }, &[f32s([3])]);
    refuses("C1", Iota { dtype: DType::I64, shape: Shape::scalar(), axis: 0 }, &[]);
    refuses("C2", Iota { dtype: DType::Bool, shape: Shape::from([2]), axis: 0 }, &[]);
    refuses("C1", Trilu { upper: true, diagonal: 0, row_axis: 1, column_axis: 1 }, &[f32s([2, 2])]);
}

#[test]
fn indexing_refuses_what_does_not_fit() {
    refuses("C1", Gather { axis: 2 }, &[f32s([2, 2]), i64s([1])]);
    refuses("C2", Gather { axis: 0 }, &[f32s([2, 2]), f32s([1])]);
    refuses("C3", Gather { axis: 1 }, &[TensorType::new(DType::Q4_0, [2usize, 32]), i64s([1])]);
    refuses("C3", Gather { axis: 0 }, &[TensorType::new(DType::Q4_0, [2usize, 48]), i64s([1])]);
    refuses("C1", GatherElements { axis: 0 }, &[f32s([2, 2]), i64s([2])]);
    refuses("C3", GatherElements { axis: 0 }, &[f32s([2, 2]), i64s([2, 3])]);
    refuses("C1", GatherNd { batch_dims: usize::MAX }, &[f32s([2, 2]), i64s([2, 1])]);
    refuses("C1", GatherNd { batch_dims: 0 }, &[f32s([2, 2]), i64s([2, 3])]);
    refuses("C2", GatherNd { batch_dims: 1 }, &[f32s([2, 2]), i64s([3, 1])]);
    refuses("C3", ScatterAdd { axis: 0 }, &[f32s([2, 2]), i64s([3]), f32s([3, 1])]);
    let bools = TensorType::new(DType::Bool, [2usize]);
    let elements = |kind| ScatterElements { axis: 0, kind };
    refuses("C6", elements(ScatterKind::Add), &[bools.clone(), i64s([2]), bools.clone()]);
    refuses("C4", elements(ScatterKind::Max), &[f32s([2]), i64s([2]), f32s([1])]);
    refuses("C2", ScatterNd { kind: ScatterKind::None }, &[f32s([2]), i64s([2, 1]), f32s([1])]);
    refuses("C4", ScatterNd { kind: ScatterKind::Min }, &[bools.clone(), i64s([2, 1]), bools]);
    let update = DynamicUpdateSlice { axes: vec![0] };
    refuses("C2", update.clone(), &[f32s([2, 3]), f32s([3, 3]), i64s([1])]);
    refuses("C2", update.clone(), &[f32s([2, 3]), f32s([1, 2]), i64s([1])]);
    refuses("C3", update, &[f32s([2, 3]), f32s([1, 3]), i64s([2])]);
    refuses("C1", DynamicUpdateSlice { axes: vec![] }, &[f32s([2]), f32s([2]), i64s([0])]);
    refuses("C2", DynamicSlice { axes: vec![0], sizes: dims([3]) }, &[f32s([2]), i64s([1])]);
    refuses("C1", KvAppend { axis: 0 }, &[f32s([2, 3]), f32s([2, 1]), i64s([2])]);
    refuses("C2", KvAppend { axis: 1 }, &[f32s([2, 3]), f32s([2, 4]), i64s([2])]);
    refuses("C3", KvAppend { axis: 1 }, &[f32s([2, 3]), f32s([2, 1]), i64s([1])]);
}

#[test]
fn regions_refuse_programs_that_are_not_well_formed() {
    let region = |program| ElementwiseRegion { program: Arc::new(program), shape: Shape::from([2]) };
    refuses("C2", region(ScalarProgram::identity(DType::F32)), &[i64s([2])]);
    refuses("C2", region(ScalarProgram::identity(DType::F32)), &[]);
    refuses("C3", region(ScalarProgram::identity(DType::F32)), &[f32s([3])]);
    refuses("C1", region(ScalarProgram::new(vec![DType::F32])), &[f32s([2])]);
    let with = |kind, args: &[u32], dtype, output| {
        let mut program = ScalarProgram::new(vec![DType::F32]);
        program.instrs.push(ScalarInstr { kind, args: args.to_vec(), dtype });
        program.outputs = vec![output];
        region(program)
    };
    let add = ScalarKind::Op(ScalarOp::Add);
    refuses("C1", with(add, &[0, 1], DType::F32, 1), &[f32s([2])]);
    refuses("C1", with(add, &[0], DType::F32, 1), &[f32s([2])]);
    refuses("C1", with(add, &[0, 0], DType::F32, 2), &[f32s([2])]);
    refuses("C1", with(ScalarKind::Op(ScalarOp::Cast), &[0], DType::Q4K, 0), &[f32s([2])]);
    refuses("C4", with(ScalarKind::Index(1), &[], DType::I64, 1), &[f32s([2])]);
}

#[test]
fn indices_out_of_range_are_faults() {
    let table =
        Literal::floats(DType::F32, &[2, 3], &[0.0, 1.0, 2.0, 3.0, 4.0, 5.0]).expect("one value per element");
    let ints = |dims: &[usize], values: &[i128]| {
        Literal::ints(DType::I64, dims, values).expect("one value per element")
    };
    let gather = Gather { axis: 1 };
    faults(gather.clone(), &[table.clone(), ints(&[2], &[2, 3])], "indices[1] is 3, outside [0, 3)");
    faults(gather, &[table.clone(), ints(&[1, 1], &[-1])], "indices[0, 0] is -1, outside [0, 3)");
    let nothing = Literal::floats(DType::F32, &[0, 3], &[]).expect("one value per element");
    faults(Gather { axis: 0 }, &[nothing, ints(&[1], &[0])], "indices[0] is 0, outside [0, 0)");
    faults(
        GatherElements { axis: 0 },
        &[table.clone(), ints(&[1, 2], &[0, 2])],
        "indices[0, 1] is 2, outside [0, 2)",
    );
    let vector = ints(&[2], &[0, 5]);
    faults(GatherNd { batch_dims: 0 }, &[table.clone(), vector.clone()], "indices[1] is 5, outside [0, 3)");
    let one = Literal::scalar_f32(1.0);
    faults(
        ScatterNd { kind: ScatterKind::Add },
        &[table.clone(), vector, one],
        "indices[1] is 5, outside [0, 3)",
    );
    let column = Literal::floats(DType::F32, &[2, 1], &[1.0, 2.0]).expect("one value per element");
    faults(
        ScatterAdd { axis: 1 },
        &[table.clone(), ints(&[1], &[i128::from(i64::MIN)]), column.clone()],
        "indices[0] is -9223372036854775808, outside [0, 3)",
    );
    faults(
        ScatterElements { axis: 1, kind: ScatterKind::None },
        &[table.clone(), ints(&[2, 1], &[0, 3]), column],
        "indices[1, 0] is 3, outside [0, 3)",
    );
}

#[test]
fn windows_out_of_range_are_faults() {
    let base = Literal::floats(DType::F32, &[2, 3], &[0.0; 6]).expect("one value per element");
    let update = Literal::floats(DType::F32, &[2, 2], &[1.0; 4]).expect("one value per element");
    for (dtype, start) in
        [(DType::I32, 2), (DType::I64, -1), (DType::U32, (1 << 32) - 1), (DType::I64, i128::from(i64::MAX))]
    {
        let message = |name: &str| format!("{name}[0] is {start}, outside [0, 2)");
        let starts = Literal::ints(dtype, &[1], &[start]).expect("one value per element");
        let window = DynamicSlice { axes: vec![1], sizes: dims([2]) };
        faults(window, &[base.clone(), starts.clone()], &message("starts"));
        let write = DynamicUpdateSlice { axes: vec![1] };
        faults(write, &[base.clone(), update.clone(), starts], &message("starts"));
        let positions = Literal::ints(dtype, &[2], &[start, 0]).expect("one value per element");
        faults(KvAppend { axis: 1 }, &[base.clone(), update.clone(), positions], &message("positions"));
    }
}

#[test]
fn a_symbolic_length_within_a_fixed_capacity_is_checked_when_bound() {
    let mut g = Graph::new("live_length");
    let table = g.param_f32("table", [4, 2]);
    let ids = g.input("ids", TensorType::new(DType::I64, Shape::new(["S"])));
    let live = g.narrow(table, 0usize, 0, "S");
    let rows = g.gather(live, ids, 0usize);
    g.output("rows", rows);
    let graph = g.finish().expect("the length is open until S is bound");
    let feeds = |ids: &[i128]| -> Tensors {
        let table = Literal::floats(DType::F32, &[4, 2], &[0.0, 1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0])
            .expect("one value per element");
        let ids = Literal::ints(DType::I64, &[ids.len()], ids).expect("one value per element");
        [("table".to_string(), table), ("ids".to_string(), ids)].into()
    };
    let rows = evaluate(&graph, &feeds(&[1, 0])).expect("2 of 4 rows").outputs[0].1.to_f64s();
    assert_eq!(rows, [2.0, 3.0, 0.0, 1.0]);
    assert!(evaluate(&graph, &feeds(&[0, 0, 0, 0, 0])).is_err(), "5 of 4 rows");
    assert!(evaluate(&graph, &feeds(&[2, 0])).is_err(), "row 2 of the 2 live ones");
}

#[test]
fn rolling_by_a_symbol_keeps_the_type() {
    let op = Op::from(Roll { axes: vec![0], shifts: vec![Dim::from(3)] });
    let ty = TensorType::new(DType::F32, Shape::new(["S"]));
    let mut g = Graph::new("roll");
    let x = g.input("x", ty.clone());
    let rule = op.meaning().decompose.expect("roll is a composite");
    let y = rule(&mut g, &[x])[0];
    assert_eq!(*g.ty(y), ty);
    for extent in [0, 1, 5] {
        let bindings: Bindings = [("S", extent)].into_iter().collect();
        assert_eq!(g.ty(y).shape.eval(&bindings), Ok(vec![extent as usize]));
    }
    g.output("y", y);
    let graph = g.finish().expect("the decomposition verifies");
    let run = |values: &[f64]| {
        let x = Literal::floats(DType::F32, &[values.len()], values).expect("one value per element");
        let feeds: Tensors = [("x".to_string(), x)].into();
        evaluate(&graph, &feeds).expect("any extent rolls").outputs[0].1.to_f64s()
    };
    assert_eq!(run(&[0.0, 1.0, 2.0, 3.0, 4.0]), [2.0, 3.0, 4.0, 0.0, 1.0]);
    assert_eq!(run(&[]), [0.0; 0]);
}

#[test]
fn builder_methods_count_axes_from_the_end() {
    let mut g = Graph::new("axes");
    let x = g.input_f32("x", [2, 3, 4]);
    let shape = |g: &Graph, value| g.ty(value).shape.to_string();
    let y = g.transpose_last_two(x);
    assert_eq!(shape(&g, y), "[2, 4, 3]");
    let y = g.narrow_at(x, -1, 1, 2);
    assert_eq!(shape(&g, y), "[2, 3, 2]");
    let y = g.unsqueeze(x, -1);
    assert_eq!(shape(&g, y), "[2, 3, 4, 1]");
    let y = g.squeeze(y, -1);
    assert_eq!(shape(&g, y), "[2, 3, 4]");
    let y = g.stack(&[x, x, x], -2);
    assert_eq!(shape(&g, y), "[2, 3, 3, 4]");
    let parts = g.split(x, -1, &dims([1, 3]));
    let y = g.concat_at(&parts, -1);
    assert_eq!(g.ty(y), g.ty(x));
    let y = g.clip(x, 0.0, 6.0);
    assert_eq!(g.ty(y), g.ty(x));
    let y = g.full(DType::I32, [2, 2], 7.0);
    assert_eq!(shape(&g, y), "[2, 2]");
    assert!(g.diagnostics().is_empty());
    g.squeeze(x, 7);
    g.unsqueeze(x, -9);
    g.swap_axes(x, 0, 3);
    assert_eq!(g.diagnostics().len(), 3);
}
