//! What the fusions of whole layers share: types found by building the parts.

use crate::ops::prelude::*;

/// Result types of what `build` makes of operands of the given types; the
/// first constraint that a part finds violated becomes a violation of `label`.
pub(crate) fn infer_by_building(
    label: &'static str,
    operands: &[&TensorType],
    build: impl FnOnce(&mut Graph, &[Value]) -> Vec<Value>,
) -> Inferred {
    let mut graph = Graph::new("parts");
    let inputs: Vec<Value> = operands
        .iter()
        .enumerate()
        .map(|(index, ty)| graph.input(format!("x{index}"), (*ty).clone()))
        .collect();
    let results = build(&mut graph, &inputs);
    let types: Option<Vec<_>> = results.iter().map(|&result| graph.try_ty(result).cloned()).collect();
    match (graph.diagnostics().first(), types) {
        (None, Some(types)) => Ok(types),
        (Some(found), _) => {
            let part = found.subject.rsplit(' ').next().unwrap_or_default();
            let inner = found.constraint.unwrap_or("constraint");
            let operands = found.operands.join(", ");
            let message = format!("its {part} violates {inner}: {}; operands {operands}", found.message);
            Err(Violation { constraint: label, message })
        }
        (None, None) => Err(Violation { constraint: label, message: "a part has no result".into() }),
    }
}
