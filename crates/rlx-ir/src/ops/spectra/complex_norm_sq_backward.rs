//! `complex_norm_sq_backward`: the gradient of squared magnitudes.

use crate::ops::complex_parts::check_complex;
use crate::ops::prelude::*;

op! {
    /// `dz = dy z`: Wirtinger's gradient `dL / d conj(z)` of a real `L` that depends on `|z|^2`, whose
    /// derivative by that is `dy`.
    ///
    /// (C1) `z` has a complex dtype.
    /// (C2) `dy` has the dtype of its parts, and the shapes broadcast.
    complex_norm_sq_backward: ComplexNormSqBackward(z, dy) -> dz {}
}

impl OpSpec for ComplexNormSqBackward {
    const MEANING: Meaning<Self> = Meaning::composite(|_, g, operands| {
        let (z, dy) = (operands[0], operands[1]);
        let (re, im) = (g.real(z), g.imag(z));
        let (re, im) = (g.mul(re, dy), g.mul(im, dy));
        vec![g.complex(re, im)]
    });
    const VJP: Vjp<Self> = Vjp::ViaDecomposition;
    const JVP: Jvp<Self> = Jvp::ViaDecomposition;
    const BATCH: Batch<Self> = Batch::ViaDecomposition;
    const ACCURACY: AccuracyRule<Self> = |_| Accuracy::Approx { ulp: 2.0 };
    const SAMPLES: Samples<Self> =
        Samples::Listed(&["c64[2, 3], f32[2, 3]", "c128[4], f64[4]", "c64[0], f32[0]"]);

    fn infer(&self, operands: &[&TensorType]) -> Inferred {
        let (z, dy) = (operands[0], operands[1]);
        check_complex("C1", z)?;
        require!("C2", dy.dtype == z.dtype.real(), "`dy` is {dy} and `z` is {z}");
        Ok(vec![TensorType::new(z.dtype, broadcast_shapes("C2", operands)?)])
    }
}
