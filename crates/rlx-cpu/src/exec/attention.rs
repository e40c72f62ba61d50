//! `attention` steps on the blockwise kernel.

use super::view::BoundView;
use super::work::{Call, Work};
use crate::kernels::attention::{
    Alignment as KernelAlignment, Attention, Heads, HeadsMut, Mask, Shape, attention, scratch_bytes,
};
use crate::kernels::{Context, KernelError, cast_bytes, cast_bytes_mut};
use rlx_ir::DType;
use rlx_ir::number::decode;
use rlx_ir::ops::attention::attention::{Alignment, Attention as Op, AttentionLayout, MaskKind};

/// Strides of batch, head and position of one operand, and where it starts.
struct Placed {
    offset: usize,
    strides: [usize; 3],
}

/// An attention with concrete extents.
pub struct AttentionStep {
    op: Op,
    shape: Shape,
    query: Placed,
    key: Placed,
    value: Placed,
    output: Placed,
    /// The mask with the number of its operand and its strides.
    mask: Option<(BoundView, usize, [usize; 4])>,
    /// The lengths with the number of their operand.
    lengths: Option<(BoundView, usize)>,
    scale: f32,
    scratch: usize,
}

/// `[batch, heads, positions, depth]` extents and strides of an operand.
fn split(view: &BoundView, layout: AttentionLayout, heads: usize) -> Option<([usize; 4], [isize; 4])> {
    let (d, s) = (&view.dims, &view.strides);
    Some(match layout {
        AttentionLayout::Bhsd => ([d[0], d[1], d[2], d[3]], [s[0], s[1], s[2], s[3]]),
        AttentionLayout::Bshd => ([d[0], d[2], d[1], d[3]], [s[0], s[2], s[1], s[3]]),
        AttentionLayout::Packed => {
            let depth = d[2].checked_div(heads)?;
            ([d[0], heads, d[1], depth], [s[0], s[2] * depth as isize, s[1], s[2]])
        }
    })
}

fn placed(view: &BoundView, dims: [usize; 4], strides: [isize; 4]) -> Option<Placed> {
    if dims[3] > 1 && strides[3] != 1 {
        return None;
    }
    let stride = |axis: usize| if dims[axis] == 1 { Some(0) } else { usize::try_from(strides[axis]).ok() };
    Some(Placed { offset: view.offset, strides: [stride(0)?, stride(1)?, stride(2)?] })
}

impl AttentionStep {
    /// The kernel for `op`, if its operands lie as it needs them.
    pub fn new(
        op: &Op,
        operands: &[&BoundView],
        output: &BoundView,
        context: Context<'_>,
    ) -> Option<AttentionStep> {
        let floats = operands[..3].iter().all(|view| view.dtype == DType::F32);
        if !floats || op.block_table || op.sinks {
            return None;
        }
        let (q_dims, q_strides) = split(operands[0], op.layout, op.num_heads)?;
        let (k_dims, k_strides) = split(operands[1], op.layout, op.num_kv_heads)?;
        let (v_dims, v_strides) = split(operands[2], op.layout, op.num_kv_heads)?;
        let (o_dims, o_strides) = split(output, op.layout, op.num_heads)?;
        let shape = Shape {
            batches: q_dims[0],
            query_heads: q_dims[1],
            key_heads: k_dims[1],
            queries: q_dims[2],
            keys: k_dims[2],
            depth: q_dims[3],
            value_depth: v_dims[3],
        };
        let mask = match op.operand_index("mask") {
            None => None,
            Some(index) => {
                let view = operands[index];
                let full = [shape.batches, shape.query_heads, shape.queries, shape.keys];
                let lead = 4 - view.dims.len();
                let mut strides = [0usize; 4];
                for (axis, &dim) in view.dims.iter().enumerate() {
                    if dim == full[axis + lead] && dim > 1 {
                        strides[axis + lead] = usize::try_from(view.strides[axis]).ok()?;
                    }
                }
                if !matches!(view.dtype, DType::Bool | DType::F32) {
                    return None;
                }
                Some((view.clone(), index, strides))
            }
        };
        let scale = op.scale.map_or_else(|| 1.0 / (shape.depth as f64).sqrt(), |scale| scale.0) as f32;
        Some(AttentionStep {
            query: placed(operands[0], q_dims, q_strides)?,
            key: placed(operands[1], k_dims, k_strides)?,
            value: placed(operands[2], v_dims, v_strides)?,
            output: placed(output, o_dims, o_strides)?,
            lengths: op.operand_index("kv_lengths").map(|index| (operands[index].clone(), index)),
            scratch: scratch_bytes(context.level(), context.pool().threads(), &shape).next_multiple_of(64),
            op: op.clone(),
            shape,
            mask,
            scale,
        })
    }

