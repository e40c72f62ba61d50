//! The reverse walk: cotangents from the results of nodes to their operands.
//!
//! The walk appends to the graph it reads. It visits a range of nodes from the
//! last to the first; a node gets a call of its rule when a cotangent reached
//! one of its results and the derivative by one of its operands is asked for.

use crate::bodies;
use crate::error::AutodiffError;
use rlx_ir::derive::{Backward, BoundVjp};
use rlx_ir::reverse::{Cotangents, accumulate, active, scalar};
use rlx_ir::{Graph, NodeId, Op, Value};
use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;

/// Gives the ops of `nodes` whose derivatives are asked for the form that their rules need.
pub(crate) fn widen(
    graph: &mut Graph,
    nodes: Range<usize>,
    active: &BTreeSet<Value>,
) -> Result<(), AutodiffError> {
    for index in nodes {
        let id = NodeId(index as u32);
        let mut results = 0..graph.node(id).types.len() as u32;
        if !results.any(|result| active.contains(&Value { node: id, result })) {
            continue;
        }
        let form = match graph.node(id).op.vjp() {
            BoundVjp::Saving(form, _) | BoundVjp::Bodies(form) => form,
            _ => continue,
        };
        graph.widen_node(id, form)?;
    }
    Ok(())
}

/// Which nodes are computed again in the reverse walk, and what was computed again so far.
#[derive(Default)]
pub(crate) struct Recomputation {
    /// Segment of each node that is computed again.
    segments: BTreeMap<NodeId, usize>,
    values: BTreeMap<Value, Value>,
    done: BTreeSet<usize>,
}

impl Recomputation {
    /// Nothing computed again so far.
    pub fn of_segments(segments: BTreeMap<NodeId, usize>) -> Recomputation {
        Recomputation { segments, ..Recomputation::default() }
    }

    /// Copies the segment of node `id`, once, behind the computation of `cotangent`.
    fn prepare(&mut self, graph: &mut Graph, id: NodeId, cotangent: Value) -> Result<(), AutodiffError> {
        let Some(&segment) = self.segments.get(&id).filter(|segment| !self.done.contains(segment)) else {
            return Ok(());
        };
        self.done.insert(segment);
        let mut barriers: BTreeMap<Value, Value> = BTreeMap::new();
        let members: Vec<NodeId> =
            self.segments.iter().filter(|(_, other)| **other == segment).map(|(&id, _)| id).collect();
        for id in members {
            let node = graph.node(id).clone();
            let mut operands = vec![];
            for &operand in &node.operands {
                let inside = self.segments.get(&operand.node) == Some(&segment);
                operands.push(match self.values.get(&operand) {
                    Some(&again) if inside => again,
                    _ => *barriers.entry(operand).or_insert_with(|| graph.barrier(operand, cotangent)),
                });
            }
            for (result, value) in graph.copy_node(&node, &operands)?.into_iter().enumerate() {
                self.values.insert(Value { node: id, result: result as u32 }, value);
            }
        }
        Ok(())
    }

    fn of(&self, id: NodeId, values: &[Value]) -> Vec<Value> {
        let segment = self.segments.get(&id);
        let again = |value: &Value| match segment.is_some() && self.segments.get(&value.node) == segment {
            true => self.values.get(value).copied().unwrap_or(*value),
            false => *value,
        };
        values.iter().map(again).collect()
    }
}

