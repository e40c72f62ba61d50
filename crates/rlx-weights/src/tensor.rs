//! A named tensor of a weight file: dtype, extents and exactly its bytes.
//!
//! Always contiguous, row-major and little-endian; the byte count is checked
//! when a tensor is made, so holders need not check again.
#![forbid(unsafe_code)]

use crate::bytes::WeightBytes;
use crate::error::WeightError;
use rlx_ir::literal::element_count;
use rlx_ir::{DType, Literal, TensorRef};
use std::fmt;
use std::sync::Arc;

/// Most axes that any reader accepts.
pub const MAX_RANK: usize = 64;

/// A named tensor with shared bytes: cheap to clone, never copied.
#[derive(Clone, Debug)]
pub struct WeightTensor {
    name: Arc<str>,
    dtype: DType,
    dims: Arc<[usize]>,
    bytes: WeightBytes,
}

impl WeightTensor {
    /// A tensor from parts.
    ///
    /// # Errors
    /// A byte count that does not match, a tensor beyond the address space or
    /// ending inside a block, or a `bool` byte that is neither 0 nor 1.
    pub fn new(
        name: &str,
        dtype: DType,
        dims: &[usize],
        bytes: impl Into<WeightBytes>,
    ) -> Result<WeightTensor, WeightError> {
        WeightTensor::from_file("memory", name, dtype, dims, bytes.into())
    }

    /// [`WeightTensor::new`] with the file that errors shall name.
    pub(crate) fn from_file(
        file: &str,
        name: &str,
        dtype: DType,
        dims: &[usize],
        bytes: WeightBytes,
    ) -> Result<WeightTensor, WeightError> {
        check(file, name, TensorRef { dtype, dims, bytes: &bytes })?;
        Ok(WeightTensor { name: name.into(), dtype, dims: dims.into(), bytes })
    }

    /// A literal under a name; shares its bytes.
    ///
    /// # Errors
    /// A block-quantised literal that ends inside a block.
    pub fn from_literal(name: &str, literal: &Literal) -> Result<WeightTensor, WeightError> {
        WeightTensor::new(name, literal.dtype(), literal.dims(), literal.shared_bytes())
    }

    /// The same bytes under another name.
    pub fn renamed(&self, name: &str) -> WeightTensor {
        WeightTensor { name: name.into(), ..self.clone() }
    }

    /// Name in its file.
    pub fn name(&self) -> &str {
        &self.name
    }

    pub(crate) fn shared_name(&self) -> &Arc<str> {
        &self.name
    }

    /// Element type.
    pub fn dtype(&self) -> DType {
        self.dtype
    }

    /// Extents, outermost first.
    pub fn dims(&self) -> &[usize] {
        &self.dims
    }

    /// The bytes, shared: clone to keep them after the loader is gone.
    pub fn bytes(&self) -> &WeightBytes {
        &self.bytes
    }

    /// A borrowed view.
    pub fn view(&self) -> TensorRef<'_> {
        TensorRef { dtype: self.dtype, dims: &self.dims, bytes: &self.bytes }
    }
}

/// `f32[2, 3]`, shortened where a hostile rank would make it long.
pub(crate) fn type_text(dtype: impl fmt::Display, dims: &[usize]) -> String {
    let shown: Vec<String> = dims.iter().take(8).map(usize::to_string).collect();
    let more = if dims.len() > 8 { ", ..." } else { "" };
    format!("{dtype}[{}{more}]", shown.join(", "))
}

/// Bytes that a tensor takes.
pub(crate) fn required_bytes(
    file: &str,
    tensor: &str,
    dtype: DType,
    dims: &[usize],
) -> Result<usize, WeightError> {
    let too_large = || WeightError::ShapeTooLarge {
        file: file.into(),
        tensor: tensor.into(),
        ty: type_text(dtype, dims),
    };
    if dims.len() > MAX_RANK {
        return Err(too_large());
    }
    let nonzero: Vec<usize> = dims.iter().copied().filter(|&dim| dim != 0).collect();
    element_count(&nonzero)
        .and_then(|elements| dtype.byte_size(elements))
        .filter(|&bytes| isize::try_from(bytes).is_ok())
        .ok_or_else(too_large)?;
    let elements = element_count(dims).ok_or_else(too_large)?;
    let last = dims.last().copied().unwrap_or(1);
    if dtype.block_elements() > 1 && !last.is_multiple_of(dtype.block_elements()) {
        let ty = type_text(dtype, dims);
        return Err(WeightError::PartialBlock { file: file.into(), tensor: tensor.into(), ty });
    }
    dtype.byte_size(elements).ok_or_else(too_large)
}

/// Refuses a tensor whose bytes do not fit its type.
pub(crate) fn check(file: &str, name: &str, tensor: TensorRef<'_>) -> Result<(), WeightError> {
    let expected = required_bytes(file, name, tensor.dtype, tensor.dims)?;
    if tensor.bytes.len() != expected {
        return Err(WeightError::SizeMismatch {
            file: file.into(),
            tensor: name.into(),
            ty: type_text(tensor.dtype, tensor.dims),
            found: tensor.bytes.len() as u64,
            expected: expected as u64,
        });
    }
    if tensor.dtype == DType::Bool
        && let Some((index, &found)) = tensor.bytes.iter().enumerate().find(|(_, byte)| **byte > 1)
    {
        return Err(WeightError::NotBool { file: file.into(), tensor: name.into(), index, found });
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shapes_are_checked_before_bytes() {
        let make = |dtype, dims: &[usize], bytes: usize| WeightTensor::new("w", dtype, dims, vec![0; bytes]);
        assert!(make(DType::F32, &[2, 3], 24).is_ok());
        assert!(make(DType::I4, &[3], 2).is_ok());
        assert!(make(DType::F32, &[], 4).is_ok());
        assert!(make(DType::F32, &[0, 9], 0).is_ok());
        assert!(matches!(make(DType::F32, &[2], 4), Err(WeightError::SizeMismatch { expected: 8, .. })));
        let huge = [usize::MAX, 2, 0];
        assert!(matches!(make(DType::U8, &huge, 0), Err(WeightError::ShapeTooLarge { .. })));
        assert!(matches!(make(DType::U8, &[1; 65], 1), Err(WeightError::ShapeTooLarge { .. })));
        assert!(matches!(make(DType::Q4_0, &[2, 16], 18), Err(WeightError::PartialBlock { .. })));
    }
}
