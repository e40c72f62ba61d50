//! Softmax and norms over innermost axes, on the row kernels.
//!
//! The kernels compute in `f32`; 16-bit rows are widened into scratch, a few
//! rows at a time. A scale that is not given, is narrow or is stored minus one
//! is written to scratch first.

use super::view::BoundView;
use super::work::{Call, Work};
use crate::kernels::convert::Half;
use crate::kernels::{Context, KernelError, Plain, cast_bytes, cast_bytes_mut, rows};
use half::{bf16, f16};
use rlx_ir::{DType, Op};

/// The axes that an op computes over together, for the ops with a row kernel.
pub fn row_axes(op: &Op) -> Option<Vec<usize>> {
    match op {
        Op::Softmax(op) => Some(vec![op.axis]),
        Op::LogSoftmax(op) => Some(vec![op.axis]),
        Op::LayerNorm(op) => Some(op.axes.clone()),
        Op::RmsNorm(op) if !op.beta => Some(op.axes.clone()),
        _ => None,
    }
}

/// Dtypes of the row kernels.
pub fn is_row_dtype(dtype: DType) -> bool {
    matches!(dtype, DType::F32 | DType::F16 | DType::BF16)
}

#[derive(Clone, Copy, PartialEq)]
enum Kind {
    Softmax,
    LogSoftmax,
    LayerNorm,
    RmsNorm,
}

/// A kernel over dense rows.
pub struct RowStep {
    kind: Kind,
    width: usize,
    dtype: DType,
    epsilon: f32,
    /// Read slices of scale and shift.
    scale: Option<usize>,
    shift: Option<usize>,
    unit_offset: bool,
    threads: usize,
}

/// Elements of the groups of 16-bit rows.
const GROUP: usize = 8 << 10;

impl RowStep {
    /// The kernel for `op`, if its operands lie as it needs them.
    pub fn new(op: &Op, operands: &[BoundView], context: Context<'_>) -> Option<RowStep> {
        let dtype = operands[0].dtype;
        let dense = operands.iter().all(|view| view.is_dense() && view.dtype == dtype);
        let (axes, dims) = (row_axes(op)?, &operands[0].dims);
        let first = dims.len() - axes.len();
        if !dense || !is_row_dtype(dtype) || !(first..dims.len()).eq(axes) {
            return None;
        }
        let slot = |name| op.optional_given().iter().position(|given| *given == name).map(|index| index + 1);
        let (kind, epsilon, unit_offset) = match op {
            Op::Softmax(_) => (Kind::Softmax, 0.0, false),
            Op::LogSoftmax(_) => (Kind::LogSoftmax, 0.0, false),
            Op::LayerNorm(op) => (Kind::LayerNorm, op.eps.0, false),
            Op::RmsNorm(op) => (Kind::RmsNorm, op.eps.0, op.unit_offset),
            _ => return None,
        };
        Some(RowStep {
            kind,
            width: dims[first..].iter().product(),
            dtype,
            epsilon: epsilon as f32,
            scale: slot("gamma"),
            shift: slot("beta"),
            unit_offset,
            threads: context.pool().threads(),
        })
    }

    fn is_norm(&self) -> bool {
        matches!(self.kind, Kind::LayerNorm | Kind::RmsNorm)
    }

    /// Elements of a group of 16-bit rows.
    fn group(&self) -> usize {
        GROUP.div_ceil(self.width.max(1)) * self.width
    }

    /// Elements of scratch for one parameter.
    fn parameter(&self) -> usize {
        if self.is_norm() { self.width.next_multiple_of(16) } else { 0 }
    }

    /// Writes a parameter as `f32` to `to`.
    fn widen(
        &self,
        context: Context<'_>,
        slot: Option<usize>,
        reads: &[&[u8]],
        to: &mut [f32],
    ) -> Result<(), KernelError> {
        match slot {
            None => to.fill(1.0),
            Some(slot) => match self.dtype {
                DType::F32 => to.copy_from_slice(cast_bytes("parameter", reads[slot])?),
                DType::F16 => context.dispatch(Widen(cast_bytes::<f16>("parameter", reads[slot])?, &mut *to)),
                _ => context.dispatch(Widen(cast_bytes::<bf16>("parameter", reads[slot])?, &mut *to)),
            },
        }
        Ok(())
    }

