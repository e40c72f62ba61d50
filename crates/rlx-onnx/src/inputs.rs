//! The inputs of a model: their declared types, and what a run feeds.

use crate::context::Context;
use crate::error::OnnxError;
use crate::host::HostValue;
use crate::model::Model;
use crate::node::Stop;
use crate::proto::{ValueInfoProto, tensor_shape_proto::dimension, type_proto};
use crate::tensor::{self, Element};
use crate::value::{Content, Feed, Imported, Tensor, constant};
use rlx_ir::{DType, Diagnostic, Dim, Literal, Shape, SymbolBounds, TensorType, nearest_name};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::Arc;

/// What becomes of the extents of a model's inputs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Extents {
    /// As the model declares them: numbers stay, names become symbols.
    Declared,
    /// All are symbols, so that one compilation serves every extent.
    Symbolic,
    /// All are the numbers of the tensors that are fed.
    Concrete,
}

/// An input or output as a model declares it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Declared {
    /// Its name.
    pub name: String,
    /// Its type.
    pub kind: DeclaredKind,
}

/// The declared type of a value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DeclaredKind {
    /// A tensor, and its extents if the model states them: numbers, or names of what only a run knows.
    Tensor(DType, Option<Vec<DeclaredDim>>),
    /// Something else, such as `sequence` or `string`.
    Other(&'static str),
}

/// A declared extent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DeclaredDim {
    /// A number.
    Fixed(i64),
    /// A name; empty where the model gives none.
    Named(String),
}

impl fmt::Display for DeclaredKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            DeclaredKind::Tensor(dtype, None) => write!(f, "{dtype}[..]"),
            DeclaredKind::Tensor(dtype, Some(dims)) => {
                let text = |dim: &DeclaredDim| match dim {
                    DeclaredDim::Fixed(extent) => extent.to_string(),
                    DeclaredDim::Named(name) if name.is_empty() => "?".to_string(),
                    DeclaredDim::Named(name) => name.clone(),
                };
                write!(f, "{dtype}[{}]", dims.iter().map(text).collect::<Vec<_>>().join(", "))
            }
            DeclaredKind::Other(name) => f.write_str(name),
        }
    }
}

/// What `info` declares.
///
/// # Errors
/// An element type that there is not, a negative extent.
pub(crate) fn declared(info: &ValueInfoProto) -> Result<Declared, OnnxError> {
    let name = info.name().to_string();
    let wrong = |reason: String| OnnxError::model(format!("{name:?}"), reason);
    let kind = match info.r#type.as_ref().and_then(|ty| ty.value.as_ref()) {
        Some(type_proto::Value::TensorType(ty)) => match tensor::element(ty.elem_type()).map_err(wrong)? {
            Element::String => DeclaredKind::Other("string"),
            Element::Number(dtype) => {
                let dim = |dim: &crate::proto::tensor_shape_proto::Dimension| match &dim.value {
                    Some(dimension::Value::DimValue(extent)) if *extent < 0 => {
                        DeclaredDim::Named(String::new())
                    }
                    Some(dimension::Value::DimValue(extent)) => DeclaredDim::Fixed(*extent),
                    Some(dimension::Value::DimParam(name)) => DeclaredDim::Named(name.clone()),
                    None => DeclaredDim::Named(String::new()),
                };
                DeclaredKind::Tensor(
                    dtype,
                    ty.shape.as_ref().map(|shape| shape.dim.iter().map(dim).collect()),
                )
            }
        },
        Some(type_proto::Value::SequenceType(_)) => DeclaredKind::Other("sequence"),
        Some(type_proto::Value::OptionalType(_)) => DeclaredKind::Other("optional"),
        Some(type_proto::Value::MapType(_)) => DeclaredKind::Other("map"),
        Some(type_proto::Value::SparseTensorType(_)) => DeclaredKind::Other("sparse tensor"),
        Some(type_proto::Value::OpaqueType(_)) => DeclaredKind::Other("opaque"),
        None => DeclaredKind::Other("unknown"),
    };
    Ok(Declared { name, kind })
}

impl Model {
    /// The inputs that a run must feed: those without an initialiser.
    ///
    /// # Errors
    /// A declaration that makes no sense.
    pub fn inputs(&self) -> Result<Vec<Declared>, OnnxError> {
        let graph = self.graph();
        let initialised: BTreeSet<&str> = graph.initializer.iter().map(|tensor| tensor.name()).collect();
        let fed = graph.input.iter().filter(|input| !initialised.contains(input.name()));
        fed.map(declared).collect()
    }

