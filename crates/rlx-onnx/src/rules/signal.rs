//! Fourier transforms, windows and filters of sound.

use super::reduce::{number, same_dtype};
use super::{Rule, rule};
use crate::context::Context;
use crate::node::{Node, Outcome, Stop};
use crate::tensor;
use crate::value::Tensor;
use rlx_ir::ops::{Activation, ActivationKind, FftNorm};
use rlx_ir::{DType, Dim, Graph, Literal, Value};
use std::f64::consts::TAU;

pub(super) const RULES: &[Rule] = &[
    rule("DFT", &[17, 20], dft),
    rule("STFT", &[17], stft),
    rule("HannWindow", &[17], |cx, node| window(cx, node, [0.5, -0.5, 0.0])),
    rule("HammingWindow", &[17], |cx, node| window(cx, node, [25.0 / 46.0, -21.0 / 46.0, 0.0])),
    rule("BlackmanWindow", &[17], |cx, node| window(cx, node, [0.42, -0.5, 0.08])),
    rule("MelWeightMatrix", &[17], mel_weight_matrix),
];

/// Most elements of a matrix that is made while a model is imported.
const MOST_WEIGHTS: i64 = 1 << 24;

/// Complex numbers of a tensor whose last axis holds their parts, and whether those are real parts only.
fn complex_of<'m>(cx: &mut Context<'m>, x: Value) -> Result<(Value, bool), Stop<'m>> {
    let x = cx.graph().accumulation_cast(x);
    let ty = cx.ty(x)?;
    let last = ty.shape.dims().last().ok_or_else(|| Stop::Invalid("a signal is a scalar".into()))?;
    let graph = cx.graph();
    match last.as_static() {
        Some(1) => {
            let real = graph.squeeze(x, -1);
            let zero = graph.scalar(ty.dtype, 0.0);
            Ok((graph.complex(real, zero), true))
        }
        Some(2) => {
            let mut parts = [0, 1].map(|at| graph.narrow_at(x, -1, at, 1));
            parts = parts.map(|part| graph.squeeze(part, -1));
            Ok((graph.complex(parts[0], parts[1]), false))
        }
        Some(count) => Err(Stop::Invalid(format!("a signal has {count} parts per element, expected 1 or 2"))),
        None => Err(Stop::Refused(format!("whether its signal is complex is not known: {}", ty.shape))),
    }
}

/// The parts of complex numbers along a new last axis.
fn parts_of(graph: &mut Graph, z: Value) -> Value {
    let (real, imaginary) = (graph.real(z), graph.imag(z));
    graph.stack(&[real, imaginary], -1)
}

/// The elements of `x` along `axis`, cut off or followed by zeros so that there are `count`.
fn resized<'m>(cx: &mut Context<'m>, x: Value, axis: usize, count: &Dim) -> Result<Value, Stop<'m>> {
    let shape = cx.ty(x)?.shape;
    let kept = shape[axis].minimum(count);
    let graph = cx.graph();
    let x = if kept == shape[axis] { x } else { graph.narrow(x, axis, 0, kept.clone()) };
    if kept == *count {
        return Ok(x);
    }
    let low = vec![Dim::from(0); shape.rank()];
    let mut high = low.clone();
    high[axis] = count.clone() - kept;
    Ok(graph.pad(x, None, low, high, rlx_ir::ops::PadMode::Constant))
}

/// How many elements of the transform of `count` real ones are not conjugates of others.
fn half(count: &Dim) -> Dim {
    count.floor_div(&Dim::from(2)) + Dim::from(1)
}

