//! The RLX CPU backend: kernels and executor.
//!
//! [`simd`] holds the instruction sets behind one small vector trait, [`pool`] the worker
//! threads, [`kernels`] the numeric kernels on plain slices. Kernels know nothing of the
//! compiler's forms; the executor calls them.
#![deny(unsafe_code)]

pub mod exec;
pub mod kernels;
#[allow(unsafe_code)]
pub mod pool;
#[allow(unsafe_code)]
pub mod simd;
