//! The one pipeline: HIR or graph in, verified LIR out.
//!
//! A pipeline is a list of pass names, and that is its text form. The standard
//! one serves every entry and every backend; others are for tests and for
//! finding out which pass did something.

use crate::capabilities::Capabilities;
use crate::lower::{Placement, lower_to_lir};
use crate::options::CompileOptions;
use crate::pass::{OptError, Pass, PassContext, run_pass};
use crate::passes::ALL;
use crate::report::CompileReport;
use crate::rewrite::{Remark, Rewritten};
use rlx_ir::lir::{BindingCheck, FaultCheck, FaultWords, LirModule, VerifiedLir};
use rlx_ir::{Diagnostic, Graph, IrError};
use std::collections::HashSet;
use std::fmt;
use std::str::FromStr;

/// The passes of the standard pipeline, in order.
pub const STANDARD: &str = "assign_precision, simplify_algebra, fold_constants, lower_control_flow, \
    merge_common_subexpressions, eliminate_dead_code, fuse_named, insert_checks, decompose_unclaimed, simplify_algebra, fold_constants, \
    merge_common_subexpressions, eliminate_dead_code, fuse_elementwise, eliminate_dead_code";

/// The pass called `name`.
///
/// # Errors
/// [`OptError::NoSuchPass`].
pub fn pass(name: &str) -> Result<&'static dyn Pass, OptError> {
    let found = ALL.iter().find(|pass| pass.name() == name);
    found.copied().ok_or_else(|| OptError::NoSuchPass(name.into()))
}

/// A list of passes. Prints and parses as their names with commas between them.
#[derive(Clone)]
pub struct Pipeline {
    passes: Vec<&'static dyn Pass>,
}

impl FromStr for Pipeline {
    type Err = OptError;
    fn from_str(text: &str) -> Result<Pipeline, OptError> {
        let names = text.split(',').map(str::trim).filter(|name| !name.is_empty());
        Ok(Pipeline { passes: names.map(pass).collect::<Result<_, _>>()? })
    }
}

impl fmt::Display for Pipeline {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.passes.iter().map(|pass| pass.name()).collect::<Vec<_>>().join(", "))
    }
}

impl fmt::Debug for Pipeline {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Pipeline({self})")
    }
}

impl Pipeline {
    /// The standard pipeline.
    pub fn standard() -> Pipeline {
        STANDARD.parse().expect("the standard pipeline names passes of ours")
    }

    /// These passes, which need not be of ours.
    pub fn of(passes: impl IntoIterator<Item = &'static dyn Pass>) -> Pipeline {
        Pipeline { passes: passes.into_iter().collect() }
    }

    /// The passes, in order.
    pub fn passes(&self) -> &[&'static dyn Pass] {
        &self.passes
    }

    /// The first `count` passes.
    pub fn prefix(&self, count: usize) -> Pipeline {
        Pipeline { passes: self.passes[..count.min(self.passes.len())].to_vec() }
    }

    /// Runs every pass that the options want. `watch` sees each pass, the graph
    /// before it and what it gave.
    ///
    /// # Errors
    /// What a pass refuses, or [`OptError::Broken`] for an invalid result.
    pub fn run(
        &self,
        mut graph: Graph,
        context: &PassContext<'_>,
        watch: &mut dyn FnMut(&'static dyn Pass, &Rewritten),
    ) -> Result<Graph, OptError> {
        for &pass in self.passes.iter().filter(|pass| pass.wanted(context.options)) {
            let rewritten = run_pass(pass, graph, context)?;
            if context.options.verify_each || cfg!(debug_assertions) {
                rlx_ir::verify::verify(&rewritten.graph)
                    .map_err(|error| OptError::Broken { pass: pass.name(), error: Box::new(error) })?;
            }
            watch(pass, &rewritten);
            graph = rewritten.graph;
        }
        Ok(graph)
    }
}

/// A compiled module and the graph that it was lowered from.
#[derive(Clone, Debug)]
pub struct Compiled {
    /// What executors run.
    pub module: VerifiedLir,
    /// The graph after the last graph pass.
    pub graph: Graph,
    /// What became of every node of `graph`.
    pub placements: Vec<Placement>,
    /// What became of every node of the graph that was given.
    pub report: CompileReport,
}

/// Compiles `graph` for a target.
///
/// # Errors
/// An invalid graph, an option that cannot be honoured, or nodes that the
/// target cannot run, all named.
pub fn compile(
    graph: Graph,
    capabilities: &Capabilities,
    options: &CompileOptions,
) -> Result<Compiled, OptError> {
    compile_with(graph, capabilities, options, &Pipeline::standard(), &mut |_, _| {})
}

/// Compiles `graph` with a pipeline of one's own; `watch` sees every pass and
/// what it gave.
///
/// # Errors
/// As [`compile`]. A pipeline without `decompose_unclaimed` makes steps that
/// the target may refuse.
pub fn compile_with(
    graph: Graph,
    capabilities: &Capabilities,
    options: &CompileOptions,
    pipeline: &Pipeline,
    watch: &mut dyn FnMut(&'static dyn Pass, &Rewritten),
) -> Result<Compiled, OptError> {
    rlx_ir::verify::verify(&graph)?;
    let context = PassContext { capabilities, options };
    let mut report = CompileReport::new(&graph, capabilities.name);
    // What a definition is built of may demand less of its extents than the op that it defines.
    let mut checks = vec![];
    definition_checks(&graph, &mut checks);
    let mut words: Vec<FaultCheck> = vec![];
    let graph = pipeline.run(graph, &context, &mut |pass, rewritten| {
        words.extend(rewritten.notes.iter().filter_map(|note| match &note.remark {
            Remark::Checked(check) => Some(check.clone()),
            _ => None,
        }));
        report.follow(pass, rewritten);
        watch(pass, rewritten);
    })?;
    let mut lowered = lower_to_lir(&graph, &context)?;
    report.place(&lowered.placements);
    set_faults(&mut lowered.module, words);
    let mut known = HashSet::new();
    let all = checks.into_iter().chain(std::mem::take(&mut lowered.module.checks));
    lowered.module.checks =
        all.filter(|check| known.insert((check.op.clone(), check.operands.clone()))).collect();
    let module = VerifiedLir::new(lowered.module).map_err(|error| {
        let findings = error.0.into_iter().map(|finding| Diagnostic::new("lir", finding)).collect();
        OptError::Broken { pass: "lower_to_lir", error: Box::new(IrError::Invalid(findings)) }
    })?;
    Ok(Compiled { module, graph, placements: lowered.placements, report })
}

/// What the extents of ops with definitions must keep to, bodies included.
fn definition_checks(graph: &Graph, checks: &mut Vec<BindingCheck>) {
    for (id, node) in graph.iter() {
        if node.op.meaning().decompose.is_some() {
            checks.extend(BindingCheck::of(graph, id));
        }
        node.op.bodies().into_iter().for_each(|(_, body)| definition_checks(body, checks));
    }
}

/// Makes the last output, which `insert_checks` added, the fault words of the module.
fn set_faults(module: &mut LirModule, checks: Vec<FaultCheck>) {
    if !checks.is_empty() {
        module.io.faults = module.io.outputs.pop().map(|entry| Box::new(FaultWords { entry, checks }));
    }
}
