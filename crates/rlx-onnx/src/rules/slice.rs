//! Ops that take a part of a tensor, or surround it with more.

use super::extents::{Run, cut, run, scalar, with_extent};
use super::moved::{Moving, moved};
use super::{Rule, rule};
use crate::context::Context;
use crate::dims::{maximum, minimum};
use crate::node::{Node, Outcome, Stop};
use rlx_ir::ops::PadMode;
use rlx_ir::{DType, Dim, Literal, Value};

pub(super) const RULES: &[Rule] = &[
    rule("Slice", &[1, 10, 11, 13], |cx, node| moved(cx, node, Moving::These(&[0]), slice)),
    rule("Pad", &[1, 2, 11, 13, 18, 19, 21, 23, 24, 25], |cx, node| {
        moved(cx, node, Moving::These(&[0, 2]), pad)
    }),
    rule("CenterCropPad", &[18], |cx, node| moved(cx, node, Moving::These(&[0]), center_crop_pad)),
];

/// Most elements by which an axis grows that is shorter than that.
const LONGEST: i64 = 1 << 24;

fn same_count<'m>(what: &str, found: usize, expected: usize) -> Result<(), Stop<'m>> {
    match found == expected {
        true => Ok(()),
        false => Err(Stop::Invalid(format!("it has {found} {what}, expected {expected}"))),
    }
}

fn slice<'m>(cx: &mut Context<'m>, node: &Node<'m>) -> Outcome<'m> {
    let shape = node.shape(0)?.clone();
    let (starts, ends) = if node.version == 1 {
        let part = |name| Ok(node.ints(name)?.unwrap_or_default().into_iter().map(Dim::from).collect());
        (part("starts")?, part("ends")?)
    } else {
        (node.dims(cx, 1)?, node.dims(cx, 2)?)
    };
    let axes = match node.axes(cx, "axes", 3)? {
        Some(axes) => node.axes_of(&axes, shape.rank())?,
        None => (0..starts.len()).collect(),
    };
    let steps = match node.input(4) {
        Some(_) => node.known_ints(cx, 4)?,
        None => vec![1; starts.len()],
    };
    for (what, found) in [("ends", ends.len()), ("axes", axes.len()), ("steps", steps.len())] {
        same_count(what, found, starts.len())?;
    }
    if axes.iter().any(|&axis| axis >= shape.rank()) || steps.contains(&0) {
        return Err(Stop::Invalid(format!("it slices {shape} along {axes:?} with steps {steps:?}")));
    }
    let x = node.value(cx, 0)?;
    let all = starts.iter().zip(&ends).zip(axes.iter().zip(&steps));
    let runs = all.map(|(ends, (&axis, &step))| run(cx.graph(), axis, &shape[axis], ends, step)).collect();
    let y = cut(cx, x, runs)?;
    Ok(vec![cx.tensor_as(y, node.dtype(0)?)?])
}

/// What surrounds a tensor, by axis; negative where elements are taken away.
struct Padding {
    low: Vec<Dim>,
    high: Vec<Dim>,
}

fn padding<'m>(cx: &mut Context<'m>, node: &Node<'m>) -> Result<Padding, Stop<'m>> {
    let rank = node.rank(0)?;
    let pads = match node.ints(if node.version == 1 { "paddings" } else { "pads" })? {
        Some(pads) => pads.into_iter().map(Dim::from).collect(),
        None => node.dims(cx, 1)?,
    };
    let axes = match node.input(3) {
        Some(_) => node.axes_of(&node.known_ints(cx, 3)?, rank)?,
        None => (0..rank).collect(),
    };
    same_count("pads", pads.len(), 2 * axes.len())?;
    let mut padding = Padding { low: vec![Dim::from(0); rank], high: vec![Dim::from(0); rank] };
    for (position, &axis) in axes.iter().enumerate() {
        padding.low[axis] = pads[position].clone();
        padding.high[axis] = pads[axes.len() + position].clone();
    }
    Ok(padding)
}

