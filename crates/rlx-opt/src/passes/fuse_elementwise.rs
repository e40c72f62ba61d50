//! `fuse_elementwise`: merges elementwise ops into regions that read each
//! operand once and write one result.
//!
//! ```text
//! %s = binary %x, %b {kind = add}          =>  %y = elementwise_region %x, %b {program = program(f32, f32)
//! %y = activation %s {kind = tanh}                { 2 = add 0 1 : f32, 3 = tanh 2 : f32, return 3 }, ..}
//! ```
//!
//! Users are looked at before what they use. A producer becomes part of the
//! region of its users when
//!
//! - all its uses are in that one region, and it has the region's shape, or
//!   broadcasts to it and is *cheap*; or
//! - its uses are in several regions, it is cheap, and it reads at most one
//!   tensor that no kernel just made: then each region computes it again, which
//!   costs less than writing and reading it.
//!
//! Cheap means at most `CHEAP` primitives in a row, counted along what is
//! computed again, none of them a function, quotient or power. Constants of one
//! element become constants of the program.
//!
//! A region takes the result of at most one anchor (a kernel such as matmul)
//! that it could be attached to, so that each anchor keeps a region of its own
//! to end in. What depends on params alone stays outside regions that run at
//! every call. A region has one root and all other members feed it alone, so
//! no path leaves a region and comes back.
//!
//! Inside a region floats keep excess precision where the options allow; a
//! `cast` rounds. Preconditions: dead nodes are gone, since their uses count.
//! The pass does not attach regions to anchors; that is done on the way to LIR.

use crate::known::{Known, known};
use crate::lower::{is_anchor, scalar_constant};
use crate::options::CompileOptions;
use crate::pass::{OptError, Pass, PassContext};
use crate::rewrite::{Remark, Rewriter, Rewritten, Uses};
use rlx_ir::ops::ElementwiseRegion;
use rlx_ir::scalar::ScalarValue;
use rlx_ir::{DType, Graph, Node, NodeId, OpKind, ScalarKind, ScalarOp, ScalarProgram, Shape, Value};
use std::sync::Arc;

/// See the module.
pub struct FuseElementwise;

/// Primitives that may be computed again.
const CHEAP: usize = 4;
/// Most primitives of one region.
const MOST_PRIMITIVES: usize = 160;
/// Most operands of one region.
const MOST_OPERANDS: usize = 16;

impl Pass for FuseElementwise {
    fn name(&self) -> &'static str {
        "fuse_elementwise"
    }

    fn wanted(&self, options: &CompileOptions) -> bool {
        options.fusion
    }

    fn run(&self, graph: Graph, context: &PassContext<'_>) -> Result<Rewritten, OptError> {
        let plan = Plan::of(&graph);
        let mut rewriter = Rewriter::new(&graph);
        for (id, _) in graph.iter() {
            let index = id.0 as usize;
            let members = &plan.members[index];
            if members.len() > 1 {
                plan.emit(&mut rewriter, id, context.options.excess_precision)?;
            } else if plan.homes[index].is_empty() || !members.is_empty() {
                rewriter.copy(id)?;
            }
        }
        rewriter.finish()
    }
}

/// What is known of one elementwise node.
struct Element {
    program: ScalarProgram,
    /// Is every primitive of it one that may be computed again?
    cheap: bool,
}

/// A region while it grows.
#[derive(Default)]
struct Region {
    operands: Vec<Value>,
    anchors: Vec<NodeId>,
    primitives: usize,
}

/// Which region computes what.
struct Plan<'a> {
    graph: &'a Graph,
    elements: Vec<Option<Element>>,
    uses: Uses,
    /// Depends on params, and on nothing that changes between runs.
    prepared: Vec<bool>,
    /// Per node, the roots of the regions that compute it; empty for what is not elementwise.
    homes: Vec<Vec<NodeId>>,
    /// Per root, its members in order.
    members: Vec<Vec<NodeId>>,
    /// Per node that is computed again, the primitives in a row that are.
    again: Vec<usize>,
}

