//! Convolutions and what is built from them.

use super::windows::{
    AutoPad, Places, Windows, check_axes, filter_window, fixed, scaled_iota, sizes, spatial,
};
use super::{Rule, rule};
use crate::context::Context;
use crate::dims::materialise;
use crate::node::{Node, Outcome, Stop};
use rlx_ir::ops::{Conv, ConvTranspose2d, GridMode, GridPadding};
use rlx_ir::{DType, Dim, Graph, Shape, Value};

pub(super) const RULES: &[Rule] = &[
    rule("Conv", &[1, 11, 22], conv),
    rule("ConvTranspose", &[1, 11, 22], conv_transpose),
    rule("ConvInteger", &[10], conv_integer),
    rule("QLinearConv", &[10], qlinear_conv),
    rule("DeformConv", &[19, 22], deform_conv),
    rule("Col2Im", &[18], col2im),
    rule("CausalConvWithState", &[27], causal_conv),
];

fn group<'m>(node: &Node<'m>, name: &str) -> Result<usize, Stop<'m>> {
    let group = node.int_or(name, 1)?;
    let legal = usize::try_from(group).ok().filter(|&group| group > 0);
    legal.ok_or_else(|| Stop::Invalid(format!("{name} is {group}, expected at least 1")))
}

fn conv<'m>(cx: &mut Context<'m>, node: &Node<'m>) -> Outcome<'m> {
    let extents = spatial(node, 0)?;
    check_axes(extents.len())?;
    let windows = Windows::read(node, &extents, filter_window(node, 1)?)?;
    let groups = group(node, "group")?;
    let (x, w) = (node.value(cx, 0)?, node.value(cx, 1)?);
    let bias = node.optional(cx, 2)?;
    let (x, [padding_low, padding_high]) = windows.padded(cx, x, None);
    let Windows { stride, dilation, .. } = windows;
    let op = Conv { stride, padding_low, padding_high, dilation, groups, bias: bias.is_some() };
    let y = cx.graph().convolve(op, x, w, bias);
    Ok(vec![cx.tensor(y)?])
}

/// The operands of a quantised convolution: `x`, its zero point, `w`, its zero point, bias, factor and zero point of
/// the result.
struct QuantisedConv {
    x: usize,
    x_zero: Option<Value>,
    w: usize,
    w_zero: Option<Value>,
    bias: Option<Value>,
    factor: Option<Value>,
    y_zero: Option<Value>,
    to: DType,
}

fn quantised<'m>(cx: &mut Context<'m>, node: &Node<'m>, conv: QuantisedConv) -> Outcome<'m> {
    let extents = spatial(node, conv.x)?;
    check_axes(extents.len())?;
    let windows = Windows::read(node, &extents, filter_window(node, conv.w)?)?;
    let groups = group(node, "group")?;
    let (x, w) = (node.value(cx, conv.x)?, node.value(cx, conv.w)?);
    let (x, [low, high]) = windows.padded(cx, x, conv.x_zero);
    let Windows { stride, dilation, .. } = windows;
    let graph = cx.graph();
    // Zero points of a filter are one number, or one for each of its outputs.
    let w_zero = conv.w_zero.map(|zero| match graph.try_ty(zero).map(|ty| ty.rank()) {
        Some(1) => graph.view(zero, [vec![Dim::from(-1)], vec![Dim::from(1); extents.len() + 1]].concat()),
        _ => zero,
    });
    let QuantisedConv { x_zero, bias, factor, y_zero, to, .. } = conv;
    let y =
        graph.qconv2d(x, w, x_zero, w_zero, bias, factor, y_zero, stride, low, high, dilation, groups, to);
    Ok(vec![cx.tensor(y)?])
}

/// A value of one element as a number without axes; others as they are.
fn one_number<'m>(cx: &mut Context<'m>, value: Value) -> Result<Value, Stop<'m>> {
    let is_one = cx.ty(value)?.shape.num_elements().is(1);
    Ok(if is_one { cx.graph().reshape(value, Shape::scalar()) } else { value })
}

fn conv_integer<'m>(cx: &mut Context<'m>, node: &Node<'m>) -> Outcome<'m> {
    let [x_zero, w_zero] = [node.optional(cx, 2)?, node.optional(cx, 3)?];
    let x_zero = x_zero.map(|zero| one_number(cx, zero)).transpose()?;
    let w_zero = w_zero.map(|zero| one_number(cx, zero)).transpose()?;
    let (bias, factor, y_zero) = (None, None, None);
    quantised(cx, node, QuantisedConv { x: 0, x_zero, w: 1, w_zero, bias, factor, y_zero, to: DType::I32 })
}

