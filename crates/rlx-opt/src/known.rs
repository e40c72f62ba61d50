//! When the value of each node is known: one analysis for every pass that treats weights apart.

use rlx_ir::{Graph, Op};

/// When a value is known, the earliest first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Known {
    /// It follows from constants alone.
    Compiled,
    /// It follows from constants and params: once, when weights are bound.
    Bound,
    /// It depends on inputs, states or symbols: at every run.
    Run,
}

/// One entry per node of `graph`, in order.
pub(crate) fn known(graph: &Graph) -> Vec<Known> {
    let mut known: Vec<Known> = vec![];
    for node in graph.nodes() {
        let is_static = node.types.iter().all(|ty| ty.shape.as_static().is_some()) && !node.op.has_symbols();
        let operands = node.operands.iter().map(|operand| known[operand.node.0 as usize]);
        known.push(match &node.op {
            Op::Constant(_) => Known::Compiled,
            Op::Param(_) => Known::Bound,
            _ if is_static => operands.max().unwrap_or(Known::Run),
            _ => Known::Run,
        });
    }
    known
}
