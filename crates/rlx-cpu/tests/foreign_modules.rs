//! The CPU runs modules that were compiled for another target's capabilities:
//! one that attaches a region to every operand and every result it can.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

use rlx_cpu::exec::CpuBackend;
use rlx_cpu::simd::SimdLevel;
use rlx_driver::{Backend, TensorRef};
use rlx_ir::accuracy::{Accuracy, compare};
use rlx_ir::interpret::evaluate;
use rlx_ir::lir::{Operand, Step};
use rlx_ir::op::Sample;
use rlx_ir::ops::{Activation, ActivationKind};
use rlx_ir::{DType, Graph, Op, OpKind, Value};
use rlx_opt::{Capabilities, Claim, CompileOptions};
use rlx_testkit::near::is_near;

fn greedy() -> Capabilities {
    Capabilities { name: "greedy", accept: |_| Claim::Native, ..Capabilities::reference() }
}

/// The sample with `abs` before every float operand and `tanh` after every float result.
fn sandwich(sample: &Sample<Op>) -> Option<(Graph, Vec<rlx_ir::Literal>)> {
    let mut graph = Graph::new("sandwich");
    let literals = sample.literals(5);
    let float = |dtype: DType| matches!(dtype, DType::F32 | DType::F64);
    let mut operands: Vec<Value> = vec![];
    for (index, literal) in literals.iter().enumerate() {
        let input = graph.input(format!("x{index}"), literal.ty());
        operands.push(if float(literal.dtype()) {
            graph.push(Activation::of(ActivationKind::Abs), &[input])
        } else {
            input
        });
    }
    let results = graph.push_all(sample.op.clone(), &operands);
    for (index, &result) in results.iter().enumerate() {
        let value = if float(graph.ty(result).dtype) { graph.tanh(result) } else { result };
        graph.output(format!("y{index}"), value);
    }
    // A value constraint (lengths, offsets) may not survive `abs`; those samples build but fault alike.
    graph.finish().ok().map(|graph| (graph, literals))
}

#[test]
fn regions_on_every_side_of_every_anchor() {
    let backend = CpuBackend::with(2, SimdLevel::detect()).unwrap();
    let (mut ran, mut before, mut after, mut findings) = (0, 0, 0, vec![]);
    for &kind in OpKind::ALL {
        for (index, sample) in kind.samples().iter().enumerate() {
            let Some((graph, literals)) = sandwich(sample) else { continue };
            let label = format!("{kind} sample {index} {:?}", sample.op);
            let names: Vec<String> = (0..literals.len()).map(|index| format!("x{index}")).collect();
            let feeds = names.iter().cloned().zip(literals.iter().cloned()).collect();
            let expected = evaluate(&graph, &feeds).unwrap_or_else(|error| panic!("{label}: {error}"));
            let compiled = rlx_opt::compile(graph, &greedy(), &CompileOptions::default());
            let module = compiled.unwrap_or_else(|error| panic!("{label}: {error}")).module;
            module.for_each_step(&mut |step| {
                let Step::Kernel(step) = step else { return };
                let Some(anchor) = &step.anchor else { return };
                after += usize::from(step.epilogue.is_some());
                before +=
                    anchor.operands.iter().filter(|operand| matches!(operand, Operand::Region(_))).count();
            });
            let mut executable =
                backend.compile_lir(module).unwrap_or_else(|error| panic!("{label}: {error}"));
            let inputs: Vec<(&str, TensorRef<'_>)> =
                names.iter().zip(&literals).map(|(name, literal)| (name.as_str(), literal.into())).collect();
            let outputs = executable.run_typed(&inputs).unwrap_or_else(|error| panic!("{label}: {error}"));
            ran += 1;
            // What `tanh` and a decomposition's own roundings add to the op's bound.
            let accuracy = match sample.op.accuracy() {
                Accuracy::Exact | Accuracy::Rounding | Accuracy::Random => Accuracy::Approx { ulp: 16.0 },
                Accuracy::Approx { ulp } => Accuracy::Approx { ulp: ulp + 16.0 },
                other => other,
            };
            for ((name, actual), (_, reference)) in outputs.iter().zip(&expected.outputs) {
                let dtype = reference.dtype();
                let narrow = matches!(dtype, DType::F16 | DType::BF16);
                if let Err(error) = compare(actual, reference, accuracy, None)
                    && !(narrow && is_near(actual, reference, dtype, 8.0))
                {
                    findings.push(format!("{label} output {name}: {error}"));
                }
            }
        }
    }
    assert!(findings.is_empty(), "{} of {ran}:\n{}", findings.len(), findings.join("\n"));
    assert!(ran > 300 && before > 100 && after > 50, "{ran} ran, {before} regions before, {after} after");
}
