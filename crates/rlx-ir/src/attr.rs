//! Attribute values: the bridge between an op's typed fields and the text form.
//!
//! [`AttrField`] is implemented once per field type; printer, parser, symbol
//! substitution and reports all go through it.

use crate::body::Body;
use crate::custom::CustomHandle;
use crate::dim::Dim;
use crate::dtype::DType;
use crate::literal::Literal;
use crate::scalar::ScalarProgram;
use crate::shape::{Shape, TensorType};
use std::hash::{Hash, Hasher};
use std::sync::Arc;

/// An attribute as printed and parsed.
#[derive(Clone, Debug, PartialEq)]
pub enum Attr {
    /// Integer or symbolic integer expression.
    Dim(Dim),
    /// Floating-point number.
    Real(f64),
    /// A bare word: `true`, `none`, an enum case, a dtype.
    Word(String),
    /// A quoted string.
    Text(String),
    /// A bracketed list.
    List(Vec<Attr>),
    /// A tensor type.
    Type(TensorType),
    /// A typed constant.
    Literal(Literal),
    /// A scalar program.
    Program(Arc<ScalarProgram>),
    /// A graph.
    Body(Body),
    /// A user's op.
    Custom(CustomHandle),
}

/// A field type that an op may use as an attribute.
pub trait AttrField: Sized + Clone {
    /// What the parser says it expected.
    const EXPECTED: &'static str;
    /// To the text form.
    fn to_attr(&self) -> Attr;
    /// From the text form; `None` when the attribute has another kind or range.
    fn from_attr(attr: &Attr) -> Option<Self>;
    /// The field with every dim replaced; fields without dims stay as they are.
    fn map_dims(&self, _map: &dyn Fn(&Dim) -> Dim) -> Self {
        self.clone()
    }
}

/// A float attribute, compared and hashed by its bits.
#[derive(Clone, Copy, Debug)]
pub struct Real(pub f64);

impl PartialEq for Real {
    fn eq(&self, other: &Real) -> bool {
        self.0.to_bits() == other.0.to_bits()
    }
}
impl Eq for Real {}
impl Hash for Real {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.0.to_bits().hash(state);
    }
}
impl From<f64> for Real {
    fn from(value: f64) -> Real {
        Real(value)
    }
}

impl AttrField for Real {
    const EXPECTED: &'static str = "a number";
    fn to_attr(&self) -> Attr {
        Attr::Real(self.0)
    }
    fn from_attr(attr: &Attr) -> Option<Real> {
        match attr {
            Attr::Real(value) => Some(Real(*value)),
            Attr::Dim(dim) => dim.as_static().map(|value| Real(value as f64)),
            Attr::Word(word) => match word.as_str() {
                "inf" => Some(Real(f64::INFINITY)),
                "nan" => Some(Real(f64::NAN)),
                _ => None,
            },
            _ => None,
        }
    }
}

macro_rules! integer_fields {
    ($($ty:ty),*) => {$(
        impl AttrField for $ty {
            const EXPECTED: &'static str = concat!("an integer that fits ", stringify!($ty));
            fn to_attr(&self) -> Attr {
                Attr::Dim(Dim::from(i64::try_from(*self).unwrap_or(i64::MAX)))
            }
            fn from_attr(attr: &Attr) -> Option<$ty> {
                match attr {
                    Attr::Dim(dim) => dim.as_static().and_then(|value| <$ty>::try_from(value).ok()),
                    _ => None,
                }
            }
        }
    )*};
}
integer_fields!(usize, i64, u32);

/// Field types that a case of [`Attr`] holds as they are, with what replaces their dims.
macro_rules! held_fields {
    ($($ty:ty = $case:ident, $expected:literal $(, $map_dims:expr)?;)*) => {$(
        impl AttrField for $ty {
            const EXPECTED: &'static str = $expected;
            fn to_attr(&self) -> Attr {
                Attr::$case(self.clone())
            }
            fn from_attr(attr: &Attr) -> Option<$ty> {
                if let Attr::$case(held) = attr { Some(held.clone()) } else { None }
            }
            $(fn map_dims(&self, map: &dyn Fn(&Dim) -> Dim) -> $ty {
                $map_dims(self, map)
            })?
        }
    )*};
}
held_fields! {
    String = Text, "a quoted string";
    TensorType = Type, "a tensor type such as f32[2, 3]", |ty: &TensorType, map: &dyn Fn(&Dim) -> Dim| {
        TensorType { dtype: ty.dtype, shape: ty.shape.map_dims(map) }
    };
    Literal = Literal, "a typed constant such as f32[2]:[1, 2]";
    Arc<ScalarProgram> = Program, "a scalar program";
    Body = Body, "a graph such as graph \"body\" { .. }", Body::map_dims;
    CustomHandle = Custom, "a user op such as custom \"name\" 1";
}

