//! A module on a device: weights, arenas, states, and runs.
//!
//! Kernels and constants are shared between clones, and so are the device copies of weights; each clone has an arena
//! and states of its own. Symbols are bound from the inputs of a run, and launches are kept until they change.

use crate::device::{GpuDevice, ReadBack};
use crate::error::GpuError;
use crate::stage::{Bound, Memory, Stage, device_error};
use rlx_driver::{
    DriverError, ExecutableGraph, Feeds, Outputs, RawOutput, SharedBytes, SlotOutput, StateHandles,
    TensorRef, Weights, check_bytes, match_inputs, match_slots,
};
use rlx_ir::interpret::bind_shape;
use rlx_ir::lir::{BindingManifest, BufferKind, IoEntry, LirModule, VerifiedLir};
use rlx_ir::{Bindings, Literal};
use std::collections::BTreeSet;
use std::sync::Arc;

/// What clones share.
struct Shared<D: GpuDevice> {
    device: Arc<D>,
    module: VerifiedLir,
    stage: Stage,
    constants: Arc<D::Buffer>,
    constant_offsets: Arc<Vec<u64>>,
    prepare: Vec<Prepare<D>>,
}

/// A stage that runs once when the weights are bound.
struct Prepare<D: GpuDevice> {
    stage: Stage,
    bound: Bound<D::Program>,
    constants: Arc<D::Buffer>,
    constant_offsets: Arc<Vec<u64>>,
}

/// A compiled module with its memory.
pub(crate) struct GpuExecutable<D: GpuDevice> {
    shared: Arc<Shared<D>>,
    memory: Memory<D::Buffer>,
    arena_bytes: usize,
    bindings: Bindings,
    bound: Option<Bound<D::Program>>,
    weights: Weights<Arc<D::Buffer>>,
    budget: Option<u64>,
    /// Extents of the states, in manifest order; none before the symbols in them are bound.
    state_dims: Vec<Option<Vec<usize>>>,
    /// States that a failed run may have touched.
    poisoned: BTreeSet<String>,
    feeds: Feeds,
    outputs: Vec<u8>,
    slots: Vec<SlotOutput>,
}

/// Alignment of constants in their allocation, in bytes.
const CONSTANT_ALIGNMENT: usize = 256;

