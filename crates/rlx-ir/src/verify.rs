//! The verifier: everything that must hold of a graph, all findings at once.

use crate::diagnostic::{Diagnostic, IrError};
use crate::dim::is_symbol_name;
use crate::graph::{Graph, Node, NodeId, Output, SymbolBounds};
use crate::ops::OpKind;
use std::collections::{HashMap, HashSet};

/// Checks `graph`: operands stand earlier, every node's types are what its op
/// infers, names are unique, outputs exist, state updates fit their states.
///
/// # Errors
/// Every finding.
pub fn verify(graph: &Graph) -> Result<(), IrError> {
    let mut findings = vec![];
    check_graph(graph, &mut findings);
    if findings.is_empty() { Ok(()) } else { Err(IrError::Invalid(findings)) }
}

fn check_graph(graph: &Graph, findings: &mut Vec<Diagnostic>) {
    check_nodes(graph, findings);
    check_names(graph, findings);
    check_results(graph, findings);
    graph.iter().for_each(|(id, node)| check_bodies(graph, id, node, findings));
    for (symbol, bounds) in graph.symbols() {
        if !is_symbol_name(symbol) {
            let hint =
                "use letters, digits and underscores, and no word that dims give a meaning, such as min";
            let subject = format!("symbol {symbol:?}");
            findings.push(Diagnostic::new(subject, "is not a name for a symbol").hint(hint));
        }
        if bounds.min < 0 || bounds.max.is_some_and(|max| max < bounds.min) {
            findings.push(Diagnostic::new(
                format!("symbol {symbol}"),
                format!("bounds {bounds} are empty or negative"),
            ));
        }
    }
}

/// What holds of every graph holds of the bodies; their symbols are those of the graph around them.
fn check_bodies(graph: &Graph, id: NodeId, node: &Node, findings: &mut Vec<Diagnostic>) {
    for (name, body) in node.op.bodies() {
        let path = format!("%{} {} {name}", id.0, node.op.def().name);
        let first = findings.len();
        findings.extend_from_slice(body.diagnostics());
        check_graph(body, findings);
        for (symbol, bounds) in body.symbols() {
            let covers = |own: &SymbolBounds| {
                own.min >= bounds.min && bounds.max.is_none_or(|most| own.max.is_some_and(|own| own <= most))
            };
            let message = match graph.symbols().get(symbol) {
                None => "is not a symbol of the graph around it".to_owned(),
                Some(own) if covers(own) => continue,
                Some(own) => format!("is in {bounds}, the graph around it lets it be in {own}"),
            };
            findings.push(Diagnostic::new(format!("symbol {symbol}"), message));
        }
        for finding in &mut findings[first..] {
            finding.subject = format!("{path}: {}", finding.subject);
        }
    }
}

fn check_nodes(graph: &Graph, findings: &mut Vec<Diagnostic>) {
    for (id, node) in graph.iter() {
        let subject = format!("%{} {}", id.0, node.op.def().name);
        let late =
            node.operands.iter().find(|operand| operand.node >= id || graph.try_ty(**operand).is_none());
        if let Some(late) = late {
            findings
                .push(Diagnostic::new(subject, format!("operand {late} is not a value defined before it")));
            continue;
        }
        let types: Vec<_> = node.operands.iter().map(|&operand| graph.ty(operand)).collect();
        match node.op.infer(&types) {
            Ok(inferred) if inferred == node.types => {}
            Ok(inferred) => findings.push(Diagnostic::new(
                subject,
                format!("has types {:?}, inference gives {inferred:?}", node.types),
            )),
            Err(violation) => {
                let mut finding = Diagnostic::new(subject, violation.message);
                finding.constraint = Some(violation.constraint);
                finding.operands = types.iter().map(ToString::to_string).collect();
                findings.push(finding);
            }
        }
        let negative = node
            .types
            .iter()
            .flat_map(|ty| ty.shape.dims())
            .find(|dim| dim.as_static().is_some_and(|d| d < 0));
        if let Some(dim) = negative {
            findings.push(Diagnostic::new(
                format!("%{} {}", id.0, node.op.def().name),
                format!("has the negative extent {dim}"),
            ));
        }
    }
}

fn check_names(graph: &Graph, findings: &mut Vec<Diagnostic>) {
    let mut seen = HashSet::new();
    for (_, node) in graph.iter() {
        let Some(name) = node.op.leaf_name() else { continue };
        if !seen.insert(name) {
            let hint = "inputs, params and states share one set of names in a graph";
            findings.push(
                Diagnostic::new(format!("{} \"{name}\"", node.op.kind()), "the name is taken").hint(hint),
            );
        }
    }
}

fn check_results(graph: &Graph, findings: &mut Vec<Diagnostic>) {
    let duplicate = |outputs: &[Output], what: &str, findings: &mut Vec<Diagnostic>| {
        let mut seen = HashSet::new();
        for output in outputs {
            let subject = format!("{what} \"{}\"", output.name);
            if !seen.insert(&output.name) {
                findings.push(Diagnostic::new(&subject, "the name is taken"));
            }
            if graph.try_ty(output.value).is_none() {
                findings
                    .push(Diagnostic::new(&subject, format!("{} is not a value of the graph", output.value)));
            }
        }
    };
    duplicate(graph.outputs(), "output", findings);
    duplicate(graph.updates(), "update", findings);
    let states: HashMap<&str, &Node> = graph
        .nodes_of(OpKind::State)
        .filter_map(|(_, node)| node.op.leaf_name().map(|name| (name, node)))
        .collect();
    for update in graph.updates() {
        let state = states.get(update.name.as_str());
        let subject = format!("update \"{}\"", update.name);
        match (state, graph.try_ty(update.value)) {
            (None, _) => findings.push(Diagnostic::new(subject, "there is no state of this name")),
            (Some(node), Some(ty)) if node.types[0] != *ty => {
                findings.push(Diagnostic::new(subject, format!("expected {}, found {ty}", node.types[0])));
            }
            _ => {}
        }
    }
}
