//! `dot_general`: products summed over any axes, with any axes in common.

use crate::ops::linear::matmul::{multiply_add, zero};
use crate::ops::prelude::*;

op! {
    /// `y[b, m, n] = sum_k lhs[b, m, k] rhs[b, k, n]` with each of `b`, `m`, `n`, `k` any list of axes.
    ///
    /// Axes of the result: the batch axes in the order listed, then those of `lhs` that are in no
    /// list, then those of `rhs` that are in no list, each in order.
    /// (C1) Both operands have one dtype: float, integer or complex.
    /// (C2) The two contracting lists, and the two batch lists, are of one length.
    /// (C3) The lists of one operand name axes of it, each at most once.
    /// (C4) The extents of paired axes agree.
    /// Half-precision products accumulate in f32; integers wrap. Source: StableHLO dot_general.
    dot_general: DotGeneral(lhs, rhs) -> y {
        /// Axes of `lhs` that are summed over.
        lhs_contracting: Vec<usize>,
        /// Axes of `rhs` that are summed over, paired with those of `lhs`.
        rhs_contracting: Vec<usize>,
        /// Axes of `lhs` that both operands share.
        lhs_batch: Vec<usize>,
        /// Axes of `rhs` that both operands share, paired with those of `lhs`.
        rhs_batch: Vec<usize>,
    }
}

/// Axes of an operand in neither list, in order.
fn free_axes(rank: usize, contracting: &[usize], batch: &[usize]) -> Vec<usize> {
    (0..rank).filter(|axis| !contracting.contains(axis) && !batch.contains(axis)).collect()
}

fn check_lists(
    operand: &str,
    ty: &TensorType,
    contracting: &[usize],
    batch: &[usize],
) -> Result<(), Violation> {
    let mut seen = vec![false; ty.rank()];
    for &axis in contracting.iter().chain(batch) {
        require!("C3", axis < ty.rank(), "axis {axis} is out of range for {operand} of type {ty}");
        require!("C3", !seen[axis], "axis {axis} of {operand} is listed twice");
        seen[axis] = true;
    }
    Ok(())
}

fn check_pairs(what: &str, types: &[&TensorType], lhs: &[usize], rhs: &[usize]) -> Result<(), Violation> {
    for (&left, &right) in lhs.iter().zip(rhs) {
        let (a, b) = (&types[0].shape[left], &types[1].shape[right]);
        require!(
            "C4",
            a == b,
            "{what} extents differ: axis {left} of lhs has {a}, axis {right} of rhs has {b}"
        );
    }
    Ok(())
}

impl OpSpec for DotGeneral {
    const MEANING: Meaning<Self> = Meaning::composite_with_eval(Self::decompose, Self::eval);
    const VJP: Vjp<Self> = Vjp::ViaDecomposition;
    const JVP: Jvp<Self> = Jvp::Multilinear;
    const BATCH: Batch<Self> = Batch::ViaDecomposition;
    const ACCURACY: AccuracyRule<Self> = |_| Accuracy::Accumulated { terms: 256 };
    const SAMPLES: Samples<Self> = Samples::Listed(&[
        "f32[3, 4], f32[4, 5] {lhs_contracting = [1], rhs_contracting = [0], lhs_batch = [], rhs_batch = []}",
        "f32[2, 3, 4, 5], f32[2, 3, 6, 5] {lhs_contracting = [3], rhs_contracting = [3], lhs_batch = [0, \
         1], rhs_batch = [0, 1]}",
        "f32[4, 3, 2], f32[2, 5, 4] {lhs_contracting = [0], rhs_contracting = [2], lhs_batch = [2], \
         rhs_batch = [0]}",
        "f64[2, 3, 4], f64[4, 3, 5] {lhs_contracting = [1, 2], rhs_contracting = [1, 0]}",
        "f32[2, 3], f32[3, 2] {lhs_contracting = [], rhs_contracting = [], lhs_batch = [0], rhs_batch = [1]}",
        "f32[3], f32[4] {lhs_contracting = [], rhs_contracting = []}",
        "f32[5], f32[5] {lhs_contracting = [0]}",
        "f32[], f32[3] {lhs_contracting = [], rhs_contracting = []}",
        "bf16[2, 3, 4], bf16[3, 2] {lhs_contracting = [0, 1], rhs_contracting = [1, 0]}",
        "f16[2, 3], f16[2, 3] {lhs_contracting = [], rhs_contracting = [], lhs_batch = [1, 0], \
         rhs_batch = [1, 0]}",
        "f32[2, 0], f32[0, 3]",
        "f32[0, 3], f32[3, 2]",
        "i32[3, 4], i32[5, 4] {rhs_contracting = [1]}",
        "u8[3, 4], u8[4, 2]",
        "c64[2, 2], c64[2, 2] {lhs_contracting = [0]}",
    ]);

