//! The order of nodes. ONNX asks that every node stands behind what it reads; writers of files (converters to half
//! precision, for one) append nodes where they please, and other runtimes take that.

use crate::names::read_names;
use crate::proto::{AttributeProto, ModelProto, NodeProto};
use std::collections::HashMap;

/// Puts the nodes of all graphs of `model` behind what they read. Where they stand so already, or read each other in
/// a circle, they stay where they are.
pub(crate) fn sort_nodes(model: &mut ModelProto) {
    model.functions.iter_mut().for_each(|function| sort(&mut function.node));
    if let Some(graph) = &mut model.graph {
        sort(&mut graph.node);
    }
}

fn sort(nodes: &mut Vec<NodeProto>) {
    let inner = |attribute: &mut AttributeProto| {
        attribute.g.iter_mut().chain(&mut attribute.graphs).for_each(|graph| sort(&mut graph.node));
    };
    nodes.iter_mut().flat_map(|node| &mut node.attribute).for_each(inner);
    if let Some(order) = order(nodes) {
        let mut taken: Vec<Option<NodeProto>> = std::mem::take(nodes).into_iter().map(Some).collect();
        nodes.extend(order.into_iter().filter_map(|index| taken[index].take()));
    }
}

/// The order in which `nodes` should stand, as near to theirs as can be; `None` where it is theirs, or there is none.
fn order(nodes: &[NodeProto]) -> Option<Vec<usize>> {
    let mut makers: HashMap<&str, usize> = HashMap::new();
    for (index, node) in nodes.iter().enumerate() {
        for name in node.output.iter().filter(|name| !name.is_empty()) {
            makers.entry(name).or_insert(index);
        }
    }
    let needed = |index: usize| -> Vec<usize> {
        let mut names = vec![];
        read_names(&nodes[index], &mut names);
        // A name inside a body may be one of its own.
        names.iter().filter_map(|name| makers.get(name).copied()).filter(|&maker| maker != index).collect()
    };
    let needs: Vec<Vec<usize>> = (0..nodes.len()).map(needed).collect();
    if needs.iter().enumerate().all(|(index, needs)| needs.iter().all(|&maker| maker < index)) {
        return None;
    }
    let (mut order, mut is_open, mut is_placed) =
        (vec![], vec![false; nodes.len()], vec![false; nodes.len()]);
    for first in 0..nodes.len() {
        // Nodes that wait for others, and how many of those were looked at.
        let mut waiting = vec![(first, 0)];
        while let Some((index, at)) = waiting.pop() {
            if is_placed[index] {
                continue;
            }
            let Some(&maker) = needs[index].get(at) else {
                is_placed[index] = true;
                order.push(index);
                continue;
            };
            is_open[index] = true;
            waiting.push((index, at + 1));
            if !is_placed[maker] {
                if is_open[maker] {
                    return None;
                }
                waiting.push((maker, 0));
            }
        }
    }
    Some(order)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::proto::GraphProto;

    fn node(output: &str, inputs: &[&str]) -> NodeProto {
        let input = inputs.iter().map(ToString::to_string).collect();
        NodeProto { input, output: vec![output.to_string()], ..NodeProto::default() }
    }

    fn sorted(nodes: Vec<NodeProto>) -> Vec<String> {
        let graph = GraphProto { node: nodes, ..GraphProto::default() };
        let mut model = ModelProto { graph: Some(graph), ..ModelProto::default() };
        sort_nodes(&mut model);
        let names = model.graph.iter().flat_map(|graph| &graph.node).map(|node| node.output[0].clone());
        names.collect()
    }

    #[test]
    fn nodes_move_behind_what_they_read_and_no_further() {
        let nodes = vec![node("a", &["x"]), node("b", &["d", "a"]), node("c", &["x"]), node("d", &["e"])];
        assert_eq!(sorted([nodes, vec![node("e", &["x", "missing"])]].concat()), ["a", "e", "d", "b", "c"]);
    }

    #[test]
    fn a_body_waits_for_what_it_reads_of_the_graph_around_it() {
        let body = GraphProto { node: vec![node("inner", &["late"])], ..GraphProto::default() };
        let attribute = AttributeProto { g: Some(body), ..AttributeProto::default() };
        let outer = NodeProto { attribute: vec![attribute], ..node("outer", &["x"]) };
        assert_eq!(sorted(vec![outer, node("late", &["x"])]), ["late", "outer"]);
    }

    #[test]
    fn a_circle_stays_as_it_stands() {
        assert_eq!(sorted(vec![node("a", &["b"]), node("b", &["a"])]), ["a", "b"]);
        assert_eq!(sorted(vec![node("a", &["a"])]), ["a"]);
    }
}
