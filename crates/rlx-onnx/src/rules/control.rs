//! Bodies and functions: what runs one, and what comes after it.

use super::{Rule, rule};
use crate::context::Context;
use crate::node::{Node, Outcome, Stop};
use crate::proto::{AttributeProto, FunctionProto, GraphProto, NodeProto};
use crate::value::Imported;
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
    let condition = node.literal(cx, 0)?;
    let [holds] = condition.to_ints()[..] else {
        return Err(Stop::Invalid(format!("its condition is {}, expected one bool", condition.ty())));
    };
    let (then, otherwise) = (node.graph("then_branch")?, node.graph("else_branch")?);
    let body = Body::Graph(if holds != 0 { then } else { otherwise });
    Err(Stop::Enter(Box::new(Call { body, inputs: vec![], attributes: None, after: Box::new(Results) })))
}
