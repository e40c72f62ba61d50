//! `expand`: NumPy broadcast to a given shape.

use crate::ops::prelude::*;

op! {
    /// `x` repeated along new leading axes and along axes of extent 1, to shape `shape`.
    ///
    /// (C1) `x` broadcasts to exactly `shape`.
    /// (C2) No extent is negative.
    /// (C3) The dtype is not storage-only.
    expand: Expand(x) -> y {
        /// The new extents.
        shape: Shape,
    }
}

impl OpSpec for Expand {
    const MEANING: Meaning<Self> = Meaning::view(|_, layout, ty| Some(layout.expand(&ty.shape)));
    const VJP: Vjp<Self> = Vjp::Rule(|_, g, given| {
        let shape = g.ty(given.operands[0]).shape.clone();
        Ok(vec![Some(g.sum_to(given.cotangent(), &shape))])
    });
    const JVP: Jvp<Self> = Jvp::Linear;
    const BATCH: Batch<Self> = Batch::Broadcast(|op, size| Expand { shape: op.shape.with_front(size) });
    const ACCURACY: AccuracyRule<Self> = |_| Accuracy::Exact;
    const SAMPLES: Samples<Self> = Samples::Listed(&[
        "f32[] {shape = [2, 3]}",
        "f16[3, 1] {shape = [2, 3, 4]}",
        "i64[4] {shape = [4]}",
        "bool[1, 3] {shape = [0, 3]}",
        "c64[1, 1] {shape = [5, 1]}",
    ]);

    fn infer(&self, operands: &[&TensorType]) -> Inferred {
        let x = operands[0];
        let fits = x.shape.broadcast(&self.shape).as_ref() == Some(&self.shape);
        require!("C1", fits, "{} does not broadcast to {}", x.shape, self.shape);
        for dim in self.shape.dims() {
            check_not_negative("C2", "extent", dim)?;
        }
        check_addressable("C3", operands)?;
        Ok(vec![TensorType::new(x.dtype, self.shape.clone())])
    }
}
