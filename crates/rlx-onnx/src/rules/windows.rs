//! Windows that slide over spatial axes: the attributes that convolutions and pools share.

use crate::context::Context;
use crate::dims::materialise;
use crate::node::{Node, Stop};
use rlx_ir::ops::PadMode;
use rlx_ir::{DType, Dim, Graph, Value};

/// How `auto_pad` pads.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum AutoPad {
    /// As `pads` says.
    Explicit,
    /// Not at all.
    Valid,
    /// So that the stride alone decides the extent; an odd element stands at the end.
    SameUpper,
    /// As `SameUpper`, with the odd element at the start.
    SameLower,
}

impl AutoPad {
    pub fn read<'m>(node: &Node<'m>) -> Result<AutoPad, Stop<'m>> {
        match node.string_or("auto_pad", "NOTSET")?.as_str() {
            "NOTSET" | "" => Ok(AutoPad::Explicit),
            "VALID" => Ok(AutoPad::Valid),
            "SAME_UPPER" => Ok(AutoPad::SameUpper),
            "SAME_LOWER" => Ok(AutoPad::SameLower),
            other => Err(Stop::Invalid(format!("auto_pad {other:?} is not known"))),
        }
    }

    pub fn is_same(self) -> bool {
        matches!(self, AutoPad::SameUpper | AutoPad::SameLower)
    }

    /// A padding of `total` elements as what stands before and what after.
    pub fn split(self, total: Dim) -> (Dim, Dim) {
        let less = total.floor_div(&Dim::from(2));
        let more = total - less.clone();
        if self == AutoPad::SameLower { (more, less) } else { (less, more) }
    }
}

/// Windows over some spatial axes.
pub(super) struct Windows {
    /// Elements of a window.
    pub window: Vec<Dim>,
    pub stride: Vec<usize>,
    pub dilation: Vec<usize>,
    /// Padding before and after each axis.
    pub pads: Vec<(Dim, Dim)>,
    pub auto_pad: AutoPad,
}

impl Windows {
    /// The attributes of a node whose windows have `window` elements, over axes of the given extents.
    pub fn read<'m>(node: &Node<'m>, extents: &[Dim], window: Vec<Dim>) -> Result<Windows, Stop<'m>> {
        let axes = extents.len();
        if window.len() != axes {
            return Err(Stop::Invalid(format!("the windows have {} axes, the operand {axes}", window.len())));
        }
        let stride = sizes(node, "strides", axes, 1)?;
        let dilation = sizes(node, "dilations", axes, 1)?;
        let auto_pad = AutoPad::read(node)?;
        let explicit = match auto_pad {
            AutoPad::Explicit => sizes(node, "pads", 2 * axes, 0)?,
            // Exporters write zeros beside it.
            _ => {
                node.without_influence("pads");
                vec![0; 2 * axes]
            }
        };
        let mut windows = Windows { window, stride, dilation, pads: vec![], auto_pad };
        for (axis, extent) in extents.iter().enumerate() {
            windows.pads.push(if auto_pad.is_same() {
                auto_pad.split(windows.same_padding(axis, extent))
            } else {
                (Dim::from(explicit[axis]), Dim::from(explicit[axes + axis]))
            });
        }
        Ok(windows)
    }

    /// Elements from the first to the last of a window.
    pub fn span(&self, axis: usize) -> Dim {
        (self.window[axis].clone() - Dim::from(1)) * Dim::from(self.dilation[axis]) + Dim::from(1)
    }

    /// The padding that makes `ceil(extent / stride)` windows.
    fn same_padding(&self, axis: usize, extent: &Dim) -> Dim {
        let stride = Dim::from(self.stride[axis]);
        let last = match self.stride[axis] {
            1 => Dim::from(-1) + extent.clone(),
            _ => (extent.ceil_div(&stride) - Dim::from(1)) * stride,
        };
        (last + self.span(axis) - extent.clone()).maximum(&Dim::from(0))
    }

    /// The window as numbers.
    pub fn fixed_window<'m>(&self) -> Result<Vec<usize>, Stop<'m>> {
        self.window.iter().map(|window| fixed(window, "the window")).collect()
    }

    /// The padding as numbers.
    pub fn fixed_pads<'m>(&self) -> Result<[Vec<usize>; 2], Stop<'m>> {
        let low = self.pads.iter().map(|(low, _)| fixed(low, "the padding")).collect::<Result<_, _>>()?;
        let high = self.pads.iter().map(|(_, high)| fixed(high, "the padding")).collect::<Result<_, _>>()?;
        Ok([low, high])
    }

    /// `x` with the paddings that are left for an op whose paddings are numbers: where some are not, `x` is padded
    /// with `value` here, 0 if absent.
    pub fn padded<'m>(
        &self,
        cx: &mut Context<'m>,
        x: Value,
        value: Option<Value>,
    ) -> (Value, [Vec<usize>; 2]) {
        if let Ok(pads) = self.fixed_pads() {
            return (x, pads);
        }
        let rank = cx.graph().try_ty(x).map_or(0, |ty| ty.rank());
        let leading = vec![Dim::from(0); rank.saturating_sub(self.pads.len())];
        let (low, high): (Vec<Dim>, Vec<Dim>) = self.pads.iter().cloned().unzip();
        let low = [leading.clone(), low].concat();
        let high = [leading, high].concat();
        let x = cx.graph().pad(x, value, low, high, PadMode::Constant);
        (x, [vec![0; self.pads.len()], vec![0; self.pads.len()]])
    }
}

