//! The one compile pipeline of RLX: HIR to MIR to LIR.
//!
//! Passes over [`rlx_ir::Graph`] stand in `passes/`, one file each, named as in
//! the pipeline text. This crate never names a backend: what differs between
//! targets comes in as [`Capabilities`].
#![forbid(unsafe_code)]

pub mod bisect;
pub mod capabilities;
mod known;
pub mod legalize;
pub mod lower;
pub mod memory;
pub mod options;
pub mod pass;
pub mod passes;
pub mod pipeline;
pub mod report;
pub mod rewrite;
pub mod trace;

pub use bisect::{Bisection, bisect};
pub use capabilities::{Attachment, Capabilities, Claim, OpView, Packing};
pub use legalize::{
    format_legalize_error, legalize_for_backend, prepare_graph_for_backend_with_report, rewrite_for_backend,
};
pub use lower::{Lowered, Placement, lower_to_lir};
pub use options::{Checks, CompileOptions, KernelDispatch, PrecisionPolicy};
pub use pass::{OptError, Pass, PassContext, run_pass};
pub use pipeline::{Compiled, Pipeline, compile, compile_with};
pub use report::{CompileReport, DispatchCounts, DispatchReport, Fusion, PassSummary};
pub use rewrite::{Dispatch, Note, Remark, Rewriter, Rewritten, Uses};
pub use trace::PipelineTrace;

/// [`passes::AssignPrecision`] under the name by which frameworks know it.
pub use passes::AssignPrecision as AutoMixedPrecision;
/// [`passes::EliminateDeadCode`] under the name by which compilers know it.
pub use passes::EliminateDeadCode as DeadCodeElimination;
/// [`passes::FoldConstants`] under the name by which compilers know it.
pub use passes::FoldConstants as ConstantFolding;
pub use passes::LowerControlFlow;
