//! Images at other extents.
//!
//! What the `resize` op of the graph means becomes that op, symbolic extents included. Antialiasing, crops and
//! positions by fractional lengths become a product with a matrix of weights per axis, for which extents must be known.

use super::windows::fixed;
use super::{Rule, rule};
use crate::context::Context;
use crate::node::{Node, Outcome, Stop};
use rlx_ir::attr::Real;
use rlx_ir::ops::{CoordinateMode, NearestRounding, Resize, ResizeMode};
use rlx_ir::{DType, Dim, Graph, Literal, Value};

pub(super) const RULES: &[Rule] =
    &[rule("Resize", &[10, 11, 13, 18, 19], resize), rule("Upsample", &[1, 7, 9], resize)];

/// Source positions.
#[derive(Clone, Copy, PartialEq)]
enum Coordinates {
    Plain(CoordinateMode),
    /// Between corners, of a result whose length is a fraction.
    AlignFractional,
    /// `(i + 1/2) / s`.
    HalfPixelForNearest,
    /// Of a part of the operand.
    Crop,
}

/// How a node resizes.
struct Manner {
    mode: ResizeMode,
    coordinates: Coordinates,
    /// None: downwards where the axis grows, else upwards, as the first versions have it.
    rounding: Option<NearestRounding>,
    cubic_coefficient: f64,
    exclude_outside: bool,
    antialias: bool,
    extrapolation: f64,
}

/// One axis that changes.
struct Axis {
    axis: usize,
    extent: Dim,
    size: Dim,
    /// Where it is not the ratio of size and extent.
    scale: Option<f64>,
    roi: [f64; 2],
}

fn manner<'m>(node: &Node<'m>) -> Result<Manner, Stop<'m>> {
    let unknown = |name: &str, value: &str| Stop::Invalid(format!("{name} {value:?} is not known"));
    let mode = match node.string_or("mode", "nearest")?.as_str() {
        "nearest" => ResizeMode::Nearest,
        "linear" | "bilinear" => ResizeMode::Linear,
        "cubic" => ResizeMode::Cubic,
        other => return Err(unknown("mode", other)),
    };
    if node.proto.op_type() == "Upsample" || node.version == 10 {
        let coordinates = Coordinates::Plain(CoordinateMode::Asymmetric);
        return Ok(Manner {
            mode,
            coordinates,
            rounding: None,
            cubic_coefficient: -0.75,
            exclude_outside: false,
            antialias: false,
            extrapolation: 0.0,
        });
    }
    let coordinates = match node.string_or("coordinate_transformation_mode", "half_pixel")?.as_str() {
        "half_pixel" => Coordinates::Plain(CoordinateMode::HalfPixel),
        "half_pixel_symmetric" => Coordinates::Plain(CoordinateMode::HalfPixelSymmetric),
        "pytorch_half_pixel" => Coordinates::Plain(CoordinateMode::PytorchHalfPixel),
        "align_corners" => Coordinates::Plain(CoordinateMode::AlignCorners),
        "asymmetric" => Coordinates::Plain(CoordinateMode::Asymmetric),
        "tf_half_pixel_for_nn" => Coordinates::HalfPixelForNearest,
        "tf_crop_and_resize" => Coordinates::Crop,
        other => return Err(unknown("coordinate_transformation_mode", other)),
    };
    let rounding = match node.string_or("nearest_mode", "round_prefer_floor")?.as_str() {
        "round_prefer_floor" | "" => NearestRounding::RoundPreferFloor,
        "round_prefer_ceil" => NearestRounding::RoundPreferCeil,
        "floor" => NearestRounding::Floor,
        "ceil" => NearestRounding::Ceil,
        other => return Err(unknown("nearest_mode", other)),
    };
    let is_nearest = mode == ResizeMode::Nearest;
    Ok(Manner {
        mode,
        coordinates,
        rounding: Some(rounding),
        cubic_coefficient: f64::from(node.float_or("cubic_coeff_a", -0.75)?),
        exclude_outside: node.flag("exclude_outside", false)? && !is_nearest,
        antialias: node.flag("antialias", false)? && !is_nearest,
        extrapolation: f64::from(node.float_or("extrapolation_value", 0.0)?),
    })
}

