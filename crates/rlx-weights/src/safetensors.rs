//! The safetensors format: an 8-byte little-endian header length, a JSON
//! header, and the tensors' bytes back to back.
//!
//! The reader accepts only files whose tensors cover the data exactly, each
//! name once; it copies no tensor. The writer emits the canonical layout: wide
//! dtypes first, then by name, header padded to 8 bytes.
#![forbid(unsafe_code)]

use crate::bytes::WeightBytes;
use crate::error::WeightError;
use crate::pairs::Pairs;
use crate::tensor::{MAX_RANK, WeightTensor, check, required_bytes, type_text};
use rlx_ir::{DType, TensorRef};
use serde::Deserialize;
use serde::de::{Deserializer, Error as _, MapAccess, SeqAccess, Visitor};
use std::collections::HashSet;
use std::fmt;
use std::io::Write;

/// Longest header that is read, in bytes: the limit of the reference implementation.
pub const MAX_HEADER_BYTES: u64 = 100_000_000;

/// Bytes of the header length.
const LENGTH_BYTES: usize = 8;
const METADATA_KEY: &str = "__metadata__";
const DTYPE_NAMES: &str = "BOOL, F4, U8, I8, F8_E5M2, F8_E4M3, F8_E8M0, F8_E4M3FNUZ, F8_E5M2FNUZ, I16, U16, \
                           F16, BF16, I32, U32, F32, C64, F64, I64, U64";

/// Dtypes of the format with their names, narrow first: the writer's order from back to front.
const DTYPES: &[(DType, &str)] = &[
    (DType::Bool, "BOOL"),
    (DType::F4E2M1, "F4"),
    (DType::U8, "U8"),
    (DType::I8, "I8"),
    (DType::F8E5M2, "F8_E5M2"),
    (DType::F8E4M3, "F8_E4M3"),
    (DType::F8E8M0, "F8_E8M0"),
    (DType::F8E4M3Fnuz, "F8_E4M3FNUZ"),
    (DType::F8E5M2Fnuz, "F8_E5M2FNUZ"),
    (DType::I16, "I16"),
    (DType::U16, "U16"),
    (DType::F16, "F16"),
    (DType::BF16, "BF16"),
    (DType::I32, "I32"),
    (DType::U32, "U32"),
    (DType::F32, "F32"),
    (DType::C64, "C64"),
    (DType::F64, "F64"),
    (DType::I64, "I64"),
    (DType::U64, "U64"),
];

/// What a safetensors file holds.
#[derive(Debug, Default)]
pub struct Contents {
    /// Tensors in the order of their bytes.
    pub tensors: Vec<WeightTensor>,
    /// The free-form text under `__metadata__`, in file order.
    pub metadata: Vec<(String, String)>,
}

/// Reads `bytes`, which errors call `file`. Tensors borrow from `bytes`.
///
/// # Errors
/// Anything that is not a complete, gap-free, unambiguous safetensors file.
pub fn read(file: &str, bytes: &WeightBytes) -> Result<Contents, WeightError> {
    let (header, data) = split_header(file, bytes)?;
    let mut header: Header = serde_json::from_slice(header).map_err(|error| WeightError::Malformed {
        file: file.into(),
        part: "safetensors header",
        detail: error.to_string(),
    })?;
    refuse_duplicates(file, &header)?;
    header.tensors.sort_by_key(|(_, info)| info.data_offsets);
    check_layout(file, &header.tensors, data.len() as u64)?;
    let tensors = header.tensors.iter().map(|(name, info)| tensor_of(file, name, info, &data));
    Ok(Contents { tensors: tensors.collect::<Result<_, _>>()?, metadata: header.metadata.0 })
}

/// Header and data of `bytes`.
fn split_header<'a>(file: &str, bytes: &'a WeightBytes) -> Result<(&'a [u8], WeightBytes), WeightError> {
    let truncated = |part, expected| WeightError::Truncated {
        file: file.into(),
        part,
        found: bytes.len() as u64,
        expected,
    };
    let Some((length, rest)) = bytes.split_first_chunk::<LENGTH_BYTES>() else {
        return Err(truncated("safetensors header length", LENGTH_BYTES as u64));
    };
    let length = u64::from_le_bytes(*length);
    if length > MAX_HEADER_BYTES {
        let part = "safetensors header";
        return Err(WeightError::TooLong { file: file.into(), part, found: length, limit: MAX_HEADER_BYTES });
    }
    let end = LENGTH_BYTES + length as usize;
    let (Some(header), Some(data)) = (rest.get(..length as usize), bytes.slice(end..bytes.len().max(end)))
    else {
        return Err(truncated("safetensors header", end as u64));
    };
    if header.first() != Some(&b'{') {
        return Err(WeightError::Malformed {
            file: file.into(),
            part: "safetensors header",
            detail: "found no `{` at its start, expected a JSON object".into(),
        });
    }
    Ok((header, data))
}