impl<D: GpuDevice + 'static> GpuExecutable<D> {
    pub fn new(
        device: Arc<D>,
        backend: &'static str,
        module: VerifiedLir,
    ) -> Result<GpuExecutable<D>, DriverError> {
        let failed = |error| device_error(device.name(), error);
        let stage = Stage::new(backend, &device.target(), &module)?;
        let (constants, constant_offsets) = upload_constants(&*device, &module).map_err(failed)?;
        let prepare = module.prepare.iter().map(|stage| Prepare::new(&*device, backend, stage));
        let prepare = prepare.collect::<Result<Vec<_>, _>>()?;
        let shared = Shared { device, module, stage, constants, constant_offsets, prepare };
        GpuExecutable::of(Arc::new(shared))
    }

    /// An executable without weights, its states zero.
    fn of(shared: Arc<Shared<D>>) -> Result<GpuExecutable<D>, DriverError> {
        let device = &*shared.device;
        let failed = |error| device_error(device.name(), error);
        let memory = Memory {
            arena: Arc::new(device.allocate("the arena", 0).map_err(failed)?),
            faults: Arc::new(no_faults(device, shared.stage.fault_words()).map_err(failed)?),
            constants: Arc::clone(&shared.constants),
            constant_offsets: Arc::clone(&shared.constant_offsets),
            own: vec![None; shared.module.buffers.len()],
        };
        let mut executable = GpuExecutable {
            state_dims: vec![None; shared.module.io.states.len()],
            weights: Weights::new(&shared.module),
            budget: None,
            shared,
            memory,
            arena_bytes: 0,
            bindings: Bindings::new(),
            bound: None,
            poisoned: BTreeSet::new(),
            feeds: Feeds::default(),
            outputs: Vec::new(),
            slots: Vec::new(),
        };
        for index in 0..executable.state_dims.len() {
            if let Some(dims) = executable.shared.module.io.states[index].ty.shape.as_static() {
                executable.replace_state(index, dims, None)?;
            }
        }
        Ok(executable)
    }

    /// Sets extents and content of a state; zeroes where no content is given.
    fn replace_state(
        &mut self,
        index: usize,
        dims: Vec<usize>,
        content: Option<&[u8]>,
    ) -> Result<(), DriverError> {
        let shared = Arc::clone(&self.shared);
        let entry = &shared.module.io.states[index];
        let bytes = entry.ty.dtype.byte_size(dims.iter().product()).unwrap_or(usize::MAX);
        let own = &mut self.memory.own[entry.buffer.0 as usize];
        let memory = match own {
            Some(memory) if self.state_dims[index].as_ref() == Some(&dims) => Arc::clone(memory),
            _ => {
                let failed = |error| device_error(shared.device.name(), error);
                Arc::new(shared.device.allocate(&entry.name, bytes as u64).map_err(failed)?)
            }
        };
        *own = Some(Arc::clone(&memory));
        self.state_dims[index] = Some(dims);
        let zeros = if content.is_none() { vec![0; bytes] } else { vec![] };
        shared.device.write(&memory, 0, content.unwrap_or(&zeros)).map_err(self.failed())?;
        self.poisoned.remove(&entry.name);
        Ok(())
    }

    /// Gives every state the extents of a binding; one that has others starts anew from zeroes.
    fn fit_states(&mut self, bindings: &Bindings) -> Result<(), DriverError> {
        let shared = Arc::clone(&self.shared);
        for (index, entry) in shared.module.io.states.iter().enumerate() {
            let dims = entry.ty.shape.eval(bindings)?;
            if self.state_dims[index].as_ref() != Some(&dims) {
                self.replace_state(index, dims, None)?;
            }
        }
        Ok(())
    }

    fn failed(&self) -> impl Fn(GpuError) -> DriverError + use<D> {
        let name = self.shared.device.name().to_string();
        move |error| device_error(&name, error)
    }

    /// Makes the launches for the present binding, if it changed.
    fn bind(&mut self, bindings: Bindings) -> Result<(), DriverError> {
        self.fit_states(&bindings)?;
        if self.bound.is_some() && self.bindings == bindings {
            return Ok(());
        }
        let shared = Arc::clone(&self.shared);
        shared.module.check_binding(&bindings)?;
        if self.budget.is_some() {
            self.memory_estimate(&bindings)?.within(self.budget)?;
        }
        let (device, offsets) = (&*shared.device, &shared.constant_offsets);
        let bound = shared.stage.bind(device, &shared.module, offsets, &bindings)?;
        if bound.layout.size > self.arena_bytes {
            self.bound = None;
            let arena = device.allocate("the arena", arena_size(bound.layout.size)).map_err(self.failed())?;
            self.memory.arena = Arc::new(arena);
            self.arena_bytes = bound.layout.size;
        }
        self.slots.clear();
        let mut offset = 0;
        for entry in &shared.module.io.outputs {
            let len = entry.ty.size_bytes().extent(&bindings)?;
            self.slots.push(SlotOutput { offset, len });
            offset = (offset + len).next_multiple_of(64);
        }
        self.outputs.resize(offset, 0);
        (self.bindings, self.bound) = (bindings, Some(bound));
        Ok(())
    }

    /// Everything that must hold before a run.
    fn ready(&mut self) -> Result<(), DriverError> {
        if let Some(name) = self.poisoned.first() {
            return Err(DriverError::Poisoned(name.clone()));
        }
        let shared = &self.shared;
        let changed = self.weights.prepare(&shared.module, &mut |index, given| {
            shared.prepare[index].run(&*shared.device, &shared.module.prepare[index], &given)
        })?;
        if changed {
            self.place_weights();
        }
        Ok(())
    }

    fn place_weights(&mut self) {
        for (id, held) in self.weights.iter(&self.shared.module) {
            self.memory.own[id.0 as usize] = held.cloned();
        }
    }

    /// Runs with the inputs in manifest order; the results are in `outputs` after it.
    fn execute(&mut self, inputs: &[Option<&[u8]>]) -> Result<(), DriverError> {
        let shared = Arc::clone(&self.shared);
        let device = &*shared.device;
        let bound = self.bound.as_ref().expect("bound before a run");
        for (entry, bytes) in shared.module.io.inputs.iter().zip(inputs) {
            let Some(bytes) = bytes else { continue };
            let (buffer, offset) = self.memory.place(entry.buffer, &bound.layout);
            device.write(buffer, offset, bytes).map_err(self.failed())?;
        }
        let ran = shared.stage.run(device, &self.memory, bound, &self.bindings);
        let ran = ran.and_then(|()| self.collect());
        if ran.is_err() {
            self.poisoned = written_states(&shared.module);
        }
        ran
    }

    /// Reads results and fault words.
    fn collect(&mut self) -> Result<(), DriverError> {
        let failed = self.failed();
        let shared = &self.shared;
        let bound = self.bound.as_ref().expect("bound before a run");
        let mut words = vec![0u8; 4 * shared.stage.fault_words()];
        let mut parts = vec![ReadBack { buffer: &*self.memory.faults, offset: 0, bytes: &mut words }];
        let mut rest = self.outputs.as_mut_slice();
        let mut taken = 0;
        for (entry, slot) in shared.module.io.outputs.iter().zip(&self.slots) {
            let (_, after) = rest.split_at_mut(slot.offset - taken);
            let (bytes, after) = after.split_at_mut(slot.len);
            (rest, taken) = (after, slot.offset + slot.len);
            let (buffer, offset) = self.memory.place(entry.buffer, &bound.layout);
            parts.push(ReadBack { buffer, offset, bytes });
        }
        let mut checks =
            vec![0u8; shared.module.io.faults.as_ref().map_or(0, |words| 8 * words.checks.len())];
        if let Some(words) = &shared.module.io.faults {
            let (buffer, offset) = self.memory.place(words.entry.buffer, &bound.layout);
            parts.push(ReadBack { buffer, offset, bytes: &mut checks });
        }
        shared.device.read(&mut parts).map_err(&failed)?;
        let found = fault(&shared.stage, &words);
        if found.is_err() {
            let words = no_faults(&*shared.device, shared.stage.fault_words()).map_err(&failed)?;
            self.memory.faults = Arc::new(words);
        }
        found?;
        match &shared.module.io.faults {
            Some(words) => DriverError::from_words(words, &checks),
            None => Ok(()),
        }
    }

    fn run_bound(&mut self, inputs: &[(&str, TensorRef<'_>)]) -> Result<(), DriverError> {
        let shared = Arc::clone(&self.shared);
        let mut bindings = Bindings::new();
        let ordered = match_inputs(&shared.module, inputs, &|_| false, &mut bindings)?;
        self.ready()?;
        self.bind(bindings)?;
        let bytes: Vec<Option<&[u8]>> =
            ordered.iter().map(|tensor| tensor.map(|tensor| tensor.bytes)).collect();
        self.execute(&bytes)
    }

    fn dims(&self, entry: &IoEntry) -> Result<Vec<usize>, DriverError> {
        Ok(entry.ty.shape.eval(&self.bindings)?)
    }

    fn literal(&self, index: usize) -> Result<(String, Literal), DriverError> {
        let (entry, slot) = (&self.shared.module.io.outputs[index], self.slots[index]);
        let bytes = &self.outputs[slot.offset..slot.offset + slot.len];
        Ok((entry.name.clone(), make_literal(entry, &self.dims(entry)?, bytes)?))
    }

    fn state(&self, name: &str) -> Result<usize, DriverError> {
        let states = &self.shared.module.io.states;
        states.iter().position(|entry| entry.name == name).ok_or_else(|| no_such("state", name, states))
    }
}

/// Slots at the very end of an arena may be empty; what binds them covers a few bytes more.
fn arena_size(bytes: usize) -> u64 {
    bytes as u64 + 256
}

fn find<'a>(entries: &'a [IoEntry], name: &str) -> Option<&'a IoEntry> {
    entries.iter().find(|entry| entry.name == name)
}

