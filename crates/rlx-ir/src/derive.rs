//! The three judgements of an op about how it is transformed: its reverse
//! derivative ([`Vjp`]), its forward derivative ([`Jvp`]) and its batching
//! ([`Batch`]). None has a default: an op that does not speak does not compile.
//!
//! A rule builds into the graph that already holds the op, its operands and
//! results. It may build more than is asked for; what nothing uses is dropped.
//! A rule that cannot serve a case returns why, and the op's decomposition is
//! used instead where there is one.
//!
//! Only float and complex values have derivatives ([`DType::is_differentiable`]).
//! The gradient of a real `L` by a complex `z` is Wirtinger's `dL / d conj(z)`:
//! `|z|^2` has the gradient `z`, and a product passes the conjugate of the
//! other factor back. Who walks the graph with these rules is `rlx-autodiff`.

use crate::dim::Dim;
use crate::dtype::DType;
use crate::graph::{Graph, Value};
use crate::op::OpSpec;
use crate::ops::Op;

impl DType {
    /// Do values of this dtype have derivatives?
    pub fn is_differentiable(self) -> bool {
        (self.is_float() || self.is_complex()) && !self.is_storage_only()
    }
}

/// What a reverse rule works with.
#[derive(Clone, Copy, Debug)]
pub struct Backward<'a> {
    /// Operands of the op.
    pub operands: &'a [Value],
    /// Its results.
    pub results: &'a [Value],
    /// Per result the derivative of what is differentiated by it, of its type; none where it is zero.
    pub cotangents: &'a [Option<Value>],
    /// Which operands' derivatives are asked for; a rule may give others too.
    pub wanted: &'a [bool],
}

impl Backward<'_> {
    /// The cotangent of the first result; of an op with one result it is always there.
    pub fn cotangent(&self) -> Value {
        self.cotangents.first().copied().flatten().unwrap_or(Value::POISON)
    }

    /// The cotangent of result `index`, zeros where there is none.
    pub fn cotangent_or_zeros(&self, graph: &mut Graph, index: usize) -> Value {
        match (self.cotangents.get(index).copied().flatten(), self.results.get(index)) {
            (Some(cotangent), _) => cotangent,
            (None, Some(&result)) => graph.zeros_like(result),
            (None, None) => Value::POISON,
        }
    }
}

/// What a forward rule works with.
#[derive(Clone, Copy, Debug)]
pub struct Forward<'a> {
    /// Operands of the op.
    pub operands: &'a [Value],
    /// Its results.
    pub results: &'a [Value],
    /// Per operand its derivative, of its type; none where it is zero.
    pub tangents: &'a [Option<Value>],
}

impl Forward<'_> {
    /// `op` on the tangents, zeros where there is none, its operands without derivatives kept.
    pub fn linear(&self, graph: &mut Graph, op: impl Into<Op>) -> Derivatives {
        let operands: Vec<Value> = self
            .operands
            .iter()
            .zip(self.tangents)
            .map(|(&operand, &tangent)| match graph.try_ty(operand).map(|ty| ty.dtype.is_differentiable()) {
                Some(true) => tangent.unwrap_or_else(|| graph.zeros_like(operand)),
                _ => operand,
            })
            .collect();
        Ok(graph.push_all(op, &operands).into_iter().map(Some).collect())
    }
}

/// What a batching rule works with: some operands have a new axis 0.
#[derive(Clone, Copy, Debug)]
pub struct Batched<'a> {
    /// Operands, the batch in front where there is one.
    pub operands: &'a [Value],
    /// Which operands have the batch; at least one.
    pub is_batched: &'a [bool],
    /// Its extent.
    pub size: &'a Dim,
}

impl Batched<'_> {
    /// The operands, those with the batch brought to the rank of a result of rank `rank` and the batch.
    pub fn aligned(&self, graph: &mut Graph, rank: usize) -> Vec<Value> {
        let operands = self.operands.iter().zip(self.is_batched);
        operands
            .map(|(&operand, &batched)| if batched { graph.align_batch(operand, rank + 1) } else { operand })
            .collect()
    }

    /// The operands, each with the batch in front.
    pub fn with_batch(&self, graph: &mut Graph) -> Vec<Value> {
        let operands = self.operands.iter().zip(self.is_batched);
        operands
            .map(
                |(&operand, &batched)| if batched { operand } else { graph.expand_batch(operand, self.size) },
            )
            .collect()
    }
}

