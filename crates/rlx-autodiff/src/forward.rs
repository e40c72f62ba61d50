//! The forward walk: tangents from the operands of nodes to their results.
//!
//! The walk appends to the graph it reads, and visits a range of nodes in order.

use crate::bodies;
use crate::error::AutodiffError;
use crate::reverse::{self, Recomputation};
use rlx_ir::derive::{Backward, BoundJvp, BoundVjp, Forward};
use rlx_ir::reverse::{Cotangents, accumulate, active};
use rlx_ir::{Graph, NodeId, Op, ScalarProgram, Value};
use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;

/// Tangents that are not zero, by value.
pub(crate) type Tangents = BTreeMap<Value, Value>;

/// Walks over `nodes` and adds the tangents of their results.
pub(crate) fn push_forward(
    graph: &mut Graph,
    nodes: Range<usize>,
    tangents: &mut Tangents,
) -> Result<(), AutodiffError> {
    for index in nodes {
        let id = NodeId(index as u32);
        let node = graph.node(id).clone();
        let given: Vec<Option<Value>> =
            node.operands.iter().map(|operand| tangents.get(operand).copied()).collect();
        let differentiable = node.types.iter().any(|ty| ty.dtype.is_differentiable());
        if given.iter().all(Option::is_none) || !differentiable {
            continue;
        }
        graph.set_path(&node.origin.path);
        let results: Vec<Value> =
            (0..node.types.len() as u32).map(|result| Value { node: id, result }).collect();
        let forward = Forward { operands: &node.operands, results: &results, tangents: &given };
        for (&result, tangent) in results.iter().zip(derivatives(graph, id, &node.op, forward)?) {
            let ty = graph.ty(result).clone();
            let Some(tangent) = tangent.filter(|_| ty.dtype.is_differentiable()) else { continue };
            if graph.try_ty(tangent).is_some_and(|found| *found != ty) {
                let message = format!("its rule gives {} for {ty}", graph.ty(tangent));
                return Err(AutodiffError::unsupported(graph, id, "forward derivative", &message));
            }
            tangents.insert(result, tangent);
        }
    }
    graph.set_path("");
    Ok(())
}

/// Tangents of the results of `op`, which stands at node `id`.
fn derivatives(
    graph: &mut Graph,
    id: NodeId,
    op: &Op,
    given: Forward<'_>,
) -> Result<Vec<Option<Value>>, AutodiffError> {
    let ruled = match op.jvp() {
        BoundJvp::Scalar => scalar(graph, op, given),
        BoundJvp::Linear => given.linear(graph, op.clone()),
        BoundJvp::Multilinear => Ok(vec![multilinear(graph, op, given)]),
        BoundJvp::Rule(rule) => rule(graph, given),
        BoundJvp::ViaDecomposition => Err("it has no decomposition"),
        BoundJvp::Bodies => return bodies::forward(graph, op, given),
        BoundJvp::DoubleVjp => return double_vjp(graph, id, op, given),
        BoundJvp::None(why) => return Err(AutodiffError::unsupported(graph, id, "forward derivative", why)),
    };
    match (ruled, op.meaning().decompose) {
        (Ok(tangents), _) => Ok(tangents),
        (Err(_), Some(decompose)) => {
            let first = graph.nodes().len();
            let results = decompose(graph, given.operands);
            let nodes = first..graph.nodes().len();
            let pairs = given.operands.iter().zip(given.tangents);
            let mut tangents: Tangents =
                pairs.filter_map(|(&operand, &tangent)| Some((operand, tangent?))).collect();
            push_forward(graph, nodes, &mut tangents)?;
            Ok(results.iter().map(|result| tangents.get(result).copied()).collect())
        }
        (Err(reason), None) => match op.vjp() {
            BoundVjp::None(_) => Err(AutodiffError::unsupported(graph, id, "forward derivative", reason)),
            _ => double_vjp(graph, id, op, given),
        },
    }
}

fn scalar(graph: &mut Graph, op: &Op, given: Forward<'_>) -> Result<Vec<Option<Value>>, &'static str> {
    let dtypes: Vec<_> = given.operands.iter().map(|&operand| graph.ty(operand).dtype).collect();
    let program = op.scalar_program(&dtypes).ok_or("it has no scalar program")?;
    let moves: Vec<bool> = given.tangents.iter().map(Option::is_some).collect();
    let (program, changing) = ScalarProgram::jvp_of(&program, &moves);
    let args: Vec<Value> =
        given.operands.iter().copied().chain(given.tangents.iter().copied().flatten()).collect();
    let shape = graph.ty(given.results[0]).shape.clone();
    let mut tangents = vec![None; given.results.len()];
    for (result, tangent) in changing.into_iter().zip(graph.apply_program(&program, &args, &shape)) {
        tangents[result] = Some(tangent);
    }
    Ok(tangents)
}

/// The sum of the op on one tangent at a time.
fn multilinear(graph: &mut Graph, op: &Op, given: Forward<'_>) -> Option<Value> {
    let mut sum = None;
    for (index, tangent) in given.tangents.iter().enumerate() {
        let Some(tangent) = *tangent else { continue };
        let mut operands = given.operands.to_vec();
        operands[index] = tangent;
        let term = graph.push(op.clone(), &operands);
        sum = Some(match sum {
            Some(sum) => graph.add(sum, term),
            None => term,
        });
    }
    sum
}

/// The reverse derivative is linear in its cotangents; its own reverse derivative, by them, is the forward one.
fn double_vjp(
    graph: &mut Graph,
    id: NodeId,
    op: &Op,
    given: Forward<'_>,
) -> Result<Vec<Option<Value>>, AutodiffError> {
    let wanted: Vec<bool> = given.tangents.iter().map(Option::is_some).collect();
    let mut stand_ins = vec![];
    for &result in given.results {
        let differentiable = graph.ty(result).dtype.is_differentiable();
        stand_ins.push(differentiable.then(|| graph.zeros_like(result)));
    }
    let first = graph.nodes().len();
    let backward = Backward {
        operands: given.operands,
        results: given.results,
        cotangents: &stand_ins,
        wanted: &wanted,
    };
    let derivatives = reverse::derivatives(graph, id, op, backward)?;
    let nodes = first..graph.nodes().len();
    let sources: BTreeSet<Value> = stand_ins.iter().copied().flatten().collect();
    let active = active(graph, nodes.clone(), sources);
    let mut cotangents = Cotangents::new();
    for (derivative, tangent) in derivatives.into_iter().zip(given.tangents) {
        if let (Some(derivative), Some(tangent)) = (derivative, *tangent) {
            accumulate(graph, &mut cotangents, derivative, tangent);
        }
    }
    reverse::pull_back(graph, nodes, &active, &mut cotangents, &mut Recomputation::default())?;
    Ok(stand_ins.iter().map(|stand_in| cotangents.get(&(*stand_in)?).copied()).collect())
}
