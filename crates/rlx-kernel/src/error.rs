//! The error type of this crate. Every message names the kernel.

use thiserror::Error;

/// Why a kernel cannot be checked, run or printed.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum KernelError {
    /// The kernel breaks rules of the IR; all of them are listed.
    #[error("kernel `{kernel}` is not well formed:\n  {}", .problems.join("\n  "))]
    Malformed {
        /// The kernel's name.
        kernel: String,
        /// One line for each broken rule.
        problems: Vec<String>,
    },
    /// A type, operation or size that the target language or device does not have.
    #[error("kernel `{kernel}` needs {what}, which {target} does not have; {hint}")]
    Unsupported {
        /// The kernel's name.
        kernel: String,
        /// What is missing.
        what: String,
        /// The language or device.
        target: String,
        /// What the caller can do about it.
        hint: String,
    },
    /// A launch does not fit the kernel.
    #[error("kernel `{kernel}`: {what}: found {found}, expected {expected}")]
    Launch {
        /// The kernel's name.
        kernel: String,
        /// What does not fit.
        what: String,
        /// The value given.
        found: u64,
        /// The value needed.
        expected: u64,
    },
}
