//! Which elementwise nodes become part of an anchored step.
//!
//! A region goes after an anchor when the anchor's only result is used by the
//! region alone and has the region's shape; it goes before an anchor when the
//! anchor's operand is its only use. Each needs the backend's yes.

use super::prepare::Preparation;
use crate::capabilities::{Attachment, OpView};
use crate::pass::PassContext;
use rlx_ir::lir::updates_first_operand;
use rlx_ir::{Graph, Node, NodeId, Op, TensorType, Value};

/// What becomes of a node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fate {
    /// A step, view or buffer of its own.
    Own,
    /// Part of the step of the node that uses it.
    Merged,
}

/// Is this a node that a kernel anchors?
pub(crate) fn is_anchor(node: &Node) -> bool {
    let meaning = node.op.meaning();
    let movement = meaning.scalar.is_some() || meaning.view.is_some();
    let special = node.op.leaf_name().is_some()
        || matches!(node.op, Op::Constant(_))
        || super::is_copies(&node.op)
        || node.op.is_control_flow()
        || updates_first_operand(&node.op);
    !movement && !special
}

/// Could region node `region` be the epilogue of node `anchor`?
pub(super) fn epilogue_of(graph: &Graph, anchor: NodeId, region: NodeId) -> bool {
    let (anchor_node, region_node) = (graph.node(anchor), graph.node(region));
    is_anchor(anchor_node)
        && anchor_node.types.len() == 1
        && region_node.op.meaning().scalar.is_some()
        && anchor_node.types[0].shape == region_node.types[0].shape
        && region_node.operands.iter().filter(|operand| operand.node == anchor).count() == 1
}

/// Decides the fate of every node.
pub(super) fn fates(graph: &Graph, context: &PassContext<'_>, preparation: &Preparation<'_>) -> Vec<Fate> {
    let mut fates = vec![Fate::Own; graph.nodes().len()];
    if !context.options.fusion {
        return fates;
    }
    let uses = graph.use_counts();
    let used_once = |id: NodeId| graph.node(id).types.len() == 1 && uses.get(&Value::first(id)) == Some(&1);
    let is_result =
        |id: NodeId| graph.outputs().iter().chain(graph.updates()).any(|output| output.value.node == id);
    // A region may hang on one anchor, and a region that took an anchor stays where it is.
    let mut took_anchor = vec![false; graph.nodes().len()];
    for (id, node) in graph.iter() {
        if preparation.is_prepared(id) || node.op.meaning().scalar.is_none() {
            continue;
        }
        for operand in &node.operands {
            let anchor = operand.node;
            let free = used_once(anchor) && !is_result(anchor) && !preparation.is_prepared(anchor);
            if free && epilogue_of(graph, anchor, id) && accepts(graph, context, anchor, id, None) {
                fates[anchor.0 as usize] = Fate::Merged;
                took_anchor[id.0 as usize] = true;
                break;
            }
        }
    }
    for (id, node) in graph.iter() {
        if preparation.is_prepared(id) || !is_anchor(node) {
            continue;
        }
        for (index, operand) in node.operands.iter().enumerate() {
            let region = operand.node;
            let elementwise = graph.node(region).op.meaning().scalar.is_some();
            let free = elementwise
                && used_once(region)
                && !is_result(region)
                && !took_anchor[region.0 as usize]
                && !preparation.is_prepared(region)
                && super::scalar_constant(graph, *operand).is_none();
            if free && accepts(graph, context, id, region, Some(index)) {
                fates[region.0 as usize] = Fate::Merged;
            }
        }
    }
    fates
}

fn accepts(
    graph: &Graph,
    context: &PassContext<'_>,
    anchor: NodeId,
    region: NodeId,
    before: Option<usize>,
) -> bool {
    let (node, region) = (graph.node(anchor), graph.node(region));
    let operands: Vec<&TensorType> = node.operands.iter().map(|&operand| graph.ty(operand)).collect();
    let dtypes: Vec<_> = region.operands.iter().map(|&operand| graph.ty(operand).dtype).collect();
    let Some(program) = region.op.scalar_program(&dtypes) else { return false };
    let anchor = OpView { op: &node.op, operands: &operands, results: &node.types, symbols: graph.symbols() };
    (context.capabilities.accept)(&Attachment { anchor, program: &program, before }).is_native()
}
