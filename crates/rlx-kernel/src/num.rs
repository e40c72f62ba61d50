//! Values that know their builder, so that formulas are written as formulas.
//!
//! A constant beside a value takes its type: an integer its bits, a float is `f32`. Operations are the language's own,
//! with no care for NaN, except where they say so: a function decides its special cases by bits at the end.

use crate::builder::Builder;
use crate::ir::*;
use std::ops::{Add, BitAnd, BitOr, BitXor, Div, Mul, Not, Rem, Shl, Shr, Sub};

/// The bits of an infinite `f32`.
pub(crate) const INFINITY: u32 = 0x7f80_0000;

/// A value and where its formulas go.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Num<'b> {
    pub b: &'b Builder,
    pub value: Value,
}

/// What stands beside a value in a formula.
pub(crate) trait Operand<'b> {
    /// Its own type, if it has one.
    fn own_type(&self) -> Option<Scalar>;
    /// The value, where a constant without a type takes `ty`.
    fn on(self, b: &'b Builder, ty: Scalar) -> Value;
}

impl<'b> Operand<'b> for Num<'b> {
    fn own_type(&self) -> Option<Scalar> {
        Some(self.ty())
    }

    fn on(self, _: &'b Builder, _: Scalar) -> Value {
        self.value
    }
}

impl<'b> Operand<'b> for Literal {
    fn own_type(&self) -> Option<Scalar> {
        Some(self.ty)
    }

    fn on(self, b: &'b Builder, _: Scalar) -> Value {
        b.literal(self.ty, self.bits)
    }
}

impl<'b> Operand<'b> for u32 {
    fn own_type(&self) -> Option<Scalar> {
        None
    }

    fn on(self, b: &'b Builder, ty: Scalar) -> Value {
        b.literal(ty, u64::from(self))
    }
}

impl<'b> Operand<'b> for f32 {
    fn own_type(&self) -> Option<Scalar> {
        Some(Scalar::F32)
    }

    fn on(self, b: &'b Builder, _: Scalar) -> Value {
        b.f32(self)
    }
}

/// Operators and named operations of two operands.
macro_rules! binaries {
    ($($trait:ident $operator:ident),*; $($name:ident $op:ident),*) => {
        $(impl<'b, T: Operand<'b>> $trait<T> for Num<'b> {
            type Output = Num<'b>;
            fn $operator(self, other: T) -> Num<'b> { self.binary(BinaryOp::$trait, other) }
        })*
        #[allow(missing_docs)]
        impl<'b> Num<'b> {
            $(pub fn $name(self, other: impl Operand<'b>) -> Num<'b> { self.binary(BinaryOp::$op, other) })*
        }
    };
}

binaries!(Add add, Sub sub, Mul mul, Div div, Rem rem, Shl shl, Shr shr;
    min Min, max Max, is Eq, is_not Ne, below Lt, at_most Le, above Gt, at_least Ge, and And, or Or, xor Xor);

/// Operators whose traits are named after bits.
macro_rules! bitwise {
    ($($trait:ident $operator:ident $name:ident),*) => { $(
        impl<'b, T: Operand<'b>> $trait<T> for Num<'b> {
            type Output = Num<'b>;
            fn $operator(self, other: T) -> Num<'b> { self.$name(other) }
        }
    )* };
}

bitwise!(BitAnd bitand and, BitOr bitor or, BitXor bitxor xor);

/// A constant on the left.
macro_rules! constant_first {
    ($($trait:ident $operator:ident $constant:ty),*) => { $(
        impl<'b> $trait<Num<'b>> for $constant {
            type Output = Num<'b>;
            fn $operator(self, other: Num<'b>) -> Num<'b> { other.like(self).$operator(other) }
        }
    )* };
}

constant_first!(Sub sub f32, Sub sub u32, Div div f32);

impl<'b> Not for Num<'b> {
    type Output = Num<'b>;
    fn not(self) -> Num<'b> {
        self.unary(UnaryOp::Not)
    }
}

impl<'b> Num<'b> {
    pub fn ty(self) -> Scalar {
        self.b.type_of(self.value)
    }

