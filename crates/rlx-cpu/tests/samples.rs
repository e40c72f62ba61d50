//! Every sample of every op through the CPU executor, at every instruction set
//! of this machine, against the reference interpreter.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

#[path = "support/near.rs"]
mod near;

use rlx_cpu::exec::CpuBackend;
use rlx_cpu::simd::SimdLevel;
use rlx_driver::{Backend, TensorRef};
use rlx_ir::accuracy::{Accuracy, compare};
use rlx_ir::interpret::evaluate;
use rlx_ir::op::Sample;
use rlx_ir::{DType, Op, OpKind};
use rlx_opt::{CompileOptions, KernelDispatch};

fn backends() -> Vec<CpuBackend> {
    let levels = SimdLevel::ALL.into_iter().filter(|level| level.is_available());
    levels.map(|level| CpuBackend::with(2, level).unwrap()).collect()
}

/// Runs every sample under `options`; fails with every finding at once.
fn run_samples(options: &CompileOptions) {
    let (mut ran, mut findings) = (0, vec![]);
    for backend in backends() {
        for &kind in OpKind::ALL {
            for (index, sample) in kind.samples().iter().enumerate() {
                ran += 1;
                if let Err(error) = run_sample(&backend, sample, options) {
                    findings.push(format!(
                        "{:?} {kind} sample {index} {:?}: {error}",
                        backend.info().features,
                        sample.op
                    ));
                }
            }
        }
    }
    assert!(ran > 300, "only {ran} samples ran");
    assert!(findings.is_empty(), "{} of {ran}:\n{}", findings.len(), findings.join("\n"));
}

fn run_sample(backend: &CpuBackend, sample: &Sample<Op>, options: &CompileOptions) -> Result<(), String> {
    let (graph, feeds) = sample.graph(11);
    let expected = evaluate(&graph, &feeds).map_err(|error| error.to_string())?;
    let mut executable = backend.compile(graph, options).map_err(|error| error.to_string())?;
    let inputs: Vec<(&str, TensorRef<'_>)> =
        feeds.iter().map(|(name, literal)| (name.as_str(), literal.into())).collect();
    let outputs = executable.run_typed(&inputs).map_err(|error| error.to_string())?;
    // Kernels may keep excess precision or round between the ops of a decomposition.
    let accuracy = match sample.op.accuracy() {
        Accuracy::Rounding => Accuracy::Approx { ulp: 2.0 },
        other => other,
    };
    assert_eq!(outputs.len(), expected.outputs.len());
    for ((name, actual), (_, reference)) in outputs.iter().zip(&expected.outputs) {
        let compared = compare(actual, reference, accuracy, None);
        let dtype = reference.dtype();
        let rounds_between =
            sample.op.meaning().decompose.is_some() && matches!(dtype, DType::F16 | DType::BF16);
        if let Err(error) = compared
            && !(rounds_between && near::is_near(actual, reference, dtype))
        {
            return Err(format!("output {name}: {error}"));
        }
    }
    Ok(())
}

#[test]
fn every_sample_natively() {
    run_samples(&CompileOptions::default());
}

#[test]
fn every_sample_without_fusion() {
    run_samples(&CompileOptions { fusion: false, ..CompileOptions::default() });
}

#[test]
fn every_sample_decomposed() {
    let options = CompileOptions { dispatch: KernelDispatch::ForceDecomposed, ..CompileOptions::default() };
    run_samples(&options);
}
