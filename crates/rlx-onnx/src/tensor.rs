//! Tensors of ONNX files, read and written: `TensorProto` and the types beside it.
//!
//! Data is untrusted: the number of elements, the bytes and the dtype are checked against each other before anything
//! is allocated, and raw bytes are borrowed from the file.

use crate::error::OnnxError;
use crate::host::{HostValue, Strings};
use crate::inputs::DeclaredKind;
use crate::proto::tensor_proto::DataType;
use crate::proto::{OptionalProto, SequenceProto, SparseTensorProto, TensorProto, sequence_proto};
use bytes::Bytes;
use prost::Message;
use rlx_ir::literal::element_count;
use rlx_ir::{DType, Literal, TensorRef};

/// Most elements of a sparse tensor, which a few bytes of file would otherwise blow up.
const MOST_SPARSE: usize = 1 << 26;
/// Deepest nesting of sequences and optionals.
const DEEPEST: usize = 16;

/// The ONNX numbers of the dtypes.
const DTYPES: [(DataType, DType); 25] = [
    (DataType::Float, DType::F32),
    (DataType::Uint8, DType::U8),
    (DataType::Int8, DType::I8),
    (DataType::Uint16, DType::U16),
    (DataType::Int16, DType::I16),
    (DataType::Int32, DType::I32),
    (DataType::Int64, DType::I64),
    (DataType::Bool, DType::Bool),
    (DataType::Float16, DType::F16),
    (DataType::Double, DType::F64),
    (DataType::Uint32, DType::U32),
    (DataType::Uint64, DType::U64),
    (DataType::Complex64, DType::C64),
    (DataType::Complex128, DType::C128),
    (DataType::Bfloat16, DType::BF16),
    (DataType::Float8e4m3fn, DType::F8E4M3),
    (DataType::Float8e4m3fnuz, DType::F8E4M3Fnuz),
    (DataType::Float8e5m2, DType::F8E5M2),
    (DataType::Float8e5m2fnuz, DType::F8E5M2Fnuz),
    (DataType::Uint4, DType::U4),
    (DataType::Int4, DType::I4),
    (DataType::Float4e2m1, DType::F4E2M1),
    (DataType::Float8e8m0, DType::F8E8M0),
    (DataType::Uint2, DType::U2),
    (DataType::Int2, DType::I2),
];

/// What the elements of a tensor are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Element {
    Number(DType),
    String,
}

/// The element type with ONNX's number `code`.
pub(crate) fn element(code: i32) -> Result<Element, String> {
    let kind = DataType::try_from(code).map_err(|_| format!("there is no element type {code}"))?;
    if kind == DataType::String {
        return Ok(Element::String);
    }
    let found = DTYPES.iter().find(|(other, _)| *other == kind);
    let missing = || format!("elements of type {} are not supported", kind.as_str_name());
    found.map(|&(_, dtype)| Element::Number(dtype)).ok_or_else(missing)
}

/// The dtype with ONNX's number `code`.
pub(crate) fn dtype(code: i32) -> Result<DType, String> {
    match element(code)? {
        Element::Number(dtype) => Ok(dtype),
        Element::String => Err("expected a numeric element type, found STRING".into()),
    }
}

/// ONNX's number of `dtype`; `None` for what ONNX has no name for.
pub(crate) fn code(dtype: DType) -> Option<i32> {
    DTYPES.iter().find(|(_, other)| *other == dtype).map(|&(kind, _)| kind as i32)
}

/// A tensor of numbers whose bytes may be part of the file.
#[derive(Clone, Debug)]
pub(crate) struct FileTensor {
    pub dtype: DType,
    pub dims: Vec<usize>,
    pub bytes: Bytes,
}

impl FileTensor {
    pub fn literal(&self) -> Result<Literal, String> {
        Literal::from_bytes(self.dtype, &self.dims, &self.bytes).map_err(|error| error.to_string())
    }
}