fn no_such(what: &'static str, name: &str, entries: &[IoEntry]) -> DriverError {
    let known = entries.iter().map(|entry| entry.name.clone()).collect();
    DriverError::NoSuchName { what, name: name.into(), known }
}

fn make_literal(entry: &IoEntry, dims: &[usize], bytes: &[u8]) -> Result<Literal, DriverError> {
    Literal::from_bytes(entry.ty.dtype, dims, bytes).map_err(|error| DriverError::Mismatch {
        what: "output",
        name: entry.name.clone(),
        expected: entry.ty.to_string(),
        found: error.to_string(),
    })
}

fn no_faults<D: GpuDevice>(device: &D, words: usize) -> Result<D::Buffer, GpuError> {
    let buffer = device.allocate("fault words", 4 * words as u64)?;
    device.write(&buffer, 0, &vec![0xff; 4 * words])?;
    Ok(buffer)
}

/// The fault that the words of a stage tell of.
fn fault(stage: &Stage, words: &[u8]) -> Result<(), DriverError> {
    let words = words.chunks_exact(4).map(|word| u32::from_le_bytes([word[0], word[1], word[2], word[3]]));
    let Some((word, position)) = words.enumerate().find(|(_, word)| *word != u32::MAX) else { return Ok(()) };
    let fault = format!("an index is out of range, first at element {position}");
    Err(DriverError::Fault { node: stage.origin(word).into(), fault })
}

