//! What the CPU claims.
//!
//! Every primitive runs: on a kernel where one exists for its dtype, else
//! through the reference evaluation. Composites are claimed only where a
//! kernel beats their decomposition.

use super::bind::{is_computed, is_widening};
use super::matmul::{packed_bytes, takes_region};
use super::rows::{is_row_dtype, row_axes};
use super::tape::class_of;
use crate::simd::SimdLevel;
use rlx_ir::{DType, Op, ScalarOp, TensorType};
use rlx_opt::{Attachment, Capabilities, Claim, OpView, Packing};

/// Capabilities at a SIMD level.
pub fn capabilities(level: SimdLevel) -> Capabilities {
    Capabilities {
        name: "cpu",
        fingerprint: format!("{level:?}"),
        alignment: 64,
        checks_values: true,
        claim,
        scalar,
        accept,
        pack: match level {
            SimdLevel::Portable => |view, operand| pack_at(SimdLevel::Portable, view, operand),
            SimdLevel::Avx2 => |view, operand| pack_at(SimdLevel::Avx2, view, operand),
            SimdLevel::Avx512 => |view, operand| pack_at(SimdLevel::Avx512, view, operand),
            SimdLevel::Avx512Dot => |view, operand| pack_at(SimdLevel::Avx512Dot, view, operand),
            SimdLevel::Avx512Brain => |view, operand| pack_at(SimdLevel::Avx512Brain, view, operand),
        },
    }
}

fn claim(view: &OpView<'_>) -> Claim {
    if view.op.meaning().decompose.is_none() {
        return Claim::Native;
    }
    let dtype = view.operands.first().map_or(DType::F32, |ty| ty.dtype);
    match row_axes(view.op) {
        Some(axes) => {
            let rank = view.operands[0].rank();
            let inner = !axes.is_empty() && (rank - axes.len()..rank).eq(axes);
            Claim::when(inner && is_row_dtype(dtype), || {
                "the kernel takes f32, f16 and bf16 over the innermost axes".into()
            })
        }
        None => composite(view, dtype),
    }
}

/// The composites with a kernel that is not one of rows; `dtype` is that of the first operand.
fn composite(view: &OpView<'_>, dtype: DType) -> Claim {
    let narrow = || format!("the kernel takes f32, f16 and bf16, not {dtype}");
    match view.op {
        Op::Attention(op) => {
            let mask = op.operand_index("mask").map_or(DType::Bool, |index| view.operands[index].dtype);
            let plain = !op.block_table && !op.sinks && (mask == DType::Bool || is_row_dtype(mask));
            Claim::when(plain && is_row_dtype(dtype), || "the kernel takes no pages, no sinks, no f64".into())
        }
        Op::Rope(_) => Claim::when(is_row_dtype(dtype), narrow),
        Op::Pool(_) => Claim::when(matches!(dtype, DType::F32 | DType::F64) || dtype.is_int(), || {
            format!("the kernel takes f32, f64 and integers, not {dtype}")
        }),
        Op::GroupedMatMul(_) => Claim::when(is_row_dtype(dtype) || dtype == DType::F64, narrow),
        Op::GatherElements(_) | Op::DynamicSlice(_) | Op::DynamicUpdateSlice(_) | Op::KvAppend(_) => {
            Claim::Native
        }
        Op::ScatterAdd(_) | Op::ScatterElements(_) => {
            Claim::when(!dtype.is_complex(), || format!("no kernel combines {dtype}"))
        }
        _ => Claim::No("no kernel beats the decomposition".into()),
    }
}

fn scalar(_: ScalarOp, dtype: DType) -> Claim {
    Claim::when(class_of(dtype).is_some() || dtype.is_complex(), || format!("regions do not compute {dtype}"))
}

fn accept(attachment: &Attachment<'_>) -> Claim {
    let (anchor, program) = (&attachment.anchor, attachment.program);
    let is_product = matches!(anchor.op, Op::MatMul(_));
    let is_sum = is_product || matches!(anchor.op, Op::Conv(_));
    let dtype = anchor.operands.first().map_or(DType::F32, |ty| ty.dtype);
    match attachment.before {
        None => {
            let fits = takes_region(dtype) && program.output_dtypes().len() == 1 && is_computed(program);
            Claim::when(is_sum && fits, || "no kernel takes this region after it".into())
        }
        Some(operand) => {
            let fits = is_product && operand == 1 && dtype == DType::F32 && is_widening(program);
            Claim::when(fits, || "only products of f32 widen their right operand".into())
        }
    }
}

/// Rows and columns of a right operand that is one matrix.
pub fn right_extents(op: &Op, ty: &TensorType) -> Option<[usize; 2]> {
    let Op::MatMul(matmul) = op else { return None };
    let [rows, columns] = <[usize; 2]>::try_from(ty.shape.as_static()?).ok()?;
    Some(if matmul.transpose_b { [columns, rows] } else { [rows, columns] })
}

fn pack_at(level: SimdLevel, view: &OpView<'_>, operand: usize) -> Option<Packing> {
    if operand != 1 {
        return None;
    }
    let ty = view.operands[1];
    let [rows, columns] = right_extents(view.op, ty)?;
    let bytes = packed_bytes(level, ty.dtype, rows, columns).filter(|&bytes| bytes > 0)?;
    Some(Packing { key: format!("gemm-{}-{level:?}-{rows}x{columns}", ty.dtype), bytes })
}
