//! Convolutions: `conv` steps on the GEMM kernels.
//!
//! Windows of one element in order make a convolution a matrix product. Else the windows of some
//! columns of the result are packed as the product reads its right operand, a block that stays in
//! the second-level cache at a time. Channels that do not mix are summed directly. Sums are in
//! `f32` or `f64`; bias and region are applied to finished rows.

use super::matmul::Finish;
use super::pool::WindowLists;
use super::region::Files;
use super::tape::Element;
use super::view::BoundView;
use super::work::{Call, Work};
use crate::kernels::conv::{AddBias, Direct, PackWindows, Repair, Volume, Weighted, Windows};
use crate::kernels::gemm::{Gemm, Layout, PackedB, Right, RightElement, TileMut, Times, gemm, scratch_bytes};
use crate::kernels::{Context, KernelError, Matrix, MatrixMut, cast_bytes, cast_bytes_mut};
use crate::pool::SharedSlice;
use crate::simd::SimdLevel;
use rlx_ir::DType;
use rlx_ir::ops::Conv;

/// Bytes of a block of packed windows.
const BLOCK: usize = 640 << 10;

/// How a convolution is computed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Plan {
    /// A product with the input as it lies.
    Pointwise,
    /// Channel by channel.
    Direct,
    /// Products with packed windows, so many columns at a time.
    Packed { columns: usize },
}

/// A convolution with concrete extents.
pub struct ConvStep {
    dtype: DType,
    x: BoundView,
    axes: [Windows; 3],
    batch: usize,
    groups: usize,
    /// Channels of one group in the input and in the result.
    channels: [usize; 2],
    bias: bool,
    /// Do windows reach beyond the input?
    padded: bool,
    finish: Option<Finish>,
    plan: Plan,
    /// Do sums stand in scratch until they are finished?
    apart: bool,
    /// Does each thread take tasks of its own, or all of them one task after the other?
    by_task: bool,
    threads: usize,
    level: SimdLevel,
    scratch: usize,
}

/// Types that convolutions are summed in.
trait Sum: Element + Weighted + RightElement + Times<Self, Output = Self> {}
impl Sum for f32 {}
impl Sum for f64 {}

impl ConvStep {
    /// A convolution of `x` with dense weights and bias of its dtype; `finish` where the result
    /// is not just the sums.
    pub fn new(
        op: &Conv,
        [x, w]: [&BoundView; 2],
        output: &BoundView,
        finish: Option<Finish>,
        context: Context<'_>,
    ) -> ConvStep {
        let lists = WindowLists {
            window: &w.dims[2..],
            stride: &op.stride,
            padding: &op.padding_low,
            dilation: &op.dilation,
        };
        let axes = lists.axes(x, &output.dims);
        let mut step = ConvStep {
            dtype: x.dtype,
            x: x.clone(),
            padded: !axes.iter().all(Windows::is_inside),
            axes,
            batch: output.dims[0],
            groups: op.groups,
            channels: [w.dims[1], w.dims[0] / op.groups],
            bias: op.bias,
            apart: finish.as_ref().is_some_and(|finish| finish.dtype != x.dtype),
            finish,
            plan: Plan::Direct,
            by_task: true,
            threads: context.pool().threads(),
            level: context.level(),
            scratch: 0,
        };
        if x.dtype == DType::F64 {
            step.choose::<f64>()
        } else {
            step.choose::<f32>()
        }
        step
    }

    fn windows(&self) -> usize {
        self.axes.iter().map(|axis| axis.count).product()
    }

    fn depth(&self) -> usize {
        self.channels[0] * self.axes.iter().map(|axis| axis.window).product::<usize>()
    }

    /// The distance of the windows of a pointwise convolution, where they are evenly apart.
    fn even_step(&self) -> Option<isize> {
        let mut step = None;
        for axis in self.axes.iter().rev().filter(|axis| axis.count > 1) {
            match step {
                Some((next, _)) if axis.step != next => return None,
                Some((_, first)) => step = Some((axis.step * axis.count as isize, first)),
                None => step = Some((axis.step * axis.count as isize, axis.step)),
            }
        }
        Some(step.map_or(1, |(_, first)| first))
    }

