//! `fused_matmul_bias_act`: a linear layer with its activation.

use crate::ops::prelude::*;

op! {
    /// `y = kind(x w + bias)`; `x` is [.., M, K], `w` is [.., K, N], `bias` is [N].
    ///
    /// (C1) `x` and `w` satisfy the constraints of `matmul`.
    /// (C2) `bias` has the dtype of `x` and the shape [N].
    /// (C3) `kind` and `parameter` satisfy the constraints of `activation`; without a `kind`
    /// there is no parameter.
    /// The meaning is that of `matmul`, `binary` and `activation` one after the other.
    fused_matmul_bias_act: FusedMatMulBiasAct(x, w)[bias] -> y {
        /// The activation, if there is one.
        kind: Option<ActivationKind>,
        /// Alpha of `elu`, slope of `leaky_relu`.
        parameter: Option<Real>,
        /// Is `w` given as [.., N, K]?
        transpose_w: bool,
    }
}

impl OpSpec for FusedMatMulBiasAct {
    const MEANING: Meaning<Self> = Meaning::composite(|op, g, operands| {
        let mut y = g.push(op.product(), &operands[..2]);
        if let Some(&bias) = operands.get(2) {
            y = g.add(y, bias);
        }
        if let Some(activation) = op.activation() {
            y = g.push(activation, &[y]);
        }
        vec![y]
    });
    const VJP: Vjp<Self> = Vjp::ViaDecomposition;
    const JVP: Jvp<Self> = Jvp::ViaDecomposition;
    const BATCH: Batch<Self> = Batch::ViaDecomposition;
    const ACCURACY: AccuracyRule<Self> = |_| Accuracy::Accumulated { terms: 256 };
    const SAMPLES: Samples<Self> = Samples::Listed(&[
        "f32[3, 4], f32[4, 5], f32[5] {kind = gelu, parameter = none, transpose_w = false, bias = true}",
        "f32[2, 3, 4], f32[5, 4], f32[5] {kind = relu, transpose_w = true}",
        "f64[2, 3, 4], f64[2, 4, 1] {kind = silu, bias = false}",
        "bf16[3, 4], bf16[4, 5], bf16[5] {kind = none}",
        "f16[1, 4], f16[4, 3], f16[3] {kind = leaky_relu, parameter = 0.1}",
        "f32[2, 0], f32[0, 3], f32[3] {kind = tanh}",
        "f32[0, 2], f32[2, 3] {kind = none, bias = false}",
        "i32[2, 3], i32[3, 4], i32[4] {kind = relu}",
    ]);

    fn infer(&self, operands: &[&TensorType]) -> Inferred {
        let relabel = |constraint| move |violation: Violation| Violation { constraint, ..violation };
        let product = self.product().infer(&operands[..2]).map_err(relabel("C1"))?;
        if let Some(bias) = operands.get(2) {
            let columns = product[0].shape[product[0].rank() - 1].clone();
            let expected = TensorType::new(product[0].dtype, vec![columns]);
            require!("C2", **bias == expected, "expected a bias of type {expected}, found {bias}");
        }
        match self.activation() {
            Some(activation) => activation.infer(&[&product[0]]).map_err(relabel("C3")),
            None => {
                require!("C3", self.parameter.is_none(), "a parameter is given without an activation kind");
                Ok(product)
            }
        }
    }
}

impl FusedMatMulBiasAct {
    fn product(&self) -> MatMul {
        MatMul { transpose_a: false, transpose_b: self.transpose_w }
    }

    fn activation(&self) -> Option<Activation> {
        self.kind.map(|kind| Activation { kind, parameter: self.parameter })
    }
}