/// Derivatives, one per operand (reverse) or result (forward), none where it is zero; or why not.
pub type Derivatives = Result<Vec<Option<Value>>, &'static str>;
/// Derivatives by the operands from those by the results.
pub type VjpRule<O> = fn(&O, &mut Graph, Backward<'_>) -> Derivatives;
/// Derivatives of the results from those of the operands.
pub type JvpRule<O> = fn(&O, &mut Graph, Forward<'_>) -> Derivatives;
/// The results with the batch in front, or why not.
pub type BatchRule<O> = fn(&O, &mut Graph, Batched<'_>) -> Result<Vec<Value>, &'static str>;
/// The op for operands that have a batch of the given extent in front.
pub type BatchedOp<O> = fn(&O, &Dim) -> O;

/// The reverse derivative of an op.
pub enum Vjp<O> {
    /// That of its scalar program.
    Scalar,
    /// Graph code.
    Rule(VjpRule<O>),
    /// Graph code that needs results which the op gives only in another form. That form takes the same
    /// operands; its first results are those of the op.
    Saving(fn(&O) -> O, VjpRule<O>),
    /// Graph code for what training wants in place of a derivative that is zero almost everywhere.
    Surrogate(VjpRule<O>),
    /// That of its decomposition.
    ViaDecomposition,
    /// Made of the derivatives of its bodies, by whoever walks graphs; given is the form of the op that keeps what
    /// they need, as for [`Vjp::Saving`].
    Bodies(fn(&O) -> O),
    /// There is none, and why.
    None(&'static str),
}

/// The forward derivative of an op.
pub enum Jvp<O> {
    /// That of its scalar program.
    Scalar,
    /// The results depend linearly on all differentiable operands together: the op itself on tangents.
    Linear,
    /// The one result is linear in each differentiable operand: the sum of the op on one tangent at a time.
    Multilinear,
    /// Graph code.
    Rule(JvpRule<O>),
    /// That of its decomposition.
    ViaDecomposition,
    /// The reverse derivative of the reverse derivative, which is linear in its cotangents.
    DoubleVjp,
    /// Made of the derivatives of its bodies, by whoever walks graphs.
    Bodies,
    /// There is none, and why.
    None(&'static str),
}

/// How an op works on a batch.
pub enum Batch<O> {
    /// Leading axes broadcast: operands get the rank of the result, the op becomes the given one.
    Broadcast(BatchedOp<O>),
    /// Every operand gets the batch, the op becomes the given one.
    Shift(BatchedOp<O>),
    /// As [`Batch::Shift`] where only some of the first so many operands have the batch, all of which get it;
    /// otherwise as the decomposition.
    ShiftFirst(usize, BatchedOp<O>),
    /// Graph code.
    Rule(BatchRule<O>),
    /// As its decomposition.
    ViaDecomposition,
    /// Its bodies on a batch, by whoever walks graphs.
    Bodies,
    /// It does not, and why.
    None(&'static str),
}

impl<O: Clone> Batch<O> {
    /// Leading axes broadcast, and no attribute tells of them.
    pub const fn elementwise() -> Batch<O> {
        Batch::Broadcast(|op, _| op.clone())
    }
}

/// A [`VjpRule`] bound to an op.
pub type BoundVjpRule<'a> = Box<dyn Fn(&mut Graph, Backward<'_>) -> Derivatives + 'a>;
/// A [`JvpRule`] bound to an op.
pub type BoundJvpRule<'a> = Box<dyn Fn(&mut Graph, Forward<'_>) -> Derivatives + 'a>;
/// A [`BatchRule`] bound to an op.
pub type BoundBatchRule<'a> = Box<dyn Fn(&mut Graph, Batched<'_>) -> Result<Vec<Value>, &'static str> + 'a>;
/// A [`BatchedOp`] bound to an op.
pub type BoundBatchedOp<'a> = Box<dyn Fn(&Dim) -> Op + 'a>;

/// A [`Vjp`] with the op's own type hidden.
#[allow(missing_docs, reason = "the cases are those of Vjp")]
pub enum BoundVjp<'a> {
    Scalar,
    Rule(BoundVjpRule<'a>),
    Saving(Op, BoundVjpRule<'a>),
    ViaDecomposition,
    Bodies(Op),
    None(&'static str),
}

/// A [`Jvp`] with the op's own type hidden.
#[allow(missing_docs, reason = "the cases are those of Jvp")]
pub enum BoundJvp<'a> {
    Scalar,
    Linear,
    Multilinear,
    Rule(BoundJvpRule<'a>),
    ViaDecomposition,
    DoubleVjp,
    Bodies,
    None(&'static str),
}

/// A [`Batch`] with the op's own type hidden.
#[allow(missing_docs, reason = "the cases are those of Batch")]
pub enum BoundBatch<'a> {
    Broadcast(BoundBatchedOp<'a>),
    Shift(BoundBatchedOp<'a>),
    ShiftFirst(usize, BoundBatchedOp<'a>),
    Rule(BoundBatchRule<'a>),
    ViaDecomposition,
    Bodies,
    None(&'static str),
}

impl<'a> BoundVjp<'a> {
    pub(crate) fn of<O: OpSpec>(op: &'a O) -> BoundVjp<'a> {
        let bind = |rule: VjpRule<O>| -> BoundVjpRule<'a> {
            Box::new(move |graph: &mut Graph, given: Backward<'_>| rule(op, graph, given))
        };
        match O::VJP {
            Vjp::Scalar => BoundVjp::Scalar,
            Vjp::Rule(rule) | Vjp::Surrogate(rule) => BoundVjp::Rule(bind(rule)),
            Vjp::Saving(form, rule) => BoundVjp::Saving(form(op).into(), bind(rule)),
            Vjp::ViaDecomposition => BoundVjp::ViaDecomposition,
            Vjp::Bodies(form) => BoundVjp::Bodies(form(op).into()),
            Vjp::None(why) => BoundVjp::None(why),
        }
    }
}

impl<'a> BoundJvp<'a> {
    pub(crate) fn of<O: OpSpec>(op: &'a O) -> BoundJvp<'a> {
        match O::JVP {
            Jvp::Scalar => BoundJvp::Scalar,
            Jvp::Linear => BoundJvp::Linear,
            Jvp::Multilinear => BoundJvp::Multilinear,
            Jvp::Rule(rule) => {
                BoundJvp::Rule(Box::new(move |graph: &mut Graph, given: Forward<'_>| rule(op, graph, given)))
            }
            Jvp::ViaDecomposition => BoundJvp::ViaDecomposition,
            Jvp::DoubleVjp => BoundJvp::DoubleVjp,
            Jvp::Bodies => BoundJvp::Bodies,
            Jvp::None(why) => BoundJvp::None(why),
        }
    }
}

impl<'a> BoundBatch<'a> {
    pub(crate) fn of<O: OpSpec>(op: &'a O) -> BoundBatch<'a> {
        let bind = |batched: BatchedOp<O>| -> BoundBatchedOp<'a> {
            Box::new(move |size: &Dim| batched(op, size).into())
        };
        match O::BATCH {
            Batch::Broadcast(batched) => BoundBatch::Broadcast(bind(batched)),
            Batch::Shift(batched) => BoundBatch::Shift(bind(batched)),
            Batch::ShiftFirst(count, batched) => BoundBatch::ShiftFirst(count, bind(batched)),
            Batch::Rule(rule) => BoundBatch::Rule(Box::new(move |graph: &mut Graph, given: Batched<'_>| {
                rule(op, graph, given)
            })),
            Batch::ViaDecomposition => BoundBatch::ViaDecomposition,
            Batch::Bodies => BoundBatch::Bodies,
            Batch::None(why) => BoundBatch::None(why),
        }
    }
}

/// The three judgements of an op kind in words, for docs.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Judgements {
    /// The reverse derivative.
    pub vjp: Judgement,
    /// The forward derivative.
    pub jvp: Judgement,
    /// Batching.
    pub batch: Judgement,
}

/// One judgement in words.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Judgement {
    /// Which of the forms it has.
    Is(&'static str),
    /// It does not exist, and why.
    No(&'static str),
}

impl Judgements {
    pub(crate) const fn of<O: OpSpec>() -> Judgements {
        Judgements {
            vjp: match O::VJP {
                Vjp::Scalar => Judgement::Is("scalar"),
                Vjp::Rule(_) | Vjp::Saving(..) => Judgement::Is("rule"),
                Vjp::Surrogate(_) => Judgement::Is("surrogate"),
                Vjp::ViaDecomposition => Judgement::Is("decomposition"),
                Vjp::Bodies(_) => Judgement::Is("bodies"),
                Vjp::None(why) => Judgement::No(why),
            },
            jvp: match O::JVP {
                Jvp::Scalar => Judgement::Is("scalar"),
                Jvp::Linear => Judgement::Is("linear"),
                Jvp::Multilinear => Judgement::Is("multilinear"),
                Jvp::Rule(_) => Judgement::Is("rule"),
                Jvp::ViaDecomposition => Judgement::Is("decomposition"),
                Jvp::DoubleVjp => Judgement::Is("vjp twice"),
                Jvp::Bodies => Judgement::Is("bodies"),
                Jvp::None(why) => Judgement::No(why),
            },
            batch: match O::BATCH {
                Batch::Broadcast(_) => Judgement::Is("broadcast"),
                Batch::Shift(_) | Batch::ShiftFirst(..) => Judgement::Is("shift"),
                Batch::Rule(_) => Judgement::Is("rule"),
                Batch::ViaDecomposition => Judgement::Is("decomposition"),
                Batch::Bodies => Judgement::Is("bodies"),
                Batch::None(why) => Judgement::No(why),
            },
        }
    }
}

/// Why an op has no derivative, or works on no batch: there is no other reason.
pub const REASONS: [&str; 6] = [
    "it has no operands",
    "its operands are integers",
    "its results are discrete",
    "it computes with codes",
    "bits are not numbers",
    "it packs the boxes of all images",
];
