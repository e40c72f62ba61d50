//! The values that ops do not take: the declared ranges against the interpreter, and what `insert_checks` makes of them.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

use rlx_ir::accuracy::compare;
use rlx_ir::interpret::{evaluate, evaluate_decomposition, evaluate_op};
use rlx_ir::{Dim, Graph, Shape, TensorType};
use rlx_opt::passes::{EliminateDeadCode, InsertChecks};
use rlx_opt::{Capabilities, Checks, CompileOptions, Pass, PassContext, Remark, Rewritten, compile};
use rlx_testkit::value_cases::{ValueCase, value_cases};

/// A target whose kernels take any index as it comes.
fn unchecked() -> Capabilities {
    Capabilities { name: "unchecked", checks_values: false, ..Capabilities::reference() }
}

fn inserted(graph: Graph, capabilities: &Capabilities, checks: Checks) -> Rewritten {
    let options = CompileOptions { checks, ..CompileOptions::default() };
    let rewritten = InsertChecks.run(graph, &PassContext { capabilities, options: &options }).unwrap();
    rlx_ir::verify::verify(&rewritten.graph).unwrap();
    rewritten
}

/// The graph of a case with a symbol for every extent above 1, where the op takes that.
fn symbolic(case: &ValueCase) -> Option<Graph> {
    let dim = |extent: usize| match extent {
        0 | 1 => Dim::from(extent),
        _ => Dim::symbol(&format!("D{extent}")),
    };
    let mut graph = Graph::new("symbolic");
    let mut inputs = vec![];
    for (index, literal) in case.operands.iter().enumerate() {
        let dims: Vec<Dim> = literal.dims().iter().map(|&extent| dim(extent)).collect();
        inputs.push(graph.input(format!("x{index}"), TensorType::new(literal.dtype(), Shape::from(dims))));
    }
    for (index, value) in graph.push_all(case.sample.op.clone(), &inputs).into_iter().enumerate() {
        graph.output(format!("y{index}"), value);
    }
    graph.finish().ok()
}

#[test]
fn the_interpreter_faults_exactly_where_ops_declare_it() {
    let (mut faulted, mut passed) = (0, 0);
    for case in value_cases() {
        let operands: Vec<_> = case.operands.iter().collect();
        let result = evaluate_op(&case.sample.op, &operands);
        assert_eq!(result.is_err(), case.faults, "{}: {result:?}", case.label);
        if let Some(rule) = &case.sample.op.meaning().decompose {
            let result = evaluate_decomposition(&case.sample.op, &**rule, &operands);
            assert_eq!(result.is_err(), case.faults, "{} decomposed: {result:?}", case.label);
        }
        *if case.faults { &mut faulted } else { &mut passed } += 1;
    }
    assert!(faulted > 300 && passed > 300, "{faulted} faulted, {passed} passed");
}

#[test]
fn inserted_checks_find_the_operand_and_the_position() {
    let mut symbolic_cases = 0;
    for case in value_cases() {
        for graph in [Some(case.graph()), symbolic(&case)].into_iter().flatten() {
            let rewritten = inserted(graph.clone(), &unchecked(), Checks::On);
            let checks: Vec<_> = rewritten.notes.iter().map(|note| note.remark.clone()).collect();
            let mut words = rewritten.graph;
            if words.outputs().len() == graph.outputs().len() {
                assert!(!case.faults && checks.is_empty(), "{}: nothing checks", case.label);
                continue;
            }
            // The words alone: what they warn of is not evaluated.
            let faults = words.outputs().last().unwrap().value;
            words.set_outputs([("faults", faults)]);
            let capabilities = unchecked();
            let context = PassContext { capabilities: &capabilities, options: &CompileOptions::default() };
            let words = EliminateDeadCode.run(words, &context).unwrap().graph;
            let found = evaluate(&words, &ValueCase::feeds(&case.operands)).unwrap().outputs[0].1.to_ints();
            for (check, word) in checks.iter().zip(&found) {
                let Remark::Checked(check) = check else { panic!("{}: {check}", case.label) };
                let here = case.faults && check.operand == case.sample.op.operand_name(case.operand);
                let expected = if here { case.position as i128 } else { i128::from(i64::MAX) };
                assert_eq!(*word, expected, "{}: {}", case.label, check.operand);
            }
            symbolic_cases += usize::from(!graph.symbols().is_empty());
        }
    }
    assert!(symbolic_cases > 300, "{symbolic_cases} symbolic cases");
}

#[test]
fn clamped_values_are_the_nearest_legal_ones() {
    for case in value_cases() {
        for graph in [Some(case.graph()), symbolic(&case)].into_iter().flatten() {
            let clamping = inserted(graph.clone(), &Capabilities::reference(), Checks::Clamp).graph;
            let found = evaluate(&clamping, &ValueCase::feeds(&case.operands));
            let Some(legal) = &case.clamped else {
                assert!(found.is_err(), "{}: there is no legal value", case.label);
                continue;
            };
            let found = found.unwrap_or_else(|error| panic!("{}: {error}", case.label));
            let expected = evaluate(&graph, &ValueCase::feeds(legal)).unwrap();
            for ((_, found), (_, expected)) in found.outputs.iter().zip(&expected.outputs) {
                compare(found, expected, rlx_ir::Accuracy::Exact, None)
                    .unwrap_or_else(|error| panic!("{}: {error}", case.label));
            }
        }
    }
}

#[test]
fn modules_say_what_their_fault_words_check() {
    let mut graph = Graph::new("two");
    let table = graph.input_f32("table", [4, 2]);
    let i = graph.input("i", TensorType::new(rlx_ir::DType::I64, [3usize]));
    graph.set_path("embed");
    let rows = graph.gather(table, i, 0usize);
    graph.set_path("");
    graph.output("faults", rows);
    let module = compile(graph, &unchecked(), &CompileOptions::default()).unwrap().module;
    let words = module.io.faults.clone().unwrap();
    assert_eq!(module.io.outputs.len(), 1);
    assert_eq!(words.entry.name, "faults_");
    let checks: Vec<_> = words.checks.iter().map(|check| (&*check.node, &*check.operand)).collect();
    assert_eq!(checks, [("%2 gather embed", "indices")]);
    let bytes = |word: i64| word.to_le_bytes();
    assert_eq!(words.first(&bytes(i64::MAX)), None);
    let error = rlx_driver::DriverError::from_words(&words, &bytes(2)).unwrap_err();
    assert_eq!(error.to_string(), "%2 gather embed: indices is out of range, first at element 2");
}