fn qlinear_conv<'m>(cx: &mut Context<'m>, node: &Node<'m>) -> Outcome<'m> {
    let mut numbers = vec![];
    for index in [1, 2, 4, 5, 6, 7] {
        let value = node.value(cx, index)?;
        numbers.push(one_number(cx, value)?);
    }
    let bias = node.optional(cx, 8)?;
    let [x_scale, x_zero, w_scale, w_zero, y_scale, y_zero] = numbers[..] else {
        return Err(Stop::Invalid("it has eight operands".into()));
    };
    let graph = cx.graph();
    let factor = graph.mul(x_scale, w_scale);
    let factor = Some(graph.div(factor, y_scale));
    let (x_zero, w_zero, y_zero) = (Some(x_zero), Some(w_zero), Some(y_zero));
    let to = node.dtype(7)?;
    quantised(cx, node, QuantisedConv { x: 0, x_zero, w: 3, w_zero, bias, factor, y_zero, to })
}

/// Elements that are cut before and after an axis, and those that are added.
fn transposed_padding<'m>(
    windows: &Windows,
    axis: usize,
    extent: &Dim,
    added: usize,
    wanted: Option<i64>,
) -> Result<[usize; 3], Stop<'m>> {
    let stride = Dim::from(windows.stride[axis]);
    let total = match wanted {
        Some(wanted) => {
            (extent.clone() - Dim::from(1)) * stride + windows.span(axis) + Dim::from(added)
                - Dim::from(wanted)
        }
        None if windows.auto_pad.is_same() => windows.span(axis) + Dim::from(added) - stride,
        None => {
            let (low, high) = &windows.pads[axis];
            return Ok([fixed(low, "the padding")?, fixed(high, "the padding")?, added]);
        }
    };
    let total = total
        .as_static()
        .ok_or_else(|| Stop::Refused(format!("the padding is {total}, which is not known before a run")))?;
    let Ok(cut) = usize::try_from(total) else {
        return Ok([0, 0, added.saturating_add(total.unsigned_abs() as usize)]);
    };
    let (less, more) = (cut / 2, cut - cut / 2);
    Ok(if windows.auto_pad == AutoPad::SameUpper { [less, more, added] } else { [more, less, added] })
}

fn conv_transpose<'m>(cx: &mut Context<'m>, node: &Node<'m>) -> Outcome<'m> {
    let extents = spatial(node, 0)?;
    let axes = extents.len();
    check_axes(axes)?;
    let windows = Windows::read(node, &extents, filter_window(node, 1)?)?;
    let groups = group(node, "group")?;
    let added = sizes(node, "output_padding", axes, 0)?;
    let wanted = node.ints("output_shape")?.filter(|shape| !shape.is_empty());
    // Some exporters write batch and channels too.
    let wanted = wanted.map(|shape| shape[shape.len().saturating_sub(axes)..].to_vec());
    if wanted.as_ref().is_some_and(|shape| shape.len() != axes) {
        return Err(Stop::Invalid(format!("output_shape is {wanted:?}, expected {axes} entries")));
    }
    let mut op = ConvTranspose2d { groups, ..ConvTranspose2d::plain(axes) };
    for axis in 0..axes {
        let wanted = wanted.as_ref().map(|shape| shape[axis]);
        let [low, high, added] = transposed_padding(&windows, axis, &extents[axis], added[axis], wanted)?;
        (op.padding_low[axis], op.padding_high[axis], op.output_padding[axis]) = (low, high, added);
    }
    windows.window.iter().try_for_each(|window| fixed(window, "the window").map(|_| ()))?;
    (op.stride, op.dilation) = (windows.stride, windows.dilation);
    let (x, w) = (node.value(cx, 0)?, node.value(cx, 1)?);
    let bias = node.optional(cx, 2)?;
    op.bias = bias.is_some();
    let operands: Vec<Value> = [x, w].into_iter().chain(bias).collect();
    let y = cx.graph().push(op, &operands);
    Ok(vec![cx.tensor(y)?])
}

