//! `reshape`: the same elements in row-major order under another shape.

use crate::ops::prelude::*;

op! {
    /// The elements of `x`, in row-major order, under shape `shape`.
    ///
    /// (C1) `shape` has as many elements as `x`, provably for every binding of the symbols.
    reshape: Reshape(x) -> y {
        /// The new extents.
        shape: Shape,
    }
}

impl OpSpec for Reshape {
    const MEANING: Meaning<Self> = Meaning::view(|_, layout, ty| layout.reshape(&ty.shape));
    const VJP: Vjp<Self> = Vjp::Rule(|_, g, given| {
        let shape = g.ty(given.operands[0]).shape.clone();
        Ok(vec![Some(g.reshape(given.cotangent(), shape))])
    });
    const JVP: Jvp<Self> = Jvp::Linear;
    const BATCH: Batch<Self> = Batch::Shift(|op, size| Reshape { shape: op.shape.with_front(size) });
    const ACCURACY: AccuracyRule<Self> = |_| Accuracy::Exact;
    const SAMPLES: Samples<Self> = Samples::Listed(&[
        "f32[2, 6] {shape = [3, 4]}",
        "i64[4] {shape = [2, 1, 2]}",
        "bool[1, 1] {shape = []}",
        "f16[0, 3] {shape = [5, 0]}",
    ]);

    fn infer(&self, operands: &[&TensorType]) -> Inferred {
        let (old, new) = (operands[0].shape.num_elements(), self.shape.num_elements());
        require!("C1", old == new, "{} has {old} elements, {} has {new}", operands[0], self.shape);
        let negative = self.shape.dims().iter().find(|dim| dim.as_static().is_some_and(|d| d < 0));
        require!("C1", negative.is_none(), "shape {} has a negative extent", self.shape);
        Ok(vec![TensorType::new(operands[0].dtype, self.shape.clone())])
    }
}
