//! `activation`: the unary elementwise functions.

use crate::ops::prelude::*;
use std::f64::consts::{FRAC_1_SQRT_2, PI};

attr_enum! {
    /// Which function an [`Activation`] applies.
    ActivationKind {
        /// -x.
        Neg = "neg",
        /// |x|.
        Abs = "abs",
        /// -1, 0 or 1.
        Sign = "sign",
        /// Logical not on `bool`, bitwise on integers.
        Not = "not",
        /// e^x.
        Exp = "exp",
        /// e^x - 1.
        Expm1 = "expm1",
        /// Natural logarithm.
        Log = "log",
        /// log(1 + x).
        Log1p = "log1p",
        /// Square root.
        Sqrt = "sqrt",
        /// 1 / sqrt(x).
        Rsqrt = "rsqrt",
        /// 1 / x.
        Recip = "recip",
        /// Sine.
        Sin = "sin",
        /// Cosine.
        Cos = "cos",
        /// Tangent.
        Tan = "tan",
        /// Arc sine.
        Asin = "asin",
        /// Arc cosine.
        Acos = "acos",
        /// Arc tangent.
        Atan = "atan",
        /// Hyperbolic sine.
        Sinh = "sinh",
        /// Hyperbolic cosine.
        Cosh = "cosh",
        /// Hyperbolic tangent.
        Tanh = "tanh",
        /// Inverse hyperbolic sine.
        Asinh = "asinh",
        /// Inverse hyperbolic cosine.
        Acosh = "acosh",
        /// Inverse hyperbolic tangent.
        Atanh = "atanh",
        /// Gauss error function.
        Erf = "erf",
        /// Round down.
        Floor = "floor",
        /// Round up.
        Ceil = "ceil",
        /// Round towards zero.
        Trunc = "trunc",
        /// Round half to even.
        Round = "round",
        /// max(x, 0); NaN stays.
        Relu = "relu",
        /// 1 / (1 + e^-x).
        Sigmoid = "sigmoid",
        /// log(sigmoid(x)).
        LogSigmoid = "log_sigmoid",
        /// log(1 + e^x).
        Softplus = "softplus",
        /// x / (1 + |x|).
        Softsign = "softsign",
        /// x sigmoid(x).
        Silu = "silu",
        /// x/2 (1 + erf(x / sqrt 2)).
        Gelu = "gelu",
        /// The tanh form of gelu.
        GeluApprox = "gelu_approx",
        /// x sigmoid(1.702 x).
        QuickGelu = "quick_gelu",
        /// x for x > 0, else alpha (e^x - 1).
        Elu = "elu",
        /// x for x >= 0, else slope x.
        LeakyRelu = "leaky_relu",
        /// x min(max(x + 3, 0), 6) / 6.
        HardSwish = "hard_swish",
        /// min(max(x + 3, 0), 6) / 6.
        HardSigmoid = "hard_sigmoid",
        /// x tanh(softplus(x)).
        Mish = "mish",
    }
}

op! {
    /// `y = kind(x)`, elementwise; the result has the operand's type.
    ///
    /// (C1) `x` has a float dtype; `neg`, `abs`, `sign`, `relu` and the roundings take
    /// integers too (roundings return them unchanged); `not` takes `bool` and integers only.
    /// (C2) `parameter` is given for `elu` (alpha) and `leaky_relu` (slope), and for no other kind.
    /// Source: PyTorch's definitions of the functions of the same names.
    activation: Activation(x) -> y {
        /// The function.
        kind: ActivationKind,
        /// Alpha of `elu`, slope of `leaky_relu`.
        parameter: Option<Real>,
    }
}

