//! Pools over regions of interest: one region after the other, so that what they read is never all in memory.

use super::pool::lowest;
use super::windows::fixed;
use super::{Rule, rule};
use crate::context::Context;
use crate::dims::materialise;
use crate::node::{Node, Outcome, Stop};
use rlx_ir::ops::{ActivationKind, ReduceKind};
use rlx_ir::{DType, Dim, Graph, Value};

pub(super) const RULES: &[Rule] =
    &[rule("MaxRoiPool", &[1, 22], max_roi_pool), rule("RoiAlign", &[10, 16, 22], roi_align)];

/// Most samples along an axis of a bin, and most bins.
const MOST_SAMPLES: f64 = 4096.0;

/// Extents [N, C, H, W] of operand 0.
fn image<'m>(node: &Node<'m>) -> Result<[Dim; 4], Stop<'m>> {
    let dims = node.shape(0)?.dims().to_vec();
    let rank = dims.len();
    dims.try_into().map_err(|_| Stop::Invalid(format!("operand 0 is of rank {rank}, expected 4")))
}

/// Column `index` of the regions: [regions].
fn column(graph: &mut Graph, regions: Value, index: usize) -> Value {
    let part = graph.narrow(regions, 1usize, index, 1);
    graph.squeeze(part, 1)
}

/// What the samples of all bins along one axis read.
struct Samples {
    /// The two neighbours of each: `i64[regions, bins x samples]`.
    at: [Value; 2],
    weights: [Value; 2],
}

/// One axis of `RoiAlign`.
struct AlignedAxis {
    bins: usize,
    samples: usize,
    extent: Dim,
    /// Does the region decide how many samples count?
    is_adaptive: bool,
    /// Are samples that do not count repetitions of the last one that does, so that they change no maximum?
    repeats: bool,
}

impl AlignedAxis {
    /// The samples of regions that begin at `start` and are `length` long, and how many count in each bin: [regions].
    fn samples<'m>(
        &self,
        graph: &mut Graph,
        start: Value,
        length: Value,
    ) -> Result<(Samples, Value), Stop<'m>> {
        let dtype = graph.try_ty(start).map_or(DType::F32, |ty| ty.dtype);
        let dims = vec![Dim::from(self.bins), Dim::from(self.samples)];
        let (bins, half) = (graph.scalar(dtype, self.bins as f64), graph.scalar(dtype, 0.5));
        let (zero, one) = (graph.scalar(dtype, 0.0), graph.scalar(dtype, 1.0));
        let bin_length = graph.div(length, bins);
        let count = if self.is_adaptive {
            graph.activation(bin_length, ActivationKind::Ceil, None)
        } else {
            let count = graph.scalar(dtype, self.samples as f64);
            let zeros = graph.mul(bin_length, zero);
            graph.add(zeros, count)
        };
        let [start, bin_length, counts] =
            [start, bin_length, count].map(|value| graph.view(value, [Dim::from(-1), 1.into(), 1.into()]));
        let (bin, sample) = (graph.iota(dtype, dims.clone(), 0usize), graph.iota(dtype, dims, 1usize));
        // start + bin length x (bin + (sample + 1/2) / count)
        let sample = if self.repeats {
            let last = graph.sub(counts, one);
            let last = graph.maximum(last, zero);
            graph.minimum(sample, last)
        } else {
            sample
        };
        let centre = graph.add(sample, half);
        let share = graph.div(centre, counts);
        let place = graph.add(bin, share);
        let place = graph.mul(place, bin_length);
        let place = graph.add(place, start);
        let counted = graph.compare_lt(sample, counts);
        let extent = materialise(graph, std::slice::from_ref(&self.extent), 0)?;
        let extent = graph.cast(extent, dtype);
        let (last, before) = (graph.sub(extent, one), graph.scalar(dtype, -1.0));
        let (not_below, not_above) = (graph.compare_ge(place, before), graph.compare_le(place, extent));
        let inside = graph.and(not_below, not_above);
        let counts_too = graph.and(inside, counted);
        // What does not count reads the first element, with weight 0.
        let place = graph.where_(counts_too, place, zero);
        let place = graph.clamp(place, Some(zero), Some(last));
        let low = graph.activation(place, ActivationKind::Floor, None);
        let next = graph.add(low, one);
        let high = graph.minimum(next, last);
        let far = graph.sub(place, low);
        let near = graph.sub(one, far);
        let weights = [near, far].map(|weight| graph.where_(counts_too, weight, zero));
        let flat = |graph: &mut Graph, value: Value| {
            graph.view(value, [Dim::from(-1), Dim::from(self.bins * self.samples)])
        };
        let at = [low, high].map(|at| {
            let at = graph.cast(at, DType::I64);
            flat(graph, at)
        });
        let weights = weights.map(|weight| flat(graph, weight));
        Ok((Samples { at, weights }, count))
    }
}

