//! The graph passes, one file each, named as in the pipeline text.

pub mod assign_precision;
pub mod decompose_unclaimed;
pub mod eliminate_dead_code;
pub mod fold_constants;
pub mod fuse_elementwise;
pub mod fuse_named;
pub mod insert_checks;
pub mod lower_control_flow;
pub mod merge_common_subexpressions;
pub mod simplify_algebra;

pub use assign_precision::AssignPrecision;
pub use decompose_unclaimed::DecomposeUnclaimed;
pub use eliminate_dead_code::EliminateDeadCode;
pub use fold_constants::FoldConstants;
pub use fuse_elementwise::FuseElementwise;
pub use fuse_named::FuseNamed;
pub use insert_checks::InsertChecks;
pub use lower_control_flow::LowerControlFlow;
pub use merge_common_subexpressions::MergeCommonSubexpressions;
pub use simplify_algebra::SimplifyAlgebra;

use crate::pass::Pass;

/// Every pass, each once.
pub const ALL: &[&dyn Pass] = &[
    &EliminateDeadCode,
    &SimplifyAlgebra,
    &FoldConstants,
    &LowerControlFlow,
    &MergeCommonSubexpressions,
    &AssignPrecision,
    &FuseNamed,
    &InsertChecks,
    &DecomposeUnclaimed,
    &FuseElementwise,
];
