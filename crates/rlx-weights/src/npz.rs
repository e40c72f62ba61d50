//! The npz format of NumPy: a zip archive with one npy file per array.
//!
//! A member `NAME.npy` is the tensor `NAME`. Arrays that are stored, in C
//! order and little-endian are borrowed from the archive.
#![forbid(unsafe_code)]

use crate::bytes::WeightBytes;
use crate::error::WeightError;
use crate::npy;
use crate::tensor::WeightTensor;
pub use crate::zip::Compression;
use crate::zip::{ZipWriter, members, unpack};
use rlx_ir::TensorRef;
use std::collections::HashSet;
use std::io::Write;

const SUFFIX: &str = ".npy";

/// Reads the archive `bytes`, which errors call `file`. Deflated members may
/// unpack to at most `limit` bytes in all; the rest needs no more than the
/// archive's own size.
///
/// # Errors
/// A damaged archive, a member that is no npy file, or more than `limit` bytes.
pub fn read(file: &str, bytes: &WeightBytes, limit: u64) -> Result<Vec<WeightTensor>, WeightError> {
    let mut budget = limit;
    let mut tensors = Vec::new();
    for member in members(file, bytes)? {
        let name = member.name.strip_suffix(SUFFIX).ok_or_else(|| WeightError::Malformed {
            file: file.into(),
            part: "npz archive",
            detail: format!("found the member `{}`, expected only names that end in {SUFFIX}", member.name),
        })?;
        let contents = unpack(file, bytes, &member, &mut budget)?;
        tensors.push(npy::read(&format!("{file}({})", member.name), name, &contents)?);
    }
    Ok(tensors)
}

/// Writes `tensors` to `out` as an archive; errors call it `file`.
///
/// # Errors
/// A dtype that NumPy lacks, bytes that do not fit their type, a name twice, or
/// what `out` reports.
pub fn write(
    file: &str,
    out: &mut dyn Write,
    tensors: &[(&str, TensorRef<'_>)],
    compression: Compression,
) -> Result<(), WeightError> {
    let io = |source| WeightError::Io { file: file.into(), action: "write", source };
    let mut seen = HashSet::new();
    let mut archive = ZipWriter::new(out);
    for (name, tensor) in tensors {
        if !seen.insert(name) {
            let (file, tensor, other) = (file.into(), (*name).into(), "the same list".into());
            return Err(WeightError::DuplicateTensor { file, tensor, other });
        }
        let preamble = npy::preamble(file, name, *tensor)?;
        archive.add(&format!("{name}{SUFFIX}"), &[&preamble, tensor.bytes], compression).map_err(io)?;
    }
    archive.finish().map_err(io)
}
