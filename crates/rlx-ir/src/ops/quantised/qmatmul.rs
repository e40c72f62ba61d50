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
    const MEANING: Meaning<Self> = Meaning::composite(|op, g, operands| {
        let given = |name| op.operand_index(name).map(|index| operands[index]);
        let a = centred(g, operands[0], given("a_zero_point"));
        let b = centred(g, operands[1], given("b_zero_point"));
        let sum = g.push(PRODUCT, &[a, b]);
        vec![requantize(g, sum, [given("bias"), given("mult"), given("y_zero_point")], op.to)]
    });
    const VJP: Vjp<Self> = Vjp::None("it computes with codes");
    const JVP: Jvp<Self> = Jvp::None("it computes with codes");
    const BATCH: Batch<Self> = Batch::ViaDecomposition;
    const ACCURACY: AccuracyRule<Self> = |_| Accuracy::Exact;
    /// Shapes of the optional operands, in order.
    const SAMPLES: Samples<Self> = Samples::Listed(&[
        "i8[3, 4] in [-128, 128), i8[4, 5] in [-128, 128) {to = i32}",
        "u8[3, 8] in [0, 256), i8[8, 5] in [-128, 128), u8[], i32[5], f32[] in [0.0005, 0.004), u8[] \
         {to = u8, a_zero_point = true, bias = true, mult = true, y_zero_point = true}",
        "i8[2, 3, 8] in [-128, 128), i8[8, 5] in [-128, 128), f32[5] in [0.0005, 0.004) \
         {to = i8, mult = true}",
        "u8[2, 3, 8] in [0, 256), u8[2, 8, 4] in [0, 256), u8[], u8[4], f32[] in [0.0005, 0.004), i8[] \
         {to = i8, a_zero_point = true, b_zero_point = true, mult = true, y_zero_point = true}",
        "i8[3, 8] in [-128, 128), u8[8, 2] in [0, 256), i8[3, 1], u8[], i32[3, 2] \
         {a_zero_point = true, b_zero_point = true, bias = true}",
        "i8[0, 8] in [-128, 128), i8[8, 2] in [-128, 128), f32[] in [0.0005, 0.004) {to = u8, mult = true}",
        "i8[2, 0] in [-128, 128), i8[0, 2] in [-128, 128)",
    ]);

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
}