    fn rows(&self, call: Call<'_, '_>) -> Result<(), KernelError> {
        if call.writes[0].is_empty() {
            return Ok(());
        }
        let scratch = cast_bytes_mut::<f32>("scratch", call.scratch)?;
        let (scale_room, scratch) = scratch.split_at_mut(self.parameter());
        let (shift_room, scratch) = scratch.split_at_mut(self.parameter());
        let as_is = self.dtype == DType::F32;
        let mut scale: &[f32] = &[];
        let mut shift: Option<&[f32]> = None;
        if self.is_norm() {
            scale = match self.scale {
                Some(slot) if as_is && !self.unit_offset => cast_bytes("gamma", call.reads[slot])?,
                slot => {
                    let room = &mut scale_room[..self.width];
                    self.widen(call.context, slot, call.reads, room)?;
                    if self.unit_offset {
                        room.iter_mut().for_each(|x| *x += 1.0);
                    }
                    room
                }
            };
            shift = match self.shift {
                None => None,
                Some(slot) if as_is => Some(cast_bytes("beta", call.reads[slot])?),
                slot => {
                    let room = &mut shift_room[..self.width];
                    self.widen(call.context, slot, call.reads, room)?;
                    Some(room)
                }
            };
        }
        let parameters = Parameters { step: self, scale, shift };
        match self.dtype {
            DType::F32 => {
                let input = cast_bytes("operand", call.reads[0])?;
                parameters.apply(call.context, Some(input), cast_bytes_mut("result", call.writes[0])?)
            }
            DType::F16 => {
                parameters.narrow::<f16>(call.context, call.inline, call.reads[0], call.writes[0], scratch)
            }
            _ => parameters.narrow::<bf16>(call.context, call.inline, call.reads[0], call.writes[0], scratch),
        }
    }
}

impl Work for RowStep {
    fn name(&self) -> &'static str {
        "rows"
    }

    fn scratch(&self) -> usize {
        let rows = if self.dtype == DType::F32 { 0 } else { self.group() * self.threads };
        (2 * self.parameter() + rows) * size_of::<f32>()
    }

    fn run(&self, call: Call<'_, '_>) -> Result<(), String> {
        self.rows(call).map_err(|error| error.to_string())
    }
}

struct Parameters<'a> {
    step: &'a RowStep,
    scale: &'a [f32],
    shift: Option<&'a [f32]>,
}

impl Parameters<'_> {
    fn apply(
        &self,
        context: Context<'_>,
        input: Option<&[f32]>,
        output: &mut [f32],
    ) -> Result<(), KernelError> {
        let RowStep { kind, width, epsilon, .. } = *self.step;
        match kind {
            Kind::Softmax => rows::softmax(context, width, input, output),
            Kind::LogSoftmax => rows::log_softmax(context, width, input, output),
            Kind::LayerNorm => rows::layer_norm(context, self.scale, self.shift, epsilon, input, output),
            Kind::RmsNorm => rows::rms_norm(context, self.scale, epsilon, input, output),
        }
    }

    /// Groups of 16-bit rows by way of scratch.
    fn narrow<H: Half + Plain>(
        &self,
        context: Context<'_>,
        inline: Context<'_>,
        input: &[u8],
        output: &mut [u8],
        scratch: &mut [f32],
    ) -> Result<(), KernelError> {
        let (input, output) = (cast_bytes::<H>("operand", input)?, cast_bytes_mut::<H>("result", output)?);
        let group = self.step.group();
        context.pool().run_pieces_with(output, group, scratch, |index, output, scratch| {
            let (start, wide) = (index * group, &mut scratch[..output.len()]);
            inline.dispatch(Widen(&input[start..start + output.len()], &mut *wide));
            self.apply(inline, None, wide).expect("a group is whole rows");
            inline.dispatch(Narrow(wide, output));
        });
        Ok(())
    }
}

struct Widen<'a, H>(&'a [H], &'a mut [f32]);

impl<H: Half> crate::simd::Kernel for Widen<'_, H> {
    type Output = ();
    #[inline(always)]
    fn run<S: crate::simd::Simd>(self, _: S) {
        H::widen_slice(self.0, self.1);
    }
}

struct Narrow<'a, H>(&'a [f32], &'a mut [H]);

impl<H: Half> crate::simd::Kernel for Narrow<'_, H> {
    type Output = ();
    #[inline(always)]
    fn run<S: crate::simd::Simd>(self, _: S) {
        H::narrow_slice(self.0, self.1);
    }
}
