//! The graph: nodes in topological order, addressed by values.
//!
//! One type serves HIR bodies and MIR. Operands always stand earlier in the
//! list than their users, so a walk over the list is a walk in dependency
//! order. Building never fails on the spot: a wrong call records a diagnostic
//! and yields a poisoned value; [`Graph::finish`] returns all of them at once.
//! Equality and hashing are structural and ignore where nodes came from.

use crate::attr::AttrField;
use crate::diagnostic::{Diagnostic, IrError};
use crate::dim::{Dim, Interval, Symbol};
use crate::ops::{Op, OpKind};
use crate::shape::TensorType;
use std::collections::BTreeMap;
use std::hash::{Hash, Hasher};
use std::panic::Location;
use std::sync::Arc;

/// Most nodes of a graph that is built: what hostile input unrolls ends here, long before the memory does.
const MOST_NODES: usize = 1 << 19;

/// Names a node of a graph.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub struct NodeId(pub u32);

/// One result of one node.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub struct Value {
    /// The node.
    pub node: NodeId,
    /// Which of its results.
    pub result: u32,
}

impl Value {
    /// What a failed builder call yields; its uses record no further diagnostics.
    pub const POISON: Value = Value { node: NodeId(u32::MAX), result: 0 };

    /// The first result of `node`.
    pub fn first(node: NodeId) -> Value {
        Value { node, result: 0 }
    }
}

impl std::fmt::Display for Value {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.result {
            0 => write!(f, "%{}", self.node.0),
            result => write!(f, "%{}.{result}", self.node.0),
        }
    }
}

/// Where a node came from. Not part of a graph's identity.
#[derive(Clone, Debug, Default)]
pub struct Origin {
    /// Block path, ONNX node name or the like; empty if there is none.
    pub path: Arc<str>,
    /// Source line that built it.
    pub location: Option<&'static Location<'static>>,
}

impl PartialEq for Origin {
    fn eq(&self, _: &Origin) -> bool {
        true
    }
}
impl Eq for Origin {}
impl Hash for Origin {
    fn hash<H: Hasher>(&self, _: &mut H) {}
}

/// One operation.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Node {
    /// What is computed.
    pub op: Op,
    /// Operands, all from earlier nodes.
    pub operands: Vec<Value>,
    /// Types of the results.
    pub types: Vec<TensorType>,
    /// Where it came from.
    pub origin: Origin,
}

/// Bounds of a symbol.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct SymbolBounds {
    /// Smallest legal value.
    pub min: i64,
    /// Largest legal value, if there is one.
    pub max: Option<i64>,
}

impl std::fmt::Display for SymbolBounds {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.max {
            Some(max) => write!(f, "[{}, {max}]", self.min),
            None => write!(f, "[{}, inf]", self.min),
        }
    }
}

impl Default for SymbolBounds {
    /// Any extent.
    fn default() -> Self {
        SymbolBounds { min: 0, max: None }
    }
}

/// A named result of the graph.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Output {
    /// Its name, unique among the outputs.
    pub name: String,
    /// The value.
    pub value: Value,
}

/// A function over tensors.
#[derive(Clone, Debug, Default)]
pub struct Graph {
    /// Name, for reports.
    pub name: String,
    symbols: BTreeMap<Symbol, SymbolBounds>,
    nodes: Vec<Node>,
    outputs: Vec<Output>,
    /// New contents of declared state, by state name.
    updates: Vec<Output>,
    diagnostics: Vec<Diagnostic>,
    path: Arc<str>,
}

impl PartialEq for Graph {
    fn eq(&self, other: &Graph) -> bool {
        self.name == other.name
            && self.symbols == other.symbols
            && self.nodes == other.nodes
            && self.outputs == other.outputs
            && self.updates == other.updates
    }
}
impl Eq for Graph {}
impl Hash for Graph {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.name.hash(state);
        self.symbols.hash(state);
        self.nodes.hash(state);
        self.outputs.hash(state);
        self.updates.hash(state);
    }
}

impl Graph {
    /// An empty graph.
    pub fn new(name: impl Into<String>) -> Graph {
        Graph { name: name.into(), ..Graph::default() }
    }

    /// Bounds `symbol` (the default is any extent).
    pub fn bound_symbol(&mut self, symbol: &str, bounds: SymbolBounds) {
        self.symbols.insert(symbol.into(), bounds);
    }

