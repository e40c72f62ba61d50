//! What nodes are called in messages, and the names that they read.

use crate::model::subgraphs;
use crate::proto::NodeProto;

/// What a node wants to know.
#[derive(Debug)]
pub(crate) struct Need {
    pub node: String,
    pub op: String,
    pub value: String,
}

/// All names that a node reads, those inside its bodies included.
pub(crate) fn read_names<'m>(node: &'m NodeProto, names: &mut Vec<&'m str>) {
    names.extend(node.input.iter().map(String::as_str));
    if node.op_type() == "Gradient" {
        // Its attributes name values.
        let texts = node.attribute.iter().flat_map(|attribute| attribute.s.iter().chain(&attribute.strings));
        names.extend(texts.filter_map(|text| std::str::from_utf8(text).ok()));
    }
    for graph in subgraphs(node) {
        names.extend(graph.output.iter().map(|output| output.name()));
        graph.node.iter().for_each(|inner| read_names(inner, names));
    }
}

/// What a node is called in messages: its name, or its first result.
pub(crate) fn label(node: &NodeProto) -> String {
    match node.name() {
        "" => node.output.first().cloned().unwrap_or_default(),
        name => name.to_string(),
    }
}

/// What a node is called in errors: its label and its op.
pub(crate) fn subject(node: &NodeProto) -> String {
    format!("node {:?} ({})", label(node), node.op_type())
}

/// What `node` wants to know.
pub(crate) fn need(node: Option<&NodeProto>, value: &str) -> Need {
    Need {
        node: node.map_or(String::new(), label),
        op: node.map_or(String::new(), |node| node.op_type().to_string()),
        value: value.to_string(),
    }
}
