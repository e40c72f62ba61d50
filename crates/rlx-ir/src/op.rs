//! What an op must say about itself, and the macros that collect it.
//!
//! An op is one struct in one file under `ops/`, declared with [`op!`](crate::op!),
//! plus one [`OpSpec`] impl. One line in the list in `ops/mod.rs` adds it to
//! the enum, the parser, the builder and every generic test.

pub use crate::derive::{Backward, Batch, Batched, Derivatives, Forward, Judgement, Judgements, Jvp, Vjp};

use crate::accuracy::Accuracy;
use crate::attr::Attr;
use crate::diagnostic::{Diagnostic, IrError};
use crate::graph::{Graph, Value};
use crate::layout::Layout;
use crate::literal::{Literal, LiteralError};
use crate::scalar::{ScalarProgram, ScalarValue};
use crate::shape::TensorType;
use crate::text::parse_sample;
use crate::value_range::ValueRange;
use std::fmt;

/// Names and prose of an op, filled in by [`op!`](crate::op!).
#[derive(Debug)]
pub struct OpDef {
    /// Mnemonic in the text form.
    pub name: &'static str,
    /// Operands that are always there.
    pub operands: &'static [&'static str],
    /// Operands that are there when the attribute of the same name is true.
    pub optional: &'static [&'static str],
    /// Name of the trailing operands of any number, if the op has them.
    pub variadic: Option<&'static str>,
    /// Names of the results.
    pub results: &'static [&'static str],
    /// Fields of the struct, flags of optional operands left out.
    pub attributes: &'static [AttrDef],
    /// Folder under `ops/`.
    pub family: &'static str,
    /// Doc comment of the struct.
    pub doc: &'static str,
}

/// An attribute of an op, for docs.
#[derive(Debug)]
pub struct AttrDef {
    /// Name in the text form.
    pub name: &'static str,
    /// Type of the field.
    pub ty: &'static str,
    /// Doc comment of the field.
    pub doc: &'static str,
}

/// A violated constraint of an op.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Violation {
    /// Label of the constraint in the op's doc, such as `C1`.
    pub constraint: &'static str,
    /// What was found and what was expected.
    pub message: String,
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({})", self.message, self.constraint)
    }
}

/// An error that only values can show.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Fault(pub String);

impl From<LiteralError> for Fault {
    fn from(error: LiteralError) -> Fault {
        Fault(error.to_string())
    }
}

/// Result types of an op, or the constraint that the operands violate.
pub type Inferred = Result<Vec<TensorType>, Violation>;
/// Results of an evaluation, or the fault that the values caused.
pub type Evaluated = Result<Vec<Literal>, Fault>;

/// Returns a [`Violation`] from the enclosing function unless a condition holds.
#[macro_export]
macro_rules! require {
    ($label:expr, $condition:expr, $($message:tt)+) => {
        if !($condition) {
            return Err($crate::op::Violation { constraint: $label, message: format!($($message)+) });
        }
    };
}

/// Expands an elementwise op into scalar primitives. Operands are already of
/// the op's dtypes; the result has one value per result of the op.
pub type ScalarRule<O> = fn(&O, &mut ScalarProgram, &[ScalarValue]) -> Vec<ScalarValue>;
/// Turns the layout of the one operand into that of the result; `None` where a
/// copy is needed first. The type is the result's.
pub type ViewRule<O> = fn(&O, &Layout, &TensorType) -> Option<Layout>;
/// Naive evaluation on concrete operands.
pub type EvalRule<O> = fn(&O, &[&Literal]) -> Evaluated;
/// Definition in terms of other ops; builds into the graph and returns the results.
pub type DecomposeRule<O> = fn(&O, &mut Graph, &[Value]) -> Vec<Value>;

/// The values that the op takes, from its operand types, which have passed inference.
pub type RangeRule<O> = fn(&O, &[&TensorType]) -> Vec<ValueRange>;
/// How far a kernel's result may be from the reference, for these attributes.
pub type AccuracyRule<O> = fn(&O) -> Accuracy;

/// Where an op's meaning comes from. Exactly one of the constructors below
/// applies; a composite may add its own evaluation, which generic tests then
/// compare with the decomposition.
pub struct Meaning<O> {
    /// Elementwise expansion over operands broadcast to the result shape.
    pub scalar: Option<ScalarRule<O>>,
    /// Pure movement of the one operand.
    pub view: Option<ViewRule<O>>,
    /// Direct evaluation.
    pub eval: Option<EvalRule<O>>,
    /// Decomposition.
    pub decompose: Option<DecomposeRule<O>>,
    /// The values of integer operands outside which the op faults.
    pub ranges: Option<RangeRule<O>>,
    /// The result is the first operand but for a part, so a backend may write that part in place.
    pub updates_first: bool,
}