/// The coordinates along `axis` that the taps of all windows read before any offset: `[taps, windows..]`.
fn tap_positions<'m>(
    graph: &mut Graph,
    windows: &Windows,
    counts: &[Dim],
    axis: usize,
    dtype: DType,
) -> Result<Value, Stop<'m>> {
    let dims = [&windows.window[..], counts].concat();
    let tap = scaled_iota(graph, dtype, &dims, axis, windows.dilation[axis]);
    let start = scaled_iota(graph, dtype, &dims, counts.len() + axis, windows.stride[axis]);
    let sum = graph.add(tap, start);
    let low = fixed(&windows.pads[axis].0, "the padding")?;
    let low = graph.scalar(dtype, low as f64);
    let position = graph.sub(sum, low);
    let taps = windows.window.iter().cloned().fold(Dim::from(1), |a, b| a * b);
    Ok(graph.reshape(position, [&[taps], counts].concat()))
}

/// Every window reads `x` between its elements, at offsets of its own: a grid sample per group of offsets, then a
/// product with the filter.
fn deform_conv<'m>(cx: &mut Context<'m>, node: &Node<'m>) -> Outcome<'m> {
    let extents = spatial(node, 0)?;
    let axes = extents.len();
    check_axes(axes)?;
    let windows = Windows::read(node, &extents, filter_window(node, 1)?)?;
    windows.fixed_pads()?;
    let window = windows.fixed_window()?;
    let taps: usize = window.iter().product();
    let (groups, offset_groups) = (group(node, "group")?, group(node, "offset_group")?);
    let counts = spatial(node, 2)?;
    if counts.len() != axes {
        return Err(Stop::Invalid("the offsets have another rank than the operand".into()));
    }
    let [batch, channels, outputs] =
        [node.shape(0)?[0].clone(), node.shape(0)?[1].clone(), node.shape(1)?[0].clone()];
    let (x, w, offset) = (node.value(cx, 0)?, node.value(cx, 1)?, node.value(cx, 2)?);
    let (bias, mask) = (node.optional(cx, 3)?, node.optional(cx, 4)?);
    let dtype = node.dtype(0)?;
    // Places between elements are far from exact in f32 where the image is large.
    let wide = DType::F64;
    let [x, w, offset] = [x, w, offset].map(|value| cx.graph().cast_to(value, wide));
    // Offsets are [N, groups, taps, axes, windows..].
    let folded = batch.clone() * Dim::from(offset_groups);
    let of = |parts: &[Dim]| [parts, &counts[..]].concat();
    let (tap_dim, axes_dim) = (Dim::from(taps), Dim::from(axes));
    let offset = cx.graph().reshape(offset, of(&[folded.clone(), tap_dim.clone(), axes_dim]));
    let mut coordinates = vec![];
    for axis in (0..axes).rev() {
        let graph = cx.graph();
        let base = tap_positions(graph, &windows, &counts, axis, wide)?;
        let part = graph.narrow(offset, 2usize, axis, 1);
        let part = graph.squeeze(part, 2);
        let place = graph.add(part, base);
        // Outer edges at -1 and 1: g = (2 p + 1) / extent - 1.
        let length = materialise(graph, &[extents[axis].clone()], 0)?;
        let length = graph.cast(length, wide);
        let (one, two) = (graph.scalar(wide, 1.0), graph.scalar(wide, 2.0));
        let doubled = graph.mul(place, two);
        let shifted = graph.add(doubled, one);
        let ratio = graph.div(shifted, length);
        coordinates.push(graph.sub(ratio, one));
    }
    let graph = cx.graph();
    let grid = graph.stack(&coordinates, -1);
    let mut places = of(std::slice::from_ref(&folded));
    places[1] = places[1].clone() * tap_dim.clone();
    let grid = {
        let mut dims = places.clone();
        dims.push(Dim::from(axes));
        graph.reshape(grid, dims)
    };
    let per_group = channels.floor_div(&Dim::from(offset_groups));
    let image = graph.reshape(x, [&[folded.clone(), per_group.clone()][..], &extents].concat());
    let sampled = graph.grid_sample(image, grid, GridMode::Linear, GridPadding::Zeros, false);
    let mut columns = graph.reshape(sampled, of(&[folded.clone(), per_group, tap_dim.clone()]));
    if let Some(mask) = mask {
        let mask = graph.cast_to(mask, wide);
        let mask = graph.reshape(mask, of(&[folded, Dim::from(1), tap_dim.clone()]));
        columns = graph.mul(columns, mask);
    }
    let group_dim = Dim::from(groups);
    let summed = channels.floor_div(&group_dim) * tap_dim;
    let places = counts.iter().cloned().fold(Dim::from(1), |a, b| a * b);
    let columns = graph.reshape(columns, vec![batch.clone(), group_dim.clone(), summed.clone(), places]);
    let filter = graph.reshape(w, vec![group_dim.clone(), outputs.floor_div(&group_dim), summed]);
    let product = graph.mm(filter, columns);
    let mut y = graph.reshape(product, of(&[batch, outputs.clone()]));
    if let Some(bias) = bias {
        let bias = graph.cast_to(bias, wide);
        let bias = graph.reshape(bias, [vec![outputs], vec![Dim::from(1); axes]].concat());
        y = graph.add(y, bias);
    }
    let y = graph.cast_to(y, dtype);
    Ok(vec![cx.tensor(y)?])
}

