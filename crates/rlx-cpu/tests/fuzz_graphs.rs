//! Random graphs of exact values from the verifier through passes, planner and CPU executor: every bit as the
//! interpreter says, at several instruction sets and numbers of threads, for several extents on one executable.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

use rlx_cpu::exec::CpuBackend;
use rlx_cpu::simd::SimdLevel;
use rlx_driver::{Backend, ExecutableGraph, SharedBytes, TensorRef};
use rlx_ir::interpret::{Evaluation, Tensors, evaluate};
use rlx_ir::lir::{ArenaLayout, BufferKind, LirModule, Step, View};
use rlx_ir::text::print_graph;
use rlx_ir::{Bindings, Graph, Literal};
use rlx_opt::{Capabilities, CompileOptions, KernelDispatch, PassContext, Pipeline};
use rlx_testkit::{Fuzz, RandomGraph, random_graph_with};
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

/// Extents per case: tiny ones, ones around the widths of vectors, and larger ones now and then.
const EXTENTS: [[i64; 3]; 5] = [[2, 3, 4], [2, 3, 4], [3, 7, 8], [2, 17, 16], [5, 33, 37]];

fn options(case: u64) -> CompileOptions {
    CompileOptions {
        fusion: !case.is_multiple_of(5),
        constant_folding: !case.is_multiple_of(7),
        dispatch: if case.is_multiple_of(3) {
            KernelDispatch::ForceDecomposed
        } else {
            KernelDispatch::PreferNative
        },
        alignment: [None, Some(32)][usize::from(case.is_multiple_of(11))],
        ..CompileOptions::default()
    }
}

/// First difference in bits. Zeros of either sign are one value: which of them an exact sum or a maximum
/// gives depends on the order.
fn difference(found: &Literal, expected: &Literal) -> Option<String> {
    if found.ty() != expected.ty() {
        return Some(format!("type {} where {} is expected", found.ty(), expected.ty()));
    }
    let (found, expected) = (found.to_f64s(), expected.to_f64s());
    let position = found.iter().zip(&expected).position(|(a, b)| a != b)?;
    Some(format!("element {position} is {}, expected {}", found[position], expected[position]))
}

fn same(found: &[(String, Literal)], expected: &Evaluation) -> Result<(), String> {
    if found.len() != expected.outputs.len() {
        return Err(format!("{} outputs, expected {}", found.len(), expected.outputs.len()));
    }
    for ((name, found), (_, expected)) in found.iter().zip(&expected.outputs) {
        if let Some(difference) = difference(found, expected) {
            return Err(format!("output {name:?}: {difference}"));
        }
    }
    Ok(())
}

/// What a step of a run touches: buffers that it reads, that it writes, and those of them that it writes wholly.
type Touches = (Vec<u32>, Vec<u32>, Vec<u32>);

/// The steps of a run in which every loop goes round twice and every branch goes to one side.
fn trace(module: &LirModule, steps: &[Step], side: usize, out: &mut Vec<Touches>) {
    let ids = |buffers: Vec<rlx_ir::lir::BufferId>| buffers.into_iter().map(|id| id.0).collect::<Vec<_>>();
    for step in steps {
        let mut touches = (ids(step.reads()), ids(step.writes()), vec![]);
        if let Step::Kernel(kernel) = step {
            let whole = |view: &&View| **view == View::whole(view.buffer, &module.buffer(view.buffer).ty());
            touches.2 = kernel.outputs.iter().filter(whole).map(|view| view.buffer.0).collect();
        }
        let lists = step.lists();
        match step {
            Step::Kernel(_) | Step::Pack(_) => out.push(touches),
            Step::Branch(_) => {
                out.push(touches);
                trace(module, lists[side], side, out);
            }
            Step::Loop(_) => {
                for _ in 0..2 {
                    for (index, list) in lists.iter().enumerate() {
                        trace(module, list, side, out);
                        if index == 0 {
                            out.push(touches.clone());
                        }
                    }
                }
            }
        }
    }
}

