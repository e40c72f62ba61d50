//! LIR: a tree of steps over planned buffers, one type for every target.
//!
//! A step has an anchor (an op that a kernel implements) or none, with
//! elementwise regions before it, one per operand, and after it. Movement has
//! become views; what is left to run reads and writes strided views of
//! buffers. Extents, strides and offsets stay expressions over the symbols of
//! the module: binding them costs no recompilation.
//!
//! Invariants (checked by [`VerifiedLir::new`], the only thing an executor
//! accepts): every view names a buffer and has one stride per axis; a step
//! reads only what the caller, the prepare stage or an earlier step wrote;
//! only arena and state buffers are written; region programs are well typed;
//! an in-place anchor writes the view that it reads; slots whose lives overlap
//! do not overlap in memory.

mod lives;
mod manifest;
mod plan;
mod print;
mod verify;

pub use lives::Lives;
pub use manifest::{BindingManifest, Home, IoBindingEntry, WeightBlock};
pub use plan::{ArenaLayout, LirBufferPlan, LirBufferSlot, LirViewAlias, PlanError};
pub use print::print_lir;
pub use verify::{LirError, VerifiedLir};

use crate::dim::{Bindings, Dim, DimError, Symbol};
use crate::dtype::DType;
use crate::graph::{Graph, NodeId, SymbolBounds};
use crate::layout::Layout;
use crate::literal::Literal;
use crate::ops::Op;
use crate::scalar::ScalarProgram;
use crate::shape::{Shape, TensorType};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// Names a buffer of a module.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub struct BufferId(pub u32);

/// Where the content of a buffer comes from and where it lives.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum BufferKind {
    /// An intermediate, planned into the arena.
    Temporary,
    /// An input, copied into the arena before the run.
    Input,
    /// An output, in the arena until the next run.
    Output,
    /// A weight, bound by name and never written.
    Param,
    /// What the prepare stage made of weights; named as its output there.
    Prepared,
    /// State between runs, updated in place.
    State,
    /// A literal.
    Constant(Literal),
}

impl BufferKind {
    /// Does the buffer have a slot in the arena?
    pub fn in_arena(&self) -> bool {
        matches!(self, BufferKind::Temporary | BufferKind::Input | BufferKind::Output)
    }

    /// Its name in texts and reports.
    pub const fn name(&self) -> &'static str {
        match self {
            BufferKind::Temporary => "temporary",
            BufferKind::Input => "input",
            BufferKind::Output => "output",
            BufferKind::Param => "param",
            BufferKind::Prepared => "prepared",
            BufferKind::State => "state",
            BufferKind::Constant(_) => "constant",
        }
    }
}

/// A run of memory that views look at.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Buffer {
    /// The input, output, param, state or prepared name; the node for temporaries.
    pub name: String,
    /// Element type.
    pub dtype: DType,
    /// Capacity: the dense shape.
    pub shape: Shape,
    /// Where it lives.
    pub kind: BufferKind,
}

impl Buffer {
    /// The type of the whole buffer.
    pub fn ty(&self) -> TensorType {
        TensorType { dtype: self.dtype, shape: self.shape.clone() }
    }
}

/// A strided look at a buffer.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct View {
    /// The buffer.
    pub buffer: BufferId,
    /// Element type; offsets and strides count elements of it.
    pub dtype: DType,
    /// Offset, extents and strides.
    pub layout: Layout,
}

impl View {
    /// The whole buffer, densely.
    pub fn whole(id: BufferId, ty: &TensorType) -> View {
        View { buffer: id, dtype: ty.dtype, layout: Layout::dense(&ty.shape) }
    }

    /// The type that the view presents.
    pub fn ty(&self) -> TensorType {
        TensorType { dtype: self.dtype, shape: self.layout.shape.clone() }
    }

