//! ONNX models: import into graphs, execution, export.
//!
//! [`Model`] is a file that was read; [`import`] makes one graph of it; [`OnnxProgram`] runs it, in several stages where
//! the values of tensors decide the shapes of others. Every op has one rule, in the file of its family under `rules`.
//!
//! Files are untrusted: no file makes this crate panic, hang or allocate on the word of a length field. What is not
//! supported is refused by name; nothing is ignored. No kernel stands here: an op that RLX lacks is added to RLX.
#![forbid(unsafe_code)]

mod context;
mod dims;
mod error;
mod export;
#[cfg(test)]
mod extent_tests;
mod host;
mod inputs;
mod model;
mod names;
mod node;
mod numerals;
mod order;
mod program;
#[rustfmt::skip]
pub mod proto;
mod ratios;
mod rules;
#[cfg(test)]
mod single;
mod stage;
mod tensor;
mod value;

pub use error::{OnnxError, Unsupported};
pub use export::{
    ExportOptions, Exported, ExportedData, ExternalData, OLDEST_EXPORT_OPSET, export, exports_whole,
};
pub use host::{HostValue, Strings};
pub use inputs::{Declared, DeclaredDim, DeclaredKind, Extents};
pub use model::{Model, NEWEST_OPSET, OLDEST_OPSET, Summary};
pub use program::{ImportOptions, ImportedGraph, OnnxProgram, Results, import, unsupported};
pub use tensor::{read_value, write_value};
