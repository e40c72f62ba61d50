//! Elementwise regions over strided views, block by block.
//!
//! The iteration domain is walked in row-major order in blocks of at most
//! [`BLOCK`] elements; chunks of blocks are shared out to the pool's threads.
//! The same machine finishes tiles of a matrix product (see [`RegionCore::finish`]).

use super::tape::{BLOCK, Register, Run, Tape, fill, load, store};
use super::view::BoundView;
use crate::kernels::Context;
use crate::pool::{Pool, SharedSlice};
use rlx_ir::number::decode;
use std::sync::{Mutex, MutexGuard, PoisonError};

/// Elements that make a piece of work worth a thread.
const CHUNK: usize = 16 * BLOCK;

/// Where an input of a region is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Source {
    /// Read slice number `n` of the step.
    Read(usize),
    /// The step's own output `n`: the input is updated in place.
    Written(usize),
    /// The block that an anchor just made.
    Anchor,
}

/// One input of a region.
#[derive(Clone, Debug)]
pub struct RegionInput {
    /// Over the domain; ignored for the anchor.
    pub view: BoundView,
    /// Where its bytes are.
    pub source: Source,
}

/// A region over a concrete domain.
pub struct RegionCore {
    tape: Tape,
    inputs: Vec<RegionInput>,
    dims: Vec<usize>,
    total: usize,
    /// Registers for each thread of the pool.
    files: Vec<Mutex<Vec<Register>>>,
}

impl RegionCore {
    /// Bytes of the registers of all threads.
    pub fn register_bytes(&self) -> usize {
        self.files.len() * self.tape.register_bytes()
    }

    /// A region over `dims`; the views of inputs and outputs have these extents
    /// and lose the axes that all of them can do without.
    pub fn new(
        tape: Tape,
        mut inputs: Vec<RegionInput>,
        outputs: &mut [BoundView],
        dims: &[usize],
        threads: usize,
    ) -> RegionCore {
        let total = dims.iter().product();
        let mut dims = dims.to_vec();
        // Coordinates are asked for by axis, so axes stay as they are then.
        if tape.indices.is_empty() {
            let mut views: Vec<&mut BoundView> = outputs
                .iter_mut()
                .chain(
                    inputs
                        .iter_mut()
                        .filter(|input| input.source != Source::Anchor)
                        .map(|input| &mut input.view),
                )
                .collect();
            BoundView::merge_axes(&mut views);
            if let Some(view) = views.first() {
                dims = view.dims.clone();
            }
        }
        let files = (0..threads).map(|_| Mutex::new(tape.registers())).collect();
        RegionCore { tape, inputs, dims, total, files }
    }

    /// Runs the program on elements `start..start + len` (at most a block) of
    /// the domain: loads, computes, and leaves the outputs in `file`.
    fn block<'b>(
        &self,
        context: Context<'_>,
        file: &mut [Register],
        start: usize,
        len: usize,
        bytes: &dyn Fn(usize) -> Loaded<'b>,
    ) {
        for (index, input) in self.inputs.iter().enumerate() {
            match bytes(index) {
                Loaded::Done => {}
                Loaded::Bytes(bytes) if input.view.strides.iter().all(|&stride| stride == 0) => {
                    let width = input.view.dtype.size_of().unwrap_or(1);
                    let number = decode(input.view.dtype, &bytes[input.view.offset * width..]);
                    fill(&mut file[index], number);
                }
                Loaded::Bytes(bytes) => self.rows(&input.view, start, len, |run| {
                    load(&mut file[index], input.view.dtype, bytes, run);
                }),
            }
        }
        for &(axis, register) in &self.tape.indices {
            let inner: usize = self.dims[axis + 1..].iter().product();
            if let Register::I64(values) = &mut file[register] {
                for (offset, value) in values[..len].iter_mut().enumerate() {
                    *value = ((start + offset) / inner % self.dims[axis]) as i64;
                }
            }
        }
        self.tape.run(context, file, len);
    }

    /// Splits `start..start + len` of the domain into runs along the innermost axis.
    fn rows(&self, view: &BoundView, start: usize, len: usize, mut visit: impl FnMut(Run)) {
        let Some((&inner, outer)) = self.dims.split_last() else {
            visit(Run { at: 0, start: view.offset, stride: 1, len });
            return;
        };
        let stride = view.strides[self.dims.len() - 1];
        let mut done = 0;
        while done < len {
            let element = start + done;
            let (mut row, column) = (element / inner, element % inner);
            let mut position = view.offset as isize + column as isize * stride;
            for (axis, &dim) in outer.iter().enumerate().rev() {
                position += (row % dim) as isize * view.strides[axis];
                row /= dim;
            }
            let count = (inner - column).min(len - done);
            visit(Run { at: done, start: position as usize, stride, len: count });
            done += count;
        }
    }

    /// Registers that no other thread uses; there are as many files as threads.
    fn any_file(&self) -> MutexGuard<'_, Vec<Register>> {
        self.files.iter().find_map(|file| file.try_lock().ok()).unwrap_or_else(|| lock(&self.files[0]))
    }

    /// Computes elements `start..start + tile.len()` from the anchor's values in
    /// `tile`, and stores the one output over them.
    pub fn finish(&self, context: Context<'_>, reads: &[&[u8]], start: usize, tile: &mut [f32]) {
        let mut file = self.any_file();
        let mut done = 0;
        while done < tile.len() {
            let len = BLOCK.min(tile.len() - done);
            for (index, input) in self.inputs.iter().enumerate() {
                if let (Source::Anchor, Register::F32(values)) = (input.source, &mut file[index]) {
                    values[..len].copy_from_slice(&tile[done..done + len]);
                }
            }
            self.block(context, &mut file, start + done, len, &|index| match self.inputs[index].source {
                Source::Read(slot) => Loaded::Bytes(reads[slot]),
                _ => Loaded::Done,
            });
            let (register, _) = self.tape.output(0);
            if let Register::F32(values) = &file[register] {
                tile[done..done + len].copy_from_slice(&values[..len]);
            }
            done += len;
        }
    }
}