    fn attend(
        &self,
        context: Context<'_>,
        reads: &[&[u8]],
        writes: &mut [&mut [u8]],
        scratch: &mut [u8],
    ) -> Result<(), String> {
        let (first, rest) = writes.split_first_mut().ok_or("an attention without result")?;
        let heads = |slot: usize, placed: &Placed| -> Result<Heads<'_>, KernelError> {
            let data: &[f32] = cast_bytes("operand", reads[slot])?;
            Ok(Heads { data: data.get(placed.offset..).unwrap_or_default(), strides: placed.strides })
        };
        let lengths = self.lengths.as_ref().map(|(view, slot)| self.read_lengths(view, reads[*slot]));
        let lengths = lengths.transpose()?;
        let length_of = lengths.as_ref().map(|lengths| move |batch: usize| lengths.get(batch));
        let mask = match &self.mask {
            Some((view, slot, strides)) if view.dtype == DType::Bool => {
                Mask::Keep { data: reads[*slot].get(view.offset..).unwrap_or_default(), strides: *strides }
            }
            Some((view, slot, strides)) => {
                let data: &[f32] = cast_bytes("mask", reads[*slot]).map_err(|error| error.to_string())?;
                Mask::Bias { data: data.get(view.offset..).unwrap_or_default(), strides: *strides }
            }
            None => Mask::None,
        };
        let (before, after) = match self.op.mask_kind {
            MaskKind::Causal => (None, Some(0)),
            MaskKind::SlidingWindow => (Some(self.op.window - 1), Some(0)),
            _ => (None, None),
        };
        let mut run = || -> Result<(), KernelError> {
            let output: &mut [f32] = cast_bytes_mut("result", first)?;
            let output = output.get_mut(self.output.offset..).unwrap_or_default();
            let log_sum_exp = match rest.first_mut() {
                Some(bytes) => Some(cast_bytes_mut::<f32>("lse", bytes)?),
                None => None,
            };
            attention(
                context,
                Attention {
                    shape: self.shape,
                    query: heads(0, &self.query)?,
                    key: heads(1, &self.key)?,
                    value: heads(2, &self.value)?,
                    output: HeadsMut { data: output, strides: self.output.strides },
                    scale: self.scale,
                    softcap: self.op.softcap.map(|softcap| softcap.0 as f32),
                    alignment: match self.op.alignment {
                        Alignment::Start => KernelAlignment::Start,
                        Alignment::End => KernelAlignment::End,
                    },
                    before,
                    after,
                    mask,
                    key_lengths: length_of.as_ref().map(|f| f as &(dyn Fn(usize) -> usize + Sync)),
                    log_sum_exp,
                    scratch,
                },
            )
        };
        run().map_err(|error| error.to_string())
    }

    fn read_lengths(&self, view: &BoundView, bytes: &[u8]) -> Result<Lengths, String> {
        let mut lengths = Lengths { few: [0; 16], many: vec![] };
        let width = view.dtype.size_of().unwrap_or(1);
        for batch in 0..self.shape.batches {
            let position = view.offset as isize + batch as isize * view.strides[0];
            let length = match decode(view.dtype, &bytes[position as usize * width..]) {
                rlx_ir::Number::Int(length) => length,
                _ => -1,
            };
            let keys = self.shape.keys;
            let checked = usize::try_from(length).ok().filter(|&length| length <= keys);
            lengths.set(
                batch,
                checked.ok_or_else(|| format!("kv_lengths[{batch}] is {length}, outside 0..={keys}"))?,
            );
        }
        Ok(lengths)
    }
}

impl Work for AttentionStep {
    fn name(&self) -> &'static str {
        "attention"
    }

    fn scratch(&self) -> usize {
        self.scratch
    }

    fn run(&self, call: Call<'_, '_>) -> Result<(), String> {
        self.attend(call.context, call.reads, call.writes, call.scratch)
    }
}

/// Key lengths, on the stack for usual batches.
struct Lengths {
    few: [usize; 16],
    many: Vec<usize>,
}

impl Lengths {
    fn set(&mut self, batch: usize, length: usize) {
        match self.few.get_mut(batch) {
            Some(slot) => *slot = length,
            None => self.many.push(length),
        }
    }
    fn get(&self, batch: usize) -> usize {
        self.few.get(batch).or_else(|| self.many.get(batch - 16)).copied().unwrap_or(0)
    }
}
