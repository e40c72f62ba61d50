//! What a backend can do, as data that the passes ask.

use rlx_ir::{DType, Op, ScalarOp, ScalarProgram, Symbol, SymbolBounds, TensorType};
use std::collections::BTreeMap;

/// A backend's answer to a question about an op.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Claim {
    /// The backend has a kernel.
    Native,
    /// It has none, and why.
    No(String),
}

impl Claim {
    /// Is this a yes?
    pub fn is_native(&self) -> bool {
        matches!(self, Claim::Native)
    }

    /// `Native` where `condition` holds, else the reason.
    pub fn when(condition: bool, reason: impl FnOnce() -> String) -> Claim {
        if condition { Claim::Native } else { Claim::No(reason()) }
    }
}

/// One use of an op, as a claim sees it. What cannot be decided on symbols is `No`.
pub struct OpView<'a> {
    /// The op with its attributes.
    pub op: &'a Op,
    /// Operand types.
    pub operands: &'a [&'a TensorType],
    /// Result types.
    pub results: &'a [TensorType],
    /// Bounds of the symbols in the types.
    pub symbols: &'a BTreeMap<Symbol, SymbolBounds>,
}

/// An elementwise region that fusion would attach to an anchor.
pub struct Attachment<'a> {
    /// The anchor.
    pub anchor: OpView<'a>,
    /// What the region computes.
    pub program: &'a ScalarProgram,
    /// Before operand number `n` of the anchor, or after its result.
    pub before: Option<usize>,
}

/// How a backend wants a constant operand of an anchor packed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Packing {
    /// Names the packed layout; equal keys mean equal bytes for equal content.
    pub key: String,
    /// Size of the packed form, in bytes.
    pub bytes: usize,
}

/// Capabilities of one backend on one device.
#[derive(Clone)]
pub struct Capabilities {
    /// Backend name, for reports.
    pub name: &'static str,
    /// What else the compiled form depends on (CPU features, device limits); part of cache keys.
    pub fingerprint: String,
    /// Alignment of every buffer in the arena, in bytes; a power of two.
    pub alignment: usize,
    /// Do kernels refuse integer operands with values that their op does not take? Where they do not,
    /// `insert_checks` makes the checks nodes of the graph.
    pub checks_values: bool,
    /// Does the backend have a kernel for this op? Not asked for elementwise
    /// and movement ops, which every backend runs through regions and views.
    pub claim: fn(&OpView<'_>) -> Claim,
    /// Can regions compute this primitive on this dtype?
    pub scalar: fn(ScalarOp, DType) -> Claim,
    /// May this region be attached to this anchor?
    pub accept: fn(&Attachment<'_>) -> Claim,
    /// How operand `n` of this anchor, known before the first run, should be packed.
    pub pack: fn(&OpView<'_>, usize) -> Option<Packing>,
}

impl std::fmt::Debug for Capabilities {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Capabilities({}, {}, alignment {})", self.name, self.fingerprint, self.alignment)
    }
}

impl Capabilities {
    /// A backend that runs every primitive, claims no composite, fuses and packs nothing:
    /// what tests of passes compile for.
    pub fn reference() -> Capabilities {
        Capabilities {
            name: "reference",
            fingerprint: String::new(),
            alignment: 64,
            checks_values: true,
            claim: |view| {
                Claim::when(view.op.meaning().decompose.is_none(), || "composite ops are decomposed".into())
            },
            scalar: |_, _| Claim::Native,
            accept: |_| Claim::No("regions stay steps of their own".into()),
            pack: |_, _| None,
        }
    }
}