/// How many samples the largest region needs along an axis.
fn adaptive_samples<'m>(
    cx: &mut Context<'m>,
    node: &Node<'m>,
    columns: [usize; 2],
    bins: usize,
    scale: f64,
) -> Result<usize, Stop<'m>> {
    let regions = node.literal(cx, 1)?.to_f64s();
    let lengths = regions.chunks_exact(4).map(|region| (region[columns[1]] - region[columns[0]]) * scale);
    let longest = lengths.fold(1.0, f64::max);
    let samples = (longest / bins as f64).ceil() + 1.0;
    if samples <= MOST_SAMPLES {
        Ok(samples as usize)
    } else {
        Err(Stop::Refused(format!("a region is {longest} elements long")))
    }
}

fn roi_align<'m>(cx: &mut Context<'m>, node: &Node<'m>) -> Outcome<'m> {
    let [batch, channels, height, width] = image(node)?;
    let half_pixel = match node.string_or("coordinate_transformation_mode", "half_pixel")?.as_str() {
        _ if node.version < 16 => false,
        "half_pixel" => true,
        "output_half_pixel" => false,
        other => return Err(Stop::Invalid(format!("coordinate_transformation_mode {other:?} is not known"))),
    };
    let is_max = match node.string_or("mode", "avg")?.as_str() {
        "avg" => false,
        "max" => true,
        other => return Err(Stop::Invalid(format!("mode {other:?} is not known"))),
    };
    let scale = f64::from(node.float_or("spatial_scale", 1.0)?);
    let size = |name: &str, default: i64| {
        let size = node.int_or(name, default)?;
        usize::try_from(size).map_err(|_| Stop::Invalid(format!("{name} is {size}")))
    };
    let (bins, ratio) = ([size("output_height", 1)?, size("output_width", 1)?], size("sampling_ratio", 0)?);
    if bins.contains(&0) || node.rank(1)? != 2 {
        return Err(Stop::Invalid("it needs bins and regions of rank 2".into()));
    }
    let mut axes = vec![];
    for (axis, extent) in [&height, &width].into_iter().enumerate() {
        let columns = [1 - axis, 3 - axis];
        let samples = match ratio {
            0 => adaptive_samples(cx, node, columns, bins[axis], scale)?,
            ratio => ratio,
        };
        if samples.max(bins[axis]) > MOST_SAMPLES as usize {
            return Err(Stop::Refused(format!(
                "{} bins of {samples} samples along an axis, at most {MOST_SAMPLES} of each are taken",
                bins[axis]
            )));
        }
        let (extent, is_adaptive) = (extent.clone(), ratio == 0);
        let axis = AlignedAxis { bins: bins[axis], samples, extent, is_adaptive, repeats: is_max };
        axes.push((axis, columns));
    }
    let (x, regions, index) = (node.value(cx, 0)?, node.value(cx, 1)?, node.value(cx, 2)?);
    let dtype = node.dtype(0)?;
    let wide = if dtype == DType::F64 { DType::F64 } else { DType::F32 };
    let count = node.shape(1)?[0].clone();
    let graph = cx.graph();
    let [x, regions] = [x, regions].map(|value| graph.cast_to(value, wide));
    let (factor, shift) = (graph.scalar(wide, scale), graph.scalar(wide, if half_pixel { 0.5 } else { 0.0 }));
    let scaled = graph.mul(regions, factor);
    let corners = graph.sub(scaled, shift);
    let (mut stacked, mut counts) = (vec![graph.cast_to(index, DType::I64)], vec![]);
    for (axis, columns) in &axes {
        let (start, end) = (column(graph, corners, columns[0]), column(graph, corners, columns[1]));
        let mut length = graph.sub(end, start);
        if !half_pixel {
            let one = graph.scalar(wide, 1.0);
            length = graph.maximum(length, one);
        }
        let (samples, count) = axis.samples(graph, start, length)?;
        stacked.extend(samples.at.into_iter().chain(samples.weights));
        counts.push(count);
    }
    // Pixels as rows of channels.
    let rows = graph.transpose(x, vec![0usize, 2, 3, 1]);
    let rows = graph.reshape(rows, vec![batch * height.clone() * width.clone(), channels]);
    let area = materialise(graph, &[height * width.clone()], 0)?;
    let width = materialise(graph, &[width], 0)?;
    let grid = [axes[0].0.bins, axes[0].0.samples, axes[1].0.bins, axes[1].0.samples];
    let scanned = graph.scan_over(count, false, [&[], &[rows, area, width], &stacked], |graph, inputs| {
        vec![aligned_region(graph, inputs, grid, is_max)]
    });
    let y = graph.transpose(scanned[0], vec![0usize, 3, 1, 2]);
    let samples = graph.mul(counts[0], counts[1]);
    let samples = graph.view(samples, [Dim::from(-1), 1.into(), 1.into(), 1.into()]);
    let (zero, one) = (graph.scalar(wide, 0.0), graph.scalar(wide, 1.0));
    let y = if is_max {
        let is_seen = graph.compare_gt(samples, zero);
        graph.where_(is_seen, y, zero)
    } else {
        let samples = graph.maximum(samples, one);
        graph.div(y, samples)
    };
    let y = graph.cast_to(y, dtype);
    Ok(vec![cx.tensor(y)?])
}

