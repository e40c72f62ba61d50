//! Definition of `pool` by simpler ops, and its derivative: every window laid
//! out along axes of its own.
//!
//! Nothing here depends on an extent being static.

use super::{Pool, PoolKind};
use crate::number::decode;
use crate::ops::prelude::*;

/// One window axis laid out: its axis in what it is cut from, the positions of its elements, `[windows, window]`,
/// and how far that is padded.
struct Cut {
    axis: usize,
    positions: Value,
    low: Dim,
    high: Dim,
}

impl Pool {
    pub(super) fn decompose(&self, g: &mut Graph, operands: &[Value]) -> Vec<Value> {
        let x = operands[0];
        let ty = g.ty(x).clone();
        let wide = g.accumulation_cast(x);
        let (x, kind, start) = match self.kind {
            PoolKind::Max => (x, ReduceKind::Max, self.lowest(g, ty.dtype)),
            PoolKind::Min => (x, ReduceKind::Min, self.lowest(g, ty.dtype)),
            PoolKind::Prod => (wide, ReduceKind::Prod, one(g, wide)),
            PoolKind::Sum | PoolKind::Mean => (wide, ReduceKind::Sum, zero(g, wide)),
            PoolKind::Lp => {
                let (magnitude, norm) = (g.abs(wide), self.norm(g, wide));
                (g.pow(magnitude, norm), ReduceKind::Sum, zero(g, wide))
            }
        };
        let cuts = self.cuts(g, &ty, &ty);
        let y = self.reduced(g, x, start, kind, &cuts);
        let y = match self.kind {
            PoolKind::Mean => {
                let count = self.count(g, &ty);
                let count = g.cast_to(count, g.ty(wide).dtype);
                g.div(y, count)
            }
            PoolKind::Lp => {
                let (norm, one) = (self.norm(g, wide), one(g, wide));
                let root = g.div(one, norm);
                g.pow(y, root)
            }
            _ => y,
        };
        vec![g.cast_to(y, ty.dtype)]
    }

    /// The first winner of each window takes its cotangent; other kinds go the way of their definition.
    pub(super) fn vjp(&self, g: &mut Graph, given: Backward<'_>) -> Derivatives {
        match self.kind {
            PoolKind::Max | PoolKind::Min => {
                Ok(vec![Some(g.max_pool2d_backward(self, given.operands[0], given.cotangent()))])
            }
            _ => Err("no window has a winner"),
        }
    }

    fn norm(&self, g: &mut Graph, like: Value) -> Value {
        let dtype = g.ty(like).dtype;
        g.scalar(dtype, self.norm.map_or(1.0, |norm| norm.0))
    }

    /// What no element of the dtype loses to.
    fn lowest(&self, g: &mut Graph, dtype: DType) -> Value {
        let is_max = self.kind == PoolKind::Max;
        let number = match dtype.int_range() {
            Some((low, high)) => Number::Int(if is_max { low } else { high }),
            None => Number::Float(if is_max { -greatest(dtype) } else { greatest(dtype) }),
        };
        let literal = Literal::from_numbers(dtype, &[], [number]).expect("one number is a literal of rank 0");
        g.constant(literal)
    }

    /// How the windows of a tensor of type `ty`, which stand over those of `like`, are laid out.
    fn cuts(&self, g: &mut Graph, ty: &TensorType, like: &TensorType) -> Vec<Cut> {
        let first = ty.rank() - self.window.len();
        let mut cuts = vec![];
        for (index, &window) in self.window.iter().enumerate() {
            let windows = self.window_axis(index);
            let extent = &like.shape[first + index];
            let count = windows.count("C4", extent, &Dim::from(window), self.ceil_mode);
            let count = count.expect("inference accepted the windows");
            let grid = vec![count.clone(), Dim::from(window)];
            let scaled = |g: &mut Graph, axis: usize, factor: usize| {
                let number = g.iota(DType::I64, grid.clone(), axis);
                let factor = g.scalar(DType::I64, factor as f64);
                g.mul(number, factor)
            };
            let (start, offset) = (scaled(g, 0, windows.stride), scaled(g, 1, windows.dilation));
            let one = Dim::from(1);
            let reach = (count - one.clone()) * Dim::from(windows.stride) + windows.span(&Dim::from(window));
            let low = Dim::from(windows.padding_low);
            let high = (reach - low.clone() - extent.clone()).maximum(&Dim::from(0));
            // Axes before it have been cut in two.
            cuts.push(Cut { axis: first + 2 * index, positions: g.add(start, offset), low, high });
        }
        cuts
    }

    /// `x[.., extents..]` as `[.., windows, window, ..]`, one pair per cut.
    fn laid_out(&self, g: &mut Graph, x: Value, start: Value, cuts: &[Cut]) -> Value {
        let Some(rank) = g.try_ty(x).map(TensorType::rank) else { return Value::POISON };
        let (mut low, mut high) = (vec![Dim::from(0); rank], vec![Dim::from(0); rank]);
        for (index, cut) in cuts.iter().enumerate() {
            low[cut.axis - index] = cut.low.clone();
            high[cut.axis - index] = cut.high.clone();
        }
        let mut x = g.pad(x, Some(start), low, high, PadMode::Constant);
        for cut in cuts {
            x = g.gather(x, cut.positions, cut.axis);
        }
        x
    }

