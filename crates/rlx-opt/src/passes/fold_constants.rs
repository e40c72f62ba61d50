//! `fold_constants`: evaluates what depends on small constants alone.
//!
//! ```text
//! %a = constant {value = f32[2]:[1.0, 2.0]}     =>    %b = constant {value = f32[2]:[-1.0, -2.0]}
//! %b = activation %a {kind = neg}
//! ```
//!
//! The reference interpreter computes the results, which hold at most
//! [`MOST_BYTES`] per node, from operands of at most [`MOST_OPERAND_BYTES`].
//! Larger results belong to the prepare stage. `iota`, and movement that repeats
//! elements, stay while something reads them, since they take no memory; what
//! is computed from them is folded. A node that faults stays where it is, so
//! that the fault is reported when the graph runs, if at all. Loops stay too,
//! since nothing says how long they would run; `lower_control_flow` decides branches.
//! Preconditions: none.

use crate::options::CompileOptions;
use crate::pass::{OptError, Pass, PassContext};
use crate::rewrite::{Rewriter, Rewritten};
use rlx_ir::interpret::evaluate_op;
use rlx_ir::ops::Constant;
use rlx_ir::{Graph, Literal, Node, Op, TensorType};

/// See the module.
pub struct FoldConstants;

/// Most bytes of the results of a folded node.
pub const MOST_BYTES: i64 = 64 << 10;
/// Most bytes of its operands.
pub const MOST_OPERAND_BYTES: usize = 1 << 20;

impl Pass for FoldConstants {
    fn name(&self) -> &'static str {
        "fold_constants"
    }

    fn wanted(&self, options: &CompileOptions) -> bool {
        options.constant_folding
    }

    fn run(&self, graph: Graph, _: &PassContext<'_>) -> Result<Rewritten, OptError> {
        let mut rewriter = Rewriter::new(&graph);
        let mut known: Vec<Vec<Literal>> = Vec::with_capacity(graph.nodes().len());
        for (id, node) in graph.iter() {
            let results = match &node.op {
                Op::Constant(constant) => vec![constant.value.clone()],
                _ => evaluate(node, &known).unwrap_or_default(),
            };
            if results.is_empty() || stays(node, &known) {
                rewriter.copy(id)?;
            } else {
                rewriter.begin([id]);
                let mut values = vec![];
                for literal in &results {
                    values.extend(rewriter.push_op(Constant { value: literal.clone() }, &[], node)?);
                }
                rewriter.map(id, values);
            }
            known.push(results);
        }
        rewriter.finish()
    }
}

/// Does the node cost nothing as it is: a constant, `iota`, or movement that repeats elements?
fn stays(node: &Node, known: &[Vec<Literal>]) -> bool {
    let Some(operand) = node.operands.first() else { return true };
    let before = known[operand.node.0 as usize].get(operand.result as usize).map_or(0, Literal::len);
    let grows = node.types[0].shape.num_elements().as_static().is_some_and(|after| after > before as i64);
    grows && node.op.meaning().view.is_some()
}

/// The results of `node`, when all its operands are known and everything is small.
fn evaluate(node: &Node, known: &[Vec<Literal>]) -> Option<Vec<Literal>> {
    let mut operands = vec![];
    for operand in &node.operands {
        operands.push(known[operand.node.0 as usize].get(operand.result as usize)?);
    }
    let small = |ty: &TensorType| ty.size_bytes().as_static().is_some_and(|bytes| bytes <= MOST_BYTES);
    if node.op.leaf_name().is_some() || node.op.is_control_flow() || !node.types.iter().all(small) {
        return None;
    }
    if operands.iter().map(|literal| literal.bytes().len()).sum::<usize>() > MOST_OPERAND_BYTES {
        return None;
    }
    let results = evaluate_op(&node.op, &operands).ok()?;
    let as_inferred = results.iter().map(Literal::ty).eq(node.types.iter().cloned());
    as_inferred.then_some(results)
}
