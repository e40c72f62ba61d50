//! Data movement decided by indices: gathers, scatters, windows, appends.
//!
//! Every index is checked before anything is written. Slices move as bytes;
//! a scatter that combines works on elements, in the order of the updates.

use super::view::BoundView;
use super::work::{Call, Work};
use crate::kernels::combine::{Combination, Loop, Total, with_combination};
use crate::kernels::copy::{Axis, MAX_AXES, copy_strided};
use crate::kernels::{cast_bytes, cast_bytes_mut};
use rlx_ir::ops::ScatterKind;
use rlx_ir::{DType, Op};

/// Bytes of slices that are worth handing to another thread.
const PIECE: usize = 128 << 10;

/// Index number `position` of a dense integer operand.
pub fn index_at(dtype: DType, bytes: &[u8], position: usize) -> i64 {
    fn element<const N: usize>(bytes: &[u8], position: usize) -> [u8; N] {
        let mut element = [0; N];
        element.copy_from_slice(&bytes[position * N..][..N]);
        element
    }
    match dtype {
        DType::I32 => i64::from(i32::from_le_bytes(element(bytes, position))),
        DType::U32 => i64::from(u32::from_le_bytes(element(bytes, position))),
        _ => i64::from_le_bytes(element(bytes, position)),
    }
}

/// Integers in an operand, dense.
struct Indices {
    dtype: DType,
    slot: usize,
    count: usize,
}

impl Indices {
    fn new(view: &BoundView, slot: usize) -> Option<Indices> {
        let known = matches!(view.dtype, DType::I32 | DType::U32 | DType::I64);
        (known && view.is_dense()).then(|| Indices { dtype: view.dtype, slot, count: view.len() })
    }

    /// An index that was checked.
    fn get(&self, reads: &[&[u8]], position: usize) -> usize {
        index_at(self.dtype, reads[self.slot], position) as usize
    }

    /// Every index lies below the bound for its position.
    fn check(&self, reads: &[&[u8]], bound: impl Fn(usize) -> usize) -> Result<(), String> {
        for position in 0..self.count {
            let (index, bound) = (index_at(self.dtype, reads[self.slot], position), bound(position));
            if usize::try_from(index).ok().is_none_or(|index| index >= bound) {
                return Err(format!("index {index} at position {position} is outside [0, {bound})"));
            }
        }
        Ok(())
    }
}

/// Slices of an operand, one per coordinate vector: `stride` elements per unit of each of its
/// coordinates, after a base that the number of the vector decides.
struct Slices {
    /// Extents over which vectors are numbered, and the stride of the operand along each.
    lead: Vec<(usize, isize)>,
    /// Extent and stride of each coordinate.
    coordinates: Vec<(usize, isize)>,
    /// First element of the operand.
    offset: usize,
    /// Elements of a slice.
    len: usize,
}

impl Slices {
    /// First element of the slice of vector `number`, whose coordinates `coordinate` gives.
    fn start(&self, number: usize, coordinate: impl Fn(usize) -> usize) -> usize {
        let (mut rest, mut position) = (number, self.offset as isize);
        for &(extent, stride) in self.lead.iter().rev() {
            position += (rest % extent) as isize * stride;
            rest /= extent;
        }
        for (axis, &(_, stride)) in self.coordinates.iter().enumerate() {
            position += coordinate(axis) as isize * stride;
        }
        position as usize
    }
}

/// Data movement decided by indices.
pub struct IndexStep {
    indices: Indices,
    movement: Movement,
    /// Of the moved operand.
    dtype: DType,
}

enum Movement {
    /// Slices of read slice 0 one after the other.
    Gather(Slices, Numbering),
    /// Slices of read slice `slot` into the result.
    Scatter { slices: Slices, numbering: Numbering, kind: ScatterKind, slot: usize },
    /// A window that begins where the indices say: from read slice 0, or into the result.
    Window(Window),
}

/// Which index is which coordinate of which vector.
struct Numbering {
    /// Vectors.
    vectors: usize,
    /// Vector `n` takes its coordinates from number `n % period` of the indices.
    period: usize,
}

struct Window {
    /// Axes of the copy: extent, stride from, stride to.
    axes: Vec<Axis>,
    /// Per index: the extents of the windowed axis and of the window, and the stride.
    starts: Vec<(usize, usize, isize)>,
    /// Elements before each start, one window per index: the batch of an append.
    batch: Option<(isize, usize)>,
    from: usize,
    /// Does the window lie in the result rather than in the operand?
    into: bool,
    slot: usize,
}