fn dft<'m>(cx: &mut Context<'m>, node: &Node<'m>) -> Outcome<'m> {
    let signal_rank = node.rank(0)?.saturating_sub(1);
    let axis = match node.version {
        ..20 => node.int_or("axis", 1)?,
        _ if node.input(2).is_some() => node.known_int(cx, 2)?,
        _ => -2,
    };
    let axis = node.axis(axis, node.rank(0)?)?;
    if axis == signal_rank {
        return Err(Stop::Invalid("its axis is that of the real and imaginary parts".into()));
    }
    let (inverse, onesided) = (node.flag("inverse", false)?, node.flag("onesided", false)?);
    let mut x = node.value(cx, 0)?;
    if !inverse {
        // As ONNX's reference does: parts of a spectrum that cancel are zero in f64 and noise in f32.
        x = cx.graph().cast_to(x, DType::F64);
    }
    let (z, is_real) = complex_of(cx, x)?;
    let extent = cx.ty(z)?.shape[axis].clone();
    let count = match node.optional_tensor(1)? {
        Some(_) => one_extent(cx, node, 1)?,
        None if inverse && onesided => (extent - Dim::from(1)) * Dim::from(2),
        None => extent,
    };
    if count.as_static().is_some_and(|count| count < 1) {
        return Err(Stop::Invalid(format!("its length is {count}")));
    }
    if onesided && is_real == inverse {
        let expected = if inverse { "complex" } else { "real" };
        return Err(Stop::Invalid(format!(
            "a one-sided transform in this direction takes {expected} numbers"
        )));
    }
    let y = if inverse && onesided {
        let z = resized(cx, z, axis, &half(&count))?;
        let y = from_half(cx.graph(), z, axis, &count);
        cx.graph().unsqueeze(y, -1)
    } else {
        let z = resized(cx, z, axis, &count)?;
        let mut y = cx.graph().fft(z, vec![axis], inverse, FftNorm::Backward);
        if onesided {
            y = cx.graph().narrow(y, axis, 0, half(&count));
        }
        parts_of(cx.graph(), y)
    };
    same_dtype(cx, node, y)
}

/// The real row of `count` elements whose transform begins with `z`, the other half being its conjugates.
fn from_half(graph: &mut Graph, z: Value, axis: usize, count: &Dim) -> Value {
    let others = count.clone() - half(count);
    let mirrored = graph.narrow(z, axis, 1, others);
    let mirrored = graph.reverse(mirrored, vec![axis]);
    let mirrored = graph.conjugate(mirrored);
    let whole = graph.concat(&[z, mirrored], axis);
    let y = graph.fft(whole, vec![axis], true, FftNorm::Backward);
    graph.real(y)
}

/// The one extent of operand `index`.
fn one_extent<'m>(cx: &mut Context<'m>, node: &Node<'m>, index: usize) -> Result<Dim, Stop<'m>> {
    let mut dims = node.dims(cx, index)?;
    match (dims.pop(), dims.is_empty()) {
        (Some(dim), true) if dim.as_static().is_none_or(|dim| dim >= 0) => Ok(dim),
        (dim, _) => Err(Stop::Invalid(format!("operand {index} is no extent: {dim:?}"))),
    }
}

/// A signal without an axis of parts is real.
fn stft<'m>(cx: &mut Context<'m>, node: &Node<'m>) -> Outcome<'m> {
    let onesided = node.flag("onesided", true)?;
    let mut x = node.value(cx, 0)?;
    if node.rank(0)? == 2 {
        x = cx.graph().unsqueeze(x, -1);
    }
    let (z, is_real) = complex_of(cx, x)?;
    if onesided && !is_real {
        return Err(Stop::Invalid("a one-sided transform takes real numbers".into()));
    }
    let ty = cx.ty(z)?;
    if ty.rank() != 2 {
        return Err(Stop::Invalid(format!("its signal has {} axes, expected 2 and the parts", ty.rank())));
    }
    let step = node.known_int(cx, 1)?;
    if step < 1 {
        return Err(Stop::Invalid(format!("its frame_step is {step}")));
    }
    let length = match (node.input(3), node.optional_tensor(2)?) {
        (Some(_), _) => one_extent(cx, node, 3)?,
        (None, Some(window)) => window.shape.num_elements(),
        (None, None) => ty.shape[1].clone(),
    };
    if length.is(0) {
        return Err(Stop::Invalid("its frames are empty".into()));
    }
    let frames = (ty.shape[1].clone() - length.clone()).floor_div(&Dim::from(step)) + Dim::from(1);
    let graph = cx.graph();
    let shape = vec![frames.clone(), length.clone()];
    let (first, within) =
        (graph.iota(DType::I64, shape.clone(), 0usize), graph.iota(DType::I64, shape, 1usize));
    let step = graph.constant(Literal::scalar_i64(step));
    let first = graph.mul(first, step);
    let positions = graph.add(first, within);
    let mut framed = graph.gather(z, positions, 1usize);
    if let Some(window) = node.optional(cx, 2)? {
        let window = cx.graph().accumulation_cast(window);
        if cx.ty(window)?.shape.dims() != [length.clone()] {
            return Err(Stop::Invalid(format!("its window has another length than its frames, {length}")));
        }
        let dtype = cx.ty(window)?.dtype;
        let zero = cx.graph().scalar(dtype, 0.0);
        let window = cx.graph().complex(window, zero);
        framed = cx.graph().mul(framed, window);
    }
    let graph = cx.graph();
    let mut y = graph.fft(framed, vec![2], false, FftNorm::Backward);
    if onesided {
        y = graph.narrow(y, 2usize, 0, half(&length));
    }
    let y = parts_of(graph, y);
    same_dtype(cx, node, y)
}

