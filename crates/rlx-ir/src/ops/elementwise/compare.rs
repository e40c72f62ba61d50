//! `compare`: the six comparisons, to `bool`.

use crate::ops::prelude::*;

attr_enum! {
    /// Which comparison a [`Compare`] makes.
    CompareKind {
        /// Equal.
        Eq = "eq",
        /// Not equal.
        Ne = "ne",
        /// Less.
        Lt = "lt",
        /// Less or equal.
        Le = "le",
        /// Greater.
        Gt = "gt",
        /// Greater or equal.
        Ge = "ge",
    }
}

op! {
    /// `y = a kind b`, a `bool`, elementwise over the NumPy broadcast of `a` and `b`. A comparison with
    /// NaN is false, but `ne` is true; the two zeros are equal; false is less than true.
    ///
    /// (C1) Both operands have one dtype.
    /// (C2) The dtype is not storage-only; complex numbers take `eq` and `ne` only.
    /// (C3) The shapes broadcast.
    compare: Compare(a, b) -> y {
        /// The comparison.
        kind: CompareKind,
    }
}

impl OpSpec for Compare {
    const MEANING: Meaning<Self> =
        Meaning::scalar(|op, p, args| vec![p.binary(op.kind.scalar(), args[0], args[1])]);
    const VJP: Vjp<Self> = Vjp::None("its results are discrete");
    const JVP: Jvp<Self> = Jvp::None("its results are discrete");
    const BATCH: Batch<Self> = Batch::elementwise();
    const ACCURACY: AccuracyRule<Self> = |_| Accuracy::Exact;
    const SAMPLES: Samples<Self> = Samples::Made(|| {
        let mut samples = vec![];
        let mut add = |kind, dtype, a: &[usize], b: &[usize]| {
            samples
                .push(Sample::new(Compare { kind }, [TensorType::new(dtype, a), TensorType::new(dtype, b)]));
        };
        for &kind in CompareKind::ALL {
            for dtype in [DType::F32, DType::I32, DType::I64, DType::U8, DType::Bool, DType::BF16] {
                add(kind, dtype, &[3, 5], &[3, 5]);
            }
            add(kind, DType::F32, &[4, 1, 3], &[2, 1]);
        }
        add(CompareKind::Eq, DType::C64, &[3], &[3]);
        add(CompareKind::Lt, DType::F64, &[0, 2], &[]);
        samples
    });

    fn infer(&self, operands: &[&TensorType]) -> Inferred {
        same_dtype("C1", operands)?;
        let dtype = operands[0].dtype;
        let ordered = !matches!(self.kind, CompareKind::Eq | CompareKind::Ne);
        let illegal = dtype.is_storage_only() || (dtype.is_complex() && ordered);
        require!("C2", !illegal, "{} does not take {dtype}", self.kind);
        Ok(vec![TensorType::new(DType::Bool, broadcast_shapes("C3", operands)?)])
    }
}

impl CompareKind {
    /// The scalar primitive.
    pub const fn scalar(self) -> ScalarOp {
        match self {
            CompareKind::Eq => ScalarOp::Eq,
            CompareKind::Ne => ScalarOp::Ne,
            CompareKind::Lt => ScalarOp::Lt,
            CompareKind::Le => ScalarOp::Le,
            CompareKind::Gt => ScalarOp::Gt,
            CompareKind::Ge => ScalarOp::Ge,
        }
    }
}
