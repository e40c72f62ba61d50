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
    const MEANING: Meaning<Self> = Meaning::composite(Self::decompose);
    const VJP: Vjp<Self> = Vjp::ViaDecomposition;
    const JVP: Jvp<Self> = Jvp::ViaDecomposition;
    const BATCH: Batch<Self> = Batch::ViaDecomposition;
    const ACCURACY: AccuracyRule<Self> = |_| Accuracy::Accumulated { terms: 256 };

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

    fn samples() -> Vec<Sample<Self>> {
        use ActivationKind as K;
        let sample = |x: &[usize], w: &[usize], kind, parameter, transpose_w, bias: bool, dtype| {
            let mut operands = vec![TensorType::new(dtype, x), TensorType::new(dtype, w)];
            let columns = w[w.len() - if transpose_w { 2 } else { 1 }];
            operands.extend(bias.then(|| TensorType::new(dtype, [columns])));
            Sample::new(FusedMatMulBiasAct { kind, parameter, transpose_w, bias }, operands)
        };
        vec![
            sample(&[3, 4], &[4, 5], Some(K::Gelu), None, false, true, DType::F32),
            sample(&[2, 3, 4], &[5, 4], Some(K::Relu), None, true, true, DType::F32),
            sample(&[2, 3, 4], &[2, 4, 1], Some(K::Silu), None, false, false, DType::F64),
            sample(&[3, 4], &[4, 5], None, None, false, true, DType::BF16),
            sample(&[1, 4], &[4, 3], Some(K::LeakyRelu), Some(Real(0.1)), false, true, DType::F16),
            sample(&[2, 0], &[0, 3], Some(K::Tanh), None, false, true, DType::F32),
            sample(&[0, 2], &[2, 3], None, None, false, false, DType::F32),
            sample(&[2, 3], &[3, 4], Some(K::Relu), None, false, true, DType::I32),
        ]
    }
}

impl FusedMatMulBiasAct {
    fn product(&self) -> MatMul {
        MatMul { transpose_a: false, transpose_b: self.transpose_w }
    }

    fn activation(&self) -> Option<Activation> {
        self.kind.map(|kind| Activation { kind, parameter: self.parameter })
    }

    fn decompose(&self, g: &mut Graph, operands: &[Value]) -> Vec<Value> {
        let mut y = g.push(self.product(), &operands[..2]);
        if let Some(&bias) = operands.get(2) {
            y = g.add(y, bias);
        }
        if let Some(activation) = self.activation() {
            y = g.push(activation, &[y]);
        }
        vec![y]
    }
}
