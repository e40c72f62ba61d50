//! Elementwise regions over strided views, block by block.
//!
//! The iteration domain is walked in row-major order in blocks of at most
//! [`BLOCK`] elements; chunks of blocks are shared out to the pool's threads.
//! Where rows are long, a block lies within one, so that an operand repeated
//! along the rows is read in place. The same machine finishes tiles of a
//! matrix product (see [`RegionCore::finish`]).

use super::tape::{BLOCK, Element, File, Run, Sink, Tape, is_native};
use super::view::BoundView;
use super::work::{Call, Work};
use crate::kernels::Context;
use crate::kernels::gemm::TileMut;
use crate::pool::SharedSlice;
use std::ops::Range;
use std::sync::{Mutex, MutexGuard, PoisonError};

/// Elements that make a piece of work worth a thread.
const CHUNK: usize = 16 * BLOCK;
/// Rows of at least so many elements are blocks of their own.
const LONG_ROW: usize = 256;

/// Registers for each thread of the pool, shared by all steps.
#[derive(Default)]
pub struct Files(Vec<Mutex<File>>);

impl Files {
    /// Makes room for `threads` threads and tapes of `slots` slots.
    pub fn reserve(&mut self, threads: usize, slots: usize) {
        self.0.resize_with(threads.max(self.0.len()), Mutex::default);
        for file in &mut self.0 {
            file.get_mut().unwrap_or_else(PoisonError::into_inner).reserve(slots);
        }
    }

    /// The registers of one thread.
    fn of(&self, thread: usize) -> MutexGuard<'_, File> {
        self.0[thread].lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Registers that no other thread uses; there are as many as threads.
    fn any(&self) -> MutexGuard<'_, File> {
        self.0.iter().find_map(|file| file.try_lock().ok()).unwrap_or_else(|| self.of(0))
    }
}

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
    /// Extent of the innermost axis.
    inner: usize,
    total: usize,
}

/// A part of the domain in row-major order.
#[derive(Clone, Copy)]
struct Block {
    start: usize,
    len: usize,
}

impl RegionCore {
    /// A region over `dims`; the views of inputs and outputs have these extents
    /// and lose the axes that all of them can do without.
    pub fn new(
        tape: Tape,
        mut inputs: Vec<RegionInput>,
        outputs: &mut [BoundView],
        dims: &[usize],
    ) -> RegionCore {
        let total = dims.iter().product();
        let mut dims = dims.to_vec();
        // Coordinates are asked for by axis, so axes stay as they are then.
        if tape.indices.is_empty() {
            let inputs = inputs.iter_mut().filter(|input| input.source != Source::Anchor);
            let mut views: Vec<&mut BoundView> =
                outputs.iter_mut().chain(inputs.map(|input| &mut input.view)).collect();
            BoundView::merge_axes(&mut views);
            if let Some(view) = views.first() {
                dims = view.dims.clone();
            }
        }
        let inner = dims.last().copied().unwrap_or(1);
        RegionCore { tape, inputs, dims, inner, total }
    }

    /// Number of slots that the program needs.
    pub fn slots(&self) -> usize {
        self.tape.slots()
    }

    /// Places the inputs that are read, and the coordinates.
    fn place(&self, context: Context<'_>, file: &mut File, reads: &[&[u8]], block: Block) {
        for (index, input) in self.inputs.iter().enumerate() {
            if let Source::Read(read) = input.source {
                self.place_read(context, file, index, (reads[read], read), block);
            }
        }
        for &(axis, slot) in &self.tape.indices {
            let inside: usize = self.dims[axis + 1..].iter().product();
            let values: &mut [i64] = file.register(slot);
            let (mut left, mut value) =
                (inside - block.start % inside, block.start / inside % self.dims[axis]);
            for to in &mut values[..block.len] {
                *to = value as i64;
                left -= 1;
                if left == 0 {
                    left = inside;
                    value = (value + 1) % self.dims[axis];
                }
            }
        }
    }

