//! `merge_common_subexpressions`: computes equal things once.
//!
//! ```text
//! %a = activation %x {kind = exp}         =>    %a = activation %x {kind = exp}
//! %b = activation %x {kind = exp}               %y = binary %a, %a {kind = add}
//! %y = binary %a, %b {kind = add}
//! ```
//!
//! Two nodes are equal when their ops, attributes included, and their operands
//! are; operands are compared after their own merging. Every op is a function
//! of its operands (randomness has its key as an operand), and leaves have
//! unique names, so no op is exempt. Preconditions: none. Operands that trade
//! places are not recognised.

use crate::pass::{OptError, Pass, PassContext};
use crate::rewrite::{Rewriter, Rewritten};
use rlx_ir::{Graph, Op, Value};
use std::collections::HashMap;

/// See the module.
pub struct MergeCommonSubexpressions;

impl Pass for MergeCommonSubexpressions {
    fn name(&self) -> &'static str {
        "merge_common_subexpressions"
    }

    fn run(&self, graph: Graph, _: &PassContext<'_>) -> Result<Rewritten, OptError> {
        let mut rewriter = Rewriter::new(&graph);
        let mut known: HashMap<(&Op, Vec<Value>), Vec<Value>> = HashMap::new();
        for (id, node) in graph.iter() {
            let operands = rewriter.operands(node);
            if let Some(values) = known.get(&(&node.op, operands.clone())) {
                rewriter.map(id, values.clone());
                rewriter.also_stands_for(values[0], id);
                continue;
            }
            rewriter.copy(id)?;
            let values =
                (0..node.types.len() as u32).map(|result| rewriter.value(Value { node: id, result }));
            known.insert((&node.op, operands), values.collect());
        }
        rewriter.finish()
    }
}