impl AttrField for bool {
    const EXPECTED: &'static str = "true or false";
    fn to_attr(&self) -> Attr {
        Attr::Word(self.to_string())
    }
    fn from_attr(attr: &Attr) -> Option<bool> {
        match attr {
            Attr::Word(word) => word.parse().ok(),
            _ => None,
        }
    }
}

impl AttrField for Dim {
    const EXPECTED: &'static str = "an integer expression";
    fn to_attr(&self) -> Attr {
        Attr::Dim(self.clone())
    }
    fn from_attr(attr: &Attr) -> Option<Dim> {
        match attr {
            Attr::Dim(dim) => Some(dim.clone()),
            Attr::Word(word) => Some(Dim::symbol(word)),
            _ => None,
        }
    }
    fn map_dims(&self, map: &dyn Fn(&Dim) -> Dim) -> Dim {
        map(self)
    }
}

impl AttrField for Shape {
    const EXPECTED: &'static str = "a list of integer expressions";
    fn to_attr(&self) -> Attr {
        Attr::List(self.dims().iter().map(AttrField::to_attr).collect())
    }
    fn from_attr(attr: &Attr) -> Option<Shape> {
        Vec::<Dim>::from_attr(attr).map(Shape::from)
    }
    fn map_dims(&self, map: &dyn Fn(&Dim) -> Dim) -> Shape {
        Shape::from(self.dims().iter().map(map).collect::<Vec<_>>())
    }
}

impl AttrField for DType {
    const EXPECTED: &'static str = "a dtype such as f32";
    fn to_attr(&self) -> Attr {
        Attr::Word(self.name().to_string())
    }
    fn from_attr(attr: &Attr) -> Option<DType> {
        match attr {
            Attr::Word(word) => DType::parse(word),
            _ => None,
        }
    }
}

impl<T: AttrField> AttrField for Vec<T> {
    const EXPECTED: &'static str = "a list";
    fn to_attr(&self) -> Attr {
        Attr::List(self.iter().map(AttrField::to_attr).collect())
    }
    fn from_attr(attr: &Attr) -> Option<Vec<T>> {
        match attr {
            Attr::List(items) => items.iter().map(T::from_attr).collect(),
            _ => None,
        }
    }
    fn map_dims(&self, map: &dyn Fn(&Dim) -> Dim) -> Vec<T> {
        self.iter().map(|item| item.map_dims(map)).collect()
    }
}

impl<T: AttrField> AttrField for Option<T> {
    const EXPECTED: &'static str = T::EXPECTED;
    fn to_attr(&self) -> Attr {
        self.as_ref().map_or_else(|| Attr::Word("none".into()), AttrField::to_attr)
    }
    fn from_attr(attr: &Attr) -> Option<Option<T>> {
        match attr {
            Attr::Word(word) if word == "none" => Some(None),
            other => T::from_attr(other).map(Some),
        }
    }
    fn map_dims(&self, map: &dyn Fn(&Dim) -> Dim) -> Option<T> {
        self.as_ref().map(|value| value.map_dims(map))
    }
}

/// Declares an attribute enum whose cases are bare words in the text form.
#[macro_export]
macro_rules! attr_enum {
    ($(#[doc = $doc:literal])* $name:ident { $($(#[doc = $case_doc:literal])* $case:ident = $word:literal),* $(,)? }) => {
        $(#[doc = $doc])*
        #[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
        pub enum $name { $($(#[doc = $case_doc])* $case),* }
        impl $name {
            /// Every case, in declaration order.
            pub const ALL: &'static [$name] = &[$($name::$case),*];
            /// The word that stands for the case in the text form.
            pub const fn word(self) -> &'static str { match self { $($name::$case => $word),* } }
        }
        impl std::fmt::Display for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result { f.write_str(self.word()) }
        }
        impl $crate::attr::AttrField for $name {
            const EXPECTED: &'static str = concat!("one of:" $(, " ", $word)*);
            fn to_attr(&self) -> $crate::attr::Attr { $crate::attr::Attr::Word(self.word().to_string()) }
            fn from_attr(attr: &$crate::attr::Attr) -> Option<$name> {
                match attr {
                    $crate::attr::Attr::Word(word) => match word.as_str() { $($word => Some($name::$case),)* _ => None },
                    _ => None,
                }
            }
        }
    };
}
