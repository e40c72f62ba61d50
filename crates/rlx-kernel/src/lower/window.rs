//! Sliding windows: convolution and pooling, one invocation for each result.
//!
//! A tap that falls outside the input takes no part; a position before its start is a large word, so that one
//! comparison finds both ends.

use super::emitter::Emitter;
use super::product;
use crate::error::KernelError;
use crate::ir::*;
use rlx_ir::Dim;
use rlx_ir::lir::Anchor;
use rlx_ir::ops::{Conv, Pool, PoolKind};

/// The windows along one axis.
struct Axis<'a> {
    stride: usize,
    dilation: usize,
    low: usize,
    high: usize,
    window: &'a Dim,
    extent: &'a Dim,
}

/// Where a tap lies.
struct Tap {
    /// Its coordinates in the window.
    inner: Vec<Value>,
    /// Its coordinates in the input.
    place: Vec<Value>,
    /// Is it in the input?
    inside: Value,
    /// Is it in the input or its padding?
    padded: Value,
}

/// Runs `body` for each tap of the window at `numbers`.
fn each_tap(
    e: &Emitter<'_>,
    axes: &[Axis<'_>],
    numbers: &[Value],
    body: impl FnOnce(&Emitter<'_>, Tap) -> Result<(), KernelError>,
) -> Result<(), KernelError> {
    let window: Vec<Dim> = axes.iter().map(|axis| axis.window.clone()).collect();
    let count = e.dim(&product(&window))?;
    e.upto(count, |e, tap| {
        let inner = e.coordinates(tap, &window)?;
        let (mut place, mut inside, mut padded) = (Vec::new(), e.b.bool(true), e.b.bool(true));
        for ((axis, &number), &at) in axes.iter().zip(numbers).zip(&inner) {
            let [stride, dilation, low] = [axis.stride, axis.dilation, axis.low].map(Dim::from);
            let (stride, dilation, low) = (e.dim(&stride)?, e.dim(&dilation)?, e.dim(&low)?);
            let from_padding = e.b.add(e.b.mul(number, stride), e.b.mul(at, dilation));
            let end = e.dim(&(axis.extent.clone() + Dim::from(axis.low) + Dim::from(axis.high)))?;
            padded = e.b.and(padded, e.b.lt(from_padding, end));
            let position = e.b.sub(from_padding, low);
            inside = e.b.and(inside, e.b.lt(position, e.dim(axis.extent)?));
            place.push(position);
        }
        body(e, Tap { inner, place, inside, padded })
    })
}

pub(super) fn conv(e: &Emitter<'_>, anchor: &Anchor, op: &Conv) -> Result<Dim, KernelError> {
    let [x, w] = [0, 1].map(|index| anchor.operands[index].ty().shape.dims().to_vec());
    let dims = anchor.results[0].shape.dims().to_vec();
    let ty = e.register(anchor.results[0].dtype)?;
    let axes: Vec<Axis<'_>> = (0..op.stride.len())
        .map(|axis| Axis {
            stride: op.stride[axis],
            dilation: op.dilation[axis],
            low: op.padding_low[axis],
            high: op.padding_high[axis],
            window: &w[axis + 2],
            extent: &x[axis + 2],
        })
        .collect();
    let outputs_of_group = w[0].floor_div(&Dim::from(op.groups));
    e.each(&dims, |e, id| {
        let coordinates = e.coordinates(id, &dims)?;
        let output = coordinates[1];
        let sum = e.local(e.b.literal(ty, 0));
        let channels = e.dim(&w[1])?;
        let first = e.b.mul(e.b.div(output, e.dim(&outputs_of_group)?), channels);
        e.upto(channels, |e, channel| {
            let from = e.b.add(first, channel);
            each_tap(e, &axes, &coordinates[2..], |e, tap| {
                e.when(tap.inside, |e| {
                    let place = [&[coordinates[0], from], tap.place.as_slice()].concat();
                    let weight = [&[output, channel], tap.inner.as_slice()].concat();
                    let (x, w) =
                        (e.operand(&anchor.operands[0], &place)?, e.operand(&anchor.operands[1], &weight)?);
                    e.accumulate(sum, BinaryOp::Add, e.b.mul(x, w));
                    Ok(())
                })
            })
        })?;
        let mut total = e.b.get(sum);
        if let Some(bias) = anchor.operands.get(2) {
            total = e.b.add(total, e.operand(bias, &[output])?);
        }
        e.results(&coordinates, &[total])
    })
}

pub(super) fn pool(e: &Emitter<'_>, anchor: &Anchor, op: &Pool) -> Result<Dim, KernelError> {
    let x = anchor.operands[0].ty().shape.dims().to_vec();
    let dims = anchor.results[0].shape.dims().to_vec();
    let ty = e.register(anchor.results[0].dtype)?;
    let window: Vec<Dim> = op.window.iter().map(|&window| Dim::from(window)).collect();
    let lead = dims.len() - window.len();
    let axes: Vec<Axis<'_>> = (0..window.len())
        .map(|axis| Axis {
            stride: op.stride[axis],
            dilation: op.dilation[axis],
            low: op.padding_low[axis],
            high: op.padding_high[axis],
            window: &window[axis],
            extent: &x[lead + axis],
        })
        .collect();
    let fold = match op.kind {
        PoolKind::Max => rlx_ir::ops::ReduceKind::Max,
        PoolKind::Min => rlx_ir::ops::ReduceKind::Min,
        PoolKind::Prod => rlx_ir::ops::ReduceKind::Prod,
        PoolKind::Mean | PoolKind::Sum | PoolKind::Lp => rlx_ir::ops::ReduceKind::Sum,
    };
    let norm = op.norm.map(|norm| norm.0 as f32);
    e.each(&dims, |e, id| {
        let coordinates = e.coordinates(id, &dims)?;
        let first = e.b.literal(ty, super::fold::identity(fold, ty));
        let (state, count) = (e.local(first), e.local(e.b.u32(0)));
        each_tap(e, &axes, &coordinates[lead..], |e, tap| {
            let counted = if op.count_include_pad { tap.padded } else { tap.inside };
            e.accumulate(count, BinaryOp::Add, e.b.cast(Scalar::U32, counted));
            e.when(tap.inside, |e| {
                let place = [&coordinates[..lead], tap.place.as_slice()].concat();
                let mut x = e.operand(&anchor.operands[0], &place)?;
                if let Some(norm) = norm {
                    x = e.b.binary(BinaryOp::Pow, e.b.unary(UnaryOp::Abs, x), e.b.f32(norm));
                }
                e.accumulate(state, super::fold::joining(fold), x);
                Ok(())
            })
        })?;
        let mut total = e.b.get(state);
        if op.kind == PoolKind::Mean {
            total = e.b.div(total, e.b.cast(ty, e.b.get(count)));
        }
        if let Some(norm) = norm {
            total = e.b.binary(BinaryOp::Pow, total, e.b.f32(1.0 / norm));
        }
        e.results(&coordinates, &[total])
    })
}