/// One region: the sum of its samples in each bin, or the largest share of a neighbour: [bins, bins, channels].
fn aligned_region(graph: &mut Graph, inputs: &[Value], grid: [usize; 4], is_max: bool) -> Value {
    let (rows, area, width, image) = (inputs[0], inputs[1], inputs[2], inputs[3]);
    let (vertical, horizontal) = (&inputs[4..8], &inputs[8..12]);
    let first = graph.mul(image, area);
    let mut joined = None;
    for y in 0..2 {
        for x in 0..2 {
            let (row, weight) = (graph.unsqueeze(vertical[y], 1), graph.unsqueeze(vertical[2 + y], 1));
            let line = graph.mul(row, width);
            let line = graph.add(line, first);
            let at = graph.add(line, horizontal[x]);
            let weight = graph.mul(weight, horizontal[2 + x]);
            let pixels = graph.gather(rows, at, 0usize);
            let weight = graph.unsqueeze(weight, 2);
            let share = graph.mul(pixels, weight);
            joined = Some(match joined {
                None => share,
                Some(joined) if is_max => graph.maximum(joined, share),
                Some(joined) => graph.add(joined, share),
            });
        }
    }
    let samples = joined.unwrap_or(Value::POISON);
    let dims = grid.map(Dim::from).into_iter().chain([Dim::from(-1)]);
    let samples = graph.view(samples, dims);
    let kind = if is_max { ReduceKind::Max } else { ReduceKind::Sum };
    graph.reduce(samples, kind, vec![1usize, 3], false)
}

