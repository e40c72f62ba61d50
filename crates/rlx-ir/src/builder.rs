//! Builder helpers on top of the generated one-method-per-op builder.
//!
//! They infer what a person would leave out: leaf types, negative axes, scalar
//! constants, the shape of a reshape. None of them adds meaning of its own.

use crate::dim::Dim;
use crate::dtype::DType;
use crate::graph::{Graph, Value};
use crate::literal::Literal;
use crate::ops::{Activation, ActivationKind, Binary, BinaryKind, Compare, CompareKind};
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

macro_rules! compare_methods {
    ($($(#[doc = $doc:literal])* $name:ident => $kind:ident),* $(,)?) => {
        impl Graph { $($(#[doc = $doc])* #[track_caller] pub fn $name(&mut self, a: Value, b: Value) -> Value {
            self.push(Compare { kind: CompareKind::$kind }, &[a, b])
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
compare_methods! {
    /// a = b.
    compare_eq => Eq,
    /// a != b.
    compare_ne => Ne,
    /// a < b.
    compare_lt => Lt,
    /// a <= b.
    compare_le => Le,
    /// a > b.
    compare_gt => Gt,
    /// a >= b.
    compare_ge => Ge,
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

    /// The rank-0 constant `value` in `dtype` (rounded or truncated to it), which has no block format.
    #[track_caller]
    pub fn scalar(&mut self, dtype: DType, value: f64) -> Value {
        match Literal::floats(dtype, &[], &[value]) {
            Ok(literal) => self.constant(literal),
            Err(error) => self.reject("scalar", error.to_string()),
        }
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

    /// `on_true` where `condition` holds, else `on_false`.
    #[track_caller]
    pub fn where_(&mut self, condition: Value, on_true: Value, on_false: Value) -> Value {
        self.r#where(condition, on_true, on_false)
    }

    /// Elements `start .. start + len` along `axis`, which may be negative.
    #[track_caller]
    pub fn narrow_at(&mut self, x: Value, axis: i64, start: impl Into<Dim>, len: impl Into<Dim>) -> Value {
        let axis = self.axis(x, axis);
        self.narrow(x, axis, start, len)
    }

    /// `x` cut along `axis` (which may be negative) into pieces of the given extents, from the start on.
    #[track_caller]
    pub fn split(&mut self, x: Value, axis: i64, lens: &[Dim]) -> Vec<Value> {
        let mut start = Dim::from(0);
        let mut parts = vec![];
        for len in lens {
            parts.push(self.narrow_at(x, axis, start.clone(), len.clone()));
            start = start + len.clone();
        }
        parts
    }

    /// The operands one after the other along `axis`, which may be negative.
    #[track_caller]
    pub fn concat_at(&mut self, parts: &[Value], axis: i64) -> Value {
        let axis = parts.first().map_or(0, |&first| self.axis(first, axis));
        self.concat(parts, axis)
    }

    /// `x` with two axes swapped; they may be negative.
    #[track_caller]
    pub fn swap_axes(&mut self, x: Value, a: i64, b: i64) -> Value {
        let (a, b) = (self.axis(x, a), self.axis(x, b));
        let mut permutation: Vec<usize> = (0..self.try_ty(x).map_or(0, TensorType::rank)).collect();
        if a < permutation.len() && b < permutation.len() {
            permutation.swap(a, b);
            return self.transpose(x, permutation);
        }
        self.reject("swap_axes", format!("axes {a} and {b} are out of range for rank {}", permutation.len()))
    }

    /// `x` with its last two axes swapped.
    #[track_caller]
    pub fn transpose_last_two(&mut self, x: Value) -> Value {
        self.swap_axes(x, -2, -1)
    }

    /// `x` with a new axis of extent 1 at `axis` of the result, which may be negative.
    #[track_caller]
    pub fn unsqueeze(&mut self, x: Value, axis: i64) -> Value {
        let Some(ty) = self.try_ty(x) else { return Value::POISON };
        let mut dims = ty.shape.dims().to_vec();
        let count = dims.len() as i64 + 1;
        match usize::try_from(if axis < 0 { axis + count } else { axis }) {
            Ok(axis) if axis <= dims.len() => dims.insert(axis, Dim::from(1)),
            _ => return self.reject("unsqueeze", format!("axis {axis} is out of range for rank {count}")),
        }
        self.reshape(x, Shape::from(dims))
    }

    /// `x` without its axis `axis`, whose extent is 1; it may be negative.
    #[track_caller]
    pub fn squeeze(&mut self, x: Value, axis: i64) -> Value {
        let Some(ty) = self.try_ty(x) else { return Value::POISON };
        let mut dims = ty.shape.dims().to_vec();
        let position = self.axis(x, axis);
        if position >= dims.len() {
            return self.reject("squeeze", format!("axis {axis} is out of range for rank {}", dims.len()));
        }
        dims.remove(position);
        self.reshape(x, Shape::from(dims))
    }

    /// `x` limited to `low ..= high`, both rounded or truncated to its dtype.
    #[track_caller]
    pub fn clip(&mut self, x: Value, low: f64, high: f64) -> Value {
        let Some(dtype) = self.try_ty(x).map(|ty| ty.dtype) else { return Value::POISON };
        let (low, high) = (self.scalar(dtype, low), self.scalar(dtype, high));
        self.clamp(x, Some(low), Some(high))
    }

    /// A tensor of one value everywhere.
    #[track_caller]
    pub fn full(&mut self, dtype: DType, shape: impl Into<Shape>, value: f64) -> Value {
        let value = self.scalar(dtype, value);
        self.expand(value, shape)
    }

    /// The operands, all of one type, along a new axis at `axis` of the result, which may be negative.
    #[track_caller]
    pub fn stack(&mut self, parts: &[Value], axis: i64) -> Value {
        let rank = parts.first().and_then(|&first| self.try_ty(first)).map_or(0, TensorType::rank) as i64 + 1;
        let position = if axis < 0 { axis + rank } else { axis };
        let parts: Vec<Value> = parts.iter().map(|&part| self.unsqueeze(part, axis)).collect();
        self.concat(&parts, usize::try_from(position).unwrap_or(usize::MAX))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn constants_of_block_formats_are_refused() {
        let mut graph = Graph::new("g");
        let x = graph.input("x", TensorType::new(DType::Q4_0, [32usize]));
        let y = graph.clip(x, 0.0, 1.0);
        let z = graph.full(DType::Q4_0, [32usize], 1.0);
        graph.output("y", y);
        graph.output("z", z);
        let error = graph.finish().unwrap_err().to_string();
        assert_eq!(error.matches("q4_0 holds blocks, no single numbers").count(), 3, "{error}");
    }
}
