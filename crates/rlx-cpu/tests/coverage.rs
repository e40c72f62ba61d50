//! Which samples leave the kernels and run through the reference evaluation:
//! those with complex numbers, where an op computes rather than moves, the op whose reference is as good as a
//! kernel, and no others.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

use rlx_cpu::exec::CpuBackend;
use rlx_cpu::simd::SimdLevel;
use rlx_driver::{Backend, TensorRef};
use rlx_ir::{OpKind, TensorType};
use rlx_opt::{CompileOptions, OpView};
use std::collections::{BTreeMap, BTreeSet};

/// The kinds of samples with complex operands or results that no kernel computes.
const COMPLEX: [&str; 5] = ["dot_general", "matmul", "scatter_add", "scatter_elements", "scatter_nd"];

/// It takes one box after the other; its reference does so on plain numbers.
const SEQUENTIAL: &str = "non_max_suppression";

#[test]
fn only_complex_arithmetic_runs_through_the_reference() {
    let backend = CpuBackend::with(1, SimdLevel::detect()).unwrap();
    let (mut found, mut others) = (BTreeSet::new(), vec![]);
    for &kind in OpKind::ALL {
        for (index, sample) in kind.samples().iter().enumerate() {
            let (graph, feeds) = sample.graph(11);
            let results = graph.outputs().iter().map(|output| graph.ty(output.value).dtype);
            let dtypes = sample.operands.iter().map(|(ty, _)| ty.dtype).chain(results);
            let complex = dtypes.into_iter().any(|dtype| dtype.is_complex());
            let inputs: Vec<(&str, TensorRef<'_>)> =
                feeds.iter().map(|(name, literal)| (name.as_str(), literal.into())).collect();
            let mut executable = backend.compile(graph.clone(), &CompileOptions::default()).unwrap();
            executable.run_typed(&inputs).unwrap();
            executable.timing().unwrap().set_timing(true);
            let steps = executable.timing().unwrap().step_times();
            if !steps.iter().any(|time| time.step.ends_with("[reference]")) {
                continue;
            }
            if complex {
                found.insert(kind.def().name);
            } else {
                others.push(format!("{kind} sample {index} {:?}", sample.op));
            }
        }
    }
    others.retain(|label| !label.starts_with(SEQUENTIAL));
    assert!(others.is_empty(), "no kernel for:\n{}", others.join("\n"));
    assert_eq!(found.into_iter().collect::<Vec<_>>(), COMPLEX);
}

/// The page `docs/ops-cpu.md`; `BLESS=1` writes it.
#[test]
fn the_page_of_native_ops_is_current() {
    let capabilities = CpuBackend::with(1, SimdLevel::Portable).unwrap().capabilities();
    let (mut kinds, symbols) = (<[Vec<&str>; 3]>::default(), BTreeMap::new());
    for &kind in OpKind::ALL {
        let samples = kind.samples();
        if samples.is_empty() {
            continue;
        }
        let native = samples.iter().filter(|sample| {
            let operands: Vec<&TensorType> = sample.operands.iter().map(|(ty, _)| ty).collect();
            let results = sample.op.infer(&operands).unwrap();
            let view = OpView { op: &sample.op, operands: &operands, results: &results, symbols: &symbols };
            (capabilities.claim)(&view).is_native()
        });
        let native = native.count();
        let which = if native == samples.len() { 0 } else { 1 + usize::from(native == 0) };
        kinds[which].push(kind.def().name);
    }
    let mut page = String::from(
        "# Ops on the CPU\n\nWritten by `BLESS=1 cargo test -p rlx-cpu --test coverage` from what the CPU claims of the \
         samples of every op.\n",
    );
    let all: usize = kinds.iter().map(Vec::len).sum();
    for (what, names) in
        ["Native", "Native for some dtypes and attributes, else decomposed", "Decomposed"].iter().zip(kinds)
    {
        page += &format!("\n## {what}: {} of {}\n\n{}\n", names.len(), all, names.join(", "));
    }
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/ops-cpu.md");
    if std::env::var_os("BLESS").is_some() {
        std::fs::write(path, &page).unwrap();
    }
    assert_eq!(std::fs::read_to_string(path).unwrap_or_default(), page, "run with BLESS=1");
}