impl<O> Meaning<O> {
    /// Input, parameter, state: the environment gives the value.
    pub const fn leaf() -> Self {
        Meaning { scalar: None, view: None, eval: None, decompose: None, ranges: None, updates_first: false }
    }
    /// The same meaning, of an op that changes a part of its first operand.
    pub const fn in_place(self) -> Self {
        Meaning { updates_first: true, ..self }
    }
    /// The same meaning, of an op that faults on values outside these ranges.
    pub const fn checked(self, rule: RangeRule<O>) -> Self {
        Meaning { ranges: Some(rule), ..self }
    }
    /// An elementwise op.
    pub const fn scalar(rule: ScalarRule<O>) -> Self {
        Meaning { scalar: Some(rule), ..Self::leaf() }
    }
    /// A movement op, free wherever strides allow.
    pub const fn view(rule: ViewRule<O>) -> Self {
        Meaning { view: Some(rule), ..Self::leaf() }
    }
    /// An op that every backend lowers.
    pub const fn primitive(rule: EvalRule<O>) -> Self {
        Meaning { eval: Some(rule), ..Self::leaf() }
    }
    /// An op defined by simpler ones.
    pub const fn composite(rule: DecomposeRule<O>) -> Self {
        Meaning { decompose: Some(rule), ..Self::leaf() }
    }
    /// A composite with a direct evaluation of its own.
    pub const fn composite_with_eval(decompose: DecomposeRule<O>, eval: EvalRule<O>) -> Self {
        Meaning { decompose: Some(decompose), eval: Some(eval), ..Self::leaf() }
    }
}

/// How one operand of a sample is filled.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Fill {
    /// Floats in about [-2, 2]; small integers; both truth values.
    Any,
    /// Floats or integers in `[low, high)`.
    Range(f64, f64),
    /// Hermitian positive definite matrices, well conditioned.
    Definite,
}

/// A concrete use of an op: drives every generic test.
#[derive(Clone, Debug)]
pub struct Sample<O> {
    /// The op with its attributes.
    pub op: O,
    /// Operand types (static) and how to fill them.
    pub operands: Vec<(TensorType, Fill)>,
}

impl<O> Sample<O> {
    /// A sample whose operands take any value.
    pub fn new(op: O, operands: impl IntoIterator<Item = TensorType>) -> Sample<O> {
        Sample { op, operands: operands.into_iter().map(|ty| (ty, Fill::Any)).collect() }
    }
    /// The same sample with operand `index` filled from `[low, high)`.
    pub fn fill(mut self, index: usize, low: f64, high: f64) -> Sample<O> {
        self.operands[index].1 = Fill::Range(low, high);
        self
    }
    /// The same sample with operand `index` filled with positive definite matrices.
    pub fn definite(mut self, index: usize) -> Sample<O> {
        self.operands[index].1 = Fill::Definite;
        self
    }
    /// The sample of another op type.
    pub fn map<P>(self, map: impl FnOnce(O) -> P) -> Sample<P> {
        Sample { op: map(self.op), operands: self.operands }
    }
}

/// The samples of an op.
pub enum Samples<O> {
    /// One sample a line: operand types and attributes as in the text form, `f32[3, 5], i64[4] in [0, 3) {axis = 1}`.
    /// `in [low, high)` and `definite` say how an operand is filled. An attribute that a line leaves out is as in
    /// the first line.
    Listed(&'static [&'static str]),
    /// Made by code: loops over the cases of an attribute, samples that sisters share.
    Made(fn() -> Vec<Sample<O>>),
}

impl<O> Samples<O> {
    /// The samples, of an op that `from_attrs` reads.
    ///
    /// # Errors
    /// A line that is no sample of the op.
    pub fn read(self, from_attrs: FromAttrs<O>) -> Result<Vec<Sample<O>>, IrError> {
        let lines = match self {
            Samples::Listed(lines) => lines,
            Samples::Made(make) => return Ok(make()),
        };
        let mut first = None;
        let read = |line: &&str| {
            let (operands, mut attrs) = parse_sample(line)?;
            for (name, attr) in first.get_or_insert_with(|| attrs.clone()) {
                if !attrs.iter().any(|(given, _)| given == name) {
                    attrs.push((name.clone(), attr.clone()));
                }
            }
            let wrong = |problem: AttrProblem| IrError::Syntax(Diagnostic::new(*line, problem.to_string()));
            Ok(Sample { op: from_attrs(&attrs).map_err(wrong)?, operands })
        };
        lines.iter().map(read).collect()
    }
}