/// All constants of a module in one allocation, and where each begins.
type Constants<D> = (Arc<<D as GpuDevice>::Buffer>, Arc<Vec<u64>>);

fn upload_constants<D: GpuDevice>(device: &D, module: &LirModule) -> Result<Constants<D>, GpuError> {
    let mut bytes: Vec<u8> = Vec::new();
    let mut offsets = Vec::with_capacity(module.buffers.len());
    for buffer in &module.buffers {
        offsets.push(bytes.len() as u64);
        if let BufferKind::Constant(literal) = &buffer.kind {
            bytes.extend_from_slice(literal.bytes());
            bytes.resize(bytes.len().next_multiple_of(CONSTANT_ALIGNMENT), 0);
        }
    }
    // As for arenas: an empty constant may stand at the end.
    let memory = device.allocate("constants", arena_size(bytes.len()))?;
    device.write(&memory, 0, &bytes)?;
    Ok((Arc::new(memory), Arc::new(offsets)))
}

/// States that some step of the module writes.
fn written_states(module: &LirModule) -> BTreeSet<String> {
    let mut written = BTreeSet::new();
    module.for_each_step(&mut |step| {
        let rlx_ir::lir::Step::Kernel(step) = step else { return };
        for view in &step.outputs {
            let buffer = module.buffer(view.buffer);
            if buffer.kind == BufferKind::State {
                written.insert(buffer.name.clone());
            }
        }
    });
    written
}

impl<D: GpuDevice> Prepare<D> {
    fn new(device: &D, backend: &'static str, module: &LirModule) -> Result<Prepare<D>, DriverError> {
        let failed = |error| device_error(device.name(), error);
        let stage = Stage::new(backend, &device.target(), module)?;
        let (constants, constant_offsets) = upload_constants(device, module).map_err(failed)?;
        let bound = stage.bind(device, module, &constant_offsets, &Bindings::new())?;
        Ok(Prepare { stage, bound, constants, constant_offsets })
    }