    /// Every symbol that occurs or is declared, with its bounds.
    pub fn symbols(&self) -> &BTreeMap<Symbol, SymbolBounds> {
        &self.symbols
    }

    /// Lower and upper bound of a dim under the declared symbol bounds.
    pub fn dim_bounds(&self, dim: &Dim) -> Interval {
        dim.bounds(&|name| {
            let bounds = self.symbols.get(name).copied().unwrap_or_default();
            (Some(bounds.min), bounds.max)
        })
    }

    /// All nodes, in topological order.
    pub fn nodes(&self) -> &[Node] {
        &self.nodes
    }

    /// All nodes with their ids.
    pub fn iter(&self) -> impl DoubleEndedIterator<Item = (NodeId, &Node)> {
        self.nodes.iter().enumerate().map(|(index, node)| (NodeId(index as u32), node))
    }

    /// One node. Ids come from this graph, so the node exists.
    pub fn node(&self, id: NodeId) -> &Node {
        &self.nodes[id.0 as usize]
    }

    /// The op of the node that makes `value`.
    pub fn op(&self, value: Value) -> &Op {
        &self.node(value.node).op
    }

    /// Type of a value. A poisoned value has no type: see [`Graph::try_ty`].
    pub fn ty(&self, value: Value) -> &TensorType {
        self.try_ty(value).expect("the value is a result of a node of this graph")
    }

    /// Type of a value; `None` for a poisoned or foreign one.
    pub fn try_ty(&self, value: Value) -> Option<&TensorType> {
        self.nodes.get(value.node.0 as usize)?.types.get(value.result as usize)
    }

    /// Named results, in order.
    pub fn outputs(&self) -> &[Output] {
        &self.outputs
    }

    /// New contents of declared states.
    pub fn updates(&self) -> &[Output] {
        &self.updates
    }

    /// Replaces the outputs.
    pub fn set_outputs<N: Into<String>>(&mut self, outputs: impl IntoIterator<Item = (N, Value)>) {
        self.outputs = outputs.into_iter().map(|(name, value)| Output { name: name.into(), value }).collect();
    }

    /// Adds an output.
    pub fn output(&mut self, name: impl Into<String>, value: Value) {
        self.outputs.push(Output { name: name.into(), value });
    }

    /// Declares that state `name` holds `value` after the run.
    pub fn update_state(&mut self, name: impl Into<String>, value: Value) {
        self.updates.push(Output { name: name.into(), value });
    }

    /// Nodes built until the next call come from `path`.
    pub fn set_path(&mut self, path: &str) {
        self.path = path.into();
    }

    /// Ids of the nodes of one kind, in order.
    pub fn nodes_of(&self, kind: OpKind) -> impl Iterator<Item = (NodeId, &Node)> {
        self.iter().filter(move |(_, node)| node.op.kind() == kind)
    }

    /// Appends `op` and returns its first result.
    #[track_caller]
    pub fn push(&mut self, op: impl Into<Op>, operands: &[Value]) -> Value {
        self.push_all(op, operands).first().copied().unwrap_or(Value::POISON)
    }

    /// Appends `op` and returns all its results; none after a diagnostic.
    #[track_caller]
    pub fn push_all(&mut self, op: impl Into<Op>, operands: &[Value]) -> Vec<Value> {
        let location = Location::caller();
        let origin = Origin { path: self.path.clone(), location: Some(location) };
        let op = op.into();
        match self.try_push(op, operands, origin) {
            Ok(values) => values,
            Err(Some(diagnostic)) => {
                self.diagnostics.push(diagnostic.at(location));
                vec![]
            }
            Err(None) => vec![],
        }
    }

    /// Records a builder error of a helper on top of [`Graph::push`].
    #[track_caller]
    pub fn reject(&mut self, subject: &str, message: impl Into<String>) -> Value {
        self.diagnostics.push(Diagnostic::new(subject, message).at(Location::caller()));
        Value::POISON
    }

