//! Values on the host: what a model is fed and what it gives.

use rlx_ir::{DType, Literal, Shape, TensorType};
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

    /// The same strings under other extents; `None` where their number is another one.
    pub(crate) fn reshaped(&self, dims: &[usize]) -> Option<Strings> {
        let count = rlx_ir::literal::element_count(dims)?;
        let values = self.values.clone();
        (count == values.len()).then(|| Strings { dims: dims.to_vec(), values })
    }

    /// Elements `start .. start + len` along `axis`, as far as there are.
    pub(crate) fn narrow(&self, axis: usize, start: usize, len: usize) -> Strings {
        let mut dims = self.dims.clone();
        let (extent, inner) = (dims[axis], dims[axis + 1..].iter().product::<usize>());
        let (start, end) = (start.min(extent), start.saturating_add(len).min(extent));
        dims[axis] = end.saturating_sub(start);
        let rows = self.values.chunks_exact((extent * inner).max(1));
        let values = rows.flat_map(|row| row[start * inner..end * inner].iter().cloned()).collect();
        Strings { dims, values }
    }

    /// `parts`, at least one, one after the other along `axis`; `None` where their extents do not fit.
    pub(crate) fn concat(parts: &[Strings], axis: usize) -> Option<Strings> {
        let first = parts.first()?;
        let mut dims = first.dims.clone();
        let others =
            |dims: &[usize]| (dims.get(..axis).map(<[_]>::to_vec), dims.get(axis + 1..).map(<[_]>::to_vec));
        if parts.iter().any(|part| others(&part.dims) != others(&dims)) {
            return None;
        }
        *dims.get_mut(axis)? = parts.iter().map(|part| part.dims[axis]).sum();
        let outer: usize = dims[..axis].iter().product();
        let width = |part: &Strings| part.values.len() / outer.max(1);
        let rows = (0..outer).flat_map(|row| {
            parts.iter().flat_map(move |part| {
                let width = width(part);
                part.values[row * width..(row + 1) * width].iter().cloned()
            })
        });
        Strings::new(&dims, rows.collect())
    }

    /// The extents of an elementwise result; `None` where they do not fit each other.
    pub(crate) fn common_dims(a: &Strings, b: &Strings) -> Option<Vec<usize>> {
        Shape::from(a.dims()).broadcast(&Shape::from(b.dims()))?.as_static()
    }

    /// The strings repeated along axes of extent 1 and new leading axes, to `dims`, which they fit.
    pub(crate) fn expanded(&self, dims: &[usize]) -> Vec<&str> {
        let mut all: Vec<&str> = self.values.iter().map(String::as_str).collect();
        let missing = dims.len().saturating_sub(self.dims.len());
        let own = |axis: usize| axis.checked_sub(missing).map_or(1, |axis| self.dims[axis]);
        for axis in (0..dims.len()).rev().filter(|&axis| own(axis) != dims[axis]) {
            let inner: usize = dims[axis + 1..].iter().product();
            all = all.chunks(inner.max(1)).flat_map(|row| row.repeat(dims[axis])).collect();
        }
        all
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
