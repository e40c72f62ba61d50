//! The reverse walk over what one call builds: for ops whose definition is the derivative of another op's.
//!
//! It knows scalar programs, rules and decompositions, and nothing of bodies, recomputation or forms that save; the
//! walk over whole graphs is in `rlx-autodiff`, which shares the steps below.

use crate::derive::{Backward, BoundVjp, Derivatives};
use crate::graph::{Graph, NodeId, Value};
use crate::ops::Op;
use crate::scalar::ScalarProgram;
use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;

/// Cotangents so far, by value.
pub type Cotangents = BTreeMap<Value, Value>;

/// The values of `nodes` (and `sources` themselves) whose derivative by one of `sources` may be other than zero.
pub fn active(graph: &Graph, nodes: Range<usize>, sources: BTreeSet<Value>) -> BTreeSet<Value> {
    let mut active = sources;
    for index in nodes {
        let id = NodeId(index as u32);
        let node = graph.node(id);
        if node.operands.iter().any(|operand| active.contains(operand)) {
            let results = node.types.iter().enumerate().filter(|(_, ty)| ty.dtype.is_differentiable());
            active.extend(results.map(|(result, _)| Value { node: id, result: result as u32 }));
        }
    }
    active
}

/// Adds `cotangent` to what `value` has.
pub fn accumulate(graph: &mut Graph, cotangents: &mut Cotangents, value: Value, cotangent: Value) {
    let sum = match cotangents.get(&value) {
        Some(&so_far) => graph.add(so_far, cotangent),
        None => cotangent,
    };
    cotangents.insert(value, sum);
}

/// Derivatives by the operands of an elementwise op.
///
/// # Errors
/// An op that is none.
pub fn scalar(graph: &mut Graph, op: &Op, given: Backward<'_>) -> Derivatives {
    let dtypes: Vec<_> = given.operands.iter().map(|&operand| graph.ty(operand).dtype).collect();
    let program = op.scalar_program(&dtypes).ok_or("it has no scalar program")?;
    let has: Vec<bool> = given.cotangents.iter().map(Option::is_some).collect();
    let args: Vec<Value> =
        given.operands.iter().copied().chain(given.cotangents.iter().copied().flatten()).collect();
    let shape = graph.ty(given.results[0]).shape.clone();
    let mut derivatives = vec![None; dtypes.len()];
    for (index, &operand) in given.operands.iter().enumerate().filter(|(index, _)| given.wanted[*index]) {
        let Some(program) = ScalarProgram::vjp_of(&program, index, &has) else { continue };
        let own = graph.ty(operand).shape.clone();
        let whole = graph.apply_program(&program, &args, &shape);
        derivatives[index] = whole.first().map(|&whole| graph.sum_to(whole, &own));
    }
    Ok(derivatives)
}

/// The derivatives by `operands` of what `build` makes of them, from those by its results.
///
/// # Errors
/// An op on the way without a rule.
pub(crate) fn pulled_back(
    graph: &mut Graph,
    operands: &[Value],
    cotangents: &[Option<Value>],
    build: impl FnOnce(&mut Graph, &[Value]) -> Vec<Value>,
) -> Derivatives {
    let first = graph.nodes().len();
    let results = build(graph, operands);
    let nodes = first..graph.nodes().len();
    let active = active(graph, nodes.clone(), operands.iter().copied().collect());
    let mut sums = Cotangents::new();
    for (&result, cotangent) in results.iter().zip(cotangents) {
        if let Some(cotangent) = *cotangent {
            accumulate(graph, &mut sums, result, cotangent);
        }
    }
    for index in nodes.rev() {
        let id = NodeId(index as u32);
        let node = graph.node(id).clone();
        let results: Vec<Value> =
            (0..node.types.len() as u32).map(|result| Value { node: id, result }).collect();
        let cotangents: Vec<Option<Value>> = results.iter().map(|value| sums.get(value).copied()).collect();
        let wanted: Vec<bool> = node.operands.iter().map(|operand| active.contains(operand)).collect();
        // What could not be built has been told; there is nothing to go on with.
        let built = cotangents.iter().flatten().all(|&value| graph.try_ty(value).is_some());
        if !built || !wanted.contains(&true) || cotangents.iter().all(Option::is_none) {
            continue;
        }
        let given = Backward {
            operands: &node.operands,
            results: &results,
            cotangents: &cotangents,
            wanted: &wanted,
        };
        for (&operand, derivative) in node.operands.iter().zip(by_operands(graph, &node.op, given)?) {
            if let Some(derivative) = derivative.filter(|_| active.contains(&operand)) {
                accumulate(graph, &mut sums, operand, derivative);
            }
        }
    }
    Ok(operands.iter().map(|operand| sums.get(operand).copied()).collect())
}

fn by_operands(graph: &mut Graph, op: &Op, given: Backward<'_>) -> Derivatives {
    let ruled = match op.vjp() {
        BoundVjp::Scalar => scalar(graph, op, given),
        BoundVjp::Rule(rule) => rule(graph, given),
        BoundVjp::None(_) => return Ok(vec![None; given.operands.len()]),
        _ => Err("it has no rule for a walk of this kind"),
    };
    match (ruled, op.meaning().decompose) {
        (Err(_), Some(decompose)) => pulled_back(graph, given.operands, given.cotangents, decompose),
        (ruled, _) => ruled,
    }
}
