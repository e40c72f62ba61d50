//! The one compile pipeline of RLX: HIR to MIR to LIR.
//!
//! Passes over [`rlx_ir::Graph`] stand in `passes/`, one file each, named as in
//! the pipeline text. This crate never names a backend: what differs between
//! targets comes in as [`Capabilities`].
#![forbid(unsafe_code)]

pub mod capabilities;
pub mod lower;
pub mod memory;
pub mod options;
pub mod pass;
pub mod passes;
pub mod pipeline;
pub mod rewrite;

pub use capabilities::{Attachment, Capabilities, Claim, OpView, Packing};
pub use lower::{Lowered, Placement, lower_to_lir};
pub use options::{CompileOptions, KernelDispatch, PrecisionPolicy};
pub use pass::{OptError, Pass, PassContext};
pub use pipeline::{Compiled, Pipeline, compile, compile_with};
pub use rewrite::{Dispatch, Note, Remark, Rewriter, Rewritten, Uses};