/// Two arena buffers that share memory while both hold what is needed later. Follows runs instead of trusting the
/// lives in the plan.
fn shared_memory(module: &LirModule, layout: &ArenaLayout) -> Option<String> {
    let place = |buffer: u32| layout.places.get(buffer as usize).copied().flatten();
    for side in 0..2 {
        let mut steps = vec![];
        trace(module, &module.steps, side, &mut steps);
        let mut live: BTreeSet<u32> = module.io.outputs.iter().map(|entry| entry.buffer.0).collect();
        let inputs = module.io.inputs.iter().map(|entry| entry.buffer.0);
        let mut first: BTreeMap<u32, usize> = inputs.map(|buffer| (buffer, 0)).collect();
        for (now, (reads, writes, _)) in steps.iter().enumerate() {
            for &buffer in reads.iter().chain(writes) {
                first.entry(buffer).or_insert(now);
            }
        }
        for (now, (reads, writes, whole)) in steps.iter().enumerate().rev() {
            let held =
                live.iter().copied().filter(|buffer| first.get(buffer).is_some_and(|&first| first <= now));
            let held: BTreeSet<u32> =
                held.chain(reads.iter().copied()).chain(writes.iter().copied()).collect();
            for (index, &a) in held.iter().enumerate() {
                for &b in held.iter().skip(index + 1) {
                    let (Some((start_a, size_a)), Some((start_b, size_b))) = (place(a), place(b)) else {
                        continue;
                    };
                    if start_a < start_b + size_b && start_b < start_a + size_a {
                        return Some(format!("b{a} and b{b} are in use at once and share memory"));
                    }
                }
            }
            live.retain(|buffer| !whole.contains(buffer));
            live.extend(reads);
        }
    }
    let mut places = layout.places.iter().enumerate().filter_map(|(index, place)| Some((index, (*place)?)));
    places.find_map(|(index, (start, size))| {
        let inside = start + size <= layout.size && start % module.plan.alignment == 0;
        (!inside).then(|| format!("b{index} lies at {start}, {size} bytes, in an arena of {}", layout.size))
    })
}

fn check_layout(module: &LirModule, bindings: &Bindings) -> Result<(), String> {
    let stages = std::iter::once(module).chain(&module.prepare);
    for stage in stages {
        let layout = stage.plan.layout(bindings).map_err(|error| error.to_string())?;
        if let Some((a, b)) = stage.plan.overlap(&layout) {
            return Err(format!("the plan lets b{} and b{} overlap", a.0, b.0));
        }
        if let Some(shared) = shared_memory(stage, &layout) {
            return Err(shared);
        }
        let in_arena = stage.buffers.iter().filter(|buffer| {
            matches!(buffer.kind, BufferKind::Temporary | BufferKind::Input | BufferKind::Output)
        });
        if in_arena.count() != layout.places.iter().flatten().count() {
            return Err("a buffer of the arena has no place".into());
        }
    }
    Ok(())
}

/// Splits feeds into what is bound (params and states) and what is given at every run.
fn leaf<'a>(graph: &'a Graph, kind: rlx_ir::OpKind, feeds: &'a Tensors) -> Vec<(&'a str, &'a Literal)> {
    let names = graph.nodes_of(kind).filter_map(|(_, node)| node.op.leaf_name());
    names.map(|name| (name, &feeds[name])).collect()
}

