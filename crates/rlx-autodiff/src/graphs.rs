//! What all transforms do with graphs: copy them, find leaves and outputs by
//! name, drop what nothing needs.

use crate::error::AutodiffError;
use rlx_ir::{DType, Graph, NodeId, Op, OpKind, TensorType, Value};
use std::collections::BTreeSet;

/// A copy of `graph` with the same node numbers. Outputs stay out.
pub(crate) fn copied(graph: &Graph) -> Result<Graph, AutodiffError> {
    let mut copy = graph.emptied();
    for node in graph.nodes() {
        copy.copy_node(node, &node.operands)?;
    }
    for update in graph.updates() {
        copy.update_state(update.name.as_str(), update.value);
    }
    Ok(copy)
}

/// The input or param `name` of a differentiable dtype.
pub(crate) fn differentiable_leaf(graph: &Graph, name: &str) -> Result<Value, AutodiffError> {
    let leaves = || {
        let leaf = |op: &Op| matches!(op.kind(), OpKind::Input | OpKind::Param | OpKind::State);
        graph.iter().filter(move |(_, node)| leaf(&node.op))
    };
    let found = leaves().find(|(_, node)| node.op.leaf_name() == Some(name));
    let Some((id, node)) = found else {
        let known = leaves().filter_map(|(_, node)| node.op.leaf_name());
        return Err(AutodiffError::unknown("input or param", name, known));
    };
    differentiable("input", name, &node.types[0])?;
    Ok(Value::first(id))
}

/// The output `name`.
pub(crate) fn output(graph: &Graph, name: &str) -> Result<Value, AutodiffError> {
    let found = graph.outputs().iter().find(|output| output.name == name).map(|output| output.value);
    let known = graph.outputs().iter().map(|output| output.name.as_str());
    found.ok_or_else(|| AutodiffError::unknown("output", name, known))
}

pub(crate) fn differentiable(what: &'static str, name: &str, ty: &TensorType) -> Result<(), AutodiffError> {
    match ty.dtype.is_differentiable() {
        true => Ok(()),
        false => Err(AutodiffError::NotDifferentiable { what, name: name.into(), ty: ty.clone() }),
    }
}

/// Is this a float dtype whose values are numbers one can add?
pub(crate) fn is_real(dtype: DType) -> bool {
    dtype.is_differentiable() && !dtype.is_complex()
}

/// No name twice.
pub(crate) fn all_different(what: &'static str, names: &[&str]) -> Result<(), AutodiffError> {
    let mut seen = BTreeSet::new();
    match names.iter().find(|name| !seen.insert(**name)) {
        Some(name) => Err(AutodiffError::Twice { what, name: (*name).into() }),
        None => Ok(()),
    }
}

/// `graph` without the nodes that no output or state update needs; leaves stay, since callers feed them.
pub(crate) fn finished(graph: Graph) -> Result<Graph, AutodiffError> {
    if !graph.diagnostics().is_empty() {
        return Err(graph.finish().err().map_or_else(|| unreachable_finish().into(), AutodiffError::from));
    }
    let mut live = vec![false; graph.nodes().len()];
    for result in graph.outputs().iter().chain(graph.updates()) {
        if let Some(slot) = live.get_mut(result.value.node.0 as usize) {
            *slot = true;
        }
    }
    for (id, node) in graph.iter().rev() {
        let index = id.0 as usize;
        live[index] |= node.op.leaf_name().is_some();
        if live[index] {
            node.operands.iter().for_each(|operand| live[operand.node.0 as usize] = true);
        }
    }
    let mut kept = graph.emptied();
    let mut map: Vec<u32> = vec![u32::MAX; live.len()];
    let renamed = |map: &[u32], value: Value| match map.get(value.node.0 as usize) {
        Some(&node) => Value { node: NodeId(node), ..value },
        None => Value::POISON,
    };
    for (id, node) in graph.iter().filter(|(id, _)| live[id.0 as usize]) {
        let operands: Vec<Value> = node.operands.iter().map(|&operand| renamed(&map, operand)).collect();
        map[id.0 as usize] = kept.nodes().len() as u32;
        kept.copy_node(node, &operands)?;
    }
    for output in graph.outputs() {
        kept.output(output.name.as_str(), renamed(&map, output.value));
    }
    for update in graph.updates() {
        kept.update_state(update.name.as_str(), renamed(&map, update.value));
    }
    Ok(kept.finish()?)
}

/// A graph with diagnostics never finishes; this stands for the case that does not come.
fn unreachable_finish() -> rlx_ir::Diagnostic {
    rlx_ir::Diagnostic::new("graph", "has diagnostics, but finished")
}