    /// The type of a declared tensor, its named extents as symbols; `None` for what is no tensor of declared rank.
    pub fn input_type(&self, input: &Declared) -> Option<TensorType> {
        let DeclaredKind::Tensor(dtype, Some(_)) = &input.kind else { return None };
        shape(input, None, Extents::Declared, &BTreeMap::new())
            .ok()
            .map(|shape| TensorType::new(*dtype, shape))
    }

    /// The outputs.
    ///
    /// # Errors
    /// A declaration that makes no sense.
    pub fn outputs(&self) -> Result<Vec<Declared>, OnnxError> {
        self.graph().output.iter().map(declared).collect()
    }
}

/// The symbol of a declared extent.
fn symbol(name: &str, input: &str, axis: usize) -> String {
    let text = if name.is_empty() { format!("{input}_{axis}") } else { name.to_string() };
    let safe: String =
        text.chars().map(|c| if c.is_ascii_alphanumeric() || c == '_' { c } else { '_' }).collect();
    if rlx_ir::dim::is_symbol_name(&safe) { safe } else { format!("d_{safe}") }
}

/// The extents of an input in the graph. `fixed` are names that the caller gives a number.
fn shape(
    input: &Declared,
    fed: Option<&[usize]>,
    extents: Extents,
    fixed: &BTreeMap<String, usize>,
) -> Result<Shape, String> {
    if extents == Extents::Concrete
        && let Some(dims) = fed
    {
        return Ok(Shape::from(dims));
    }
    let unknown = |axis: usize| Dim::symbol(&symbol("", &input.name, axis));
    let DeclaredKind::Tensor(_, Some(dims)) = &input.kind else {
        let rank = fed.ok_or("the model declares no shape for it")?.len();
        return Ok(Shape::new((0..rank).map(unknown)));
    };
    let dim = |(axis, dim): (usize, &DeclaredDim)| match dim {
        DeclaredDim::Fixed(_) if extents == Extents::Symbolic => unknown(axis),
        DeclaredDim::Fixed(extent) => Dim::from(*extent),
        DeclaredDim::Named(name) => match fixed.get(name) {
            Some(&extent) => Dim::from(extent),
            None => Dim::symbol(&symbol(name, &input.name, axis)),
        },
    };
    Ok(Shape::new(dims.iter().enumerate().map(dim)))
}

/// The operands of the main graph before anything is fed.
///
/// # Errors
/// Inputs that are no tensors of declared rank; all findings.
pub(crate) fn declared_operands<'m>(
    model: &'m Model,
    cx: &mut Context<'m>,
    fixed: &BTreeMap<String, usize>,
) -> Result<Vec<Option<Imported>>, OnnxError> {
    let initialised: BTreeSet<&str> = model.graph().initializer.iter().map(|tensor| tensor.name()).collect();
    let mut operands = vec![];
    let mut findings = vec![];
    for info in &model.graph().input {
        if initialised.contains(info.name()) {
            operands.push(None);
            continue;
        }
        let input = declared(info)?;
        let DeclaredKind::Tensor(dtype, _) = input.kind else {
            findings.push(Diagnostic::new(
                format!("input {:?}", input.name),
                format!("is {}: its value must be known", input.kind),
            ));
            continue;
        };
        match shape(&input, None, Extents::Declared, fixed) {
            Ok(shape) => {
                let operand = cx.fed_later(&input.name, TensorType::new(dtype, shape));
                let wrong =
                    |stop: Stop<'_>| OnnxError::model(format!("input {:?}", input.name), format!("{stop:?}"));
                operands.push(Some(operand.map_err(wrong)?));
            }
            Err(reason) => findings.push(Diagnostic::new(format!("input {:?}", input.name), reason)),
        }
    }
    if findings.is_empty() { Ok(operands) } else { Err(OnnxError::Inputs(findings)) }
}