    fn place_read(
        &self,
        context: Context<'_>,
        file: &mut File,
        index: usize,
        (bytes, read): (&[u8], usize),
        block: Block,
    ) {
        let view = &self.inputs[index].view;
        let Some(run) = self.one_run(view, block) else {
            self.rows(view, block, |run| super::tape::load(context, file, index, view.dtype, bytes, run));
            return;
        };
        let width = view.dtype.size_of().unwrap_or(1);
        let aligned = bytes.as_ptr().align_offset(width) == 0;
        match run.stride {
            0 => {
                let bytes = &bytes[run.start * width..];
                self.tape.set_scalar_bytes(file, index, view.dtype, bytes, block.len);
            }
            1 if is_native(view.dtype) && aligned => file.set_memory(index, read, run.start),
            _ => super::tape::load(context, file, index, view.dtype, bytes, run),
        }
    }

    /// The block as one run of the view, if it is one.
    fn one_run(&self, view: &BoundView, block: Block) -> Option<Run> {
        let Block { start, len } = block;
        let stride = *view.strides.last().unwrap_or(&0);
        if view.strides.len() <= 1 {
            let position = view.offset as isize + start as isize * stride;
            return Some(Run { at: 0, start: position as usize, stride, len });
        }
        if view.is_constant() {
            return Some(Run { at: 0, start: view.offset, stride: 0, len });
        }
        if view.is_dense() {
            return Some(Run { at: 0, start: view.offset + start, stride: 1, len });
        }
        if start % self.inner + len > self.inner {
            return None;
        }
        Some(Run { at: 0, start: self.position(view, start), stride, len })
    }

    /// Position of element `element` of the domain.
    fn position(&self, view: &BoundView, element: usize) -> usize {
        let mut rest = element;
        let mut position = view.offset as isize;
        for (axis, &dim) in self.dims.iter().enumerate().rev() {
            position += (rest % dim) as isize * view.strides[axis];
            rest /= dim;
        }
        position as usize
    }

    /// Splits a block into runs along the innermost axis.
    fn rows(&self, view: &BoundView, block: Block, mut visit: impl FnMut(Run)) {
        let stride = *view.strides.last().unwrap_or(&0);
        let mut done = 0;
        while done < block.len {
            let element = block.start + done;
            let len = (self.inner - element % self.inner).min(block.len - done);
            visit(Run { at: done, start: self.position(view, element), stride, len });
            done += len;
        }
    }