/// Makes an op of its text attributes.
pub type FromAttrs<O> = fn(&[(String, Attr)]) -> Result<O, AttrProblem>;

/// The one trait an op implements, next to its struct.
pub trait OpSpec: Sized + Clone + Into<crate::ops::Op> {
    /// Where the op's meaning comes from.
    const MEANING: Meaning<Self>;
    /// The derivative by the operands.
    const VJP: Vjp<Self>;
    /// The derivative of the results.
    const JVP: Jvp<Self>;
    /// The op on a batch.
    const BATCH: Batch<Self>;
    /// How far a kernel's result may be from the reference.
    const ACCURACY: AccuracyRule<Self>;
    /// Uses of the op that cover its attribute corners.
    const SAMPLES: Samples<Self>;
    /// Result types from operand types. Arity has been checked by then.
    ///
    /// # Errors
    /// The first violated constraint, by its label.
    fn infer(&self, operands: &[&TensorType]) -> Inferred;
}

/// Why text attributes do not make an op.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AttrProblem {
    /// A required attribute is not given.
    Missing(&'static str),
    /// An attribute that the op does not have.
    Unknown(String),
    /// An attribute of the wrong kind or range.
    Invalid(&'static str, &'static str),
}

impl fmt::Display for AttrProblem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            AttrProblem::Missing(name) => write!(f, "attribute {name} is missing"),
            AttrProblem::Unknown(name) => write!(f, "there is no attribute {name}"),
            AttrProblem::Invalid(name, expected) => write!(f, "attribute {name} must be {expected}"),
        }
    }
}

/// Finds attribute `name` and converts it; used by [`op!`](crate::op!).
pub fn take_attr<T: crate::attr::AttrField>(
    attrs: &[(String, Attr)],
    name: &'static str,
) -> Result<T, AttrProblem> {
    let (_, attr) = attrs.iter().find(|(key, _)| key == name).ok_or(AttrProblem::Missing(name))?;
    T::from_attr(attr).ok_or(AttrProblem::Invalid(name, T::EXPECTED))
}

/// Finds the flag of optional operand `name`; absent means false.
pub fn take_flag(attrs: &[(String, Attr)], name: &'static str) -> Result<bool, AttrProblem> {
    if attrs.iter().any(|(key, _)| key == name) { take_attr(attrs, name) } else { Ok(false) }
}

