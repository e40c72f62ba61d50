//! The shared GPU executor over kernel IR, and the small trait that a driver crate implements.
//!
//! A driver ([`device::GpuDevice`]) allocates, copies, compiles one kernel and runs a list of launches; everything
//! else about running a program on a GPU is here, once.
#![forbid(unsafe_code)]

pub mod backend;
pub mod binding;
pub mod checked;
pub mod device;
pub mod error;
mod executable;
mod stage;

pub use backend::GpuBackend;
pub use device::{GpuDevice, Launch, Limits, Range, ReadBack};
pub use error::GpuError;