/// The JSON header, tensors in file order.
#[derive(Default)]
struct Header {
    metadata: Pairs<String>,
    metadata_count: usize,
    tensors: Vec<(String, TensorInfo)>,
}

#[derive(Deserialize)]
struct TensorInfo {
    dtype: String,
    shape: HeaderDims,
    data_offsets: (u64, u64),
}

impl<'de> Deserialize<'de> for Header {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct HeaderVisitor;
        impl<'de> Visitor<'de> for HeaderVisitor {
            type Value = Header;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object of tensors")
            }
            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Header, A::Error> {
                let mut header = Header::default();
                while let Some(name) = map.next_key::<String>()? {
                    if name == METADATA_KEY {
                        header.metadata = map.next_value::<Option<_>>()?.unwrap_or_default();
                        header.metadata_count += 1;
                    } else {
                        header.tensors.push((name, map.next_value()?));
                    }
                }
                Ok(header)
            }
        }
        deserializer.deserialize_map(HeaderVisitor)
    }
}

/// Dims, refused while reading once there are too many to be a shape.
struct HeaderDims(Vec<usize>);

impl<'de> Deserialize<'de> for HeaderDims {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct DimsVisitor;
        impl<'de> Visitor<'de> for DimsVisitor {
            type Value = HeaderDims;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a list of extents")
            }
            fn visit_seq<A: SeqAccess<'de>>(self, mut sequence: A) -> Result<HeaderDims, A::Error> {
                let mut dims = Vec::new();
                while let Some(dim) = sequence.next_element()? {
                    if dims.len() == MAX_RANK {
                        return Err(A::Error::custom(format!(
                            "found a shape of more than {MAX_RANK} extents, expected at most {MAX_RANK}"
                        )));
                    }
                    dims.push(dim);
                }
                Ok(HeaderDims(dims))
            }
        }
        deserializer.deserialize_seq(DimsVisitor)
    }
}

fn refuse_duplicates(file: &str, header: &Header) -> Result<(), WeightError> {
    let mut seen = HashSet::with_capacity(header.tensors.len());
    let twice = header.tensors.iter().map(|(name, _)| name.as_str()).find(|name| !seen.insert(*name));
    let twice = twice.or((header.metadata_count > 1).then_some(METADATA_KEY));
    match twice {
        Some(name) => Err(WeightError::DuplicateTensor {
            file: file.into(),
            tensor: name.into(),
            other: "the same header".into(),
        }),
        None => Ok(()),
    }
}

/// Refuses ranges that run backwards, overlap, leave gaps or leave the data.
/// `tensors` are sorted by their offsets.
fn check_layout(file: &str, tensors: &[(String, TensorInfo)], available: u64) -> Result<(), WeightError> {
    let mut covered = 0;
    let mut previous = "";
    for (name, info) in tensors {
        let (begin, end) = info.data_offsets;
        if begin > end || end > available {
            let (file, tensor) = (file.into(), name.clone());
            return Err(WeightError::OutOfFile { file, tensor, begin, end, available });
        }
        if begin < covered {
            let (file, tensor, other) = (file.into(), name.clone(), previous.into());
            return Err(WeightError::Overlap { file, tensor, other, begin, end: covered });
        }
        if begin > covered {
            let (file, tensor) = (file.into(), name.clone());
            return Err(WeightError::Gap { file, tensor, found: begin, expected: covered });
        }
        (covered, previous) = (end, name);
    }
    if covered != available {
        return Err(WeightError::TrailingBytes { file: file.into(), found: available, expected: covered });
    }
    Ok(())
}

/// The tensor `info` describes; its offsets are known to be inside `data`.
fn tensor_of(
    file: &str,
    name: &str,
    info: &TensorInfo,
    data: &WeightBytes,
) -> Result<WeightTensor, WeightError> {
    let dims = &info.shape.0;
    let Some(&(dtype, _)) = DTYPES.iter().find(|(_, spelled)| *spelled == info.dtype) else {
        return Err(unsupported_dtype(file, name, &info.dtype.chars().take(32).collect::<String>()));
    };
    refuse_partial_bytes(file, name, dtype, dims)?;
    let (begin, end) = info.data_offsets;
    let bytes =
        data.slice(begin as usize..end as usize).expect("check_layout kept the range inside the data");
    WeightTensor::from_file(file, name, dtype, dims, bytes)
}

fn unsupported_dtype(file: &str, tensor: &str, found: &str) -> WeightError {
    let (file, tensor, found) = (file.into(), tensor.into(), found.into());
    WeightError::UnsupportedDtype { file, tensor, found, expected: DTYPE_NAMES }
}