/// Walks back over `nodes`, which `active` tells the way.
pub(crate) fn pull_back(
    graph: &mut Graph,
    nodes: Range<usize>,
    active: &BTreeSet<Value>,
    cotangents: &mut Cotangents,
    again: &mut Recomputation,
) -> Result<(), AutodiffError> {
    for index in nodes.rev() {
        let id = NodeId(index as u32);
        let node = graph.node(id).clone();
        let results: Vec<Value> =
            (0..node.types.len() as u32).map(|result| Value { node: id, result }).collect();
        let given: Vec<Option<Value>> = results.iter().map(|value| cotangents.get(value).copied()).collect();
        let wanted: Vec<bool> = node.operands.iter().map(|operand| active.contains(operand)).collect();
        let Some(&first) = given.iter().flatten().next() else { continue };
        if !wanted.contains(&true) {
            continue;
        }
        graph.set_path(&node.origin.path);
        again.prepare(graph, id, first)?;
        let backward = Backward {
            operands: &again.of(id, &node.operands),
            results: &again.of(id, &results),
            cotangents: &given,
            wanted: &wanted,
        };
        for (&operand, derivative) in node.operands.iter().zip(derivatives(graph, id, &node.op, backward)?) {
            let Some(derivative) = derivative.filter(|_| active.contains(&operand)) else { continue };
            if graph.try_ty(derivative).is_some_and(|ty| ty != graph.ty(operand)) {
                let message = format!("its rule gives {} for {}", graph.ty(derivative), graph.ty(operand));
                return Err(AutodiffError::unsupported(graph, id, "reverse derivative", &message));
            }
            accumulate(graph, cotangents, operand, derivative);
        }
    }
    graph.set_path("");
    Ok(())
}

/// Derivatives by the operands of `op`, which stands at node `id`.
pub(crate) fn derivatives(
    graph: &mut Graph,
    id: NodeId,
    op: &Op,
    given: Backward<'_>,
) -> Result<Vec<Option<Value>>, AutodiffError> {
    let reason = match op.vjp() {
        BoundVjp::Scalar => match scalar(graph, op, given) {
            Ok(derivatives) => return Ok(derivatives),
            Err(reason) => reason,
        },
        BoundVjp::Rule(rule) => match rule(graph, given) {
            Ok(derivatives) => return Ok(derivatives),
            Err(reason) => reason,
        },
        BoundVjp::Saving(form, rule) => {
            // The op itself was given another form where it is not a part of something else.
            let again = if form == *op { vec![] } else { graph.push_all(form, given.operands) };
            let results = if again.is_empty() { given.results } else { &again };
            match rule(graph, Backward { results, ..given }) {
                Ok(derivatives) => return Ok(derivatives),
                Err(reason) => reason,
            }
        }
        BoundVjp::Bodies(_) => match bodies::backward(graph, op, given)? {
            Ok(derivatives) => return Ok(derivatives),
            Err(reason) => reason,
        },
        BoundVjp::ViaDecomposition => "it has no decomposition",
        BoundVjp::None(why) => return Err(AutodiffError::unsupported(graph, id, "reverse derivative", why)),
    };
    match op.meaning().decompose {
        Some(decompose) => via_decomposition(graph, &*decompose, given),
        None => Err(AutodiffError::unsupported(graph, id, "reverse derivative", reason)),
    }
}

fn via_decomposition(
    graph: &mut Graph,
    decompose: &dyn Fn(&mut Graph, &[Value]) -> Vec<Value>,
    given: Backward<'_>,
) -> Result<Vec<Option<Value>>, AutodiffError> {
    let first = graph.nodes().len();
    let results = decompose(graph, given.operands);
    let nodes = first..graph.nodes().len();
    let sources = given.operands.iter().zip(given.wanted).filter(|(_, wanted)| **wanted);
    let active = active(graph, nodes.clone(), sources.map(|(&operand, _)| operand).collect());
    widen(graph, nodes.clone(), &active)?;
    let mut cotangents = Cotangents::new();
    for (&result, &cotangent) in results.iter().zip(given.cotangents) {
        if let Some(cotangent) = cotangent {
            accumulate(graph, &mut cotangents, result, cotangent);
        }
    }
    pull_back(graph, nodes, &active, &mut cotangents, &mut Recomputation::default())?;
    // An operand that stands twice has one cotangent.
    Ok(given.operands.iter().map(|operand| cotangents.remove(operand)).collect())
}