fn output_datatype<'m>(node: &Node<'m>) -> Result<DType, Stop<'m>> {
    tensor::dtype(node.int_or("output_datatype", 1)? as i32).map_err(Stop::Invalid)
}

/// A sum of cosines of 0, 1 and 2 turns over the window.
fn window<'m>(cx: &mut Context<'m>, node: &Node<'m>, terms: [f64; 3]) -> Outcome<'m> {
    let (dtype, is_periodic) = (output_datatype(node)?, node.flag("periodic", true)?);
    let size = one_extent(cx, node, 0)?;
    let wide = if dtype == DType::F64 { DType::F64 } else { DType::F32 };
    let turn = if is_periodic { size.clone() } else { size.clone() - Dim::from(1) };
    let turn = number(cx, turn, wide)?;
    let graph = cx.graph();
    let position = graph.iota(wide, vec![size], 0usize);
    let part = graph.div(position, turn);
    let mut sum = graph.scalar(wide, terms[0]);
    for (turns, &factor) in terms.iter().enumerate().skip(1).filter(|(_, factor)| **factor != 0.0) {
        let turns = graph.scalar(wide, turns as f64 * TAU);
        let angle = graph.mul(part, turns);
        let cosine = graph.push(Activation::of(ActivationKind::Cos), &[angle]);
        let factor = graph.scalar(wide, factor);
        let term = graph.mul(cosine, factor);
        sum = graph.add(sum, term);
    }
    let y = graph.cast_to(sum, dtype);
    Ok(vec![cx.tensor(y)?])
}

fn mel_weight_matrix<'m>(cx: &mut Context<'m>, node: &Node<'m>) -> Outcome<'m> {
    let dtype = output_datatype(node)?;
    let [bands, length, rate] = [0, 1, 2].map(|index| node.known_int(cx, index));
    let (bands, length, rate) = (bands?, length?, rate?);
    let mut edges = [0.0; 2];
    for (index, edge) in edges.iter_mut().enumerate() {
        let literal = node.literal(cx, 3 + index)?;
        let wrong =
            || Stop::Invalid(format!("operand {} is {}, expected one number", 3 + index, literal.ty()));
        *edge = literal.to_f64s().first().copied().ok_or_else(wrong)?;
    }
    if bands < 0 || length < 0 || rate < 1 {
        return Err(Stop::Invalid(format!("it has {bands} bands, length {length}, sample rate {rate}")));
    }
    let rows = length / 2 + 1;
    if bands.checked_mul(rows).is_none_or(|count| count > MOST_WEIGHTS) {
        return Err(Stop::Refused(format!("it has {rows} x {bands} elements")));
    }
    let weights = triangles(bands as usize, length, rate as f64, edges)?;
    let literal = Literal::floats(dtype, &[rows as usize, bands as usize], &weights);
    let literal = literal.map_err(|error| Stop::Invalid(error.to_string()))?;
    Ok(vec![Tensor::literal(literal).into()])
}

/// One triangle per column, from bin to bin of a transform of `length`; its edges are evenly spread on the mel scale.
fn triangles<'m>(bands: usize, length: i64, rate: f64, edges: [f64; 2]) -> Result<Vec<f64>, Stop<'m>> {
    let [low, high] = edges.map(|hertz| 2595.0 * (1.0 + hertz / 700.0).log10());
    let step = (high - low) / (bands + 2) as f64;
    let bin = |edge: usize| {
        let hertz = 700.0 * (10f64.powf((edge as f64 * step + low) / 2595.0) - 1.0);
        ((length as f64 + 1.0) * hertz / rate).floor()
    };
    let rows = length / 2 + 1;
    let mut weights = vec![0.0; rows as usize * bands];
    for band in 0..bands {
        let corners = [bin(band), bin(band + 1), bin(band + 2)];
        let [first, peak, last] = corners.map(|corner| corner as i64);
        let fits = corners.iter().all(|corner| (0.0..=rows as f64).contains(corner)) && peak < rows;
        if !fits || first > peak || peak > last {
            return Err(Stop::Invalid(format!("band {band} has the bins {corners:?} of {rows}")));
        }
        let mut set = |row: i64, weight: f64| weights[row as usize * bands + band] = weight;
        set(peak, 1.0);
        (first..peak).for_each(|row| set(row, (row - first) as f64 / (peak - first) as f64));
        (peak..last).for_each(|row| set(row, (last - row) as f64 / (last - peak) as f64));
    }
    Ok(weights)
}