/// The operands of the main graph from what a run feeds.
///
/// # Errors
/// Inputs that are missing, unknown or of another type than declared; all findings.
pub(crate) fn fed_operands<'m>(
    model: &'m Model,
    cx: &mut Context<'m>,
    feeds: &[(&str, HostValue)],
    extents: Extents,
    fixed: &BTreeMap<String, usize>,
) -> Result<Vec<Option<Imported>>, OnnxError> {
    let graph = model.graph();
    let initialised: BTreeSet<&str> = graph.initializer.iter().map(|tensor| tensor.name()).collect();
    let names: Vec<&str> = graph.input.iter().map(|input| input.name()).collect();
    let mut findings = vec![];
    let mut given = BTreeMap::new();
    for (name, value) in feeds {
        let subject = || format!("input {name:?}");
        if !names.contains(name) {
            let hint = match nearest_name(name, names.iter().copied()) {
                Some(near) => format!("did you mean {near:?}?"),
                None => format!("the model has {}", names.join(", ")),
            };
            findings.push(Diagnostic::new(subject(), "is no input of the model").hint(hint));
        } else if given.insert(*name, value).is_some() {
            findings.push(Diagnostic::new(subject(), "is given twice"));
        }
    }
    let mut operands = vec![];
    for info in &graph.input {
        let input = declared(info)?;
        let subject = format!("input {:?}", input.name);
        match given.get(info.name()) {
            None if initialised.contains(info.name()) => operands.push(None),
            None => findings.push(Diagnostic::new(subject, format!("is missing; expected {}", input.kind))),
            Some(value) => match operand(cx, &input, value, extents, fixed) {
                Ok(value) => operands.push(Some(value)),
                Err(reason) => findings.push(Diagnostic::new(subject, reason)),
            },
        }
    }
    if findings.is_empty() { Ok(operands) } else { Err(OnnxError::Inputs(findings)) }
}

fn operand(
    cx: &mut Context<'_>,
    input: &Declared,
    value: &HostValue,
    extents: Extents,
    fixed: &BTreeMap<String, usize>,
) -> Result<Imported, String> {
    let found = || format!("expected {}, found {value}", input.kind);
    match (value, &input.kind) {
        (HostValue::Tensor(literal), DeclaredKind::Tensor(dtype, dims)) => {
            let rank = dims.as_ref().map_or(literal.dims().len(), Vec::len);
            if literal.dtype() != *dtype || literal.dims().len() != rank {
                return Err(found());
            }
            let shape = shape(input, Some(literal.dims()), extents, fixed)?;
            for (dim, &extent) in shape.dims().iter().zip(literal.dims()) {
                let extent = extent as i64;
                let bound = match dim.as_symbol() {
                    Some(symbol) => match cx.bindings.get(symbol) {
                        Some(bound) => bound,
                        None => {
                            cx.bindings.set(symbol, extent);
                            if extent > 0 {
                                // Extents of 0 are rare, and need expressions that hold for them too.
                                cx.graph().bound_symbol(symbol, SymbolBounds { min: 1, max: None });
                            }
                            extent
                        }
                    },
                    None => dim.as_static().unwrap_or(extent),
                };
                if bound != extent {
                    return Err(format!("{}: {dim} is {bound}", found()));
                }
            }
            let is_symbolic = shape.as_static().is_none();
            let value = fed(&input.name, literal.clone(), shape);
            if let (true, Imported::Tensor(tensor)) = (is_symbolic, &value) {
                cx.symbolic_inputs.push(tensor.clone());
            }
            Ok(value)
        }
        (HostValue::Tensor(literal), DeclaredKind::Other("unknown")) => {
            let shape = Shape::from(literal.dims());
            Ok(fed(&input.name, literal.clone(), shape))
        }
        (HostValue::Strings(_), DeclaredKind::Other("string" | "unknown"))
        | (HostValue::Sequence(_), DeclaredKind::Other("sequence" | "unknown"))
        | (HostValue::Optional(_), DeclaredKind::Other("optional" | "unknown")) => {
            cx.looked_at.insert(input.name.clone());
            Ok(known(&input.name, value.clone()))
        }
        // A value stands for an optional that is there.
        (_, DeclaredKind::Other("optional")) => {
            cx.looked_at.insert(input.name.clone());
            Ok(Imported::Optional(Some(Box::new(known(&input.name, value.clone())))))
        }
        _ => Err(found()),
    }
}

fn fed(name: &str, literal: Literal, shape: Shape) -> Imported {
    let dtype = literal.dtype();
    let content = Content::Fed(Arc::new(Feed { name: name.to_string(), literal }));
    Tensor { dtype, shape, node: None, content, bounded: None }.into()
}

/// A value of the host whose tensors are fed, called after the place where they stand.
fn known(name: &str, value: HostValue) -> Imported {
    match value {
        HostValue::Tensor(literal) => {
            let shape = Shape::from(literal.dims());
            fed(name, literal, shape)
        }
        HostValue::Sequence(items) => Imported::Sequence(
            items
                .into_iter()
                .enumerate()
                .map(|(index, item)| known(&format!("{name}[{index}]"), item))
                .collect(),
        ),
        HostValue::Optional(value) => {
            let name = format!("{name}.value");
            Imported::Optional(value.map(|value| Box::new(known(&name, *value))))
        }
        strings => constant(strings),
    }
}