    /// Computes a tile of an anchor's result, row `r` of which begins at element
    /// `start_of(r)` of the domain. The one output goes over the tile, or to `apart`.
    pub fn finish<T: Element>(
        &self,
        (context, files): (Context<'_>, &Files),
        reads: &[&[u8]],
        tile: &mut TileMut<'_, T>,
        start_of: &dyn Fn(usize) -> usize,
        apart: Option<&SharedSlice<'_, u8>>,
    ) {
        let mut file = files.any();
        file.begin(&self.tape);
        let columns = tile.columns();
        // Narrow rows share a block, or each instruction would begin anew for a few elements.
        let group = if self.tape.indices.is_empty() { BLOCK / columns.len().max(1) } else { 1 };
        if group > 1 {
            let mut first = tile.rows().start;
            while first < tile.rows().end {
                let rows = first..tile.rows().end.min(first + group);
                first = rows.end;
                self.finish_rows((context, &mut file), reads, (tile, rows), start_of, apart);
            }
            return;
        }
        for row in tile.rows() {
            let start = start_of(row) + columns.start;
            self.finish_values((context, &mut file), reads, tile.row_mut(row), start, apart);
        }
    }

    /// Computes some rows of a tile as one block: they are gathered into registers and stored row by row.
    fn finish_rows<T: Element>(
        &self,
        (context, file): (Context<'_>, &mut File),
        reads: &[&[u8]],
        (tile, rows): (&mut TileMut<'_, T>, Range<usize>),
        start_of: &dyn Fn(usize) -> usize,
        apart: Option<&SharedSlice<'_, u8>>,
    ) {
        let columns = tile.columns();
        let len = columns.len();
        let blocks = rows.clone().enumerate().map(|(index, row)| {
            let block = Block { start: start_of(row) + columns.start, len };
            (index * len, row, block)
        });
        for (index, input) in self.inputs.iter().enumerate() {
            let view = &input.view;
            match input.source {
                Source::Anchor => {
                    let register = file.register::<T>(index);
                    for (at, row, _) in blocks.clone() {
                        register[at..at + len].copy_from_slice(tile.row_mut(row));
                    }
                }
                Source::Read(read) if view.is_constant() => {
                    let bytes = &reads[read][view.offset * view.dtype.size_of().unwrap_or(1)..];
                    self.tape.set_scalar_bytes(file, index, view.dtype, bytes, rows.len() * len);
                }
                Source::Read(read) => {
                    for (at, _, block) in blocks.clone() {
                        let mut load = |run: Run| {
                            let run = Run { at: at + run.at, ..run };
                            super::tape::load(context, file, index, view.dtype, reads[read], run);
                        };
                        match self.one_run(view, block) {
                            Some(run) => load(run),
                            None => self.rows(view, block, load),
                        }
                    }
                }
                Source::Written(_) => {}
            }
        }
        self.tape.run(context, file, reads, rows.len() * len, &mut Registers);
        let width = self.tape.output(0).1.size_of().unwrap_or(1);
        for (at, row, block) in blocks {
            let bytes: &mut [u8] = match apart {
                None => bytemuck::cast_slice_mut(tile.row_mut(row)),
                // SAFETY: each element of the result belongs to one tile, and a tile to one task.
                Some(apart) => unsafe { apart.part(block.start * width, len * width) },
            };
            self.tape.store((context, file, reads), 0, bytes, Run { at, start: 0, stride: 1, len });
        }
    }

    /// The same for values that follow each other from element `start` of the domain on.
    pub fn finish_row<T: Element>(
        &self,
        (context, files): (Context<'_>, &Files),
        reads: &[&[u8]],
        values: &mut [T],
        start: usize,
        apart: Option<&SharedSlice<'_, u8>>,
    ) {
        let mut file = files.any();
        file.begin(&self.tape);
        self.finish_values((context, &mut file), reads, values, start, apart);
    }

    fn finish_values<T: Element>(
        &self,
        (context, file): (Context<'_>, &mut File),
        reads: &[&[u8]],
        values: &mut [T],
        start: usize,
        apart: Option<&SharedSlice<'_, u8>>,
    ) {
        let width = self.tape.output(0).1.size_of().unwrap_or(1);
        for (index, values) in values.chunks_mut(BLOCK).enumerate() {
            let block = Block { start: start + index * BLOCK, len: values.len() };
            for (index, input) in self.inputs.iter().enumerate() {
                if input.source == Source::Anchor {
                    file.register::<T>(index)[..values.len()].copy_from_slice(values);
                }
            }
            self.place(context, file, reads, block);
            let bytes: &mut [u8] = match apart {
                None => bytemuck::cast_slice_mut(values),
                // SAFETY: each element of the result belongs to one tile, and a tile to one task.
                Some(apart) => unsafe { apart.part(block.start * width, block.len * width) },
            };
            self.compute(context, file, reads, bytes);
        }
    }

    /// Runs the program on placed inputs; the one output goes to all of `bytes`.
    fn compute(&self, context: Context<'_>, file: &mut File, reads: &[&[u8]], bytes: &mut [u8]) {
        let (_, dtype) = self.tape.output(0);
        let len = bytes.len() / dtype.size_of().unwrap_or(1);
        let direct = is_native(dtype);
        self.tape.run(context, file, reads, len, &mut Bytes { bytes, direct });
        if !(direct && self.tape.writes_directly(0)) {
            self.tape.store((context, file, reads), 0, bytes, Run { at: 0, start: 0, stride: 1, len });
        }
    }
}

/// Takes no output: all stay in their registers.
struct Registers;

impl Sink for Registers {
    fn direct(&mut self, _: usize) -> Option<&mut [u8]> {
        None
    }
}

struct Bytes<'a> {
    bytes: &'a mut [u8],
    direct: bool,
}

impl Sink for Bytes<'_> {
    fn direct(&mut self, _: usize) -> Option<&mut [u8]> {
        self.direct.then_some(&mut *self.bytes)
    }
}

/// A step without anchor.
pub struct RegionStep {
    core: RegionCore,
    outputs: Vec<BoundView>,
    /// Blocks of a long row; 0 where blocks are cut without regard to rows.
    row_blocks: usize,
    /// Do chunks of the domain lie apart in every output?
    parallel: bool,
}

impl RegionStep {
    /// A region that stores output `n` to `outputs[n]`.
    pub fn new(tape: Tape, inputs: Vec<RegionInput>, mut outputs: Vec<BoundView>) -> RegionStep {
        let dims = outputs.first().map(|view| view.dims.clone()).unwrap_or_default();
        let core = RegionCore::new(tape, inputs, &mut outputs, &dims);
        let parallel = outputs.len() <= SHARED_OUTPUTS && outputs.iter().all(is_monotone);
        let by_row = core.dims.len() > 1 && core.inner >= LONG_ROW;
        let row_blocks = if by_row { core.inner.div_ceil(BLOCK) } else { 0 };
        RegionStep { core, outputs, row_blocks, parallel }
    }

    /// Blocks of the domain, and how many of them make a chunk.
    fn blocks(&self) -> (usize, usize) {
        let (inner, total) = (self.core.inner, self.core.total);
        if self.row_blocks == 0 {
            return (total.div_ceil(BLOCK), CHUNK / BLOCK);
        }
        (total / inner * self.row_blocks, (CHUNK * self.row_blocks / inner).max(1))
    }

    fn block(&self, index: usize) -> Block {
        if self.row_blocks == 0 {
            let start = index * BLOCK;
            return Block { start, len: BLOCK.min(self.core.total - start) };
        }
        let inner = self.core.inner;
        let even = inner.div_ceil(self.row_blocks).next_multiple_of(16).min(BLOCK);
        let (row, first) = (index / self.row_blocks, (index % self.row_blocks) * even);
        let len = even.min(inner.saturating_sub(first));
        Block { start: row * inner + first, len }
    }

    fn run_blocks(
        &self,
        context: Context<'_>,
        file: &mut File,
        reads: &[&[u8]],
        targets: &mut Targets<'_, '_>,
        blocks: Range<usize>,
    ) {
        file.begin(&self.core.tape);
        for index in blocks {
            let block = self.block(index);
            if block.len == 0 {
                continue;
            }
            self.load_in_place(context, file, targets, block);
            self.core.place(context, file, reads, block);
            let mut sink = StepSink { step: self, targets: &mut *targets, block };
            self.core.tape.run(context, file, reads, block.len, &mut sink);
            for (index, view) in self.outputs.iter().enumerate() {
                if self.core.tape.writes_directly(index) && self.direct_run(index, block).is_some() {
                    continue;
                }
                let width = view.dtype.size_of().unwrap_or(1);
                let mut store = |run: Run| {
                    let (low, high) = reach(run);
                    let bytes = targets.part(index, low * width, high * width);
                    let run = Run { start: run.start - low, ..run };
                    self.core.tape.store((context, file, reads), index, bytes, run);
                };
                match self.core.one_run(view, block) {
                    Some(run) => store(run),
                    None => self.core.rows(view, block, store),
                }
            }
        }
    }

    /// The block of an output, if its elements lie one after the other as the class has them.
    fn direct_run(&self, index: usize, block: Block) -> Option<Run> {
        let view = &self.outputs[index];
        let run = if is_native(view.dtype) { self.core.one_run(view, block)? } else { return None };
        (run.stride == 1 || run.len == 1).then_some(run)
    }

    /// Inputs that are the step's own output, before it is overwritten.
    fn load_in_place(
        &self,
        context: Context<'_>,
        file: &mut File,
        targets: &mut Targets<'_, '_>,
        block: Block,
    ) {
        for (index, input) in self.core.inputs.iter().enumerate() {
            let Source::Written(output) = input.source else { continue };
            let (view, width) = (&input.view, input.view.dtype.size_of().unwrap_or(1));
            self.core.rows(view, block, |run| {
                let (low, high) = reach(run);
                let bytes = targets.part(output, low * width, high * width);
                let run = Run { start: run.start - low, ..run };
                super::tape::load(context, file, index, view.dtype, bytes, run);
            });
        }
    }
}

impl Work for RegionStep {
    fn name(&self) -> &'static str {
        "region"
    }

    fn slots(&self) -> usize {
        self.core.slots()
    }

    fn run(&self, call: Call<'_, '_>) -> Result<(), String> {
        if self.core.total == 0 {
            return Ok(());
        }
        let (blocks, per_chunk) = self.blocks();
        let (reads, files) = (call.reads, call.files);
        let tasks = blocks.div_ceil(per_chunk);
        if tasks == 1 || !self.parallel {
            let mut targets = Targets::Whole(call.writes);
            self.run_blocks(call.inline, &mut files.of(0), reads, &mut targets, 0..blocks);
            return Ok(());
        }
        let shared = Shared::new(call.writes);
        call.context.pool().run_with_slot(tasks, |thread, task| {
            let range = task * per_chunk..blocks.min((task + 1) * per_chunk);
            let mut targets = Targets::Shared(&shared);
            self.run_blocks(call.inline, &mut files.of(thread), reads, &mut targets, range);
        });
        Ok(())
    }
}

struct StepSink<'s, 't, 'a, 'b> {
    step: &'s RegionStep,
    targets: &'t mut Targets<'a, 'b>,
    block: Block,
}

impl Sink for StepSink<'_, '_, '_, '_> {
    fn direct(&mut self, index: usize) -> Option<&mut [u8]> {
        let run = self.step.direct_run(index, self.block)?;
        let width = self.step.outputs[index].dtype.size_of()?;
        Some(self.targets.part(index, run.start * width, (run.start + run.len) * width))
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

/// The most outputs that threads share.
const SHARED_OUTPUTS: usize = 8;

/// The outputs of a step, shared between threads.
struct Shared<'b>([Option<SharedSlice<'b, u8>>; SHARED_OUTPUTS]);

impl<'b> Shared<'b> {
    fn new(writes: &'b mut [&mut [u8]]) -> Shared<'b> {
        let mut slices = [const { None }; SHARED_OUTPUTS];
        for (slice, write) in slices.iter_mut().zip(writes) {
            *slice = Some(SharedSlice::new(write));
        }
        Shared(slices)
    }

    fn get(&self, index: usize) -> &SharedSlice<'b, u8> {
        self.0[index].as_ref().expect("a step with more outputs runs on one thread")
    }
}

/// The outputs of a step, whole or shared between threads.
enum Targets<'a, 'b> {
    Whole(&'a mut [&'b mut [u8]]),
    Shared(&'a Shared<'b>),
}

impl Targets<'_, '_> {
    /// Bytes `low..high` of output `index`.
    fn part(&mut self, index: usize, low: usize, high: usize) -> &mut [u8] {
        match self {
            Targets::Whole(writes) => &mut writes[index][low..high],
            // SAFETY: outputs are shared only when they are monotone, so the elements of one
            // task's chunk lie in a range of their own, and `self` is borrowed as long as the part.
            Targets::Shared(shared) => unsafe { shared.get(index).part(low, high - low) },
        }
    }
}
