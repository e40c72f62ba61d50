//! How much memory an executable takes, known before any of it is taken.
//!
//! Counts what belongs to one executable: shared weights are listed but are
//! not multiplied by clones. Code and tables are not counted.

use crate::error::DriverError;
use rlx_ir::Bindings;
use rlx_ir::lir::{BufferKind, LirModule};
use std::fmt;

/// Bytes that an executable takes, by kind.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct MemoryUse {
    /// Weights that stay as the caller binds them; mapped files count in full.
    pub weights: u64,
    /// What the prepare stages make of weights: packed and folded forms. What they take meanwhile is not counted.
    pub prepared: u64,
    /// Literals inside the module.
    pub constants: u64,
    /// Inputs, outputs and intermediates.
    pub arena: u64,
    /// State that lives between runs.
    pub state: u64,
    /// Scratch memory of kernels.
    pub workspace: u64,
}

impl MemoryUse {
    /// What `module` says with these extents; the workspace of kernels, which only the backend knows, is 0.
    ///
    /// # Errors
    /// An extent that `bindings` leaves open, an arena beyond the address space.
    pub fn of_module(module: &LirModule, bindings: &Bindings) -> Result<MemoryUse, DriverError> {
        let mut memory =
            MemoryUse { arena: module.plan.layout(bindings)?.size as u64, ..MemoryUse::default() };
        let released = module.released_params();
        for entry in module.io.params.iter().filter(|entry| !released.contains(&entry.buffer)) {
            memory.weights += entry.ty.size_bytes().extent(bindings)? as u64;
        }
        for entry in &module.io.states {
            memory.state += entry.ty.size_bytes().extent(bindings)? as u64;
        }
        for buffer in &module.buffers {
            match &buffer.kind {
                BufferKind::Constant(literal) => memory.constants += literal.bytes().len() as u64,
                BufferKind::Prepared => memory.prepared += buffer.ty().size_bytes().extent(bindings)? as u64,
                _ => {}
            }
        }
        Ok(memory)
    }

    /// Holds it against a budget, where there is one.
    ///
    /// # Errors
    /// More than the budget.
    pub fn within(self, budget: Option<u64>) -> Result<(), DriverError> {
        match budget {
            Some(budget) if self.total() > budget => Err(DriverError::OverBudget { needed: self, budget }),
            _ => Ok(()),
        }
    }

    /// The sum.
    pub fn total(&self) -> u64 {
        self.parts().iter().map(|(_, bytes)| bytes).sum()
    }

    /// Every kind with its bytes.
    pub fn parts(&self) -> [(&'static str, u64); 6] {
        [
            ("weights", self.weights),
            ("prepared", self.prepared),
            ("constants", self.constants),
            ("arena", self.arena),
            ("state", self.state),
            ("workspace", self.workspace),
        ]
    }
}

impl fmt::Display for MemoryUse {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} bytes", self.total())?;
        let parts: Vec<String> = self
            .parts()
            .iter()
            .filter(|(_, bytes)| *bytes > 0)
            .map(|(name, bytes)| format!("{name} {bytes}"))
            .collect();
        if parts.is_empty() { Ok(()) } else { write!(f, " ({})", parts.join(", ")) }
    }
}
