//! The RLX CPU backend: kernels and executor.
