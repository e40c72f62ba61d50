//! Bodies: graphs inside ops.
//!
//! A body is a function of its inputs, in the order in which they stand, and has its outputs, in order, as results.
//! It names nothing outside but the symbols of the graph around it: what it reads is an operand of its op. It has no
//! params, states or updates. Bodies nest at most [`MAX_BODY_DEPTH`] deep, so walks over them may recurse.

use crate::diagnostic::Diagnostic;
use crate::dim::Dim;
use crate::graph::{Graph, Value};
use crate::interpret::{Tensors, evaluate_bound};
use crate::literal::Literal;
use crate::op::{Evaluated, Fault, Violation};
use crate::ops::{Op, OpKind};
use crate::require;
use crate::shape::TensorType;
use std::ops::Deref;
use std::sync::Arc;

/// Deepest nesting of bodies.
pub const MAX_BODY_DEPTH: u32 = 16;

/// A graph that an op holds. Cloning shares it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Body {
    graph: Arc<Graph>,
    /// Levels of bodies from this one inwards, itself included.
    depth: u32,
}

impl From<Graph> for Body {
    fn from(graph: Graph) -> Body {
        let inner = graph.nodes().iter().flat_map(|node| node.op.bodies()).map(|(_, body)| body.depth);
        let depth = 1 + inner.max().unwrap_or(0);
        Body { graph: Arc::new(graph), depth }
    }
}

impl Deref for Body {
    type Target = Graph;
    fn deref(&self) -> &Graph {
        &self.graph
    }
}

impl Body {
    /// The body with every dim replaced.
    pub(crate) fn map_dims(&self, map: &dyn Fn(&Dim) -> Dim) -> Body {
        Body { graph: Arc::new(self.graph.map_dims(map)), depth: self.depth }
    }

    /// The inputs, in order.
    pub fn inputs(&self) -> Vec<Value> {
        self.graph.nodes_of(OpKind::Input).map(|(id, _)| Value::first(id)).collect()
    }

    /// Types of the inputs, in order.
    pub fn input_types(&self) -> Vec<&TensorType> {
        self.inputs().into_iter().map(|value| self.graph.ty(value)).collect()
    }

    /// Types of the results.
    ///
    /// # Errors
    /// An output that is no value of the graph.
    pub fn result_types(&self, label: &'static str) -> Result<Vec<TensorType>, Violation> {
        let ty = |output: &crate::graph::Output| self.graph.try_ty(output.value).cloned();
        let types: Option<Vec<TensorType>> = self.graph.outputs().iter().map(ty).collect();
        types.ok_or_else(|| Violation {
            constraint: label,
            message: format!("graph {:?} has an output that it does not compute", self.graph.name),
        })
    }

    /// Checks the contract of a body and that its inputs are of types `operands`.
    ///
    /// # Errors
    /// What differs, under `label`.
    pub fn check(&self, label: &'static str, what: &str, operands: &[TensorType]) -> Result<(), Violation> {
        require!(label, self.depth <= MAX_BODY_DEPTH, "graphs nest deeper than {MAX_BODY_DEPTH} levels");
        let stray = self.nodes().iter().find(|node| matches!(node.op, Op::Param(_) | Op::State(_)));
        if let Some(name) = stray.and_then(|node| node.op.leaf_name()) {
            let hint = "make it an input and pass the value as an operand";
            require!(label, false, "{what} holds the param or state {name:?}; {hint}");
        }
        require!(
            label,
            self.updates().is_empty(),
            "{what} updates a state; give the new content as an output"
        );
        let found = self.input_types();
        let count = operands.len();
        require!(label, found.len() == count, "{what} has {} inputs, it gets {count} operands", found.len());
        let mut pairs = found.into_iter().zip(operands).enumerate();
        match pairs.find(|(_, (found, given))| found != given) {
            Some((index, (found, given))) => {
                require!(label, false, "input {index} of {what} is {found}, it gets {given}");
                Ok(())
            }
            None => Ok(()),
        }
    }

    /// The results on concrete operands.
    ///
    /// # Errors
    /// The fault of a node of the body, named.
    pub fn evaluate(&self, operands: &[Literal]) -> Evaluated {
        let names = self.graph.nodes_of(OpKind::Input).filter_map(|(_, node)| node.op.leaf_name());
        let feeds: Tensors = names.map(String::from).zip(operands.iter().cloned()).collect();
        let evaluation = evaluate_bound(&self.graph, &feeds, &Default::default());
        let outputs = evaluation.map_err(|error| Fault(error.to_string()))?.outputs;
        Ok(outputs.into_iter().map(|(_, literal)| literal).collect())
    }

    /// Builds the body into `graph` on `operands`, which have the types of its inputs.
    ///
    /// # Errors
    /// Types that do not fit.
    pub fn inline(&self, graph: &mut Graph, operands: &[Value]) -> Result<Vec<Value>, Diagnostic> {
        let names = self.graph.nodes_of(OpKind::Input).filter_map(|(_, node)| node.op.leaf_name());
        let inputs = names.map(String::from).zip(operands.iter().copied()).collect();
        graph.inline(&self.graph, &inputs, &str::to_owned)
    }
}

impl Op {
    /// The bodies of the op, by the names of their attributes.
    pub fn bodies(&self) -> Vec<(&'static str, &Body)> {
        match self {
            Op::If(op) => vec![("then", &op.then), ("otherwise", &op.otherwise)],
            Op::While(op) => vec![("condition", &op.condition), ("body", &op.body)],
            Op::Scan(op) => vec![("body", &op.body)],
            Op::CustomFn(op) => {
                let own = [("vjp", &op.vjp), ("jvp", &op.jvp)];
                let own = own.into_iter().filter_map(|(name, body)| Some((name, body.as_ref()?)));
                [("body", &op.body)].into_iter().chain(own).collect()
            }
            _ => vec![],
        }
    }

    /// The bodies of the op, in the same order, to be replaced.
    pub fn bodies_mut(&mut self) -> Vec<&mut Body> {
        match self {
            Op::If(op) => vec![&mut op.then, &mut op.otherwise],
            Op::While(op) => vec![&mut op.condition, &mut op.body],
            Op::Scan(op) => vec![&mut op.body],
            Op::CustomFn(op) => {
                [Some(&mut op.body), op.vjp.as_mut(), op.jvp.as_mut()].into_iter().flatten().collect()
            }
            _ => vec![],
        }
    }

    /// Does the op decide which of its bodies run, and how often?
    pub fn is_control_flow(&self) -> bool {
        matches!(self, Op::If(_) | Op::While(_) | Op::Scan(_))
    }
}