fn pad<'m>(cx: &mut Context<'m>, node: &Node<'m>) -> Outcome<'m> {
    let mode = node.string_or("mode", "constant")?;
    let Padding { mut low, mut high } = padding(cx, node)?;
    let mut x = node.value(cx, 0)?;
    let ty = cx.ty(x)?;
    // Negative ones first.
    let zero = Dim::from(0);
    let mut runs = vec![];
    for axis in 0..ty.rank() {
        let graph = cx.graph();
        let start = maximum(graph, &-low[axis].clone(), &zero);
        let len = ty.shape[axis].clone() - start.clone() - maximum(graph, &-high[axis].clone(), &zero);
        runs.push(Run { axis, start, step: 1, len });
        (low[axis], high[axis]) = (maximum(graph, &low[axis], &zero), maximum(graph, &high[axis], &zero));
    }
    x = cut(cx, x, runs)?;
    let value = match (mode.as_str(), node.float("value")?, node.input(2)) {
        ("constant", Some(value), _) => Some(cx.graph().scalar(ty.dtype, f64::from(value))),
        ("constant", None, Some(_)) => {
            let value = node.value(cx, 2)?;
            Some(scalar(cx, value)?)
        }
        // The other modes add what is there.
        _ => None,
    };
    let y = match mode.as_str() {
        "constant" => cx.graph().pad(x, value, low, high, PadMode::Constant),
        "edge" => cx.graph().pad(x, value, low, high, PadMode::Edge),
        "reflect" | "wrap" => {
            let is_wrap = mode == "wrap";
            for axis in 0..ty.rank() {
                x = pad_around(cx, x, axis, (&low[axis], &high[axis]), is_wrap)?;
            }
            x
        }
        other => return Err(Stop::Invalid(format!("there is no mode {other:?}"))),
    };
    Ok(vec![cx.tensor_as(y, node.dtype(0)?)?])
}

/// `x` continued along `axis` by its own elements: mirrored at the border, or begun again.
fn pad_around<'m>(
    cx: &mut Context<'m>,
    x: Value,
    axis: usize,
    ends: (&Dim, &Dim),
    is_wrap: bool,
) -> Result<Value, Stop<'m>> {
    let (low, high) = ends;
    if low.is(0) && high.is(0) {
        return Ok(x);
    }
    let ty = cx.ty(x)?;
    let extent = ty.shape[axis].clone();
    if let (Some(n), Some(low), Some(high)) = (extent.as_static(), low.as_static(), high.as_static()) {
        if n == 0 {
            return Err(Stop::Invalid(format!("axis {axis} of {ty} has no elements to continue")));
        }
        let period = if is_wrap { n } else { (2 * n - 2).max(1) };
        let at = |position: i64| {
            let at = (position - low).rem_euclid(period);
            i128::from(if at < n { at } else { period - at })
        };
        // Within one period the graph copies runs; beyond it, it gathers.
        let most = if is_wrap { n } else { n - 1 };
        if low > most || high > most {
            if low.max(high) > LONGEST {
                return Err(Stop::Refused(format!("{low} and {high} elements around {n} are too many")));
            }
            let positions: Vec<i128> = (0..low + n + high).map(at).collect();
            let positions = Literal::ints(DType::I64, &[positions.len()], &positions)
                .map_err(|error| Stop::Invalid(error.to_string()))?;
            let positions = cx.graph().constant(positions);
            return Ok(cx.graph().gather(x, positions, axis));
        }
    }
    let g = cx.graph();
    if !is_wrap {
        let ends =
            |end: &Dim| (0..ty.rank()).map(|a| if a == axis { end.clone() } else { 0.into() }).collect();
        let (low, high): (Vec<Dim>, Vec<Dim>) = (ends(low), ends(high));
        return Ok(g.pad(x, None, low, high, PadMode::Reflect));
    }
    let before = g.narrow(x, axis, extent - low.clone(), low.clone());
    let after = g.narrow(x, axis, 0, high.clone());
    Ok(g.concat(&[before, x, after], axis))
}

