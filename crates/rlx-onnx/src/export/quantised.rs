//! To be filled.
use super::table::Rule;
use rlx_ir::OpKind;
pub(super) const RULES: &[(OpKind, Rule)] = &[];
