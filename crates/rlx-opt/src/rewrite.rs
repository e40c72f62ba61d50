//! Building the graph after a pass from the graph before it.
//!
//! A pass walks the old graph in order and says, for every node, which values
//! of the new graph stand for its results. Outputs and state updates are then
//! carried over by [`Rewriter::finish`]. For every new node it is remembered
//! which old nodes it stands for, so that reports can follow a node through
//! the whole pipeline. Nothing here decides what to rewrite.

use crate::pass::OptError;
use rlx_ir::lir::FaultCheck;
use rlx_ir::{Diagnostic, Graph, IrError, Node, NodeId, Op, OpKind, Value};
use std::fmt;

/// Something that a pass says about a node of the graph before it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Note {
    /// The node, in the graph before the pass.
    pub node: NodeId,
    /// What was done with it.
    pub remark: Remark,
}

/// What a pass did with a node, and why.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Remark {
    /// A rule of this name replaced it.
    Simplified(&'static str),
    /// It became part of an op of this kind.
    Fused(OpKind),
    /// The values of the operand of this name are moved into their range.
    Clamped(&'static str),
    /// A word of the graph's last output tells whether values are in range.
    Checked(FaultCheck),
    /// What the target does with it, or with part of its definition.
    Dispatched {
        /// The op, after the composite ops that it is part of the definition of.
        path: Vec<OpKind>,
        /// What happens to it.
        dispatch: Dispatch,
    },
}

impl fmt::Display for Remark {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Remark::Simplified(rule) => write!(f, "simplified by rule \"{rule}\""),
            Remark::Fused(kind) => write!(f, "fused into {kind}"),
            Remark::Clamped(operand) => write!(f, "values of {operand} are clamped"),
            Remark::Checked(check) => write!(f, "values of {} are checked", check.operand),
            Remark::Dispatched { path, dispatch } => {
                let path: Vec<_> = path.iter().map(ToString::to_string).collect();
                write!(f, "{}: {dispatch}", path.join("/"))
            }
        }
    }
}

/// What a target does with an op.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Dispatch {
    /// Nothing: leaves, constants, movement, copies need no kernel.
    Free,
    /// It has a kernel.
    Native,
    /// It runs the definition instead, and why.
    Decomposed(String),
    /// It cannot run it, and why.
    Missing(String),
}

impl fmt::Display for Dispatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Dispatch::Free => f.write_str("needs no kernel"),
            Dispatch::Native => f.write_str("native"),
            Dispatch::Decomposed(reason) => write!(f, "decomposed: {reason}"),
            Dispatch::Missing(reason) => write!(f, "missing: {reason}"),
        }
    }
}

/// What a pass gives.
#[derive(Clone, Debug)]
pub struct Rewritten {
    /// The graph after the pass.
    pub graph: Graph,
    /// Per node of it, the nodes of the graph before the pass that it stands
    /// for, ascending; `None` where the pass changed nothing.
    pub sources: Option<Vec<Vec<NodeId>>>,
    /// What is worth saying about single nodes.
    pub notes: Vec<Note>,
}

impl Rewritten {
    /// The result of a pass that found nothing to do.
    pub fn unchanged(graph: Graph) -> Rewritten {
        Rewritten { graph, sources: None, notes: vec![] }
    }

    /// What `self` and then `next` give, `next` being made of the graph of `self`. Its notes are about nodes that may
    /// have no counterpart before `self` and are dropped.
    pub fn then(self, next: Rewritten) -> Rewritten {
        let Some(first) = &self.sources else { return next };
        let before = |ids: &Vec<NodeId>| {
            let mut ids: Vec<NodeId> =
                ids.iter().flat_map(|id| first[id.0 as usize].iter().copied()).collect();
            ids.sort_unstable();
            ids.dedup();
            ids
        };
        let sources = match &next.sources {
            Some(second) => Some(second.iter().map(before).collect()),
            None => self.sources,
        };
        Rewritten { graph: next.graph, sources, notes: self.notes }
    }
}

/// A graph under construction next to the one that it replaces.
pub struct Rewriter<'a> {
    old: &'a Graph,
    /// The new graph. Nodes may be pushed to it directly; they stand for the
    /// current node.
    pub new: Graph,
    /// New values of the results of every old node done so far.
    map: Vec<Vec<Value>>,
    sources: Vec<Vec<NodeId>>,
    current: Vec<NodeId>,
    notes: Vec<Note>,
}

