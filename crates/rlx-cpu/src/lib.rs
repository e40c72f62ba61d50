//! The RLX CPU backend: kernels and executor.
//!
//! [`simd`] holds the instruction sets behind one small vector trait, [`pool`] the worker
//! threads, [`kernels`] the numeric kernels on plain slices. Kernels know nothing of the
//! compiler's forms; the executor calls them.

pub mod kernels;
pub mod pool;
pub mod simd;