fn max_roi_pool<'m>(cx: &mut Context<'m>, node: &Node<'m>) -> Outcome<'m> {
    let [_, _, height, width] = image(node)?;
    let scale = f64::from(node.float_or("spatial_scale", 1.0)?);
    let bins = super::windows::sizes(node, "pooled_shape", 2, 1)?;
    let count = match node.shape(1)?.dims() {
        [count, columns] if columns.is(5) => count.clone(),
        _ => return Err(Stop::Invalid("regions must be [regions, 5]".into())),
    };
    fixed(&height, "the height").and_then(|_| fixed(&width, "the width"))?;
    let (x, regions) = (node.value(cx, 0)?, node.value(cx, 1)?);
    let dtype = node.dtype(0)?;
    let wide = if dtype == DType::F64 { DType::F64 } else { DType::F32 };
    let graph = cx.graph();
    let regions = graph.cast_to(regions, wide);
    let index = column(graph, regions, 0);
    let factor = graph.scalar(wide, scale);
    let mut stacked = vec![graph.cast(index, DType::I64)];
    for (axis, extent) in [height, width].into_iter().enumerate() {
        let edges = [2 - axis, 4 - axis].map(|edge| {
            let edge = column(graph, regions, edge);
            let edge = graph.mul(edge, factor);
            round_away(graph, edge, wide)
        });
        stacked.push(bin_members(graph, edges, bins[axis], extent, wide));
    }
    let scanned = graph.scan_over(count, false, [&[], &[x], &stacked], |graph, inputs| {
        let (x, index, rows, columns) = (inputs[0], inputs[1], inputs[2], inputs[3]);
        let image = graph.gather(x, index, 0usize);
        let low = lowest(graph, dtype);
        // Along the last axis, then along the one before it: [C, bins, bins].
        let image = graph.unsqueeze(image, 2);
        let seen = graph.where_(columns, image, low);
        let seen = graph.reduce(seen, ReduceKind::Max, [3usize], false);
        let seen = graph.swap_axes(seen, 1, 2);
        let seen = graph.unsqueeze(seen, 1);
        let rows = graph.unsqueeze(rows, 1);
        let seen = graph.where_(rows, seen, low);
        let largest = graph.reduce(seen, ReduceKind::Max, [3usize], false);
        let any_row = graph.reduce(rows, ReduceKind::Any, [2usize], false);
        let any_column = graph.reduce(columns, ReduceKind::Any, [1usize], false);
        let is_full = graph.and(any_row, any_column);
        let zero = graph.scalar(dtype, 0.0);
        vec![graph.where_(is_full, largest, zero)]
    });
    let y = scanned.first().copied().unwrap_or(Value::POISON);
    Ok(vec![cx.tensor(y)?])
}

/// The nearest integer, of two the one farther from 0.
fn round_away(graph: &mut Graph, x: Value, dtype: DType) -> Value {
    let (size, half) = (graph.abs(x), graph.scalar(dtype, 0.5));
    let moved = graph.add(size, half);
    let rounded = graph.activation(moved, ActivationKind::Floor, None);
    let sign = graph.activation(x, ActivationKind::Sign, None);
    graph.mul(sign, rounded)
}

/// Which elements of an axis lie in each bin of each region: `bool[regions, bins, extent]`.
fn bin_members(graph: &mut Graph, [start, end]: [Value; 2], bins: usize, extent: Dim, dtype: DType) -> Value {
    let (one, count) = (graph.scalar(dtype, 1.0), graph.scalar(dtype, bins as f64));
    let length = graph.sub(end, start);
    let length = graph.add(length, one);
    let length = graph.maximum(length, one);
    let [start, length] = [start, length].map(|value| graph.view(value, [Dim::from(-1), 1.into(), 1.into()]));
    let size = graph.div(length, count);
    let dims = vec![Dim::from(bins), extent];
    let (bin, at) = (graph.iota(dtype, dims.clone(), 0usize), graph.iota(dtype, dims, 1usize));
    let next = graph.add(bin, one);
    let (first, behind) = (graph.mul(bin, size), graph.mul(next, size));
    let first = graph.activation(first, ActivationKind::Floor, None);
    let behind = graph.activation(behind, ActivationKind::Ceil, None);
    let place = graph.sub(at, start);
    let (from, until) = (graph.compare_ge(place, first), graph.compare_lt(place, behind));
    graph.and(from, until)
}
