//! Complex numbers in regions: a program on them as one on their parts.
//!
//! Parts are `f64` in between, so that the sums in a product lose nothing of a `c64`.

use rlx_ir::lir::View;
use rlx_ir::scalar::ScalarValue;
use rlx_ir::{DType, Dim, ScalarKind, ScalarOp, ScalarProgram};
use std::sync::Arc;

/// A program without complex values.
pub struct Parts {
    /// It has two inputs (outputs) for each complex one: real and imaginary part.
    pub program: Arc<ScalarProgram>,
}

/// The view itself, or those of the real and of the imaginary parts.
pub fn parts_of(view: &View) -> Vec<View> {
    if !view.dtype.is_complex() {
        return vec![view.clone()];
    }
    let part = |part: usize| {
        let twice = |dim: &Dim| dim.clone() * Dim::from(2);
        let mut layout = view.layout.clone();
        layout.offset = twice(&layout.offset) + Dim::from(part);
        layout.strides = layout.strides.iter().map(twice).collect();
        View { dtype: view.dtype.real(), layout, ..view.clone() }
    };
    vec![part(0), part(1)]
}

/// A value: itself, or both parts in `f64`.
type Value = (ScalarValue, Option<ScalarValue>);

impl Parts {
    /// `None` for a program without complex values, or that reads their bits.
    pub fn of(program: &ScalarProgram) -> Option<Parts> {
        let mut dtypes = program.instrs.iter().map(|instr| instr.dtype).chain(program.inputs.iter().copied());
        if !dtypes.any(DType::is_complex) {
            return None;
        }
        let halves = |dtype: &DType| vec![dtype.real(); 1 + usize::from(dtype.is_complex())];
        let mut p = ScalarProgram::new(program.inputs.iter().flat_map(halves).collect());
        let (mut values, mut next): (Vec<Value>, usize) = (vec![], 0);
        for dtype in &program.inputs {
            let first = p.input(next);
            next += 1;
            values.push(if dtype.is_complex() {
                let second = p.input(next);
                next += 1;
                (p.cast(first, DType::F64), Some(p.cast(second, DType::F64)))
            } else {
                (first, None)
            });
        }
        for instr in &program.instrs {
            let args: Vec<Value> = instr.args.iter().map(|&arg| values[arg as usize]).collect();
            values.push(instruction(&mut p, instr.kind, &args, instr.dtype)?);
        }
        for &output in &program.outputs {
            let (first, second) = values[output as usize];
            let dtype = program.dtype(ScalarValue(output)).real();
            for part in [Some(first), second].into_iter().flatten() {
                let part = if second.is_some() { p.cast(part, dtype) } else { part };
                p.outputs.push(part.0);
            }
        }
        Some(Parts { program: Arc::new(p) })
    }
}

fn instruction(p: &mut ScalarProgram, kind: ScalarKind, args: &[Value], dtype: DType) -> Option<Value> {
    use ScalarOp as S;
    let zero = |p: &mut ScalarProgram| p.constant(DType::F64, 0.0);
    Some(match (kind, args) {
        (ScalarKind::Float(_), _) if dtype.is_complex() => (p.push(kind, &[], DType::F64), Some(zero(p))),
        (ScalarKind::Op(op), &[(a, Some(i))]) => match op {
            S::Neg => (p.unary(S::Neg, a), Some(p.unary(S::Neg, i))),
            S::Real => (p.cast(a, dtype), None),
            S::Imag => (p.cast(i, dtype), None),
            S::Cast if dtype.is_complex() => {
                let mut round = |part| {
                    let part = p.cast(part, dtype.real());
                    p.cast(part, DType::F64)
                };
                (round(a), Some(round(i)))
            }
            S::Cast if dtype == DType::Bool => {
                let none = zero(p);
                let (re, im) = (p.binary(S::Ne, a, none), p.binary(S::Ne, i, none));
                (p.binary(S::Or, re, im), None)
            }
            S::Cast => (p.cast(a, dtype), None),
            _ => return None,
        },
        (ScalarKind::Op(S::Cast), &[(a, None)]) if dtype.is_complex() => {
            let part = p.cast(a, dtype.real());
            (p.cast(part, DType::F64), Some(zero(p)))
        }
        (ScalarKind::Op(S::Complex), &[(a, None), (b, None)]) => {
            (p.cast(a, DType::F64), Some(p.cast(b, DType::F64)))
        }
        (ScalarKind::Op(S::Select), &[(condition, _), (a, Some(i)), (b, Some(j))]) => {
            (p.select(condition, a, b), Some(p.select(condition, i, j)))
        }
        (ScalarKind::Op(op), &[(a, Some(i)), (b, Some(j))]) => return arithmetic(p, op, (a, i), (b, j)),
        (ScalarKind::Op(S::Bitcast), _) if dtype.is_complex() => return None,
        _ => {
            let args: Vec<ScalarValue> = args.iter().map(|arg| arg.0).collect();
            (p.push(kind, &args, dtype), None)
        }
    })
}

/// What two complex numbers give.
fn arithmetic(
    p: &mut ScalarProgram,
    op: ScalarOp,
    (a, i): (ScalarValue, ScalarValue),
    (b, j): (ScalarValue, ScalarValue),
) -> Option<Value> {
    use ScalarOp as S;
    Some(match op {
        S::Add | S::Sub => (p.binary(op, a, b), Some(p.binary(op, i, j))),
        S::Mul | S::Div => {
            let [ab, ij, aj, ib] = [(a, b), (i, j), (a, j), (i, b)].map(|(x, y)| p.binary(S::Mul, x, y));
            if op == S::Mul {
                return Some((p.binary(S::Sub, ab, ij), Some(p.binary(S::Add, aj, ib))));
            }
            let (bb, jj) = (p.binary(S::Mul, b, b), p.binary(S::Mul, j, j));
            let norm = p.binary(S::Add, bb, jj);
            let (re, im) = (p.binary(S::Add, ab, ij), p.binary(S::Sub, ib, aj));
            (p.binary(S::Div, re, norm), Some(p.binary(S::Div, im, norm)))
        }
        S::Eq | S::Ne => {
            let (re, im) = (p.binary(op, a, b), p.binary(op, i, j));
            (p.binary(if op == S::Eq { S::And } else { S::Or }, re, im), None)
        }
        _ => return None,
    })
}