/// One run on `feeds` and one more on the state that the first left behind.
fn run(executable: &mut dyn ExecutableGraph, graph: &Graph, original: &Tensors) -> Result<(), String> {
    let say = |error: rlx_driver::DriverError| error.to_string();
    let mut feeds = original.clone();
    for round in 0..2 {
        // What the first round left is kept where it is as small as a feed, so that results stay exact.
        let states = leaf(graph, rlx_ir::OpKind::State, &feeds);
        let is_plain = |value: &f64| value.abs() <= 2.0 && (value * 4.0).fract() == 0.0;
        if round == 0 || !states.iter().all(|(_, literal)| literal.to_f64s().iter().all(is_plain)) {
            for (name, literal) in leaf(graph, rlx_ir::OpKind::State, original) {
                executable
                    .states()
                    .ok_or("there are no states")?
                    .bind_handle(name, literal.into())
                    .map_err(say)?;
                feeds.insert(name.into(), literal.clone());
            }
        }
        let expected = evaluate(graph, &feeds).map_err(|error| error.to_string())?;
        let inputs: Vec<(&str, TensorRef<'_>)> = leaf(graph, rlx_ir::OpKind::Input, &feeds)
            .into_iter()
            .map(|(name, literal)| (name, literal.into()))
            .collect();
        let outputs = executable.run_typed(&inputs).map_err(say)?;
        same(&outputs, &expected).map_err(|error| format!("round {round}: {error}"))?;
        for (name, expected) in &expected.states {
            let found = executable.states().ok_or("there are no states")?.read_handle(name).map_err(say)?;
            if let Some(difference) = difference(&found, expected) {
                return Err(format!("round {round}: state {name:?}: {difference}"));
            }
        }
        feeds.extend(expected.states);
    }
    Ok(())
}

/// The graph after a prefix of the passes must compute the same.
fn check_passes(
    random: &RandomGraph,
    feeds: &[Tensors],
    options: &CompileOptions,
    case: u64,
) -> Result<(), String> {
    let capabilities = Capabilities::reference();
    let context = PassContext { capabilities: &capabilities, options };
    let standard = Pipeline::standard();
    let prefix = standard.prefix(1 + case as usize % standard.passes().len());
    let say = |error: &dyn std::fmt::Display| format!("{prefix}: {error}");
    let graph = prefix.run(random.graph.clone(), &context, &mut |_, _| {}).map_err(|error| say(&error))?;
    for feeds in feeds {
        let expected = evaluate(&random.graph, feeds).map_err(|error| error.to_string())?;
        let found = evaluate(&graph, feeds).map_err(|error| say(&error))?;
        same(&found.outputs, &expected).map_err(|error| say(&error))?;
        for (name, expected) in &expected.states {
            if let Some(difference) = difference(&found.states[name], expected) {
                return Err(say(&format!("state {name:?}: {difference}")));
            }
        }
    }
    Ok(())
}

fn check_case(backends: &[CpuBackend], case: u64) -> Result<bool, String> {
    let extents = EXTENTS[(case / 2) as usize % EXTENTS.len()];
    let random = random_graph_with(case, extents);
    let symbolic = case % 2 == 1;
    // Params are bound once, so every binding of the symbol keeps them.
    let mut feeds = vec![random.feeds.clone()];
    for extent in if symbolic { vec![1, extents[1] - 1, 2] } else { vec![0] } {
        let mut other = random.feeds_for(extent, case + 1);
        for (name, literal) in leaf(&random.graph, rlx_ir::OpKind::Param, &random.feeds) {
            other.insert(name.into(), literal.clone());
        }
        feeds.push(other);
    }
    let label = |error: String| format!("{error}\n{}", print_graph(&random.graph));
    let options = options(case);
    check_passes(&random, &feeds, &options, case).map_err(label)?;
    for backend in
        [&backends[case as usize % backends.len()], &backends[(case / 3) as usize % backends.len()]]
    {
        let label = |error: String| label(format!("{:?} {options:?}: {error}", backend.info()));
        let mut executable =
            backend.compile(random.graph.clone(), &options).map_err(|error| label(error.to_string()))?;
        for (name, literal) in leaf(&random.graph, rlx_ir::OpKind::Param, &random.feeds) {
            let bytes = SharedBytes::from(literal.bytes().to_vec());
            executable.bind_param(name, bytes).map_err(|error| label(error.to_string()))?;
        }
        for feeds in feeds.iter().chain(&feeds[..1]) {
            let bindings = rlx_ir::interpret::bind_feeds(&random.graph, feeds).unwrap();
            check_layout(executable.lir(), &bindings).map_err(label)?;
            run(&mut *executable, &random.graph, feeds).map_err(label)?;
        }
    }
    Ok(symbolic)
}

#[test]
fn random_graphs_give_the_bits_of_the_interpreter() {
    let levels = SimdLevel::ALL.into_iter().filter(|level| level.is_available());
    let backends: Vec<CpuBackend> =
        levels.flat_map(|level| [1, 3].map(|threads| CpuBackend::with(threads, level).unwrap())).collect();
    let fuzz = Fuzz { fixed: 120, known: &[193], fresh: Duration::from_secs(60) };
    let ran = fuzz.run(move |case| check_case(&backends, case));
    assert!(ran.yes * 3 > ran.cases, "{ran:?}");
}
