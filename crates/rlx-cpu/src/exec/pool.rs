//! Pooling over dense rows of planes.

use super::view::BoundView;
use super::work::{Call, Work};
use crate::kernels::combine::{Combination, Element};
use crate::kernels::conv::Windows;
use crate::kernels::pool::{PoolPlane, Pooling};
use crate::kernels::{KernelError, cast_bytes, cast_bytes_mut};
use rlx_ir::DType;
use rlx_ir::ops::Pool;
use rlx_ir::ops::PoolKind;

/// Windows that make planes worth handing to a thread.
const PIECE: usize = 4 << 10;

/// A pooling with concrete extents.
pub struct PoolStep {
    pooling: Pooling,
    dtype: DType,
    x: BoundView,
    /// Number of axes before the windowed ones.
    lead: usize,
    axes: [Windows; 3],
}

/// What the windowed axes of an op say, last axis last.
pub struct WindowLists<'a> {
    /// Elements of a window.
    pub window: &'a [usize],
    /// From one window to the next.
    pub stride: &'a [usize],
    /// Padding before the input.
    pub padding: &'a [usize],
    /// Between the elements of a window.
    pub dilation: &'a [usize],
}

impl WindowLists<'_> {
    /// The windows over the last axes of `x`, `counts` of them along each; three axes in all.
    pub fn axes(&self, x: &BoundView, counts: &[usize]) -> [Windows; 3] {
        let mut axes = [Windows::NONE; 3];
        let (given, rank) = (self.window.len(), x.dims.len());
        for (axis, windows) in axes[3 - given..].iter_mut().enumerate() {
            *windows = Windows {
                extent: x.dims[rank - given + axis],
                step: x.strides[rank - given + axis],
                count: counts[counts.len() - given + axis],
                window: self.window[axis],
                stride: self.stride[axis],
                dilation: self.dilation[axis],
                padding: self.padding[axis],
            };
        }
        axes
    }
}

impl PoolStep {
    /// The kernel for `op`.
    pub fn new(op: &Pool, x: &BoundView, output: &BoundView) -> Option<PoolStep> {
        let known = matches!(x.dtype, DType::F32 | DType::F64) || x.dtype.is_int();
        if !known || x.dtype.size_of().is_none() {
            return None;
        }
        let lists = WindowLists {
            window: &op.window,
            stride: &op.stride,
            padding: &op.padding_low,
            dilation: &op.dilation,
        };
        let mut after = [0; 3];
        after[3 - op.window.len()..].copy_from_slice(&op.padding_high);
        Some(PoolStep {
            pooling: match op.kind {
                PoolKind::Max => Pooling::Plain(Combination::Maximum),
                PoolKind::Min => Pooling::Plain(Combination::Minimum),
                PoolKind::Sum => Pooling::Plain(Combination::Sum),
                PoolKind::Prod => Pooling::Plain(Combination::Product),
                PoolKind::Mean => Pooling::Mean { counted_padding: op.count_include_pad.then_some(after) },
                PoolKind::Lp => Pooling::Power(op.norm.map_or(1.0, |norm| norm.0)),
            },
            dtype: x.dtype,
            x: x.clone(),
            lead: x.dims.len() - op.window.len(),
            axes: lists.axes(x, &output.dims),
        })
    }

    /// First element of plane `number`.
    fn start(&self, number: usize) -> usize {
        let (mut rest, mut position) = (number, self.x.offset as isize);
        for axis in (0..self.lead).rev() {
            position += (rest % self.x.dims[axis]) as isize * self.x.strides[axis];
            rest /= self.x.dims[axis];
        }
        position as usize
    }

    fn planes<T: Element>(&self, call: Call<'_, '_>) -> Result<(), KernelError> {
        let data = cast_bytes::<T>("operand", call.reads[0])?;
        let output = cast_bytes_mut::<T>("result", call.writes[0])?;
        let windows: usize = self.axes.iter().map(|axis| axis.count).product();
        if output.is_empty() {
            return Ok(());
        }
        let planes = PIECE.div_ceil(windows);
        call.context.pool().run_pieces(output, planes * windows, |piece, output| {
            for (index, to) in output.chunks_exact_mut(windows).enumerate() {
                let offset = self.start(piece * planes + index);
                let (pooling, axes) = (self.pooling, self.axes);
                PoolPlane { pooling, data, offset, axes, to }.run(call.inline);
            }
        });
        Ok(())
    }
}

impl Work for PoolStep {
    fn name(&self) -> &'static str {
        "pool"
    }

    fn run(&self, call: Call<'_, '_>) -> Result<(), String> {
        with_element!(self.dtype, [F32 F64], T => self.planes::<T>(call)).map_err(|error| error.to_string())
    }
}
