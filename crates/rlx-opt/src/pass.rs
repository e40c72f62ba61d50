//! What a pass is.

use crate::capabilities::Capabilities;
use crate::options::CompileOptions;
use crate::rewrite::{Note, Rewritten};
use rlx_ir::lir::node_origin;
use rlx_ir::{Diagnostic, Graph, IrError, nearest_name};

/// Why a graph does not compile.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum OptError {
    /// The graph is not well formed.
    #[error(transparent)]
    Invalid(#[from] IrError),
    /// A pass broke the graph: a bug of ours, caught before it could do harm.
    #[error("pass {pass} made an invalid graph: {error}; this is a fault of the compiler, please report it")]
    Broken {
        /// The pass.
        pass: &'static str,
        /// What the verifier found.
        error: Box<IrError>,
    },
    /// Nodes that the backend cannot run, all of them.
    #[error("{backend} cannot run this graph:\n{}", .nodes.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n"))]
    Unsupported {
        /// The backend.
        backend: &'static str,
        /// Each node with the reason.
        nodes: Vec<Diagnostic>,
    },
    /// An option that cannot be honoured.
    #[error("option {option}: {reason}")]
    Option {
        /// The option.
        option: &'static str,
        /// Why.
        reason: String,
    },
    /// A pipeline text with an unknown pass.
    #[error("there is no pass {0}{near}", near = near_pass(.0))]
    NoSuchPass(String),
}

/// The pass that was meant, where one is close.
fn near_pass(name: &str) -> String {
    match nearest_name(name, crate::passes::ALL.iter().map(|pass| pass.name())) {
        Some(known) => format!("; did you mean {known}?"),
        None => String::new(),
    }
}

/// What a pass may look at.
pub struct PassContext<'a> {
    /// The target.
    pub capabilities: &'a Capabilities,
    /// The caller's options.
    pub options: &'a CompileOptions,
}

/// A graph-to-graph pass.
pub trait Pass: Sync {
    /// Name in the pipeline text; also the file's.
    fn name(&self) -> &'static str;
    /// Do the options ask for the pass?
    fn wanted(&self, _options: &CompileOptions) -> bool {
        true
    }
    /// Does the pass look into bodies itself? Else it is run on each of them as on a graph of its own.
    fn enters_bodies(&self) -> bool {
        false
    }
    /// The graph after the pass.
    ///
    /// # Errors
    /// A graph that the pass refuses; never a panic on a verified graph.
    fn run(&self, graph: Graph, context: &PassContext<'_>) -> Result<Rewritten, OptError>;
}

/// Runs `pass` on the bodies in `graph`, inner ones first, and then on `graph`.
///
/// # Errors
/// What the pass refuses; what it refuses for the target, from all bodies at once.
pub fn run_pass(pass: &dyn Pass, graph: Graph, context: &PassContext<'_>) -> Result<Rewritten, OptError> {
    let mut graph = graph;
    let (mut refused, mut notes) = (vec![], vec![]);
    let with_bodies = graph.iter().filter(|(_, node)| !pass.enters_bodies() && !node.op.bodies().is_empty());
    for id in with_bodies.map(|(id, _)| id).collect::<Vec<_>>() {
        let (mut bodies, symbols) = (vec![], graph.symbols().clone());
        for (name, body) in graph.node(id).op.bodies() {
            let mut body = Graph::clone(body);
            for (symbol, bounds) in
                symbols.iter().filter(|(symbol, _)| body.symbols().contains_key(*symbol)).collect::<Vec<_>>()
            {
                body.bound_symbol(symbol, *bounds);
            }
            match run_pass(pass, body, context) {
                Ok(rewritten) => {
                    notes.extend(
                        rewritten.notes.into_iter().map(|note| Note { node: id, remark: note.remark }),
                    );
                    bodies.push(rewritten.graph);
                }
                Err(OptError::Unsupported { mut nodes, .. }) => {
                    let path = format!("{} {name}", node_origin(&graph, id));
                    nodes.iter_mut().for_each(|node| node.subject = format!("{path}: {}", node.subject));
                    refused.append(&mut nodes);
                }
                Err(error) => return Err(error),
            }
        }
        if refused.is_empty() {
            graph.set_bodies(id, bodies);
        }
    }
    match pass.run(graph, context) {
        Err(OptError::Unsupported { nodes, .. }) => refused.extend(nodes),
        Ok(mut rewritten) if refused.is_empty() => {
            rewritten.notes.splice(..0, notes);
            return Ok(rewritten);
        }
        other => drop(other?),
    }
    Err(OptError::Unsupported { backend: context.capabilities.name, nodes: refused })
}