impl OpSpec for Activation {
    const MEANING: Meaning<Self> = Meaning::scalar(|op, p, args| {
        vec![expand_kind(p, op.kind, args[0], op.parameter.map_or(0.0, |parameter| parameter.0))]
    });
    const VJP: Vjp<Self> =
        Vjp::Rule(|op, g, given| Ok(vec![Some(op.slope(g, given.operands[0], given.cotangent()))]));
    const JVP: Jvp<Self> = Jvp::Rule(|op, g, given| {
        Ok(vec![given.tangents[0].map(|tangent| op.slope(g, given.operands[0], tangent))])
    });
    const BATCH: Batch<Self> = Batch::elementwise();
    const ACCURACY: AccuracyRule<Self> = |op| {
        use ActivationKind as K;
        match op.kind {
            K::Neg | K::Abs | K::Sign | K::Not | K::Relu | K::Floor | K::Ceil | K::Trunc | K::Round => {
                Accuracy::Exact
            }
            K::Sqrt | K::Recip | K::LeakyRelu => Accuracy::Rounding,
            _ => Accuracy::Approx { ulp: 8.0 },
        }
    };
    const SAMPLES: Samples<Self> = Samples::Made(|| {
        use ActivationKind as K;
        let mut samples = vec![];
        for &kind in K::ALL {
            let parameter = match kind {
                K::Elu => Some(Real(0.7)),
                K::LeakyRelu => Some(Real(0.1)),
                _ => None,
            };
            let op = Activation { kind, parameter };
            let dtype = if kind == K::Not { DType::Bool } else { DType::F32 };
            let sample = Sample::new(op.clone(), [TensorType::new(dtype, [3, 5])]);
            samples.push(match kind {
                K::Log | K::Sqrt | K::Rsqrt | K::Recip => sample.fill(0, 0.1, 4.0),
                K::Log1p | K::Asin | K::Acos | K::Atanh => sample.fill(0, -0.9, 0.9),
                K::Acosh => sample.fill(0, 1.1, 4.0),
                _ => sample,
            });
        }
        let plain = |kind| Activation { kind, parameter: None };
        samples.push(Sample::new(plain(K::Neg), [TensorType::new(DType::I32, [7])]));
        samples.push(Sample::new(plain(K::Not), [TensorType::new(DType::U8, [2, 2])]));
        samples.push(Sample::new(plain(K::Relu), [TensorType::new(DType::I64, [0, 3])]));
        samples.push(Sample::new(plain(K::Gelu), [TensorType::new(DType::BF16, [])]));
        samples.push(Sample::new(plain(K::Silu), [TensorType::new(DType::F64, [2, 1, 3])]));
        samples
    });

    fn infer(&self, operands: &[&TensorType]) -> Inferred {
        use ActivationKind as K;
        let dtype = operands[0].dtype;
        let (float, int) =
            (dtype.is_float() && !dtype.is_storage_only(), dtype.is_int() && !dtype.is_storage_only());
        let legal = match self.kind {
            K::Not => dtype == DType::Bool || int,
            K::Neg | K::Abs | K::Sign | K::Relu | K::Floor | K::Ceil | K::Trunc | K::Round => float || int,
            _ => float,
        };
        require!("C1", legal, "{} does not take {dtype}", self.kind);
        let takes = matches!(self.kind, K::Elu | K::LeakyRelu);
        require!(
            "C2",
            takes == self.parameter.is_some(),
            "{} takes {} parameter",
            self.kind,
            if takes { "one" } else { "no" }
        );
        Ok(vec![operands[0].clone()])
    }
}

impl Activation {
    /// An activation without a parameter.
    pub fn of(kind: ActivationKind) -> Activation {
        Activation { kind, parameter: None }
    }

    /// The derivative at `x` times `change`: what goes backwards goes forwards.
    fn slope(&self, g: &mut Graph, x: Value, change: Value) -> Value {
        use ActivationKind as K;
        match self.kind {
            K::Neg => g.neg(change),
            K::Sign | K::Floor | K::Ceil | K::Trunc | K::Round => g.zeros_like(change),
            kind => g.push(ActivationBackward { kind, parameter: self.parameter }, &[x, change]),
        }
    }
}

