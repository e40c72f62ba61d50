//! `decompose_unclaimed`: replaces composite ops that the target does not run
//! by their definitions, and refuses what is left over.
//!
//! ```text
//! %y = softmax %x {axis = 1}    =>    %m = reduce %x {kind = max, ..}
//!                                     %d = binary %x, %m {kind = sub}
//!                                     %e = activation %d {kind = exp}
//!                                     ..
//! ```
//!
//! A decomposition is decomposed in its turn until every op is one that the
//! target claims, elementwise, movement, or a copy. What the caller prefers
//! ([`KernelDispatch`], per kind too) decides where both
//! ways exist. Elementwise and movement ops are never asked for a claim; for
//! elementwise ops each primitive on each dtype is.
//!
//! Preconditions: dead nodes are gone, else they may be refused. On success
//! every node can be lowered. All refusals are collected; nothing falls back to
//! another device.

use crate::capabilities::{Claim, OpView};
use crate::options::KernelDispatch;
use crate::pass::{OptError, Pass, PassContext};
use crate::rewrite::{Dispatch, Remark, Rewriter, Rewritten, invalid, live_nodes};
use rlx_ir::{
    DType, Diagnostic, Graph, Node, NodeId, Op, OpKind, ScalarKind, ScalarOp, ScalarProgram, Value,
};
use std::collections::BTreeSet;

/// See the module.
pub struct DecomposeUnclaimed;

/// No definition of ours nests this deep; a cycle among definitions ends here.
const DEEPEST: usize = 16;

impl Pass for DecomposeUnclaimed {
    fn name(&self) -> &'static str {
        "decompose_unclaimed"
    }

    fn run(&self, graph: Graph, context: &PassContext<'_>) -> Result<Rewritten, OptError> {
        let survey = survey(&graph, context)?;
        if survey.refused.is_empty() {
            return Ok(survey.rewritten);
        }
        Err(OptError::Unsupported { backend: context.capabilities.name, nodes: survey.refused })
    }
}

/// What the pass does, and what it would refuse.
pub struct Survey {
    /// The graph with the definitions in place; refused nodes stand in it as they are.
    pub rewritten: Rewritten,
    /// Every node that the target cannot run, with the reason.
    pub refused: Vec<Diagnostic>,
}

/// Looks at every node, and at the definitions of those that the target does not run.
///
/// # Errors
/// A definition of ours that does not build.
pub fn survey(graph: &Graph, context: &PassContext<'_>) -> Result<Survey, OptError> {
    let mut place = Place { rewriter: Rewriter::new(graph), context, refused: vec![], node: NodeId(0) };
    for (id, node) in graph.iter() {
        place.node = id;
        place.rewriter.begin([id]);
        let operands = place.rewriter.operands(node);
        let values = place.node(node, &operands, &mut vec![])?;
        place.rewriter.map(id, values);
    }
    Ok(Survey { refused: place.refused, rewritten: place.rewriter.finish()? })
}

/// Decides about a node whose operands are values of `graph`.
pub fn dispatch(graph: &Graph, op: &Op, operands: &[Value], context: &PassContext<'_>) -> Dispatch {
    let meaning = op.meaning();
    let is_leaf = op.leaf_name().is_some() || matches!(op, Op::Constant(_));
    if is_leaf || meaning.view.is_some() || crate::lower::is_copies(op) {
        return Dispatch::Free;
    }
    let types: Vec<_> = operands.iter().map(|&operand| graph.ty(operand)).collect();
    if let Some(program) = op.scalar_program(&types.iter().map(|ty| ty.dtype).collect::<Vec<_>>()) {
        return match missing_primitive(&program, context) {
            None => Dispatch::Native,
            Some(reason) => Dispatch::Missing(reason),
        };
    }
    let results = match op.infer(&types) {
        Ok(results) => results,
        Err(violation) => return Dispatch::Missing(violation.to_string()),
    };
    let view = OpView { op, operands: &types, results: &results, symbols: graph.symbols() };
    let claim = || (context.capabilities.claim)(&view);
    let policy = context.options.dispatch_by_kind.get(&op.kind()).unwrap_or(&context.options.dispatch);
    match (policy, meaning.decompose.is_some()) {
        (KernelDispatch::ForceDecomposed, true) => Dispatch::Decomposed("options ask for it".into()),
        (policy, composite) => match claim() {
            Claim::Native => Dispatch::Native,
            Claim::No(reason) if composite && *policy != KernelDispatch::ForceNative => {
                Dispatch::Decomposed(reason)
            }
            Claim::No(reason) => Dispatch::Missing(reason),
        },
    }
}

