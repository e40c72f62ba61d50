//! `eliminate_dead_code`: drops nodes that no output and no state update needs.
//!
//! ```text
//! %x = input {name = "x"}                     %x = input {name = "x"}
//! %a = activation %x {kind = exp}       =>    %b = activation %x {kind = tanh}
//! %b = activation %x {kind = tanh}            output "y" = %b
//! output "y" = %b
//! ```
//!
//! Preconditions: none. Inputs, params and states stay even when nothing reads
//! them: what a caller may feed does not depend on options. A node of several
//! results stays as a whole while one of them is used.

use crate::options::CompileOptions;
use crate::pass::{OptError, Pass, PassContext};
use crate::rewrite::{Rewriter, Rewritten, live_nodes};
use rlx_ir::Graph;

/// See the module.
pub struct EliminateDeadCode;

impl Pass for EliminateDeadCode {
    fn name(&self) -> &'static str {
        "eliminate_dead_code"
    }

    fn wanted(&self, options: &CompileOptions) -> bool {
        options.dead_code_elimination
    }

    fn run(&self, graph: Graph, _: &PassContext<'_>) -> Result<Rewritten, OptError> {
        let live = live_nodes(&graph);
        if live.iter().all(|&live| live) {
            return Ok(Rewritten::unchanged(graph));
        }
        let mut rewriter = Rewriter::new(&graph);
        for (id, _) in graph.iter().filter(|(id, _)| live[id.0 as usize]) {
            rewriter.copy(id)?;
        }
        rewriter.finish()
    }
}
