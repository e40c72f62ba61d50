//! `trilu`: the part of a matrix on one side of a diagonal.

use crate::ops::prelude::*;

op! {
    /// `x` where `column - row >= diagonal` (with `upper`) or `column - row <= diagonal` (without), and
    /// zero elsewhere; row and column are coordinates along `row_axis` and `column_axis`, usually the last
    /// two (ONNX `Trilu`, NumPy `triu` and `tril`).
    ///
    /// (C1) `row_axis` and `column_axis` are different axes of `x`.
    /// (C2) The dtype is not storage-only.
    trilu: Trilu(x) -> y {
        /// Keep the part above the diagonal?
        upper: bool,
        /// Which diagonal: positive ones lie above the main one.
        diagonal: i64,
        /// Axis of rows.
        row_axis: usize,
        /// Axis of columns.
        column_axis: usize,
    }
}

impl OpSpec for Trilu {
    const MEANING: Meaning<Self> = Meaning::scalar(|op, p, args| {
        let dtype = p.dtype(args[0]);
        let (row, column) = (p.index(op.row_axis), p.index(op.column_axis));
        let distance = p.binary(ScalarOp::Sub, column, row);
        let diagonal = p.integer(DType::I64, op.diagonal);
        let side = if op.upper { ScalarOp::Ge } else { ScalarOp::Le };
        let keep = p.binary(side, distance, diagonal);
        let zero = p.constant(dtype, 0.0);
        vec![p.select(keep, args[0], zero)]
    });
    const VJP: Vjp<Self> = Vjp::Rule(|op, g, given| Ok(vec![Some(g.push(op.clone(), &[given.cotangent()]))]));
    const JVP: Jvp<Self> = Jvp::Linear;
    const BATCH: Batch<Self> = Batch::Shift(|op, _| Trilu {
        row_axis: op.row_axis + 1,
        column_axis: op.column_axis + 1,
        ..op.clone()
    });
    const ACCURACY: AccuracyRule<Self> = |_| Accuracy::Exact;
    const SAMPLES: Samples<Self> = Samples::Listed(&[
        "f32[3, 4] {upper = true, diagonal = 0, row_axis = 0, column_axis = 1}",
        "f32[3, 4] {upper = false}",
        "i64[4, 3] {upper = false, diagonal = 1}",
        "bf16[2, 3, 3] {diagonal = -1, row_axis = 1, column_axis = 2}",
        "bool[3, 2, 3] {upper = false, diagonal = -2, column_axis = 2}",
        "f64[3, 3] {diagonal = 9223372036854775807, row_axis = 1, column_axis = 0}",
        "c64[3, 3] {diagonal = -9223372036854775808}",
        "f32[0, 3]",
    ]);

    fn infer(&self, operands: &[&TensorType]) -> Inferred {
        check_axis("C1", self.row_axis, operands[0])?;
        check_axis("C1", self.column_axis, operands[0])?;
        require!("C1", self.row_axis != self.column_axis, "rows and columns are both axis {}", self.row_axis);
        check_addressable("C2", operands)?;
        Ok(vec![operands[0].clone()])
    }
}
