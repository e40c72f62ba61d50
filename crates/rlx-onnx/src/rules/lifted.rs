//! Bodies of a model as bodies of the graph: what they read of the graph around them is made their operands.

use crate::context::Context;
use crate::node::{Node, Outcome, Stop};
use crate::proto::{GraphProto, NodeProto};
use crate::value::{Imported, Tensor};
use rlx_ir::{Body, DType, Graph, Literal, Op, Origin, TensorType, Value};

/// A body: its operands are inputs of its own, then captures.
pub(super) struct Lifted {
    body: Body,
    /// What it reads, in the graph around it.
    pub captures: Vec<Value>,
    /// Types of its results in the graph.
    pub types: Vec<TensorType>,
    /// Their dtypes as ONNX sees them.
    pub dtypes: Vec<DType>,
}

impl Lifted {
    /// The body that `build` makes of inputs of types `inputs`.
    pub fn new<'m>(
        cx: &mut Context<'m>,
        name: &str,
        inputs: &[TensorType],
        build: impl FnOnce(&mut Context<'m>, Vec<Value>) -> Outcome<'m>,
    ) -> Result<Lifted, Stop<'m>> {
        let (mut types, mut dtypes) = (vec![], vec![]);
        let (graph, captures) = cx.body(name, inputs, |cx, inputs| {
            let mut values = vec![];
            for result in build(cx, inputs)? {
                match &result {
                    Imported::Tensor(tensor) if tensor.bounded.is_none() => {
                        let value = cx.value(tensor)?;
                        types.push(cx.ty(value)?);
                        dtypes.push(tensor.dtype);
                        values.push(value);
                    }
                    other => {
                        return Err(Stop::Refused(format!("a body of the graph gives {}", other.describe())));
                    }
                }
            }
            Ok(values)
        })?;
        Ok(Lifted { body: graph.into(), captures, types, dtypes })
    }

    /// Builds the body into `graph`.
    pub fn inline<'m>(&self, graph: &mut Graph, operands: &[Value]) -> Result<Vec<Value>, Stop<'m>> {
        self.body.inline(graph, operands).map_err(|error| Stop::Refused(error.to_string()))
    }

    /// Refuses results of other types.
    pub fn check_same<'m>(&self, types: &[TensorType], dtypes: &[DType], what: &str) -> Result<(), Stop<'m>> {
        let pairs = self.types.iter().zip(&self.dtypes).zip(types.iter().zip(dtypes));
        for (own, other) in pairs {
            if own != other {
                return Err(Stop::Refused(format!("{what} {} and {}", own.0, other.0)));
            }
        }
        match self.types.len() == types.len() {
            true => Ok(()),
            false => Err(Stop::Invalid(format!("{what} {} and {} results", self.types.len(), types.len()))),
        }
    }

    /// Types of what it reads.
    pub fn capture_types<'m>(&self, cx: &mut Context<'m>) -> Result<Vec<TensorType>, Stop<'m>> {
        self.captures.iter().map(|&value| cx.ty(value)).collect()
    }
}

/// A graph with inputs of types `inputs`, to be the body of an op in the graph that is being built.
pub(super) fn wrap<'m>(
    cx: &mut Context<'m>,
    inputs: &[TensorType],
    build: impl FnOnce(&mut Graph, &[Value]) -> Result<Vec<Value>, Stop<'m>>,
) -> Result<Graph, Stop<'m>> {
    let around = cx.graph();
    let mut graph = Graph::new("body");
    for (symbol, bounds) in around.symbols().clone() {
        graph.bound_symbol(&symbol, bounds);
    }
    let own = inputs.iter().enumerate().map(|(i, ty)| graph.input(format!("operand{i}"), ty.clone()));
    let own: Vec<Value> = own.collect();
    let outputs = build(&mut graph, &own)?;
    graph.set_outputs(outputs.into_iter().enumerate().map(|(i, value)| (format!("result{i}"), value)));
    match graph.diagnostics().first() {
        Some(finding) => Err(Stop::Refused(finding.to_string())),
        None => Ok(graph),
    }
}

/// What `build` makes of the bodies of `node`; `None` where they cannot be bodies of the graph, and are walked instead.
pub(super) fn native<'m>(
    cx: &mut Context<'m>,
    node: &Node<'m>,
    build: impl FnOnce(&mut Context<'m>) -> Outcome<'m>,
) -> Result<Option<Vec<Imported>>, Stop<'m>> {
    let key: *const NodeProto = node.proto;
    if cx.walked.contains(&key) {
        return Ok(None);
    }
    match build(cx) {
        Ok(results) => Ok(Some(results)),
        Err(Stop::Value(index)) => Err(Stop::Value(index)),
        Err(_) => {
            cx.walked.insert(key);
            Ok(None)
        }
    }
}

/// The one bool of `literal`.
pub(super) fn truth<'m>(literal: &Literal) -> Result<bool, Stop<'m>> {
    match literal.to_ints()[..] {
        [value] if literal.dtype() == DType::Bool => Ok(value != 0),
        _ => Err(Stop::Invalid(format!("its condition is {}, expected one bool", literal.ty()))),
    }
}

/// `tensor`, which has one element, with shape `[]`.
pub(super) fn scalar<'m>(cx: &mut Context<'m>, tensor: &Tensor) -> Result<Value, Stop<'m>> {
    let value = cx.value(tensor)?;
    let ty = cx.ty(value)?;
    match ty.shape.dims().iter().all(|dim| dim.is(1)) {
        true if ty.shape.rank() == 0 => Ok(value),
        true => Ok(cx.graph().reshape(value, [0usize; 0])),
        false => Err(Stop::Refused(format!("one element is expected, found {ty}"))),
    }
}

/// Does `body` hand its input `input` on as its result `output`, unchanged?
pub(super) fn passes(body: &GraphProto, input: usize, output: usize) -> bool {
    let (Some(input), Some(output)) = (body.input.get(input), body.output.get(output)) else { return false };
    let mut name = output.name();
    for node in body.node.iter().rev() {
        if name == input.name() {
            break;
        }
        if node.output.first().is_some_and(|result| result == name) {
            match (node.op_type(), node.domain(), &node.input[..]) {
                ("Identity", "" | "ai.onnx", [source]) => name = source,
                _ => return false,
            }
        }
    }
    name == input.name()
}

/// The results of `op`, whose types the graph may refuse.
pub(super) fn emit<'m>(
    cx: &mut Context<'m>,
    op: impl Into<Op>,
    operands: &[Value],
) -> Result<Vec<Value>, Stop<'m>> {
    match cx.graph().try_push(op.into(), operands, Origin::default()) {
        Ok(values) => Ok(values),
        Err(Some(finding)) => Err(Stop::Refused(finding.to_string())),
        Err(None) => Err(Stop::Invalid("a value was not computed".into())),
    }
}
