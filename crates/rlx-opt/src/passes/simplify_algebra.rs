//! `simplify_algebra`: replaces expressions by simpler ones that are equal for
//! every value, bit for bit.
//!
//! ```text
//! %t = transpose %x {permutation = [1, 0]}      =>    %y = binary %x, %b {kind = sub}
//! %u = transpose %t {permutation = [1, 0]}
//! %n = activation %b {kind = neg}
//! %y = binary %u, %n {kind = add}
//! ```
//!
//! The rules are data in `rules.rs`; each has examples in `rules.rlx` that tests run. No
//! rule assumes that a float is finite or that zero has no sign: `x - x` and
//! `x 0` stay, and `x + 0` goes only where the zero is negative. Reordering of
//! float sums is not done. Preconditions: none. What a rule leaves without use
//! is dropped by `eliminate_dead_code`.

mod rules;

pub use rules::RULES;

use crate::pass::{OptError, Pass, PassContext};
use crate::rewrite::{Remark, Rewriter, Rewritten};
use rlx_ir::{Graph, Number, Op, OpKind, Origin, TensorType, Value};

/// See the module.
pub struct SimplifyAlgebra;

/// Most rules applied one after the other to one node.
const LONGEST: usize = 16;

/// A rewriting rule.
pub struct Rule {
    /// What it does, in a word or two.
    pub name: &'static str,
    /// Kinds of op that it looks at.
    pub kinds: &'static [OpKind],
    /// The simpler value, if the rule applies.
    pub rewrite: fn(&mut Site<'_>) -> Option<Value>,
}

/// Where a rule looks: one node of the graph under construction.
pub struct Site<'a> {
    graph: &'a mut Graph,
    /// The op.
    pub op: Op,
    /// Its operands.
    pub operands: Vec<Value>,
    /// Type of its first result.
    pub ty: TensorType,
    origin: Origin,
}

impl Site<'_> {
    /// The node that makes `value`.
    pub fn op_of(&self, value: Value) -> &Op {
        self.graph.op(value)
    }

    /// The only operand of the node that makes `value`, or its first.
    pub fn operand_of(&self, value: Value) -> Option<Value> {
        self.graph.node(value.node).operands.first().copied()
    }

    /// All operands of the node that makes `value`.
    pub fn operands_of(&self, value: Value) -> Vec<Value> {
        self.graph.node(value.node).operands.clone()
    }

    /// Type of a value.
    pub fn ty_of(&self, value: Value) -> &TensorType {
        self.graph.ty(value)
    }

    /// The number that every element of `value` is, when it is a constant of one element.
    pub fn number(&self, value: Value) -> Option<Number> {
        match self.graph.op(value) {
            Op::Constant(constant)
                if constant.value.len() == 1 && !constant.value.dtype().is_storage_only() =>
            {
                Some(constant.value.number(0))
            }
            _ => None,
        }
    }

    /// Appends a node; `None` where its operands do not fit.
    pub fn build(&mut self, op: impl Into<Op>, operands: &[Value]) -> Option<Value> {
        self.graph.try_push(op.into(), operands, self.origin.clone()).ok()?.first().copied()
    }
}

impl Pass for SimplifyAlgebra {
    fn name(&self) -> &'static str {
        "simplify_algebra"
    }

    fn run(&self, graph: Graph, _: &PassContext<'_>) -> Result<Rewritten, OptError> {
        simplify(&graph, RULES)
    }
}

/// Applies `rules` to every node; notes name the rules that applied.
///
/// # Errors
/// Never on a verified graph.
pub fn simplify(graph: &Graph, rules: &[Rule]) -> Result<Rewritten, OptError> {
    let mut rewriter = Rewriter::new(graph);
    for (id, node) in graph.iter() {
        rewriter.copy(id)?;
        if node.types.len() != 1 {
            continue;
        }
        let mut value = rewriter.value(Value::first(id));
        for _ in 0..LONGEST {
            let Some((rule, simpler)) = apply(&mut rewriter.new, value, rules) else { break };
            rewriter.note(id, Remark::Simplified(rule));
            value = simpler;
        }
        rewriter.also_stands_for(value, id);
        rewriter.map(id, vec![value]);
    }
    rewriter.finish()
}

/// The first rule that simplifies `value`, and what it gives.
fn apply(graph: &mut Graph, value: Value, rules: &[Rule]) -> Option<(&'static str, Value)> {
    let kind = graph.op(value).kind();
    if value.result != 0 || !rules.iter().any(|rule| rule.kinds.contains(&kind)) {
        return None;
    }
    let node = graph.node(value.node).clone();
    let mut site =
        Site { graph, op: node.op, operands: node.operands, ty: node.types[0].clone(), origin: node.origin };
    for rule in rules.iter().filter(|rule| rule.kinds.contains(&kind)) {
        let simpler = (rule.rewrite)(&mut site);
        if let Some(simpler) =
            simpler.filter(|&simpler| *site.graph.ty(simpler) == site.ty && simpler != value)
        {
            return Some((rule.name, simpler));
        }
    }
    None
}