/// Is operand `index` there, and not the empty tensor that stands for a missing one?
fn is_given(node: &Node<'_>, index: usize) -> bool {
    node.shape(index).is_ok_and(|shape| !shape.num_elements().is(0))
}

fn floats<'m>(cx: &mut Context<'m>, node: &Node<'m>, index: usize) -> Result<Vec<f64>, Stop<'m>> {
    Ok(node.literal(cx, index)?.to_f64s())
}

/// The scale of each axis in the list, where the node gives scales.
fn scales<'m>(cx: &mut Context<'m>, node: &Node<'m>, count: usize) -> Result<Option<Vec<f64>>, Stop<'m>> {
    let is_upsample = node.proto.op_type() == "Upsample";
    let scales = if is_upsample && node.version == 1 && !node.has("scales") {
        let scale = |name: &str| {
            let scale = node.float(name)?.ok_or_else(|| Stop::Invalid(format!("it has no {name}")))?;
            Ok(f64::from(scale))
        };
        vec![1.0, 1.0, scale("height_scale")?, scale("width_scale")?]
    } else if is_upsample && node.version < 9 {
        let scales = node.floats("scales")?.ok_or_else(|| Stop::Invalid("it has no scales".into()))?;
        scales.into_iter().map(f64::from).collect()
    } else {
        let index = if is_upsample || node.version == 10 { 1 } else { 2 };
        if !is_given(node, index) {
            return Ok(None);
        }
        floats(cx, node, index)?
    };
    if scales.len() != count || scales.iter().any(|scale| !scale.is_finite() || *scale <= 0.0) {
        return Err(Stop::Invalid(format!("its scales are {scales:?}, expected {count} positive numbers")));
    }
    Ok(Some(scales))
}

/// The new extent of an axis by its scale, and the scale where their ratio is another one.
fn scaled<'m>(extent: &Dim, scale: f64) -> Result<(Dim, Option<f64>), Stop<'m>> {
    if scale.fract() == 0.0 && scale < 2f64.powi(31) {
        return Ok((extent.clone() * Dim::from(scale as i64), None));
    }
    let number = fixed(extent, "an extent with a fractional scale")?;
    // In single precision, so that 0.7 of 10 are 7.
    Ok((Dim::from((number as f32 * scale as f32).floor() as i64), Some(scale)))
}

/// The scale that keeps the ratio of the extents, and the sizes that it gives.
fn kept_ratio<'m>(
    policy: &str,
    extents: &[Dim],
    sizes: Vec<Dim>,
) -> Result<(Vec<Dim>, Option<f64>), Stop<'m>> {
    let is_smaller = match policy {
        "stretch" | "" => return Ok((sizes, None)),
        "not_larger" => true,
        "not_smaller" => false,
        other => return Err(Stop::Invalid(format!("keep_aspect_ratio_policy {other:?} is not known"))),
    };
    let mut ratios = vec![];
    for (extent, size) in extents.iter().zip(&sizes) {
        ratios.push(fixed(size, "a size")? as f64 / fixed(extent, "an extent")? as f64);
    }
    let scale = match is_smaller {
        true => ratios.into_iter().fold(f64::INFINITY, f64::min),
        false => ratios.into_iter().fold(0.0, f64::max),
    };
    let round =
        |extent: &Dim| Ok(Dim::from((scale * fixed(extent, "an extent")? as f64 + 0.5).floor() as i64));
    let sizes = extents.iter().map(round).collect::<Result<_, Stop<'m>>>()?;
    Ok((sizes, Some(scale)))
}