fn pairs(view: &BoundView, axes: std::ops::Range<usize>) -> Vec<(usize, isize)> {
    axes.map(|axis| (view.dims[axis], view.strides[axis])).collect()
}

/// Elements of the axes from `first` on, where they lie one after the other.
fn contiguous(view: &BoundView, first: usize) -> Option<usize> {
    let mut expected = 1isize;
    for axis in (first..view.dims.len()).rev() {
        if view.dims[axis] != 1 && view.strides[axis] != expected && view.len() > 0 {
            return None;
        }
        expected *= view.dims[axis] as isize;
    }
    Some(view.dims[first..].iter().product())
}

impl IndexStep {
    /// The kernel for `op`, if its operands lie as it needs them. The first operand of an update
    /// is the result; others are in read slices by their number.
    pub fn new(op: &Op, operands: &[BoundView], output: &BoundView) -> Option<IndexStep> {
        let rows;
        let moved = match (op, operands[0].dtype.size_of()) {
            (_, Some(_)) => &operands[0],
            (Op::Gather(_), None) => {
                rows = in_bytes(&operands[0])?;
                &rows
            }
            _ => return None,
        };
        let index_slot = match op {
            Op::Gather(_) | Op::GatherNd(_) | Op::GatherElements(_) | Op::DynamicSlice(_) => 1,
            Op::ScatterNd(_) | Op::ScatterAdd(_) | Op::ScatterElements(_) => 1,
            _ => 2,
        };
        let indices = Indices::new(operands.get(index_slot)?, index_slot)?;
        let names = &operands[index_slot].dims;
        let movement = match op {
            Op::Gather(op) => {
                let len = contiguous(moved, op.axis + 1)?;
                let (lead, numbering) = along(moved, op.axis, indices.count);
                let coordinates = pairs(moved, op.axis..op.axis + 1);
                Movement::Gather(Slices { lead, coordinates, offset: moved.offset, len }, numbering)
            }
            Op::GatherNd(op) => {
                let depth = *names.last()?;
                let (slices, numbering) = vectors(moved, names, op.batch_dims, depth)?;
                Movement::Gather(slices, numbering)
            }
            Op::GatherElements(op) => {
                let (slices, numbering) = elements(moved, names, op.axis);
                Movement::Gather(slices, numbering)
            }
            Op::ScatterNd(op) => {
                let (slices, numbering) = vectors(output, names, 0, *names.last()?)?;
                scatter(slices, numbering, op.kind, &operands[2], output.dtype)?
            }
            Op::ScatterAdd(op) => {
                let len = contiguous(output, op.axis + 1)?;
                let (lead, numbering) = along(output, op.axis, indices.count);
                let coordinates = pairs(output, op.axis..op.axis + 1);
                let slices = Slices { lead, coordinates, offset: output.offset, len };
                scatter(slices, numbering, ScatterKind::Add, &operands[2], output.dtype)?
            }
            Op::ScatterElements(op) => {
                let (slices, numbering) = elements(output, names, op.axis);
                scatter(slices, numbering, op.kind, &operands[2], output.dtype)?
            }
            Op::DynamicSlice(op) => Movement::Window(window(moved, output, &op.axes, None)?),
            Op::DynamicUpdateSlice(op) => Movement::Window(window(&operands[1], output, &op.axes, Some(1))?),
            Op::KvAppend(op) => Movement::Window(append(&operands[1], output, op.axis)?),
            _ => return None,
        };
        Some(IndexStep { indices, movement, dtype: moved.dtype })
    }
}

/// A dense view of whole blocks (or bytes) as the bytes they are.
fn in_bytes(view: &BoundView) -> Option<BoundView> {
    let (elements, bytes) = view.dtype.storage_unit();
    let (last, lead) = view.dims.split_last()?;
    let dims = [lead, &[last / elements * bytes]].concat();
    let strides = (0..dims.len()).map(|axis| dims[axis + 1..].iter().product::<usize>() as isize).collect();
    let raw = BoundView { dtype: DType::U8, dims, strides, ..view.clone() };
    (view.is_dense() && view.offset == 0).then_some(raw)
}

/// One index for each slice along `axis`: vectors are numbered by what lies before the axis,
/// then by the indices.
fn along(view: &BoundView, axis: usize, count: usize) -> (Vec<(usize, isize)>, Numbering) {
    let mut lead = pairs(view, 0..axis);
    let before: usize = view.dims[..axis].iter().product();
    lead.push((count, 0));
    (lead, Numbering { vectors: before * count, period: count })
}

