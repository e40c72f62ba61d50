//! `fused_swiglu`: a gated linear unit over two halves of the last axis.

use crate::ops::prelude::*;

op! {
    /// `y = kind(gate) up` for `x` of [.., 2N], whose last axis holds `gate` and `up`, N elements each.
    ///
    /// With `gate_first` the gate is the first half, else the second.
    /// (C1) `x` has a float dtype and rank 1 or more.
    /// (C2) The last extent is even, for every binding of the symbols.
    /// (C3) `kind` takes no parameter.
    /// (C4) `cast` is a float dtype.
    /// Half precision computes in f32; the result is rounded once, to `cast` or to the dtype of `x`.
    /// `silu` gives SwiGLU, `gelu` GeGLU, `relu` ReGLU, `sigmoid` GLU.
    fused_swiglu: FusedSwiGLU(x) -> y {
        /// Is the gate the first half?
        gate_first: bool,
        /// What is applied to the gate.
        kind: ActivationKind,
        /// Dtype of the result; that of `x` where none is given.
        cast: Option<DType>,
    }
}

impl OpSpec for FusedSwiGLU {
    const MEANING: Meaning<Self> = Meaning::composite(|op, g, operands| {
        let ty = g.ty(operands[0]).clone();
        let wide = g.accumulation_cast(operands[0]);
        let half = ty.shape[ty.rank() - 1].floor_div(&Dim::from(2));
        let first = g.narrow_at(wide, -1, 0, half.clone());
        let second = g.narrow_at(wide, -1, half.clone(), half);
        let (gate, up) = if op.gate_first { (first, second) } else { (second, first) };
        let gate = g.push(Activation::of(op.kind), &[gate]);
        let y = g.mul(gate, up);
        vec![g.cast_to(y, op.cast.unwrap_or(ty.dtype))]
    });
    const VJP: Vjp<Self> = Vjp::ViaDecomposition;
    const JVP: Jvp<Self> = Jvp::ViaDecomposition;
    const BATCH: Batch<Self> = Batch::ViaDecomposition;
    const ACCURACY: AccuracyRule<Self> = |_| Accuracy::Approx { ulp: 16.0 };
    const SAMPLES: Samples<Self> = Samples::Listed(&[
        "f32[3, 8] {gate_first = true, kind = silu, cast = none}",
        "f32[3, 8] {gate_first = false}",
        "f64[2, 3, 6] {kind = gelu}",
        "f32[2, 3, 2] {gate_first = false, kind = sigmoid}",
        "f32[10] {kind = relu, cast = f16}",
        "bf16[2, 6]",
        "f16[2, 6] {cast = f32}",
        "f32[0, 4]",
        "f32[2, 0]",
    ]);

    fn infer(&self, operands: &[&TensorType]) -> Inferred {
        let x = operands[0];
        float_like("C1", operands)?;
        require!("C1", x.rank() >= 1, "expected rank 1 or more, found {x}");
        let mut dims = x.shape.dims().to_vec();
        let last = &mut dims[x.rank() - 1];
        require!("C2", last.modulo(&Dim::from(2)).is(0), "the last extent {last} is not known to be even");
        *last = last.floor_div(&Dim::from(2));
        let half = TensorType::new(x.dtype, dims);
        Activation::of(self.kind)
            .infer(&[&half])
            .map_err(|violation| Violation { constraint: "C3", ..violation })?;
        let result = TensorType::new(self.cast.unwrap_or(x.dtype), half.shape);
        float_like("C4", &[&result])
    }
}