/// Where the taps of all windows lie: `i64` and `bool` of shape [taps.., windows..].
pub(super) struct Places {
    /// Their number along each axis.
    coordinates: Vec<Value>,
    extents: Vec<Value>,
    /// Do they lie in the operand?
    pub inside: Value,
}

impl Places {
    /// Of `counts` windows over axes of the given extents.
    pub fn new<'m>(
        graph: &mut Graph,
        windows: &Windows,
        counts: &[Dim],
        extents: &[Dim],
    ) -> Result<Places, Stop<'m>> {
        let dims = [&windows.window[..], counts].concat();
        let truth = graph.scalar(DType::Bool, 1.0);
        let mut places =
            Places { coordinates: vec![], extents: vec![], inside: graph.expand(truth, dims.clone()) };
        for (axis, extent) in extents.iter().enumerate() {
            let tap = scaled_iota(graph, DType::I64, &dims, axis, windows.dilation[axis]);
            let start = scaled_iota(graph, DType::I64, &dims, counts.len() + axis, windows.stride[axis]);
            let sum = graph.add(tap, start);
            let low = materialise(graph, &[windows.pads[axis].0.clone()], 0)?;
            let coordinate = graph.sub(sum, low);
            let extent = materialise(graph, std::slice::from_ref(extent), 0)?;
            let zero = graph.scalar(DType::I64, 0.0);
            let (above, below) = (graph.compare_ge(coordinate, zero), graph.compare_lt(coordinate, extent));
            let within = graph.and(above, below);
            places.inside = graph.and(places.inside, within);
            places.coordinates.push(coordinate);
            places.extents.push(extent);
        }
        Ok(places)
    }

    /// The number of each tap when the operand is counted through, the last axis or the first one fastest.
    pub fn flat(&self, graph: &mut Graph, first_is_fastest: bool) -> Value {
        let pairs = self.coordinates.iter().copied().zip(self.extents.iter().copied());
        let join = |graph: &mut Graph, sum: Option<Value>, (coordinate, extent)| match sum {
            None => Some(coordinate),
            Some(sum) => {
                let outer = graph.mul(sum, extent);
                Some(graph.add(outer, coordinate))
            }
        };
        let flat = match first_is_fastest {
            true => pairs.rev().fold(None, |sum, pair| join(graph, sum, pair)),
            false => pairs.fold(None, |sum, pair| join(graph, sum, pair)),
        };
        flat.unwrap_or(Value::POISON)
    }
}

/// `factor` times the coordinate along `axis`.
pub(super) fn scaled_iota(
    graph: &mut Graph,
    dtype: DType,
    dims: &[Dim],
    axis: usize,
    factor: usize,
) -> Value {
    let index = graph.iota(dtype, dims.to_vec(), axis);
    let factor = graph.scalar(dtype, factor as f64);
    graph.mul(index, factor)
}

/// An attribute of `count` integers that are at least `least`, which is also the default.
pub(super) fn sizes<'m>(
    node: &Node<'m>,
    name: &str,
    count: usize,
    least: i64,
) -> Result<Vec<usize>, Stop<'m>> {
    let values = match node.ints(name)? {
        Some(values) if !values.is_empty() => values,
        _ => vec![least; count],
    };
    if values.len() != count {
        return Err(Stop::Invalid(format!("{name} has {} entries, expected {count}", values.len())));
    }
    let legal = |value: i64| usize::try_from(value).ok().filter(|_| value >= least && value < 1 << 31);
    let legal: Option<Vec<usize>> = values.iter().map(|&value| legal(value)).collect();
    legal.ok_or_else(|| Stop::Invalid(format!("{name} is {values:?}, an entry is out of range")))
}

/// The number that `dim` is.
pub(super) fn fixed<'m>(dim: &Dim, what: &str) -> Result<usize, Stop<'m>> {
    let number = dim.as_static().and_then(|number| usize::try_from(number).ok());
    number.ok_or_else(|| Stop::Refused(format!("{what} is {dim}, which is not known before a run")))
}

/// The extents behind batch and channels of operand `index`.
pub(super) fn spatial<'m>(node: &Node<'m>, index: usize) -> Result<Vec<Dim>, Stop<'m>> {
    let dims = node.shape(index)?.dims();
    match dims.get(2..) {
        Some(spatial) if !spatial.is_empty() => Ok(spatial.to_vec()),
        _ => Err(Stop::Invalid(format!("operand {index} is of rank {}, expected 3 or more", dims.len()))),
    }
}

/// Refuses more spatial axes than RLX slides windows over.
pub(super) fn check_axes<'m>(axes: usize) -> Result<(), Stop<'m>> {
    match axes {
        1..=3 => Ok(()),
        _ => Err(Stop::Refused(format!("windows over {axes} axes; 1 to 3 are supported"))),
    }
}

/// The window of a filter: the axes behind its first two, which `kernel_shape` may repeat.
pub(super) fn filter_window<'m>(node: &Node<'m>, index: usize) -> Result<Vec<Dim>, Stop<'m>> {
    let window = spatial(node, index)?;
    let stated = node.ints("kernel_shape")?.unwrap_or_default();
    let differs = |(found, stated): (&Dim, &i64)| found.as_static().is_some_and(|found| found != *stated);
    let fits = stated.is_empty() || stated.len() == window.len();
    if !fits || window.iter().zip(&stated).any(differs) {
        return Err(Stop::Invalid(format!("kernel_shape is {stated:?}, the filter has {window:?}")));
    }
    match stated.is_empty() {
        true => Ok(window),
        false => Ok(stated.into_iter().map(Dim::from).collect()),
    }
}
