//! The RLX wgpu driver: devices, memory, pipelines and launch lists through wgpu.
//!
//! A device is opened by [`Wgpu::open`] and used through [`rlx_gpu::GpuDevice`]. Every driver error is a
//! [`GpuError`]: calls run inside error scopes, and what arrives outside of one is kept and returned by the next call.
//! Kernels are printed as WGSL with their buffers on bindings of words; the parameters of all launches of a list lie
//! in one uniform buffer.
#![forbid(unsafe_code)]

mod backend;
mod device;
mod launch;

pub use backend::{WgpuBackend, open};
pub use device::{Memory, Pipeline, Wgpu, available};
pub use rlx_gpu::GpuError;