    /// An operand as a value beside this one.
    pub fn like(self, operand: impl Operand<'b>) -> Num<'b> {
        self.b.num(operand.on(self.b, self.ty()))
    }

    pub fn unary(self, op: UnaryOp) -> Num<'b> {
        self.b.num(self.b.unary(op, self.value))
    }

    pub fn binary(self, op: BinaryOp, other: impl Operand<'b>) -> Num<'b> {
        self.b.num(self.b.binary(op, self.value, self.like(other).value))
    }

    /// `then` where this holds, else `otherwise`.
    pub fn choose(self, then: impl Operand<'b>, otherwise: impl Operand<'b>) -> Num<'b> {
        let ty = then.own_type().or(otherwise.own_type()).unwrap_or(Scalar::U32);
        let (then, otherwise) = (then.on(self.b, ty), otherwise.on(self.b, ty));
        self.b.num(self.b.select(self.value, then, otherwise))
    }

    pub fn cast(self, ty: Scalar) -> Num<'b> {
        self.b.num(self.b.cast(ty, self.value))
    }

    pub fn bitcast(self, ty: Scalar) -> Num<'b> {
        self.b.num(self.b.bitcast(ty, self.value))
    }

    /// The bits as `u32`.
    pub fn bits(self) -> Num<'b> {
        self.bitcast(Scalar::U32)
    }

    /// The `f32` with these bits.
    pub fn float(self) -> Num<'b> {
        self.bitcast(Scalar::F32)
    }

    /// A mutable local that starts with this value.
    pub fn local(self, name: &str) -> Local<'b> {
        let name = format!("{name}{}", self.b.kernel().variables.len());
        Local { b: self.b, id: self.b.variable_of(name, self.value) }
    }
}

/// `f32` by its bits.
impl<'b> Num<'b> {
    /// The bits without the sign.
    pub fn magnitude(self) -> Num<'b> {
        self.bits() & 0x7fff_ffff
    }

    pub fn is_nan(self) -> Num<'b> {
        self.magnitude().above(INFINITY)
    }

    pub fn abs(self) -> Num<'b> {
        self.magnitude().float()
    }

    pub fn negate(self) -> Num<'b> {
        (self.bits() ^ 0x8000_0000).float()
    }

    pub fn sign_bit(self) -> Num<'b> {
        self.bits() & 0x8000_0000
    }

    /// This, which is not negative, with the sign of `of`.
    pub fn with_sign(self, of: Num<'b>) -> Num<'b> {
        (self.bits() | of.sign_bit()).float()
    }

    /// NaN where `condition`, else this.
    pub fn nan_if(self, condition: Num<'b>) -> Num<'b> {
        condition.choose(f32::NAN, self)
    }

    /// This, or NaN where `x` is NaN.
    pub fn or_nan(self, x: Num<'b>) -> Num<'b> {
        self.nan_if(x.is_nan())
    }

    pub fn clamp(self, low: f32, high: f32) -> Num<'b> {
        self.max(low).min(high)
    }

    pub fn round(self) -> Num<'b> {
        self.unary(UnaryOp::Round)
    }

    pub fn sqrt(self) -> Num<'b> {
        self.unary(UnaryOp::Sqrt)
    }

    /// `constants[0] + constants[1] x + ...`.
    pub fn polynomial(self, constants: &[f32]) -> Num<'b> {
        let (&last, rest) = constants.split_last().expect("a polynomial has a constant term");
        rest.iter().rev().fold(self.like(last), |value, &constant| value * self + constant)
    }

    /// `2^n` for an `i32` within the normal exponents.
    pub fn power_of_two(self) -> Num<'b> {
        ((self + 127) << 23).float()
    }

    /// `x 2^n` for an `i32` from -252 to 252, rounded once unless the result is subnormal.
    pub fn scale(self, n: Num<'b>) -> Num<'b> {
        let half = n >> 1;
        self * half.power_of_two() * (n - half).power_of_two()
    }
}

/// A mutable local.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Local<'b> {
    b: &'b Builder,
    id: VariableId,
}

impl<'b> Local<'b> {
    pub fn get(self) -> Num<'b> {
        self.b.num(self.b.get(self.id))
    }

    pub fn set(self, value: Num<'b>) {
        self.b.set(self.id, value.value);
    }
}