fn expand_kind(p: &mut ScalarProgram, kind: ActivationKind, x: ScalarValue, parameter: f64) -> ScalarValue {
    use ActivationKind as K;
    use ScalarOp as S;
    let dtype = p.dtype(x);
    let direct = match kind {
        K::Neg => Some(S::Neg),
        K::Abs => Some(S::Abs),
        K::Sign => Some(S::Sign),
        K::Not => Some(S::Not),
        K::Exp => Some(S::Exp),
        K::Expm1 => Some(S::Expm1),
        K::Log => Some(S::Log),
        K::Log1p => Some(S::Log1p),
        K::Sqrt => Some(S::Sqrt),
        K::Rsqrt => Some(S::Rsqrt),
        K::Sin => Some(S::Sin),
        K::Cos => Some(S::Cos),
        K::Tan => Some(S::Tan),
        K::Asin => Some(S::Asin),
        K::Acos => Some(S::Acos),
        K::Atan => Some(S::Atan),
        K::Sinh => Some(S::Sinh),
        K::Cosh => Some(S::Cosh),
        K::Tanh => Some(S::Tanh),
        K::Asinh => Some(S::Asinh),
        K::Acosh => Some(S::Acosh),
        K::Atanh => Some(S::Atanh),
        K::Erf => Some(S::Erf),
        K::Floor => Some(S::Floor),
        K::Ceil => Some(S::Ceil),
        K::Trunc => Some(S::Trunc),
        K::Round => Some(S::Round),
        _ => None,
    };
    if let Some(op) = direct {
        return p.unary(op, x);
    }
    let zero = p.constant(dtype, 0.0);
    if kind == K::Relu {
        return p.binary(S::Max, x, zero);
    }
    let one = p.constant(dtype, 1.0);
    match kind {
        K::Recip => p.binary(S::Div, one, x),
        K::Sigmoid => sigmoid(p, x),
        K::LogSigmoid => {
            let negated = p.unary(S::Neg, x);
            let softplus = softplus(p, negated);
            p.unary(S::Neg, softplus)
        }
        K::Softplus => softplus(p, x),
        K::Softsign => {
            let magnitude = p.unary(S::Abs, x);
            let denominator = p.binary(S::Add, one, magnitude);
            p.binary(S::Div, x, denominator)
        }
        K::Silu => {
            let gate = sigmoid(p, x);
            p.binary(S::Mul, x, gate)
        }
        K::Gelu => {
            let scale = p.constant(dtype, FRAC_1_SQRT_2);
            let scaled = p.binary(S::Mul, x, scale);
            let erf = p.unary(S::Erf, scaled);
            half_gate(p, x, erf)
        }
        K::GeluApprox => {
            let cubic = p.constant(dtype, 0.044715);
            let square = p.binary(S::Mul, x, x);
            let inner = p.binary(S::Mul, square, cubic);
            let inner = p.binary(S::Add, inner, one);
            let inner = p.binary(S::Mul, inner, x);
            let scale = p.constant(dtype, (2.0 / PI).sqrt());
            let inner = p.binary(S::Mul, inner, scale);
            let tanh = p.unary(S::Tanh, inner);
            half_gate(p, x, tanh)
        }
        K::QuickGelu => {
            let scale = p.constant(dtype, 1.702);
            let scaled = p.binary(S::Mul, x, scale);
            let gate = sigmoid(p, scaled);
            p.binary(S::Mul, x, gate)
        }
        K::Elu => {
            let alpha = p.constant(dtype, parameter);
            let below = p.unary(S::Expm1, x);
            let below = p.binary(S::Mul, alpha, below);
            let positive = p.binary(S::Gt, x, zero);
            p.select(positive, x, below)
        }
        K::LeakyRelu => {
            let slope = p.constant(dtype, parameter);
            let below = p.binary(S::Mul, slope, x);
            let positive = p.binary(S::Ge, x, zero);
            p.select(positive, x, below)
        }
        K::HardSigmoid => hard_sigmoid(p, x),
        K::HardSwish => {
            let gate = hard_sigmoid(p, x);
            p.binary(S::Mul, x, gate)
        }
        // The last kind; every other one is handled above.
        _ => {
            let softplus = softplus(p, x);
            let tanh = p.unary(S::Tanh, softplus);
            p.binary(S::Mul, x, tanh)
        }
    }
}

/// x/2 (1 + gate).
fn half_gate(p: &mut ScalarProgram, x: ScalarValue, gate: ScalarValue) -> ScalarValue {
    let dtype = p.dtype(x);
    let (one, half) = (p.constant(dtype, 1.0), p.constant(dtype, 0.5));
    let gate = p.binary(ScalarOp::Add, one, gate);
    let halved = p.binary(ScalarOp::Mul, x, half);
    p.binary(ScalarOp::Mul, halved, gate)
}

fn sigmoid(p: &mut ScalarProgram, x: ScalarValue) -> ScalarValue {
    let one = p.constant(p.dtype(x), 1.0);
    let negated = p.unary(ScalarOp::Neg, x);
    let exp = p.unary(ScalarOp::Exp, negated);
    let denominator = p.binary(ScalarOp::Add, one, exp);
    p.binary(ScalarOp::Div, one, denominator)
}

/// max(x, 0) + log1p(e^-|x|): no overflow on either side.
fn softplus(p: &mut ScalarProgram, x: ScalarValue) -> ScalarValue {
    let zero = p.constant(p.dtype(x), 0.0);
    let magnitude = p.unary(ScalarOp::Abs, x);
    let negated = p.unary(ScalarOp::Neg, magnitude);
    let exp = p.unary(ScalarOp::Exp, negated);
    let log = p.unary(ScalarOp::Log1p, exp);
    let positive = p.binary(ScalarOp::Max, x, zero);
    p.binary(ScalarOp::Add, positive, log)
}

fn hard_sigmoid(p: &mut ScalarProgram, x: ScalarValue) -> ScalarValue {
    let dtype = p.dtype(x);
    let (zero, three, six) = (p.constant(dtype, 0.0), p.constant(dtype, 3.0), p.constant(dtype, 6.0));
    let shifted = p.binary(ScalarOp::Add, x, three);
    let clipped = p.binary(ScalarOp::Max, shifted, zero);
    let clipped = p.binary(ScalarOp::Min, clipped, six);
    p.binary(ScalarOp::Div, clipped, six)
}
