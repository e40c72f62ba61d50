//! Types, ops, graphs, text form, verifier and reference interpreter of RLX.
//!
//! This crate says what a tensor program *is* and what it *means*. It knows no
//! pass, no device and no kernel. Everything else depends on it; it depends on
//! nothing of ours.
#![forbid(unsafe_code)]

pub mod dim;
pub mod dtype;
pub mod literal;
pub mod number;
pub mod shape;

pub use dim::{Bindings, Dim, DimError, Symbol};
pub use dtype::{DType, DTypeClass};
pub use literal::{Literal, LiteralError};
pub use number::Number;
pub use shape::{Shape, TensorType};
