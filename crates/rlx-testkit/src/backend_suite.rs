//! Every sample of every op on a backend, against the reference interpreter.
//!
//! Invariants: a sample whose op and dtypes the backend claims must run; any other may be refused, by a typed error
//! when it is compiled, never by a wrong result. Nothing here names a backend.

use crate::near::is_near;
use crate::value_cases::{ValueCase, value_cases};
use rlx_driver::{Backend, DriverError, ExecutableGraph, SharedBytes, TensorRef};
use rlx_ir::accuracy::{Accuracy, compare};
use rlx_ir::interpret::evaluate;
use rlx_ir::lir::{FaultCheck, FaultWords, LirModule, VerifiedLir};
use rlx_ir::op::Sample;
use rlx_ir::{DType, Diagnostic, Graph, Literal, Op, OpKind, ScalarOp, TensorType};
use rlx_opt::{Capabilities, Checks, CompileOptions, OpView, OptError};
use std::collections::BTreeSet;

/// All that kernels of GPUs cannot do, and nothing else: dtypes, what goes step by step, and functions of the host.
pub const REFUSED_BY_KERNELS: &[&str] = &[
    "kernels do not compute c128 here",
    "kernels do not compute c64 here",
    "kernels do not compute f64 here",
    "kernels do not read storage-only dtypes here",
    "there is no kernel for cholesky",
    "there is no kernel for custom",
    "there is no kernel for dense_solve",
    "there is no kernel for det",
    "there is no kernel for eigh",
    "there is no kernel for log_det",
    "there is no kernel for non_max_suppression",
    "there is no kernel for qr",
    "there is no kernel for svd",
    "there is no kernel for triangular_solve",
];

/// What became of the samples.
#[derive(Clone, Debug, Default)]
pub struct SuiteReport {
    /// Samples that ran and agreed.
    pub agreed: usize,
    /// Samples that the backend refused to compile, with its words.
    pub refused: Vec<String>,
    /// Why nodes were refused, each reason once.
    pub reasons: BTreeSet<String>,
    /// Samples that failed or disagreed.
    pub failed: Vec<String>,
}

impl SuiteReport {
    /// Panics with the failures, where fewer than `least` samples ran, or where the reasons of refusals are not
    /// exactly `reasons`; prints what was refused.
    ///
    /// # Panics
    /// As a test fails.
    pub fn check(&self, least: usize, reasons: &[&str]) {
        println!("{} agreed, {} refused:\n{}", self.agreed, self.refused.len(), self.refused.join("\n"));
        assert!(self.failed.is_empty(), "{} failed:\n{}", self.failed.len(), self.failed.join("\n"));
        assert!(self.agreed >= least, "only {} samples ran, expected {least}", self.agreed);
        assert!(self.reasons.iter().eq(reasons), "refused for {:#?}, expected {reasons:#?}", self.reasons);
    }
}

/// Runs all samples that `wanted` lets through.
pub fn run_samples(
    backend: &dyn Backend,
    options: &CompileOptions,
    wanted: impl Fn(OpKind) -> bool,
) -> SuiteReport {
    let mut report = SuiteReport::default();
    for &kind in OpKind::ALL.iter().filter(|&&kind| wanted(kind)) {
        for (index, sample) in kind.samples().iter().enumerate() {
            let label = format!("{kind} sample {index} {:?}", sample.op);
            // Once with every operand fed, once with all but the first as weights (a lone one is a weight).
            let all = sample.operands.len();
            let mut runs = [all, usize::from(all > 1)].into_iter();
            let ran = runs.try_for_each(|inputs| run_sample(backend, options, sample, inputs));
            match ran {
                Ok(()) => report.agreed += 1,
                Err(Failure::Refused(nodes)) => {
                    let words: Vec<String> = nodes.iter().map(ToString::to_string).collect();
                    let line = format!("{label}: {}", words.join("; "));
                    if is_claimed(&backend.capabilities(), sample) {
                        report.failed.push(line);
                    } else {
                        report.reasons.extend(nodes.iter().map(reason));
                        report.refused.push(line);
                    }
                }
                Err(Failure::Other(error)) => report.failed.push(format!("{label}: {error}")),
            }
        }
    }
    report
}

