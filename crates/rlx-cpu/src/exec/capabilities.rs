//! What the CPU claims.
//!
//! Every primitive runs: on a kernel where one exists for its dtype, else
//! through the reference evaluation. Composites are claimed only where a
//! kernel beats their decomposition.

use super::matmul::packed_bytes;
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
    let f32s = view.operands.iter().take(1).all(|ty| ty.dtype == DType::F32);
    let last = |axes: &[usize]| {
        let rank = view.operands[0].rank();
        let inner = (rank - axes.len()..rank).eq(axes.iter().copied());
        Claim::when(f32s && inner && !axes.is_empty(), || {
            "the kernel takes f32 over the innermost axes".into()
        })
    };
    match view.op {
        Op::Softmax(op) => last(&[op.axis]),
        _ => match super::rows::normalised_axes(view.op) {
            Some(axes) => last(&axes),
            None => Claim::No("no kernel beats the decomposition".into()),
        },
    }
}

fn scalar(_: ScalarOp, dtype: DType) -> Claim {
    Claim::when(class_of(dtype).is_some() || dtype.is_complex(), || format!("regions do not compute {dtype}"))
}

fn is_f32_matmul(view: &OpView<'_>) -> bool {
    matches!(view.op, Op::MatMul(_)) && view.operands.iter().all(|ty| ty.dtype == DType::F32)
}

fn accept(attachment: &Attachment<'_>) -> Claim {
    let program = attachment.program;
    let fits = attachment.before.is_none()
        && is_f32_matmul(&attachment.anchor)
        && program.output_dtypes() == [DType::F32]
        && program
            .instrs
            .iter()
            .map(|instr| instr.dtype)
            .chain(program.inputs.iter().copied())
            .all(|dtype| class_of(dtype).is_some());
    Claim::when(fits, || "only f32 matrix products take a region, after them".into())
}

/// Rows and columns of a right operand that is one matrix.
pub fn right_extents(op: &Op, ty: &TensorType) -> Option<[usize; 2]> {
    let Op::MatMul(matmul) = op else { return None };
    let [rows, columns] = <[usize; 2]>::try_from(ty.shape.as_static()?).ok()?;
    Some(if matmul.transpose_b { [columns, rows] } else { [rows, columns] })
}

fn pack_at(level: SimdLevel, view: &OpView<'_>, operand: usize) -> Option<Packing> {
    if operand != 1 || !is_f32_matmul(view) {
        return None;
    }
    let [rows, columns] = right_extents(view.op, view.operands[1])?;
    let bytes = packed_bytes(level, rows, columns).filter(|&bytes| bytes > 0)?;
    Some(Packing { key: format!("gemm-f32-{level:?}-{rows}x{columns}"), bytes })
}