/// A tensor of a file.
#[derive(Clone, Debug)]
pub(crate) enum Read {
    Numbers(FileTensor),
    Strings(Strings),
}

impl Read {
    pub fn host(self) -> Result<HostValue, String> {
        Ok(match self {
            Read::Numbers(tensor) => HostValue::Tensor(tensor.literal()?),
            Read::Strings(strings) => HostValue::Strings(strings),
        })
    }
}

fn extents(dims: &[i64]) -> Result<Vec<usize>, String> {
    let bad = |dim: &i64| format!("extent {dim} is negative");
    dims.iter().map(|dim| usize::try_from(*dim).map_err(|_| bad(dim))).collect()
}

/// Reads `tensor`; `external` are its bytes where they are in another file.
pub(crate) fn read(tensor: &TensorProto, external: Option<Bytes>) -> Result<Read, String> {
    if tensor.segment.is_some() {
        return Err("it is stored in segments, which are not supported".into());
    }
    let dims = extents(&tensor.dims)?;
    let count = element_count(&dims).ok_or_else(|| format!("{dims:?} has more elements than memory"))?;
    let dtype = match element(tensor.data_type.unwrap_or(0))? {
        Element::Number(dtype) => dtype,
        Element::String => {
            let decode =
                |bytes: &Bytes| String::from_utf8(bytes.to_vec()).map_err(|_| "a string is not UTF-8");
            let values = tensor.string_data.iter().map(decode).collect::<Result<Vec<_>, _>>()?;
            let found = values.len();
            let strings = Strings::new(&dims, values);
            return strings
                .map(Read::Strings)
                .ok_or_else(|| format!("{dims:?} has {count} strings, found {found}"));
        }
    };
    let bytes = match external.or_else(|| tensor.raw_data.clone()) {
        Some(bytes) => bytes,
        None => typed_bytes(tensor, dtype, count)?.into(),
    };
    TensorRef::new(dtype, &dims, &bytes).map_err(|error| error.to_string())?;
    Ok(Read::Numbers(FileTensor { dtype, dims, bytes }))
}

/// The bytes of a tensor whose values stand in a typed field.
fn typed_bytes(tensor: &TensorProto, dtype: DType, count: usize) -> Result<Vec<u8>, String> {
    let complex = if dtype.is_complex() { 2 } else { 1 };
    let per_value = if dtype.block_bits() < 8 { 8 / dtype.block_bits() } else { 1 };
    let expected = count.saturating_mul(complex).div_ceil(per_value);
    let check = |field: &str, found: usize| match found == expected {
        true => Ok(()),
        false => Err(format!("expected {expected} values in {field}, found {found}")),
    };
    match dtype {
        DType::F32 | DType::C64 => {
            check("float_data", tensor.float_data.len())?;
            Ok(tensor.float_data.iter().flat_map(|value| value.to_le_bytes()).collect())
        }
        DType::F64 | DType::C128 => {
            check("double_data", tensor.double_data.len())?;
            Ok(tensor.double_data.iter().flat_map(|value| value.to_le_bytes()).collect())
        }
        DType::I64 => {
            check("int64_data", tensor.int64_data.len())?;
            Ok(tensor.int64_data.iter().flat_map(|value| value.to_le_bytes()).collect())
        }
        DType::U64 | DType::U32 => {
            check("uint64_data", tensor.uint64_data.len())?;
            let width = if dtype == DType::U64 { 8 } else { 4 };
            Ok(tensor
                .uint64_data
                .iter()
                .flat_map(|value| value.to_le_bytes().into_iter().take(width))
                .collect())
        }
        _ => {
            check("int32_data", tensor.int32_data.len())?;
            let width = dtype.size_of().unwrap_or(1);
            Ok(tensor
                .int32_data
                .iter()
                .flat_map(|value| value.to_le_bytes().into_iter().take(width))
                .collect())
        }
    }
}

