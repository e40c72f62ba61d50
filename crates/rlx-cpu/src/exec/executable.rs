//! The CPU executable: bound steps over one arena.
//!
//! Binding the symbols lays out the arena and turns LIR steps into work; the
//! last few bindings are kept. Weights are shared with clones; arena, states
//! and workspace are the executable's own.

use super::bind::Binder;
use super::memory::{Memory, Moves, Shared as SharedMemory};
use super::region::Files;
use super::steps::{BoundStep, Instruction};
use super::tape::REGISTER_BYTES;
use super::times::Times;
use super::work::Call;

use crate::kernels::Context;
use crate::pool::Pool;
use crate::simd::SimdLevel;
use rlx_driver::arena::{AlignedBytes, DeviceArena, HostArena};
use rlx_driver::{
    ActiveExtent, DriverError, ExecutableGraph, Feeds, MemoryUse, Outputs, RawOutput, SharedBytes,
    SlotOutput, StateHandles, StepTime, TensorRef, Timing, Weights, check_bytes, match_inputs, match_slots,
};
use rlx_ir::lir::{
    ArenaLayout, BindingManifest, BufferId, BufferKind, IoEntry, LirModule, Step, VerifiedLir,
};
use rlx_ir::ops::control::r#while::over_limit;
use rlx_ir::{Bindings, Dim, Literal, Symbol};
use std::sync::Arc;
use std::time::Instant;

/// Bindings that are kept ready.
const KEPT_BINDINGS: usize = 8;

struct Shared {
    module: VerifiedLir,
    pool: Arc<Pool>,
    inline: Pool,
    level: SimdLevel,
}

/// The module with concrete extents.
struct Bound {
    bindings: Bindings,
    layout: ArenaLayout,
    steps: Vec<BoundStep>,
    program: Vec<Instruction>,
    moves: Moves,
    /// Number of loops.
    loops: usize,
    workspace: Vec<usize>,
    outputs: Vec<(Vec<usize>, SlotOutput)>,
    input_sizes: Vec<usize>,
}

impl Bound {
    fn workspace_bytes(&self) -> usize {
        self.workspace.iter().copied().map(padded).sum()
    }

    fn scratch_bytes(&self) -> usize {
        self.steps.iter().map(|step| step.work.scratch()).max().unwrap_or(0)
    }

    fn slots(&self) -> usize {
        self.steps.iter().map(|step| step.work.slots()).max().unwrap_or(0)
    }
}

/// Size of a part of the workspace, so that the next part starts aligned.
fn padded(size: usize) -> usize {
    size.next_multiple_of(64)
}

#[derive(Default)]
struct State {
    bytes: AlignedBytes,
    dims: Vec<usize>,
    poisoned: bool,
    /// Did the caller bind the content?
    given: bool,
}

/// A compiled graph on the CPU.
pub struct CpuExecutable {
    shared: Arc<Shared>,
    weights: Weights<SharedBytes>,
    /// The results of a prepare stage, in order; none in any other module.
    made: Vec<AlignedBytes>,
    states: Vec<State>,
    kept: Vec<Bound>,
    /// Is `kept[0]` in force, with every buffer attached?
    attached: bool,
    arena: HostArena,
    workspace: AlignedBytes,
    scratch: AlignedBytes,
    files: Files,
    memory: Memory,
    /// Of the loops of the bound steps.
    counters: Vec<usize>,
    slots: Vec<SlotOutput>,
    forced: Option<(Symbol, i64)>,
    feeds: Feeds,
    times: Option<Times>,
    budget: Option<u64>,
}

impl CpuExecutable {
    /// An executable of `module`.
    pub fn new(module: VerifiedLir, pool: Arc<Pool>, level: SimdLevel) -> CpuExecutable {
        CpuExecutable::of(Arc::new(Shared { module, pool, inline: Pool::inline(), level }))
    }

    fn of(shared: Arc<Shared>) -> CpuExecutable {
        let io = &shared.module.io;
        CpuExecutable {
            weights: Weights::new(&shared.module),
            made: vec![],
            states: io.states.iter().map(|_| State::default()).collect(),
            shared,
            kept: vec![],
            attached: false,
            arena: HostArena::default(),
            workspace: AlignedBytes::default(),
            scratch: AlignedBytes::default(),
            files: Files::default(),
            memory: Memory::default(),
            counters: vec![],
            slots: vec![],
            forced: None,
            feeds: Feeds::default(),
            times: None,
            budget: None,
        }
    }

