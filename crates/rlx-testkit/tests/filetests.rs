//! The filetests of the repository and the subtests that they may run.
//!
//! Invariants: a subtest is a function from text to text; one that expects a refusal fails when there is none.
//!
//! It holds no test cases: those are the files under `filetests`.

use std::path::Path;
use std::process::ExitCode;

use rlx_ir::interpret::{Tensors, evaluate};
use rlx_ir::lir::print_lir;
use rlx_ir::text::{parse_graph, parse_module, print_graph, print_module};
use rlx_ir::{DType, Graph, IrError, Op};
use rlx_opt::{Capabilities, Checks, Claim, CompileOptions, Packing, PassContext, PrecisionPolicy, run_pass};
use rlx_testkit::filetest::{Input, filetest_main};

fn main() -> ExitCode {
    let crates = Path::new(env!("CARGO_MANIFEST_DIR")).parent();
    let root = crates.and_then(Path::parent).expect("the package lies two folders deep").join("filetests");
    filetest_main(
        &root,
        &[
            ("print", print),
            ("refuse", refuse),
            ("evaluate", evaluate_outputs),
            ("lower", lower),
            ("compile", compile),
            ("pass", pass),
        ],
    )
}

fn words(error: IrError) -> String {
    error.to_string()
}

/// Whether the text holds a module and not a graph.
fn is_module(input: &Input) -> bool {
    input.text.lines().any(|line| line.starts_with("module "))
}

/// The normal form of the text.
fn print(input: &Input) -> Result<String, String> {
    if is_module(input) {
        return parse_module(&input.text).map(|module| print_module(&module)).map_err(words);
    }
    parse_graph(&input.text).map(|graph| print_graph(&graph)).map_err(words)
}

/// What parser and verifier say of a text that they refuse.
fn refuse(input: &Input) -> Result<String, String> {
    let parsed =
        if is_module(input) { parse_module(&input.text).err() } else { parse_graph(&input.text).err() };
    parsed.map(words).ok_or_else(|| "the text was accepted".to_owned())
}

/// The outputs of a graph of constants, as a graph of their own; or the fault that its values cause.
fn evaluate_outputs(input: &Input) -> Result<String, String> {
    let graph = parse_graph(&input.text).map_err(words)?;
    let evaluation = match evaluate(&graph, &Tensors::new()) {
        Ok(evaluation) => evaluation,
        Err(fault) => return Ok(fault.to_string()),
    };
    let mut results = Graph::new(graph.name.as_str());
    for (name, literal) in evaluation.outputs {
        let value = results.constant(literal);
        results.output(name, value);
    }
    results.finish().map(|graph| print_graph(&graph)).map_err(words)
}

/// The graph of a module, or why it does not lower.
fn lower(input: &Input) -> Result<String, String> {
    let module = parse_module(&input.text).map_err(words)?;
    Ok(module.lower().map_or_else(words, |graph| print_graph(&graph)))
}

/// The steps and buffers that a graph compiles to for the reference capabilities, or why it does not compile.
/// With `attach`, for a target that attaches every region to every anchor; with `pack`, for one that packs the right
/// operands of products; with `unfused`, without fusion; with `looping`, without unrolling.
fn compile(input: &Input) -> Result<String, String> {
    let graph = parse_graph(&input.text).map_err(words)?;
    let (mut capabilities, mut options) = (Capabilities::reference(), CompileOptions::default());
    for word in &input.arguments {
        match word.as_str() {
            "attach" => capabilities.accept = |_| Claim::Native,
            "unfused" => options.fusion = false,
            "looping" => options.unroll = 0,
            "pack" => {
                capabilities.pack = |view, operand| {
                    let packs = matches!(view.op, Op::MatMul(_)) && operand == 1;
                    packs.then(|| Packing { key: "columns".to_owned(), bytes: 64 })
                };
            }
            _ => return Err(format!("the run line holds the unknown word {word}")),
        }
    }
    let compiled = rlx_opt::compile(graph, &capabilities, &options);
    Ok(compiled.map_or_else(|error| error.to_string(), |compiled| print_lir(&compiled.module)))
}

/// The graph after one pass, or why the pass refuses it; for the reference capabilities, or with `native` for a
/// target that has a kernel for everything, with `unchecked` for one whose kernels check no values. `clamp` and `off`
/// choose what becomes of values out of range; `unroll` lets loops of up to 4 steps become their steps; `always`, `mixed` or `conservative` and a dtype choose a precision.
fn pass(input: &Input) -> Result<String, String> {
    let graph = parse_graph(&input.text).map_err(words)?;
    let mut words_left = input.arguments.iter().map(String::as_str);
    let pass =
        rlx_opt::pipeline::pass(words_left.next().unwrap_or_default()).map_err(|error| error.to_string())?;
    let (mut capabilities, mut options) = (Capabilities::reference(), CompileOptions::default());
    while let Some(word) = words_left.next() {
        let mut dtype =
            || DType::parse(words_left.next().unwrap_or_default()).ok_or("the run line lacks a dtype");
        match word {
            "native" => capabilities.claim = |_| Claim::Native,
            "unchecked" => capabilities.checks_values = false,
            "clamp" => options.checks = Checks::Clamp,
            "off" => options.checks = Checks::Off,
            "unroll" => options.unroll = 4,
            "always" => options.precision = PrecisionPolicy::Always(dtype()?),
            "mixed" => options.precision = PrecisionPolicy::Mixed(dtype()?),
            "conservative" => options.precision = PrecisionPolicy::MixedConservative(dtype()?),
            _ => return Err(format!("the run line holds the unknown word {word}")),
        }
    }
    let context = PassContext { capabilities: &capabilities, options: &options };
    let graph = match run_pass(pass, graph, &context) {
        Ok(rewritten) => rewritten.graph,
        Err(error) => return Ok(error.to_string()),
    };
    rlx_ir::verify::verify(&graph).map_err(words)?;
    Ok(print_graph(&graph))
}
