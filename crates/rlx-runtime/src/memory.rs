//! The extents at which memory is estimated.

use rlx_ir::Bindings;
use rlx_ir::lir::LirModule;

/// Every symbol at its lower bound: no run takes less memory.
pub fn smallest_bindings(module: &LirModule) -> Bindings {
    let mut bindings = Bindings::new();
    for (symbol, bounds) in &module.symbols {
        bindings.set(symbol, bounds.min);
    }
    bindings
}

/// Every symbol at its upper bound; `None` when one has none.
pub fn largest_bindings(module: &LirModule) -> Option<Bindings> {
    let mut bindings = Bindings::new();
    for (symbol, bounds) in &module.symbols {
        bindings.set(symbol, bounds.max?);
    }
    Some(bindings)
}
