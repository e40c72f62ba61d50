//! `lora_matmul`: a matrix product with a low-rank correction of its weight.

use crate::accuracy::Accuracy;
use crate::dtype::DType;
use crate::graph::{Graph, Value};
use crate::op::{Batch, Inferred, Jvp, Meaning, OpSpec, Sample, Violation, Vjp};
use crate::ops::MatMul;
use crate::shape::TensorType;
use crate::{op, require};

op! {
    /// `y = x w + scale (x a) b`; `x` is [.., M, K], `w` is [K, N], `a` is [K, R], `b` is [R, N] and
    /// `scale` one number. `w + a b` is never formed, so that adapters share `w`.
    ///
    /// (C1) `w`, `a` and `b` have rank 2.
    /// (C2) `x` and `w`, `x` and `a`, then `x a` and `b` satisfy the constraints of `matmul`.
    /// (C3) `w` and `b` have the same number of columns N.
    /// (C4) `scale` is rank 0 and has the dtype of `x`.
    /// The rank R may be a symbol; with 0 there is no correction. The meaning is that of `matmul` and
    /// `binary` one after the other.
    lora_matmul: LoraMatMul(x, w, a, b, scale) -> y {
        /// Are `w`, `a` and `b` given as [N, K], [R, K] and [N, R]?
        transpose_w: bool,
    }
}

impl OpSpec for LoraMatMul {
    const MEANING: Meaning<Self> = Meaning::composite(Self::decompose);
    const VJP: Vjp<Self> = Vjp::ViaDecomposition;
    const JVP: Jvp<Self> = Jvp::ViaDecomposition;
    const BATCH: Batch<Self> = Batch::ViaDecomposition;

    fn infer(&self, operands: &[&TensorType]) -> Inferred {
        let (x, w, a, b, scale) = (operands[0], operands[1], operands[2], operands[3], operands[4]);
        for (name, ty) in [("w", w), ("a", a), ("b", b)] {
            require!("C1", ty.rank() == 2, "`{name}` is {ty}, expected a matrix");
        }
        let product = |left: &TensorType, right| {
            let relabel = |violation: Violation| Violation { constraint: "C2", ..violation };
            self.product().infer(&[left, right]).map_err(relabel)
        };
        let y = product(x, w)?;
        let correction = product(&product(x, a)?[0], b)?;
        let columns = |ty: &TensorType| ty.shape[ty.rank() - 1].clone();
        let (expected, found) = (columns(&y[0]), columns(&correction[0]));
        require!("C3", expected == found, "`w` has {expected} columns and `b` has {found}");
        let number = TensorType::new(x.dtype, [0usize; 0]);
        require!("C4", *scale == number, "expected a scale of type {number}, found {scale}");
        Ok(y)
    }

    fn accuracy(&self) -> Accuracy {
        Accuracy::Accumulated { terms: 256 }
    }

    fn samples() -> Vec<Sample<Self>> {
        let sample = |x: &[usize], rank: usize, columns: usize, transpose_w: bool, dtype| {
            let rows = x[x.len() - 1];
            let matrix = |rows, columns| {
                TensorType::new(dtype, if transpose_w { [columns, rows] } else { [rows, columns] })
            };
            let scale = TensorType::new(dtype, [0usize; 0]);
            let weights = [matrix(rows, columns), matrix(rows, rank), matrix(rank, columns), scale];
            let operands = [TensorType::new(dtype, x)].into_iter().chain(weights);
            Sample::new(LoraMatMul { transpose_w }, operands.collect::<Vec<_>>())
        };
        vec![
            sample(&[3, 4], 2, 5, false, DType::F32),
            sample(&[2, 3, 4], 1, 5, true, DType::F32),
            sample(&[3, 4], 0, 5, false, DType::F64),
            sample(&[1, 6], 3, 4, true, DType::BF16),
            sample(&[2, 4], 2, 3, false, DType::F16),
            sample(&[0, 4], 2, 3, false, DType::F32),
            sample(&[2, 0], 2, 3, true, DType::F32),
        ]
    }
}

impl LoraMatMul {
    fn product(&self) -> MatMul {
        MatMul { transpose_a: false, transpose_b: self.transpose_w }
    }

    fn decompose(&self, g: &mut Graph, operands: &[Value]) -> Vec<Value> {
        let y = g.push(self.product(), &operands[..2]);
        let narrow = g.push(self.product(), &[operands[0], operands[2]]);
        let correction = g.push(self.product(), &[narrow, operands[3]]);
        let scaled = g.mul(correction, operands[4]);
        vec![g.add(y, scaled)]
    }
}
