//! Batching: a graph that does for every element of a batch what another does
//! for one.
//!
//! Inside, the batch of a value is its axis 0. Values that depend on no batched
//! input stay as they are.

use crate::bodies;
use crate::error::AutodiffError;
use crate::graphs::{all_different, finished};
use rlx_ir::derive::{Batched, BoundBatch};
use rlx_ir::{Diagnostic, Dim, Graph, Node, NodeId, Op, TensorType, Value};

/// Which inputs and params have a batch, and where.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Batching<'a> {
    /// Extent of the batch.
    pub size: Dim,
    /// Inputs and params that have it, and the position of its axis among theirs.
    pub inputs: &'a [(&'a str, usize)],
    /// Position of its axis in every output.
    pub output_axis: usize,
}

/// A value of the batched graph that stands for one of the other.
#[derive(Clone, Copy)]
struct Place {
    value: Value,
    batched: bool,
}

/// The graph that does for a batch what `graph` does for one element: the inputs named in `batching` and every
/// output have one more axis. An output that does not depend on them is repeated.
///
/// # Errors
/// Unknown or repeated names, axes out of range, a state that would need a value for each element of the batch,
/// and an op that cannot be batched.
pub fn vmap(graph: &Graph, batching: &Batching<'_>) -> Result<Graph, AutodiffError> {
    let names: Vec<&str> = batching.inputs.iter().map(|(name, _)| *name).collect();
    all_different("input or param", &names)?;
    let leaves: Vec<&str> = graph.nodes().iter().filter_map(|node| node.op.leaf_name()).collect();
    if let Some(name) = names.iter().find(|name| !leaves.contains(name)) {
        return Err(AutodiffError::unknown("input or param", name, leaves));
    }
    let mut walk = Walk { built: graph.emptied(), size: &batching.size };
    let mut places: Vec<Vec<Place>> = vec![];
    for (id, node) in graph.iter() {
        let named = |entry: &&(&str, usize)| Some(entry.0) == node.op.leaf_name();
        let made = match batching.inputs.iter().find(named) {
            Some(&(name, axis)) => vec![walk.leaf(node, name, axis)?],
            None => walk.node(graph, id, &places)?,
        };
        places.push(made);
    }
    let at = |value: Value| places[value.node.0 as usize][value.result as usize];
    for output in graph.outputs() {
        let Place { value, batched } = at(output.value);
        let axis = batching.output_axis;
        let ty = graph.ty(output.value);
        if axis > ty.rank() {
            return Err(AutodiffError::Axis { name: output.name.clone(), ty: ty.clone(), axis });
        }
        let value = if batched { value } else { walk.built.expand_batch(value, walk.size) };
        let value = walk.built.move_axis(value, 0, axis);
        walk.built.output(output.name.as_str(), value);
    }
    for update in graph.updates() {
        let Place { value, batched } = at(update.value);
        if batched {
            let reason = format!("the new content of state \"{}\" has a batch", update.name);
            let id = update.value.node;
            return Err(AutodiffError::unsupported(graph, id, "batched form", &reason));
        }
        walk.built.update_state(update.name.as_str(), value);
    }
    finished(walk.built)
}

struct Walk<'a> {
    built: Graph,
    size: &'a Dim,
}

