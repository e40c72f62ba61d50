//! `assign_precision`: runs the float arithmetic of a graph in the dtypes that
//! the options ask for.
//!
//! ```text
//! %x = input {name = "x"} : f32[2, 3]     =>    %x = input {name = "x"} : f32[2, 3]
//! %w = param {name = "w"} : f32[3, 4]           %w = param {name = "w"} : f32[3, 4]
//! %y = matmul %x, %w {..} : f32[2, 4]           %a = cast %x {to = f16}
//! output "y" = %y                               %b = cast %w {to = f16}
//!                                               %c = matmul %a, %b {..} : f16[2, 4]
//!                                               %y = cast %c {to = f32}
//! ```
//!
//! What the policies choose: see [`PrecisionPolicy`]. Inputs, params, states and
//! outputs keep their types, since callers feed and read them; casts stand at
//! the edges. A cast of a param depends on params alone, so that it runs once,
//! when weights are bound. Only `f64`, `f32`, `f16` and `bf16` change: narrower
//! floats are storage that the model chose.
//!
//! Ops that only move elements take them in the dtype that they have; a table
//! is not cast before a gather, its rows are after it. An op that refuses the
//! dtype keeps its own. Sums of half-precision ops accumulate in `f32`, as the
//! ops say. Preconditions: none; the pass stands before `decompose_unclaimed`,
//! so that definitions follow the new dtypes.

use crate::known::{Known, known};
use crate::options::{CompileOptions, PrecisionPolicy};
use crate::pass::{OptError, Pass, PassContext};
use crate::rewrite::{Rewriter, Rewritten};
use rlx_ir::lir::updates_first_operand;
use rlx_ir::ops::Cast;
use rlx_ir::{DType, Graph, Node, Op, OpKind, Value};
use std::collections::HashMap;

/// See the module.
pub struct AssignPrecision;

impl Pass for AssignPrecision {
    fn name(&self) -> &'static str {
        "assign_precision"
    }

    fn wanted(&self, options: &CompileOptions) -> bool {
        options.precision != PrecisionPolicy::Keep
    }

    fn run(&self, graph: Graph, context: &PassContext<'_>) -> Result<Rewritten, OptError> {
        let policy = &context.options.precision;
        check(policy)?;
        if *policy == PrecisionPolicy::Keep {
            return Ok(Rewritten::unchanged(graph));
        }
        let mut assign = Assign {
            graph: &graph,
            rewriter: Rewriter::new(&graph),
            policy,
            known: known(&graph),
            casts: HashMap::new(),
        };
        for (id, node) in graph.iter() {
            assign.rewriter.begin([id]);
            let values = assign.node(node)?;
            assign.rewriter.map(id, values);
        }
        assign.restore_results()?;
        assign.rewriter.finish()
    }
}

/// Is this a dtype whose arithmetic the policies move?
fn moves(dtype: DType) -> bool {
    matches!(dtype, DType::F64 | DType::F32 | DType::F16 | DType::BF16)
}

fn check(policy: &PrecisionPolicy) -> Result<(), OptError> {
    let legal: &[DType] = match policy {
        PrecisionPolicy::Always(_) => &[DType::F32, DType::F16, DType::BF16],
        PrecisionPolicy::Mixed(_) | PrecisionPolicy::MixedConservative(_) => &[DType::F16, DType::BF16],
        _ => &[DType::F64, DType::F32, DType::F16, DType::BF16],
    };
    let asked: Vec<DType> = match policy {
        PrecisionPolicy::Keep => vec![],
        PrecisionPolicy::Always(dtype)
        | PrecisionPolicy::Mixed(dtype)
        | PrecisionPolicy::MixedConservative(dtype) => vec![*dtype],
        PrecisionPolicy::Custom(map) => map.values().copied().collect(),
    };
    match asked.into_iter().find(|dtype| !legal.contains(dtype)) {
        None => Ok(()),
        Some(dtype) => {
            let names: Vec<_> = legal.iter().map(|dtype| dtype.name()).collect();
            let reason = format!("cannot compute in {dtype}; choose {}", names.join(", "));
            Err(OptError::Option { option: "precision", reason })
        }
    }
}

/// Ops whose time goes into products of matrices.
fn is_matmul_like(kind: OpKind) -> bool {
    use OpKind as K;
    let fused = matches!(kind, K::FusedMatMulBiasAct | K::FusedAttentionBlock | K::FusedTransformerLayer);
    fused || matches!(kind, K::MatMul | K::DotGeneral | K::Conv | K::ConvTranspose2d | K::Attention)
}

