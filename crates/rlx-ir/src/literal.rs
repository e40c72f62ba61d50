//! Dense host tensors: constants, interpreter values, golden data.
//!
//! Always contiguous, little-endian, with exactly as many bytes as the type
//! needs. Sub-byte types pack low bits first; `bool` is one byte, 0 or 1.

use crate::dtype::DType;
use crate::number::{Number, decode, encode};
use crate::shape::{Shape, TensorType};
use crate::tensor_ref::TensorRef;
use std::fmt;
use std::hash::{Hash, Hasher};
use std::sync::Arc;

/// A dense tensor on the host.
#[derive(Clone, PartialEq, Eq)]
pub struct Literal {
    dtype: DType,
    dims: Vec<usize>,
    bytes: Arc<[u8]>,
}

/// Why bytes do not make a literal.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LiteralError {
    /// Byte count does not match the type.
    #[error("{dtype}{dims:?} needs {expected} bytes, found {found}")]
    Length {
        /// Element type.
        dtype: DType,
        /// Extents.
        dims: Vec<usize>,
        /// Bytes that the type needs.
        expected: usize,
        /// Bytes that were given.
        found: usize,
    },
    /// The type is too large for this machine.
    #[error("{dtype}{dims:?} does not fit the address space")]
    TooLarge {
        /// Element type.
        dtype: DType,
        /// Extents.
        dims: Vec<usize>,
    },
    /// A `bool` byte other than 0 or 1.
    #[error("bool data holds the byte {0}; only 0 and 1 are legal")]
    NotBool(u8),
    /// Numbers for a format whose elements stand in blocks.
    #[error("{0} holds blocks, no single numbers; give its bytes")]
    Blocks(DType),
}

/// Number of elements of `dims`; `None` on overflow.
pub fn element_count(dims: &[usize]) -> Option<usize> {
    if dims.contains(&0) {
        return Some(0);
    }
    dims.iter().try_fold(1usize, |product, &dim| product.checked_mul(dim))
}

impl Literal {
    /// A literal from raw little-endian bytes.
    ///
    /// # Errors
    /// A byte count that does not match, a size beyond the address space, or a
    /// `bool` byte that is neither 0 nor 1.
    pub fn from_bytes(dtype: DType, dims: &[usize], bytes: &[u8]) -> Result<Literal, LiteralError> {
        TensorRef::new(dtype, dims, bytes)?;
        if dtype == DType::Bool
            && let Some(&odd) = bytes.iter().find(|&&byte| byte > 1)
        {
            return Err(LiteralError::NotBool(odd));
        }
        Ok(Literal { dtype, dims: dims.to_vec(), bytes: bytes.into() })
    }

    /// A literal from decoded numbers, each rounded or wrapped to `dtype`.
    ///
    /// # Errors
    /// A count of numbers that does not match `dims`, a block format, a size beyond the address space.
    pub fn from_numbers(
        dtype: DType,
        dims: &[usize],
        numbers: impl IntoIterator<Item = Number>,
    ) -> Result<Literal, LiteralError> {
        if dtype.block_elements() > 1 {
            return Err(LiteralError::Blocks(dtype));
        }
        let elements = element_count(dims)
            .filter(|elements| dtype.byte_size(*elements).is_some_and(|bytes| isize::try_from(bytes).is_ok()))
            .ok_or_else(|| LiteralError::TooLarge { dtype, dims: dims.to_vec() })?;
        let mut bytes = Vec::new();
        let mut count = 0;
        let bits = dtype.block_bits();
        for number in numbers {
            let mut element = [0u8; 16];
            let width = encode(dtype, number.cast(dtype), &mut element);
            if bits < 8 {
                let per_byte = 8 / bits;
                if count % per_byte == 0 {
                    bytes.push(0);
                }
                let mask = (1u8 << bits) - 1;
                if let Some(last) = bytes.last_mut() {
                    *last |= (element[0] & mask) << (bits * (count % per_byte));
                }
            } else {
                bytes.extend_from_slice(&element[..width]);
            }
            count += 1;
        }
        if count != elements {
            let expected = dtype.byte_size(elements).unwrap_or(usize::MAX);
            return Err(LiteralError::Length { dtype, dims: dims.to_vec(), expected, found: bytes.len() });
        }
        Ok(Literal { dtype, dims: dims.to_vec(), bytes: bytes.into() })
    }

    /// A float literal, each value rounded to `dtype`.
    ///
    /// # Errors
    /// Another number of values than `dims` say.
    pub fn floats(dtype: DType, dims: &[usize], values: &[f64]) -> Result<Literal, LiteralError> {
        Literal::from_numbers(dtype, dims, values.iter().map(|&value| Number::Float(value)))
    }