/// A sparse tensor, made dense.
pub(crate) fn read_sparse(tensor: &SparseTensorProto) -> Result<Literal, String> {
    let dims = extents(&tensor.dims)?;
    let count = element_count(&dims).filter(|&count| count <= MOST_SPARSE);
    let count = count.ok_or_else(|| format!("{dims:?} has more than {MOST_SPARSE} elements"))?;
    let part = |part: &Option<TensorProto>, name: &str| match read(
        part.as_ref().ok_or(format!("it has no {name}"))?,
        None,
    )? {
        Read::Numbers(tensor) => tensor.literal(),
        Read::Strings(_) => Err(format!("its {name} are strings")),
    };
    let (values, indices) = (part(&tensor.values, "values")?, part(&tensor.indices, "indices")?);
    let entries = values.len();
    let is_linear = indices.dims() == [entries];
    if !is_linear && indices.dims() != [entries, dims.len()] {
        return Err(format!("{entries} values have indices {:?}", indices.dims()));
    }
    let width = values.dtype().size_of().ok_or("its values are smaller than a byte")?;
    let mut bytes = vec![0; count * width];
    let positions = indices.to_ints();
    for entry in 0..entries {
        let own = if is_linear {
            &positions[entry..=entry]
        } else {
            &positions[entry * dims.len()..(entry + 1) * dims.len()]
        };
        let limits: &[usize] = if is_linear { &[count] } else { &dims };
        let mut at = 0;
        for (&index, &limit) in own.iter().zip(limits) {
            let index = usize::try_from(index).ok().filter(|&index| index < limit);
            at = at * limit + index.ok_or_else(|| format!("index {own:?} is outside {dims:?}"))?;
        }
        bytes[at * width..(at + 1) * width]
            .copy_from_slice(&values.bytes()[entry * width..(entry + 1) * width]);
    }
    Literal::from_bytes(values.dtype(), &dims, &bytes).map_err(|error| error.to_string())
}

/// Reads a value of a `.pb` file.
pub(crate) fn sequence(proto: &SequenceProto, depth: usize) -> Result<HostValue, String> {
    if depth > DEEPEST {
        return Err(format!("values nest deeper than {DEEPEST} levels"));
    }
    if !proto.map_values.is_empty() || !proto.sparse_tensor_values.is_empty() {
        return Err("sequences of maps and sparse tensors are not supported".into());
    }
    let mut items = vec![];
    for tensor in &proto.tensor_values {
        items.push(read(tensor, None)?.host()?);
    }
    for inner in &proto.sequence_values {
        items.push(sequence(inner, depth + 1)?);
    }
    for inner in &proto.optional_values {
        items.push(optional(inner, depth + 1)?);
    }
    Ok(HostValue::Sequence(items))
}

/// Reads an optional of a `.pb` file.
pub(crate) fn optional(proto: &OptionalProto, depth: usize) -> Result<HostValue, String> {
    if depth > DEEPEST {
        return Err(format!("values nest deeper than {DEEPEST} levels"));
    }
    let value = if let Some(tensor) = &proto.tensor_value {
        Some(read(tensor, None)?.host()?)
    } else if let Some(inner) = &proto.sequence_value {
        Some(sequence(inner, depth + 1)?)
    } else if let Some(inner) = &proto.optional_value {
        Some(optional(inner, depth + 1)?)
    } else if proto.map_value.is_some() || proto.sparse_tensor_value.is_some() {
        return Err("optional maps and sparse tensors are not supported".into());
    } else {
        None
    };
    Ok(HostValue::Optional(value.map(Box::new)))
}