    fn choose<T: Sum>(&mut self) {
        let (windows, depth, outputs) = (self.windows(), self.depth(), self.channels[1]);
        let products = self.batch * self.groups;
        let pointwise = self.axes.iter().all(Windows::is_identity) && self.even_step().is_some();
        self.plan = if pointwise && self.channels[0] > 1 {
            Plan::Pointwise
        } else if self.channels[0] == 1 && outputs <= 2 {
            Plan::Direct
        } else {
            let unit = self.panel_columns::<T>();
            let fits = BLOCK / (depth * size_of::<T>()).max(1) / unit * unit;
            // Small blocks where there is little work, so that every thread gets some.
            let even = (products * windows).div_ceil(4 * self.threads).next_multiple_of(unit).max(4 * unit);
            let whole = windows.next_multiple_of(unit);
            Plan::Packed { columns: fits.max(unit).min(even).min(whole.max(unit)) }
        };
        let layout = Layout { a_contiguous: true, b_packed: matches!(self.plan, Plan::Packed { .. }) };
        let kernel = |threads: usize, columns: usize| {
            scratch_bytes::<T, T>(self.level, threads, [outputs, columns, depth], layout).next_multiple_of(64)
        };
        let sums = |count: usize| (count * size_of::<T>()).next_multiple_of(64);
        self.by_task = match self.plan {
            Plan::Direct => true,
            Plan::Pointwise => products >= self.threads,
            Plan::Packed { columns } => products * windows.div_ceil(columns) >= self.threads,
        };
        let threads = if self.by_task { 1 } else { self.threads };
        self.scratch = match self.plan {
            Plan::Direct => {
                if self.apart {
                    sums(windows)
                } else {
                    0
                }
            }
            Plan::Pointwise => {
                kernel(threads, windows) + if self.apart { sums(outputs * windows) } else { 0 }
            }
            Plan::Packed { columns } => {
                kernel(threads, columns) + sums(depth * columns) + sums(outputs * columns)
            }
        };
    }

    /// Columns of a panel of the right operand.
    fn panel_columns<T: Sum>(&self) -> usize {
        PackedB::<T>::bytes(self.level, 1, 1).unwrap_or(0) / size_of::<T>()
    }

    fn run_as<T: Sum>(&self, call: Call<'_, '_>) -> Result<(), KernelError> {
        let windows = self.windows();
        if self.batch * self.groups * self.channels[1] * windows == 0 {
            return Ok(());
        }
        let blocks = match self.plan {
            Plan::Packed { columns } => windows.div_ceil(columns),
            Plan::Direct => self.channels[1],
            Plan::Pointwise => 1,
        };
        let result = SharedSlice::new(&mut *call.writes[0]);
        let task = Task {
            step: self,
            x: cast_bytes::<T>("x", call.reads[0])?,
            weights: cast_bytes::<T>("w", call.reads[1])?,
            bias: if self.bias { Some(cast_bytes::<T>("bias", call.reads[2])?) } else { None },
            inline: call.inline,
            files: call.files,
            reads: call.reads,
            result: &result,
        };
        let tasks = self.batch * self.groups * blocks;
        if !self.by_task {
            for index in 0..tasks {
                task.run(call.context, index / blocks, index % blocks, &mut call.scratch[..self.scratch])?;
            }
            return Ok(());
        }
        let scratch = SharedSlice::new(call.scratch);
        call.context.pool().try_with_slot(tasks, |thread, index| {
            // SAFETY: the scratch of a thread is used by one task at a time.
            let scratch = unsafe { scratch.part(thread * self.scratch, self.scratch) };
            task.run(call.inline, index / blocks, index % blocks, scratch)
        })
    }
}

