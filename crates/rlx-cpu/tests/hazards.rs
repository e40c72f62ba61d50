//! Graphs whose lowering once went wrong or easily could: each against the
//! interpreter, states and second runs included.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

use rlx_cpu::exec::CpuBackend;
use rlx_cpu::simd::SimdLevel;
use rlx_driver::{Backend, HostValues, TensorRef};
use rlx_ir::accuracy::{Accuracy, compare};
use rlx_ir::interpret::{Tensors, evaluate};
use rlx_ir::lir::{Step, VerifiedLir};
use rlx_ir::op::Fill;
use rlx_ir::sample::{Generator, fill_literal};
use rlx_ir::text::parse_graph;
use rlx_ir::{Literal, OpKind};
use rlx_opt::CompileOptions;

/// Runs `body` twice on the CPU and compares outputs and states with the interpreter.
fn check(body: &str) {
    let graph = parse_graph(&format!("rlx 1\ngraph \"hazard\" {{\n{body}\n}}")).unwrap();
    let backend = CpuBackend::with(2, SimdLevel::detect()).unwrap();
    let mut executable = backend.compile(graph.clone(), &CompileOptions::default()).unwrap();
    let mut generator = Generator::new(3);
    let mut feeds = Tensors::new();
    for (_, node) in graph.iter() {
        let Some(name) = node.op.leaf_name() else { continue };
        let literal = fill_literal(&node.types[0], Fill::Any, &mut generator);
        match node.op.kind() {
            OpKind::Param => executable.set_param_typed(name, (&literal).into()).unwrap(),
            OpKind::State => executable.states().unwrap().bind_handle(name, (&literal).into()).unwrap(),
            _ => {}
        }
        feeds.insert(name.to_string(), literal);
    }
    let accuracy = Accuracy::Accumulated { terms: 256 };
    let same = |actual: &Literal, expected: &Literal, what: &str| {
        compare(actual, expected, accuracy, None).unwrap_or_else(|error| panic!("{what}: {error}\n{body}"));
    };
    for run in 0..2 {
        let expected = evaluate(&graph, &feeds).unwrap();
        let inputs: Vec<(&str, TensorRef<'_>)> = graph
            .nodes_of(OpKind::Input)
            .filter_map(|(_, node)| node.op.leaf_name())
            .map(|name| (name, (&feeds[name]).into()))
            .collect();
        let outputs = executable.run_typed(&inputs).unwrap();
        for ((name, actual), (_, reference)) in outputs.iter().zip(&expected.outputs) {
            same(actual, reference, &format!("run {run} output {name}"));
        }
        for (name, reference) in expected.states {
            same(
                &executable.states().unwrap().read_handle(&name).unwrap(),
                &reference,
                &format!("run {run} state {name}"),
            );
            feeds.insert(name, reference);
        }
    }
}

#[test]
fn one_square_weight_plain_and_transposed() {
    check(
        "%x = input {name = \"x\"} : f32[3, 8]\n%w = param {name = \"w\"} : f32[8, 8]\n\
         %y = matmul %x, %w {transpose_a = false, transpose_b = false}\n\
         %z = matmul %x, %w {transpose_a = false, transpose_b = true}\noutput \"y\" = %y\noutput \"z\" = %z",
    );
}

#[test]
fn packing_reads_a_prepared_value_that_another_one_is_made_of() {
    check(
        "%x = input {name = \"x\"} : f32[3, 8]\n%w = param {name = \"w\"} : f32[8, 8]\n\
         %a = softmax %w {axis = 1}\n%e = activation %a {kind = exp, parameter = none}\n%b = softmax %e {axis = 1}\n\
         %y = matmul %x, %a {transpose_a = false, transpose_b = false}\n\
         %z = matmul %x, %b {transpose_a = false, transpose_b = false}\noutput \"y\" = %y\noutput \"z\" = %z",
    );
}

#[test]
fn packing_of_values_that_are_computed_or_moved() {
    check(
        "%x = input {name = \"x\"} : f32[3, 8]\n%v = param {name = \"v\"} : f32[4, 8]\n%w = param {name = \"w\"} : f32[4, 8]\n\
         %c = concat %v, %w {axis = 0}\n%r = activation %c {kind = relu, parameter = none}\n\
         %y = matmul %x, %r {transpose_a = false, transpose_b = false}\n\
         %p = param {name = \"p\"} : f32[2, 4, 4]\n%t = transpose %p {permutation = [1, 0, 2]}\n%q = reshape %t {shape = [8, 4]}\n\
         %z = matmul %x, %q {transpose_a = false, transpose_b = false}\noutput \"y\" = %y\noutput \"z\" = %z",
    );
}

#[test]
fn a_state_is_read_after_a_view_of_it_was_updated() {
    check(
        "%s = state {name = \"s\"} : f32[1, 1, 4]\n%a = transpose %s {permutation = [1, 0, 2]}\n\
         %u = input {name = \"u\"} : f32[1, 1, 2]\n%p = input {name = \"p\"} : i32[1]\n\
         %n = kv_append %a, %u, %p {axis = 2}\n%y = activation %s {kind = relu, parameter = none}\n\
         output \"y\" = %y\nupdate \"s\" = %n"
            .replace("%p = input {name = \"p\"} : i32[1]", "%p = constant {value = i32[1]:[1]}")
            .as_str(),
    );
}

#[test]
fn states_trade_places_and_are_updated_in_place() {
    check(
        "%a = state {name = \"a\"} : f32[2, 4]\n%b = state {name = \"b\"} : f32[2, 4]\n\
         %u = input {name = \"u\"} : f32[2, 1]\n%p = constant {value = i32[2]:[1, 3]}\n\
         %n = kv_append %a, %u, %p {axis = 1}\n%m = binary %b, %b {kind = add}\noutput \"m\" = %m\n\
         update \"a\" = %b\nupdate \"b\" = %n",
    );
    check(
        "%a = state {name = \"a\"} : f32[2, 4]\n%u = input {name = \"u\"} : f32[2, 1]\n\
         %p = constant {value = i32[2]:[1, 3]}\n%q = constant {value = i32[2]:[0, 0]}\n\
         %n = kv_append %a, %u, %p {axis = 1}\n%m = kv_append %n, %u, %q {axis = 1}\n\
         %y = reduce %m {kind = sum, axes = [1], keep_dims = false}\noutput \"y\" = %y\nupdate \"a\" = %m",
    );
}

#[test]
fn a_region_that_merges_into_a_later_step_reads_what_stood_there_before() {
    check(
        "%s = state {name = \"s\"} : f32[2, 4]\n%u = input {name = \"u\"} : f32[2, 1]\n%w = input {name = \"w\"} : f32[4, 4]\n\
         %p = constant {value = i32[2]:[1, 3]}\n%c = reshape %s {shape = [2, 4]}\n\
         %y = matmul %c, %w {transpose_a = false, transpose_b = false}\n%n = kv_append %s, %u, %p {axis = 1}\n\
         %k = reduce %n {kind = max, axes = [1], keep_dims = true}\n%z = binary %y, %k {kind = add}\n\
         output \"z\" = %z\nupdate \"s\" = %n",
    );
}

#[test]
fn one_value_is_several_outputs_and_inputs_pass_through() {
    check(
        "%x = input {name = \"x\"} : f32[2, 3]\n%w = param {name = \"w\"} : f32[3]\n%y = binary %x, %w {kind = mul}\n\
         %t = transpose %y {permutation = [1, 0]}\noutput \"a\" = %y\noutput \"b\" = %y\noutput \"x\" = %x\n\
         output \"w\" = %w\noutput \"t\" = %t",
    );
}

#[test]
fn a_product_ends_where_its_end_reads() {
    let text = "rlx 1\ngraph \"g\" {\n%x = input {name = \"x\"} : f32[2, 2]\n%w = param {name = \"w\"} : f32[2, 2]\n\
                %s = state {name = \"s\"} : f32[2, 2]\n%m = matmul %x, %w {transpose_a = false, transpose_b = false}\n\
                %n = binary %m, %s {kind = add}\nupdate \"s\" = %n\n}";
    let backend = CpuBackend::with(1, SimdLevel::detect()).unwrap();
    let executable = backend.compile(parse_graph(text).unwrap(), &CompileOptions::default()).unwrap();
    // The copy to the state goes; the product writes there itself.
    let mut module = executable.lir().clone().into_inner();
    module.steps.truncate(1);
    let Step::Kernel(step) = &mut module.steps[0] else { panic!("a product comes first") };
    assert!(step.anchor.is_some() && step.epilogue.is_some());
    step.outputs[0].buffer = module.io.states[0].buffer;
    let mut executable = backend.compile_lir(VerifiedLir::new(module).unwrap()).unwrap();
    executable.set_param("w", &[1.0, 0.0, 0.0, 1.0]).unwrap();
    for run in 1..3 {
        executable.run(&[("x", &[2, 2], &[1.0, 2.0, 3.0, 4.0])]).unwrap();
        let state = executable.states().unwrap().read_handle("s").unwrap().to_f64s();
        assert_eq!(state, [1.0, 2.0, 3.0, 4.0].map(|value| value * f64::from(run)));
    }
}

#[test]
fn every_block_of_columns_ends_with_its_own_columns() {
    check(
        "%x = input {name = \"x\"} : f32[5, 40]\n%w = param {name = \"w\"} : f32[40, 600]\n\
         %b = input {name = \"b\"} : f32[600]\n%m = matmul %x, %w {transpose_a = false, transpose_b = false}\n\
         %y = binary %m, %b {kind = add}\noutput \"y\" = %y",
    );
}