#[derive(Clone, Copy)]
enum Loaded<'a> {
    Bytes(&'a [u8]),
    Done,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A step without anchor.
pub struct RegionStep {
    core: RegionCore,
    outputs: Vec<BoundView>,
    /// A dense copy and nothing else.
    plain_copy: bool,
    /// Do chunks of the domain lie apart in every output?
    parallel: bool,
}

impl RegionStep {
    /// Bytes of the registers of all threads.
    pub fn register_bytes(&self) -> usize {
        self.core.register_bytes()
    }

    /// A region that stores output `n` to `outputs[n]`.
    pub fn new(
        tape: Tape,
        inputs: Vec<RegionInput>,
        mut outputs: Vec<BoundView>,
        threads: usize,
        identity: bool,
    ) -> RegionStep {
        let dims = outputs.first().map(|view| view.dims.clone()).unwrap_or_default();
        let core = RegionCore::new(tape, inputs, &mut outputs, &dims, threads);
        let plain_copy = identity
            && core
                .inputs
                .iter()
                .all(|input| matches!(input.source, Source::Read(_)) && input.view.is_dense())
            && outputs.iter().all(BoundView::is_dense);
        let parallel = outputs.iter().all(is_monotone);
        RegionStep { core, outputs, plain_copy, parallel }
    }

    /// Runs the step.
    pub fn run(&self, context: Context<'_>, inline: &Pool, reads: &[&[u8]], writes: &mut [&mut [u8]]) {
        if self.core.total == 0 {
            return;
        }
        if self.plain_copy
            && let Source::Read(slot) = self.core.inputs[0].source
        {
            writes[0].copy_from_slice(reads[slot]);
            return;
        }
        let inline = Context::with_level(inline, context.level()).unwrap_or(context);
        let tasks = self.core.total.div_ceil(CHUNK);
        if tasks == 1 || !self.parallel {
            let mut file = lock(&self.core.files[0]);
            for task in 0..tasks {
                self.chunk(inline, &mut file, reads, &mut Targets::Whole(writes), task);
            }
            return;
        }
        let shared: Vec<SharedSlice<'_, u8>> =
            writes.iter_mut().map(|write| SharedSlice::new(write)).collect();
        context.pool().run_with_slot(tasks, |thread, task| {
            let mut file = lock(&self.core.files[thread]);
            self.chunk(inline, &mut file, reads, &mut Targets::Shared(&shared), task);
        });
    }

    fn chunk(
        &self,
        context: Context<'_>,
        file: &mut [Register],
        reads: &[&[u8]],
        targets: &mut Targets<'_, '_>,
        task: usize,
    ) {
        let end = self.core.total.min((task + 1) * CHUNK);
        let mut start = task * CHUNK;
        while start < end {
            let len = BLOCK.min(end - start);
            self.load_in_place(file, targets, start, len);
            self.core.block(context, file, start, len, &|index| match self.core.inputs[index].source {
                Source::Read(slot) => Loaded::Bytes(reads[slot]),
                _ => Loaded::Done,
            });
            for (index, view) in self.outputs.iter().enumerate() {
                let (register, dtype) = self.core.tape.output(index);
                self.core.rows(view, start, len, |run| {
                    let (low, high) = reach(run);
                    targets.with(index, view.dtype.size_of().unwrap_or(1), low, high, |bytes| {
                        store(&file[register], dtype, bytes, Run { start: run.start - low, ..run });
                    });
                });
            }
            start += len;
        }
    }

    /// Inputs that are the step's own output, before it is overwritten.
    fn load_in_place(&self, file: &mut [Register], targets: &mut Targets<'_, '_>, start: usize, len: usize) {
        for (index, input) in self.core.inputs.iter().enumerate() {
            let Source::Written(output) = input.source else { continue };
            self.core.rows(&input.view, start, len, |run| {
                let (low, high) = reach(run);
                targets.with(output, input.view.dtype.size_of().unwrap_or(1), low, high, |bytes| {
                    load(&mut file[index], input.view.dtype, bytes, Run { start: run.start - low, ..run });
                });
            });
        }
    }
}

/// Do later elements of the domain lie at higher positions?
fn is_monotone(view: &BoundView) -> bool {
    let mut span = 1isize;
    for (&dim, &stride) in view.dims.iter().zip(&view.strides).rev() {
        if dim > 1 {
            if stride < span {
                return false;
            }
            span = stride.saturating_mul(dim as isize);
        }
    }
    true
}

/// Lowest and one past the highest element of a run.
fn reach(run: Run) -> (usize, usize) {
    let last = (run.start as isize + run.stride * (run.len as isize - 1)) as usize;
    (run.start.min(last), run.start.max(last) + 1)
}

/// The outputs of a step, whole or shared between threads.
enum Targets<'a, 'b> {
    Whole(&'a mut [&'b mut [u8]]),
    Shared(&'a [SharedSlice<'b, u8>]),
}

impl Targets<'_, '_> {
    fn with(&mut self, index: usize, width: usize, low: usize, high: usize, run: impl FnOnce(&mut [u8])) {
        match self {
            Targets::Whole(writes) => run(&mut writes[index][low * width..high * width]),
            Targets::Shared(shared) => {
                // SAFETY: outputs are shared only when they are monotone, so the elements of one
                // task's chunk lie in a range of their own, and the part is gone before the task
                // makes another.
                run(unsafe { shared[index].part(low * width, (high - low) * width) });
            }
        }
    }
}
