//! Devices, arenas, typed host I/O and the backend traits of RLX.
//!
//! A backend compiles LIR into an [`ExecutableGraph`]. Everything that every
//! backend would otherwise write again stands here once: names and ordinals of
//! devices, conversion of host data, checks of what a caller feeds, host arenas.
//! No kernel, no pass.
#![forbid(unsafe_code)]

pub mod arena;
mod backend;
mod bytes;
mod device;
mod error;
mod executable;
mod feeds;
pub mod host;
mod inputs;
mod memory;
mod weights;

pub use backend::Backend;
pub use bytes::SharedBytes;
pub use device::{Device, DeviceInfo, DeviceKind};
pub use error::DriverError;
pub use executable::{
    ActiveExtent, ExecutableGraph, ExpertResidency, HostValues, Outputs, Pipelined, RawOutput,
    ResidencyStats, SlotOutput, StateHandles, StepTime, Timing,
};
pub use feeds::Feeds;
pub use host::check_bytes;
pub use inputs::{match_inputs, match_slots};
pub use memory::MemoryUse;
pub use rlx_ir::TensorRef;
pub use weights::Weights;