/// Sub-byte tensors must fill whole bytes in this format.
fn refuse_partial_bytes(file: &str, tensor: &str, dtype: DType, dims: &[usize]) -> Result<(), WeightError> {
    let bytes = required_bytes(file, tensor, dtype, dims)?;
    let bits = dims.iter().fold(dtype.block_bits() as u128, |bits, &dim| bits.saturating_mul(dim as u128));
    if dtype.block_elements() == 1 && bits != bytes as u128 * 8 {
        let ty = type_text(dtype, dims);
        return Err(WeightError::PartialBlock { file: file.into(), tensor: tensor.into(), ty });
    }
    Ok(())
}

/// Writes `tensors` and the text `metadata` to `out`; errors call it `file`.
///
/// # Errors
/// A dtype the format lacks, bytes that do not fit their type, a name twice, a
/// reserved name, a header beyond [`MAX_HEADER_BYTES`], or what `out` reports.
pub fn write(
    file: &str,
    out: &mut dyn Write,
    tensors: &[(&str, TensorRef<'_>)],
    metadata: &[(&str, &str)],
) -> Result<(), WeightError> {
    let ranks: Vec<usize> =
        tensors.iter().map(|(name, tensor)| dtype_rank(file, name, tensor)).collect::<Result<_, _>>()?;
    let mut order: Vec<usize> = (0..tensors.len()).collect();
    order.sort_by_key(|&index| (usize::MAX - ranks[index], tensors[index].0));
    let header = header_text(file, tensors, &ranks, &order, metadata)?;
    let mut put = |bytes: &[u8]| {
        out.write_all(bytes).map_err(|source| WeightError::Io { file: file.into(), action: "write", source })
    };
    put(&(header.len() as u64).to_le_bytes())?;
    put(header.as_bytes())?;
    order.iter().try_for_each(|&index| put(tensors[index].1.bytes))
}

/// Position in [`DTYPES`], once the tensor is known to be writable.
fn dtype_rank(file: &str, name: &str, tensor: &TensorRef<'_>) -> Result<usize, WeightError> {
    if name == METADATA_KEY {
        return Err(WeightError::ReservedName { name: name.into() });
    }
    let rank = DTYPES
        .iter()
        .position(|(dtype, _)| *dtype == tensor.dtype)
        .ok_or_else(|| unsupported_dtype(file, name, tensor.dtype.name()))?;
    check(file, name, *tensor)?;
    refuse_partial_bytes(file, name, tensor.dtype, tensor.dims)?;
    Ok(rank)
}

/// The padded JSON header of `tensors` laid out in `order`.
fn header_text(
    file: &str,
    tensors: &[(&str, TensorRef<'_>)],
    ranks: &[usize],
    order: &[usize],
    metadata: &[(&str, &str)],
) -> Result<String, WeightError> {
    let quoted = |text: &str| serde_json::Value::from(text).to_string();
    let mut members = Vec::with_capacity(tensors.len() + 1);
    if !metadata.is_empty() {
        refuse_repeats(file, metadata.iter().map(|(key, _)| *key))?;
        let pairs: Vec<String> =
            metadata.iter().map(|(key, value)| format!("{}:{}", quoted(key), quoted(value))).collect();
        members.push(format!("\"{METADATA_KEY}\":{{{}}}", pairs.join(",")));
    }
    refuse_repeats(file, tensors.iter().map(|(name, _)| *name))?;
    let mut begin = 0;
    for &index in order {
        let (name, tensor) = &tensors[index];
        let end = begin + tensor.bytes.len() as u64;
        let dims: Vec<String> = tensor.dims.iter().map(usize::to_string).collect();
        members.push(format!(
            "{}:{{\"dtype\":\"{}\",\"shape\":[{}],\"data_offsets\":[{begin},{end}]}}",
            quoted(name),
            DTYPES[ranks[index]].1,
            dims.join(",")
        ));
        begin = end;
    }
    let mut header = format!("{{{}}}", members.join(","));
    let padded = header.len().next_multiple_of(LENGTH_BYTES);
    header.extend(std::iter::repeat_n(' ', padded - header.len()));
    if header.len() as u64 > MAX_HEADER_BYTES {
        let (part, found) = ("safetensors header", header.len() as u64);
        return Err(WeightError::TooLong { file: file.into(), part, found, limit: MAX_HEADER_BYTES });
    }
    Ok(header)
}

fn refuse_repeats<'a>(file: &str, names: impl Iterator<Item = &'a str>) -> Result<(), WeightError> {
    let mut seen = HashSet::new();
    match names.into_iter().find(|name| !seen.insert(*name)) {
        Some(name) => Err(WeightError::DuplicateTensor {
            file: file.into(),
            tensor: name.into(),
            other: "the same list".into(),
        }),
        None => Ok(()),
    }
}