    fn infer(&self, operands: &[&TensorType]) -> Inferred {
        same_dtype("C1", operands)?;
        let dtype = operands[0].dtype;
        require!("C1", !dtype.is_storage_only() && dtype != DType::Bool, "dot_general does not take {dtype}");
        for (what, lhs, rhs) in [
            ("contracting", &self.lhs_contracting, &self.rhs_contracting),
            ("batch", &self.lhs_batch, &self.rhs_batch),
        ] {
            let (left, right) = (lhs.len(), rhs.len());
            require!("C2", left == right, "{left} {what} axes of lhs, but {right} of rhs");
        }
        check_lists("lhs", operands[0], &self.lhs_contracting, &self.lhs_batch)?;
        check_lists("rhs", operands[1], &self.rhs_contracting, &self.rhs_batch)?;
        check_pairs("contracting", operands, &self.lhs_contracting, &self.rhs_contracting)?;
        check_pairs("batch", operands, &self.lhs_batch, &self.rhs_batch)?;
        let [lhs, rhs] = self.result_axes(operands[0].rank(), operands[1].rank());
        let left = lhs.iter().map(|&axis| operands[0].shape[axis].clone());
        let right = rhs.iter().map(|&axis| operands[1].shape[axis].clone());
        Ok(vec![TensorType::new(dtype, left.chain(right).collect::<Vec<_>>())])
    }
}

impl DotGeneral {
    /// Axes of `lhs` and of `rhs` that make the result, in order; batch axes count for `lhs`.
    fn result_axes(&self, lhs_rank: usize, rhs_rank: usize) -> [Vec<usize>; 2] {
        let mut lhs = self.lhs_batch.clone();
        lhs.extend(free_axes(lhs_rank, &self.lhs_contracting, &self.lhs_batch));
        [lhs, free_axes(rhs_rank, &self.rhs_contracting, &self.rhs_batch)]
    }

    fn decompose(&self, g: &mut Graph, operands: &[Value]) -> Vec<Value> {
        let (lhs, rhs) = (g.ty(operands[0]).clone(), g.ty(operands[1]).clone());
        let Ok(result) = self.infer(&[&lhs, &rhs]) else { return vec![] };
        let left = matrices(g, operands[0], &self.lhs_batch, &self.lhs_contracting, false);
        let right = matrices(g, operands[1], &self.rhs_batch, &self.rhs_contracting, true);
        let product = g.matmul(left.0, right.0, left.1, right.1);
        vec![g.reshape(product, result[0].shape.clone())]
    }

    fn eval(&self, operands: &[&Literal]) -> Evaluated {
        let (lhs, rhs) = (operands[0], operands[1]);
        let types = [lhs.ty(), rhs.ty()];
        let inferred =
            self.infer(&[&types[0], &types[1]]).map_err(|violation| Fault(violation.to_string()))?;
        let dims = inferred[0].shape.as_static().unwrap_or_default();
        let [lhs_axes, rhs_axes] = self.result_axes(lhs.dims().len(), rhs.dims().len());
        let summed: Vec<usize> = self.lhs_contracting.iter().map(|&axis| lhs.dims()[axis]).collect();
        let (numbers_lhs, numbers_rhs) = (lhs.numbers(), rhs.numbers());
        let position = |dims: &[usize], coordinates: &[(usize, usize)]| {
            let mut index = vec![0; dims.len()];
            for &(axis, at) in coordinates {
                index[axis] = at;
            }
            dims.iter().zip(&index).fold(0, |position, (&dim, &at)| position * dim + at)
        };
        let pair = |axes: &[usize], index: &[usize]| -> Vec<(usize, usize)> {
            axes.iter().copied().zip(index.iter().copied()).collect()
        };
        let mut results = vec![];
        for_each_index(&dims, |index| {
            let (left_index, right_index) = index.split_at(lhs_axes.len());
            let left = pair(&lhs_axes, left_index);
            let mut right = pair(&rhs_axes, right_index);
            right.extend(pair(&self.rhs_batch, left_index));
            let mut sum = zero(lhs.dtype());
            for_each_index(&summed, |k| {
                let x = numbers_lhs
                    [position(lhs.dims(), &[left.clone(), pair(&self.lhs_contracting, k)].concat())];
                let y = numbers_rhs
                    [position(rhs.dims(), &[right.clone(), pair(&self.rhs_contracting, k)].concat())];
                sum = multiply_add(lhs.dtype(), sum, x, y);
            });
            results.push(sum);
        });
        Ok(vec![Literal::from_numbers(lhs.dtype(), &dims, results)?])
    }
}

/// `x` as matrices under its batch axes: rows are its free axes and columns its
/// contracting ones, or with `free_last` the other way round. The flag says
/// that the two stand swapped, where that needs no movement.
fn matrices(
    g: &mut Graph,
    x: Value,
    batch: &[usize],
    contracting: &[usize],
    free_last: bool,
) -> (Value, bool) {
    let ty = g.ty(x).clone();
    let free = free_axes(ty.rank(), contracting, batch);
    let (rows, columns) = if free_last { (contracting, &free[..]) } else { (&free[..], contracting) };
    let swapped = [batch, columns, rows].concat();
    let stands = |axes: &[usize]| axes.iter().copied().eq(0..ty.rank());
    let is_swapped = stands(&swapped) && !stands(&[batch, rows, columns].concat());
    let (first, second) = if is_swapped { (columns, rows) } else { (rows, columns) };
    let permutation = [batch, first, second].concat();
    let moved = if stands(&permutation) { x } else { g.transpose(x, permutation) };
    let extent =
        |axes: &[usize]| axes.iter().fold(Dim::from(1), |product, &axis| product * ty.shape[axis].clone());
    let mut dims: Vec<Dim> = batch.iter().map(|&axis| ty.shape[axis].clone()).collect();
    dims.extend([extent(first), extent(second)]);
    (g.reshape(moved, Shape::from(dims)), is_swapped)
}
