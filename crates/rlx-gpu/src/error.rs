//! The error type of the GPU crates. Nothing a device does makes them panic.

use rlx_kernel::KernelError;
use thiserror::Error;

/// Why something cannot be done on a GPU.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum GpuError {
    /// There is no device to run on.
    #[error("no {api} device: {why}")]
    NoDevice {
        /// The interface that was asked.
        api: &'static str,
        /// What it said.
        why: String,
    },
    /// The device went away; everything on it is gone.
    #[error("the device was lost: {why}; open it again")]
    Lost {
        /// What the driver said.
        why: String,
    },
    /// The device has not enough memory left.
    #[error("the device has no memory left for {bytes} bytes ({what})")]
    OutOfMemory {
        /// Bytes asked for.
        bytes: u64,
        /// What they were for.
        what: String,
    },
    /// A size is above a limit of the device.
    #[error("{what} is {found}, the device allows {limit}")]
    AboveLimit {
        /// What is too large, with its unit.
        what: String,
        /// Its size.
        found: u64,
        /// The limit.
        limit: u64,
    },
    /// The driver rejected a call; this is a fault of ours.
    #[error("the driver rejected {what}: {message}")]
    Rejected {
        /// The call, with the kernel or buffer it was about.
        what: String,
        /// The driver's words.
        message: String,
    },
    /// A kernel cannot be made for the device.
    #[error(transparent)]
    Kernel(#[from] KernelError),
}
