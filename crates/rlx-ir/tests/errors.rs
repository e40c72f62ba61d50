//! Every variant of the error enums of this crate, provoked, with the message that a user sees, and every
//! finding of the verifiers of graphs, modules and plans.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

#[macro_use]
#[path = "../../rlx-testkit/shared/error_cases.rs"]
mod shared;

use rlx_ir::interpret::{Tensors, evaluate};
use rlx_ir::lir::{
    Anchor, BindingCheck, Buffer, BufferId, BufferKind, Epilogue, EpilogueInput, IoEntry, KernelStep,
    LirBufferSlot, LirModule, Operand, PackStep, Region, Step, VerifiedLir, View,
};
use rlx_ir::ops::{Reduce, ReduceKind};
use rlx_ir::text::parse_graph;
use rlx_ir::{
    Bindings, DType, Dim, Graph, IrError, Layout, Literal, ScalarProgram, Shape, SymbolBounds, TensorType,
    Value,
};
use std::sync::Arc;

fn f32s(dims: &[usize]) -> TensorType {
    TensorType::new(DType::F32, dims)
}

fn gathering() -> Graph {
    let mut graph = Graph::new("g");
    let table = graph.input("table", f32s(&[3, 2]));
    let rows = graph.input("rows", TensorType::new(DType::I64, [1usize]));
    let y = graph.gather(table, rows, 0usize);
    graph.output("y", y);
    graph.finish().unwrap()
}

fn feeds(row: i128) -> Tensors {
    let table = Literal::floats(DType::F32, &[3, 2], &[0.0; 6]).expect("one value per element");
    [
        ("table".to_string(), table),
        ("rows".to_string(), Literal::ints(DType::I64, &[1], &[row]).expect("one value per element")),
    ]
    .into()
}

mod ir_error {
    use super::*;

    error_cases! { IrError in "../src/diagnostic.rs":
        a_broken_graph: Invalid, {
            let mut graph = Graph::new("g");
            graph.input("x", f32s(&[2]));
            graph.state("x", f32s(&[2]));
            graph.finish().unwrap_err()
        } => "state \"x\": the name is taken; inputs, params and states share one set of names in a graph";
        a_text_that_is_none: Syntax, parse_graph("rlx 1\ngraph \"g\" {\n  node\n}").unwrap_err()
            => "line 3: text: expected `%`, `symbol`, `output`, `update` or `}`, found `node`";
        values_that_an_op_refuses: Fault, evaluate(&gathering(), &feeds(7)).unwrap_err()
            => "%2 gather: indices[0] is 7, outside [0, 3)";
        inputs_that_do_not_fit: Inputs, {
            let mut feeds = feeds(0);
            feeds.remove("table");
            feeds.insert("tabel".into(), Literal::scalar_f32(0.0));
            evaluate(&gathering(), &feeds).unwrap_err()
        } => "input \"table\": is missing; expected f32[3, 2]\n\
              \"tabel\": is not an input, param or state; the graph has table, rows";
    }
}

mod literal_error {
    use super::*;
    use rlx_ir::literal::LiteralError;

    error_cases! { LiteralError in "../src/literal.rs":
        a_byte_too_few: Length, Literal::from_bytes(DType::F32, &[2], &[0; 7]).unwrap_err()
            => "f32[2] needs 8 bytes, found 7";
        a_size_beyond_memory: TooLarge, Literal::from_bytes(DType::F64, &[usize::MAX, 2], &[]).unwrap_err()
            => "f64[18446744073709551615, 2] does not fit the address space";
        a_truth_value_of_two: NotBool, Literal::from_bytes(DType::Bool, &[1], &[2]).unwrap_err()
            => "bool data holds the byte 2; only 0 and 1 are legal";
        numbers_for_blocks: Blocks, Literal::floats(DType::Q4_0, &[32], &[1.0; 32]).unwrap_err()
            => "q4_0 holds blocks, no single numbers; give its bytes";
    }
}

mod dim_error {
    use super::*;
    use rlx_ir::DimError;