    /// Runs the stage on its params; gives its results, each in memory of its own.
    fn run(
        &self,
        device: &D,
        module: &LirModule,
        params: &Weights<Arc<D::Buffer>>,
    ) -> Result<Vec<Arc<D::Buffer>>, DriverError> {
        let failed = |error| device_error(device.name(), error);
        let mut own = vec![None; module.buffers.len()];
        for (id, held) in params.iter(module) {
            own[id.0 as usize] = held.cloned();
        }
        let mut results = vec![];
        for entry in &module.io.outputs {
            let bytes = entry.ty.size_bytes().extent(&Bindings::new())? as u64;
            results.push(Arc::new(device.allocate(&entry.name, bytes).map_err(failed)?));
            own[entry.buffer.0 as usize] = results.last().cloned();
        }
        let arena = device.allocate("the arena", arena_size(self.bound.layout.size)).map_err(failed)?;
        let memory = Memory {
            arena: Arc::new(arena),
            faults: Arc::new(no_faults(device, self.stage.fault_words()).map_err(failed)?),
            constants: Arc::clone(&self.constants),
            constant_offsets: Arc::clone(&self.constant_offsets),
            own,
        };
        self.stage.run(device, &memory, &self.bound, &Bindings::new())?;
        let mut words = vec![0u8; 4 * self.stage.fault_words()];
        device
            .read(&mut [ReadBack { buffer: &*memory.faults, offset: 0, bytes: &mut words }])
            .map_err(failed)?;
        fault(&self.stage, &words).map(|()| results)
    }
}

