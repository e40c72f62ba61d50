//! `matmul`: batched matrix product.

use crate::ops::prelude::*;

op! {
    /// `y[.., m, n] = sum_k a[.., m, k] b[.., k, n]`; leading dims broadcast.
    ///
    /// (C1) Both operands have one dtype: float, integer or complex.
    /// (C2) Both have rank 2 or more.
    /// (C3) The contracted extents agree.
    /// (C4) The leading dims broadcast.
    /// With `transpose_a` (`transpose_b`) the last two dims of `a` (`b`) are swapped first.
    /// Half-precision products accumulate in f32; integers wrap.
    matmul: MatMul(a, b) -> y {
        /// Is `a` given as [.., k, m]?
        transpose_a: bool,
        /// Is `b` given as [.., n, k]?
        transpose_b: bool,
    }
}

/// Leading dims, rows and columns of a matrix operand after its transpose.
fn matrix_dims(ty: &TensorType, transpose: bool) -> (Shape, Dim, Dim) {
    let dims = ty.shape.dims();
    let (lead, last) = dims.split_at(dims.len() - 2);
    let (rows, columns) = if transpose { (1, 0) } else { (0, 1) };
    (Shape::from(lead.to_vec()), last[rows].clone(), last[columns].clone())
}

impl OpSpec for MatMul {
    const MEANING: Meaning<Self> = Meaning::primitive(|op, operands| {
        let (a, b) = (operands[0], operands[1]);
        let types = [a.ty(), b.ty()];
        let inferred = op.infer(&[&types[0], &types[1]]).map_err(|v| Fault(v.to_string()))?;
        let dims = inferred[0].shape.as_static().unwrap_or_default();
        let contracted = a.dims()[a.dims().len() - if op.transpose_a { 2 } else { 1 }];
        let (numbers_a, numbers_b) = (a.numbers(), b.numbers());
        let mut results = vec![];
        for_each_index(&dims, |index| {
            let (lead, last) = index.split_at(index.len() - 2);
            let at = |literal: &Literal, transpose: bool, row: usize, column: usize| {
                let (lead_dims, matrix) = literal.dims().split_at(literal.dims().len() - 2);
                let (row, column) = if transpose { (column, row) } else { (row, column) };
                (broadcast_position(lead_dims, lead) * matrix[0] + row) * matrix[1] + column
            };
            let mut sum = zero(a.dtype());
            for k in 0..contracted {
                let x = numbers_a[at(a, op.transpose_a, last[0], k)];
                let y = numbers_b[at(b, op.transpose_b, k, last[1])];
                sum = multiply_add(a.dtype(), sum, x, y);
            }
            results.push(sum);
        });
        Ok(vec![Literal::from_numbers(a.dtype(), &dims, results)?])
    });
    const VJP: Vjp<Self> = Vjp::Rule(|op, g, given| {
        let dy = given.cotangent();
        let [a, b] = [0, 1].map(|index| g.conjugated(given.operands[index]));
        let (left, right) = (op.transpose_a, op.transpose_b);
        let da = match left {
            false => g.matmul(dy, b, false, !right),
            true => g.matmul(b, dy, right, true),
        };
        // A matrix shared by all batches has one product over all their rows, not a sum of products.
        let shared = !left && g.ty(b).rank() == 2;
        let [rows, dy] = if shared { [a, dy].map(|value| g.as_matrix(value)) } else { [a, dy] };
        let db = match right {
            false => g.matmul(rows, dy, !left, false),
            true => g.matmul(dy, rows, true, left),
        };
        let shapes = [a, b].map(|operand| g.ty(operand).shape.clone());
        Ok(vec![Some(g.sum_to(da, &shapes[0])), Some(g.sum_to(db, &shapes[1]))])
    });
    const JVP: Jvp<Self> = Jvp::Multilinear;
    const BATCH: Batch<Self> = Batch::elementwise();
    const ACCURACY: AccuracyRule<Self> = |_| Accuracy::Accumulated { terms: 256 };
    const SAMPLES: Samples<Self> = Samples::Listed(&[
        "f32[3, 4], f32[4, 5] {transpose_a = false, transpose_b = false}",
        "f32[4, 3], f32[4, 5] {transpose_a = true}",
        "f32[3, 4], f32[5, 4] {transpose_b = true}",
        "f64[4, 3], f64[5, 4] {transpose_a = true, transpose_b = true}",
        "f32[2, 1, 3, 4], f32[3, 4, 2]",
        "bf16[2, 3, 4], bf16[2, 5, 4] {transpose_b = true}",
        "f16[1, 4], f16[4, 1]",
        "f32[3, 0], f32[0, 2]",
        "f32[0, 3], f32[3, 2]",
        "i32[3, 4], i32[4, 5]",
        "u8[3, 4], u8[4, 5]",
        "c64[2, 2], c64[2, 2]",
    ]);

    fn infer(&self, operands: &[&TensorType]) -> Inferred {
        same_dtype("C1", operands)?;
        let dtype = operands[0].dtype;
        require!("C1", !dtype.is_storage_only() && dtype != DType::Bool, "matmul does not take {dtype}");
        require!("C2", operands.iter().all(|ty| ty.rank() >= 2), "both operands need rank 2 or more");
        let (lead_a, m, k) = matrix_dims(operands[0], self.transpose_a);
        let (lead_b, k_b, n) = matrix_dims(operands[1], self.transpose_b);
        require!("C3", k == k_b, "contracted extents differ: {k} and {k_b}");
        let lead = lead_a.broadcast(&lead_b).ok_or_else(|| Violation {
            constraint: "C4",
            message: format!("leading dims {lead_a} and {lead_b} do not broadcast"),
        })?;
        let mut dims = lead.into_dims();
        dims.extend([m, n]);
        Ok(vec![TensorType::new(dtype, dims)])
    }
}

/// Zero of the arithmetic that `dtype` uses.
pub(crate) fn zero(dtype: DType) -> Number {
    if dtype.is_complex() {
        Number::Complex(0.0, 0.0)
    } else if dtype.is_float() {
        Number::Float(0.0)
    } else {
        Number::Int(0)
    }
}

/// `sum + x y` in the arithmetic that `dtype` uses.
pub(crate) fn multiply_add(dtype: DType, sum: Number, x: Number, y: Number) -> Number {
    match (sum, x, y) {
        (Number::Float(s), Number::Float(x), Number::Float(y)) => Number::Float(s + x * y),
        (Number::Int(s), Number::Int(x), Number::Int(y)) => {
            Number::Int(wrap(dtype, s.wrapping_add(x.wrapping_mul(y))))
        }
        (Number::Complex(sr, si), Number::Complex(xr, xi), Number::Complex(yr, yi)) => {
            Number::Complex(sr + xr * yr - xi * yi, si + xr * yi + xi * yr)
        }
        _ => sum,
    }
}
