//! The importer: walks the nodes of a model and builds a graph from them.
//!
//! A walk is a stack of frames, one per graph, body or function that is under way. A rule turns one node into nodes of
//! the graph that is being built (the innermost of `levels`: bodies of control flow are graphs of their own). Where a
//! rule must know a value that only a run can tell, the walk halts; a run then executes what was built so far and the
//! walk goes on with the values (`stage`). Nodes whose operands are constants are evaluated on the spot.

use crate::dims;
use crate::error::{OnnxError, Unsupported};
use crate::host::computed_type;
use crate::model::{Model, canonical, opsets, subgraphs};
use crate::names::{Need, label, need, read_names, subject};
use crate::node::{Node, Outcome, Stop};
use crate::proto::{AttributeProto, GraphProto, NodeProto};
use crate::rules::control::{After, Body, Call, Next};
use crate::rules::{self, Rule};
use crate::stage::first_along;
use crate::tensor::{self, FileTensor};
use crate::value::{Computed, Content, Imported, Tensor, Weight};
use rlx_ir::interpret::{Tensors, evaluate};
use rlx_ir::literal::element_count;
use rlx_ir::{Bindings, DType, Graph, Literal, TensorType, Value};
use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::rc::Rc;
use std::sync::Arc;

/// Deepest nesting of bodies and functions.
const DEEPEST: usize = 64;
/// Most nodes that one walk imports, unrolled loops included.
const MOST_STEPS: usize = 1 << 18;
/// Most bytes of an initialiser that is a constant of the graph; larger ones are params.
const LARGEST_CONSTANT: usize = 1024;
/// The input that brings the key of random numbers that have no seed, where the model has none of this name.
const RANDOM_INPUT: &str = "random_key";
/// Most elements that are computed on the spot for one node of constants.
const MOST_FOLDED: usize = 1 << 16;

/// Why a walk does not go on.
pub(crate) enum Halt {
    /// Values must be known first.
    Value(Need),
    Failed(OnnxError),
}

impl From<OnnxError> for Halt {
    fn from(error: OnnxError) -> Halt {
        Halt::Failed(error)
    }
}

/// A graph that is being built.
struct Level {
    graph: Graph,
    /// What a body reads of the graph around it: the value there, and the input here.
    captures: Vec<(Value, Value)>,
}

type Attributes<'m> = HashMap<&'m str, &'m AttributeProto>;

/// A graph, body or function under way.
struct Frame<'m> {
    body: Body<'m>,
    at: usize,
    values: HashMap<&'m str, Imported>,
    /// There when all nodes are done.
    results: Option<Vec<Imported>>,
    after: Option<Box<dyn After<'m> + 'm>>,
    opsets: Rc<BTreeMap<String, i64>>,
    attributes: Rc<Attributes<'m>>,
    last_uses: Rc<HashMap<&'m str, usize>>,
}

/// The state of a walk.
pub(crate) struct Context<'m> {
    model: &'m Model,
    levels: Vec<Level>,
    frames: Vec<Frame<'m>>,
    /// Params and inputs of the outermost graph that exist already, by name.
    leaves: HashMap<String, Value>,
    /// What the inputs of the outermost graph are fed with.
    pub(crate) feeds: BTreeMap<String, Literal>,
    /// The weights that the outermost graph uses.
    pub(crate) weights: BTreeMap<String, Arc<Weight>>,
    /// Fed inputs with extents that are symbols.
    pub(crate) symbolic_inputs: Vec<Tensor>,
    /// Extents that the feeds of a run give.
    pub(crate) bindings: Bindings,
    /// Names of feeds whose values were looked at.
    pub(crate) looked_at: BTreeSet<String>,
    /// The key of a run's random numbers, where there is a run.
    pub(crate) run_key: Option<Literal>,
    /// How many keys were handed out.
    draws: u32,
    /// Nodes whose bodies cannot be bodies of the graph: they are walked, one run after the other.
    pub(crate) walked: HashSet<*const NodeProto>,
    constants: HashMap<*const GraphProto, Rc<Vec<(&'m str, Imported)>>>,
    uses: HashMap<*const NodeProto, Rc<HashMap<&'m str, usize>>>,
    weight_names: BTreeSet<String>,
    steps: usize,
    stages: usize,
}