/// The axes that change.
fn changed_axes<'m>(cx: &mut Context<'m>, node: &Node<'m>, is_crop: bool) -> Result<Vec<Axis>, Stop<'m>> {
    let dims = node.shape(0)?.dims().to_vec();
    let axes = match node.ints("axes")? {
        Some(axes) => node.axes_of(&axes, dims.len())?,
        None => (0..dims.len()).collect(),
    };
    let extents: Vec<Dim> = axes.iter().map(|&axis| dims[axis].clone()).collect();
    let policy = node.string_or("keep_aspect_ratio_policy", "stretch")?;
    let given = scales(cx, node, axes.len())?;
    let sizes = match given {
        Some(given) => extents
            .iter()
            .zip(given)
            .map(|(extent, scale)| scaled(extent, scale))
            .collect::<Result<Vec<_>, _>>()?,
        None => {
            let sizes = node.dims(cx, 3)?;
            if sizes.len() != axes.len() {
                return Err(Stop::Invalid(format!("it has {} sizes for {} axes", sizes.len(), axes.len())));
            }
            let (sizes, scale) = kept_ratio(&policy, &extents, sizes)?;
            sizes.into_iter().map(|size| (size, scale)).collect()
        }
    };
    let roi = if is_crop { floats(cx, node, 1)? } else { vec![] };
    if is_crop && roi.len() != 2 * axes.len() {
        return Err(Stop::Invalid(format!("roi has {} elements, expected {}", roi.len(), 2 * axes.len())));
    }
    let mut changed = vec![];
    for (at, ((axis, extent), (size, scale))) in axes.iter().zip(extents).zip(sizes).enumerate() {
        let roi = if is_crop { [roi[at], roi[axes.len() + at]] } else { [0.0, 1.0] };
        let is_same = (size.clone() - extent.clone()).is(0) && scale.is_none_or(|scale| scale == 1.0);
        if !is_same || roi != [0.0, 1.0] {
            changed.push(Axis { axis: *axis, extent, size, scale, roi });
        }
    }
    changed.sort_by_key(|axis| axis.axis);
    Ok(changed)
}

fn resize<'m>(cx: &mut Context<'m>, node: &Node<'m>) -> Outcome<'m> {
    let mut manner = manner(node)?;
    let axes = changed_axes(cx, node, manner.coordinates == Coordinates::Crop)?;
    let is_fractional = |axis: &Axis| {
        let extent = axis.extent.as_static().unwrap_or(0) as f64;
        axis.scale.is_some_and(|scale| {
            axis.size.as_static() != Some((extent * scale) as i64) || (extent * scale).fract().abs() > 1e-5
        })
    };
    if manner.coordinates == Coordinates::Plain(CoordinateMode::AlignCorners)
        && axes.iter().any(is_fractional)
    {
        manner.coordinates = Coordinates::AlignFractional;
    }
    let x = node.value(cx, 0)?;
    if axes.is_empty() {
        return Ok(vec![cx.tensor_as(x, node.dtype(0)?)?]);
    }
    let ty = cx.ty(x)?;
    let is_nearest = manner.mode == ResizeMode::Nearest;
    let computed = match ty.dtype {
        dtype if is_nearest || dtype.is_float() => dtype,
        DType::I32 | DType::U32 | DType::I64 | DType::U64 => DType::F64,
        _ => DType::F32,
    };
    let x = cx.graph().cast_to(x, computed);
    let y = match manner.coordinates {
        Coordinates::Plain(coordinates) if !manner.antialias => {
            native(cx.graph(), x, &manner, coordinates, &axes)
        }
        _ => by_axis(cx, x, &manner, &axes)?,
    };
    let y = cx.graph().cast_to(y, ty.dtype);
    Ok(vec![cx.tensor_as(y, node.dtype(0)?)?])
}

