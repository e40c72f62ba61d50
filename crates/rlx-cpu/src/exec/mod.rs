//! The executor: LIR on the CPU kernels.

mod attention;
mod backend;
mod bind;
mod capabilities;
mod complex;
#[allow(unsafe_code)]
mod conv;
mod copy;
mod custom;
#[allow(unsafe_code)]
mod executable;
mod fft;
mod fold;
mod grouped;
mod index;
mod lines;
#[allow(unsafe_code)]
mod matmul;
mod matrices;
#[allow(unsafe_code)]
mod memory;
mod pool;
#[allow(unsafe_code)]
mod region;
mod rope;
mod rows;
mod select;
mod steps;
mod storage;
mod tape;
mod times;
mod view;
mod work;

pub use backend::CpuBackend;