/// Coordinate vectors of `depth` after `batch` shared axes.
fn vectors(view: &BoundView, names: &[usize], batch: usize, depth: usize) -> Option<(Slices, Numbering)> {
    let mut lead = pairs(view, 0..batch);
    lead.extend(names[batch..names.len() - 1].iter().map(|&extent| (extent, 0)));
    let count = names[..names.len() - 1].iter().product();
    let slices = Slices {
        lead,
        coordinates: pairs(view, batch..batch + depth),
        offset: view.offset,
        len: contiguous(view, batch + depth)?,
    };
    Some((slices, Numbering { vectors: count, period: count }))
}

/// One index per element, for its coordinate along `axis`.
fn elements(view: &BoundView, names: &[usize], axis: usize) -> (Slices, Numbering) {
    let lead = names.iter().zip(&view.strides).enumerate();
    let lead = lead.map(|(at, (&extent, &stride))| (extent, if at == axis { 0 } else { stride })).collect();
    let count = names.iter().product();
    let coordinates = pairs(view, axis..axis + 1);
    (Slices { lead, coordinates, offset: view.offset, len: 1 }, Numbering { vectors: count, period: count })
}

fn scatter(
    slices: Slices,
    numbering: Numbering,
    kind: ScatterKind,
    updates: &BoundView,
    dtype: DType,
) -> Option<Movement> {
    // Narrow floats accumulate in f32, on copies; complex ones go to the reference.
    let typed = matches!(dtype, DType::F32 | DType::F64) || dtype.is_int();
    let known = kind == ScatterKind::None || typed;
    (updates.is_dense() && known).then_some(Movement::Scatter { slices, numbering, kind, slot: 2 })
}

/// The window of `starts.len()` axes. With `into` it lies in `output` and is filled from `moved`;
/// else it lies in `moved`, and `output` has its extents.
fn window(moved: &BoundView, output: &BoundView, axes: &[usize], into: Option<usize>) -> Option<Window> {
    let (inside, whole) = if into.is_some() { (moved, output) } else { (output, moved) };
    let starts =
        axes.iter().map(|&axis| (whole.dims[axis], inside.dims[axis], whole.strides[axis])).collect();
    Some(Window {
        axes: copy_axes(moved, output, &inside.dims)?,
        starts,
        batch: None,
        from: moved.offset,
        into: into.is_some(),
        slot: into.unwrap_or(0),
    })
}

fn copy_axes(from: &BoundView, to: &BoundView, dims: &[usize]) -> Option<Vec<Axis>> {
    let strides = from.strides.iter().zip(&to.strides).zip(dims);
    let axes: Option<Vec<Axis>> = strides
        .map(|((&from, &to), &extent)| Some(Axis { extent, from, to: usize::try_from(to).ok()? }))
        .collect();
    axes.filter(|axes| axes.len() <= MAX_AXES)
}

/// Rows of `update` into each batch row of `output` along `axis`.
fn append(update: &BoundView, output: &BoundView, axis: usize) -> Option<Window> {
    let mut window = window(update, output, &[axis], Some(1))?;
    window.batch = Some((update.strides[0], usize::try_from(output.strides[0]).ok()?));
    window.axes.remove(0);
    Some(window)
}

impl Work for IndexStep {
    fn name(&self) -> &'static str {
        match self.movement {
            Movement::Gather(..) => "gather",
            Movement::Scatter { .. } => "scatter",
            Movement::Window(_) => "window",
        }
    }

    fn run(&self, call: Call<'_, '_>) -> Result<(), String> {
        let width = self.dtype.size_of().unwrap_or(1);
        match &self.movement {
            Movement::Window(window) => window.run(&self.indices, width, call),
            Movement::Gather(slices, numbering) => {
                self.check(slices, call.reads)?;
                self.gather(slices, numbering, width, call);
                Ok(())
            }
            Movement::Scatter { slices, numbering, kind, slot } => {
                self.check(slices, call.reads)?;
                self.scatter(slices, numbering, (*kind, *slot), call)
            }
        }
    }
}

impl IndexStep {
    fn check(&self, slices: &Slices, reads: &[&[u8]]) -> Result<(), String> {
        let depth = slices.coordinates.len();
        self.indices.check(reads, |position| slices.coordinates[position % depth.max(1)].0)
    }

    /// First element of the slice of vector `number`.
    fn start(&self, slices: &Slices, numbering: &Numbering, reads: &[&[u8]], number: usize) -> usize {
        let depth = slices.coordinates.len();
        let first = number % numbering.period.max(1) * depth;
        slices.start(number, |axis| self.indices.get(reads, first + axis))
    }