    /// By how many elements the view moves when `counter` grows by one. `bindings` has a value for it.
    ///
    /// # Errors
    /// An offset that does not evaluate.
    pub fn advance(&self, counter: &Symbol, bindings: &Bindings) -> Result<i64, DimError> {
        let at = |value: i64| {
            let offset =
                self.layout.offset.substitute(&|name| (*name == **counter).then(|| Dim::from(value)));
            offset.eval(bindings)
        };
        Ok(at(1)?.saturating_sub(at(0)?))
    }
}

/// An elementwise computation that produces a tensor on the fly.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Region {
    /// What happens to each element; one output.
    pub program: Arc<ScalarProgram>,
    /// Its inputs, already broadcast to `shape`.
    pub inputs: Vec<View>,
    /// Iteration domain.
    pub shape: Shape,
}

/// What an anchor reads.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Operand {
    /// A tensor in memory.
    View(View),
    /// A tensor computed on the fly.
    Region(Region),
    /// A constant operand in the layout `key` that the backend asked for.
    Packed {
        /// Holds the packed bytes.
        buffer: BufferId,
        /// The type before packing.
        ty: TensorType,
        /// The backend's name of the layout.
        key: String,
    },
}

impl Operand {
    /// The type that the anchor sees.
    pub fn ty(&self) -> TensorType {
        match self {
            Operand::View(view) => view.ty(),
            Operand::Region(region) => TensorType {
                dtype: region.program.output_dtypes().first().copied().unwrap_or(DType::F32),
                shape: region.shape.clone(),
            },
            Operand::Packed { ty, .. } => ty.clone(),
        }
    }
}

/// The op at the heart of a step.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Anchor {
    /// The op.
    pub op: Op,
    /// Its operands.
    pub operands: Vec<Operand>,
    /// Types of its results, before the epilogue.
    pub results: Vec<TensorType>,
}

/// What an epilogue input is.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum EpilogueInput {
    /// The anchor's first result.
    Anchor,
    /// A tensor in memory, broadcast to the domain.
    View(View),
}

/// The elementwise region after an anchor, or the whole of a step without one.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Epilogue {
    /// What happens to each element; output `i` goes to output `i` of the step.
    pub program: Arc<ScalarProgram>,
    /// Its inputs.
    pub inputs: Vec<EpilogueInput>,
}

/// One unit of work.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct KernelStep {
    /// The op with a kernel; `None` for a purely elementwise step.
    pub anchor: Option<Anchor>,
    /// What happens to the anchor's first result; `None` stores results as they are.
    pub epilogue: Option<Epilogue>,
    /// Where results go. The extents of the first are the iteration domain of
    /// the epilogue; all outputs of an epilogue have them.
    pub outputs: Vec<View>,
    /// The nodes that the step runs, for reports: `%3 matmul`, block path and so on.
    pub origin: String,
}

/// Packs a constant operand for the kernel that will read it (prepare stage only).
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct PackStep {
    /// The anchor that will read it, for its attributes and types.
    pub op: Op,
    /// Types of all the anchor's operands.
    pub operand_types: Vec<TensorType>,
    /// Which operand is packed.
    pub operand: usize,
    /// The operand.
    pub source: View,
    /// Takes the packed bytes.
    pub target: BufferId,
    /// The backend's name of the layout.
    pub key: String,
}

/// A branch: exactly one of the two lists runs.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct BranchStep {
    /// One `bool`.
    pub predicate: View,
    /// Runs when it is true.
    pub then: Vec<Step>,
    /// Runs when it is false.
    pub otherwise: Vec<Step>,
    /// The node, for reports.
    pub origin: String,
}

/// A loop. Carried values are buffers that iterations write and later ones read.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct LoopStep {
    /// Decides whether there is another iteration.
    pub repeat: Repeat,
    /// One iteration.
    pub body: Vec<Step>,
    /// The node, for reports.
    pub origin: String,
}

