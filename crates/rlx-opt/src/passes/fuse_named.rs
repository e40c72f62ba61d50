//! `fuse_named`: recognises what a target has one kernel for.
//!
//! ```text
//! %m = matmul %x, %w {..}                  =>    %y = fused_matmul_bias_act %x, %w, %b {kind = relu, ..}
//! %s = binary %m, %b {kind = add}
//! %y = activation %s {kind = relu, ..}
//! ```
//!
//! | pattern | op |
//! |---|---|
//! | product, bias, activation | `fused_matmul_bias_act` |
//! | sum of two, layer norm of it | `fused_residual_ln` |
//! | sum of two, RMS norm of it | `fused_residual_rms_norm` |
//! | function of one half times the other half | `fused_swiglu` |
//! | softmax of scaled products, times values | `attention` |
//!
//! A pattern is replaced only when the target claims the op, and no value
//! inside it is used elsewhere (the residual sum may be: it is a result). The
//! longest pattern that is claimed wins. Preconditions: dead nodes are gone,
//! since their uses count. Patterns in other spellings than the models' and
//! importers' are left to `fuse_elementwise` and to attaching.

mod attention;
mod patterns;

use crate::capabilities::OpView;
use crate::options::{CompileOptions, KernelDispatch};
use crate::pass::{OptError, Pass, PassContext};
use crate::rewrite::{Remark, Rewriter, Rewritten, Uses};
use rlx_ir::ops::Transpose;
use rlx_ir::{Graph, NodeId, Op, TensorType, Value};

/// See the module.
pub struct FuseNamed;

impl Pass for FuseNamed {
    fn name(&self) -> &'static str {
        "fuse_named"
    }

    fn wanted(&self, options: &CompileOptions) -> bool {
        options.fusion
    }

    fn run(&self, graph: Graph, context: &PassContext<'_>) -> Result<Rewritten, OptError> {
        let search = Search { graph: &graph, uses: Uses::of(&graph), context };
        // Which match a node is inside of, and which it is replaced at.
        let mut inside = vec![false; graph.nodes().len()];
        let mut found: Vec<Option<Match>> =
            std::iter::repeat_with(|| None).take(graph.nodes().len()).collect();
        for (id, _) in graph.iter() {
            let candidates = patterns::PATTERNS.iter().flat_map(|pattern| pattern(&search, id));
            let free = |found: &Match| found.nodes.iter().all(|node| !inside[node.0 as usize]);
            let mut candidates = candidates.filter(|found| free(found) && search.claims(found));
            if let Some(chosen) = candidates.next() {
                drop(candidates);
                chosen.nodes.iter().for_each(|node| inside[node.0 as usize] = true);
                let place = chosen.place.0 as usize;
                found[place] = Some(chosen);
            }
        }
        if found.iter().all(Option::is_none) {
            return Ok(Rewritten::unchanged(graph));
        }
        let mut rewriter = Rewriter::new(&graph);
        for (id, node) in graph.iter() {
            if let Some(chosen) = &found[id.0 as usize] {
                rewriter.begin(chosen.nodes.iter().copied());
                let mut operands: Vec<Value> =
                    chosen.operands.iter().map(|&value| rewriter.value(value)).collect();
                for (index, transpose) in chosen.transposes() {
                    operands[index] = rewriter.push_op(transpose, &[operands[index]], node)?[0];
                }
                let mut values = rewriter.push_op(chosen.op.clone(), &operands, node)?;
                if let Some(mask) = chosen.unseen_rows {
                    rewriter.new.set_path(&node.origin.path);
                    values[0] = attention::with_unseen_rows(&mut rewriter.new, values[0], operands[mask]);
                }
                for (value, old) in values.iter().zip(&chosen.results) {
                    if let Some(old) = old {
                        rewriter.map(*old, vec![*value]);
                    }
                }
                for &node in &chosen.nodes {
                    rewriter.note(node, Remark::Fused(chosen.op.kind()));
                }
            } else if !inside[id.0 as usize] {
                rewriter.copy(id)?;
            }
        }
        rewriter.finish()
    }
}

/// A pattern found in a graph.
pub(crate) struct Match {
    /// What replaces it.
    op: Op,
    operands: Vec<Value>,
    /// Per operand, the order in which the op takes its axes, where that is another one. Short lists are filled up.
    orders: Vec<Option<Vec<usize>>>,
    /// The operand that is a mask of scores, where its rows without a key make the first result NaN.
    unseen_rows: Option<usize>,
    /// Per result of `op`, the node whose only result it replaces, if any.
    results: Vec<Option<NodeId>>,
    /// All nodes that are replaced.
    nodes: Vec<NodeId>,
    /// The one that the op takes the place of.
    place: NodeId,
}

impl Match {
    /// The transposes of operands, by position.
    fn transposes(&self) -> impl Iterator<Item = (usize, Transpose)> + '_ {
        let orders = self.orders.iter().enumerate();
        orders.filter_map(|(index, order)| Some((index, Transpose { permutation: order.clone()? })))
    }
}

/// What patterns look at.
pub(crate) struct Search<'a> {
    graph: &'a Graph,
    uses: Uses,
    context: &'a PassContext<'a>,
}

impl Search<'_> {
    fn op(&self, id: NodeId) -> &Op {
        &self.graph.node(id).op
    }

    fn ty(&self, value: Value) -> &TensorType {
        self.graph.ty(value)
    }

    fn operands(&self, id: NodeId) -> &[Value] {
        &self.graph.node(id).operands
    }

    /// Do the types fit, and does the target run it as one?
    fn claims(&self, found: &Match) -> bool {
        let options = self.context.options;
        let policy = options.dispatch_by_kind.get(&found.op.kind()).unwrap_or(&options.dispatch);
        let mut types: Vec<TensorType> = found.operands.iter().map(|&value| self.ty(value).clone()).collect();
        for (index, transpose) in found.transposes() {
            let Ok(ty) = Op::from(transpose).infer(&[&types[index]]) else { return false };
            types.splice(index..=index, ty);
        }
        let types: Vec<&TensorType> = types.iter().collect();
        let Ok(results) = found.op.infer(&types) else { return false };
        let replaced = found.results.iter().zip(&results);
        let same = |(old, new): (&Option<NodeId>, &TensorType)| {
            old.is_none_or(|old| self.graph.node(old).types == std::slice::from_ref(new))
        };
        let view =
            OpView { op: &found.op, operands: &types, results: &results, symbols: self.graph.symbols() };
        *policy != KernelDispatch::ForceDecomposed
            && replaced.into_iter().all(same)
            && (self.context.capabilities.claim)(&view).is_native()
    }
}