impl<'a> Plan<'a> {
    fn of(graph: &'a Graph) -> Plan<'a> {
        let count = graph.nodes().len();
        let mut plan = Plan {
            graph,
            elements: graph.nodes().iter().map(|node| element(graph, node)).collect(),
            uses: Uses::of(graph),
            prepared: known(graph).into_iter().map(|known| known == Known::Bound).collect(),
            homes: vec![vec![]; count],
            members: vec![vec![]; count],
            again: vec![0; count],
        };
        let mut regions: Vec<Region> = std::iter::repeat_with(Region::default).take(count).collect();
        for (id, node) in graph.iter().rev() {
            let Some(element) = &plan.elements[id.0 as usize] else { continue };
            let mut homes = plan.user_regions(id);
            let joins =
                !homes.is_empty() && homes.iter().all(|&root| plan.fits(id, root, &regions[root.0 as usize]));
            let again = element.program.instrs.len() + plan.longest_again(id);
            match homes.len() {
                1 if joins => {}
                2.. if joins && element.cheap && again <= CHEAP && plan.reads_little(node) => {
                    plan.again[id.0 as usize] = again;
                }
                _ => homes = vec![id],
            }
            for &root in &homes {
                plan.grow(&mut regions[root.0 as usize], id, root);
                plan.members[root.0 as usize].push(id);
            }
            plan.homes[id.0 as usize] = homes;
        }
        for members in &mut plan.members {
            members.reverse();
        }
        plan
    }

    /// The regions of the users of `id`; empty when something else uses it too.
    fn user_regions(&self, id: NodeId) -> Vec<NodeId> {
        let mut roots = vec![];
        if self.graph.node(id).types.len() != 1 || self.uses.is_result(id) {
            return roots;
        }
        for &user in self.uses.users(id) {
            if self.homes[user.0 as usize].is_empty() {
                return vec![];
            }
            roots.extend(&self.homes[user.0 as usize]);
        }
        roots.sort_unstable();
        roots.dedup();
        roots
    }

    fn domain(&self, root: NodeId) -> &Shape {
        &self.graph.node(root).types[0].shape
    }

    fn fits(&self, id: NodeId, root: NodeId, region: &Region) -> bool {
        let Some(element) = &self.elements[id.0 as usize] else { return false };
        let (shape, domain) = (self.domain(id), self.domain(root));
        let widens = shape != domain && shape.num_elements() != domain.num_elements();
        let anchors = self.anchors(id, root).filter(|anchor| !region.anchors.contains(anchor)).count();
        let operands = self.operands(id).filter(|operand| !region.operands.contains(operand)).count();
        (!widens || element.cheap && element.program.instrs.len() <= CHEAP)
            && self.prepared[id.0 as usize] <= self.prepared[root.0 as usize]
            && region.anchors.len() + anchors <= 1
            && region.operands.len() + operands <= MOST_OPERANDS
            && region.primitives + element.program.instrs.len() <= MOST_PRIMITIVES
    }

    fn grow(&self, region: &mut Region, id: NodeId, root: NodeId) {
        region.operands.retain(|operand| operand.node != id);
        for operand in self.operands(id) {
            if !region.operands.contains(&operand) {
                region.operands.push(operand);
            }
        }
        for anchor in self.anchors(id, root) {
            if !region.anchors.contains(&anchor) {
                region.anchors.push(anchor);
            }
        }
        region.primitives +=
            self.elements[id.0 as usize].as_ref().map_or(0, |element| element.program.instrs.len());
    }

    /// Operands that are read from memory.
    fn operands(&self, id: NodeId) -> impl Iterator<Item = Value> + '_ {
        self.graph
            .node(id)
            .operands
            .iter()
            .copied()
            .filter(|&value| scalar_constant(self.graph, value).is_none())
    }

