//! Builder helpers on top of the generated one-method-per-op builder.
//!
//! They infer what a person would leave out: leaf types, negative axes, scalar
//! constants, the shape of a reshape. None of them adds meaning of its own.

use crate::dim::Dim;
use crate::dtype::DType;
use crate::graph::{Graph, Value};
use crate::literal::Literal;
use crate::ops::{Activation, ActivationKind, Binary, BinaryKind};
use crate::shape::{Shape, TensorType};

macro_rules! unary_methods {
    ($($(#[doc = $doc:literal])* $name:ident => $kind:ident),* $(,)?) => {
        impl Graph { $($(#[doc = $doc])* #[track_caller] pub fn $name(&mut self, x: Value) -> Value {
            self.push(Activation::of(ActivationKind::$kind), &[x])
        })* }
    };
}
macro_rules! binary_methods {
    ($($(#[doc = $doc:literal])* $name:ident => $kind:ident),* $(,)?) => {
        impl Graph { $($(#[doc = $doc])* #[track_caller] pub fn $name(&mut self, a: Value, b: Value) -> Value {
            self.push(Binary { kind: BinaryKind::$kind }, &[a, b])
        })* }
    };
}

unary_methods! {
    /// -x.
    neg => Neg,
    /// |x|.
    abs => Abs,
    /// Logical or bitwise not.
    not => Not,
    /// e^x.
    exp => Exp,
    /// Natural logarithm.
    log => Log,
    /// Square root.
    sqrt => Sqrt,
    /// 1 / sqrt(x).
    rsqrt => Rsqrt,
    /// Hyperbolic tangent.
    tanh => Tanh,
    /// Gauss error function.
    erf => Erf,
    /// max(x, 0).
    relu => Relu,
    /// 1 / (1 + e^-x).
    sigmoid => Sigmoid,
    /// x sigmoid(x).
    silu => Silu,
    /// Gelu by erf.
    gelu => Gelu,
    /// Gelu by tanh.
    gelu_approx => GeluApprox,
}
binary_methods! {
    /// a + b.
    add => Add,
    /// a - b.
    sub => Sub,
    /// a b.
    mul => Mul,
    /// a / b.
    div => Div,
    /// Larger of the two.
    maximum => Max,
    /// Smaller of the two.
    minimum => Min,
    /// a to the power b.
    pow => Pow,
    /// Logical and.
    and => And,
    /// Logical or.
    or => Or,
}

impl Graph {
    /// An input of dtype `f32`; for others see [`Graph::input`].
    #[track_caller]
    pub fn input_f32(&mut self, name: &str, shape: impl Into<Shape>) -> Value {
        self.input(name, TensorType::new(DType::F32, shape))
    }

    /// A param of dtype `f32`; for others see [`Graph::param`].
    #[track_caller]
    pub fn param_f32(&mut self, name: &str, shape: impl Into<Shape>) -> Value {
        self.param(name, TensorType::new(DType::F32, shape))
    }

    /// The rank-0 constant `value` in `dtype` (rounded or truncated to it).
    #[track_caller]
    pub fn scalar(&mut self, dtype: DType, value: f64) -> Value {
        self.constant(Literal::floats(dtype, &[], &[value]))
    }

    /// `x` converted to `dtype`; `x` itself where it already is.
    #[track_caller]
    pub fn cast_to(&mut self, x: Value, dtype: DType) -> Value {
        match self.try_ty(x) {
            Some(ty) if ty.dtype == dtype => x,
            _ => self.cast(x, dtype),
        }
    }

    /// `x` in the dtype that sums of it accumulate in: `f32` for narrower floats.
    #[track_caller]
    pub fn accumulation_cast(&mut self, x: Value) -> Value {
        match self.try_ty(x) {
            Some(ty) if ty.dtype.is_float() && ty.dtype.block_bits() < 32 => self.cast(x, DType::F32),
            _ => x,
        }
    }

    /// `a b` with the last dim of `a` against the second last of `b`.
    #[track_caller]
    pub fn mm(&mut self, a: Value, b: Value) -> Value {
        self.matmul(a, b, false, false)
    }

    /// `x` under `dims`; one of them may be -1 and takes what is left.
    #[track_caller]
    pub fn view<D: Into<Dim>>(&mut self, x: Value, dims: impl IntoIterator<Item = D>) -> Value {
        let mut dims: Vec<Dim> = dims.into_iter().map(Into::into).collect();
        let Some(ty) = self.try_ty(x) else {
            return self.push(crate::ops::Reshape { shape: Shape::from(dims) }, &[x]);
        };
        let open: Vec<usize> = (0..dims.len()).filter(|&axis| dims[axis].is(-1)).collect();
        if let [axis] = open[..] {
            let known = dims.iter().filter(|dim| !dim.is(-1)).cloned().fold(Dim::from(1), |a, b| a * b);
            dims[axis] = if known.is(0) { Dim::from(0) } else { ty.shape.num_elements().floor_div(&known) };
        }
        self.reshape(x, Shape::from(dims))
    }

    /// `axis` counted from the end where it is negative.
    pub fn axis(&self, x: Value, axis: i64) -> usize {
        let rank = self.try_ty(x).map_or(0, TensorType::rank) as i64;
        usize::try_from(if axis < 0 { axis + rank } else { axis }).unwrap_or(usize::MAX)
    }
}
