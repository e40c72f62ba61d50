//! What can go wrong in training.

use rlx_autodiff::AutodiffError;
use rlx_ir::{Diagnostic, IrError, LiteralError};
use rlx_models::ModelError;
use rlx_runtime::RuntimeError;
use rlx_weights::WeightError;
use std::path::PathBuf;

/// Why training cannot start or go on.
#[derive(Debug, thiserror::Error)]
pub enum TrainError {
    /// A setting that makes no sense.
    #[error("{setting} is {found}; expected {expected}")]
    Setting {
        /// Its name in the configuration.
        setting: &'static str,
        /// Its value.
        found: String,
        /// What it may be.
        expected: String,
    },
    /// A configuration file that does not parse.
    #[error("{file}: {message}")]
    Config {
        /// The file.
        file: String,
        /// What the parser found, and where.
        message: String,
    },
    /// Data that cannot be trained on.
    #[error("{source_name}: {message}")]
    Data {
        /// File or array.
        source_name: String,
        /// What is wrong with it.
        message: String,
    },
    /// A file that cannot be read or written.
    #[error("{}: {source}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// What the system says.
        source: std::io::Error,
    },
    /// A checkpoint of another run.
    #[error("{folder}: {message}; give another folder, or remove it to start anew")]
    Checkpoint {
        /// Its folder.
        folder: String,
        /// What does not fit.
        message: String,
    },
    /// A loss that is no number.
    #[error("the loss of step {step} is {loss}: lower the learning rate ({rate}) or clip gradients")]
    Diverged {
        /// The step, from 1.
        step: u64,
        /// The loss.
        loss: f32,
        /// The learning rate of that step.
        rate: f64,
    },
    /// A gradient that cannot be built.
    #[error(transparent)]
    Autodiff(#[from] AutodiffError),
    /// A step that is no legal graph.
    #[error(transparent)]
    Graph(#[from] IrError),
    /// A node that cannot be copied into the step.
    #[error("the training step: {0}")]
    Node(Diagnostic),
    /// Numbers that do not make a tensor.
    #[error(transparent)]
    Literal(#[from] LiteralError),
    /// A model that cannot be built.
    #[error(transparent)]
    Model(#[from] ModelError),
    /// A step that does not compile or run.
    #[error(transparent)]
    Runtime(#[from] RuntimeError),
    /// Weights that cannot be read or written.
    #[error(transparent)]
    Weights(#[from] WeightError),
}

impl TrainError {
    pub(crate) fn setting(
        setting: &'static str,
        found: impl ToString,
        expected: impl Into<String>,
    ) -> TrainError {
        TrainError::Setting { setting, found: found.to_string(), expected: expected.into() }
    }

    pub(crate) fn data(source_name: impl Into<String>, message: impl Into<String>) -> TrainError {
        TrainError::Data { source_name: source_name.into(), message: message.into() }
    }

    pub(crate) fn file(path: impl Into<PathBuf>) -> impl FnOnce(std::io::Error) -> TrainError {
        let path = path.into();
        move |source| TrainError::File { path, source }
    }
}

impl From<Diagnostic> for TrainError {
    fn from(diagnostic: Diagnostic) -> TrainError {
        TrainError::Node(diagnostic)
    }
}