fn center_crop_pad<'m>(cx: &mut Context<'m>, node: &Node<'m>) -> Outcome<'m> {
    let shape = node.shape(0)?.clone();
    let targets = node.dims(cx, 1)?;
    let axes = match node.ints("axes")? {
        Some(axes) => node.axes_of(&axes, shape.rank())?,
        None => (0..shape.rank()).collect(),
    };
    same_count("extents", targets.len(), axes.len())?;
    let mut x = node.value(cx, 0)?;
    let (zero, two) = (Dim::from(0), Dim::from(2));
    let mut runs = vec![];
    let (mut low, mut high) = (vec![zero.clone(); shape.rank()], vec![zero.clone(); shape.rank()]);
    for (&axis, target) in axes.iter().zip(&targets) {
        let (graph, own) = (cx.graph(), &shape[axis]);
        let start = maximum(graph, &(own.clone() - target.clone()), &zero).floor_div(&two);
        runs.push(Run { axis, start, step: 1, len: minimum(graph, own, target) });
        let missing = maximum(graph, &(target.clone() - own.clone()), &zero);
        low[axis] = missing.floor_div(&two);
        high[axis] = missing - low[axis].clone();
    }
    x = cut(cx, x, runs)?;
    if low.iter().chain(&high).any(|end| !end.is(0)) {
        x = cx.graph().pad(x, None, low, high, PadMode::Constant);
    }
    for (&axis, target) in axes.iter().zip(&targets) {
        x = with_extent(cx, x, axis, target)?;
    }
    Ok(vec![cx.tensor_as(x, node.dtype(0)?)?])
}

#[cfg(test)]
mod tests {
    use crate::single::{ints, run, strings, tensor, text};
    use rlx_ir::DType::{F32, I64};

    #[test]
    fn padding_takes_away_goes_round_more_than_once_and_fills_strings() {
        let x = tensor(F32, &[3], &[1.0, 2.0, 3.0]);
        let pads = |low: f64, high: f64| tensor(I64, &[2], &[low, high]);
        let padded =
            |mode: &str, low, high| run("Pad", 19, &[text("mode", mode)], &[x.clone(), pads(low, high)]);
        let row = |values: &[f64]| Ok(tensor(F32, &[values.len()], values));
        assert_eq!(padded("constant", -1.0, 2.0), row(&[2.0, 3.0, 0.0, 0.0]));
        assert_eq!(padded("edge", 2.0, -1.0), row(&[1.0, 1.0, 1.0, 2.0]));
        assert_eq!(padded("wrap", 2.0, 4.0), row(&[2.0, 3.0, 1.0, 2.0, 3.0, 1.0, 2.0, 3.0, 1.0]));
        let reflected = [1.0, 2.0, 3.0, 2.0, 1.0, 2.0, 3.0, 2.0];
        assert_eq!(padded("reflect", 4.0, 1.0), row(&reflected));
        let texts = run("Pad", 19, &[], &[strings(&["b", "a"]), pads(1.0, 0.0)]);
        assert_eq!(texts, Ok(strings(&["", "b", "a"])));
    }

    #[test]
    fn first_versions_say_in_attributes_what_operands_say_now() {
        let x = tensor(F32, &[2, 3], &[0.0, 1.0, 2.0, 3.0, 4.0, 5.0]);
        let attributes = [ints("axes", &[1]), ints("starts", &[-2]), ints("ends", &[1000])];
        let cut = run("Slice", 1, &attributes, std::slice::from_ref(&x));
        assert_eq!(cut, Ok(tensor(F32, &[2, 2], &[1.0, 2.0, 4.0, 5.0])));
        let padded = run("Pad", 1, &[ints("paddings", &[0, 0, 0, -2])], &[x]);
        assert_eq!(padded, Ok(tensor(F32, &[2, 1], &[0.0, 3.0])));
    }
}