    /// Operands of `id` that a region of `root` could end the kernel of.
    fn anchors(&self, id: NodeId, root: NodeId) -> impl Iterator<Item = NodeId> + '_ {
        self.graph.node(id).operands.iter().map(|operand| operand.node).filter(move |&anchor| {
            let node = self.graph.node(anchor);
            is_anchor(node)
                && node.types.len() == 1
                && node.types[0].shape == *self.domain(root)
                && !self.uses.is_result(anchor)
                && self.uses.users(anchor).iter().all(|user| self.elements[user.0 as usize].is_some())
        })
    }

    /// At most one tensor, which is not the fresh result of a kernel.
    fn reads_little(&self, node: &Node) -> bool {
        let mut read = node.operands.iter().filter(|&&value| scalar_constant(self.graph, value).is_none());
        match (read.next(), read.next()) {
            (Some(operand), None) => !is_anchor(self.graph.node(operand.node)),
            (first, _) => first.is_none(),
        }
    }

    fn longest_again(&self, id: NodeId) -> usize {
        self.uses.users(id).iter().map(|user| self.again[user.0 as usize]).max().unwrap_or(0)
    }

    fn emit(
        &self,
        rewriter: &mut Rewriter<'_>,
        root: NodeId,
        excess_precision: bool,
    ) -> Result<(), OptError> {
        let members = &self.members[root.0 as usize];
        rewriter.begin(members.iter().copied());
        let is_member = |value: &Value| members.binary_search(&value.node).is_ok();
        let mut inputs: Vec<Value> = vec![];
        for &member in members {
            for operand in self.operands(member).filter(|operand| !is_member(operand)) {
                if !inputs.contains(&operand) {
                    inputs.push(operand);
                }
            }
        }
        let domain = self.domain(root);
        let mut program =
            ScalarProgram::new(inputs.iter().map(|&input| self.graph.ty(input).dtype).collect());
        let mut values: Vec<(NodeId, Vec<ScalarValue>)> = vec![];
        for &member in members {
            let node = self.graph.node(member);
            let mut args = vec![];
            for &operand in &node.operands {
                args.push(match scalar_constant(self.graph, operand) {
                    Some((kind, dtype)) => program.push(kind, &[], dtype),
                    None => match values.iter().find(|(id, _)| *id == operand.node) {
                        Some((_, results)) => results[operand.result as usize],
                        None => program
                            .input(inputs.iter().position(|input| *input == operand).unwrap_or_default()),
                    },
                });
            }
            if let Some(element) = &self.elements[member.0 as usize] {
                let mut results = inline(&mut program, &element.program, &args, &node.types[0].shape, domain);
                if !excess_precision {
                    results = results.into_iter().map(|value| round(&mut program, value)).collect();
                }
                values.push((member, results));
            }
        }
        let results = values.pop().map(|(_, results)| results).unwrap_or_default();
        program.outputs = results.into_iter().map(|value| value.0).collect();
        let operands: Vec<_> = inputs.iter().map(|&input| rewriter.value(input)).collect();
        let op = ElementwiseRegion { program: Arc::new(program), shape: domain.clone() };
        let values = rewriter.push_op(op, &operands, self.graph.node(root))?;
        rewriter.map(root, values);
        for &member in members {
            rewriter.note(member, Remark::Fused(OpKind::ElementwiseRegion));
        }
        Ok(())
    }
}

fn element(graph: &Graph, node: &Node) -> Option<Element> {
    let dtypes: Vec<_> = node.operands.iter().map(|&value| graph.ty(value).dtype).collect();
    let mut program = node.op.scalar_program(&dtypes)?;
    program.drop_unused();
    let cheap = program.instrs.iter().all(|instr| match instr.kind {
        ScalarKind::Op(op) => is_cheap(op),
        _ => true,
    });
    Some(Element { program, cheap })
}

/// A primitive that costs about as much as reading an element.
fn is_cheap(op: ScalarOp) -> bool {
    use ScalarOp as S;
    let picks = matches!(op, S::Neg | S::Abs | S::Not | S::Max | S::Min | S::Select | S::Cast | S::Bitcast);
    let picks = picks || matches!(op, S::Real | S::Imag | S::Complex);
    let integer = matches!(op, S::And | S::Or | S::Xor | S::Shl | S::Shr);
    picks || integer || matches!(op, S::Add | S::Sub | S::Mul) || op.is_compare()
}

/// Appends `other`, whose coordinates are those of a domain that broadcasts to the program's.
fn inline(
    program: &mut ScalarProgram,
    other: &ScalarProgram,
    args: &[ScalarValue],
    shape: &Shape,
    domain: &Shape,
) -> Vec<ScalarValue> {
    let lead = domain.rank().saturating_sub(shape.rank());
    let mut map = args.to_vec();
    for instr in &other.instrs {
        let kind = match instr.kind {
            ScalarKind::Index(axis) if shape[axis as usize] != domain[axis as usize + lead] => {
                ScalarKind::Int(0)
            }
            ScalarKind::Index(axis) => ScalarKind::Index(axis + lead as u32),
            kind => kind,
        };
        let operands: Vec<_> = instr.args.iter().map(|&arg| map[arg as usize]).collect();
        map.push(program.push(kind, &operands, instr.dtype));
    }
    other.outputs.iter().map(|&output| map[output as usize]).collect()
}

/// Rounds a float that is narrower than what kernels compute in.
fn round(program: &mut ScalarProgram, value: ScalarValue) -> ScalarValue {
    let dtype: DType = program.dtype(value);
    if dtype.is_float() && dtype.block_bits() < 32 {
        return program.push(ScalarKind::Op(ScalarOp::Cast), &[value], dtype);
    }
    value
}
