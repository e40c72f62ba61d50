//! Types, ops, graphs, text form, verifier and reference interpreter of RLX.
//!
//! This crate says what a tensor program *is* and what it *means*. It knows no
//! pass, no device and no kernel. Everything else depends on it; it depends on
//! nothing of ours.
#![forbid(unsafe_code)]

pub mod accuracy;
pub mod attr;
pub mod block_format;
pub mod body;
mod builder;
pub mod custom;
pub mod derive;
pub mod diagnostic;
pub mod dim;
pub mod dtype;
mod einsum;
mod gradient;
pub mod graph;
pub mod hir;
pub mod interpret;
pub mod layout;
pub mod linear_algebra;
pub mod lir;
pub mod literal;
pub mod mir;
pub mod number;
pub mod op;
// Op docs write shapes as [M, K], which rustdoc would take for links.
#[allow(rustdoc::broken_intra_doc_links)]
pub mod ops;
pub mod reverse;
pub mod rope_tables;
pub mod sample;
pub mod scalar;
mod scalar_derivative;
pub mod shape;
pub mod special;
mod tensor_ref;
pub mod text;
pub mod value_range;
pub mod verify;

pub use accuracy::Accuracy;
pub use body::Body;
pub use custom::{CustomHandle, CustomOp, CustomRegistry};
pub use diagnostic::{Diagnostic, IrError, nearest_name};
pub use dim::{Bindings, Dim, DimAlgebra, DimError, DimJoin, Symbol};
pub use dtype::{DType, DTypeClass};
pub use graph::{Graph, Node, NodeId, Origin, Output, SymbolBounds, Value};
pub use layout::Layout;
pub use literal::{Literal, LiteralError};
pub use mir::GraphModule;
pub use number::Number;
pub use ops::{Op, OpKind};
pub use scalar::{ScalarKind, ScalarOp, ScalarProgram};
pub use shape::{Shape, TensorType};
pub use tensor_ref::TensorRef;
pub use value_range::{UsedPart, ValueRange, ValueWindow};
