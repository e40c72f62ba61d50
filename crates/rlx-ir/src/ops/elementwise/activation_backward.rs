//! `activation_backward`: the derivative of an activation times a change.

use crate::ops::prelude::*;

op! {
    /// `dx = kind'(x) dy`, elementwise. At kinks: `relu` has the slope 0 at 0, `abs` 0, `leaky_relu` 1; where
    /// a function has a maximum or minimum with a constant, an equal operand takes half.
    ///
    /// The functions made of a sigmoid compute it from `e^-|x|`, so that no `x` overflows.
    /// (C1) `x` is what [`struct@Activation`] takes, of a float dtype.
    /// (C2) `dy` has the type of `x`.
    activation_backward: ActivationBackward(x, dy) -> dx {
        /// The function.
        kind: ActivationKind,
        /// Alpha of `elu`, slope of `leaky_relu`.
        parameter: Option<Real>,
    }
}

impl OpSpec for ActivationBackward {
    const MEANING: Meaning<Self> = Meaning::scalar(|op, p, args| vec![op.slope(p, args[0], args[1])]);
    const VJP: Vjp<Self> = Vjp::Scalar;
    const JVP: Jvp<Self> = Jvp::Scalar;
    const BATCH: Batch<Self> = Batch::Shift(|op, _| op.clone());
    const ACCURACY: AccuracyRule<Self> = |_| Accuracy::Accumulated { terms: 64 };
    const SAMPLES: Samples<Self> = Samples::Made(|| {
        let forward = Activation::SAMPLES.read(Activation::from_attrs).unwrap_or_default();
        let floats = forward.into_iter().filter(|sample| sample.operands[0].0.dtype.is_float());
        floats
            .map(|sample| {
                let Activation { kind, parameter } = sample.op;
                let (x, fill) = sample.operands[0].clone();
                let mut made = Sample::new(ActivationBackward { kind, parameter }, [x.clone(), x]);
                made.operands[0].1 = fill;
                made
            })
            .collect()
    });

    fn infer(&self, operands: &[&TensorType]) -> Inferred {
        let (x, dy) = (operands[0], operands[1]);
        require!("C1", x.dtype.is_float(), "{} has no derivative in {}", self.kind, x.dtype);
        let results = self.forward().infer(&operands[..1])?;
        require!("C2", x == dy, "dy is {dy}, expected {x}");
        Ok(results)
    }
}

impl ActivationBackward {
    fn forward(&self) -> Activation {
        Activation { kind: self.kind, parameter: self.parameter }
    }

    fn slope(&self, p: &mut ScalarProgram, x: ScalarValue, dy: ScalarValue) -> ScalarValue {
        use ActivationKind as K;
        use ScalarOp as S;
        let dtype = p.dtype(x);
        let factor = match self.kind {
            K::Relu => {
                let zero = p.constant(dtype, 0.0);
                let positive = p.binary(S::Gt, x, zero);
                return p.select(positive, dy, zero);
            }
            K::Sigmoid => {
                let [s, rest] = sigmoids(p, x);
                p.binary(S::Mul, s, rest)
            }
            K::Softplus => sigmoids(p, x)[0],
            K::LogSigmoid => sigmoids(p, x)[1],
            K::Silu => gated_slope(p, x),
            K::QuickGelu => {
                let scale = p.constant(dtype, 1.702);
                let scaled = p.binary(S::Mul, x, scale);
                gated_slope(p, scaled)
            }
            _ => return self.slope_of_program(p, x, dy),
        };
        p.binary(S::Mul, dy, factor)
    }

    fn slope_of_program(&self, p: &mut ScalarProgram, x: ScalarValue, dy: ScalarValue) -> ScalarValue {
        let zero = p.constant(p.dtype(x), 0.0);
        let forward = Op::from(self.forward()).scalar_program(&[p.dtype(x)]);
        let tangents = forward.map(|forward| p.push_forward(&forward, &[x], &[Some(dy)])).unwrap_or_default();
        tangents.first().copied().flatten().unwrap_or(zero)
    }
}

/// `sigmoid(x)` and `sigmoid(-x)`, without overflow and each without cancellation.
fn sigmoids(p: &mut ScalarProgram, x: ScalarValue) -> [ScalarValue; 2] {
    use ScalarOp as S;
    let dtype = p.dtype(x);
    let (zero, one) = (p.constant(dtype, 0.0), p.constant(dtype, 1.0));
    let negated = p.unary(S::Neg, x);
    let positive = p.binary(S::Ge, x, zero);
    let below = p.select(positive, negated, x);
    let exp = p.unary(S::Exp, below);
    let sum = p.binary(S::Add, one, exp);
    let large = p.binary(S::Div, one, sum);
    let small = p.binary(S::Div, exp, sum);
    [p.select(positive, large, small), p.select(positive, small, large)]
}

/// The derivative of `z sigmoid(z)`: `s + z s (1 - s)`.
fn gated_slope(p: &mut ScalarProgram, z: ScalarValue) -> ScalarValue {
    let [s, rest] = sigmoids(p, z);
    let curve = p.binary(ScalarOp::Mul, s, rest);
    let curve = p.binary(ScalarOp::Mul, z, curve);
    p.binary(ScalarOp::Add, s, curve)
}