    fn reduced(&self, g: &mut Graph, x: Value, start: Value, kind: ReduceKind, cuts: &[Cut]) -> Value {
        let windows = self.laid_out(g, x, start, cuts);
        g.reduce(windows, kind, cuts.iter().map(|cut| cut.axis + 1).collect::<Vec<_>>(), false)
    }

    /// Elements of each window that a mean divides by.
    fn count(&self, g: &mut Graph, ty: &TensorType) -> Value {
        let first = ty.rank() - self.window.len();
        let extents = TensorType::new(DType::F32, ty.shape.dims()[first..].to_vec());
        let mut ones = g.full(DType::F32, extents.shape.clone(), 1.0);
        let mut cuts = self.cuts(g, &extents, &extents);
        if self.count_include_pad {
            let (mut low, mut high) = (vec![], vec![]);
            for (axis, cut) in cuts.iter_mut().enumerate() {
                low.push(cut.low.clone());
                high.push(Dim::from(self.padding_high[axis]));
                cut.high = (cut.high.clone() - Dim::from(self.padding_high[axis])).maximum(&Dim::from(0));
                cut.low = Dim::from(0);
            }
            let one = one(g, ones);
            ones = g.pad(ones, Some(one), low, high, PadMode::Constant);
        }
        let zero = zero(g, ones);
        self.reduced(g, ones, zero, ReduceKind::Sum, &cuts)
    }
}

impl Graph {
    /// The derivative by `x` of a [`Pool`] of kind `max` or `min`, from that by its result: the first element
    /// of each window, in scan order, that is its extreme takes all.
    #[track_caller]
    pub fn max_pool2d_backward(&mut self, op: &Pool, x: Value, dy: Value) -> Value {
        let Some(ty) = self.try_ty(x).cloned() else { return Value::POISON };
        let start = op.lowest(self, ty.dtype);
        let cuts = op.cuts(self, &ty, &ty);
        let windows = op.laid_out(self, x, start, &cuts);
        let Some(dims) = self.try_ty(windows).map(|ty| ty.shape.dims().to_vec()) else {
            return Value::POISON;
        };
        // The windows last, as one axis.
        let inner: Vec<usize> = cuts.iter().map(|cut| cut.axis + 1).collect();
        let outer = (0..dims.len()).filter(|axis| !inner.contains(axis));
        let order: Vec<usize> = outer.chain(inner.iter().copied()).collect();
        let apart: Vec<Dim> = order.iter().map(|&axis| dims[axis].clone()).collect();
        let size: usize = op.window.iter().product();
        let lead = apart[..apart.len() - inner.len()].to_vec();
        let flat = self.transpose(windows, order.clone());
        let flat = self.reshape(flat, [lead.clone(), vec![Dim::from(size)]].concat());
        let kind = if op.kind == PoolKind::Min { ArgReduceKind::Min } else { ArgReduceKind::Max };
        let winner = self.arg_reduce(flat, kind, lead.len(), false, false, DType::I64);
        let hot = self.one_hot(winner, size, lead.len(), DType::Bool);
        let (zero, dy) = (zero(self, dy), self.unsqueeze(dy, -1));
        let spread = self.r#where(hot, dy, zero);
        let spread = self.reshape(spread, apart);
        let back: Vec<usize> = (0..order.len()).map(|axis| position(&order, axis)).collect();
        let mut dx = self.transpose(spread, back);
        for (index, cut) in cuts.iter().enumerate().rev() {
            let Some(mut dims) = self.try_ty(dx).map(|ty| ty.shape.dims().to_vec()) else { break };
            let extent = &ty.shape[cut.axis - index];
            let padded = cut.low.clone() + extent.clone() + cut.high.clone();
            dims.splice(cut.axis..cut.axis + 2, [padded]);
            let zeros = self.expand(zero, dims);
            let sum = self.scatter_add(zeros, cut.positions, dx, cut.axis);
            dx = self.narrow(sum, cut.axis, cut.low.clone(), extent.clone());
        }
        dx
    }
}

fn position(order: &[usize], axis: usize) -> usize {
    order.iter().position(|&other| other == axis).unwrap_or(axis)
}

fn zero(g: &mut Graph, like: Value) -> Value {
    let dtype = g.try_ty(like).map_or(DType::F32, |ty| ty.dtype);
    g.scalar(dtype, 0.0)
}

fn one(g: &mut Graph, like: Value) -> Value {
    let dtype = g.try_ty(like).map_or(DType::F32, |ty| ty.dtype);
    g.scalar(dtype, 1.0)
}

/// Infinity, or the largest number of a float dtype that has no infinity.
pub(super) fn greatest(dtype: DType) -> f64 {
    let infinity = Number::Float(f64::INFINITY);
    if infinity.cast(dtype) == infinity {
        return f64::INFINITY;
    }
    let numbers = (0..=u8::MAX).filter_map(|code| decode(dtype, &[code]).as_f64());
    numbers.filter(|number| number.is_finite()).fold(0.0, f64::max)
}