    fn gather(&self, slices: &Slices, numbering: &Numbering, width: usize, call: Call<'_, '_>) {
        let (reads, bytes) = (call.reads, slices.len * width);
        if bytes == 0 || numbering.vectors == 0 {
            return;
        }
        let rows = PIECE.div_ceil(bytes);
        call.context.pool().run_pieces(call.writes[0], rows * bytes, |piece, output| {
            for (index, to) in output.chunks_exact_mut(bytes).enumerate() {
                let start = self.start(slices, numbering, reads, piece * rows + index) * width;
                to.copy_from_slice(&reads[0][start..start + bytes]);
            }
        });
    }

    fn scatter(
        &self,
        slices: &Slices,
        numbering: &Numbering,
        (kind, slot): (ScatterKind, usize),
        call: Call<'_, '_>,
    ) -> Result<(), String> {
        let (reads, write) = (call.reads, &mut *call.writes[0]);
        if slices.len == 0 {
            return Ok(());
        }
        let combination = match kind {
            ScatterKind::None => None,
            ScatterKind::Add => Some(Combination::Sum),
            ScatterKind::Mul => Some(Combination::Product),
            ScatterKind::Min => Some(Combination::Minimum),
            ScatterKind::Max => Some(Combination::Maximum),
        };
        let Some(kind) = combination else {
            let bytes = slices.len * self.dtype.size_of().unwrap_or(1);
            let width = bytes / slices.len;
            for number in 0..numbering.vectors {
                let start = self.start(slices, numbering, reads, number) * width;
                write[start..start + bytes].copy_from_slice(&reads[slot][number * bytes..][..bytes]);
            }
            return Ok(());
        };
        with_element!(self.dtype, [F32 F64], T => {
            let target = cast_bytes_mut::<T>("result", write).map_err(|error| error.to_string())?;
            let updates = cast_bytes::<T>("updates", reads[slot]).map_err(|error| error.to_string())?;
            let start = |number: usize| self.start(slices, numbering, reads, number);
            with_combination(call.inline, kind, Rows { start, len: slices.len, target, updates });
        });
        Ok(())
    }
}

/// Updates of rows of `len` elements that begin where `start` says, one after the other.
struct Rows<'a, T, F> {
    start: F,
    len: usize,
    target: &'a mut [T],
    updates: &'a [T],
}

impl<T: Total, F: Fn(usize) -> usize> Loop for Rows<'_, T, F> {
    #[inline(always)]
    fn run(self, kind: Combination) {
        for (number, from) in self.updates.chunks_exact(self.len).enumerate() {
            let start = (self.start)(number);
            let to = &mut self.target[start..start + self.len];
            to.iter_mut().zip(from).for_each(|(to, &x)| *to = to.step(kind, x));
        }
    }
}

impl Window {
    fn run(&self, indices: &Indices, width: usize, call: Call<'_, '_>) -> Result<(), String> {
        let (reads, write) = (call.reads, &mut *call.writes[0]);
        let from = reads[self.slot];
        for position in 0..indices.count {
            let (extent, len, _) = self.starts[if self.batch.is_some() { 0 } else { position }];
            let start = index_at(indices.dtype, reads[indices.slot], position);
            let end = usize::try_from(start).ok().and_then(|start| start.checked_add(len));
            // A window without elements touches nothing, wherever it starts.
            if len > 0 && end.is_none_or(|end| end > extent) {
                return Err(format!(
                    "start {start} at position {position} leaves no room for {len} elements in {extent}"
                ));
            }
        }
        if write.is_empty() || (self.into && from.is_empty()) {
            return Ok(());
        }
        let mut copy = |from_offset: isize, to_offset: usize| {
            let to = &mut write[to_offset * width..];
            copy_strided(call.context, width, &self.axes, (from, from_offset as usize), to)
                .map_err(|error| error.to_string())
        };
        if let Some((from_stride, to_stride)) = self.batch {
            let stride = self.starts[0].2;
            for batch in 0..indices.count {
                let to = batch * to_stride + indices.get(reads, batch) * stride as usize;
                copy(self.from as isize + batch as isize * from_stride, to)?;
            }
            return Ok(());
        }
        let starts = self.starts.iter().enumerate();
        let shift: isize =
            starts.map(|(position, start)| indices.get(reads, position) as isize * start.2).sum();
        if self.into { copy(self.from as isize, shift as usize) } else { copy(self.from as isize + shift, 0) }
    }
}
