//! The ONNX graph that is being written: nodes, initialisers, names.

use super::symbols::{self, Extents, Source};
use super::table;
use crate::error::OnnxError;
use crate::proto::attribute_proto::AttributeType;
use crate::proto::tensor_proto::DataType;
use crate::proto::tensor_shape_proto::{Dimension, dimension};
use crate::proto::{
    AttributeProto, GraphProto, NodeProto, TensorProto, TensorShapeProto, TypeProto, ValueInfoProto,
    type_proto,
};
use crate::tensor;
use bytes::Bytes;
use rlx_ir::dim::Interval;
use rlx_ir::{
    DType, Diagnostic, Dim, Graph, Literal, Node, Op, OpKind, Symbol, SymbolBounds, TensorType, Value,
};
use std::collections::{BTreeMap, BTreeSet, HashMap};

/// An attribute of a node.
pub(super) enum Field<'a> {
    Int(i64),
    Float(f64),
    Text(&'a str),
    Ints(Vec<i64>),
    Texts(Vec<&'a str>),
    Graph(Box<GraphProto>),
}

/// A value of the written graph, with its type.
#[derive(Clone, Debug)]
pub(super) struct Term {
    pub name: String,
    pub ty: TensorType,
}

/// One use of an op.
pub(super) struct Use<'a> {
    pub op: &'a Op,
    pub operands: Vec<Term>,
    pub results: &'a [TensorType],
}

impl Use<'_> {
    /// Name of operand `index`.
    pub fn operand(&self, index: usize) -> &str {
        self.operands.get(index).map_or("", |term| term.name.as_str())
    }

    /// Dtype of the first operand.
    pub fn dtype(&self) -> DType {
        self.operands[0].ty.dtype
    }
}

/// Why an op cannot be written; the names of its results.
pub(super) type Written = Result<Vec<String>, String>;

/// ONNX's element type of `dtype`.
pub(super) fn element_type(dtype: DType, opset: i64) -> Result<DataType, String> {
    let code = tensor::code(dtype).and_then(|code| DataType::try_from(code).ok());
    let kind = code.ok_or_else(|| format!("ONNX has no element type {dtype}"))?;
    let since = match dtype {
        DType::F4E2M1 => 23,
        DType::F8E8M0 => 24,
        DType::I2 | DType::U2 => 25,
        _ => 21,
    };
    if opset < since {
        let name = super::type_name(kind);
        return Err(format!("element type {name} came with opset {since}, this is opset {opset}"));
    }
    Ok(kind)
}

/// The graph that is being written.
pub(super) struct Writer<'g> {
    pub opset: i64,
    bounds: &'g BTreeMap<Symbol, SymbolBounds>,
    /// `None` where nothing is written in earnest: every symbol has a source then.
    sources: Option<BTreeMap<Symbol, Source>>,
    names: HashMap<Value, String>,
    nodes: Vec<NodeProto>,
    initialisers: Vec<TensorProto>,
    literals: HashMap<String, Literal>,
    constants: HashMap<(DType, Vec<usize>, Vec<u8>), String>,
    extents: HashMap<Dim, String>,
    taken: BTreeSet<String>,
    count: usize,
    refused: Vec<Diagnostic>,
}