/// Adds every element of the columns to the place of the image that it was read from.
fn col2im<'m>(cx: &mut Context<'m>, node: &Node<'m>) -> Outcome<'m> {
    let image = node.dims(cx, 1)?;
    let axes = image.len();
    let windows = Windows::read(node, &image, node.dims(cx, 2)?)?;
    let window = windows.fixed_window()?;
    let taps: usize = window.iter().product();
    let columns = node.shape(0)?.dims().to_vec();
    let [batch, rows, _] = &columns[..] else {
        return Err(Stop::Invalid(format!("operand 0 is of rank {}, expected 3", columns.len())));
    };
    if taps == 0 {
        return Err(Stop::Invalid("a block has no element".into()));
    }
    let channels = rows.floor_div(&Dim::from(taps));
    let one = Dim::from(1);
    let count = |axis: usize| {
        let (low, high) = windows.pads[axis].clone();
        let slack = image[axis].clone() + low + high - windows.span(axis);
        slack.floor_div(&Dim::from(windows.stride[axis])) + one.clone()
    };
    let counts: Vec<Dim> = (0..axes).map(count).collect();
    let x = node.value(cx, 0)?;
    let places = image.iter().cloned().fold(one.clone(), |a, b| a * b);
    let graph = cx.graph();
    // What lies in the padding goes to one place behind the image.
    let tap_places = Places::new(graph, &windows, &counts, &image)?;
    let place = tap_places.flat(graph, false);
    let behind = materialise(graph, std::slice::from_ref(&places), 0)?;
    let place = graph.where_(tap_places.inside, place, behind);
    let target = graph.view(place, [Dim::from(-1)]);
    let dtype = graph.try_ty(x).map_or(DType::F32, |ty| ty.dtype);
    let planes = batch.clone() * channels.clone();
    let updates = graph.reshape(x, vec![planes.clone(), Dim::from(taps) * columns[2].clone()]);
    let base = graph.full(dtype, vec![planes.clone(), places.clone() + one], 0.0);
    let sum = graph.scatter_add(base, target, updates, 1usize);
    let sum = graph.narrow(sum, 1usize, 0, places);
    let y = graph.reshape(sum, [&[batch.clone(), channels][..], &image].concat());
    Ok(vec![cx.tensor(y)?])
}

/// A convolution per channel over what was before and the input; the last elements of both are the new state.
fn causal_conv<'m>(cx: &mut Context<'m>, node: &Node<'m>) -> Outcome<'m> {
    let activation = node.string_or("activation", "none")?;
    let (dims, dtype) = (node.shape(0)?.dims().to_vec(), node.dtype(0)?);
    let [_, channels, length] = &dims[..] else {
        return Err(Stop::Invalid(format!("operand 0 is of rank {}, expected 3", dims.len())));
    };
    let groups = fixed(channels, "the number of channels")?;
    let [kernel] = &spatial(node, 1)?[..] else {
        return Err(Stop::Invalid("operand 1 is not of rank 3".into()));
    };
    let kept = kernel.clone() - Dim::from(1);
    let (x, w) = (node.value(cx, 0)?, node.value(cx, 1)?);
    let (bias, past) = (node.optional(cx, 2)?, node.optional(cx, 3)?);
    let graph = cx.graph();
    let past = match past {
        Some(past) => past,
        None => graph.full(dtype, vec![dims[0].clone(), channels.clone(), kept.clone()], 0.0),
    };
    let all = graph.concat_at(&[past, x], -1);
    let state = graph.narrow(all, 2usize, length.clone(), kept);
    let y = graph.convolve(Conv { groups, ..Conv::plain(1) }, all, w, bias);
    let y = match activation.as_str() {
        "none" | "" => y,
        "silu" | "swish" => graph.silu(y),
        other => return Err(Stop::Invalid(format!("activation {other:?} is not known"))),
    };
    Ok(vec![cx.tensor(y)?, cx.tensor(state)?])
}
