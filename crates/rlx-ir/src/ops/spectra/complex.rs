//! `complex`: complex numbers of their parts.

use crate::ops::prelude::*;

op! {
    /// `z = re + i im`; the operands broadcast.
    ///
    /// (C1) Both operands have one dtype.
    /// (C2) It is `f32` or `f64`; the result is `c64` or `c128`.
    /// (C3) The shapes broadcast.
    complex: Complex(re, im) -> z {}
}

impl OpSpec for Complex {
    const MEANING: Meaning<Self> = Meaning::scalar(|_, p, args| vec![p.complex(args[0], args[1])]);
    // A gradient by `z` is that by its conjugate: half of the one by the real part, and i / 2 times the other.
    const VJP: Vjp<Self> = Vjp::Rule(|_, g, given| {
        let dz = given.cotangent();
        let parts = [g.real(dz), g.imag(dz)];
        let mut derivatives = vec![];
        for (part, &operand) in parts.into_iter().zip(given.operands) {
            let doubled = g.scaled(part, 2.0);
            let shape = g.ty(operand).shape.clone();
            derivatives.push(Some(g.sum_to(doubled, &shape)));
        }
        Ok(derivatives)
    });
    const JVP: Jvp<Self> = Jvp::Linear;
    const BATCH: Batch<Self> = Batch::elementwise();
    const ACCURACY: AccuracyRule<Self> = |_| Accuracy::Exact;
    const SAMPLES: Samples<Self> =
        Samples::Listed(&["f32[2, 3], f32[2, 3]", "f64[2, 3], f64[3]", "f32[], f32[4]", "f64[0, 2], f64[2]"]);

    fn infer(&self, operands: &[&TensorType]) -> Inferred {
        same_dtype("C1", operands)?;
        let dtype = operands[0].dtype;
        let message = || format!("expected parts of f32 or f64, found {dtype}");
        let complex = dtype.complex().ok_or_else(|| Violation { constraint: "C2", message: message() })?;
        Ok(vec![TensorType::new(complex, broadcast_shapes("C3", operands)?)])
    }
}