/// How often the body of a loop runs.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Repeat {
    /// A number of times that is known before.
    Times {
        /// Stands for the number of the iteration, from 0 on, in the offsets of views in the body.
        counter: Symbol,
        /// The number of iterations.
        count: Dim,
    },
    /// `condition` runs, then, while `predicate` is true, the body and `condition` again.
    While {
        /// Computes the predicate.
        condition: Vec<Step>,
        /// One `bool`, written by `condition`.
        predicate: View,
        /// A predicate that is true after this many iterations is a fault.
        limit: Option<Dim>,
    },
}

/// One entry of the step tree.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Step {
    /// Work for a kernel.
    Kernel(Box<KernelStep>),
    /// Packing, in the prepare stage.
    Pack(Box<PackStep>),
    /// A branch.
    Branch(Box<BranchStep>),
    /// A loop.
    Loop(Box<LoopStep>),
}

impl Step {
    /// Every buffer that the step itself reads, steps inside it left out.
    pub fn reads(&self) -> Vec<BufferId> {
        match self {
            Step::Kernel(step) => step.read_buffers(),
            Step::Pack(pack) => vec![pack.source.buffer],
            Step::Branch(branch) => vec![branch.predicate.buffer],
            Step::Loop(looped) => match &looped.repeat {
                Repeat::Times { .. } => vec![],
                Repeat::While { predicate, .. } => vec![predicate.buffer],
            },
        }
    }

    /// Every buffer that the step itself writes, steps inside it left out.
    pub fn writes(&self) -> Vec<BufferId> {
        match self {
            Step::Kernel(step) => step.outputs.iter().map(|view| view.buffer).collect(),
            Step::Pack(pack) => vec![pack.target],
            Step::Branch(_) | Step::Loop(_) => vec![],
        }
    }

    /// Every buffer that the step or a step inside it touches.
    pub fn touched(&self) -> Vec<BufferId> {
        let mut touched = vec![];
        walk(std::slice::from_ref(self), &mut |step| {
            touched.extend(step.reads());
            touched.extend(step.writes());
        });
        touched
    }

    /// The lists of steps inside the step, in the order of a walk.
    pub fn lists(&self) -> Vec<&Vec<Step>> {
        match self {
            Step::Kernel(_) | Step::Pack(_) => vec![],
            Step::Branch(branch) => vec![&branch.then, &branch.otherwise],
            Step::Loop(looped) => match &looped.repeat {
                Repeat::Times { .. } => vec![&looped.body],
                Repeat::While { condition, .. } => vec![condition, &looped.body],
            },
        }
    }

    /// Calls `change` with the id of every buffer that the step or a step inside it touches.
    pub fn rename_buffers(&mut self, change: &mut dyn FnMut(&mut BufferId)) {
        match self {
            Step::Kernel(step) => step.rename_buffers(change),
            Step::Pack(pack) => {
                change(&mut pack.source.buffer);
                change(&mut pack.target);
            }
            Step::Branch(branch) => {
                change(&mut branch.predicate.buffer);
                let nested = branch.then.iter_mut().chain(&mut branch.otherwise);
                nested.for_each(|step| step.rename_buffers(change));
            }
            Step::Loop(looped) => {
                if let Repeat::While { condition, predicate, .. } = &mut looped.repeat {
                    change(&mut predicate.buffer);
                    condition.iter_mut().for_each(|step| step.rename_buffers(change));
                }
                looped.body.iter_mut().for_each(|step| step.rename_buffers(change));
            }
        }
    }
}

impl KernelStep {
    /// Every view that the step reads, in order.
    pub fn reads(&self) -> Vec<&View> {
        let mut views = vec![];
        for operand in self.anchor.iter().flat_map(|anchor| &anchor.operands) {
            match operand {
                Operand::View(view) => views.push(view),
                Operand::Region(region) => views.extend(&region.inputs),
                Operand::Packed { .. } => {}
            }
        }
        for input in self.epilogue.iter().flat_map(|epilogue| &epilogue.inputs) {
            if let EpilogueInput::View(view) = input {
                views.push(view);
            }
        }
        views
    }

