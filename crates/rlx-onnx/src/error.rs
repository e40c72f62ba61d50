//! What goes wrong between an ONNX file and its results.

use rlx_ir::{Diagnostic, IrError, LiteralError};
use rlx_runtime::RuntimeError;
use rlx_weights::WeightError;
use std::fmt;

/// A node that this importer does not take.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Unsupported {
    /// Domain of the op; empty for ONNX's own.
    pub domain: String,
    /// Type of the op.
    pub op: String,
    /// Version of the domain's opset that the model imports.
    pub opset: i64,
    /// The node: its name, or its first output.
    pub node: String,
    /// Why.
    pub reason: String,
}

impl fmt::Display for Unsupported {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let domain = if self.domain.is_empty() { "ai.onnx" } else { &self.domain };
        write!(f, "node {:?}: {}-{} of {domain}: {}", self.node, self.op, self.opset, self.reason)
    }
}

/// The error type of this crate.
#[derive(Debug, thiserror::Error)]
pub enum OnnxError {
    /// A file that cannot be read, or is no ONNX file.
    #[error("{file}: {reason}")]
    File {
        /// The file.
        file: String,
        /// What is wrong with it.
        reason: String,
    },
    /// A model that breaks the rules of ONNX.
    #[error("{subject}: {message}")]
    Model {
        /// Node, tensor or input concerned.
        subject: String,
        /// What was found and what was expected.
        message: String,
    },
    /// Nodes that are not supported.
    #[error("{}", .0.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n"))]
    Unsupported(Vec<Unsupported>),
    /// A graph that cannot become a model: everything that ONNX has no words for.
    #[error("this graph cannot become an ONNX model:\n{}", .0.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n"))]
    Export(Vec<Diagnostic>),
    /// A node whose meaning depends on values that are not known before a run.
    #[error("node {node:?}: {op} needs the value of {value:?} to be known; {hint}")]
    Value {
        /// The node.
        node: String,
        /// Its op.
        op: String,
        /// The tensor whose value decides.
        value: String,
        /// What would mend it.
        hint: &'static str,
    },
    /// Inputs that are missing, unknown or of the wrong type; all findings at once.
    #[error("{}", .0.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n"))]
    Inputs(Vec<Diagnostic>),
    /// What compiling or running reports.
    #[error(transparent)]
    Runtime(#[from] RuntimeError),
    /// What a graph reports.
    #[error(transparent)]
    Ir(#[from] IrError),
    /// What the weights report.
    #[error(transparent)]
    Weight(#[from] WeightError),
}

impl OnnxError {
    pub(crate) fn model(subject: impl Into<String>, message: impl Into<String>) -> OnnxError {
        OnnxError::Model { subject: subject.into(), message: message.into() }
    }

    pub(crate) fn file(file: impl fmt::Display, reason: impl Into<String>) -> OnnxError {
        OnnxError::File { file: file.to_string(), reason: reason.into() }
    }
}

impl From<LiteralError> for OnnxError {
    fn from(error: LiteralError) -> OnnxError {
        OnnxError::Runtime(error.into())
    }
}