    /// An integer (or `bool`) literal, each value wrapped to `dtype`.
    ///
    /// # Errors
    /// Another number of values than `dims` say.
    pub fn ints(dtype: DType, dims: &[usize], values: &[i128]) -> Result<Literal, LiteralError> {
        Literal::from_numbers(dtype, dims, values.iter().map(|&value| Number::Int(value)))
    }

    /// A rank-0 `f32`.
    pub fn scalar_f32(value: f32) -> Literal {
        Literal::scalar(DType::F32, Number::Float(value.into()))
    }

    /// A rank-0 `i32`.
    pub fn scalar_i32(value: i32) -> Literal {
        Literal::scalar(DType::I32, Number::Int(value.into()))
    }

    /// A rank-0 `i64`.
    pub fn scalar_i64(value: i64) -> Literal {
        Literal::scalar(DType::I64, Number::Int(value.into()))
    }

    fn scalar(dtype: DType, number: Number) -> Literal {
        Literal::from_numbers(dtype, &[], [number]).expect("a scalar has one value")
    }

    /// Element type.
    pub fn dtype(&self) -> DType {
        self.dtype
    }

    /// Extents.
    pub fn dims(&self) -> &[usize] {
        &self.dims
    }

    /// Number of elements.
    pub fn len(&self) -> usize {
        element_count(&self.dims).unwrap_or(usize::MAX)
    }

    /// Has no element?
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The bytes, little-endian and contiguous.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// The bytes, shared.
    pub fn shared_bytes(&self) -> Arc<[u8]> {
        self.bytes.clone()
    }

    /// The type.
    pub fn ty(&self) -> TensorType {
        TensorType::new(self.dtype, Shape::from(self.dims.as_slice()))
    }

    /// Element at row-major position `index` (NaN for block formats, and 0 past the end is never read).
    pub fn number(&self, index: usize) -> Number {
        let bits = self.dtype.block_bits();
        if self.dtype.block_elements() > 1 {
            return Number::Float(f64::NAN);
        }
        if bits < 8 {
            let per_byte = 8 / bits;
            let mask = (1u8 << bits) - 1;
            return decode(
                self.dtype,
                &[(self.bytes[index / per_byte] >> (bits * (index % per_byte))) & mask],
            );
        }
        let width = bits / 8;
        decode(self.dtype, &self.bytes[index * width..])
    }

    /// All elements, decoded.
    pub fn numbers(&self) -> Vec<Number> {
        (0..self.len()).map(|index| self.number(index)).collect()
    }

    /// All elements as floats; complex elements give their real part.
    pub fn to_f64s(&self) -> Vec<f64> {
        let real = |number| match number {
            Number::Complex(re, _) => re,
            other => other.as_f64().unwrap_or(f64::NAN),
        };
        (0..self.len()).map(|index| real(self.number(index))).collect()
    }

    /// All elements as integers; floats are cast with saturation.
    pub fn to_ints(&self) -> Vec<i128> {
        let int = |number: Number| match number {
            Number::Int(value) => value,
            Number::Float(value) | Number::Complex(value, _) => value as i128,
        };
        (0..self.len()).map(|index| int(self.number(index))).collect()
    }

    /// The same bytes under other extents with the same element count.
    pub fn reshaped(&self, dims: &[usize]) -> Option<Literal> {
        (element_count(dims) == Some(self.len())).then(|| Literal {
            dtype: self.dtype,
            dims: dims.to_vec(),
            bytes: self.bytes.clone(),
        })
    }
}

impl Hash for Literal {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.dtype.hash(state);
        self.dims.hash(state);
        self.bytes.hash(state);
    }
}

impl fmt::Debug for Literal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}{:?}", self.dtype, self.dims)?;
        let shown = self.len().min(16);
        let numbers: Vec<_> = (0..shown).map(|index| self.number(index)).collect();
        write!(f, " {numbers:?}{}", if shown < self.len() { " .." } else { "" })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn packed_elements_sit_low_bits_first() {
        let literal = Literal::ints(DType::I4, &[3], &[1, -2, 7]).expect("one value per element");
        assert_eq!(literal.bytes(), &[0xe1, 0x07]);
        assert_eq!(literal.to_ints(), vec![1, -2, 7]);
    }

    #[test]
    fn wrong_byte_counts_are_refused() {
        assert!(matches!(
            Literal::from_bytes(DType::F32, &[2], &[0; 7]),
            Err(LiteralError::Length { expected: 8, found: 7, .. })
        ));
        assert!(matches!(
            Literal::from_bytes(DType::F32, &[usize::MAX, 2], &[]),
            Err(LiteralError::TooLarge { .. })
        ));
        assert_eq!(Literal::from_bytes(DType::Bool, &[1], &[2]), Err(LiteralError::NotBool(2)));
    }
}
