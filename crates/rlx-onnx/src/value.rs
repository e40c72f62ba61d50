//! What an ONNX value is while its graph is being read.

use crate::host::{HostValue, Strings};
use crate::tensor::FileTensor;
use rlx_ir::{DType, Dim, Literal, Shape, TensorType, Value};
use std::sync::Arc;

/// An ONNX value in terms of the graph that is being built.
#[derive(Clone, Debug)]
pub(crate) enum Imported {
    Tensor(Tensor),
    /// Always known: strings exist on the host only.
    Strings(Strings),
    Sequence(Vec<Imported>),
    Optional(Option<Box<Imported>>),
}

impl Imported {
    /// What it is, for messages.
    pub fn describe(&self) -> String {
        match self {
            Imported::Tensor(tensor) => tensor.ty().to_string(),
            Imported::Strings(strings) => format!("string{:?}", strings.dims()),
            Imported::Sequence(items) => format!("a sequence of {}", items.len()),
            Imported::Optional(_) => "an optional".to_string(),
        }
    }

    /// Calls `visit` with every tensor inside.
    pub fn tensors_mut(&mut self, visit: &mut dyn FnMut(&mut Tensor)) {
        match self {
            Imported::Tensor(tensor) => visit(tensor),
            Imported::Strings(_) => {}
            Imported::Sequence(items) => items.iter_mut().for_each(|item| item.tensors_mut(visit)),
            Imported::Optional(value) => value.iter_mut().for_each(|value| value.tensors_mut(visit)),
        }
    }
}

impl From<Tensor> for Imported {
    fn from(tensor: Tensor) -> Imported {
        Imported::Tensor(tensor)
    }
}

impl From<Strings> for Imported {
    fn from(strings: Strings) -> Imported {
        Imported::Strings(strings)
    }
}

/// A tensor: its type as ONNX sees it, where it is computed, and what is known of its elements.
#[derive(Clone, Debug)]
pub(crate) struct Tensor {
    /// Element type. The graph computes with [`crate::host::computed`] of it.
    pub dtype: DType,
    pub shape: Shape,
    /// The node that computes it; `None` where it is made from `content` when it is first used.
    pub node: Option<Computed>,
    pub content: Content,
    /// Data that only a run knows says how much of it there is.
    pub bounded: Option<Bounded>,
}

/// A value of the graph at a depth of nested bodies.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Computed {
    pub level: usize,
    pub value: Value,
}

/// Only the first elements along an axis count.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Bounded {
    pub axis: usize,
    /// How many: one integer.
    pub count: Computed,
}

/// What is known about the elements of a tensor.
#[derive(Clone, Debug)]
pub(crate) enum Content {
    /// Nothing before a run.
    Unknown,
    /// A constant.
    Literal(Literal),
    /// A constant of some size, which becomes a param.
    Weight(Arc<Weight>),
    /// Integers that are expressions over extents, in row-major order; the shape is static.
    Dims(Vec<Dim>),
    /// Floats that are such integers divided by a positive one.
    Ratios(Vec<Dim>, i64),
    /// Fed by the caller, or computed by an earlier stage of the run.
    Fed(Arc<Feed>),
}

/// A weight of the model.
#[derive(Debug)]
pub(crate) struct Weight {
    pub name: String,
    pub tensor: FileTensor,
}

/// A tensor of a run that is on the host.
#[derive(Debug)]
pub(crate) struct Feed {
    pub name: String,
    pub literal: Literal,
}

impl Tensor {
    /// A constant.
    pub fn literal(literal: Literal) -> Tensor {
        let shape = Shape::from(literal.dims());
        Tensor {
            dtype: literal.dtype(),
            shape,
            node: None,
            content: Content::Literal(literal),
            bounded: None,
        }
    }

    /// Integers that are expressions over extents: a vector, or a scalar where `rank` is 0.
    pub fn dims(dims: Vec<Dim>, rank: usize) -> Tensor {
        let extents = if rank == 0 { vec![] } else { vec![dims.len()] };
        Tensor::expressions(DType::I64, &extents, dims)
    }

    /// Integers that are expressions over extents, as many as `extents` say.
    pub fn expressions(dtype: DType, extents: &[usize], dims: Vec<Dim>) -> Tensor {
        let known: Option<Vec<i128>> = dims.iter().map(|dim| dim.as_static().map(i128::from)).collect();
        if let Some(values) = known
            && let Ok(literal) = Literal::ints(dtype, extents, &values)
        {
            return Tensor::literal(literal);
        }
        Tensor { dtype, shape: extents.into(), node: None, content: Content::Dims(dims), bounded: None }
    }

    /// Floats that are `dims`, each divided by `divisor`, as many as `extents` say.
    pub fn ratios(dtype: DType, extents: &[usize], dims: Vec<Dim>, divisor: i64) -> Tensor {
        let value = |dim: &Dim| dim.as_static().map(|dim| dim as f64 / divisor as f64);
        let known: Option<Vec<f64>> = dims.iter().map(value).collect();
        if let Some(values) = known
            && let Ok(literal) = Literal::floats(dtype, extents, &values)
        {
            return Tensor::literal(literal);
        }
        let content = Content::Ratios(dims, divisor);
        Tensor { dtype, shape: extents.into(), node: None, content, bounded: None }
    }

    pub fn ty(&self) -> TensorType {
        TensorType::new(self.dtype, self.shape.clone())
    }

    pub fn rank(&self) -> usize {
        self.shape.rank()
    }
}

/// `value` of the host as a constant.
pub(crate) fn constant(value: HostValue) -> Imported {
    match value {
        HostValue::Tensor(literal) => Tensor::literal(literal).into(),
        HostValue::Strings(strings) => strings.into(),
        HostValue::Sequence(items) => Imported::Sequence(items.into_iter().map(constant).collect()),
        HostValue::Optional(value) => Imported::Optional(value.map(|value| Box::new(constant(*value)))),
    }
}