    fn bindings() -> Bindings {
        [("S", 3), ("Z", 0)].into_iter().collect()
    }

    error_cases! { DimError in "../src/dim.rs":
        an_unbound_symbol: Unbound, (Dim::from("S") + Dim::from("T")).eval(&bindings()).unwrap_err()
            => "symbol T is not bound";
        a_division_by_zero: DivisionByZero, Dim::from("S").floor_div(&Dim::from("Z")).eval(&bindings()).unwrap_err()
            => "division by zero in floordiv(S, Z)";
        a_value_beyond_64_bits: Overflow, (Dim::from("S") * Dim::from(i64::MAX)).eval(&bindings()).unwrap_err()
            => "9223372036854775807*S does not fit 64 bits";
        a_negative_extent: Negative, (Dim::from("S") - Dim::from(4)).extent(&bindings()).unwrap_err()
            => "extent S - 4 is negative: -1";
    }
}

mod plan_error {
    use super::*;
    use rlx_ir::lir::{LirBufferPlan, PlanError};

    fn plan(size: Dim) -> LirBufferPlan {
        let slot = |buffer| LirBufferSlot { buffer: BufferId(buffer), size: size.clone(), first: 0, last: 1 };
        LirBufferPlan { slots: vec![slot(0), slot(1)], alignment: 64, ..LirBufferPlan::default() }
    }

    error_cases! { PlanError in "../src/lir/plan.rs":
        a_size_without_value: Size, plan(Dim::from("S")).layout(&Bindings::new()).unwrap_err()
            => "the size of buffer b0 has no value: symbol S is not bound";
        an_arena_beyond_memory: TooLarge, plan(Dim::from(i64::MAX)).layout(&Bindings::new()).unwrap_err()
            => "the arena does not fit the address space; use smaller extents";
    }
}

mod attribute_problem {
    use super::*;
    use rlx_ir::OpKind;
    use rlx_ir::attr::Attr;
    use rlx_ir::op::AttrProblem;

    fn softmax(attrs: &[(&str, Attr)]) -> AttrProblem {
        let attrs: Vec<_> = attrs.iter().map(|(name, attr)| (name.to_string(), attr.clone())).collect();
        OpKind::Softmax.from_attrs(&attrs).unwrap_err()
    }

    error_cases! { AttrProblem in "../src/op.rs":
        an_attribute_left_out: Missing, softmax(&[]) => "attribute axis is missing";
        an_attribute_of_no_meaning: Unknown, softmax(&[("axes", Attr::Dim(Dim::from(0)))])
            => "there is no attribute axes";
        an_attribute_of_the_wrong_kind: Invalid, softmax(&[("axis", Attr::Dim(Dim::from(-1)))])
            => "attribute axis must be an integer that fits usize";
    }
}

/// What the verifier says of a graph.
fn refused(graph: Graph) -> String {
    graph.finish().unwrap_err().to_string()
}

#[test]
fn graphs_break_their_contract_in_words() {
    let x = |graph: &mut Graph| graph.input("x", f32s(&[2]));
    let mut graph = Graph::new("g");
    let value = x(&mut graph);
    graph.output("y", value);
    graph.output("y", Value { result: 1, ..value });
    assert_eq!(
        refused(graph),
        "output \"y\": the name is taken\noutput \"y\": %0.1 is not a value of the graph"
    );

    let mut graph = Graph::new("g");
    let value = x(&mut graph);
    graph.update_state("x", value);
    assert_eq!(refused(graph), "update \"x\": there is no state of this name");

    let mut graph = Graph::new("g");
    let value = x(&mut graph);
    graph.state("s", f32s(&[3]));
    graph.update_state("s", value);
    assert_eq!(refused(graph), "update \"s\": expected f32[3], found f32[2]");

    let mut graph = Graph::new("g");
    graph.input("x", TensorType::new(DType::F32, vec![Dim::from(-2)]));
    assert_eq!(refused(graph), "%0 input: has the negative extent -2");

    for (name, bounds, expected) in [
        ("S", SymbolBounds { min: 3, max: Some(2) }, "symbol S: bounds [3, 2] are empty or negative"),
        ("S", SymbolBounds { min: -1, max: None }, "symbol S: bounds [-1, inf] are empty or negative"),
        (
            "min",
            SymbolBounds::default(),
            "symbol \"min\": is not a name for a symbol; use letters, digits and underscores, and no word that \
             dims give a meaning, such as min",
        ),
    ] {
        let mut graph = Graph::new("g");
        graph.bound_symbol(name, bounds);
        assert_eq!(refused(graph), expected);
    }

    let mut graph = Graph::new("g");
    graph.input("x", f32s(&[1 << 25, 1 << 25]));
    let message = refused(graph);
    assert!(
        message.ends_with("f32[33554432, 33554432] has extents whose product is beyond 2^48 elements (size)"),
        "{message}"
    );
}