/// As the op of the graph; axes by axis where they round in different ways.
fn native(graph: &mut Graph, x: Value, manner: &Manner, coordinates: CoordinateMode, axes: &[Axis]) -> Value {
    let is_nearest = manner.mode == ResizeMode::Nearest;
    let rounding = |axis: &Axis| match (is_nearest, manner.rounding) {
        (false, _) => None,
        (true, Some(rounding)) => Some(rounding),
        (true, None) if axis.scale.is_some_and(|scale| scale < 1.0) => Some(NearestRounding::Ceil),
        (true, None) => Some(NearestRounding::Floor),
    };
    let mut y = x;
    let mut rest = axes;
    while let Some(first) = rest.first() {
        let is_alike =
            |axis: &Axis| rounding(axis) == rounding(first) && axis.scale.is_some() == first.scale.is_some();
        let count = rest.iter().take_while(|axis| is_alike(axis)).count();
        let (now, later) = rest.split_at(count);
        let op = Resize {
            axes: now.iter().map(|axis| axis.axis).collect(),
            sizes: now.iter().map(|axis| axis.size.clone()).collect(),
            scales: now.iter().filter_map(|axis| axis.scale.map(Real)).collect(),
            mode: manner.mode,
            coordinates,
            rounding: rounding(first),
            cubic_coefficient: (manner.mode == ResizeMode::Cubic).then_some(Real(manner.cubic_coefficient)),
            exclude_outside: manner.exclude_outside,
        };
        y = graph.push(op, &[y]);
        rest = later;
    }
    y
}

/// Axis by axis, by weights that are computed here.
fn by_axis<'m>(cx: &mut Context<'m>, x: Value, manner: &Manner, axes: &[Axis]) -> Result<Value, Stop<'m>> {
    let wrong = |error: rlx_ir::LiteralError| Stop::Invalid(error.to_string());
    let mut y = x;
    let mut outside = vec![];
    for axis in axes {
        let (extent, size) = (fixed(&axis.extent, "an extent")?, fixed(&axis.size, "a size")?);
        if extent == 0 || extent.saturating_mul(size) > 1 << 26 {
            return Err(Stop::Refused(format!("weights for {size} elements of {extent}")));
        }
        let positions = positions(manner, axis, extent, size);
        let ty = cx.ty(y)?;
        let graph = cx.graph();
        y = if manner.mode == ResizeMode::Nearest {
            let indices: Vec<i128> =
                positions.iter().map(|&position| nearest(manner, position, extent) as i128).collect();
            let indices = graph.constant(Literal::ints(DType::I64, &[size], &indices).map_err(wrong)?);
            graph.gather(y, indices, axis.axis)
        } else {
            let scale = axis.scale.unwrap_or(size as f64 / extent as f64);
            let mut weights = vec![0.0; size * extent];
            for (row, &position) in weights.chunks_mut(extent).zip(&positions) {
                weigh(manner, position, scale, row);
            }
            let weights =
                graph.constant(Literal::floats(ty.dtype, &[size, extent], &weights).map_err(wrong)?);
            let product = graph.dot_general(y, weights, vec![axis.axis], vec![1usize], vec![], vec![]);
            let mut permutation: Vec<usize> = (0..ty.rank() - 1).collect();
            permutation.insert(axis.axis, ty.rank() - 1);
            graph.transpose(product, permutation)
        };
        if manner.coordinates == Coordinates::Crop {
            let limit = extent as f64 - 1.0;
            let beyond = positions.iter().map(|&position| i128::from(position < 0.0 || position > limit));
            let beyond: Vec<i128> = beyond.collect();
            let mut dims = vec![1; ty.rank()];
            dims[axis.axis] = size;
            outside.push(Literal::ints(DType::Bool, &dims, &beyond).map_err(wrong)?);
        }
    }
    let dtype = cx.ty(y)?.dtype;
    let graph = cx.graph();
    for beyond in outside {
        let beyond = graph.constant(beyond);
        let value = graph.scalar(dtype, manner.extrapolation);
        y = graph.where_(beyond, value, y);
    }
    Ok(y)
}

