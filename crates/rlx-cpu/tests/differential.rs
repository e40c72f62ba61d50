//! Random graphs of one op through the CPU executor, against the reference
//! interpreter: odd extents, operands that are transposed, cut out, repeated
//! or reversed views, every dtype of the kernels, NaN and infinities, empty
//! tensors, at every instruction set of this machine, on one and two threads.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

mod support;

use rlx_ir::accuracy::Accuracy;
use rlx_ir::ops::*;
use rlx_ir::{DType, Op, Value};
use support::{Case, assert_agreement, extent, extents, pick};

const FLOATS: [DType; 4] = [DType::F32, DType::BF16, DType::F16, DType::F64];
const NUMBERS: [DType; 12] = [
    DType::F32,
    DType::BF16,
    DType::F16,
    DType::F64,
    DType::I8,
    DType::U8,
    DType::I16,
    DType::U16,
    DType::I32,
    DType::U32,
    DType::I64,
    DType::U64,
];

#[test]
fn matrix_products() {
    assert_agreement(1, 60, |case| {
        let dtype = pick(case, &NUMBERS);
        let [m, n, k] = [extent(case, 70), extent(case, 70), extent(case, 70)];
        let op = MatMul { transpose_a: case.coin(), transpose_b: case.coin() };
        let lead = extents(case, 2, 3);
        let matrix =
            |rows, columns, transpose: bool| if transpose { [columns, rows] } else { [rows, columns] };
        let mut a = lead.clone();
        a.extend(matrix(m, k, op.transpose_a));
        let mut b = if case.coin() { lead } else { vec![] };
        b.extend(matrix(k, n, op.transpose_b));
        let a = case.operand("a", dtype, &a);
        let b = if case.coin() { case.weight("b", dtype, &b) } else { case.operand("b", dtype, &b) };
        let product = case.graph.push(op, &[a, b]);
        let y = epilogue(case, product);
        case.output("y", y);
        case.accuracy = Accuracy::Accumulated { terms: 256 };
    });
}

/// Sometimes an elementwise tail of a float product.
fn epilogue(case: &mut Case, product: Value) -> Value {
    let ty = case.graph.ty(product).clone();
    if !ty.dtype.is_float() || case.coin() {
        return product;
    }
    let dims = ty.shape.as_static().unwrap();
    case.rounded = Some(ty.dtype);
    let bias = case.operand("bias", ty.dtype, &dims[dims.len() - 1..]);
    let y = case.graph.add(product, bias);
    match case.below(4) {
        0 => case.graph.push(Activation::of(ActivationKind::Tanh), &[y]),
        1 => case.graph.cast(y, DType::F32),
        2 => {
            let residual = case.operand("residual", ty.dtype, &dims);
            case.graph.add(y, residual)
        }
        _ => y,
    }
}

#[test]
fn products_of_f32_and_widened_halves() {
    assert_agreement(2, 20, |case| {
        let narrow = pick(case, &[DType::BF16, DType::F16]);
        let [m, n, k] = [extent(case, 40), extent(case, 40), extent(case, 40)];
        let a = case.operand("a", DType::F32, &[m, k]);
        let b = case.operand("b", narrow, &[k, n]);
        let b = case.graph.cast(b, DType::F32);
        let y = case.graph.push(MatMul { transpose_a: false, transpose_b: false }, &[a, b]);
        case.output("y", y);
        case.accuracy = Accuracy::Accumulated { terms: 256 };
    });
}

#[test]
fn rows() {
    assert_agreement(3, 60, |case| {
        let dtype = pick(case, &FLOATS);
        let dims = extents(case, 4, 40);
        let axis = dims.len().saturating_sub(1);
        if dims.is_empty() {
            return;
        }
        let x = case.special("x", dtype, &dims);
        let (gamma, beta) = (case.coin(), case.coin());
        let mut operands = vec![x];
        let eps = rlx_ir::attr::Real(1e-5);
        let op: Op = match case.below(4) {
            0 => Softmax { axis }.into(),
            1 => LogSoftmax { axis }.into(),
            2 => LayerNorm { axes: vec![axis], eps, gamma, beta }.into(),
            _ => RmsNorm { axes: vec![axis], eps, unit_offset: gamma && case.coin(), gamma, beta: false }
                .into(),
        };
        for name in op.optional_given() {
            operands.push(case.operand(name, dtype, &dims[axis..]));
        }
        case.accuracy = Accuracy::Accumulated { terms: 256 };
        let y = case.graph.push(op, &operands);
        case.output("y", y);
    });
}

#[test]
fn reductions() {
    assert_agreement(4, 80, |case| {
        let kind = pick(case, ReduceKind::ALL);
        let dtype = match kind {
            ReduceKind::Any | ReduceKind::All => DType::Bool,
            ReduceKind::Mean => pick(case, &FLOATS),
            _ => pick(case, &NUMBERS),
        };
        let dims = extents(case, 4, if kind == ReduceKind::Prod { 6 } else { 40 });
        let axes: Vec<usize> = (0..dims.len()).filter(|_| case.coin()).collect();
        let x = case.special("x", dtype, &dims);
        let keep_dims = case.coin();
        let y = case.graph.push(Reduce { kind, axes, keep_dims }, &[x]);
        case.output("y", y);
        case.accuracy = Accuracy::Accumulated { terms: 1024 };
    });
}

#[test]
fn elementwise_regions() {
    assert_agreement(5, 120, |case| {
        let dtype = pick(case, &NUMBERS);
        let dims = if case.below(4) == 0 { vec![extent(case, 3), 1500] } else { extents(case, 4, 40) };
        let mut values = vec![case.special("x", dtype, &dims), case.special("y", dtype, &dims)];
        let row = case.operand("row", dtype, &dims[dims.len().saturating_sub(1)..]);
        values.push(row);
        for _ in 0..6 {
            let (a, b) = (case.below(values.len()), case.below(values.len()));
            let (a, b) = (values[a], values[b]);
            let kind = pick(case, &[BinaryKind::Add, BinaryKind::Sub, BinaryKind::Mul, BinaryKind::Max]);
            let sum = case.graph.push(Binary { kind }, &[a, b]);
            values.push(sum);
            let kind = pick(
                case,
                &[
                    ActivationKind::Gelu,
                    ActivationKind::Silu,
                    ActivationKind::Sigmoid,
                    ActivationKind::GeluApprox,
                    ActivationKind::Relu,
                ],
            );
            if dtype.is_float() && case.coin() {
                let y = case.graph.push(Activation::of(kind), &[sum]);
                values.push(y);
            }
        }
        let last = *values.last().unwrap();
        case.output("last", last);
        let to = pick(case, &NUMBERS);
        // Out of an integer's range, a conversion of what was computed wide and of what was
        // rounded may differ: only floats are compared.
        if to.is_float() && dtype != DType::U64 {
            let y = case.graph.cast(last, to);
            case.output("cast", y);
        }
        case.accuracy = Accuracy::Accumulated { terms: 64 };
        case.rounded = dtype.is_float().then_some(dtype);
    });
}

#[test]
fn copies_of_views() {
    assert_agreement(6, 80, |case| {
        let dtype = pick(case, &[DType::F32, DType::BF16, DType::I8, DType::I64, DType::C64, DType::Bool]);
        let dims = extents(case, 4, 70);
        let x = case.operand("x", dtype, &dims);
        let mut order: Vec<usize> = (0..dims.len()).collect();
        for index in (1..order.len()).rev() {
            order.swap(index, case.below(index + 1));
        }
        let y = case.graph.transpose(x, order);
        case.output("y", y);
    });
}
