//! Every variant of `OptError`, with the message that a user sees.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

#[macro_use]
#[path = "../../rlx-testkit/shared/error_cases.rs"]
mod shared;

use rlx_ir::text::parse_graph;
use rlx_ir::{DType, Diagnostic, Graph, IrError, SymbolBounds};
use rlx_opt::{Capabilities, Claim, CompileOptions, OptError, Pipeline, PrecisionPolicy, compile};

fn graph() -> Graph {
    let text = "rlx 1\ngraph \"g\" {\n %x = input {name = \"x\"} : f32[4]\n %y = softmax %x {axis = 0} @ \"head\"\n \
                %z = sort %y {axis = 0, descending = false}\n output \"z\" = %z\n}";
    parse_graph(text).unwrap()
}

/// A target that has no kernel at all.
fn nothing() -> Capabilities {
    Capabilities {
        name: "nothing",
        claim: |_| Claim::No("there is no kernel".into()),
        ..Capabilities::reference()
    }
}

fn refused(graph: Graph, capabilities: &Capabilities, options: &CompileOptions) -> OptError {
    compile(graph, capabilities, options).map(drop).unwrap_err()
}

error_cases! { OptError in "../src/pass.rs":
    a_graph_that_breaks_its_contract: Invalid, {
        let mut graph = graph();
        graph.bound_symbol("S", SymbolBounds { min: 2, max: Some(1) });
        refused(graph, &Capabilities::reference(), &CompileOptions::default())
    } => "symbol S: bounds [2, 1] are empty or negative";
    a_pass_that_broke_the_graph: Broken, {
        let finding = Diagnostic::new("%3 neg", "operand %9 is not a value defined before it");
        OptError::Broken { pass: "fuse_named", error: Box::new(IrError::Invalid(vec![finding])) }
    } => "pass fuse_named made an invalid graph: %3 neg: operand %9 is not a value defined before it; \
          this is a fault of the compiler, please report it";
    ops_without_a_kernel: Unsupported, refused(graph(), &nothing(), &CompileOptions::default())
        => "nothing cannot run this graph:\n\
            %1 softmax/reduce (head): there is no kernel; operands f32[4]\n\
            %1 softmax/reduce (head): there is no kernel; operands f32[4]\n\
            %2 sort/top_k: there is no kernel; operands f32[4]";
    an_option_that_cannot_be_honoured: Option, {
        let options = CompileOptions { alignment: Some(100), ..CompileOptions::default() };
        refused(graph(), &Capabilities::reference(), &options)
    } => "option alignment: 100 is not a power of two of at most 64, which is what reference aligns to";
    a_pass_that_nobody_wrote: NoSuchPass, "eliminate_dead_cod".parse::<Pipeline>().map(drop).unwrap_err()
        => "there is no pass eliminate_dead_cod; did you mean eliminate_dead_code?";
}

#[test]
fn precisions_that_are_none_are_refused() {
    let options =
        CompileOptions { precision: PrecisionPolicy::Always(DType::I32), ..CompileOptions::default() };
    let error = refused(graph(), &Capabilities::reference(), &options);
    assert!(matches!(error, OptError::Option { option: "precision", .. }), "{error}");
    assert!(error.to_string().contains("i32"), "{error}");
}