/// Declares an op: its struct, its text attributes, its builder method.
///
/// `mnemonic: Struct(operands; variadic*)[optional operands] -> result { attributes }`.
/// Each optional operand becomes a `bool` field of the same name. One result
/// gives a builder method that returns a [`Value`]; a bracketed list of results
/// gives one that returns `Vec<Value>`.
#[macro_export]
macro_rules! op {
    ($(#[doc = $doc:literal])* $name:ident : $ty:ident ( $($operand:ident),* $(; $variadic:ident *)? ) $([ $($optional:ident),* ])? -> $result:tt { $($(#[doc = $field_doc:literal])* $field:ident : $field_ty:ty),* $(,)? }) => {
        $(#[doc = $doc])*
        #[derive(Clone, PartialEq, Eq, Hash, Debug)]
        pub struct $ty {
            $($(#[doc = $field_doc])* pub $field: $field_ty,)*
            $($(#[doc = concat!("Is operand `", stringify!($optional), "` given?")] pub $optional: bool,)*)?
        }
        impl $ty {
            /// Names and prose of this op.
            pub const DEF: $crate::op::OpDef = $crate::op::OpDef {
                name: $crate::op::strip_raw(stringify!($name)),
                operands: &[$(stringify!($operand)),*],
                optional: &[$($(stringify!($optional)),*)?],
                variadic: $crate::op!(@variadic $($variadic)?),
                results: $crate::op!(@results $result),
                attributes: &[$($crate::op::AttrDef {
                    name: stringify!($field),
                    ty: stringify!($field_ty),
                    doc: concat!($($field_doc, "\n"),*),
                }),*],
                family: $crate::op::family(module_path!()),
                doc: concat!($($doc, "\n"),*),
            };
            /// Attributes in declaration order, flags of optional operands last.
            pub fn attrs(&self) -> Vec<(&'static str, $crate::attr::Attr)> {
                vec![
                    $((stringify!($field), $crate::attr::AttrField::to_attr(&self.$field)),)*
                    $($((stringify!($optional), $crate::attr::AttrField::to_attr(&self.$optional)),)*)?
                ]
            }
            /// Inverse of `attrs`.
            pub fn from_attrs(attrs: &[(String, $crate::attr::Attr)]) -> Result<Self, $crate::op::AttrProblem> {
                const KNOWN: &[&str] = &[$(stringify!($field),)* $($(stringify!($optional),)*)?];
                if let Some((key, _)) = attrs.iter().find(|(key, _)| !KNOWN.contains(&key.as_str())) {
                    return Err($crate::op::AttrProblem::Unknown(key.clone()));
                }
                Ok(Self {
                    $($field: $crate::op::take_attr(attrs, stringify!($field))?,)*
                    $($($optional: $crate::op::take_flag(attrs, stringify!($optional))?,)*)?
                })
            }
            /// The op with every symbolic dim in its attributes replaced.
            pub fn map_dims(&self, map: &dyn Fn(&$crate::dim::Dim) -> $crate::dim::Dim) -> Self {
                let _ = map;
                Self {
                    $($field: $crate::attr::AttrField::map_dims(&self.$field, map),)*
                    $($($optional: self.$optional,)*)?
                }
            }
            /// Names of the optional operands that are given, in order.
            pub fn optional_given(&self) -> Vec<&'static str> {
                let given: &[(&'static str, bool)] = &[$($((stringify!($optional), self.$optional)),*)?];
                given.iter().filter(|(_, is_given)| *is_given).map(|(name, _)| *name).collect()
            }
            /// Position of optional operand `name` among the operands, when it is given.
            pub fn operand_index(&self, name: &str) -> Option<usize> {
                self.optional_given().iter().position(|given| *given == name).map(|index| index + Self::DEF.operands.len())
            }
        }
        impl $crate::graph::Graph {
            #[doc = concat!("Appends [`", stringify!($ty), "`](crate::ops::", stringify!($ty), ").")]
            #[track_caller]
            #[allow(clippy::too_many_arguments)]
            pub fn $name(&mut self
                $(, $operand: $crate::graph::Value)*
                $($(, $optional: Option<$crate::graph::Value>)*)?
                $(, $variadic: &[$crate::graph::Value])?
                $(, $field: impl Into<$field_ty>)*
            ) -> $crate::op!(@return $result) {
                #[allow(unused_mut)]
                let mut operands: Vec<$crate::graph::Value> = vec![$($operand),*];
                $($(operands.extend($optional);)*)?
                $(operands.extend_from_slice($variadic);)?
                let op = $ty { $($field: $field.into(),)* $($($optional: $optional.is_some(),)*)? };
                $crate::op!(@push $result self op operands)
            }
        }
    };
    (@variadic) => { None };
    (@variadic $variadic:ident) => { Some(stringify!($variadic)) };
    (@results [$($result:ident),*]) => { &[$(stringify!($result)),*] };
    (@results $result:ident) => { &[stringify!($result)] };
    (@return [$($result:ident),*]) => { Vec<$crate::graph::Value> };
    (@return $result:ident) => { $crate::graph::Value };
    (@push [$($result:ident),*] $graph:ident $op:ident $operands:ident) => { $graph.push_all($op, &$operands) };
    (@push $result:ident $graph:ident $op:ident $operands:ident) => { $graph.push($op, &$operands) };
}

/// A mnemonic without the `r#` of a raw identifier.
pub const fn strip_raw(name: &'static str) -> &'static str {
    match name.as_bytes() {
        [b'r', b'#', ..] => name.split_at(2).1,
        _ => name,
    }
}

/// The folder under `ops/` in a module path.
pub const fn family(path: &'static str) -> &'static str {
    // `rlx_ir::ops::<family>::<op>`: cut after the second `::`, up to the third.
    let bytes = path.as_bytes();
    let (mut index, mut seen, mut start) = (0, 0, 0);
    while index + 1 < bytes.len() {
        if bytes[index] == b':' && bytes[index + 1] == b':' {
            seen += 1;
            if seen == 2 {
                start = index + 2;
            }
            if seen == 3 {
                return path.split_at(index).0.split_at(start).1;
            }
            index += 1;
        }
        index += 1;
    }
    path.split_at(start).1
}
