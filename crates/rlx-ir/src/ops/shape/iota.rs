//! `iota`: the coordinate along an axis.

use crate::ops::prelude::*;

op! {
    /// Every element is its own coordinate along `axis`, converted to `dtype` as by `cast`.
    ///
    /// (C1) `axis` is an axis of `shape`.
    /// (C2) `dtype` is an integer or float dtype, not storage-only.
    /// (C3) No extent is negative.
    iota: Iota() -> y {
        /// Element type.
        dtype: DType,
        /// Extents.
        shape: Shape,
        /// The axis that counts.
        axis: usize,
    }
}

impl OpSpec for Iota {
    const MEANING: Meaning<Self> = Meaning::scalar(|op, p, _| {
        let index = p.index(op.axis);
        vec![p.cast(index, op.dtype)]
    });
    const VJP: Vjp<Self> = Vjp::None("it has no operands");
    const JVP: Jvp<Self> = Jvp::None("it has no operands");
    const BATCH: Batch<Self> = Batch::None("it has no operands");
    const ACCURACY: AccuracyRule<Self> = |_| Accuracy::Exact;
    const SAMPLES: Samples<Self> = Samples::Listed(&[
        "{dtype = i64, shape = [5], axis = 0}",
        "{dtype = i32, shape = [3, 4]}",
        "{dtype = f32, shape = [3, 4], axis = 1}",
        "{dtype = bf16, shape = [300]}",
        "{dtype = u8, shape = [2, 3, 2], axis = 1}",
        "{dtype = f16, shape = [0, 2], axis = 1}",
    ]);

    fn infer(&self, _: &[&TensorType]) -> Inferred {
        let ty = TensorType::new(self.dtype, self.shape.clone());
        check_axis("C1", self.axis, &ty)?;
        let legal = (self.dtype.is_int() || self.dtype.is_float()) && !self.dtype.is_storage_only();
        require!("C2", legal, "cannot count in {}", self.dtype);
        for dim in self.shape.dims() {
            check_not_negative("C3", "extent", dim)?;
        }
        Ok(vec![ty])
    }
}
