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
    const MEANING: Meaning<Self> = Meaning::scalar(Self::expand);
    const VJP: Vjp<Self> = Vjp::Rule(|op, g, given| Ok(vec![Some(g.push(op.clone(), &[given.cotangent()]))]));
    const JVP: Jvp<Self> = Jvp::Linear;
    const BATCH: Batch<Self> = Batch::Shift(|op, _| Trilu {
        row_axis: op.row_axis + 1,
        column_axis: op.column_axis + 1,
        ..op.clone()
    });
    const ACCURACY: AccuracyRule<Self> = |_| Accuracy::Exact;

    fn infer(&self, operands: &[&TensorType]) -> Inferred {
        check_axis("C1", self.row_axis, operands[0])?;
        check_axis("C1", self.column_axis, operands[0])?;
        require!("C1", self.row_axis != self.column_axis, "rows and columns are both axis {}", self.row_axis);
        check_addressable("C2", operands)?;
        Ok(vec![operands[0].clone()])
    }

    fn samples() -> Vec<Sample<Self>> {
        let sample = |dims: &[usize], upper, diagonal, (row_axis, column_axis), dtype| {
            let op = Trilu { upper, diagonal, row_axis, column_axis };
            Sample::new(op, [TensorType::new(dtype, dims)])
        };
        vec![
            sample(&[3, 4], true, 0, (0, 1), DType::F32),
            sample(&[3, 4], false, 0, (0, 1), DType::F32),
            sample(&[4, 3], false, 1, (0, 1), DType::I64),
            sample(&[2, 3, 3], true, -1, (1, 2), DType::BF16),
            sample(&[3, 2, 3], false, -2, (0, 2), DType::Bool),
            sample(&[3, 3], true, i64::MAX, (1, 0), DType::F64),
            sample(&[3, 3], true, i64::MIN, (0, 1), DType::C64),
            sample(&[0, 3], true, 0, (0, 1), DType::F32),
        ]
    }
}

impl Trilu {
    fn expand(&self, p: &mut ScalarProgram, args: &[ScalarValue]) -> Vec<ScalarValue> {
        let dtype = p.dtype(args[0]);
        let (row, column) = (p.index(self.row_axis), p.index(self.column_axis));
        let distance = p.binary(ScalarOp::Sub, column, row);
        let diagonal = p.integer(DType::I64, self.diagonal);
        let side = if self.upper { ScalarOp::Ge } else { ScalarOp::Le };
        let keep = p.binary(side, distance, diagonal);
        let zero = p.constant(dtype, 0.0);
        vec![p.select(keep, args[0], zero)]
    }
}
