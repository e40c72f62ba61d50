//! What goes wrong between a user and a session.

use rlx_driver::DriverError;
use rlx_ir::{Diagnostic, IrError, LiteralError};
use rlx_opt::OptError;
use rlx_weights::WeightError;
use std::path::PathBuf;

/// The error type of sessions and compiled graphs.
#[derive(Debug, thiserror::Error)]
pub enum RuntimeError {
    /// What compiling or the device reports.
    #[error(transparent)]
    Driver(#[from] DriverError),
    /// What a weight file or registry reports.
    #[error(transparent)]
    Weight(#[from] WeightError),
    /// Weights that are missing or do not fit, all findings at once.
    #[error("{source_name} does not fit the graph:\n{}", .findings.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n"))]
    Weights {
        /// The file or registry.
        source_name: String,
        /// One finding per param.
        findings: Vec<Diagnostic>,
    },
    /// An option that the device does not have.
    #[error("option {option}: {reason}")]
    Option {
        /// The option.
        option: &'static str,
        /// Why.
        reason: String,
    },
    /// The folder of the compile cache cannot be used.
    #[error("compile cache {}: cannot {action}: {source}", .path.display())]
    Cache {
        /// File or folder.
        path: PathBuf,
        /// What was tried.
        action: &'static str,
        /// What the system said.
        source: std::io::Error,
    },
}

impl From<OptError> for RuntimeError {
    fn from(error: OptError) -> RuntimeError {
        RuntimeError::Driver(DriverError::Compile(error))
    }
}

impl From<LiteralError> for RuntimeError {
    fn from(error: LiteralError) -> RuntimeError {
        RuntimeError::Driver(DriverError::Literal(error))
    }
}

impl From<IrError> for RuntimeError {
    fn from(error: IrError) -> RuntimeError {
        RuntimeError::from(OptError::Invalid(error))
    }
}