#[test]
fn foreign_values_are_named_where_they_are_used() {
    let mut graph = Graph::new("g");
    let foreign = Value::first(rlx_ir::NodeId(7));
    let y = graph.neg(foreign);
    graph.output("y", y);
    let message = refused(graph);
    assert!(message.ends_with("activation: operand %7 is not a value of this graph"), "{message}");
}

#[test]
fn results_beyond_the_limit_are_not_evaluated() {
    let mut graph = Graph::new("g");
    let x = graph.input("x", f32s(&[1]));
    let y = graph.expand(x, [1usize << 40]);
    graph.output("y", y);
    let feeds =
        [("x".to_string(), Literal::floats(DType::F32, &[1], &[0.0]).expect("one value per element"))].into();
    let error = evaluate(&graph.finish().unwrap(), &feeds).unwrap_err().to_string();
    assert_eq!(
        error,
        "%1 expand: f32[1099511627776] is not evaluated: a result has at most 67108864 elements of known extents"
    );
}

/// `y = -x` over `[4]`, as a plan.
fn module() -> LirModule {
    let ty = f32s(&[4]);
    let mut module = LirModule { name: "m".into(), ..LirModule::default() };
    for (name, kind) in [("x", BufferKind::Input), ("y", BufferKind::Output)] {
        module.add_buffer(Buffer { name: name.into(), dtype: ty.dtype, shape: ty.shape.clone(), kind });
    }
    let (x, y) = (View::whole(BufferId(0), &ty), View::whole(BufferId(1), &ty));
    let mut program = ScalarProgram::new(vec![DType::F32]);
    program.outputs = vec![program.unary(rlx_ir::ScalarOp::Neg, program.input(0)).0];
    let epilogue = Epilogue { program: Arc::new(program), inputs: vec![EpilogueInput::View(x)] };
    let step =
        KernelStep { anchor: None, epilogue: Some(epilogue), outputs: vec![y], origin: "%1 neg".into() };
    module.steps.push(Step::Kernel(Box::new(step)));
    let slot =
        |buffer, first, last| LirBufferSlot { buffer: BufferId(buffer), size: Dim::from(16), first, last };
    module.plan.slots = vec![slot(0, 0, 1), slot(1, 1, 2)];
    module.plan.alignment = 64;
    let entry = |name: &str, buffer| IoEntry { name: name.into(), ty: ty.clone(), buffer: BufferId(buffer) };
    module.io.inputs.push(entry("x", 0));
    module.io.outputs.push(entry("y", 1));
    module
}

fn step(module: &mut LirModule) -> &mut KernelStep {
    match &mut module.steps[0] {
        Step::Kernel(step) => step,
        other => panic!("{other:?}"),
    }
}

fn program(module: &mut LirModule) -> &mut ScalarProgram {
    Arc::make_mut(&mut step(module).epilogue.as_mut().unwrap().program)
}