    /// Every buffer that the step reads.
    pub fn read_buffers(&self) -> Vec<BufferId> {
        let mut buffers: Vec<_> = self.reads().into_iter().map(|view| view.buffer).collect();
        for operand in self.anchor.iter().flat_map(|anchor| &anchor.operands) {
            if let Operand::Packed { buffer, .. } = operand {
                buffers.push(*buffer);
            }
        }
        buffers
    }

    fn rename_buffers(&mut self, change: &mut dyn FnMut(&mut BufferId)) {
        self.outputs.iter_mut().for_each(|view| change(&mut view.buffer));
        for operand in self.anchor.iter_mut().flat_map(|anchor| &mut anchor.operands) {
            match operand {
                Operand::View(view) => change(&mut view.buffer),
                Operand::Region(region) => region.inputs.iter_mut().for_each(|view| change(&mut view.buffer)),
                Operand::Packed { buffer, .. } => change(buffer),
            }
        }
        for input in self.epilogue.iter_mut().flat_map(|epilogue| &mut epilogue.inputs) {
            if let EpilogueInput::View(view) = input {
                change(&mut view.buffer);
            }
        }
    }

    /// Does the anchor update its first operand in place? Then the step's
    /// first output is that operand's view, and only part of it is written.
    pub fn is_in_place(&self) -> bool {
        self.anchor.as_ref().is_some_and(|anchor| updates_first_operand(&anchor.op))
    }
}

/// Is this an op whose first operand is copied to the result but for a part?
/// In LIR the copy is a step of its own (or nothing, when the operand is
/// donated) and the op writes its part in place.
pub fn updates_first_operand(op: &Op) -> bool {
    op.meaning().updates_first
}

/// Constraints of an op that only concrete extents decide: once the symbols
/// are bound, inference on the bound operands must give the bound results.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct BindingCheck {
    /// The op.
    pub op: Op,
    /// Types of its operands.
    pub operands: Vec<TensorType>,
    /// Types of its results.
    pub results: Vec<TensorType>,
    /// The node, for the message.
    pub origin: String,
}

impl BindingCheck {
    /// What a node leaves to the binding of its symbols; `None` for elementwise ops and without symbols.
    pub fn of(graph: &Graph, id: NodeId) -> Option<BindingCheck> {
        let node = graph.node(id);
        if node.op.meaning().scalar.is_some() {
            return None;
        }
        let operands: Vec<TensorType> = node.operands.iter().map(|&value| graph.ty(value).clone()).collect();
        let mut dims = operands.iter().chain(&node.types).flat_map(|ty| ty.shape.dims());
        let symbolic = node.op.has_symbols() || dims.any(|dim| dim.as_static().is_none());
        symbolic.then(|| BindingCheck {
            op: node.op.clone(),
            operands,
            results: node.types.clone(),
            origin: node_origin(graph, id),
        })
    }
}

/// How reports call a node: its value, op and block path.
pub fn node_origin(graph: &Graph, id: NodeId) -> String {
    let node = graph.node(id);
    let text = format!("%{} {}", id.0, node.op.def().name);
    if node.origin.path.is_empty() { text } else { format!("{text} {}", node.origin.path) }
}

/// A named tensor that the caller sees.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct IoEntry {
    /// Its name in the graph.
    pub name: String,
    /// Its type.
    pub ty: TensorType,
    /// Where its content is.
    pub buffer: BufferId,
}

/// The ordered lists of what a caller feeds and reads.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct LirIoManifest {
    /// Fed at every run.
    pub inputs: Vec<IoEntry>,
    /// Bound once.
    pub params: Vec<IoEntry>,
    /// Kept between runs.
    pub states: Vec<IoEntry>,
    /// Read after a run.
    pub outputs: Vec<IoEntry>,
    /// Tells after a run whether it faulted, where the steps do not.
    pub faults: Option<Box<FaultWords>>,
}

