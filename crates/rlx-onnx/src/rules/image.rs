//! Sampling of images at computed places.

use super::{Rule, rule};
use crate::context::Context;
use crate::dims::materialise;
use crate::node::{Node, Outcome, Stop};
use rlx_ir::ops::{GridMode, GridPadding};
use rlx_ir::{DType, Dim};

pub(super) const RULES: &[Rule] =
    &[rule("GridSample", &[16, 20, 22], grid_sample), rule("AffineGrid", &[20], affine_grid)];

fn grid_sample<'m>(cx: &mut Context<'m>, node: &Node<'m>) -> Outcome<'m> {
    let unknown = |name: &str, value: &str| Stop::Invalid(format!("{name} {value:?} is not known"));
    // The first version had names of its own.
    let mode = match node.string_or("mode", "linear")?.as_str() {
        "linear" | "bilinear" => GridMode::Linear,
        "nearest" => GridMode::Nearest,
        "cubic" | "bicubic" => GridMode::Cubic,
        other => return Err(unknown("mode", other)),
    };
    let padding = match node.string_or("padding_mode", "zeros")?.as_str() {
        "zeros" => GridPadding::Zeros,
        "border" => GridPadding::Border,
        "reflection" => GridPadding::Reflection,
        other => return Err(unknown("padding_mode", other)),
    };
    let align_corners = node.flag("align_corners", false)?;
    let axes = node.rank(0)?.saturating_sub(2);
    if !(1..=3).contains(&axes) {
        return Err(Stop::Refused(format!("samples over {axes} axes; 1 to 3 are supported")));
    }
    let (dtype, places) = (node.dtype(0)?, node.dtype(1)?);
    if dtype.is_complex() {
        return Err(Stop::Refused(format!("samples of {dtype}")));
    }
    let is_wide =
        |dtype: DType| matches!(dtype, DType::F64 | DType::I32 | DType::U32 | DType::I64 | DType::U64);
    let wide = if is_wide(dtype) || is_wide(places) { DType::F64 } else { DType::F32 };
    let (x, grid) = (node.value(cx, 0)?, node.value(cx, 1)?);
    let graph = cx.graph();
    let [x, grid] = [x, grid].map(|value| graph.cast_to(value, wide));
    let y = graph.grid_sample(x, grid, mode, padding, align_corners);
    let y = graph.cast_to(y, dtype);
    Ok(vec![cx.tensor(y)?])
}

/// Places from -1 to 1 along each axis, through the matrices of `theta`.
fn affine_grid<'m>(cx: &mut Context<'m>, node: &Node<'m>) -> Outcome<'m> {
    let align_corners = node.flag("align_corners", false)?;
    let size = node.dims(cx, 1)?;
    let axes = size.len().saturating_sub(2);
    if !(2..=3).contains(&axes) {
        return Err(Stop::Invalid(format!("size has {} entries, expected 4 or 5", size.len())));
    }
    let (batch, extents) = (size[0].clone(), &size[2..]);
    let theta = node.value(cx, 0)?;
    let dtype = node.dtype(0)?;
    let wide = if dtype == DType::F64 { DType::F64 } else { DType::F32 };
    let graph = cx.graph();
    let theta = graph.cast_to(theta, wide);
    let (one, two) = (graph.scalar(wide, 1.0), graph.scalar(wide, 2.0));
    // The last axis comes first, and what moves everything last.
    let mut columns = vec![];
    for (axis, extent) in extents.iter().enumerate().rev() {
        let index = graph.iota(wide, extents.to_vec(), axis);
        let count = materialise(graph, std::slice::from_ref(extent), 0)?;
        let count = graph.cast(count, wide);
        let doubled = graph.mul(index, two);
        // (2 i - (n - 1)) / (n - 1) between centres, (2 i - (n - 1)) / n between edges.
        let less = graph.sub(count, one);
        let centred = graph.sub(doubled, less);
        let divisor = if align_corners { graph.maximum(less, one) } else { count };
        columns.push(graph.div(centred, divisor));
    }
    columns.push(graph.expand(one, extents.to_vec()));
    let places = graph.stack(&columns, -1);
    let places = graph.view(places, [Dim::from(-1), Dim::from(axes + 1)]);
    let grid = graph.matmul(places, theta, false, true);
    let grid = graph.reshape(grid, [&[batch], extents, &[Dim::from(axes)]].concat());
    let grid = graph.cast_to(grid, dtype);
    Ok(vec![cx.tensor(grid)?])
}