    /// Appends `op` with a given origin.
    ///
    /// # Errors
    /// The violated constraint or a graph that is too large; `None` when an operand is already poisoned, or when a
    /// graph that is too large has errors already.
    pub fn try_push(
        &mut self,
        op: Op,
        operands: &[Value],
        origin: Origin,
    ) -> Result<Vec<Value>, Option<Diagnostic>> {
        if self.nodes.len() >= MOST_NODES {
            // Told once: what builds without end must not fill the memory with its errors.
            let message = format!("the graph would have more than {MOST_NODES} nodes");
            return Err(self.diagnostics.is_empty().then(|| Diagnostic::new(op.def().name, message)));
        }
        let id = NodeId(self.nodes.len() as u32);
        let types = {
            let types: Option<Vec<_>> = operands.iter().map(|&operand| self.try_ty(operand)).collect();
            let Some(types) = types else {
                // Foreign values are errors of the caller; poisoned ones were reported already.
                let foreign = operands.iter().find(|&&v| v != Value::POISON && self.try_ty(v).is_none());
                return Err(foreign.map(|value| {
                    Diagnostic::new(op.def().name, format!("operand {value} is not a value of this graph"))
                }));
            };
            op.infer(&types).map_err(|violation| {
                let mut diagnostic =
                    Diagnostic::new(format!("%{} {}", id.0, op.def().name), violation.message);
                diagnostic.constraint = Some(violation.constraint);
                diagnostic.operands = types.iter().map(ToString::to_string).collect();
                if !origin.path.is_empty() {
                    diagnostic.subject = format!("{} ({})", diagnostic.subject, origin.path);
                }
                Some(diagnostic)
            })?
        };
        self.declare_symbols(&types);
        for (_, body) in op.bodies() {
            self.narrow_symbols(body.symbols());
        }
        op.loop_extent().into_iter().for_each(|dim| self.declare_dim(dim));
        let count = types.len() as u32;
        self.nodes.push(Node { op, operands: operands.to_vec(), types, origin });
        Ok((0..count).map(|result| Value { node: id, result }).collect())
    }

    fn declare_symbols(&mut self, types: &[TensorType]) {
        types.iter().flat_map(|ty| ty.shape.dims()).for_each(|dim| self.declare_dim(dim));
    }

    fn declare_dim(&mut self, dim: &Dim) {
        dim.visit_symbols(&mut |symbol| {
            if !self.symbols.contains_key(symbol) {
                self.symbols.insert(symbol.clone(), SymbolBounds::default());
            }
        });
    }

    /// Every symbol keeps the bounds of both graphs.
    fn narrow_symbols(&mut self, others: &BTreeMap<Symbol, SymbolBounds>) {
        for (symbol, bounds) in others {
            let own = self.symbols.entry(symbol.clone()).or_default();
            own.min = own.min.max(bounds.min);
            own.max = own.max.into_iter().chain(bounds.max).min();
        }
    }

    /// The graph with every dim replaced, in attributes and types. A symbol that stays keeps its bounds.
    pub fn map_dims(&self, map: &dyn Fn(&Dim) -> Dim) -> Graph {
        let mut graph = Graph { symbols: BTreeMap::new(), nodes: vec![], ..self.clone() };
        for (symbol, bounds) in &self.symbols {
            if map(&Dim::symbol(symbol)).as_symbol() == Some(symbol) {
                graph.symbols.insert(symbol.clone(), *bounds);
            }
        }
        for node in &self.nodes {
            let types: Vec<TensorType> = node.types.iter().map(|ty| ty.map_dims(map)).collect();
            graph.declare_symbols(&types);
            graph.nodes.push(Node { op: node.op.map_dims(map), types, ..node.clone() });
        }
        graph
    }

    /// Diagnostics recorded so far.
    pub fn diagnostics(&self) -> &[Diagnostic] {
        &self.diagnostics
    }

    /// The finished graph.
    ///
    /// # Errors
    /// Every diagnostic recorded while building, and everything the verifier finds.
    pub fn finish(self) -> Result<Graph, IrError> {
        if self.diagnostics.is_empty() {
            crate::verify::verify(&self)?;
            return Ok(self);
        }
        Err(IrError::Invalid(self.diagnostics))
    }

    /// A graph with the same name, symbols and no nodes: where a pass starts.
    pub fn emptied(&self) -> Graph {
        Graph { name: self.name.clone(), symbols: self.symbols.clone(), ..Graph::default() }
    }

    /// Copies `node` of another graph into this one, its operands replaced.
    /// Types are inferred again, so operands of other types are legal where
    /// the op accepts them.
    ///
    /// # Errors
    /// The constraint that the new operands violate.
    pub fn copy_node(&mut self, node: &Node, operands: &[Value]) -> Result<Vec<Value>, Diagnostic> {
        self.try_push(node.op.clone(), operands, node.origin.clone()).map_err(|diagnostic| {
            diagnostic.unwrap_or_else(|| Diagnostic::new(node.op.def().name, "poisoned operand"))
        })
    }

