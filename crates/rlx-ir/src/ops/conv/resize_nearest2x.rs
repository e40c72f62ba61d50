//! `resize_nearest2x`: an image with every pixel doubled both ways.

use crate::ops::prelude::*;

op! {
    /// `y[.., i, j] = x[.., i / 2, j / 2]`: the last two axes at twice their extents.
    ///
    /// (C1) `x` has rank 2 or more.
    /// (C2) The dtype is not storage-only.
    resize_nearest2x: ResizeNearest2x(x) -> y {}
}

impl OpSpec for ResizeNearest2x {
    const MEANING: Meaning<Self> = Meaning::composite(|_, g, operands| {
        let dims = g.ty(operands[0]).shape.dims().to_vec();
        let (lead, image) = dims.split_at(dims.len() - 2);
        let (height, width) = (&image[0], &image[1]);
        let spread = |repeat: usize| {
            let repeat = Dim::from(repeat);
            [lead, &[height.clone(), repeat.clone(), width.clone(), repeat]].concat()
        };
        let x = g.reshape(operands[0], spread(1));
        let x = g.expand(x, spread(2));
        let two = Dim::from(2);
        let whole = [lead, &[height.clone() * two.clone(), width.clone() * two]].concat();
        vec![g.reshape(x, whole)]
    });
    const VJP: Vjp<Self> = Vjp::ViaDecomposition;
    const JVP: Jvp<Self> = Jvp::ViaDecomposition;
    const BATCH: Batch<Self> = Batch::ViaDecomposition;
    const ACCURACY: AccuracyRule<Self> = |_| Accuracy::Exact;
    const SAMPLES: Samples<Self> =
        Samples::Listed(&["f32[1, 2, 3, 2]", "u8[2, 3]", "bf16[1, 1, 1]", "f16[2, 0, 3]"]);

    fn infer(&self, operands: &[&TensorType]) -> Inferred {
        let x = operands[0];
        require!("C1", x.rank() >= 2, "x must have rank 2 or more, found {x}");
        check_addressable("C2", operands)?;
        let mut dims = x.shape.dims().to_vec();
        for dim in dims.iter_mut().rev().take(2) {
            *dim = dim.clone() * Dim::from(2);
        }
        Ok(vec![TensorType::new(x.dtype, Shape::from(dims))])
    }
}
