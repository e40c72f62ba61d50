//! Tensors in someone else's memory: what callers feed, what weight files hold.

use crate::dtype::DType;
use crate::literal::{Literal, LiteralError, element_count};
use crate::shape::TensorType;
use std::fmt;

/// A tensor's type and bytes, borrowed. The fields are free, so whoever takes
/// one asks [`TensorRef::check`] whether they agree.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct TensorRef<'a> {
    /// Element type.
    pub dtype: DType,
    /// Extents, outermost first.
    pub dims: &'a [usize],
    /// Row-major, little-endian, any alignment; exactly as many as the type needs.
    pub bytes: &'a [u8],
}

impl<'a> TensorRef<'a> {
    /// A tensor whose byte count fits its type.
    ///
    /// # Errors
    /// As [`TensorRef::check`].
    pub fn new(dtype: DType, dims: &'a [usize], bytes: &'a [u8]) -> Result<TensorRef<'a>, LiteralError> {
        let tensor = TensorRef { dtype, dims, bytes };
        tensor.check().map(|()| tensor)
    }

    /// An `f32` tensor.
    ///
    /// # Errors
    /// A count of values that does not fit `dims`.
    pub fn f32(dims: &'a [usize], values: &'a [f32]) -> Result<TensorRef<'a>, LiteralError> {
        TensorRef::new(DType::F32, dims, bytemuck::cast_slice(values))
    }

    /// An `i64` tensor.
    ///
    /// # Errors
    /// A count of values that does not fit `dims`.
    pub fn i64(dims: &'a [usize], values: &'a [i64]) -> Result<TensorRef<'a>, LiteralError> {
        TensorRef::new(DType::I64, dims, bytemuck::cast_slice(values))
    }

    /// An `i32` tensor.
    ///
    /// # Errors
    /// A count of values that does not fit `dims`.
    pub fn i32(dims: &'a [usize], values: &'a [i32]) -> Result<TensorRef<'a>, LiteralError> {
        TensorRef::new(DType::I32, dims, bytemuck::cast_slice(values))
    }

    /// Does the byte count fit the type?
    ///
    /// # Errors
    /// Another byte count, a type beyond the address space.
    pub fn check(&self) -> Result<(), LiteralError> {
        let (dtype, found) = (self.dtype, self.bytes.len());
        let expected = element_count(self.dims)
            .and_then(|elements| dtype.byte_size(elements))
            .ok_or_else(|| LiteralError::TooLarge { dtype, dims: self.dims.to_vec() })?;
        if found == expected {
            return Ok(());
        }
        Err(LiteralError::Length { dtype, dims: self.dims.to_vec(), expected, found })
    }

    /// Dtype and shape as a graph type.
    pub fn ty(&self) -> TensorType {
        TensorType::new(self.dtype, self.dims)
    }

    /// A copy as a constant.
    ///
    /// # Errors
    /// As [`TensorRef::check`], and a `bool` byte that is neither 0 nor 1.
    pub fn to_literal(&self) -> Result<Literal, LiteralError> {
        Literal::from_bytes(self.dtype, self.dims, self.bytes)
    }
}

impl<'a> From<&'a Literal> for TensorRef<'a> {
    fn from(literal: &'a Literal) -> TensorRef<'a> {
        TensorRef { dtype: literal.dtype(), dims: literal.dims(), bytes: literal.bytes() }
    }
}

impl fmt::Debug for TensorRef<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({} bytes)", self.ty(), self.bytes.len())
    }
}
