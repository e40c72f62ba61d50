//! Graphs made ready for a target, without lowering: what graph backends, tools
//! and reports use.

use crate::capabilities::Capabilities;
use crate::options::CompileOptions;
use crate::pass::{OptError, Pass, PassContext, run_pass};
use crate::passes::DecomposeUnclaimed;
use crate::passes::decompose_unclaimed::survey;
use crate::pipeline::Pipeline;
use crate::report::{CompileReport, DispatchReport};
use rlx_ir::Graph;

/// Replaces what the target does not run by definitions, and changes nothing else.
///
/// # Errors
/// An invalid graph; every node that the target cannot run.
pub fn legalize_for_backend(
    graph: Graph,
    capabilities: &Capabilities,
    options: &CompileOptions,
) -> Result<Graph, OptError> {
    rlx_ir::verify::verify(&graph)?;
    Ok(run_pass(&DecomposeUnclaimed, graph, &PassContext { capabilities, options })?.graph)
}

/// Runs every graph pass of the standard pipeline.
///
/// # Errors
/// As [`crate::compile`], but for what lowering refuses.
pub fn rewrite_for_backend(
    graph: Graph,
    capabilities: &Capabilities,
    options: &CompileOptions,
) -> Result<Graph, OptError> {
    rlx_ir::verify::verify(&graph)?;
    Pipeline::standard().run(graph, &PassContext { capabilities, options }, &mut |_, _| {})
}

/// As [`rewrite_for_backend`], with the dispatch report, which is there when
/// nodes are refused as well.
///
/// # Errors
/// As [`rewrite_for_backend`], in the first part of the result.
pub fn prepare_graph_for_backend_with_report(
    graph: Graph,
    capabilities: &Capabilities,
    options: &CompileOptions,
) -> (Result<Graph, OptError>, DispatchReport) {
    let context = PassContext { capabilities, options };
    let mut report = CompileReport::new(&graph, capabilities.name);
    let mut current = graph;
    if let Err(error) = rlx_ir::verify::verify(&current) {
        return (Err(error.into()), report.dispatch());
    }
    for &pass in Pipeline::standard().passes().iter().filter(|pass| pass.wanted(options)) {
        // The survey sees the graph that the refusing pass saw.
        let refusable = (pass.name() == DecomposeUnclaimed.name()).then(|| current.clone());
        match run_pass(pass, current, &context) {
            Ok(rewritten) => {
                report.follow(pass, &rewritten);
                current = rewritten.graph;
            }
            Err(error) => {
                if let Some(Ok(survey)) = refusable.map(|graph| survey(&graph, &context)) {
                    report.follow(pass, &survey.rewritten);
                }
                return (Err(error), report.dispatch());
            }
        }
    }
    (Ok(current), report.dispatch())
}

/// The refusal of a graph in words, a line per node.
pub fn format_legalize_error(error: &OptError) -> String {
    error.to_string()
}