/// `module()` with an anchor that sums over the axis and no epilogue.
fn summing(module: &mut LirModule) {
    let operand = Operand::View(View::whole(BufferId(0), &f32s(&[4])));
    let op = Reduce { kind: ReduceKind::Sum, axes: vec![0], keep_dims: true };
    let step = step(module);
    step.anchor = Some(Anchor { op: op.into(), operands: vec![operand], results: vec![f32s(&[1])] });
    step.epilogue = None;
    step.outputs[0].layout = Layout::dense(&Shape::from([1]));
}

/// Changes one thing of a module.
type Break = fn(&mut LirModule);

const BROKEN: &[(Break, &str)] = &[
    (|m| m.steps.clear(), "output \"y\" is never written"),
    (|m| m.plan.alignment = 48, "alignment 48 is not a power of two"),
    (|m| drop(m.plan.slots.pop()), "b1 has 0 arena slots"),
    (|m| step(m).outputs.clear(), "%1 neg: writes nothing\noutput \"y\" is never written"),
    (|m| step(m).outputs[0].buffer = BufferId(9), "%1 neg: there is no b9\noutput \"y\" is never written"),
    (
        |m| step(m).outputs[0].buffer = BufferId(0),
        "%1 neg: writes b0, which is read-only\noutput \"y\" is never written",
    ),
    (|m| step(m).epilogue = None, "%1 neg: has neither anchor nor region"),
    (
        |m| m.buffers[0].kind = BufferKind::Temporary,
        "%1 neg: reads b0 before anything wrote it\ninput \"x\" is not b0 of type f32[4]",
    ),
    (
        |m| m.buffers[0].kind = BufferKind::Constant(Literal::scalar_f32(1.0)),
        "b0 holds a constant of type f32[]\ninput \"x\" is not b0 of type f32[4]\nb0 has 1 arena slots",
    ),
    (
        |m| m.buffers[0].kind = BufferKind::Prepared,
        "input \"x\" is not b0 of type f32[4]\nb0 has 1 arena slots\nb0 \"x\" is not an output of a prepare stage",
    ),
    (|m| m.prepare = vec![LirModule::default()], "prepare: alignment 0 is not a power of two"),
    (|m| step(m).outputs[0].layout.strides.clear(), "%1 neg: a view of b1 has a stride too many or too few"),
    (
        |m| step(m).outputs[0].layout.strides[0] = Dim::from(0),
        "%1 neg: writes several elements of b1 to one place",
    ),
    (
        |m| m.buffers[1].dtype = DType::F64,
        "%1 neg: b1 is f64, seen as f32\noutput \"y\" is not b1 of type f32[4]\nb1 needs 32 bytes, its slot has 16",
    ),
    (
        |m| step(m).outputs[0].layout = Layout::dense(&Shape::from([3])),
        "%1 neg: epilogue input f32[4] is not over the domain [3]",
    ),
    (|m| step(m).outputs[0].dtype = DType::I32, "%1 neg: stores i32[4], produces f32[4]"),
    (
        |m| step(m).epilogue.as_mut().unwrap().inputs[0] = EpilogueInput::Anchor,
        "%1 neg: the epilogue reads an anchor that is not there",
    ),
    (
        |m| program(m).inputs[0] = DType::F64,
        "%1 neg: region inputs are [f32], its program takes [f64]\n\
         %1 neg: value 1 (neg): operand dtypes [f64] do not give f32",
    ),
    (|m| program(m).outputs[0] = 5, "%1 neg: output 5 is not a value of the program"),
    (
        |m| {
            program(m).instrs[0] = rlx_ir::scalar::ScalarInstr {
                kind: rlx_ir::ScalarKind::Index(3),
                args: vec![],
                dtype: DType::I64,
            }
        },
        "%1 neg: the region asks for a coordinate beyond rank 1\n\
         %1 neg: stores f32[4], produces i64[4]",
    ),
    (
        |m| {
            summing(m);
            step(m).anchor.as_mut().unwrap().results[0] = f32s(&[]);
        },
        "%1 neg: results are [f32[]], inference gives [f32[1]]\n%1 neg: stores f32[1], produces f32[]",
    ),
    (
        |m| {
            summing(m);
            step(m).anchor.as_mut().unwrap().op =
                Reduce { kind: ReduceKind::Sum, axes: vec![1], keep_dims: true }.into();
        },
        "%1 neg: axis 1 is out of range for rank 1 (C1)",
    ),
    (
        |m| {
            summing(m);
            let region = Region {
                program: Arc::new(ScalarProgram::new(vec![])),
                inputs: vec![View::whole(BufferId(0), &f32s(&[4]))],
                shape: Shape::from([2]),
            };
            step(m).anchor.as_mut().unwrap().operands[0] = Operand::Region(region);
        },
        "%1 neg: region input f32[4] is not over [2]\n\
         %1 neg: region inputs are [f32], its program takes []\n\
         %1 neg: an operand region has one output",
    ),
    (
        |m| {
            summing(m);
            let ty = f32s(&[4]);
            m.buffers.push(Buffer {
                name: "p".into(),
                dtype: DType::U8,
                shape: Shape::from([16]),
                kind: BufferKind::Temporary,
            });
            let slot = LirBufferSlot { buffer: BufferId(2), size: Dim::from(16), first: 0, last: 1 };
            m.plan.slots.push(slot);
            step(m).anchor.as_mut().unwrap().operands[0] =
                Operand::Packed { buffer: BufferId(2), ty, key: "k".into() };
        },
        "%1 neg: packed operand b2 is not prepared",
    ),
    (
        |m| {
            let pack = PackStep {
                op: Reduce { kind: ReduceKind::Sum, axes: vec![], keep_dims: true }.into(),
                operand_types: vec![],
                operand: 0,
                source: View::whole(BufferId(0), &f32s(&[4])),
                target: BufferId(1),
                key: "k".into(),
            };
            m.steps.push(Step::Pack(Box::new(pack)));
        },
        "pack \"k\" stands outside the prepare stage\nb0 is touched in 0..=2, its slot lives in 0..=1",
    ),
    (
        |m| {
            summing(m);
            let ty = f32s(&[4]);
            let starts = Literal::ints(DType::I64, &[1], &[0]).expect("one value per element");
            m.buffers.push(Buffer {
                name: "s".into(),
                dtype: DType::I64,
                shape: Shape::from([1]),
                kind: BufferKind::Constant(starts),
            });
            let x = Operand::View(View::whole(BufferId(0), &ty));
            let starts = Operand::View(View::whole(BufferId(2), &TensorType::new(DType::I64, [1usize])));
            let op = rlx_ir::ops::DynamicUpdateSlice { axes: vec![0] };
            let step = step(m);
            step.anchor = Some(Anchor {
                op: op.into(),
                operands: vec![x.clone(), x, starts],
                results: vec![ty.clone()],
            });
            step.outputs[0] = View::whole(BufferId(1), &ty);
        },
        "%1 neg: an in-place op must write the view it reads",
    ),
];

