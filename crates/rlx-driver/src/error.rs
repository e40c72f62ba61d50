//! What goes wrong between a caller and a device.

use crate::memory::MemoryUse;
use rlx_ir::lir::{FaultWords, LirError, PlanError};
use rlx_ir::{DType, Diagnostic, DimError, LiteralError};
use rlx_opt::OptError;

/// The error type of drivers and backends.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DriverError {
    /// A device name that does not parse.
    #[error(
        "there is no device {0:?}; the kinds are cpu, gpu, cuda, rocm, metal, mlx, tpu, each with an ordinal such as cuda:1"
    )]
    NoSuchDevice(String),
    /// A device that this machine or build lacks.
    #[error("device {device} is not available: {reason}")]
    Unavailable {
        /// The device.
        device: String,
        /// Why.
        reason: String,
    },
    /// The graph does not compile.
    #[error(transparent)]
    Compile(#[from] OptError),
    /// The module does not hold for the extents of a run.
    #[error("the compiled module does not take these extents: {0}")]
    Lir(#[from] LirError),
    /// No arena layout.
    #[error(transparent)]
    Plan(#[from] PlanError),
    /// Values that do not make a tensor.
    #[error(transparent)]
    Literal(#[from] LiteralError),
    /// An extent that does not evaluate.
    #[error(transparent)]
    Dim(#[from] DimError),
    /// Inputs that do not fit, all findings at once.
    #[error("{}", .0.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n"))]
    Inputs(Vec<Diagnostic>),
    /// Params that are not bound yet.
    #[error("params are not bound: {}; bind them before the first run", .0.join(", "))]
    Unbound(Vec<String>),
    /// A name that the executable does not have.
    #[error("there is no {what} {name:?}; the names are: {}", .known.join(", "))]
    NoSuchName {
        /// `param`, `input`, `state` or `output`.
        what: &'static str,
        /// What was asked for.
        name: String,
        /// What there is.
        known: Vec<String>,
    },
    /// Bytes of the wrong type or size for a named tensor.
    #[error("{what} {name:?}: expected {expected}, found {found}")]
    Mismatch {
        /// `param`, `input`, `state` or `output`.
        what: &'static str,
        /// Its name.
        name: String,
        /// Type or size.
        expected: String,
        /// Type or size.
        found: String,
    },
    /// A conversion between host dtypes that has no meaning.
    #[error(
        "cannot convert {from} to {to}: one of them packs several elements into a byte or block; dequantize it first"
    )]
    Conversion {
        /// Source dtype.
        from: DType,
        /// Target dtype.
        to: DType,
    },
    /// A fault that only values show, such as an index out of range.
    #[error("{node}: {fault}")]
    Fault {
        /// The step.
        node: String,
        /// What happened.
        fault: String,
    },
    /// State that a faulted run touched.
    #[error("state {0:?} was touched by a run that failed; reset it first")]
    Poisoned(String),
    /// More memory than the executable may use.
    #[error(
        "the graph needs {needed}, more than the budget of {budget} bytes; raise the budget, or use smaller extents or weights"
    )]
    OverBudget {
        /// What it would take.
        needed: MemoryUse,
        /// What it may take.
        budget: u64,
    },
    /// Memory that cannot be had.
    #[error("cannot allocate {bytes} bytes for {what}")]
    OutOfMemory {
        /// For what.
        what: &'static str,
        /// How many bytes.
        bytes: usize,
    },
    /// What a device driver reports.
    #[error("{device}: {message}")]
    Device {
        /// The device.
        device: String,
        /// The driver's message.
        message: String,
    },
}

impl DriverError {
    /// The fault that the words of a run tell, if one; `bytes` are those of the words.
    ///
    /// # Errors
    /// [`DriverError::Fault`] with the node, the operand and the position.
    pub fn from_words(words: &FaultWords, bytes: &[u8]) -> Result<(), DriverError> {
        let Some((check, position)) = words.first(bytes) else { return Ok(()) };
        let fault = format!("{} is out of range, first at element {position}", check.operand);
        Err(DriverError::Fault { node: check.node.clone(), fault })
    }
}