impl<'g> Writer<'g> {
    pub fn new(opset: i64, graph: &'g Graph) -> Writer<'g> {
        let mut writer = Writer::trial(opset, graph.symbols());
        writer.sources = Some(BTreeMap::new());
        writer
    }

    /// A writer whose nodes are thrown away.
    pub fn trial(opset: i64, bounds: &'g BTreeMap<Symbol, SymbolBounds>) -> Writer<'g> {
        Writer {
            opset,
            bounds,
            sources: None,
            names: HashMap::new(),
            nodes: vec![],
            initialisers: vec![],
            literals: HashMap::new(),
            constants: HashMap::new(),
            extents: HashMap::new(),
            taken: BTreeSet::new(),
            count: 0,
            refused: vec![],
        }
    }

    /// Takes the names of inputs and outputs, names the params, and finds where symbols come from.
    pub fn leaves(&mut self, graph: &Graph) -> Result<(), OnnxError> {
        for (id, node) in graph.nodes_of(OpKind::Input) {
            let name = node.op.leaf_name().unwrap_or_default().to_string();
            if name.is_empty() {
                return Err(OnnxError::model("an input", "has no name, which ONNX requires"));
            }
            self.taken.insert(name.clone());
            self.names.insert(Value::first(id), name);
        }
        for output in graph.outputs() {
            let is_itself = self.names.get(&output.value) == Some(&output.name);
            let fresh = self.taken.insert(output.name.clone());
            if output.name.is_empty() || !(fresh || is_itself) {
                let message = "has the name of another value, or none; ONNX has one namespace";
                return Err(OnnxError::model(format!("output {:?}", output.name), message));
            }
        }
        for (id, node) in graph.nodes_of(OpKind::Param) {
            let name = self.unique(node.op.leaf_name().unwrap_or("param"));
            self.names.insert(Value::first(id), name);
        }
        self.sources = Some(symbols::sources(graph, |value| self.names[&value].clone()));
        Ok(())
    }

    /// The name of a value that was written.
    pub fn name_of(&self, value: Value) -> String {
        self.names.get(&value).cloned().unwrap_or_default()
    }

    pub fn add_initialiser(&mut self, proto: TensorProto) {
        self.initialisers.push(proto);
    }

    /// Where the value of a symbol comes from.
    pub fn source(&self, symbol: &Symbol) -> Option<Source> {
        match &self.sources {
            None => Some(Source { input: symbol.to_string(), axis: 0, factor: 1, offset: 0 }),
            Some(sources) => sources.get(symbol).cloned(),
        }
    }

    /// Lower and upper bound of `dim`.
    pub fn bounds(&self, dim: &Dim) -> Interval {
        dim.bounds(&|name| {
            let bounds = self.bounds.get(name).copied().unwrap_or_default();
            (Some(bounds.min), bounds.max)
        })
    }

    /// A name that no other value has, made of `stem`.
    pub fn unique(&mut self, stem: &str) -> String {
        let mut name = stem.to_string();
        while name.is_empty() || !self.taken.insert(name.clone()) {
            self.count += 1;
            name = format!("{stem}.{}", self.count);
        }
        name
    }

    /// Appends a node; the name of its one result.
    pub fn node(&mut self, op: &str, inputs: &[&str], fields: &[(&str, Field<'_>)]) -> String {
        self.nodes(op, inputs, fields, 1).pop().unwrap_or_default()
    }

    /// Appends a node with several results; operands left out are empty names.
    pub fn nodes(
        &mut self,
        op: &str,
        inputs: &[&str],
        fields: &[(&str, Field<'_>)],
        count: usize,
    ) -> Vec<String> {
        let used = inputs.iter().rposition(|name| !name.is_empty()).map_or(0, |last| last + 1);
        let output: Vec<String> = (0..count).map(|_| self.unique(&op.to_lowercase())).collect();
        self.nodes.push(NodeProto {
            input: inputs[..used].iter().map(ToString::to_string).collect(),
            output: output.clone(),
            name: output.first().cloned(),
            op_type: Some(op.to_string()),
            attribute: fields.iter().map(|(name, field)| attribute(name, field)).collect(),
            ..NodeProto::default()
        });
        output
    }

    /// `literal` as an initialiser.
    pub fn constant(&mut self, literal: &Literal) -> Result<String, String> {
        let key = (literal.dtype(), literal.dims().to_vec(), literal.bytes().to_vec());
        if let Some(name) = self.constants.get(&key) {
            return Ok(name.clone());
        }
        let name = self.unique("constant");
        self.initialisers.push(TensorProto {
            name: Some(name.clone()),
            dims: literal.dims().iter().map(|&dim| dim as i64).collect(),
            data_type: Some(element_type(literal.dtype(), self.opset)? as i32),
            raw_data: Some(Bytes::copy_from_slice(literal.bytes())),
            ..TensorProto::default()
        });
        self.constants.insert(key, name.clone());
        self.literals.insert(name.clone(), literal.clone());
        Ok(name)
    }

    /// How many nodes there are, to forget later ones.
    pub fn mark(&self) -> usize {
        self.nodes.len()
    }

    /// Forgets the nodes after `mark`.
    pub fn forget(&mut self, mark: usize) {
        self.nodes.truncate(mark);
        self.extents.clear();
    }

    /// The value of an initialiser of [`Writer::constant`].
    pub fn literal(&self, name: &str) -> Option<&Literal> {
        self.literals.get(name)
    }

    /// A vector of `i64`.
    pub fn ints(&mut self, values: &[i64]) -> String {
        let values: Vec<i128> = values.iter().map(|&value| value.into()).collect();
        let literal = Literal::ints(DType::I64, &[values.len()], &values).expect("one number per element");
        self.constant(&literal).expect("every opset has i64")
    }

    /// `value` repeated to `dims` in `dtype`.
    pub fn filled(&mut self, dtype: DType, dims: &[usize], value: f64) -> Result<String, String> {
        let count = dims.iter().product();
        let literal = Literal::floats(dtype, dims, &vec![value; count]).map_err(|error| error.to_string())?;
        self.constant(&literal)
    }

    /// `dims` as a vector of `i64`.
    pub fn dims(&mut self, dims: &[Dim]) -> Result<String, String> {
        let known: Option<Vec<i64>> = dims.iter().map(Dim::as_static).collect();
        if let Some(known) = known {
            return Ok(self.ints(&known));
        }
        let mut parts: Vec<String> = vec![];
        let mut at = 0;
        while at < dims.len() {
            let numbers: Vec<i64> = dims[at..].iter().map_while(Dim::as_static).collect();
            if numbers.is_empty() {
                parts.push(self.extent(&dims[at])?);
                at += 1;
            } else {
                at += numbers.len();
                parts.push(self.ints(&numbers));
            }
        }
        if let [one] = &parts[..] {
            return Ok(one.clone());
        }
        let parts: Vec<&str> = parts.iter().map(String::as_str).collect();
        Ok(self.node("Concat", &parts, &[("axis", Field::Int(0))]))
    }

    /// `dim` as a vector of one `i64`.
    pub fn extent(&mut self, dim: &Dim) -> Result<String, String> {
        if let Some(name) = self.extents.get(dim) {
            return Ok(name.clone());
        }
        let name = dim.rebuild(&mut Extents { writer: self });
        let name = name.map_err(|error| format!("the extent {dim} cannot be computed: {error}"))?;
        self.extents.insert(dim.clone(), name.clone());
        Ok(name)
    }

    /// `dim` as one `i64` of rank 0.
    pub fn extent_number(&mut self, dim: &Dim) -> Result<String, String> {
        match dim.as_static() {
            Some(value) => self.constant(&Literal::scalar_i64(value)),
            None => {
                let vector = self.extent(dim)?;
                Ok(self.node("Squeeze", &[&vector], &[]))
            }
        }
    }

    /// `x` in dtype `to`, with infinity or NaN for what is beyond its range, as here.
    pub fn cast(&mut self, x: &str, from: DType, to: DType) -> Result<String, String> {
        if from == to {
            return Ok(x.to_string());
        }
        if to == DType::F8E8M0 {
            return Err("casts to f8e8m0 round differently in ONNX".into());
        }
        let mut fields = vec![("to", Field::Int(element_type(to, self.opset)? as i64))];
        if to.is_float() && to.block_bits() == 8 {
            fields.push(("saturate", Field::Int(0)));
        }
        Ok(self.node("Cast", &[x], &fields))
    }

    /// Writes the nodes of `graph`, whose leaves have names.
    pub fn body(&mut self, graph: &Graph) -> Result<(), OnnxError> {
        self.write_nodes(graph);
        if self.refused.is_empty() {
            Ok(())
        } else {
            Err(OnnxError::Export(std::mem::take(&mut self.refused)))
        }
    }

    fn write_nodes(&mut self, graph: &Graph) {
        for (id, node) in graph.iter() {
            if node.op.leaf_name().is_some() {
                continue;
            }
            let written = self.write_node(graph, node);
            match written {
                Ok(names) => {
                    for (result, name) in names.into_iter().enumerate() {
                        self.names.insert(Value { node: id, result: result as u32 }, name);
                    }
                }
                Err(reason) => {
                    let subject = rlx_ir::lir::node_origin(graph, id);
                    self.refused.push(Diagnostic::new(subject.to_string(), reason));
                }
            }
        }
    }

    fn write_node(&mut self, graph: &Graph, node: &Node) -> Written {
        if let Op::Constant(constant) = &node.op {
            return Ok(vec![self.constant(&constant.value)?]);
        }
        for ty in &node.types {
            element_type(ty.dtype, self.opset)?;
        }
        let term = |&value: &Value| Term { name: self.name_of(value), ty: graph.ty(value).clone() };
        let operands = node.operands.iter().map(term).collect();
        table::write(self, &Use { op: &node.op, operands, results: &node.types })
    }

    /// Writes the nodes of `graph` among those of the graph around it; `inputs` are what its inputs are called there.
    pub fn inline(&mut self, graph: &Graph, inputs: &[String]) -> Result<Vec<Term>, String> {
        let leaves = graph.nodes_of(OpKind::Input).map(|(id, _)| Value::first(id));
        let inner = leaves.zip(inputs.iter().cloned()).collect();
        let (names, refused) = (std::mem::replace(&mut self.names, inner), self.refused.len());
        self.write_nodes(graph);
        let result = |value: Value| Term { name: self.name_of(value), ty: graph.ty(value).clone() };
        let results = graph.outputs().iter().map(|output| result(output.value)).collect();
        self.names = names;
        match self.refused.drain(refused..).next() {
            Some(finding) => Err(finding.to_string()),
            None => Ok(results),
        }
    }

    /// A graph for an attribute: its inputs, and what `write` gives as its results. It sees the values around it.
    pub fn subgraph(
        &mut self,
        name: &str,
        inputs: &[Term],
        write: impl FnOnce(&mut Writer<'g>) -> Result<Vec<Term>, String>,
    ) -> Result<GraphProto, String> {
        let nodes = std::mem::take(&mut self.nodes);
        let extents = self.extents.clone();
        // A result must be of the graph itself, and each has a name of its own.
        let results: Result<Vec<Term>, String> = write(self).map(|results| {
            let own = |term: Term| Term { name: self.node("Identity", &[&term.name], &[]), ty: term.ty };
            results.into_iter().map(own).collect()
        });
        let written = std::mem::replace(&mut self.nodes, nodes);
        self.extents = extents;
        let (results, opset) = (results?, self.opset);
        let info = |term: &Term| value_info(&term.name, &term.ty, opset);
        Ok(GraphProto {
            name: Some(self.unique(name)),
            node: written,
            input: inputs.iter().map(info).collect::<Result<_, _>>()?,
            output: results.iter().map(info).collect::<Result<_, _>>()?,
            ..GraphProto::default()
        })
    }

    /// The whole graph.
    pub fn finish(mut self, graph: &Graph) -> Result<GraphProto, OnnxError> {
        let made: BTreeSet<&String> = self.nodes.iter().flat_map(|node| &node.output).collect();
        let mut renamed: HashMap<String, String> = HashMap::new();
        let mut copies = vec![];
        for output in graph.outputs() {
            let name = self.name_of(output.value);
            if made.contains(&name) && !renamed.contains_key(&name) {
                renamed.insert(name, output.name.clone());
            } else if name != output.name {
                copies.push((name, output.name.clone()));
            }
        }
        for (from, to) in copies {
            self.nodes.push(NodeProto {
                input: vec![from],
                output: vec![to.clone()],
                name: Some(to),
                op_type: Some("Identity".into()),
                ..NodeProto::default()
            });
        }
        self.nodes.iter_mut().for_each(|node| rename(node, &renamed));
        let mut read = BTreeSet::new();
        self.nodes.iter().for_each(|node| reads(node, &mut read));
        let is_used =
            |proto: &TensorProto| !self.literals.contains_key(proto.name()) || read.contains(proto.name());
        self.initialisers.retain(is_used);
        let opset = self.opset;
        let info = |name: &str, ty: &TensorType| {
            value_info(name, ty, opset).map_err(|reason| OnnxError::model(format!("{name:?}"), reason))
        };
        let inputs = graph.nodes_of(OpKind::Input);
        let input = inputs.map(|(_, node)| info(node.op.leaf_name().unwrap_or_default(), &node.types[0]));
        let output = graph.outputs().iter().map(|output| info(&output.name, graph.ty(output.value)));
        Ok(GraphProto {
            name: Some(if graph.name.is_empty() { "graph".into() } else { graph.name.clone() }),
            input: input.collect::<Result<_, _>>()?,
            output: output.collect::<Result<_, _>>()?,
            node: self.nodes,
            initializer: self.initialisers,
            ..GraphProto::default()
        })
    }
}

/// Every name that `node` and the graphs inside it read.
fn reads(node: &NodeProto, names: &mut BTreeSet<String>) {
    names.extend(node.input.iter().cloned());
    let inner = node.attribute.iter().filter_map(|attribute| attribute.g.as_ref());
    inner.flat_map(|graph| &graph.node).for_each(|node| reads(node, names));
}

/// Renames what `node` and the graphs inside it read, and what it gives.
fn rename(node: &mut NodeProto, names: &HashMap<String, String>) {
    for name in node.input.iter_mut().chain(&mut node.output) {
        if let Some(other) = names.get(name) {
            name.clone_from(other);
        }
    }
    let inner = node.attribute.iter_mut().filter_map(|attribute| attribute.g.as_mut());
    inner.flat_map(|graph| &mut graph.node).for_each(|node| rename(node, names));
}

fn value_info(name: &str, ty: &TensorType, opset: i64) -> Result<ValueInfoProto, String> {
    let dim = |dim: &Dim| Dimension {
        value: Some(match dim.as_static() {
            Some(value) => dimension::Value::DimValue(value),
            None => dimension::Value::DimParam(dim.to_string()),
        }),
        ..Dimension::default()
    };
    let tensor = type_proto::Tensor {
        elem_type: Some(element_type(ty.dtype, opset)? as i32),
        shape: Some(TensorShapeProto { dim: ty.shape.dims().iter().map(dim).collect() }),
    };
    let ty = TypeProto { value: Some(type_proto::Value::TensorType(tensor)), ..TypeProto::default() };
    Ok(ValueInfoProto { name: Some(name.to_string()), r#type: Some(ty), ..ValueInfoProto::default() })
}

fn attribute(name: &str, field: &Field<'_>) -> AttributeProto {
    let mut proto = AttributeProto { name: Some(name.to_string()), ..AttributeProto::default() };
    let kind = match field {
        Field::Int(value) => {
            proto.i = Some(*value);
            AttributeType::Int
        }
        Field::Float(value) => {
            proto.f = Some(*value as f32);
            AttributeType::Float
        }
        Field::Text(text) => {
            proto.s = Some(Bytes::copy_from_slice(text.as_bytes()));
            AttributeType::String
        }
        Field::Ints(values) => {
            proto.ints.clone_from(values);
            AttributeType::Ints
        }
        Field::Texts(texts) => {
            proto.strings = texts.iter().map(|text| Bytes::copy_from_slice(text.as_bytes())).collect();
            AttributeType::Strings
        }
        Field::Graph(graph) => {
            proto.g = Some(GraphProto::clone(graph));
            AttributeType::Graph
        }
    };
    proto.r#type = Some(kind as i32);
    proto
}