impl<D: GpuDevice + 'static> ExecutableGraph for GpuExecutable<D> {
    fn lir(&self) -> &VerifiedLir {
        &self.shared.module
    }

    fn manifest(&self) -> BindingManifest {
        BindingManifest::from_lir(&self.shared.module, self.bound.as_ref().map(|bound| &bound.layout))
    }

    fn bind_param(&mut self, name: &str, bytes: SharedBytes) -> Result<(), DriverError> {
        let params = &self.shared.module.io.params;
        let entry = find(params, name).ok_or_else(|| no_such("param", name, params))?;
        let (bytes, expected) = (bytes.as_ref(), entry.ty.size_bytes().extent(&self.bindings)?);
        if bytes.len() != expected {
            return Err(DriverError::Mismatch {
                what: "param",
                name: name.into(),
                expected: format!("{expected} bytes"),
                found: format!("{} bytes", bytes.len()),
            });
        }
        let device = &self.shared.device;
        let memory = device.allocate(name, bytes.len() as u64).map_err(self.failed())?;
        device.write(&memory, 0, bytes).map_err(self.failed())?;
        self.weights.bind(&self.shared.module, entry, Arc::new(memory));
        Ok(())
    }

    fn set_memory_budget(&mut self, budget: Option<u64>) {
        self.budget = budget;
    }

    fn run_typed(&mut self, inputs: &[(&str, TensorRef<'_>)]) -> Result<Outputs, DriverError> {
        self.run_bound(inputs)?;
        (0..self.slots.len()).map(|index| self.literal(index)).collect()
    }

    fn run_raw(&mut self, inputs: &[(&str, TensorRef<'_>)]) -> Result<Vec<RawOutput<'_>>, DriverError> {
        self.run_bound(inputs)?;
        let entries = self.shared.module.io.outputs.iter().zip(&self.slots);
        entries
            .map(|(entry, slot)| {
                let bytes = &self.outputs[slot.offset..slot.offset + slot.len];
                Ok(RawOutput { name: &entry.name, dtype: entry.ty.dtype, dims: self.dims(entry)?, bytes })
            })
            .collect()
    }

    fn run_slots(&mut self, inputs: &[&[u8]]) -> Result<&[SlotOutput], DriverError> {
        let shared = Arc::clone(&self.shared);
        let sizes = shared.module.io.inputs.iter().map(|entry| entry.ty.size_bytes().extent(&self.bindings));
        let sizes = sizes.collect::<Result<Vec<_>, _>>()?;
        match_slots(&shared.module, inputs, |index| sizes[index])?;
        self.ready()?;
        self.bind(self.bindings.clone())?;
        let inputs: Vec<Option<&[u8]>> = inputs.iter().map(|bytes| Some(*bytes)).collect();
        self.execute(&inputs)?;
        Ok(&self.slots)
    }

    fn arena(&self) -> Option<&[u8]> {
        // The results of the last run, copied from the device.
        Some(&self.outputs)
    }

    fn clone_box(&self) -> Result<Box<dyn ExecutableGraph>, DriverError> {
        let mut clone = GpuExecutable::of(Arc::clone(&self.shared))?;
        clone.weights.clone_from(&self.weights);
        clone.place_weights();
        clone.budget = self.budget;
        Ok(Box::new(clone))
    }

    fn states(&mut self) -> Option<&mut dyn StateHandles> {
        Some(self)
    }
}

impl<D: GpuDevice + 'static> StateHandles for GpuExecutable<D> {
    fn names(&self) -> Vec<String> {
        self.shared.module.io.states.iter().map(|entry| entry.name.clone()).collect()
    }

    fn has_handle(&self, name: &str) -> bool {
        find(&self.shared.module.io.states, name).is_some() || self.feeds.has(name)
    }

    fn bind_handle(&mut self, name: &str, tensor: TensorRef<'_>) -> Result<(), DriverError> {
        if self.feeds.bind(&self.shared.module.io, name, tensor)? {
            return Ok(());
        }
        let index = self.state(name)?;
        let ty = &self.shared.module.io.states[index].ty;
        if bind_shape(ty, tensor.dtype, tensor.dims, &mut Bindings::new()).is_err() {
            let (expected, found) = (ty.to_string(), tensor.ty().to_string());
            return Err(DriverError::Mismatch { what: "state", name: name.into(), expected, found });
        }
        check_bytes(tensor, "state", name)?;
        self.replace_state(index, tensor.dims.to_vec(), Some(tensor.bytes))
    }

    fn read_handle(&self, name: &str) -> Result<Literal, DriverError> {
        if let Some(literal) = self.feeds.get(name) {
            return Ok(literal.clone());
        }
        let index = self.state(name)?;
        let entry = &self.shared.module.io.states[index];
        if self.poisoned.contains(name) {
            return Err(DriverError::Poisoned(name.into()));
        }
        let Some(dims) = &self.state_dims[index] else {
            let found = "no content; run once or bind it first".into();
            let expected = entry.ty.to_string();
            return Err(DriverError::Mismatch { what: "state", name: name.into(), expected, found });
        };
        let mut bytes = vec![0; entry.ty.dtype.byte_size(dims.iter().product()).unwrap_or(0)];
        let (buffer, offset) = self.memory.place(entry.buffer, &Default::default());
        let mut parts = [ReadBack { buffer, offset, bytes: &mut bytes }];
        self.shared.device.read(&mut parts).map_err(self.failed())?;
        make_literal(entry, dims, &bytes)
    }

    fn reset_handle(&mut self, name: &str) -> Result<(), DriverError> {
        let index = self.state(name)?;
        match self.state_dims[index].clone() {
            Some(dims) => self.replace_state(index, dims, None),
            None => Ok(()),
        }
    }

    fn set_feed(&mut self, name: &str, output: &str) -> Result<(), DriverError> {
        self.feeds.set(&self.shared.module.io, name, output)
    }

    fn run_feed(&mut self, inputs: &[(&str, TensorRef<'_>)]) -> Result<Outputs, DriverError> {
        let feeds = std::mem::take(&mut self.feeds);
        let ran = self.run_typed(&feeds.complete(inputs));
        self.feeds = feeds;
        let outputs = ran?;
        for (name, literal) in self.feeds.results(&outputs) {
            self.bind_handle(&name, TensorRef::from(&literal))?;
        }
        Ok(outputs)
    }
}
