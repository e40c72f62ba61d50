//! Values on the host: what a model is fed and what it gives.

use rlx_ir::{DType, Literal, TensorType};
use std::fmt;
use std::sync::Arc;

/// An ONNX value on the host.
#[derive(Clone, Debug, PartialEq)]
pub enum HostValue {
    /// A tensor of numbers.
    Tensor(Literal),
    /// A tensor of strings.
    Strings(Strings),
    /// A sequence of values.
    Sequence(Vec<HostValue>),
    /// A value that may be missing.
    Optional(Option<Box<HostValue>>),
}

impl From<Literal> for HostValue {
    fn from(literal: Literal) -> HostValue {
        HostValue::Tensor(literal)
    }
}

impl fmt::Display for HostValue {
    /// The type of the value.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            HostValue::Tensor(literal) => write!(f, "{}", literal.ty()),
            HostValue::Strings(strings) => write!(f, "string{:?}", strings.dims()),
            HostValue::Sequence(items) => {
                let items: Vec<String> = items.iter().map(ToString::to_string).collect();
                write!(f, "sequence({})", items.join(", "))
            }
            HostValue::Optional(None) => write!(f, "optional()"),
            HostValue::Optional(Some(value)) => write!(f, "optional({value})"),
        }
    }
}

/// A dense row-major tensor of strings. Cloning shares it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Strings {
    dims: Vec<usize>,
    values: Arc<[String]>,
}

impl Strings {
    /// A tensor of `values`; `None` where their number is another than `dims` say.
    pub fn new(dims: &[usize], values: Vec<String>) -> Option<Strings> {
        let count = rlx_ir::literal::element_count(dims)?;
        (count == values.len()).then(|| Strings { dims: dims.to_vec(), values: values.into() })
    }

    /// Extents.
    pub fn dims(&self) -> &[usize] {
        &self.dims
    }

    /// The strings, in row-major order.
    pub fn values(&self) -> &[String] {
        &self.values
    }
}

/// The type in which the importer computes with tensors of `dtype`: elements that are smaller than a byte are
/// unpacked, everything else is what it is.
pub(crate) fn computed(dtype: DType) -> DType {
    match dtype {
        DType::I4 | DType::I2 => DType::I8,
        DType::U4 | DType::U2 => DType::U8,
        DType::F4E2M1 => DType::F32,
        other => other,
    }
}

/// `ty` with the dtype that the importer computes in.
pub(crate) fn computed_type(ty: &TensorType) -> TensorType {
    TensorType::new(computed(ty.dtype), ty.shape.clone())
}
