//! The executor: LIR on the CPU kernels.

mod attention;
mod backend;
mod capabilities;
#[allow(unsafe_code)]
mod executable;
mod index;
#[allow(unsafe_code)]
mod matmul;
#[allow(unsafe_code)]
mod memory;
#[allow(unsafe_code)]
mod region;
mod rows;
mod steps;
mod tape;
mod view;

pub use backend::CpuBackend;
