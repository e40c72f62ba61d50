//! The one pipeline: HIR or graph in, verified LIR out.

use crate::capabilities::Capabilities;
use crate::lower::{Placement, lower_to_lir};
use crate::options::CompileOptions;
use crate::pass::{OptError, Pass, PassContext};
use crate::passes::{DecomposeUnclaimed, EliminateDeadCode};
use rlx_ir::lir::VerifiedLir;
use rlx_ir::{Graph, IrError};

/// Every graph pass, in the order of the pipeline. A name may occur more than once.
const PASSES: &[&dyn Pass] = &[&EliminateDeadCode, &DecomposeUnclaimed, &EliminateDeadCode];

/// The pass called `name`.
///
/// # Errors
/// [`OptError::NoSuchPass`].
pub fn pass(name: &str) -> Result<&'static dyn Pass, OptError> {
    let found = PASSES.iter().find(|pass| pass.name() == name);
    found.copied().ok_or_else(|| OptError::NoSuchPass(name.into()))
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
    rlx_ir::verify::verify(&graph)?;
    let context = PassContext { capabilities, options };
    let graph = run_passes(graph, &context)?;
    let lowered = lower_to_lir(&graph, &context)?;
    let module = VerifiedLir::new(lowered.module).map_err(|error| OptError::Broken {
        pass: "lower_to_lir",
        error: Box::new(IrError::Invalid(
            error.0.into_iter().map(|finding| rlx_ir::Diagnostic::new("lir", finding)).collect(),
        )),
    })?;
    Ok(Compiled { module, graph, placements: lowered.placements })
}

fn run_passes(mut graph: Graph, context: &PassContext<'_>) -> Result<Graph, OptError> {
    for pass in PASSES {
        if pass.name() == "eliminate_dead_code" && !context.options.dead_code_elimination {
            continue;
        }
        graph = pass.run(graph, context)?.graph;
        if context.options.verify_each || cfg!(debug_assertions) {
            rlx_ir::verify::verify(&graph)
                .map_err(|error| OptError::Broken { pass: pass.name(), error: Box::new(error) })?;
        }
    }
    Ok(graph)
}
