//! Random graphs with exact results through the CPU executor: every bit must be
//! that of the interpreter, with every combination of fusion and dispatch. A
//! wrong result is reduced to the pass and a small graph.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

use rlx_cpu::exec::CpuBackend;
use rlx_driver::{Backend, ExecutableGraph, HostValues, TensorRef};
use rlx_ir::accuracy::{Accuracy, compare};
use rlx_ir::interpret::{Tensors, evaluate};
use rlx_ir::{Graph, OpKind};
use rlx_opt::bisect::{bisect, same_results};
use rlx_opt::{CompileOptions, KernelDispatch, PassContext, Pipeline};
use rlx_testkit::random_graph;

fn feeds_of<'a>(graph: &Graph, feeds: &'a Tensors, kind: OpKind) -> Vec<(&'a str, TensorRef<'a>)> {
    let names: Vec<_> = graph.nodes_of(kind).filter_map(|(_, node)| node.op.leaf_name()).collect();
    let fed = feeds.iter().filter(|(name, _)| names.contains(&name.as_str()));
    fed.map(|(name, literal)| (name.as_str(), literal.into())).collect()
}

fn load(
    backend: &CpuBackend,
    graph: &Graph,
    feeds: &Tensors,
    options: &CompileOptions,
) -> Result<Box<dyn ExecutableGraph>, String> {
    let mut executable = backend.compile(graph.clone(), options).map_err(|error| error.to_string())?;
    for (name, tensor) in feeds_of(graph, feeds, OpKind::Param) {
        executable.set_param_typed(name, tensor).map_err(|error| error.to_string())?;
    }
    for (name, tensor) in feeds_of(graph, feeds, OpKind::State) {
        let states = executable.states().ok_or("no states")?;
        states.bind_handle(name, tensor).map_err(|error| error.to_string())?;
    }
    Ok(executable)
}

/// Runs `graph` on the CPU and compares outputs and states with the interpreter.
fn check(
    backend: &CpuBackend,
    graph: &Graph,
    feeds: &Tensors,
    options: &CompileOptions,
) -> Result<(), String> {
    let expected = evaluate(graph, feeds).map_err(|error| error.to_string())?;
    let mut executable = load(backend, graph, feeds, options)?;
    let inputs = feeds_of(graph, feeds, OpKind::Input);
    let outputs = executable.run_typed(&inputs).map_err(|error| error.to_string())?;
    for ((name, actual), (_, reference)) in outputs.iter().zip(&expected.outputs) {
        compare(actual, reference, Accuracy::Exact, None)
            .map_err(|error| format!("output {name}: {error}"))?;
    }
    for (name, reference) in &expected.states {
        let states = executable.states().ok_or("no states")?;
        let actual = states.read_handle(name).map_err(|error| error.to_string())?;
        compare(&actual, reference, Accuracy::Exact, None)
            .map_err(|error| format!("state {name}: {error}"))?;
    }
    Ok(())
}

#[test]
fn random_graphs_give_the_bits_of_the_interpreter() {
    let backend = CpuBackend::new().unwrap();
    let all = [
        CompileOptions::default(),
        CompileOptions { fusion: false, ..CompileOptions::default() },
        CompileOptions { dispatch: KernelDispatch::ForceDecomposed, ..CompileOptions::default() },
    ];
    for seed in 0..500 {
        let random = random_graph(seed);
        for options in &all {
            let Err(error) = check(&backend, &random.graph, &random.feeds, options) else { continue };
            let capabilities = backend.capabilities();
            let context = PassContext { capabilities: &capabilities, options };
            let (graph, feeds, pipeline) = (&random.graph, &random.feeds, Pipeline::standard());
            let passes = &mut same_results(Accuracy::Exact);
            let small = match bisect(graph, feeds, &pipeline, &context, passes) {
                Ok(None) => {
                    let mut executor =
                        |_: &Graph, graph: &Graph, feeds: &Tensors| check(&backend, graph, feeds, options);
                    bisect(graph, feeds, &Pipeline::of([]), &context, &mut executor)
                }
                found => found,
            };
            match small {
                Ok(Some(small)) => {
                    panic!("seed {seed}: {error}\n{:?}: {}\n{}", small.pass, small.message, small.text)
                }
                other => panic!("seed {seed}: {error}\n{other:?}"),
            }
        }
    }
}