#[test]
fn plans_break_their_contract_in_words() {
    VerifiedLir::new(module()).unwrap();
    let said = |change: &Break| {
        let mut broken = module();
        change(&mut broken);
        VerifiedLir::new(broken).map_or_else(|error| error.to_string(), |_| "accepted".to_string())
    };
    let found: Vec<String> = BROKEN.iter().map(|(change, _)| said(change)).collect();
    let expected: Vec<&str> = BROKEN.iter().map(|(_, expected)| *expected).collect();
    assert_eq!(found, expected);
}

#[test]
fn prepared_buffers_come_from_the_prepare_stage() {
    let mut broken = module();
    broken.plan.slots.remove(0);
    broken.buffers[0].kind = BufferKind::Prepared;
    let mut stage = module();
    stage.io.outputs[0].name = "other".into();
    stage.buffers[1].kind = BufferKind::Prepared;
    stage.plan.slots.remove(1);
    broken.prepare = vec![stage];
    let error = VerifiedLir::new(broken).unwrap_err().to_string();
    assert_eq!(
        error,
        "input \"x\" is not b0 of type f32[4]\nprepare: \"other\" is not in the module\n\
         b0 \"x\" is not an output of a prepare stage"
    );
}

#[test]
fn buffers_that_share_memory_while_both_live_are_found() {
    let plan = module().plan;
    let mut layout = plan.layout(&Bindings::new()).unwrap();
    assert_eq!(plan.overlap(&layout), None);
    layout.places[1] = layout.places[0].map(|(start, size)| (start + size - 1, size));
    assert_eq!(plan.overlap(&layout), Some((BufferId(0), BufferId(1))));
}

