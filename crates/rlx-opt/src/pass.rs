//! What a pass is.

use crate::capabilities::Capabilities;
use crate::options::CompileOptions;
use crate::rewrite::Rewritten;
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
    /// The graph after the pass.
    ///
    /// # Errors
    /// A graph that the pass refuses; never a panic on a verified graph.
    fn run(&self, graph: Graph, context: &PassContext<'_>) -> Result<Rewritten, OptError>;
}