/// Ops whose float results are elements of their float operands.
fn carries(op: &Op) -> bool {
    matches!(op.def().family, "shape" | "index") || op.meaning().view.is_some()
}

struct Assign<'a> {
    graph: &'a Graph,
    rewriter: Rewriter<'a>,
    policy: &'a PrecisionPolicy,
    /// Depends on params and constants alone.
    known: Vec<Known>,
    casts: HashMap<(Value, DType), Value>,
}

impl Assign<'_> {
    /// The dtype in which the floats of `node` are computed; `None` for its own.
    fn target(&self, node: &Node) -> Option<DType> {
        let kind = node.op.kind();
        let with_weights =
            node.operands.iter().take(2).any(|value| self.known[value.node.0 as usize] < Known::Run);
        match self.policy {
            PrecisionPolicy::Keep => None,
            PrecisionPolicy::Always(dtype) => Some(*dtype),
            PrecisionPolicy::Mixed(half) if is_matmul_like(kind) => Some(*half),
            PrecisionPolicy::MixedConservative(half) if is_matmul_like(kind) && with_weights => Some(*half),
            PrecisionPolicy::Mixed(_) | PrecisionPolicy::MixedConservative(_) => Some(DType::F32),
            PrecisionPolicy::Custom(map) => map.get(&kind).copied(),
        }
    }

    fn node(&mut self, node: &Node) -> Result<Vec<Value>, OptError> {
        let operands = self.rewriter.operands(node);
        if node.op.leaf_name().is_some() || matches!(node.op, Op::Constant(_)) {
            return self.rewriter.push(node, &operands);
        }
        let target = self.target(node);
        if let Op::Cast(cast) = &node.op {
            let to = if moves(cast.to) { target.unwrap_or(cast.to) } else { cast.to };
            return Ok(vec![self.cast(operands[0], to, node)?]);
        }
        let wanted = if carries(&node.op) { self.carried(node, &operands, target) } else { target };
        if let Some(wanted) = wanted {
            let cast = self.cast_all(node, &operands, |_| wanted)?;
            if let Ok(values) = self.rewriter.push(node, &cast) {
                return Ok(values);
            }
        }
        let declared = self.cast_all(node, &operands, |declared| declared)?;
        self.rewriter.push(node, &declared)
    }

    /// The dtype that the float operands of a moving op have, or should have.
    fn carried(&self, node: &Node, operands: &[Value], target: Option<DType>) -> Option<DType> {
        let mut dtypes =
            operands.iter().map(|&value| self.rewriter.new.ty(value).dtype).filter(|&dtype| moves(dtype));
        let first = dtypes.next();
        if updates_first_operand(&node.op) || dtypes.all(|dtype| Some(dtype) == first) {
            first
        } else {
            target
        }
    }

    fn cast_all(
        &mut self,
        node: &Node,
        operands: &[Value],
        dtype: impl Fn(DType) -> DType,
    ) -> Result<Vec<Value>, OptError> {
        let mut cast = vec![];
        for (&old, &new) in node.operands.iter().zip(operands) {
            let declared = self.graph.ty(old).dtype;
            cast.push(if moves(declared) { self.cast(new, dtype(declared), node)? } else { new });
        }
        Ok(cast)
    }

    /// `value` of the new graph in `dtype`, cast once for all its users.
    fn cast(&mut self, value: Value, dtype: DType, like: &Node) -> Result<Value, OptError> {
        if self.rewriter.new.ty(value).dtype == dtype {
            return Ok(value);
        }
        if let Some(&cast) = self.casts.get(&(value, dtype)) {
            return Ok(cast);
        }
        let cast = self.rewriter.push_op(Cast { to: dtype }, &[value], like)?[0];
        self.casts.insert((value, dtype), cast);
        Ok(cast)
    }

    /// Gives outputs and updates the dtypes that they are declared with.
    fn restore_results(&mut self) -> Result<(), OptError> {
        let graph = self.graph;
        for result in graph.outputs().iter().chain(graph.updates()) {
            let (id, node) = (result.value.node, graph.node(result.value.node));
            let new = self.rewriter.value(result.value);
            let declared = graph.ty(result.value).dtype;
            if self.rewriter.new.ty(new).dtype != declared {
                self.rewriter.begin([id]);
                let mut values: Vec<Value> = (0..node.types.len() as u32)
                    .map(|result| self.rewriter.value(Value { node: id, result }))
                    .collect();
                values[result.value.result as usize] = self.cast(new, declared, node)?;
                self.rewriter.map(id, values);
            }
        }
        Ok(())
    }
}
