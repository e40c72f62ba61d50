//! Why a graph cannot be transformed.

use rlx_ir::{Diagnostic, Graph, IrError, NodeId, TensorType, nearest_name};

/// The error type of this crate.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AutodiffError {
    /// A name that the graph does not have.
    #[error("the graph has no {what} \"{name}\"{hint}")]
    Unknown {
        /// What was looked for.
        what: &'static str,
        /// The name.
        name: String,
        /// A likely other one, as the end of the message.
        hint: String,
    },
    /// A name that was given twice.
    #[error("{what} \"{name}\" is named twice")]
    Twice {
        /// What it is.
        what: &'static str,
        /// The name.
        name: String,
    },
    /// An input or output without derivatives.
    #[error("{what} \"{name}\" is {ty}, which has no derivative; expected a float or complex dtype")]
    NotDifferentiable {
        /// What it is.
        what: &'static str,
        /// The name.
        name: String,
        /// Its type.
        ty: TensorType,
    },
    /// A gradient of something that is not one real number.
    #[error("output \"{name}\" is {ty}; a gradient needs one real number, use vjp for more")]
    NotScalar {
        /// The name.
        name: String,
        /// Its type.
        ty: TensorType,
    },
    /// An op that cannot be transformed where it must be.
    #[error("{node}: {op} has no {what}: {reason}")]
    Unsupported {
        /// The node, such as `%4 gather`, with its path.
        node: String,
        /// The op's name.
        op: &'static str,
        /// Which transformation is asked for.
        what: &'static str,
        /// What the op says.
        reason: String,
    },
    /// A batch that an input does not have.
    #[error("input \"{name}\" is {ty}: axis {axis} is out of range for its batched form of rank {}", ty.rank() + 1)]
    Axis {
        /// The name.
        name: String,
        /// Its type, without the batch.
        ty: TensorType,
        /// The axis asked for.
        axis: usize,
    },
    /// A rule built something that is not a graph, or the graph was not one.
    #[error("{0}")]
    Invalid(#[from] IrError),
}

impl From<Diagnostic> for AutodiffError {
    fn from(finding: Diagnostic) -> AutodiffError {
        AutodiffError::Invalid(IrError::Invalid(vec![finding]))
    }
}

impl AutodiffError {
    pub(crate) fn unknown<'a>(
        what: &'static str,
        name: &str,
        known: impl IntoIterator<Item = &'a str>,
    ) -> AutodiffError {
        let hint = nearest_name(name, known).map(|other| format!("; did you mean \"{other}\"?"));
        AutodiffError::Unknown { what, name: name.into(), hint: hint.unwrap_or_default() }
    }

    pub(crate) fn unsupported(graph: &Graph, id: NodeId, what: &'static str, reason: &str) -> AutodiffError {
        let node = graph.node(id);
        let path = &node.origin.path;
        let name = if path.is_empty() { format!("%{}", id.0) } else { format!("%{} ({path})", id.0) };
        AutodiffError::Unsupported { node: name, op: node.op.def().name, what, reason: reason.into() }
    }
}