impl<'a> Rewriter<'a> {
    /// Starts with an empty graph.
    pub fn new(old: &'a Graph) -> Rewriter<'a> {
        let nodes = old.nodes().len();
        Rewriter {
            old,
            new: old.emptied(),
            map: vec![vec![]; nodes],
            sources: Vec::with_capacity(nodes),
            current: vec![],
            notes: vec![],
        }
    }

    /// Nodes pushed from now on stand for the old nodes `ids`.
    pub fn begin(&mut self, ids: impl IntoIterator<Item = NodeId>) {
        self.settle();
        self.current.clear();
        self.current.extend(ids);
        self.current.sort_unstable();
        self.current.dedup();
    }

    /// Gives the current old nodes as sources to what was pushed since.
    fn settle(&mut self) {
        let missing = self.new.nodes().len().saturating_sub(self.sources.len());
        self.sources.extend(std::iter::repeat_n(self.current.clone(), missing));
    }

    /// What stands for an old value; `None` before its node is done.
    pub fn get(&self, value: Value) -> Option<Value> {
        self.map.get(value.node.0 as usize)?.get(value.result as usize).copied()
    }

    /// What stands for an old value whose node was mapped.
    pub fn value(&self, value: Value) -> Value {
        self.get(value).expect("operands stand earlier and were mapped")
    }

    /// What stands for the operands of an old node.
    pub fn operands(&self, node: &Node) -> Vec<Value> {
        node.operands.iter().map(|&operand| self.value(operand)).collect()
    }

    /// Says that `values` stand for the results of old node `id`.
    pub fn map(&mut self, id: NodeId, values: Vec<Value>) {
        self.map[id.0 as usize] = values;
    }

    /// Copies old node `id` with its operands mapped.
    ///
    /// # Errors
    /// The constraint that the mapped operands violate.
    pub fn copy(&mut self, id: NodeId) -> Result<(), OptError> {
        self.begin([id]);
        let operands = self.operands(self.old.node(id));
        let values = self.push(self.old.node(id), &operands)?;
        self.map(id, values);
        Ok(())
    }

    /// Appends a copy of `node` on values of the new graph.
    ///
    /// # Errors
    /// The constraint that the operands violate.
    pub fn push(&mut self, node: &Node, operands: &[Value]) -> Result<Vec<Value>, OptError> {
        self.new.copy_node(node, operands).map_err(invalid)
    }

    /// Appends `op`, which comes from where `like` comes from.
    ///
    /// # Errors
    /// The constraint that the operands violate.
    pub fn push_op(
        &mut self,
        op: impl Into<Op>,
        operands: &[Value],
        like: &Node,
    ) -> Result<Vec<Value>, OptError> {
        let node = Node { op: op.into(), operands: vec![], types: vec![], origin: like.origin.clone() };
        self.push(&node, operands)
    }

    /// The new node that makes `value` stands for old node `id` as well.
    pub fn also_stands_for(&mut self, value: Value, id: NodeId) {
        self.settle();
        let sources = &mut self.sources[value.node.0 as usize];
        if let Err(position) = sources.binary_search(&id) {
            sources.insert(position, id);
        }
    }

    /// Says something about an old node.
    pub fn note(&mut self, node: NodeId, remark: Remark) {
        self.notes.push(Note { node, remark });
    }

    /// The new graph with the outputs and updates of the old one.
    ///
    /// # Errors
    /// What a builder method that the pass called had to say.
    pub fn finish(mut self) -> Result<Rewritten, OptError> {
        self.settle();
        if !self.new.diagnostics().is_empty() {
            return Err(OptError::Invalid(IrError::Invalid(self.new.diagnostics().to_vec())));
        }
        for output in self.old.outputs() {
            let value = self.value(output.value);
            self.new.output(output.name.as_str(), value);
        }
        for update in self.old.updates() {
            let value = self.value(update.value);
            self.new.update_state(update.name.as_str(), value);
        }
        Ok(Rewritten { graph: self.new, sources: Some(self.sources), notes: self.notes })
    }
}

/// A single finding as an error.
pub fn invalid(finding: Diagnostic) -> OptError {
    OptError::Invalid(IrError::Invalid(vec![finding]))
}

/// Which nodes an output or state update needs; leaves count as needed, since
/// a caller feeds them by name.
pub fn live_nodes(graph: &Graph) -> Vec<bool> {
    let mut live = vec![false; graph.nodes().len()];
    for result in graph.outputs().iter().chain(graph.updates()) {
        live[result.value.node.0 as usize] = true;
    }
    for (id, node) in graph.iter().rev() {
        let index = id.0 as usize;
        if node.op.leaf_name().is_some() {
            live[index] = true;
        }
        if live[index] {
            for operand in &node.operands {
                live[operand.node.0 as usize] = true;
            }
        }
    }
    live
}

/// Who uses what.
pub struct Uses {
    users: Vec<Vec<NodeId>>,
    is_result: Vec<bool>,
}

impl Uses {
    /// The uses in `graph`.
    pub fn of(graph: &Graph) -> Uses {
        let mut users: Vec<Vec<NodeId>> = vec![vec![]; graph.nodes().len()];
        let mut is_result = vec![false; users.len()];
        for (id, node) in graph.iter() {
            for operand in &node.operands {
                let list = &mut users[operand.node.0 as usize];
                if list.last() != Some(&id) {
                    list.push(id);
                }
            }
        }
        for result in graph.outputs().iter().chain(graph.updates()) {
            is_result[result.value.node.0 as usize] = true;
        }
        Uses { users, is_result }
    }

    /// Nodes that use a result of `id`, each once, ascending.
    pub fn users(&self, id: NodeId) -> &[NodeId] {
        &self.users[id.0 as usize]
    }

    /// Is a result of `id` an output or the new content of a state?
    pub fn is_result(&self, id: NodeId) -> bool {
        self.is_result[id.0 as usize]
    }

    /// The only user of `id`, when nothing else needs it.
    pub fn only_user(&self, id: NodeId) -> Option<NodeId> {
        match self.users(id) {
            [user] if !self.is_result(id) => Some(*user),
            _ => None,
        }
    }
}
