//! Bodies and functions: what runs one, and what comes after it; `If`.
//!
//! A branch that is chosen before a run is part of the graph around it. A condition that the run computes becomes an
//! `if` of the graph where both branches give tensors of the same types; else the run computes it first.

use super::lifted::{Lifted, emit, native, scalar, truth, wrap};
use super::{Rule, rule};
use crate::context::Context;
use crate::node::{Node, Outcome, Stop};
use crate::proto::{AttributeProto, FunctionProto, GraphProto, NodeProto};
use crate::value::{Content, Imported, Tensor};
use rlx_ir::Value;
use rlx_ir::ops::If;
use std::collections::HashMap;

pub(super) const RULES: &[Rule] = &[rule("If", &[1, 11, 13, 16, 19, 21, 23, 24, 25], r#if)];

/// Nodes that run as one.
#[derive(Clone, Copy)]
pub(crate) enum Body<'m> {
    /// A graph, which sees the values around it.
    Graph(&'m GraphProto),
    /// A function, which sees its operands only.
    Function(&'m FunctionProto),
}

impl<'m> Body<'m> {
    pub fn name(&self) -> &'m str {
        match self {
            Body::Graph(graph) => graph.name(),
            Body::Function(function) => function.name(),
        }
    }

    pub fn nodes(&self) -> &'m [NodeProto] {
        match self {
            Body::Graph(graph) => &graph.node,
            Body::Function(function) => &function.node,
        }
    }

    pub fn inputs(&self) -> Vec<&'m str> {
        match self {
            Body::Graph(graph) => graph.input.iter().map(|input| input.name()).collect(),
            Body::Function(function) => function.input.iter().map(String::as_str).collect(),
        }
    }

    pub fn outputs(&self) -> Vec<&'m str> {
        match self {
            Body::Graph(graph) => graph.output.iter().map(|output| output.name()).collect(),
            Body::Function(function) => function.output.iter().map(String::as_str).collect(),
        }
    }
}

/// A body that runs before the node that names it has results.
pub(crate) struct Call<'m> {
    pub body: Body<'m>,
    pub inputs: Vec<Option<Imported>>,
    /// Attributes of a function; its defaults are added.
    pub attributes: Option<HashMap<&'m str, &'m AttributeProto>>,
    pub after: Box<dyn After<'m> + 'm>,
}

impl std::fmt::Debug for Call<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Call({:?})", self.body.name())
    }
}

/// What comes after a body.
pub(crate) trait After<'m> {
    /// Values that it holds while the body runs.
    fn held(&mut self) -> Vec<&mut Imported>;

    /// Takes the results of the body. Asked again with the same results after a `Stop::Value`, so nothing may have
    /// changed before that.
    fn resume(&mut self, cx: &mut Context<'m>, results: &[Imported]) -> Result<Next, Stop<'m>>;
}

/// What a body's end leads to.
pub(crate) enum Next {
    /// The results of the node.
    Done(Vec<Imported>),
    /// The same body once more.
    Again(Vec<Option<Imported>>),
}

/// The results of the body are those of the node.
pub(super) struct Results;

impl<'m> After<'m> for Results {
    fn held(&mut self) -> Vec<&mut Imported> {
        vec![]
    }

    fn resume(&mut self, _: &mut Context<'m>, results: &[Imported]) -> Result<Next, Stop<'m>> {
        Ok(Next::Done(results.to_vec()))
    }
}

impl<'m> Call<'m> {
    /// A call of a function of the model.
    pub fn function(
        function: &'m FunctionProto,
        inputs: Vec<Option<Imported>>,
        mut attributes: HashMap<&'m str, &'m AttributeProto>,
    ) -> Call<'m> {
        for default in &function.attribute_proto {
            attributes.entry(default.name()).or_insert(default);
        }
        Call {
            body: Body::Function(function),
            inputs,
            attributes: Some(attributes),
            after: Box::new(Results),
        }
    }
}

fn r#if<'m>(cx: &mut Context<'m>, node: &Node<'m>) -> Outcome<'m> {
    let branches = [node.graph("then_branch")?, node.graph("else_branch")?];
    let condition = node.tensor(0)?.clone();
    if !matches!(condition.content, Content::Literal(_))
        && let Some(results) = native(cx, node, |cx| branch(cx, &condition, branches))?
    {
        return Ok(results);
    }
    let holds = truth(&node.literal(cx, 0)?)?;
    let body = Body::Graph(branches[usize::from(!holds)]);
    Err(Stop::Enter(Box::new(Call { body, inputs: vec![], attributes: None, after: Box::new(Results) })))
}

/// Both branches as bodies of the graph.
fn branch<'m>(cx: &mut Context<'m>, condition: &Tensor, branches: [&'m GraphProto; 2]) -> Outcome<'m> {
    let [then, otherwise] =
        branches.map(|graph| Lifted::new(cx, graph.name(), &[], |cx, _| cx.walk(graph, vec![])));
    let (then, otherwise) = (then?, otherwise?);
    then.check_same(&otherwise.types, &otherwise.dtypes, "the branches give")?;
    let predicate = scalar(cx, condition)?;
    let mut captures = then.captures.clone();
    captures.extend(otherwise.captures.iter().filter(|value| !then.captures.contains(value)));
    let types = captures.iter().map(|&value| cx.ty(value)).collect::<Result<Vec<_>, _>>()?;
    let mut aligned = |lifted: &Lifted| {
        let places = lifted.captures.iter().map(|value| captures.iter().position(|other| other == value));
        let places: Vec<usize> = places.flatten().collect();
        wrap(cx, &types, |graph, inputs| {
            let own: Vec<Value> = places.iter().map(|&place| inputs[place]).collect();
            lifted.inline(graph, &own)
        })
    };
    let op = If { then: aligned(&then)?.into(), otherwise: aligned(&otherwise)?.into() };
    let operands: Vec<Value> = [predicate].into_iter().chain(captures).collect();
    let results = emit(cx, op, &operands)?;
    results.into_iter().zip(then.dtypes).map(|(value, dtype)| cx.tensor_as(value, dtype)).collect()
}