/// The first primitive of `program` that the target does not compute, and why.
fn missing_primitive(program: &ScalarProgram, context: &PassContext<'_>) -> Option<String> {
    let mut asked: BTreeSet<(ScalarOp, DType)> = BTreeSet::new();
    for instr in &program.instrs {
        let ScalarKind::Op(op) = instr.kind else { continue };
        let args = instr.args.iter().map(|&arg| program.dtype(rlx_ir::scalar::ScalarValue(arg)));
        for dtype in args.chain([instr.dtype]) {
            // A condition is bool whatever is computed on.
            let is_condition = dtype == DType::Bool && (op.is_compare() || op == ScalarOp::Select);
            if !is_condition
                && asked.insert((op, dtype))
                && let Claim::No(reason) = (context.capabilities.scalar)(op, dtype)
            {
                return Some(format!("{} on {dtype}: {reason}", op.name()));
            }
        }
    }
    None
}

fn path(within: &[OpKind]) -> String {
    within.iter().map(|kind| kind.def().name).collect::<Vec<_>>().join("/")
}

struct Place<'a> {
    rewriter: Rewriter<'a>,
    context: &'a PassContext<'a>,
    refused: Vec<Diagnostic>,
    /// The node of the old graph that is being replaced.
    node: NodeId,
}

impl Place<'_> {
    /// Appends `node`, or what it stands for; `within` holds the definitions that are open.
    fn node(
        &mut self,
        node: &Node,
        operands: &[Value],
        within: &mut Vec<OpKind>,
    ) -> Result<Vec<Value>, OptError> {
        within.push(node.op.kind());
        let dispatch = dispatch(&self.rewriter.new, &node.op, operands, self.context);
        if dispatch != Dispatch::Free {
            let remark = Remark::Dispatched { path: within.clone(), dispatch: dispatch.clone() };
            self.rewriter.note(self.node, remark);
        }
        let values = match dispatch {
            Dispatch::Free | Dispatch::Native => self.rewriter.push(node, operands),
            Dispatch::Decomposed(_) => self.definition(node, operands, within),
            // It stays in the graph, so that what follows can be looked at as well.
            Dispatch::Missing(reason) => {
                self.refuse(node, operands, within, reason);
                self.rewriter.push(node, operands)
            }
        };
        within.pop();
        values
    }

    fn refuse(&mut self, node: &Node, operands: &[Value], within: &[OpKind], reason: String) {
        let mut subject = format!("%{} {}", self.node.0, path(within));
        if !node.origin.path.is_empty() {
            subject = format!("{subject} ({})", node.origin.path);
        }
        let mut finding = Diagnostic::new(subject, reason);
        finding.operands =
            operands.iter().map(|&operand| self.rewriter.new.ty(operand).to_string()).collect();
        self.refused.push(match node.origin.location {
            Some(location) => finding.at(location),
            None => finding,
        });
    }

    /// Builds the definition beside the graph and places what is needed of it.
    fn definition(
        &mut self,
        node: &Node,
        operands: &[Value],
        within: &mut Vec<OpKind>,
    ) -> Result<Vec<Value>, OptError> {
        let broken = |finding: Diagnostic| OptError::Broken {
            pass: "decompose_unclaimed",
            error: Box::new(rlx_ir::IrError::Invalid(vec![finding])),
        };
        let subject = || format!("definition of {}", path(within));
        if within.len() > DEEPEST {
            return Err(broken(Diagnostic::new(subject(), "nests too deep")));
        }
        let mut scratch = self.rewriter.new.emptied();
        let mut inputs = vec![];
        for (index, &operand) in operands.iter().enumerate() {
            let ty = self.rewriter.new.ty(operand).clone();
            inputs.push(scratch.input(format!("operand{index}"), ty));
        }
        let results = match &node.op.meaning().decompose {
            Some(rule) => rule(&mut scratch, &inputs),
            None => return Err(invalid(Diagnostic::new(subject(), "there is none"))),
        };
        if let Some(finding) = scratch.diagnostics().first() {
            if finding.constraint != Some("size") {
                return Err(broken(finding.clone()));
            }
            // What lies between operands and results may be too large where they are not.
            self.refuse(node, operands, within, format!("its definition is too large: {finding}"));
            return self.rewriter.push(node, operands);
        }
        scratch.set_outputs(results.iter().enumerate().map(|(index, &value)| (index.to_string(), value)));
        let live = live_nodes(&scratch);
        let mut map: Vec<Vec<Value>> = operands.iter().map(|&operand| vec![operand]).collect();
        for (id, inner) in scratch.iter().skip(operands.len()) {
            let mut values = vec![];
            if live[id.0 as usize] {
                let inner_operands: Vec<Value> = inner
                    .operands
                    .iter()
                    .map(|value| map[value.node.0 as usize][value.result as usize])
                    .collect();
                let inner = Node { origin: node.origin.clone(), ..inner.clone() };
                values = self.node(&inner, &inner_operands, within)?;
            }
            map.push(values);
        }
        Ok(results.iter().map(|value| map[value.node.0 as usize][value.result as usize]).collect())
    }
}
