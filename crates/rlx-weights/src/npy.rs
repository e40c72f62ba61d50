//! The npy format of NumPy: a magic string, a version, a Python dict literal
//! (`npy/header.rs`) and one array.
//!
//! Reads versions 1 to 3, both byte orders, C and Fortran order; the result is
//! row-major and little-endian, borrowed when the file already is. Writes
//! version 1, C order, little-endian.
//!
//! NumPy has no bf16. The package ml_dtypes stores it as the void dtype `<V2`;
//! this module reads `V2` as bf16 and writes bf16 so. Its 8-bit and 4-bit
//! floats all become `V1`, which does not say what it holds, so those are refused.
#![forbid(unsafe_code)]

mod header;

use crate::bytes::WeightBytes;
use crate::error::WeightError;
use crate::tensor::{WeightTensor, check, required_bytes, type_text};
use header::Header;
use rlx_ir::{DType, TensorRef};
use std::io::Write;

/// First bytes of every npy file.
pub(crate) const MAGIC: &[u8; 6] = b"\x93NUMPY";

/// Longest header that is read, in bytes. A header of the largest rank takes a few hundred.
const MAX_HEADER_BYTES: u64 = 65_536;

/// The array starts at a multiple of this many bytes.
const DATA_ALIGNMENT: usize = 64;

const DTYPE_NAMES: &str = "f2, f4, f8, i1, i2, i4, i8, u1, u2, u4, u8, b1, c8, c16, V2 (bf16)";

/// Dtypes with the kind and size that NumPy spells them with.
const DTYPES: &[(DType, &str)] = &[
    (DType::F16, "f2"),
    (DType::F32, "f4"),
    (DType::F64, "f8"),
    (DType::BF16, "V2"),
    (DType::I8, "i1"),
    (DType::I16, "i2"),
    (DType::I32, "i4"),
    (DType::I64, "i8"),
    (DType::U8, "u1"),
    (DType::U16, "u2"),
    (DType::U32, "u4"),
    (DType::U64, "u8"),
    (DType::Bool, "b1"),
    (DType::C64, "c8"),
    (DType::C128, "c16"),
];

#[derive(Clone, Copy, PartialEq, Eq)]
enum ByteOrder {
    Little,
    Big,
}

/// Reads the array in `bytes` as the tensor `name`; errors call the file `file`.
///
/// # Errors
/// Anything that is not one complete npy array of a known dtype.
pub fn read(file: &str, name: &str, bytes: &WeightBytes) -> Result<WeightTensor, WeightError> {
    let (text, data_start) = split_header(file, bytes)?;
    let header = header::parse(text).map_err(|detail| WeightError::Malformed {
        file: file.into(),
        part: "npy header",
        detail,
    })?;
    let (dtype, byte_order) = dtype_of(file, name, &header)?;
    let expected = required_bytes(file, name, dtype, &header.dims)?;
    let data = bytes.slice(data_start..bytes.len()).expect("split_header found the header inside the file");
    let (found, expected) = (bytes.len() as u64, (data_start + expected) as u64);
    if found < expected {
        return Err(WeightError::Truncated { file: file.into(), part: "npy array", found, expected });
    }
    if found > expected {
        return Err(WeightError::TrailingBytes { file: file.into(), found, expected });
    }
    WeightTensor::from_file(
        file,
        name,
        dtype,
        &header.dims,
        row_major_little(data, dtype, byte_order, &header),
    )
}

/// The header text, and where the array starts.
fn split_header<'a>(file: &str, bytes: &'a WeightBytes) -> Result<(&'a [u8], usize), WeightError> {
    let malformed = |detail: String| WeightError::Malformed { file: file.into(), part: "npy header", detail };
    let truncated = |expected: usize| WeightError::Truncated {
        file: file.into(),
        part: "npy header",
        found: bytes.len() as u64,
        expected: expected as u64,
    };
    if bytes.get(..MAGIC.len()).is_some_and(|magic| magic != MAGIC) {
        return Err(malformed("found no `\\x93NUMPY` at its start, expected the npy magic".into()));
    }
    let version = bytes.get(MAGIC.len()..MAGIC.len() + 2).ok_or_else(|| truncated(MAGIC.len() + 2))?;
    let length_bytes = match version {
        [1, 0] => 2,
        [2 | 3, 0] => 4,
        _ => {
            let (major, minor) = (version[0], version[1]);
            return Err(malformed(format!("found version {major}.{minor}, expected 1.0, 2.0 or 3.0")));
        }
    };
    let begin = MAGIC.len() + 2 + length_bytes;
    let length = bytes.get(MAGIC.len() + 2..begin).ok_or_else(|| truncated(begin))?;
    let length = length.iter().rev().fold(0u64, |length, &byte| length << 8 | u64::from(byte));
    if length > MAX_HEADER_BYTES {
        let part = "npy header";
        return Err(WeightError::TooLong { file: file.into(), part, found: length, limit: MAX_HEADER_BYTES });
    }
    let end = begin + length as usize;
    bytes.get(begin..end).map(|text| (text, end)).ok_or_else(|| truncated(end))
}

fn dtype_of(file: &str, name: &str, header: &Header) -> Result<(DType, ByteOrder), WeightError> {
    let descr = header.descr.as_str();
    let (order, kind) = descr.split_at_checked(1).unwrap_or(("", ""));
    let found = DTYPES.iter().find(|(_, spelled)| *spelled == kind).map(|(dtype, _)| *dtype);
    let bytes = found.and_then(DType::size_of).unwrap_or(0);
    match (order, found) {
        ("<" | "=", Some(dtype)) => Ok((dtype, ByteOrder::Little)),
        (">", Some(dtype)) if dtype != DType::BF16 => Ok((dtype, ByteOrder::Big)),
        ("|", Some(dtype)) if bytes == 1 || dtype == DType::BF16 => Ok((dtype, ByteOrder::Little)),
        _ => Err(unsupported_dtype(file, name, &descr.chars().take(32).collect::<String>())),
    }
}