impl Walk<'_> {
    /// An input or param with the batch at `axis`, and the batch brought to the front.
    fn leaf(&mut self, node: &Node, name: &str, axis: usize) -> Result<Place, AutodiffError> {
        let ty = &node.types[0];
        if axis > ty.rank() {
            return Err(AutodiffError::Axis { name: name.into(), ty: ty.clone(), axis });
        }
        let mut dims = ty.shape.dims().to_vec();
        dims.insert(axis, self.size.clone());
        let mut op = node.op.clone();
        match &mut op {
            Op::Input(op) => op.result = TensorType::new(ty.dtype, dims),
            Op::Param(op) => op.result = TensorType::new(ty.dtype, dims),
            _ => {
                let finding = Diagnostic::new(format!("state \"{name}\""), "a state has no batch");
                return Err(finding.into());
            }
        }
        let values = self.built.copy_node(&Node { op, ..node.clone() }, &[])?;
        Ok(Place { value: self.built.move_axis(values[0], axis, 0), batched: true })
    }

    /// What stands for the results of node `id` of `graph`, where `places` stands for those before it.
    fn node(
        &mut self,
        graph: &Graph,
        id: NodeId,
        places: &[Vec<Place>],
    ) -> Result<Vec<Place>, AutodiffError> {
        let node = graph.node(id);
        let operands: Vec<Place> = node
            .operands
            .iter()
            .map(|operand| places[operand.node.0 as usize][operand.result as usize])
            .collect();
        if !operands.iter().any(|operand| operand.batched) {
            let values: Vec<Value> = operands.iter().map(|operand| operand.value).collect();
            let results = self.built.copy_node(node, &values)?;
            return Ok(results.into_iter().map(|value| Place { value, batched: false }).collect());
        }
        self.built.set_path(&node.origin.path);
        let values = self.batched(graph, id, &operands)?;
        if values.len() != node.types.len() {
            // The builder has told why; the graph cannot be finished.
            finished(std::mem::take(&mut self.built))?;
            let reason = format!("its rule gives {} results, not {}", values.len(), node.types.len());
            return Err(AutodiffError::unsupported(graph, id, "batched form", &reason));
        }
        Ok(values.into_iter().map(|value| Place { value, batched: true }).collect())
    }

    fn batched(
        &mut self,
        graph: &Graph,
        id: NodeId,
        operands: &[Place],
    ) -> Result<Vec<Value>, AutodiffError> {
        let node = graph.node(id);
        let values: Vec<Value> = operands.iter().map(|operand| operand.value).collect();
        let is_batched: Vec<bool> = operands.iter().map(|operand| operand.batched).collect();
        let given = Batched { operands: &values, is_batched: &is_batched, size: self.size };
        let reason = match node.op.batch() {
            BoundBatch::Broadcast(op) => {
                let aligned = given.aligned(&mut self.built, node.types[0].rank());
                return Ok(self.built.push_all(op(self.size), &aligned));
            }
            BoundBatch::Shift(op) => {
                let all = given.with_batch(&mut self.built);
                return Ok(self.built.push_all(op(self.size), &all));
            }
            BoundBatch::ShiftFirst(count, op) if !is_batched[count..].contains(&true) => {
                let first = Batched { operands: &values[..count], is_batched: &is_batched[..count], ..given };
                let mut all = first.with_batch(&mut self.built);
                all.extend_from_slice(&values[count..]);
                return Ok(self.built.push_all(op(self.size), &all));
            }
            BoundBatch::ShiftFirst(..) | BoundBatch::ViaDecomposition => "it has no decomposition",
            BoundBatch::Rule(rule) => match rule(&mut self.built, given) {
                Ok(values) => return Ok(values),
                Err(reason) => reason,
            },
            BoundBatch::Bodies => return bodies::batched(&mut self.built, &node.op, given),
            BoundBatch::None(why) => {
                return Err(AutodiffError::unsupported(graph, id, "batched form", why));
            }
        };
        match node.op.meaning().decompose {
            Some(decompose) => self.via_decomposition(graph, node, &*decompose, operands),
            None => Err(AutodiffError::unsupported(graph, id, "batched form", reason)),
        }
    }

    /// Batches the nodes of the decomposition.
    fn via_decomposition(
        &mut self,
        graph: &Graph,
        node: &Node,
        decompose: &dyn Fn(&mut Graph, &[Value]) -> Vec<Value>,
        operands: &[Place],
    ) -> Result<Vec<Value>, AutodiffError> {
        let mut parts = graph.emptied();
        let types = node.operands.iter().map(|&operand| graph.ty(operand).clone()).enumerate();
        let inputs: Vec<Value> = types.map(|(index, ty)| parts.input(format!("x{index}"), ty)).collect();
        let results = decompose(&mut parts, &inputs);
        for (index, &result) in results.iter().enumerate() {
            parts.output(format!("y{index}"), result);
        }
        let parts = parts.finish()?;
        let mut places: Vec<Vec<Place>> = operands.iter().map(|&operand| vec![operand]).collect();
        for index in operands.len()..parts.nodes().len() {
            let made = self.node(&parts, NodeId(index as u32), &places)?;
            places.push(made);
        }
        let mut values = vec![];
        for result in results {
            let Place { value, batched } = places[result.node.0 as usize][result.result as usize];
            values.push(if batched { value } else { self.built.expand_batch(value, self.size) });
        }
        Ok(values)
    }
}