/// One check of the values of an operand.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct FaultCheck {
    /// The node, as [`node_origin`] calls it.
    pub node: String,
    /// Name of the operand.
    pub operand: String,
}

/// A result that tells whether the values of a run were such that ops take them: `i64[n]`, a word per check, which is
/// the position of the first element that is not, or `i64::MAX`.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct FaultWords {
    /// Where the words are.
    pub entry: IoEntry,
    /// What each word checks.
    pub checks: Vec<FaultCheck>,
}

impl FaultWords {
    /// The first check that failed and the position of the element, from the bytes of the words.
    pub fn first(&self, bytes: &[u8]) -> Option<(&FaultCheck, i64)> {
        let words = bytes.as_chunks::<8>().0.iter().map(|word| i64::from_le_bytes(*word));
        self.checks.iter().zip(words).find(|(_, word)| *word != i64::MAX)
    }
}

/// A compiled module.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct LirModule {
    /// Name, for reports.
    pub name: String,
    /// Symbols with bounds.
    pub symbols: BTreeMap<Symbol, SymbolBounds>,
    /// Buffers, by id.
    pub buffers: Vec<Buffer>,
    /// What runs, in order.
    pub steps: Vec<Step>,
    /// What must hold of concrete extents.
    pub checks: Vec<BindingCheck>,
    /// Where arena buffers lie.
    pub plan: LirBufferPlan,
    /// What the caller sees.
    pub io: LirIoManifest,
    /// Run once when weights are bound, in any order. Their outputs are prepared
    /// buffers, there and here, by name; their params are among this module's params.
    pub prepare: Vec<LirModule>,
}

impl LirModule {
    /// One buffer. Ids come from this module, so the buffer exists.
    pub fn buffer(&self, id: BufferId) -> &Buffer {
        &self.buffers[id.0 as usize]
    }

    /// Appends a buffer.
    pub fn add_buffer(&mut self, buffer: Buffer) -> BufferId {
        self.buffers.push(buffer);
        BufferId(self.buffers.len() as u32 - 1)
    }

    /// Calls `visit` with every step, in order: a branch or loop first, then each step inside it, once.
    pub fn for_each_step<'a>(&'a self, visit: &mut dyn FnMut(&'a Step)) {
        walk(&self.steps, visit);
    }

    /// Params whose bytes can go once they are prepared: no step of this module reads them, some stage does, and no
    /// such stage would need them again because another param of the stage is bound anew.
    pub fn released_params(&self) -> BTreeSet<BufferId> {
        let mut read = BTreeSet::new();
        self.for_each_step(&mut |step| {
            if !matches!(step, Step::Pack(_)) {
                read.extend(step.reads());
            }
        });
        let goes = |param: &&IoEntry| {
            let mut stages = self.prepare.iter().filter(|stage| stage.takes(&param.name)).peekable();
            stages.peek().is_some() && stages.all(|stage| stage.io.params.len() == 1)
        };
        let unread = self.io.params.iter().filter(|param| !read.contains(&param.buffer));
        unread.filter(goes).map(|param| param.buffer).collect()
    }

    /// Is `name` one of the params?
    pub fn takes(&self, name: &str) -> bool {
        self.io.params.iter().any(|param| param.name == name)
    }

    /// Number of kernel steps.
    pub fn kernel_count(&self) -> usize {
        let mut count = 0;
        self.for_each_step(&mut |step| count += usize::from(matches!(step, Step::Kernel(_))));
        count
    }
}

fn walk<'a>(steps: &'a [Step], visit: &mut dyn FnMut(&'a Step)) {
    for step in steps {
        visit(step);
        step.lists().into_iter().for_each(|steps| walk(steps, visit));
    }
}
