//! Shapes and tensor types.

use crate::dim::{Bindings, Dim, DimError};
use crate::dtype::DType;
use std::fmt;

/// Extents of a tensor's axes, outermost first. Rank 0 is a scalar.
#[derive(Clone, PartialEq, Eq, Hash, Default)]
pub struct Shape(Vec<Dim>);

impl Shape {
    /// A shape from anything that turns into dims: integers or symbol names.
    pub fn new<D: Into<Dim>>(dims: impl IntoIterator<Item = D>) -> Shape {
        Shape(dims.into_iter().map(Into::into).collect())
    }

    /// The rank-0 shape.
    pub fn scalar() -> Shape {
        Shape(vec![])
    }

    /// Number of axes.
    pub fn rank(&self) -> usize {
        self.0.len()
    }

    /// The dims.
    pub fn dims(&self) -> &[Dim] {
        &self.0
    }

    /// The dims, by value.
    pub fn into_dims(self) -> Vec<Dim> {
        self.0
    }

    /// The shape with one more axis, of extent `size`, in front.
    pub fn with_front(&self, size: &Dim) -> Shape {
        Shape(std::iter::once(size).chain(&self.0).cloned().collect())
    }

    /// Product of all extents (1 for rank 0).
    pub fn num_elements(&self) -> Dim {
        self.0.iter().cloned().fold(Dim::from(1), |product, dim| product * dim)
    }

    /// Row-major strides, in elements.
    pub fn strides(&self) -> Vec<Dim> {
        let mut strides = vec![Dim::from(1); self.rank()];
        for axis in (0..self.rank().saturating_sub(1)).rev() {
            strides[axis] = strides[axis + 1].clone() * self.0[axis + 1].clone();
        }
        strides
    }

    /// All extents, when every dim is a constant that is not negative.
    pub fn as_static(&self) -> Option<Vec<usize>> {
        self.0.iter().map(|dim| dim.as_static().and_then(|d| usize::try_from(d).ok())).collect()
    }

    /// All extents under `bindings`.
    ///
    /// # Errors
    /// An unbound symbol, or an extent that is negative or beyond 64 bits.
    pub fn eval(&self, bindings: &Bindings) -> Result<Vec<usize>, DimError> {
        self.0.iter().map(|dim| dim.extent(bindings)).collect()
    }

    /// NumPy broadcast of two shapes; `None` where extents differ and neither is 1.
    pub fn broadcast(&self, other: &Shape) -> Option<Shape> {
        let rank = self.rank().max(other.rank());
        let at = |shape: &Shape, axis: usize| match (axis + shape.rank()).checked_sub(rank) {
            Some(index) => shape.0[index].clone(),
            None => Dim::from(1),
        };
        (0..rank)
            .map(|axis| {
                let (a, b) = (at(self, axis), at(other, axis));
                if a == b || b.is(1) {
                    Some(a)
                } else if a.is(1) {
                    Some(b)
                } else {
                    None
                }
            })
            .collect::<Option<Vec<_>>>()
            .map(Shape)
    }
}

impl std::ops::Index<usize> for Shape {
    type Output = Dim;
    fn index(&self, axis: usize) -> &Dim {
        &self.0[axis]
    }
}
impl From<Vec<Dim>> for Shape {
    fn from(dims: Vec<Dim>) -> Shape {
        Shape(dims)
    }
}
impl From<&[usize]> for Shape {
    fn from(dims: &[usize]) -> Shape {
        Shape::new(dims.iter().copied())
    }
}
impl<const N: usize> From<[usize; N]> for Shape {
    fn from(dims: [usize; N]) -> Shape {
        Shape::new(dims)
    }
}
impl fmt::Display for Shape {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[")?;
        for (axis, dim) in self.0.iter().enumerate() {
            if axis > 0 {
                f.write_str(", ")?;
            }
            write!(f, "{dim}")?;
        }
        f.write_str("]")
    }
}
impl fmt::Debug for Shape {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// Type of a value: element type and shape. Prints as `f32[B, 16]`.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct TensorType {
    /// Element type.
    pub dtype: DType,
    /// Extents.
    pub shape: Shape,
}

impl TensorType {
    /// A type from parts.
    pub fn new(dtype: DType, shape: impl Into<Shape>) -> TensorType {
        TensorType { dtype, shape: shape.into() }
    }

    /// Number of axes.
    pub fn rank(&self) -> usize {
        self.shape.rank()
    }

    /// Could a machine hold a tensor of this type? The known extents, zeros left out, have a product of at
    /// most 2^48, and no product of extents is too large an expression.
    pub fn fits(&self) -> bool {
        let known = self.shape.dims().iter().filter_map(Dim::as_static).filter(|&extent| extent > 0);
        let volume = known.into_iter().try_fold(1i64, |product, extent| product.checked_mul(extent));
        volume.is_some_and(|volume| volume <= 1 << 48) && !self.size_bytes().is_too_large()
    }

    /// Bytes of the contiguous tensor, rounded up to whole bytes or blocks.
    pub fn size_bytes(&self) -> Dim {
        let elements = self.shape.num_elements();
        let bytes = Dim::from(self.dtype.block_bits().max(8) / 8);
        if self.dtype.block_bits() < 8 {
            return elements.ceil_div(&Dim::from(8 / self.dtype.block_bits()));
        }
        elements.ceil_div(&Dim::from(self.dtype.block_elements())) * bytes
    }
}
impl fmt::Display for TensorType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}{}", self.dtype, self.shape)
    }
}
impl fmt::Debug for TensorType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn broadcasting_follows_numpy_and_keeps_symbols() {
        let a = Shape::new([Dim::from("B"), Dim::from(1), Dim::from(4)]);
        let b = Shape::new([Dim::from("S"), Dim::from(4)]);
        assert_eq!(a.broadcast(&b).map(|s| s.to_string()).as_deref(), Some("[B, S, 4]"));
        assert_eq!(Shape::from([2]).broadcast(&Shape::from([3])), None);
        assert_eq!(Shape::from([0]).broadcast(&Shape::from([1])), Some(Shape::from([0])));
    }

    #[test]
    fn types_beyond_any_machine_do_not_fit() {
        let fits = |dims: &[Dim]| TensorType::new(DType::F32, dims.to_vec()).fits();
        assert!(fits(&[Dim::from(1i64 << 48)]) && fits(&[Dim::from("S"), Dim::from(0)]));
        assert!(
            !fits(&[Dim::from(i64::MAX)]) && !fits(&[Dim::from(1i64 << 25), 0.into(), Dim::from(1i64 << 24)])
        );
        let terms = (0..100).fold(Dim::from("S"), |sum, index| sum + Dim::symbol(&format!("a{index}")));
        assert!(fits(std::slice::from_ref(&terms)) && !fits(&[terms.clone(), terms]));
    }

    #[test]
    fn sizes_count_packed_types_right() {
        assert_eq!(TensorType::new(DType::I4, [3]).size_bytes(), Dim::from(2));
        assert_eq!(TensorType::new(DType::Q4_0, [2, 32]).size_bytes(), Dim::from(36));
        assert_eq!(TensorType::new(DType::F64, [0, 7]).size_bytes(), Dim::from(0));
        assert_eq!(Shape::from([2, 3, 4]).strides(), vec![Dim::from(12), Dim::from(4), Dim::from(1)]);
    }
}