impl<'m> Context<'m> {
    pub fn new(model: &'m Model) -> Context<'m> {
        let name = model.graph().name();
        let graph = Graph::new(if name.is_empty() { "model" } else { name });
        Context {
            model,
            levels: vec![Level { graph, captures: vec![] }],
            frames: vec![],
            leaves: HashMap::new(),
            feeds: BTreeMap::new(),
            weights: BTreeMap::new(),
            symbolic_inputs: vec![],
            bindings: Bindings::new(),
            looked_at: BTreeSet::new(),
            run_key: None,
            draws: 0,
            walked: HashSet::new(),
            constants: HashMap::new(),
            uses: HashMap::new(),
            weight_names: BTreeSet::new(),
            steps: 0,
            stages: 0,
        }
    }

    pub fn model(&self) -> &'m Model {
        self.model
    }

    /// The graph that is being built.
    pub fn graph(&mut self) -> &mut Graph {
        &mut self.levels.last_mut().expect("the outermost level is never removed").graph
    }

    pub(crate) fn level(&self) -> usize {
        self.levels.len() - 1
    }

    /// Type of a value of the graph that is being built.
    pub fn ty(&mut self, value: Value) -> Result<TensorType, Stop<'m>> {
        self.check()?;
        let ty = self.graph().try_ty(value).cloned();
        ty.ok_or_else(|| Stop::Invalid("a value was not computed".into()))
    }

    /// Fails with what the graph found wrong, if anything.
    pub fn check(&mut self) -> Result<(), Stop<'m>> {
        match self.graph().diagnostics().first() {
            Some(finding) => Err(Stop::Invalid(finding.to_string())),
            None => Ok(()),
        }
    }

    /// `value` of the graph that is being built as a tensor.
    pub fn tensor(&mut self, value: Value) -> Result<Imported, Stop<'m>> {
        let ty = self.ty(value)?;
        self.tensor_as(value, ty.dtype)
    }

    /// As [`Context::tensor`], with the dtype that ONNX sees.
    pub fn tensor_as(&mut self, value: Value, dtype: DType) -> Result<Imported, Stop<'m>> {
        let shape = self.ty(value)?.shape;
        let node = Some(Computed { level: self.level(), value });
        Ok(Tensor { dtype, shape, node, content: Content::Unknown, bounded: None }.into())
    }

    /// Several values as tensors.
    pub fn tensors(&mut self, values: impl IntoIterator<Item = Value>) -> Result<Vec<Imported>, Stop<'m>> {
        values.into_iter().map(|value| self.tensor(value)).collect()
    }

    /// The elements of `tensor`, if they are known.
    pub fn known(&mut self, tensor: &Tensor) -> Option<Result<Literal, String>> {
        match &tensor.content {
            Content::Literal(literal) => Some(Ok(literal.clone())),
            Content::Weight(weight) => Some(weight.tensor.literal()),
            Content::Fed(feed) => {
                self.looked_at.insert(feed.name.clone());
                Some(Ok(feed.literal.clone()))
            }
            Content::Dims(_) | Content::Ratios(..) | Content::Unknown => None,
        }
    }

    /// `tensor` in the graph that is being built.
    pub fn value(&mut self, tensor: &Tensor) -> Result<Value, Stop<'m>> {
        if let Some(node) = tensor.node {
            return self.bring(node);
        }
        let value = match &tensor.content {
            Content::Literal(literal) => self.graph().constant(literal.clone()),
            Content::Dims(dims) => {
                let dims = dims.clone();
                return dims::numbers(self.graph(), &dims, &tensor.ty());
            }
            Content::Ratios(dims, divisor) => {
                let (dims, divisor) = (dims.clone(), *divisor as f64);
                let whole = dims::numbers(self.graph(), &dims, &tensor.ty())?;
                let divisor = self.graph().scalar(tensor.dtype, divisor);
                return Ok(self.graph().div(whole, divisor));
            }
            Content::Weight(weight) => {
                let ty = TensorType::new(weight.tensor.dtype, weight.tensor.dims.as_slice());
                self.weights.entry(weight.name.clone()).or_insert_with(|| weight.clone());
                self.leaf(&weight.name, |graph, name| graph.param(name, ty))?
            }
            Content::Fed(feed) => {
                self.feeds.entry(feed.name.clone()).or_insert_with(|| feed.literal.clone());
                let ty = tensor.ty();
                self.leaf(&feed.name, |graph, name| graph.input(name, ty))?
            }
            Content::Unknown => return Err(Stop::Invalid("a tensor was not computed".into())),
        };
        self.unpacked(value)
    }

    /// `value` in the dtype that the importer computes in.
    fn unpacked(&mut self, value: Value) -> Result<Value, Stop<'m>> {
        let ty = self.ty(value)?;
        if computed_type(&ty) == ty { Ok(value) } else { Ok(self.graph().decode_storage(value)) }
    }

    fn leaf(&mut self, name: &str, make: impl FnOnce(&mut Graph, &str) -> Value) -> Result<Value, Stop<'m>> {
        let value = match self.leaves.get(name) {
            Some(&value) => value,
            None => {
                let value = make(&mut self.levels[0].graph, name);
                self.leaves.insert(name.to_string(), value);
                value
            }
        };
        self.bring(Computed { level: 0, value })
    }

    /// The name of the input that brings the key of a run's random numbers.
    pub(crate) fn random_input(&self) -> String {
        let mut name = String::from(RANDOM_INPUT);
        while self.model.graph().input.iter().any(|input| input.name() == name) {
            name.push('\'');
        }
        name
    }

    /// A key of random numbers that no other node has. With a seed it is always the same; else it depends on the key
    /// of the run, which is an input of the graph.
    pub fn random_key(&mut self, seed: Option<u32>) -> Result<Value, Stop<'m>> {
        if self.level() > 0 {
            let reason = "inside a body that runs many times it would draw the same numbers each time";
            return Err(Stop::Refused(reason.into()));
        }
        let draw = self.draws;
        self.draws += 1;
        let wrong = |error: rlx_ir::LiteralError| Stop::Invalid(error.to_string());
        if let Some(seed) = seed {
            let key = Literal::ints(DType::U32, &[2], &[seed.into(), draw.into()]).map_err(wrong)?;
            return Ok(self.graph().constant(key));
        }
        let name = self.random_input();
        if let Some(key) = self.run_key.clone() {
            self.feeds.insert(name.clone(), key);
        }
        let key = self.leaf(&name, |graph, name| graph.input(name, TensorType::new(DType::U32, [2])))?;
        let draw = self.graph().constant(Literal::scalar_i64(draw.into()));
        Ok(self.graph().random_fold_in(key, draw))
    }

    /// A value of a graph around the innermost one, as an input of all bodies between.
    fn bring(&mut self, node: Computed) -> Result<Value, Stop<'m>> {
        let mut value = node.value;
        for level in node.level + 1..self.levels.len() {
            if let Some(&(_, inner)) = self.levels[level].captures.iter().find(|(outer, _)| *outer == value) {
                value = inner;
                continue;
            }
            let ty = self.levels[level - 1].graph.try_ty(value).cloned();
            let ty = ty.ok_or_else(|| Stop::Invalid("a value was not computed".into()))?;
            let own = &mut self.levels[level];
            let inner = own.graph.input(format!("capture{}", own.captures.len()), ty);
            own.captures.push((value, inner));
            value = inner;
        }
        Ok(value)
    }

    /// Builds a graph of its own: `inputs` are its first inputs, `build` gives its outputs. What it reads of the graph
    /// around it becomes further inputs; their values there are the second result.
    pub fn body(
        &mut self,
        name: &str,
        inputs: &[TensorType],
        build: impl FnOnce(&mut Context<'m>, Vec<Value>) -> Result<Vec<Value>, Stop<'m>>,
    ) -> Result<(Graph, Vec<Value>), Stop<'m>> {
        let mut graph = Graph::new(name);
        for (symbol, bounds) in self.graph().symbols().clone() {
            graph.bound_symbol(&symbol, bounds);
        }
        self.build(graph, inputs, build)
    }

    /// As [`Context::body`], from an empty graph on.
    fn build(
        &mut self,
        mut graph: Graph,
        inputs: &[TensorType],
        build: impl FnOnce(&mut Context<'m>, Vec<Value>) -> Result<Vec<Value>, Stop<'m>>,
    ) -> Result<(Graph, Vec<Value>), Stop<'m>> {
        let (levels, frames) = (self.levels.len(), self.frames.len());
        let own: Vec<Value> =
            inputs.iter().enumerate().map(|(i, ty)| graph.input(format!("operand{i}"), ty.clone())).collect();
        self.levels.push(Level { graph, captures: vec![] });
        let built = build(self, own).and_then(|outputs| self.check().map(|()| outputs));
        self.frames.truncate(frames);
        let level = self.levels.split_off(levels).into_iter().next().expect("pushed above");
        let outputs = built?;
        let mut graph = level.graph;
        graph.set_outputs(outputs.into_iter().enumerate().map(|(i, value)| (format!("result{i}"), value)));
        Ok((graph, level.captures.into_iter().map(|(outer, _)| outer).collect()))
    }

    /// Imports `graph` of the model into the graph that is being built, to its end.
    pub fn walk(
        &mut self,
        graph: &'m GraphProto,
        inputs: Vec<Option<Imported>>,
    ) -> Result<Vec<Imported>, Stop<'m>> {
        let base = self.frames.len();
        self.enter(Body::Graph(graph), inputs, None, None)?;
        self.advance(base).map_err(|halt| match halt {
            Halt::Value(_) => {
                Stop::Refused("a body depends on values that are not known before it runs".into())
            }
            Halt::Failed(error) => Stop::Failed(error),
        })
    }

    /// Begins a body.
    pub(crate) fn enter(
        &mut self,
        body: Body<'m>,
        inputs: Vec<Option<Imported>>,
        attributes: Option<Attributes<'m>>,
        after: Option<Box<dyn After<'m> + 'm>>,
    ) -> Result<(), Stop<'m>> {
        if self.frames.len() >= DEEPEST {
            return Err(Stop::Invalid(format!("graphs and functions nest deeper than {DEEPEST} levels")));
        }
        let names = body.inputs();
        if inputs.len() > names.len() {
            return Err(Stop::Invalid(format!(
                "{} has {} inputs, it gets {}",
                body.name(),
                names.len(),
                inputs.len()
            )));
        }
        let mut values = HashMap::new();
        if let Body::Graph(graph) = body {
            values.extend(self.graph_constants(graph)?.iter().cloned());
        }
        for (name, value) in names.iter().zip(inputs) {
            if let Some(value) = value {
                values.insert(*name, value);
            }
        }
        let around = self.frames.last();
        let (opsets, attributes) = match body {
            Body::Function(function) => {
                (Rc::new(opsets(&function.opset_import)), Rc::new(attributes.unwrap_or_default()))
            }
            Body::Graph(_) => match around {
                Some(frame) => (frame.opsets.clone(), frame.attributes.clone()),
                None => (Rc::new(self.model.opsets().clone()), Rc::default()),
            },
        };
        let last_uses = self.last_uses(&body);
        self.frames.push(Frame { body, at: 0, values, results: None, after, opsets, attributes, last_uses });
        Ok(())
    }

    /// The initialisers of a graph.
    fn graph_constants(&mut self, graph: &'m GraphProto) -> Result<Rc<Vec<(&'m str, Imported)>>, Stop<'m>> {
        if let Some(found) = self.constants.get(&std::ptr::from_ref(graph)) {
            return Ok(found.clone());
        }
        let mut all: Vec<(&'m str, Imported)> = vec![];
        for proto in &graph.initializer {
            let wrong = |reason: String| Stop::Invalid(format!("initialiser {:?}: {reason}", proto.name()));
            let external = self.model.external_bytes(proto).map_err(wrong)?;
            let value = match tensor::read(proto, external).map_err(wrong)? {
                tensor::Read::Strings(strings) => strings.into(),
                tensor::Read::Numbers(tensor) => self.initialiser(proto.name(), tensor).map_err(wrong)?,
            };
            all.push((proto.name(), value));
        }
        for proto in &graph.sparse_initializer {
            let name = proto.values.as_ref().map_or("", |values| values.name());
            let literal = tensor::read_sparse(proto);
            let literal =
                literal.map_err(|reason| Stop::Invalid(format!("initialiser {name:?}: {reason}")))?;
            all.push((name, Tensor::literal(literal).into()));
        }
        let mut names = BTreeSet::new();
        if let Some((twice, _)) = all.iter().find(|(name, _)| !names.insert(*name)) {
            return Err(Stop::Invalid(format!("there are two initialisers {twice:?}")));
        }
        let all = Rc::new(all);
        self.constants.insert(std::ptr::from_ref(graph), all.clone());
        Ok(all)
    }

    /// `tensor` as a constant, or as a weight that is called `name` or nearly so.
    pub(crate) fn initialiser(&mut self, name: &str, tensor: FileTensor) -> Result<Imported, String> {
        if tensor.bytes.len() <= LARGEST_CONSTANT {
            return Ok(Tensor::literal(tensor.literal()?).into());
        }
        // Graphs inside the model may use one name several times.
        let mut unique = name.to_string();
        while !self.weight_names.insert(unique.clone()) {
            unique.push('\'');
        }
        let (dtype, shape) = (tensor.dtype, tensor.dims.as_slice().into());
        let content = Content::Weight(Arc::new(Weight { name: unique, tensor }));
        Ok(Tensor { dtype, shape, node: None, content, bounded: None }.into())
    }

    /// For every name that a body reads, the last of its nodes that does.
    fn last_uses(&mut self, body: &Body<'m>) -> Rc<HashMap<&'m str, usize>> {
        let nodes = body.nodes();
        let Some(first) = nodes.first() else { return Rc::default() };
        if let Some(found) = self.uses.get(&std::ptr::from_ref(first)) {
            return found.clone();
        }
        let mut uses = HashMap::new();
        for (index, node) in nodes.iter().enumerate() {
            let mut names = vec![];
            read_names(node, &mut names);
            uses.extend(names.into_iter().map(|name| (name, index)));
        }
        uses.extend(body.outputs().into_iter().map(|name| (name, usize::MAX)));
        let uses = Rc::new(uses);
        self.uses.insert(std::ptr::from_ref(first), uses.clone());
        uses
    }

    /// The value called `name` for the node under way.
    pub(crate) fn lookup(&self, name: &str) -> Option<&Imported> {
        for frame in self.frames.iter().rev() {
            if let Some(value) = frame.values.get(name) {
                return Some(value);
            }
            if matches!(frame.body, Body::Function(_)) {
                return None;
            }
        }
        None
    }

    /// An input of the outermost graph whose value only a run knows.
    pub(crate) fn fed_later(&mut self, name: &str, ty: TensorType) -> Result<Imported, Stop<'m>> {
        let value = self.graph().input(name, ty.clone());
        let value = self.unpacked(value)?;
        self.tensor_as(value, ty.dtype)
    }

    /// Makes inputs of the graph of those that bind its symbols and that nothing reads.
    pub(crate) fn bind_symbols(&mut self) -> Result<(), Stop<'m>> {
        for tensor in std::mem::take(&mut self.symbolic_inputs) {
            let mut is_used = false;
            let symbols = self.levels[0].graph.symbols();
            tensor
                .shape
                .dims()
                .iter()
                .for_each(|dim| dim.visit_symbols(&mut |s| is_used |= symbols.contains_key(s)));
            if is_used {
                self.value(&tensor)?;
            }
        }
        Ok(())
    }

    /// Extents of an input of the outermost graph; `None` for those that a run binds.
    pub(crate) fn input_extents(&self, name: &str) -> Vec<Option<usize>> {
        let ty = self.leaves.get(name).and_then(|&value| self.levels[0].graph.try_ty(value));
        let dims = ty.map(|ty| ty.shape.dims()).unwrap_or_default();
        dims.iter().map(|dim| dim.as_static().and_then(|dim| usize::try_from(dim).ok())).collect()
    }

    /// Is `name` an operand of the function under way that its caller leaves out?
    fn is_left_out(&self, name: &str) -> bool {
        let function = self.frames.iter().rev().find(|frame| matches!(frame.body, Body::Function(_)));
        function.is_some_and(|frame| frame.body.inputs().contains(&name))
    }

    /// Goes on until the frame above `base` is done; its results.
    pub(crate) fn advance(&mut self, base: usize) -> Result<Vec<Imported>, Halt> {
        loop {
            let frame = self.frames.last_mut().expect("a frame above the base is under way");
            if frame.results.is_none() {
                if let Some(node) = frame.body.nodes().get(frame.at) {
                    self.step(node)?;
                    continue;
                }
                let mut results = vec![];
                for name in frame.body.outputs() {
                    let value = self.lookup(name).cloned();
                    let missing = || OnnxError::model(format!("output {name:?}"), "no node computes it");
                    results.push(value.ok_or_else(missing)?);
                }
                self.frames.last_mut().expect("it is under way").results = Some(results);
            }
            let frame = self.frames.last_mut().expect("it is under way");
            let Some(mut after) = frame.after.take() else {
                let frame = self.frames.pop().expect("it is under way");
                debug_assert_eq!(self.frames.len(), base);
                return Ok(frame.results.expect("set above"));
            };
            let results = frame.results.take().expect("set above");
            let next = after.resume(self, &results);
            let frame = self.frames.last_mut().expect("it is under way");
            match next {
                Err(Stop::Value(_)) => {
                    (frame.after, frame.results) = (Some(after), Some(results));
                    let node = self.calling_node();
                    return Err(Halt::Value(need(node, "the results of its body")));
                }
                Err(stop) => return Err(Halt::Failed(self.failure(self.calling_node(), stop))),
                Ok(Next::Again(inputs)) => {
                    let body = frame.body;
                    let attributes = frame.attributes.clone();
                    self.frames.pop();
                    let node = self.frames.last().map(|frame| &frame.body.nodes()[frame.at]);
                    let begun = self.enter(body, inputs, Some((*attributes).clone()), Some(after));
                    begun.map_err(|stop| self.failure(node, stop))?;
                    self.count_step()?;
                }
                Ok(Next::Done(outputs)) => {
                    self.frames.pop();
                    let frame = self.frames.last().expect("a body was entered by a node");
                    let node = &frame.body.nodes()[frame.at];
                    self.define(node, outputs).map_err(|stop| self.failure(Some(node), stop))?;
                }
            }
        }
    }

    /// The node whose body the innermost frame is.
    fn calling_node(&self) -> Option<&'m NodeProto> {
        let around = self.frames.len().checked_sub(2).map(|index| &self.frames[index])?;
        around.body.nodes().get(around.at)
    }

    fn count_step(&mut self) -> Result<(), OnnxError> {
        self.steps += 1;
        if self.steps > MOST_STEPS {
            let message =
                format!("more than {MOST_STEPS} nodes are imported, those of unrolled loops included");
            let around = self.calling_node().map_or_else(|| self.model.source().to_string(), subject);
            return Err(OnnxError::model(around, message));
        }
        Ok(())
    }

    /// Imports one node.
    fn step(&mut self, node: &'m NodeProto) -> Result<(), Halt> {
        self.count_step()?;
        let mut inputs = vec![];
        for name in &node.input {
            let value = match self.lookup(name) {
                Some(value) => Some(Some(value.clone())),
                None if name.is_empty() || self.is_left_out(name) => None,
                None => Some(None),
            };
            let missing =
                || OnnxError::model(subject(node), format!("operand {name:?} is made by no node before it"));
            let value = value.map(|value| value.ok_or_else(missing)).transpose()?;
            if let Some(Imported::Tensor(Tensor { bounded: Some(_), .. })) = &value {
                return Err(Halt::Value(need(Some(node), name)));
            }
            inputs.push(value);
        }
        let path = subject(node);
        self.graph().set_path(&path);
        match self.import(node, inputs) {
            Ok(outputs) => {
                self.define(node, outputs).map_err(|stop| Halt::Failed(self.failure(Some(node), stop)))
            }
            Err(Stop::Value(index)) => {
                Err(Halt::Value(need(Some(node), node.input.get(index).map_or("", String::as_str))))
            }
            Err(Stop::Enter(call)) => {
                let Call { body, inputs, attributes, after } = *call;
                self.enter(body, inputs, attributes, Some(after))
                    .map_err(|stop| Halt::Failed(self.failure(Some(node), stop)))
            }
            Err(stop) => Err(Halt::Failed(self.failure(Some(node), stop))),
        }
    }

    fn import(
        &mut self,
        node: &'m NodeProto,
        inputs: Vec<Option<Imported>>,
    ) -> Result<Vec<Imported>, Stop<'m>> {
        let frame = self.frames.last().expect("a node is part of a frame");
        let outer = frame.attributes.clone();
        let mut attributes = HashMap::new();
        for attribute in &node.attribute {
            let value = match attribute.ref_attr_name() {
                "" => Some(attribute),
                // An attribute of the function that the call leaves out is left out here.
                name => outer.get(name).copied(),
            };
            if let Some(value) = value
                && attributes.insert(attribute.name(), value).is_some()
            {
                return Err(Stop::Invalid(format!("attribute {:?} stands there twice", attribute.name())));
            }
        }
        let domain = canonical(node.domain());
        let key = (domain.to_string(), node.op_type().to_string(), node.overload().to_string());
        let opset = frame.opsets.get(domain).copied();
        if let Some(&index) = self.model.functions.get(&key) {
            return Err(Stop::Enter(Box::new(Call::function(
                &self.model.proto.functions[index],
                inputs,
                attributes,
            ))));
        }
        let (rule, version) = rules::find(domain, node.op_type(), opset).map_err(Stop::Refused)?;
        let node = Node::new(node, version, inputs, attributes);
        let results = if let Some(result) = dims::import(self, &node)? {
            vec![result.into()]
        } else if let Some(results) = self.fold(rule, &node) {
            results
        } else {
            (rule.import)(self, &node)?
        };
        self.check()?;
        match node.unread()[..] {
            [] => Ok(results),
            [name, ..] => Err(Stop::Refused(format!("its attribute {name:?} is not known"))),
        }
    }

    /// The results of a node whose operands are constants, where they are small.
    fn fold(&mut self, rule: &Rule, node: &Node<'m>) -> Option<Vec<Imported>> {
        if subgraphs(node.proto).next().is_some() {
            return None;
        }
        let mut elements = 0;
        for input in &node.inputs {
            match input {
                None => {}
                Some(Imported::Tensor(Tensor { content: Content::Literal(literal), .. })) => {
                    elements += literal.len()
                }
                Some(_) => return None,
            }
        }
        if elements > MOST_FOLDED {
            return None;
        }
        let results = self.on_the_spot(4 * MOST_FOLDED, |cx| (rule.import)(cx, node)).ok().flatten()?;
        node.unread().is_empty().then_some(results)
    }

    /// The results of `import`, which reads constants only, as constants. `None` where it reads more, makes more than
    /// `most` elements, or its results are no tensors that can be known.
    pub(crate) fn on_the_spot(
        &mut self,
        most: usize,
        import: impl FnOnce(&mut Context<'m>) -> Outcome<'m>,
    ) -> Result<Option<Vec<Imported>>, Stop<'m>> {
        let mut results = vec![];
        let build = |cx: &mut Context<'m>, _: Vec<Value>| {
            results = import(cx)?;
            let mut own = vec![];
            for result in &results {
                if let Imported::Tensor(tensor) = result {
                    own.extend(tensor.node.map(|node| node.value));
                    own.extend(tensor.bounded.map(|bounded| bounded.count.value));
                }
            }
            Ok(own)
        };
        // Symbols of the graph around have no values here.
        let (graph, captures) = self.build(Graph::new("constants"), &[], build)?;
        let size = |ty: &TensorType| ty.shape.as_static().as_deref().and_then(element_count);
        let sizes: Option<Vec<usize>> = graph.nodes().iter().flat_map(|node| &node.types).map(size).collect();
        let is_small = sizes.is_some_and(|sizes| sizes.into_iter().fold(0, usize::saturating_add) <= most);
        if !captures.is_empty() || !is_small {
            return Ok(None);
        }
        let Ok(graph) = graph.finish() else { return Ok(None) };
        let fault = |error: rlx_ir::IrError| Stop::Invalid(error.to_string());
        let evaluated = evaluate(&graph, &Tensors::new()).map_err(fault)?;
        let mut outputs = evaluated.outputs.into_iter().map(|(_, literal)| literal);
        for result in &mut results {
            match result {
                Imported::Tensor(tensor) if tensor.node.is_some() => {
                    let Some(literal) = known_result(tensor, &mut outputs) else { return Ok(None) };
                    *tensor = Tensor::literal(literal);
                }
                Imported::Tensor(_) | Imported::Strings(_) => {}
                Imported::Sequence(_) | Imported::Optional(_) => return Ok(None),
            }
        }
        Ok(Some(results))
    }

    /// Gives the results of the node under way their names and goes on to the next one.
    fn define(&mut self, node: &'m NodeProto, outputs: Vec<Imported>) -> Result<(), Stop<'m>> {
        let wanted = node.output.iter().rposition(|name| !name.is_empty()).map_or(0, |last| last + 1);
        if outputs.len() < wanted {
            return Err(Stop::Refused(format!("it has {} results, {wanted} are asked for", outputs.len())));
        }
        let frame = self.frames.last_mut().expect("a node is part of a frame");
        for (name, value) in node.output.iter().zip(outputs) {
            if !name.is_empty()
                && frame.last_uses.contains_key(name.as_str())
                && frame.values.insert(name, value).is_some()
            {
                return Err(Stop::Invalid(format!("{name:?} is made twice")));
            }
        }
        for name in &node.input {
            if frame.last_uses.get(name.as_str()) == Some(&frame.at) {
                frame.values.remove(name.as_str());
            }
        }
        frame.at += 1;
        Ok(())
    }

    fn failure(&self, node: Option<&NodeProto>, stop: Stop<'m>) -> OnnxError {
        let subject = node.map_or_else(|| self.model.source().to_string(), subject);
        match stop {
            Stop::Failed(error) => error,
            Stop::Invalid(message) => OnnxError::Model { subject, message },
            Stop::Value(_) | Stop::Enter(_) => OnnxError::model(subject, "a body cannot stop here"),
            Stop::Refused(reason) => {
                let (op, domain) = node.map_or(("", ""), |node| (node.op_type(), canonical(node.domain())));
                let opset =
                    self.frames.last().and_then(|frame| frame.opsets.get(domain)).copied().unwrap_or(0);
                OnnxError::Unsupported(vec![Unsupported {
                    domain: domain.to_string(),
                    op: op.to_string(),
                    opset,
                    node: node.map_or(String::new(), label),
                    reason,
                }])
            }
        }
    }

    // What a run does between two stages.

    /// Calls `visit` with every tensor that the rest of the walk may read.
    pub(crate) fn live_tensors(&mut self, visit: &mut dyn FnMut(&mut Tensor)) {
        for frame in &mut self.frames {
            frame.values.values_mut().for_each(|value| value.tensors_mut(visit));
            frame.results.iter_mut().flatten().for_each(|value| value.tensors_mut(visit));
            if let Some(after) = &mut frame.after {
                after.held().into_iter().for_each(|value| value.tensors_mut(visit));
            }
        }
    }

    /// Takes the outermost graph and begins another one.
    pub(crate) fn take_graph(&mut self) -> Graph {
        let next = Graph::new(self.levels[0].graph.name.clone());
        self.leaves.clear();
        self.stages += 1;
        std::mem::replace(&mut self.levels[0].graph, next)
    }

    /// How many graphs were taken so far.
    pub(crate) fn stage(&self) -> usize {
        self.stages
    }
}

/// The elements of a result: the next of `outputs`, of which the one behind it says how much counts.
fn known_result(tensor: &Tensor, outputs: &mut impl Iterator<Item = Literal>) -> Option<Literal> {
    let whole = outputs.next().filter(|literal| literal.dtype() == tensor.dtype)?;
    let Some(bounded) = tensor.bounded else { return Some(whole) };
    let count = usize::try_from(*outputs.next()?.to_ints().first()?).ok()?;
    first_along(&whole, bounded.axis, count)
}