enum Failure {
    /// The nodes that have no kernel.
    Refused(Vec<Diagnostic>),
    /// Anything else, in words.
    Other(String),
}

/// What a refusal says after the name of the node.
fn reason(node: &Diagnostic) -> String {
    node.message.rsplit(": ").next().unwrap_or_default().to_string()
}

/// Runs a sample whose operands from number `inputs` on are weights.
fn run_sample(
    backend: &dyn Backend,
    options: &CompileOptions,
    sample: &Sample<Op>,
    inputs: usize,
) -> Result<(), Failure> {
    let failed = Failure::Other;
    let (graph, feeds) = sample.graph_with(11, inputs);
    let expected = evaluate(&graph, &feeds).map_err(|error| failed(error.to_string()))?;
    let compiled = backend.compile(graph, options);
    let mut executable = compiled.map_err(|error| match error {
        DriverError::Compile(OptError::Unsupported { nodes, .. }) => Failure::Refused(nodes),
        error => Failure::Other(error.to_string()),
    })?;
    let io = executable.lir().io.clone();
    for param in &io.params {
        let bytes = SharedBytes::from(feeds[&param.name].bytes().to_vec());
        executable.bind_param(&param.name, bytes).map_err(|error| failed(error.to_string()))?;
    }
    let inputs: Vec<(&str, TensorRef<'_>)> =
        io.inputs.iter().map(|entry| (entry.name.as_str(), (&feeds[&entry.name]).into())).collect();
    let outputs = executable.run_typed(&inputs).map_err(|error| failed(error.to_string()))?;
    agree(&outputs, &expected.outputs, &sample.op).map_err(failed)
}

/// Are the results of a backend within the op's accuracy of the interpreter's?
pub(crate) fn agree(
    outputs: &[(String, Literal)],
    expected: &[(String, Literal)],
    op: &Op,
) -> Result<(), String> {
    // Kernels may keep excess precision, or round between the ops of a decomposition.
    let accuracy = match op.accuracy() {
        Accuracy::Rounding => Accuracy::Approx { ulp: 2.0 },
        accuracy => accuracy,
    };
    for ((name, actual), (_, reference)) in outputs.iter().zip(expected) {
        match compare(actual, reference, accuracy, None) {
            Err(_) if rounds_between(op, actual, reference) => {}
            result => result.map_err(|error| format!("output {name}: {error}"))?,
        }
    }
    match outputs.len() == expected.len() {
        true => Ok(()),
        false => Err(format!("{} outputs, expected {}", outputs.len(), expected.len())),
    }
}

type Executables = Vec<Box<dyn ExecutableGraph>>;

/// Runs every sample with integers at and beyond their bounds: with checks on, the backend must fault exactly where
/// the op declares it; with clamps, give what the interpreter gives for the nearest legal value.
///
/// # Panics
/// As a test fails: where a backend does not do so, or runs fewer than `least` cases.
pub fn check_values(backend: &dyn Backend, options: &CompileOptions, least: usize) {
    let (mut ran, mut failed) = (0, vec![]);
    let clamping = CompileOptions { checks: Checks::Clamp, ..options.clone() };
    let mut compiled: Option<(Sample<Op>, Executables)> = None;
    for case in value_cases() {
        let same = |(sample, _): &(Sample<Op>, _)| {
            (&sample.op, &sample.operands) == (&case.sample.op, &case.sample.operands)
        };
        if !compiled.as_ref().is_some_and(same) {
            let executables = [options, &clamping].map(|options| backend.compile(case.graph(), options));
            let Ok(executables) = executables.into_iter().collect() else { continue };
            compiled = Some((case.sample.clone(), executables));
        }
        let Some((_, executables)) = &mut compiled else { continue };
        let feeds = ValueCase::feeds(&case.operands);
        let inputs: Vec<(&str, TensorRef<'_>)> =
            feeds.iter().map(|(name, literal)| (name.as_str(), literal.into())).collect();
        let legal =
            case.clamped.as_ref().map(|operands| evaluate(&case.graph(), &ValueCase::feeds(operands)));
        for (executable, faults) in executables.iter_mut().zip([case.faults, legal.is_none()]) {
            let found = match (executable.run_typed(&inputs), &legal) {
                (Err(DriverError::Fault { .. }), _) if faults => Ok(()),
                (Ok(outputs), Some(Ok(expected))) if !faults => {
                    agree(&outputs, &expected.outputs, &case.sample.op)
                }
                (Err(error), _) => Err(error.to_string()),
                (Ok(_), _) => Err("ran".to_string()),
            };
            failed.extend(found.err().map(|error| format!("{} (fault: {faults}): {error}", case.label)));
            ran += 1;
        }
    }
    assert!(failed.is_empty(), "{} failed:\n{}", failed.len(), failed.join("\n"));
    assert!(ran >= least, "only {ran} cases ran, expected {least}");
}

/// Runs a module that tells its faults by words, as graphs for targets that check no values do.
///
/// # Errors
/// A word that is not heeded, in words.
pub fn check_fault_words(backend: &dyn Backend) -> Result<(), String> {
    let words = |error: &dyn std::fmt::Display| error.to_string();
    let mut graph = Graph::new("words");
    let word = graph.input("word", TensorType::new(DType::I64, [1usize]));
    let state = graph.state("state", TensorType::new(DType::F32, [2usize]));
    let next = graph.exp(state);
    graph.update_state("state", next);
    graph.output("next", next);
    graph.output("faults", word);
    let compiled = rlx_opt::compile(graph, &backend.capabilities(), &CompileOptions::default());
    let mut module = LirModule::clone(&compiled.map_err(|error| words(&error))?.module);
    let checks = vec![FaultCheck { node: "%9 gather".into(), operand: "indices".into() }];
    module.io.faults = module.io.outputs.pop().map(|entry| Box::new(FaultWords { entry, checks }));
    let module = VerifiedLir::new(module).map_err(|error| words(&error))?;
    let mut executable = backend.compile_lir(module).map_err(|error| words(&error))?;
    let mut run = |word: i64| {
        let word = Literal::ints(DType::I64, &[1], &[i128::from(word)]).expect("one value per element");
        executable.run_typed(&[("word", (&word).into())])
    };
    let outputs = run(i64::MAX).map_err(|error| words(&error))?;
    let faulted = run(5).map(|_| ()).map_err(|error| error.to_string());
    let after = run(i64::MAX).map(|_| ());
    let expected = "%9 gather: indices is out of range, first at element 5".to_string();
    match (outputs.len(), faulted == Err(expected), after) {
        (1, true, Err(DriverError::Poisoned(_))) => Ok(()),
        (outputs, faulted, after) => Err(format!("{outputs} outputs, fault {faulted}, then {after:?}")),
    }
}

/// Does a half result differ by what a backend may round between the ops of a decomposition, or keep out of a sum?
fn rounds_between(op: &Op, actual: &Literal, expected: &Literal) -> bool {
    let dtype = expected.dtype();
    let roundings = match op.accuracy() {
        _ if op.meaning().decompose.is_some() => 8.0,
        Accuracy::Accumulated { .. } => 1.0,
        _ => return false,
    };
    matches!(dtype, DType::F16 | DType::BF16) && is_near(actual, expected, dtype, roundings)
}

fn is_claimed(capabilities: &Capabilities, sample: &Sample<Op>) -> bool {
    let operands: Vec<_> = sample.operands.iter().map(|(ty, _)| ty).collect();
    let Ok(results) = sample.op.infer(&operands) else { return false };
    let meaning = sample.op.meaning();
    if meaning.view.is_some() {
        return true;
    }
    let dtypes = operands.iter().map(|ty| ty.dtype).chain(results.iter().map(|ty| ty.dtype));
    let computes = |dtype: DType| (capabilities.scalar)(ScalarOp::Add, dtype).is_native();
    if meaning.scalar.is_some() {
        return dtypes.into_iter().all(computes);
    }
    let symbols = Default::default();
    let view = OpView { op: &sample.op, operands: &operands, results: &results, symbols: &symbols };
    (capabilities.claim)(&view).is_native()
}
