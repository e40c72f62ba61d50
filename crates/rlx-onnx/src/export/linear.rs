//! Products and determinants of matrices.

use super::scalar::Takes;
use super::table::Rule;
use super::writer::{Field, Use, Writer, Written};
use rlx_ir::{DType, Op, OpKind};

pub(super) const RULES: &[(OpKind, Rule)] = &[(OpKind::MatMul, matmul), (OpKind::Det, det)];

fn matmul(writer: &mut Writer<'_>, place: &Use<'_>) -> Written {
    let Op::MatMul(op) = place.op else { return Err(String::new()) };
    let dtype = place.dtype();
    let computed = Takes::Words.computed(dtype).ok_or_else(|| format!("MatMul takes no {dtype}"))?;
    let mut factors = vec![];
    for (index, transposed) in [op.transpose_a, op.transpose_b].into_iter().enumerate() {
        let mut name = writer.cast(place.operand(index), dtype, computed)?;
        if transposed {
            let rank = place.operands[index].ty.rank() as i64;
            let perm = (0..rank - 2).chain([rank - 1, rank - 2]).collect();
            name = writer.node("Transpose", &[&name], &[("perm", Field::Ints(perm))]);
        }
        factors.push(name);
    }
    let y = writer.node("MatMul", &[&factors[0], &factors[1]], &[]);
    Ok(vec![writer.cast(&y, computed, dtype)?])
}

fn det(writer: &mut Writer<'_>, place: &Use<'_>) -> Written {
    let dtype = place.dtype();
    if !matches!(dtype, DType::F32 | DType::F64) {
        return Err(format!("Det takes no {dtype}"));
    }
    Ok(vec![writer.node("Det", &[place.operand(0)], &[])])
}