    fn context(shared: &Shared) -> Result<Context<'_>, DriverError> {
        Context::with_level(&shared.pool, shared.level)
            .map_err(|error| DriverError::Device { device: "cpu".into(), message: error.to_string() })
    }

    /// Runs the prepare stages whose params are new.
    fn prepare(&mut self) -> Result<(), DriverError> {
        let shared = &self.shared;
        let changed = self.weights.prepare(&shared.module, &mut |index, given| {
            let stage = shared.module.prepare_stage(index);
            let mut executable = CpuExecutable::new(stage, shared.pool.clone(), shared.level);
            executable.weights = given;
            executable.bind(Bindings::new())?;
            executable.run_bound()?;
            Ok(executable.made.into_iter().map(|bytes| SharedBytes::new(Arc::new(bytes))).collect())
        })?;
        self.attached &= !changed;
        Ok(())
    }

    /// Puts `bindings` in force.
    fn bind(&mut self, bindings: Bindings) -> Result<(), DriverError> {
        if let Some(position) = self.kept.iter().position(|bound| bound.bindings == bindings) {
            if position != 0 {
                let bound = self.kept.remove(position);
                self.put_first(bound);
            }
        } else {
            let bound = self.make(bindings)?;
            self.memory_use(&bound)?.within(self.budget)?;
            self.put_first(bound);
        }
        self.prepare()?;
        if !self.attached {
            self.attach()?;
        }
        Ok(())
    }

    fn put_first(&mut self, bound: Bound) {
        if let Some(times) = &mut self.times {
            times.turn(in_force(&self.kept), bound.steps.len());
        }
        self.kept.insert(0, bound);
        self.kept.truncate(KEPT_BINDINGS);
        self.attached = false;
    }

    fn memory_use(&self, bound: &Bound) -> Result<MemoryUse, DriverError> {
        let mut memory = MemoryUse::of_module(&self.shared.module, &bound.bindings)?;
        let registers = self.shared.pool.threads() * bound.slots() * REGISTER_BYTES;
        memory.workspace = (bound.scratch_bytes() + bound.workspace_bytes() + registers) as u64;
        Ok(memory)
    }

    fn make(&self, bindings: Bindings) -> Result<Bound, DriverError> {
        let module = &self.shared.module;
        module.check_binding(&bindings)?;
        let layout = module.plan.layout(&bindings)?;
        if let Some((a, b)) = module.plan.overlap(&layout) {
            let finding = format!("b{} and b{} live at once in the same memory", a.0, b.0);
            return Err(DriverError::Lir(rlx_ir::lir::LirError(vec![finding])));
        }
        let context = CpuExecutable::context(&self.shared)?;
        let mut binder = Binder::new(module, bindings.clone(), context);
        binder.bind(&module.steps)?;
        let Binder { steps, workspace, program, moves, loops, .. } = binder;
        let mut outputs = vec![];
        for entry in &module.io.outputs {
            let dims = entry.ty.shape.eval(&bindings)?;
            let (offset, len) =
                layout.places.get(entry.buffer.0 as usize).copied().flatten().unwrap_or((0, 0));
            outputs.push((dims, SlotOutput { offset, len }));
        }
        let sizes = module.io.inputs.iter().map(|entry| entry.ty.size_bytes().extent(&bindings));
        let input_sizes = sizes.collect::<Result<Vec<_>, _>>()?;
        Ok(Bound { bindings, layout, steps, program, moves, loops, workspace, outputs, input_sizes })
    }

    /// Gives `kept[0]` its memory.
    fn attach(&mut self) -> Result<(), DriverError> {
        let shared = self.shared.clone();
        let bound = &self.kept[0];
        for (entry, state) in shared.module.io.states.iter().zip(&mut self.states) {
            let dims = entry.ty.shape.eval(&bound.bindings)?;
            let empty = state.bytes.as_slice().is_empty();
            if state.dims != dims && state.given {
                return Err(DriverError::Mismatch {
                    what: "state",
                    name: entry.name.clone(),
                    expected: format!(
                        "the extents {:?} that it was given content with; reset it first",
                        state.dims
                    ),
                    found: format!("{dims:?}"),
                });
            }
            if state.dims != dims || (empty && !dims.contains(&0)) {
                let size = entry.ty.size_bytes().extent(&bound.bindings)?;
                *state = State { bytes: AlignedBytes::zeroed(size, "state")?, dims, ..State::default() };
            }
        }
        self.arena.rebind(bound.layout.clone())?;
        let workspace = bound.workspace_bytes();
        if workspace > self.workspace.as_slice().len() {
            self.workspace = AlignedBytes::zeroed(workspace, "workspace")?;
        }
        self.files.reserve(shared.pool.threads(), bound.slots());
        let scratch = bound.scratch_bytes();
        if scratch > self.scratch.as_slice().len() {
            self.scratch = AlignedBytes::zeroed(scratch, "scratch")?;
        }
        let module = &shared.module;
        self.memory.reset(module.buffers.len() + bound.workspace.len());
        self.memory.reserve(&bound.steps.iter().map(|step| &step.spans).collect::<Vec<_>>());
        for (index, buffer) in module.buffers.iter().enumerate() {
            let id = BufferId(index as u32);
            match &buffer.kind {
                BufferKind::Constant(literal) => self.memory.set_read(id, literal.bytes()),
                BufferKind::Param | BufferKind::Prepared => {
                    if let Some(bytes) = self.weights.get(id) {
                        self.memory.set_read(id, bytes.as_ref());
                    }
                }
                BufferKind::State => {}
                _ => {
                    if let Some((offset, size)) = bound.layout.places.get(index).copied().flatten() {
                        self.memory.set_part(id, SharedMemory::Arena, offset, size);
                    }
                }
            }
        }
        self.made.clear();
        for entry in module.io.outputs.iter().filter(|entry| is_prepared(module, entry)) {
            let size = entry.ty.size_bytes().extent(&bound.bindings)?;
            self.made.push(AlignedBytes::zeroed(size, "prepared weights")?);
        }
        let mut start = 0;
        for (index, size) in bound.workspace.iter().enumerate() {
            let id = BufferId((module.buffers.len() + index) as u32);
            self.memory.set_part(id, SharedMemory::Workspace, start, *size);
            start += padded(*size);
        }
        self.slots = bound.outputs.iter().map(|(_, slot)| *slot).collect();
        self.attached = true;
        Ok(())
    }

    /// Runs the bound steps on what the arena holds.
    fn run_bound(&mut self) -> Result<(), DriverError> {
        if let Some((entry, _)) =
            self.shared.module.io.states.iter().zip(&self.states).find(|(_, state)| state.poisoned)
        {
            return Err(DriverError::Poisoned(entry.name.clone()));
        }
        let shared = self.shared.clone();
        let context = CpuExecutable::context(&shared)?;
        self.memory.set_shared(SharedMemory::Arena, self.arena.bytes_mut());
        self.memory.set_shared(SharedMemory::Workspace, self.workspace.as_mut_slice());
        for (entry, state) in shared.module.io.states.iter().zip(&mut self.states) {
            self.memory.set_write(entry.buffer, state.bytes.as_mut_slice());
        }
        for (entry, made) in shared.module.io.outputs.iter().zip(&mut self.made) {
            self.memory.set_write(entry.buffer, made.as_mut_slice());
        }
        let (bound, files) = (&self.kept[0], &self.files);
        let inline = context.with_pool(&shared.inline);
        self.counters.clear();
        self.counters.resize(bound.loops, 0);
        let mut next = 0;
        while let Some(instruction) = bound.program.get(next) {
            next += 1;
            let at = (&bound.moves, &self.counters[..]);
            let index = match instruction {
                Instruction::Run(index) => *index,
                Instruction::Unless { spans, to } => {
                    // SAFETY: as below.
                    let holds = unsafe { self.memory.with(spans, at, |reads, _| reads[0][0] != 0) };
                    if !holds.map_err(|fault| DriverError::Fault { node: "predicate".into(), fault })? {
                        next = *to;
                    }
                    continue;
                }
                Instruction::Limit { number, limit, origin } => {
                    if self.counters[*number] == *limit {
                        let node = located(origin, &bound.program[..next - 1], &self.counters);
                        let fault = over_limit(*limit as i64).0;
                        self.poison();
                        return Err(DriverError::Fault { node, fault });
                    }
                    continue;
                }
                counting => {
                    next = count(counting, &mut self.counters).unwrap_or(next);
                    continue;
                }
            };
            let step = &bound.steps[index];
            let scratch = &mut self.scratch.as_mut_slice()[..];
            let start = self.times.is_some().then(Instant::now);
            // SAFETY: `attach` set the weights after their last change, arena, workspace and states
            // were set above and nobody else touches them during the run (`&mut self`), and the
            // verified plan keeps apart what lives at once.
            let result = unsafe {
                self.memory.with(&step.spans, at, |reads, writes| {
                    step.work.run(Call { context, inline, files, reads, writes, scratch })
                })
            };
            if let (Some(start), Some(times)) = (start, &mut self.times) {
                times.add(index, start.elapsed());
            }
            if let Err(fault) | Ok(Err(fault)) = result {
                let node = located(&step.origin, &bound.program[..next], &self.counters);
                self.poison();
                return Err(DriverError::Fault { node, fault });
            }
        }
        self.check_words()
    }

    /// What the fault words of a module say, where it has them.
    fn check_words(&mut self) -> Result<(), DriverError> {
        let Some(words) = &self.shared.module.io.faults else { return Ok(()) };
        let place = self.kept[0].layout.places.get(words.entry.buffer.0 as usize).copied().flatten();
        let (offset, len) = place.unwrap_or((0, 0));
        let faulted = DriverError::from_words(words, &self.arena.bytes()[offset..offset + len]);
        if faulted.is_err() {
            self.poison();
        }
        faulted
    }

    /// Marks every state that the module writes.
    fn poison(&mut self) {
        let module = &self.shared.module;
        for (entry, state) in module.io.states.iter().zip(&mut self.states) {
            module.for_each_step(&mut |step| {
                if let Step::Kernel(step) = step {
                    state.poisoned |= step.outputs.iter().any(|view| view.buffer == entry.buffer);
                }
            });
        }
    }

    /// Binds and runs.
    fn run_named(&mut self, inputs: &[(&str, TensorRef<'_>)]) -> Result<(), DriverError> {
        let shared = self.shared.clone();
        let module = &shared.module;
        let mut bindings = Bindings::new();
        let trimmed = self.trim(inputs)?;
        let all: Vec<(&str, TensorRef<'_>)> = match &trimmed {
            Some(literals) => {
                inputs.iter().zip(literals).map(|((name, _), literal)| (*name, literal.into())).collect()
            }
            None => inputs.to_vec(),
        };
        let ordered = match_inputs(module, &all, &|_| false, &mut bindings)?;
        self.bind(bindings)?;
        for (entry, tensor) in module.io.inputs.iter().zip(&ordered) {
            if let Some(tensor) = tensor {
                self.arena.write(entry.buffer, entry.ty.dtype, *tensor)?;
            }
        }
        self.run_bound()
    }

    /// With an active extent, cuts inputs of the full extent to the active part.
    fn trim(&self, inputs: &[(&str, TensorRef<'_>)]) -> Result<Option<Vec<Literal>>, DriverError> {
        let Some((symbol, actual)) = &self.forced else { return Ok(None) };
        let mut trimmed = vec![];
        for (name, tensor) in inputs {
            let literal = Literal::from_bytes(tensor.dtype, tensor.dims, tensor.bytes).map_err(|error| {
                DriverError::Inputs(vec![rlx_ir::Diagnostic::new(
                    format!("input \"{name}\""),
                    error.to_string(),
                )])
            })?;
            let entry = self.shared.module.io.inputs.iter().find(|entry| entry.name == *name);
            let dims: Vec<usize> = match entry {
                Some(entry) if entry.ty.rank() == tensor.dims.len() => {
                    let dims = entry.ty.shape.dims().iter().zip(tensor.dims);
                    dims.map(|(dim, &extent)| {
                        let active = active_extent(dim, symbol, *actual);
                        active.map_or(extent, |active| extent.min(active))
                    })
                    .collect()
                }
                _ => tensor.dims.to_vec(),
            };
            trimmed.push(cut(&literal, &dims));
        }
        Ok(Some(trimmed))
    }

    fn output_literal(&self, index: usize) -> Result<Literal, DriverError> {
        let entry = &self.shared.module.io.outputs[index];
        let (dims, slot) = &self.kept[0].outputs[index];
        let bytes = &self.arena.bytes()[slot.offset..slot.offset + slot.len];
        Literal::from_bytes(entry.ty.dtype, dims, bytes).map_err(|error| DriverError::Mismatch {
            what: "output",
            name: entry.name.clone(),
            expected: entry.ty.to_string(),
            found: error.to_string(),
        })
    }

    fn collect(&self) -> Result<Outputs, DriverError> {
        let entries = self.shared.module.io.outputs.iter().enumerate();
        entries.map(|(index, entry)| Ok((entry.name.clone(), self.output_literal(index)?))).collect()
    }

    fn state_index(&self, name: &str) -> Result<usize, DriverError> {
        find(&self.shared.module.io.states, "state", name)
    }
}

/// Counts, and says where to go on if not at what comes next.
fn count(instruction: &Instruction, counters: &mut [usize]) -> Option<usize> {
    match instruction {
        Instruction::Enter { number } => {
            counters[*number] = 0;
            None
        }
        Instruction::Until { number, count, to } => (counters[*number] == *count).then_some(*to),
        Instruction::Next { number, to } => {
            counters[*number] += 1;
            Some(*to)
        }
        Instruction::Jump { to } => Some(*to),
        Instruction::Run(_) | Instruction::Unless { .. } | Instruction::Limit { .. } => None,
    }
}

/// A node, with the iterations of the loops around it: those that were entered and not left `before` it.
fn located(origin: &str, before: &[Instruction], counters: &[usize]) -> String {
    let mut open = vec![];
    for instruction in before {
        match instruction {
            Instruction::Enter { number } => open.push(*number),
            Instruction::Next { .. } => drop(open.pop()),
            _ => {}
        }
    }
    match open.iter().map(|&number| counters[number].to_string()).collect::<Vec<_>>() {
        iterations if iterations.is_empty() => origin.to_owned(),
        iterations => format!("{origin} (iteration {})", iterations.join(", ")),
    }
}

/// The value of `dim` where `symbol` alone decides it.
fn active_extent(dim: &Dim, symbol: &Symbol, actual: i64) -> Option<usize> {
    dim.as_static().is_none().then_some(())?;
    dim.extent(&Bindings::from_iter([(&**symbol, actual)])).ok()
}

/// The steps of the extents in force.
fn in_force(kept: &[Bound]) -> &[BoundStep] {
    kept.first().map_or(&[], |bound| &bound.steps)
}

/// Is an output of a module one that lives on as a weight of another module?
fn is_prepared(module: &LirModule, entry: &IoEntry) -> bool {
    module.buffer(entry.buffer).kind == BufferKind::Prepared
}

/// The leading part of `literal` with extents `dims`.
fn cut(literal: &Literal, dims: &[usize]) -> Literal {
    if literal.dims() == dims {
        return literal.clone();
    }
    let mut numbers = vec![];
    rlx_ir::ops::for_each_index(dims, |index| {
        let position = index.iter().zip(literal.dims()).fold(0, |position, (&i, &dim)| position * dim + i);
        numbers.push(literal.number(position));
    });
    Literal::from_numbers(literal.dtype(), dims, numbers).unwrap_or_else(|_| literal.clone())
}

fn find(entries: &[IoEntry], what: &'static str, name: &str) -> Result<usize, DriverError> {
    entries.iter().position(|entry| entry.name == name).ok_or_else(|| DriverError::NoSuchName {
        what,
        name: name.into(),
        known: entries.iter().map(|entry| entry.name.clone()).collect(),
    })
}

impl ExecutableGraph for CpuExecutable {
    fn lir(&self) -> &VerifiedLir {
        &self.shared.module
    }

    fn manifest(&self) -> BindingManifest {
        BindingManifest::from_lir(&self.shared.module, self.kept.first().map(|bound| &bound.layout))
    }

    fn memory_estimate(&self, bindings: &Bindings) -> Result<MemoryUse, DriverError> {
        self.memory_use(&self.make(bindings.clone())?)
    }

    fn set_memory_budget(&mut self, budget: Option<u64>) {
        self.budget = budget;
    }

    fn bind_param(&mut self, name: &str, bytes: SharedBytes) -> Result<(), DriverError> {
        let index = find(&self.shared.module.io.params, "param", name)?;
        let entry = &self.shared.module.io.params[index];
        let expected = entry.ty.size_bytes().extent(&Bindings::new())?;
        let found = bytes.as_ref().len();
        if expected != found {
            return Err(DriverError::Mismatch {
                what: "param",
                name: name.into(),
                expected: format!("{} ({expected} bytes)", entry.ty),
                found: format!("{found} bytes"),
            });
        }
        // Kernels read whole elements; a weight that lies askew in its file is copied once.
        let width = entry.ty.dtype.size_of().unwrap_or(1).min(8);
        let askew = bytes.as_ref().as_ptr().align_offset(width) != 0;
        let bytes = if askew {
            let mut copy = AlignedBytes::zeroed(found, "a param")?;
            copy.as_mut_slice().copy_from_slice(bytes.as_ref());
            SharedBytes::new(Arc::new(copy))
        } else {
            bytes
        };
        self.weights.bind(&self.shared.module, entry, bytes);
        self.attached = false;
        Ok(())
    }

    fn run_typed(&mut self, inputs: &[(&str, TensorRef<'_>)]) -> Result<Outputs, DriverError> {
        self.run_named(inputs)?;
        self.collect()
    }

    fn run_raw(&mut self, inputs: &[(&str, TensorRef<'_>)]) -> Result<Vec<RawOutput<'_>>, DriverError> {
        self.run_named(inputs)?;
        let entries = self.shared.module.io.outputs.iter().zip(&self.kept[0].outputs);
        Ok(entries
            .map(|(entry, (dims, slot))| RawOutput {
                name: &entry.name,
                dtype: entry.ty.dtype,
                dims: dims.clone(),
                bytes: &self.arena.bytes()[slot.offset..slot.offset + slot.len],
            })
            .collect())
    }

    fn run_slots(&mut self, inputs: &[&[u8]]) -> Result<&[SlotOutput], DriverError> {
        let rebinds = self.forced.as_ref().is_some_and(|(symbol, actual)| {
            self.kept.first().is_some_and(|bound| bound.bindings.get(symbol) != Some(*actual))
        });
        if !self.attached || rebinds {
            let mut bindings = self.kept.first().map(|bound| bound.bindings.clone()).unwrap_or_default();
            if let Some((symbol, actual)) = &self.forced {
                bindings.set(symbol, *actual);
            }
            self.bind(bindings)?;
        }
        let bound = &self.kept[0];
        match_slots(&self.shared.module, inputs, |index| bound.input_sizes[index])?;
        for (entry, bytes) in self.shared.module.io.inputs.iter().zip(inputs) {
            self.arena.slot_mut(entry.buffer)?.copy_from_slice(bytes);
        }
        self.run_bound()?;
        Ok(&self.slots)
    }

    fn arena(&self) -> Option<&[u8]> {
        Some(self.arena.bytes())
    }

    fn clone_box(&self) -> Result<Box<dyn ExecutableGraph>, DriverError> {
        let mut clone = CpuExecutable::of(self.shared.clone());
        clone.weights.clone_from(&self.weights);
        clone.budget = self.budget;
        clone.forced.clone_from(&self.forced);
        Ok(Box::new(clone))
    }

    fn states(&mut self) -> Option<&mut dyn StateHandles> {
        Some(self)
    }

    fn active_extent(&mut self) -> Option<&mut dyn ActiveExtent> {
        Some(self)
    }

    fn timing(&mut self) -> Option<&mut dyn Timing> {
        Some(self)
    }
}

impl StateHandles for CpuExecutable {
    fn names(&self) -> Vec<String> {
        self.shared.module.io.states.iter().map(|entry| entry.name.clone()).collect()
    }

    fn has_handle(&self, name: &str) -> bool {
        self.state_index(name).is_ok() || self.feeds.has(name)
    }

    fn bind_handle(&mut self, name: &str, tensor: TensorRef<'_>) -> Result<(), DriverError> {
        let module = &self.shared.module;
        if self.feeds.bind(&module.io, name, tensor)? {
            return Ok(());
        }
        let index = self.state_index(name)?;
        let ty = &module.io.states[index].ty;
        let mut bindings = Bindings::new();
        let mismatch = || DriverError::Mismatch {
            what: "state",
            name: name.into(),
            expected: ty.to_string(),
            found: tensor.ty().to_string(),
        };
        rlx_ir::interpret::bind_shape(ty, tensor.dtype, tensor.dims, &mut bindings)
            .map_err(|_| mismatch())?;
        check_bytes(tensor, "state", name)?;
        let mut bytes = AlignedBytes::zeroed(tensor.bytes.len(), "state")?;
        bytes.as_mut_slice().copy_from_slice(tensor.bytes);
        self.states[index] = State { bytes, dims: tensor.dims.to_vec(), poisoned: false, given: true };
        self.attached = false;
        Ok(())
    }

    fn read_handle(&self, name: &str) -> Result<Literal, DriverError> {
        if let Some(literal) = self.feeds.get(name) {
            return Ok(literal.clone());
        }
        let index = self.state_index(name)?;
        let (entry, state) = (&self.shared.module.io.states[index], &self.states[index]);
        if state.poisoned {
            return Err(DriverError::Poisoned(name.into()));
        }
        Literal::from_bytes(entry.ty.dtype, &state.dims, state.bytes.as_slice()).map_err(|_| {
            DriverError::Mismatch {
                what: "state",
                name: name.into(),
                expected: entry.ty.to_string(),
                found: "no content; run once or bind it first".into(),
            }
        })
    }

    fn reset_handle(&mut self, name: &str) -> Result<(), DriverError> {
        let index = self.state_index(name)?;
        if self.shared.module.io.states[index].ty.shape.as_static().is_none() {
            // The next run decides its extents.
            self.states[index] = State::default();
            self.attached = false;
            return Ok(());
        }
        self.states[index].bytes.as_mut_slice().fill(0);
        self.states[index].poisoned = false;
        Ok(())
    }

    fn set_feed(&mut self, name: &str, output: &str) -> Result<(), DriverError> {
        self.feeds.set(&self.shared.module.io, name, output)
    }

    fn run_feed(&mut self, inputs: &[(&str, TensorRef<'_>)]) -> Result<Outputs, DriverError> {
        let feeds = std::mem::take(&mut self.feeds);
        let ran = self.run_named(&feeds.complete(inputs));
        self.feeds = feeds;
        ran?;
        let outputs = self.collect()?;
        for (name, literal) in self.feeds.results(&outputs) {
            self.bind_handle(&name, TensorRef::from(&literal))?;
        }
        Ok(outputs)
    }
}

impl ActiveExtent for CpuExecutable {
    fn set_active_extent(&mut self, actual: usize, upper: usize) -> Result<(), DriverError> {
        let symbols: Vec<&Symbol> = self
            .shared
            .module
            .symbols
            .iter()
            .filter(|(_, bounds)| bounds.max == Some(upper as i64))
            .map(|(symbol, _)| symbol)
            .collect();
        match symbols[..] {
            [symbol] if actual <= upper => {
                self.forced = Some((symbol.clone(), actual as i64));
                Ok(())
            }
            _ => Err(DriverError::Mismatch {
                what: "active extent",
                name: upper.to_string(),
                expected: format!("one symbol with upper bound {upper} and an extent of at most that"),
                found: format!("{} such symbols, extent {actual}", symbols.len()),
            }),
        }
    }
}

impl Timing for CpuExecutable {
    fn set_timing(&mut self, on: bool) {
        self.times = on.then(|| Times::new(in_force(&self.kept).len()));
    }

    fn step_times(&self) -> Vec<StepTime> {
        self.times.as_ref().map(|times| times.all(in_force(&self.kept))).unwrap_or_default()
    }
}
