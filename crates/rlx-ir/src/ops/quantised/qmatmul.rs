//! `qmatmul`: a product of 8-bit integers, summed in `i32`.

use crate::ops::prelude::*;
use crate::ops::quantisation::{centred, check_codes, check_requantize, requantize};

op! {
    /// `y = saturate(round(mult sum) + y_zero_point)` with `sum = (a - a_zero_point)(b - b_zero_point) + bias` in i32,
    /// rounding half to even; without `mult` the result is `sum`.
    ///
    /// `a` is [.., M, K] and `b` [.., K, N]. Sums wrap at 32 bits; `mult sum` is computed in f32. `mult` is the product
    /// of the scales of `a` and `b` over that of `y`.
    /// (C1) `a` and `b` are i8 or u8; each zero point has the dtype of its operand and broadcasts to it.
    /// (C2) `a` and `b` have shapes that `matmul` takes.
    /// (C3) With `mult` the result is i8 or u8; without it is i32, and there is no `y_zero_point`.
    /// (C4) `bias` (i32), `mult` (f32) and `y_zero_point` (of the result's dtype) broadcast to the result.
    /// Source: ONNX QLinearMatMul and MatMulInteger.
    qmatmul: QMatMul(a, b)[a_zero_point, b_zero_point, bias, mult, y_zero_point] -> y {
        /// Dtype of the result.
        to: DType,
    }
}

const PRODUCT: MatMul = MatMul { transpose_a: false, transpose_b: false };

impl OpSpec for QMatMul {
    const MEANING: Meaning<Self> = Meaning::composite(Self::decompose);
    const VJP: Vjp<Self> = Vjp::None("it computes with codes");
    const JVP: Jvp<Self> = Jvp::None("it computes with codes");
    const BATCH: Batch<Self> = Batch::ViaDecomposition;
    const ACCURACY: AccuracyRule<Self> = |_| Accuracy::Exact;

    fn infer(&self, operands: &[&TensorType]) -> Inferred {
        let given = |name| self.operand_index(name).map(|index| operands[index]);
        check_codes("C1", [operands[0], operands[1]], [given("a_zero_point"), given("b_zero_point")])?;
        let [a, b] = [0, 1].map(|index: usize| TensorType::new(DType::I32, operands[index].shape.clone()));
        let relabel = |violation: Violation| Violation { constraint: "C2", ..violation };
        let sum = PRODUCT.infer(&[&a, &b]).map_err(relabel)?.remove(0);
        let rest = [given("bias"), given("mult"), given("y_zero_point")];
        check_requantize(["C3", "C4"], &sum, rest, self.to)?;
        Ok(vec![TensorType::new(self.to, sum.shape)])
    }

    fn samples() -> Vec<Sample<Self>> {
        use DType as D;
        /// Shapes of the optional operands, in order.
        type Given<'a> = [Option<&'a [usize]>; 5];
        let sample = |a: (D, &[usize]), b: (D, &[usize]), given: Given<'_>, to: D| {
            let [a_zero_point, b_zero_point, bias, mult, y_zero_point] = given.map(|dims| dims.is_some());
            let op = QMatMul { to, a_zero_point, b_zero_point, bias, mult, y_zero_point };
            let mut operands = vec![TensorType::new(a.0, a.1), TensorType::new(b.0, b.1)];
            for (dtype, dims) in [a.0, b.0, D::I32, D::F32, to].into_iter().zip(given) {
                operands.extend(dims.map(|dims| TensorType::new(dtype, dims)));
            }
            let (mult, wide) =
                (
                    op.operand_index("mult"),
                    |dtype| if dtype == D::I8 { (-128.0, 128.0) } else { (0.0, 256.0) },
                );
            let sample =
                Sample::new(op, operands).fill(0, wide(a.0).0, wide(a.0).1).fill(1, wide(b.0).0, wide(b.0).1);
            match mult {
                Some(mult) => sample.fill(mult, 0.0005, 0.004),
                None => sample,
            }
        };
        let one: Option<&[usize]> = Some(&[]);
        vec![
            sample((D::I8, &[3, 4]), (D::I8, &[4, 5]), [None; 5], D::I32),
            sample((D::U8, &[3, 8]), (D::I8, &[8, 5]), [one, None, Some(&[5]), one, one], D::U8),
            sample((D::I8, &[2, 3, 8]), (D::I8, &[8, 5]), [None, None, None, Some(&[5]), None], D::I8),
            sample((D::U8, &[2, 3, 8]), (D::U8, &[2, 8, 4]), [one, Some(&[4]), None, one, one], D::I8),
            sample(
                (D::I8, &[3, 8]),
                (D::U8, &[8, 2]),
                [Some(&[3, 1]), one, Some(&[3, 2]), None, None],
                D::I32,
            ),
            sample((D::I8, &[0, 8]), (D::I8, &[8, 2]), [None, None, None, one, None], D::U8),
            sample((D::I8, &[2, 0]), (D::I8, &[0, 2]), [None; 5], D::I32),
        ]
    }
}

impl QMatMul {
    fn decompose(&self, g: &mut Graph, operands: &[Value]) -> Vec<Value> {
        let given = |name| self.operand_index(name).map(|index| operands[index]);
        let a = centred(g, operands[0], given("a_zero_point"));
        let b = centred(g, operands[1], given("b_zero_point"));
        let sum = g.push(PRODUCT, &[a, b]);
        vec![requantize(g, sum, [given("bias"), given("mult"), given("y_zero_point")], self.to)]
    }
}
