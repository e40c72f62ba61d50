//! The graph passes, one file each, named as in the pipeline text.

pub mod decompose_unclaimed;
pub mod eliminate_dead_code;

pub use decompose_unclaimed::DecomposeUnclaimed;
pub use eliminate_dead_code::EliminateDeadCode;