/// The source position of every element.
fn positions(manner: &Manner, axis: &Axis, extent: usize, size: usize) -> Vec<f64> {
    let scale = axis.scale.unwrap_or(size as f64 / extent as f64);
    let last = extent as f64 - 1.0;
    let half_pixel = |i: f64| (i + 0.5) / scale - 0.5;
    let position = |i: f64| match manner.coordinates {
        Coordinates::HalfPixelForNearest => (i + 0.5) / scale,
        Coordinates::Crop if size == 1 => 0.5 * (axis.roi[0] + axis.roi[1]) * last,
        Coordinates::Crop => {
            axis.roi[0] * last + i * (axis.roi[1] - axis.roi[0]) * last / (size as f64 - 1.0)
        }
        Coordinates::AlignFractional => {
            let length = scale * extent as f64;
            if length == 1.0 { 0.0 } else { i * last / (length - 1.0) }
        }
        Coordinates::Plain(CoordinateMode::AlignCorners) if size == 1 => 0.0,
        Coordinates::Plain(CoordinateMode::AlignCorners) => i * last / (size as f64 - 1.0),
        Coordinates::Plain(CoordinateMode::Asymmetric) => i / scale,
        Coordinates::Plain(CoordinateMode::PytorchHalfPixel) if size == 1 => 0.0,
        Coordinates::Plain(CoordinateMode::HalfPixelSymmetric) => {
            let adjustment = size as f64 / (scale * extent as f64);
            extent as f64 / 2.0 * (1.0 - adjustment) + half_pixel(i)
        }
        Coordinates::Plain(_) => half_pixel(i),
    };
    (0..size).map(|i| position(i as f64)).collect()
}

fn nearest(manner: &Manner, position: f64, extent: usize) -> usize {
    let rounded = match manner.rounding {
        Some(NearestRounding::RoundPreferCeil) => (position + 0.5).floor(),
        Some(NearestRounding::Ceil) => position.ceil(),
        Some(NearestRounding::RoundPreferFloor) => (position - 0.5).ceil(),
        Some(NearestRounding::Floor) | None => position.floor(),
    };
    rounded.clamp(0.0, extent as f64 - 1.0) as usize
}

/// The weights of all elements for a position between them.
fn weigh(manner: &Manner, position: f64, scale: f64, weights: &mut [f64]) {
    let reach = if manner.mode == ResizeMode::Cubic { 2.0 } else { 1.0 };
    // A filter for fewer elements is as much wider.
    let squeeze = if manner.antialias { scale.min(1.0) } else { 1.0 };
    let base = position.ceil() - 1.0;
    let first = (-reach / squeeze).floor() as i64 + 1;
    let taps: Vec<(f64, f64)> = (first..2 - first)
        .map(|tap| (base + tap as f64, kernel(manner, (base + tap as f64 - position) * squeeze)))
        .collect();
    let last = weights.len() as f64 - 1.0;
    let is_outside = |at: f64| manner.exclude_outside && !(0.0..=last).contains(&at);
    let counted = || taps.iter().filter(|(at, _)| !is_outside(*at));
    let sum: f64 = counted().map(|(_, weight)| weight).sum();
    let divisor = if manner.antialias || manner.exclude_outside { sum } else { 1.0 };
    for (at, weight) in counted() {
        weights[at.clamp(0.0, last) as usize] += weight / divisor;
    }
}

fn kernel(manner: &Manner, x: f64) -> f64 {
    let (x, a) = (x.abs(), manner.cubic_coefficient);
    match manner.mode {
        ResizeMode::Cubic if x <= 1.0 => ((a + 2.0) * x - (a + 3.0)) * x * x + 1.0,
        ResizeMode::Cubic if x < 2.0 => ((a * x - 5.0 * a) * x + 8.0 * a) * x - 4.0 * a,
        ResizeMode::Cubic => 0.0,
        _ => (1.0 - x).max(0.0),
    }
}