fn unsupported_dtype(file: &str, tensor: &str, found: &str) -> WeightError {
    let (file, tensor, found) = (file.into(), tensor.into(), found.into());
    WeightError::UnsupportedDtype { file, tensor, found, expected: DTYPE_NAMES }
}

/// `data` in C order and little-endian; the same bytes when they already are.
fn row_major_little(data: WeightBytes, dtype: DType, order: ByteOrder, header: &Header) -> WeightBytes {
    let width = dtype.size_of().expect("every npy dtype has whole bytes");
    let part = if dtype.is_complex() { width / 2 } else { width };
    let several_axes = header.dims.iter().filter(|&&dim| dim != 1).count() > 1;
    let permute = header.fortran_order && several_axes && !data.is_empty();
    let swap = order == ByteOrder::Big && part > 1;
    if !permute && !swap {
        return data;
    }
    let mut bytes = if permute { fortran_to_c(&data, width, &header.dims) } else { data.to_vec() };
    if swap {
        bytes.chunks_exact_mut(part).for_each(<[u8]>::reverse);
    }
    bytes.into()
}

/// Elements of `width` bytes, first axis fastest, copied to last axis fastest.
fn fortran_to_c(data: &[u8], width: usize, dims: &[usize]) -> Vec<u8> {
    let mut strides = vec![width; dims.len()];
    for axis in 1..dims.len() {
        strides[axis] = strides[axis - 1] * dims[axis - 1];
    }
    let mut out = Vec::with_capacity(data.len());
    let mut index = vec![0usize; dims.len()];
    let mut at = 0;
    while out.len() < data.len() {
        out.extend_from_slice(&data[at..at + width]);
        for axis in (0..dims.len()).rev() {
            index[axis] += 1;
            at += strides[axis];
            if index[axis] < dims[axis] {
                break;
            }
            at -= strides[axis] * dims[axis];
            index[axis] = 0;
        }
    }
    out
}

/// Everything of an npy file before its array.
///
/// # Errors
/// A dtype that NumPy lacks, or bytes that do not fit their type.
pub(crate) fn preamble(file: &str, name: &str, tensor: TensorRef<'_>) -> Result<Vec<u8>, WeightError> {
    let spelled = DTYPES.iter().find(|(dtype, _)| *dtype == tensor.dtype).map(|(_, spelled)| *spelled);
    let spelled = spelled.ok_or_else(|| unsupported_dtype(file, name, tensor.dtype.name()))?;
    check(file, name, tensor)?;
    let order = if tensor.dtype.size_of() == Some(1) { '|' } else { '<' };
    let dims: Vec<String> = tensor.dims.iter().map(|dim| format!("{dim},")).collect();
    let mut dims = dims.join(" ");
    if tensor.dims.len() != 1 && dims.ends_with(',') {
        dims.pop();
    }
    let mut text = format!("{{'descr': '{order}{spelled}', 'fortran_order': False, 'shape': ({dims}), }}");
    let before = MAGIC.len() + 4;
    let padded = (before + text.len() + 1).next_multiple_of(DATA_ALIGNMENT) - before;
    text.extend(std::iter::repeat_n(' ', padded - text.len() - 1));
    text.push('\n');
    let length = u16::try_from(text.len()).map_err(|_| WeightError::ShapeTooLarge {
        file: file.into(),
        tensor: name.into(),
        ty: type_text(tensor.dtype, tensor.dims),
    })?;
    Ok([&MAGIC[..], &[1, 0], &length.to_le_bytes(), text.as_bytes()].concat())
}

/// Writes `tensor` to `out` as an npy file; errors call it `file`.
///
/// # Errors
/// A dtype that NumPy lacks, bytes that do not fit their type, or what `out` reports.
pub fn write(file: &str, out: &mut dyn Write, tensor: TensorRef<'_>) -> Result<(), WeightError> {
    let preamble = preamble(file, "array", tensor)?;
    [&preamble, tensor.bytes].into_iter().try_for_each(|bytes| {
        out.write_all(bytes).map_err(|source| WeightError::Io { file: file.into(), action: "write", source })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fortran_order_becomes_row_major() {
        // The 2x3 matrix 0 1 2 / 3 4 5, stored by columns.
        assert_eq!(fortran_to_c(&[0, 3, 1, 4, 2, 5], 1, &[2, 3]), [0, 1, 2, 3, 4, 5]);
        let stored = [0, 0, 4, 4, 2, 2, 6, 6, 1, 1, 5, 5, 3, 3, 7, 7];
        assert_eq!(fortran_to_c(&stored, 2, &[2, 2, 2]), [0, 0, 1, 1, 2, 2, 3, 3, 4, 4, 5, 5, 6, 6, 7, 7]);
    }

    #[test]
    fn rows_that_need_no_change_are_borrowed() {
        let mut file = Vec::new();
        let tensor = TensorRef { dtype: DType::U16, dims: &[2, 2], bytes: &[1, 0, 2, 0, 3, 0, 4, 0] };
        write("memory", &mut file, tensor).expect("a writable tensor");
        let file = WeightBytes::from(file);
        let read = read("memory", "w", &file).expect("our own file");
        assert_eq!(read.view(), tensor);
        assert_eq!(read.bytes().as_ptr(), file[file.len() - 8..].as_ptr());
    }
}