/// The message of a tensor of numbers or strings.
///
/// # Errors
/// A dtype that ONNX has no name for, a value that is no tensor.
pub(crate) fn write(name: &str, value: &HostValue) -> Result<TensorProto, OnnxError> {
    let mut proto = TensorProto { name: Some(name.to_string()), ..TensorProto::default() };
    match value {
        HostValue::Tensor(literal) => {
            let code = code(literal.dtype());
            let missing = || OnnxError::model(name, format!("ONNX has no element type {}", literal.dtype()));
            proto.data_type = Some(code.ok_or_else(missing)?);
            proto.dims = literal.dims().iter().map(|&dim| dim as i64).collect();
            proto.raw_data = Some(Bytes::copy_from_slice(literal.bytes()));
        }
        HostValue::Strings(strings) => {
            proto.data_type = Some(DataType::String as i32);
            proto.dims = strings.dims().iter().map(|&dim| dim as i64).collect();
            proto.string_data =
                strings.values().iter().map(|value| Bytes::copy_from_slice(value.as_bytes())).collect();
        }
        other => return Err(OnnxError::model(name, format!("expected a tensor, found {other}"))),
    }
    Ok(proto)
}

/// Reads a value of declared kind `kind` from the bytes of a `.pb` file (`TensorProto`, `SequenceProto` or
/// `OptionalProto`), called `source` in messages.
///
/// # Errors
/// Bytes that are no such message, data that does not fit its type.
pub fn read_value(bytes: &[u8], kind: &DeclaredKind, source: &str) -> Result<HostValue, OnnxError> {
    let wrong = |error: prost::DecodeError| OnnxError::file(source, format!("it is no {kind}: {error}"));
    let value = match kind {
        DeclaredKind::Other("sequence") => sequence(&SequenceProto::decode(bytes).map_err(wrong)?, 0),
        DeclaredKind::Other("optional") => optional(&OptionalProto::decode(bytes).map_err(wrong)?, 0),
        _ => read(&TensorProto::decode(bytes).map_err(wrong)?, None).and_then(Read::host),
    };
    value.map_err(|reason| OnnxError::file(source, reason))
}

/// The bytes of a `.pb` file that holds `value`: a `TensorProto`, `SequenceProto` or `OptionalProto`.
///
/// # Errors
/// A dtype that ONNX has no name for.
pub fn write_value(name: &str, value: &HostValue) -> Result<Vec<u8>, OnnxError> {
    Ok(match value {
        HostValue::Tensor(_) | HostValue::Strings(_) => write(name, value)?.encode_to_vec(),
        HostValue::Sequence(items) => write_sequence(name, items)?.encode_to_vec(),
        HostValue::Optional(value) => write_optional(name, value.as_deref())?.encode_to_vec(),
    })
}

fn write_sequence(name: &str, items: &[HostValue]) -> Result<SequenceProto, OnnxError> {
    let mut proto = SequenceProto { name: Some(name.to_string()), ..SequenceProto::default() };
    let kind = match items.first() {
        None | Some(HostValue::Tensor(_) | HostValue::Strings(_)) => sequence_proto::DataType::Tensor,
        Some(HostValue::Sequence(_)) => sequence_proto::DataType::Sequence,
        Some(HostValue::Optional(_)) => sequence_proto::DataType::Optional,
    };
    proto.elem_type = Some(kind as i32);
    for item in items {
        match item {
            HostValue::Tensor(_) | HostValue::Strings(_) => proto.tensor_values.push(write("", item)?),
            HostValue::Sequence(items) => proto.sequence_values.push(write_sequence("", items)?),
            HostValue::Optional(value) => proto.optional_values.push(write_optional("", value.as_deref())?),
        }
    }
    Ok(proto)
}

fn write_optional(name: &str, value: Option<&HostValue>) -> Result<OptionalProto, OnnxError> {
    let mut proto = OptionalProto { name: Some(name.to_string()), ..OptionalProto::default() };
    match value {
        None => {}
        Some(tensor @ (HostValue::Tensor(_) | HostValue::Strings(_))) => {
            proto.tensor_value = Some(write("", tensor)?)
        }
        Some(HostValue::Sequence(items)) => proto.sequence_value = Some(write_sequence("", items)?),
        Some(HostValue::Optional(value)) => {
            proto.optional_value = Some(Box::new(write_optional("", value.as_deref())?));
        }
    }
    Ok(proto)
}