    /// Replaces the op of node `id` by one that gives the same results and perhaps more after them.
    ///
    /// # Errors
    /// The constraint that the operands violate, or results that are others.
    pub fn widen_node(&mut self, id: NodeId, op: Op) -> Result<(), Diagnostic> {
        let node = self.node(id);
        let subject = format!("%{} {}", id.0, op.def().name);
        let operands: Vec<_> = node.operands.iter().map(|&operand| self.ty(operand)).collect();
        let types = op.infer(&operands).map_err(|violation| Diagnostic::new(&subject, violation.message))?;
        if !types.starts_with(&node.types) {
            return Err(Diagnostic::new(
                subject,
                format!("gives {types:?}, expected {:?} first", node.types),
            ));
        }
        let node = &mut self.nodes[id.0 as usize];
        (node.op, node.types) = (op, types);
        Ok(())
    }

    /// Replaces the bodies of a node, in the order of [`Op::bodies`], by others that take and give the same types.
    pub fn set_bodies(&mut self, id: NodeId, bodies: Vec<Graph>) {
        let op = &mut self.nodes[id.0 as usize].op;
        for (body, graph) in op.bodies_mut().into_iter().zip(bodies) {
            *body = graph.into();
        }
        for (_, body) in self.nodes[id.0 as usize].op.clone().bodies() {
            self.narrow_symbols(body.symbols());
        }
    }

    /// How often each value is used, outputs and state updates included.
    pub fn use_counts(&self) -> BTreeMap<Value, usize> {
        let mut counts = BTreeMap::new();
        let used = self.nodes.iter().flat_map(|node| node.operands.iter().copied());
        for value in used.chain(self.outputs.iter().chain(&self.updates).map(|output| output.value)) {
            *counts.entry(value).or_insert(0) += 1;
        }
        counts
    }

    /// Inlines `body` into this graph, its inputs replaced by `inputs` (by
    /// name); params and states are merged by name, and a symbol keeps the bounds
    /// of both graphs. Returns the body's outputs.
    ///
    /// # Errors
    /// An input that is not given, or types that do not fit.
    pub fn inline(
        &mut self,
        body: &Graph,
        inputs: &BTreeMap<String, Value>,
        rename: &dyn Fn(&str) -> String,
    ) -> Result<Vec<Value>, Diagnostic> {
        let mut map: BTreeMap<Value, Value> = BTreeMap::new();
        let mut leaves: BTreeMap<(OpKind, String), Value> = BTreeMap::new();
        for (id, node) in self.iter() {
            if let Some(name) = node.op.leaf_name() {
                leaves.insert((node.op.kind(), name.to_string()), Value::first(id));
            }
        }
        self.narrow_symbols(&body.symbols);
        for (id, node) in body.iter() {
            let op = match node.op.leaf_name() {
                Some(name) if node.op.kind() == OpKind::Input => {
                    let value = *inputs.get(name).ok_or_else(|| {
                        Diagnostic::new(format!("input \"{name}\""), "is not given by the caller")
                    })?;
                    if self.try_ty(value).is_some_and(|ty| *ty != node.types[0]) {
                        return Err(Diagnostic::new(
                            format!("input \"{name}\""),
                            format!("expected {}, found {}", node.types[0], self.ty(value)),
                        ));
                    }
                    map.insert(Value::first(id), value);
                    continue;
                }
                Some(name) => {
                    let renamed = rename(name);
                    if let Some(&value) = leaves.get(&(node.op.kind(), renamed.clone())) {
                        map.insert(Value::first(id), value);
                        continue;
                    }
                    node.op.with_leaf_name(&renamed)
                }
                None => node.op.clone(),
            };
            let operands: Vec<_> = node.operands.iter().map(|operand| map[operand]).collect();
            let mut origin = node.origin.clone();
            if !self.path.is_empty() {
                origin.path = self.path.clone();
            }
            let results = self.try_push(op, &operands, origin).map_err(|diagnostic| {
                diagnostic.unwrap_or_else(|| Diagnostic::new("block", "poisoned operand"))
            })?;
            for (result, value) in results.into_iter().enumerate() {
                map.insert(Value { node: id, result: result as u32 }, value);
            }
        }
        for update in &body.updates {
            self.updates.push(Output { name: rename(&update.name), value: map[&update.value] });
        }
        Ok(body.outputs.iter().map(|output| map[&output.value]).collect())
    }
}