/// `module()` whose input view looks at `S` elements from `offset` on.
fn looking(offset: i64) -> VerifiedLir {
    let mut module = module();
    let domain = Shape::new([Dim::from("S")]);
    let layout = Layout { offset: Dim::from(offset), shape: domain.clone(), strides: vec![Dim::from(1)] };
    let step = step(&mut module);
    step.outputs[0].layout = Layout::dense(&domain);
    step.epilogue.as_mut().unwrap().inputs[0] =
        EpilogueInput::View(View { buffer: BufferId(0), dtype: DType::F32, layout });
    VerifiedLir::new(module).unwrap()
}

#[test]
fn bindings_are_refused_where_views_leave_their_buffers() {
    let bind = |module: &VerifiedLir, s: i64| {
        let bindings = [("S", s)].into_iter().collect();
        module.check_binding(&bindings).map_err(|error| error.to_string())
    };
    let module = looking(1);
    assert_eq!(bind(&module, 3), Ok(()));
    let beyond = bind(&module, 4).unwrap_err();
    assert_eq!(beyond, "%1 neg: view of b0 spans 1..=4, outside its buffer of 4 elements");
    let before = bind(&looking(-1), 2).unwrap_err();
    assert_eq!(before, "%1 neg: view of b0 spans -1..=0, outside its buffer of 4 elements");
    let huge = bind(&module, 1 << 50).unwrap_err();
    assert!(huge.starts_with("%1 neg: f32[1125899906842624] is beyond 2^48 elements"), "{huge}");
    let negative = bind(&module, -1).unwrap_err();
    assert!(negative.contains("extent S is negative: -1"), "{negative}");
    let unbound = module.check_binding(&Bindings::new()).unwrap_err().to_string();
    assert!(unbound.contains("symbol S is not bound"), "{unbound}");
}

#[test]
fn bindings_are_refused_where_an_op_refuses_the_extents() {
    let mut module = module();
    let symbolic = TensorType::new(DType::F32, vec![Dim::from("S")]);
    let narrow = rlx_ir::ops::Narrow { axis: 0, start: Dim::from(2), len: Dim::from("S") };
    let check = |results: Vec<TensorType>| BindingCheck {
        op: narrow.clone().into(),
        operands: vec![f32s(&[4])],
        results,
        origin: "%1 narrow".into(),
    };
    module.checks = vec![check(vec![symbolic]), check(vec![f32s(&[1])])];
    let module = VerifiedLir::new(module).unwrap();
    let bind = |s: i64| module.check_binding(&[("S", s)].into_iter().collect()).unwrap_err().to_string();
    assert_eq!(bind(2), "%1 narrow: results are [f32[1]], inference gives [f32[2]]");
    assert_eq!(bind(3), "%1 narrow: the end 5 is beyond 4 (C2)\n%1 narrow: the end 5 is beyond 4 (C2)");
}

#[test]
fn graphs_do_not_grow_without_end() {
    let mut graph = Graph::new("g");
    let mut x = graph.input_f32("x", [2]);
    let mut count = 0u32;
    while x != Value::POISON && count < 1 << 20 {
        x = graph.relu(x);
        count += 1;
    }
    // The errors of what is built on top say nothing new.
    let other = graph.input_f32("y", [2]);
    assert_eq!((count, other), (1 << 19, Value::POISON));
    let error = graph.finish().unwrap_err().to_string();
    assert!(error.contains("the graph would have more than 524288 nodes"), "{error}");
    assert_eq!(error.lines().count(), 1, "{error}");
}
