//! The numeric kernels of the CPU, on plain slices and strided descriptors.
//!
//! Kernels take run-time extents, allocate nothing (scratch comes from the caller, each kernel
//! states its size), run on the threads of the [`Context`]'s pool, and compute the same bits for
//! any number of threads. Extents of zero are legal everywhere. Operands are checked once, at
//! the entry; a view that leaves its slice is an error value, never undefined behaviour.
//!
//! Kernels know nothing of graphs, dtypes as values or plans.

#[allow(unsafe_code)]
pub mod attention;
pub mod combine;
mod context;
pub mod conv;
pub mod convert;
#[allow(unsafe_code)]
pub mod copy;
mod error;
pub mod fft;
pub mod fold;
#[allow(unsafe_code)]
pub mod gemm;
pub mod map;
pub mod math;
#[allow(unsafe_code)]
mod matrix;
pub mod order;
pub mod pool;
pub mod reduce;
pub mod rows;
pub mod scan;
#[cfg(test)]
mod testing;
#[allow(unsafe_code)]
mod transpose;

pub use context::Context;
pub use error::KernelError;
pub use matrix::{Matrix, MatrixMut, Plain, cast_bytes, cast_bytes_mut};