impl Work for ConvStep {
    fn name(&self) -> &'static str {
        "conv"
    }

    fn scratch(&self) -> usize {
        if self.by_task { self.scratch * self.threads } else { self.scratch }
    }

    fn slots(&self) -> usize {
        self.finish.as_ref().map_or(0, |finish| finish.region.slots())
    }

    fn run(&self, call: Call<'_, '_>) -> Result<(), String> {
        let result =
            if self.dtype == DType::F64 { self.run_as::<f64>(call) } else { self.run_as::<f32>(call) };
        result.map_err(|error| error.to_string())
    }
}

/// What the tasks of a run share.
struct Task<'a, T> {
    step: &'a ConvStep,
    x: &'a [T],
    weights: &'a [T],
    bias: Option<&'a [T]>,
    inline: Context<'a>,
    files: &'a Files,
    reads: &'a [&'a [u8]],
    result: &'a SharedSlice<'a, u8>,
}

impl<T: Sum> Task<'_, T> {
    /// Block `block` of product `product`, which is one group of one input.
    fn run(
        &self,
        context: Context<'_>,
        product: usize,
        block: usize,
        scratch: &mut [u8],
    ) -> Result<(), KernelError> {
        let step = self.step;
        let (input, group) = (product / step.groups, product % step.groups);
        let channel = (group * step.channels[0]) as isize;
        let offset =
            step.x.offset as isize + input as isize * step.x.strides[0] + channel * step.x.strides[1];
        let volume = Volume {
            data: self.x,
            offset: offset as usize,
            channels: (step.channels[0], step.x.strides[1]),
            axes: step.axes,
        };
        let [_, outputs] = step.channels;
        // The first output channel, and its number in the result.
        let place = Place { output: group * outputs, row: product * outputs };
        match step.plan {
            Plan::Direct => self.direct(volume, place, block, scratch),
            Plan::Pointwise => self.pointwise(context, volume, place, scratch),
            Plan::Packed { columns } => self.packed(context, volume, place, block * columns, scratch),
        }
    }

    fn left(&self, place: Place) -> Result<Matrix<'_, T>, KernelError> {
        let (outputs, depth) = (self.step.channels[1], self.step.depth());
        Matrix::new(self.weights, place.output * depth, [outputs, depth], [depth as isize, 1])
    }

    fn pointwise(
        &self,
        context: Context<'_>,
        volume: Volume<'_, T>,
        place: Place,
        scratch: &mut [u8],
    ) -> Result<(), KernelError> {
        let (step, windows, outputs) = (self.step, self.step.windows(), self.step.channels[1]);
        let even = step.even_step().unwrap_or(1);
        let b = Matrix::new(self.x, volume.offset, [step.channels[0], windows], [volume.channels.1, even])?;
        let sums = if step.apart { (outputs * windows * size_of::<T>()).next_multiple_of(64) } else { 0 };
        let (sums, scratch) = scratch.split_at_mut(sums);
        let c: &mut [T] = if step.apart {
            cast_bytes_mut("scratch", sums)?
        } else {
            let bytes = windows * size_of::<T>();
            // SAFETY: the rows of a product belong to one task.
            cast_bytes_mut("result", unsafe { self.result.part(place.row * bytes, outputs * bytes) })?
        };
        let c = MatrixMut::dense(c, outputs, windows)?;
        let a = self.left(place)?;
        let finish = |tile: &mut TileMut<'_, T>| self.finish(tile, place, 0, step.apart);
        let plain = step.finish.is_none() && self.bias.is_none();
        let epilogue = (!plain).then_some(&finish as _);
        gemm(context, Gemm { a, b: Right::Strided(b), c, epilogue, scratch })
    }

    fn packed(
        &self,
        context: Context<'_>,
        volume: Volume<'_, T>,
        place: Place,
        first: usize,
        scratch: &mut [u8],
    ) -> Result<(), KernelError> {
        let (step, outputs, depth) = (self.step, self.step.channels[1], self.step.depth());
        let Plan::Packed { columns } = step.plan else { return Ok(()) };
        let valid = columns.min(step.windows() - first);
        let part = |count: usize| (count * size_of::<T>()).next_multiple_of(64);
        let (panels, scratch) = scratch.split_at_mut(part(depth * columns));
        let (sums, scratch) = scratch.split_at_mut(part(outputs * columns));
        let unit = step.panel_columns::<T>();
        let panel = unit * depth;
        let packed: &mut [T] = cast_bytes_mut("scratch", &mut *panels)?;
        let used = valid.div_ceil(unit) * panel;
        context.pool().run_pieces(&mut packed[..used], panel, |index, panel| {
            let start = index * unit;
            context.dispatch(PackWindows {
                volume,
                first: first + start,
                valid: unit.min(valid - start),
                columns: unit,
                panel,
            });
        });
        let b = Right::Packed(PackedB::from_bytes(step.level, [depth, valid], panels)?);
        let c = MatrixMut::dense(cast_bytes_mut("scratch", sums)?, outputs, valid)?;
        let a = self.left(place)?;
        let weights = |row: usize| &self.weights[(place.output + row) * depth..][..depth];
        let finish = |tile: &mut TileMut<'_, T>| {
            if step.padded {
                let start = first + tile.columns().start;
                for row in tile.rows() {
                    let (weights, values) = (weights(row), tile.row_mut(row));
                    self.inline.dispatch(Repair { volume, weights, first: start, values });
                }
            }
            self.finish(tile, place, first, true);
        };
        gemm(context, Gemm { a, b, c, epilogue: Some(&finish), scratch })
    }

    /// One output channel.
    fn direct(
        &self,
        volume: Volume<'_, T>,
        place: Place,
        output: usize,
        scratch: &mut [u8],
    ) -> Result<(), KernelError> {
        let (step, windows, window) = (self.step, self.step.windows(), self.step.depth());
        let place = Place { output: place.output + output, row: place.row + output };
        let sums: &mut [T] = if step.apart {
            &mut cast_bytes_mut("scratch", scratch)?[..windows]
        } else {
            let bytes = windows * size_of::<T>();
            // SAFETY: a row of the result belongs to one task.
            cast_bytes_mut("result", unsafe { self.result.part(place.row * bytes, bytes) })?
        };
        sums.fill(T::default());
        let weights = &self.weights[place.output * window..][..window];
        self.inline.dispatch(Direct { volume, weights, to: &mut *sums });
        self.finish_row(sums, place, 0, step.apart);
        Ok(())
    }

    /// Finishes a tile whose columns are windows from `first` on; with `apart` it goes to the result.
    fn finish(&self, tile: &mut TileMut<'_, T>, place: Place, first: usize, apart: bool) {
        let columns = tile.columns();
        for row in tile.rows() {
            let place = Place { output: place.output + row, row: place.row + row };
            self.finish_row(tile.row_mut(row), place, first + columns.start, apart);
        }
    }

    fn finish_row(&self, values: &mut [T], place: Place, first: usize, apart: bool) {
        if let Some(bias) = self.bias {
            self.inline.dispatch(AddBias { values: &mut *values, bias: bias[place.output] });
        }
        let start = place.row * self.step.windows() + first;
        if let Some(finish) = &self.step.finish {
            let apart = apart.then_some(self.result);
            finish.region.finish_row((self.inline, self.files), self.reads, values, start, apart);
        } else if apart {
            let width = size_of::<T>();
            // SAFETY: each element of the result belongs to one tile, and a tile to one task.
            let to = unsafe { self.result.part(start * width, size_of_val(values)) };
            to.copy_from_slice(bytemuck::cast_slice(values));
        }
    }
}

/// An output channel: its number among all, and its row in the result.
#[derive(Clone, Copy)]
struct Place {
    output: usize,
    row: usize,
}
