//! The front door of RLX: sessions, compiled graphs, the compile cache.
//!
//! A [`Session`] is one device with its options and its cache; it turns a graph,
//! a module of blocks or a module at any stage into a [`CompiledGraph`], which
//! takes weights by reference and runs. Nothing here is process-global: two
//! sessions share nothing, clones of a session share everything. No pass and no
//! kernel stands here.
#![forbid(unsafe_code)]

mod cache;
mod compiled;
mod devices;
mod error;
mod memory;
mod session;
mod weights;

pub use cache::CacheStatistics;
pub use compiled::{Compilation, CompiledGraph};
pub use devices::{DeviceStatus, devices};
pub use error::RuntimeError;
pub use memory::{largest_bindings, smallest_bindings};
pub use session::{Session, SessionOptions};
pub use weights::BoundWeights;

pub use rlx_driver::{
    ActiveExtent, Device, DeviceInfo, DeviceKind, DriverError, ExecutableGraph, ExpertResidency, MemoryUse,
    Outputs, Pipelined, RawOutput, ResidencyStats, SharedBytes, SlotOutput, StateHandles, StepTime,
    TensorRef, Timing,
};
pub use rlx_opt::{Checks, CompileOptions, CompileReport, KernelDispatch, PrecisionPolicy};
