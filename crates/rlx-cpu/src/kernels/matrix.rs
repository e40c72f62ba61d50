//! Checked strided views of a matrix in a slice.

use super::KernelError;
use half::{bf16, f16};

/// Element types whose every bit pattern is a value and that have no padding.
///
/// # Safety
/// The implementor promises just that.
pub unsafe trait Plain: Copy + Default + Send + Sync + 'static {}

macro_rules! plain {
    ($($name:ty),*) => {
        $(
            // SAFETY: integers, floats, arrays and pairs in C order of them have no invalid bit pattern.
            unsafe impl Plain for $name {}
        )*
    };
}
plain!(
    u8,
    i8,
    u16,
    i16,
    u32,
    i32,
    u64,
    i64,
    f32,
    f64,
    f16,
    bf16,
    [u64; 2],
    u128,
    rlx_ir::linear_algebra::Complex
);

/// Sees bytes as whole elements; trailing bytes are dropped.
///
/// # Errors
/// When the address is not aligned to `T`.
pub fn cast_bytes<'a, T: Plain>(buffer: &'static str, bytes: &'a [u8]) -> Result<&'a [T], KernelError> {
    // SAFETY: every bit pattern of a plain type is a value.
    let (head, middle, _) = unsafe { bytes.align_to::<T>() };
    if head.is_empty() {
        return Ok(middle);
    }
    Err(KernelError::Misaligned { buffer, align: align_of::<T>() })
}

/// Sees bytes as whole elements, mutably; trailing bytes are dropped.
///
/// # Errors
/// When the address is not aligned to `T`.
pub fn cast_bytes_mut<'a, T: Plain>(
    buffer: &'static str,
    bytes: &'a mut [u8],
) -> Result<&'a mut [T], KernelError> {
    // SAFETY: every bit pattern of a plain type is a value, and it has no padding to expose.
    let (head, middle, _) = unsafe { bytes.align_to_mut::<T>() };
    if head.is_empty() {
        return Ok(middle);
    }
    Err(KernelError::Misaligned { buffer, align: align_of::<T>() })
}

/// A matrix read through two strides, which may be zero or negative.
///
/// Every element of the view lies inside the slice.
#[derive(Clone, Copy, Debug)]
pub struct Matrix<'a, T> {
    data: &'a [T],
    offset: usize,
    rows: usize,
    columns: usize,
    row_stride: isize,
    column_stride: isize,
}

impl<'a, T: Copy> Matrix<'a, T> {
    /// Element `(r, c)` is `data[offset + r * strides[0] + c * strides[1]]`.
    ///
    /// # Errors
    /// When an element would lie outside `data`.
    pub fn new(
        data: &'a [T],
        offset: usize,
        [rows, columns]: [usize; 2],
        [row_stride, column_stride]: [isize; 2],
    ) -> Result<Matrix<'a, T>, KernelError> {
        if rows > 0 && columns > 0 {
            check_reach(data.len(), offset, &[(rows, row_stride), (columns, column_stride)])?;
        }
        Ok(Matrix { data, offset, rows, columns, row_stride, column_stride })
    }

    /// A dense matrix, row after row, at the start of `data`.
    ///
    /// # Errors
    /// When `data` is too short.
    pub fn dense(data: &'a [T], rows: usize, columns: usize) -> Result<Self, KernelError> {
        Matrix::new(data, 0, [rows, columns], [signed(columns), 1])
    }

    /// The same elements with rows and columns exchanged.
    pub fn transposed(self) -> Self {
        Matrix {
            rows: self.columns,
            columns: self.rows,
            row_stride: self.column_stride,
            column_stride: self.row_stride,
            ..self
        }
    }

    /// Number of rows.
    pub fn rows(&self) -> usize {
        self.rows
    }

    /// Number of columns.
    pub fn columns(&self) -> usize {
        self.columns
    }

    /// Elements from row to row.
    pub fn row_stride(&self) -> isize {
        self.row_stride
    }

    /// Elements from column to column.
    pub fn column_stride(&self) -> isize {
        self.column_stride
    }

    /// The element in `row` and `column`.
    pub fn at(&self, row: usize, column: usize) -> T {
        assert!(row < self.rows && column < self.columns, "the element lies in the matrix");
        // SAFETY: the constructor checked the four corners, so every element is in the slice.
        unsafe { *self.pointer(row, column) }
    }

    /// `length` elements of a row from `column` on; the column stride must be one.
    pub(crate) fn row_part(&self, row: usize, column: usize, length: usize) -> &'a [T] {
        assert!(self.column_stride == 1, "a row is contiguous");
        assert!(row < self.rows && column + length <= self.columns, "the part lies in the matrix");
        // SAFETY: the constructor checked that the whole row is in the slice.
        unsafe { std::slice::from_raw_parts(self.pointer(row, column), length) }
    }

    /// The slice from an element of the matrix on, when no stride is negative.
    pub(crate) fn tail(&self, row: usize, column: usize) -> Option<&'a [T]> {
        let inside = row < self.rows && column < self.columns;
        let strides = [self.row_stride, self.column_stride].map(|s| usize::try_from(s).ok());
        let [Some(down), Some(across)] = strides else { return None };
        inside.then(|| &self.data[self.offset + row * down + column * across..])
    }

    /// The address of an element; valid to read if the element is inside the matrix.
    pub(crate) fn pointer(&self, row: usize, column: usize) -> *const T {
        let steps = signed(row)
            .wrapping_mul(self.row_stride)
            .wrapping_add(signed(column).wrapping_mul(self.column_stride));
        self.data.as_ptr().wrapping_add(self.offset).wrapping_offset(steps)
    }
}

/// A matrix that is written: dense rows at a stride.
#[derive(Debug)]
pub struct MatrixMut<'a, T> {
    pub(crate) data: &'a mut [T],
    pub(crate) rows: usize,
    pub(crate) columns: usize,
    pub(crate) row_stride: usize,
}

impl<'a, T: Copy> MatrixMut<'a, T> {
    /// Element `(r, c)` is `data[r * row_stride + c]`.
    ///
    /// # Errors
    /// When an element would lie outside `data` or rows overlap.
    pub fn new(
        data: &'a mut [T],
        [rows, columns]: [usize; 2],
        row_stride: usize,
    ) -> Result<MatrixMut<'a, T>, KernelError> {
        if rows > 0 && columns > 0 {
            check_reach(data.len(), 0, &[(rows, signed(row_stride)), (columns, 1)])?;
        }
        if rows > 1 && row_stride < columns {
            return Err(KernelError::Overlap { operand: "output", stride: row_stride, columns });
        }
        Ok(MatrixMut { data, rows, columns, row_stride })
    }

    /// Dense rows one after the other.
    ///
    /// # Errors
    /// When `data` is too short.
    pub fn dense(data: &'a mut [T], rows: usize, columns: usize) -> Result<Self, KernelError> {
        MatrixMut::new(data, [rows, columns], columns)
    }
}

/// Checks that `offset + sum(i * stride)` with each `i < extent` stays inside `length` elements.
/// All extents are at least one.
pub(crate) fn check_reach(length: usize, offset: usize, axes: &[(usize, isize)]) -> Result<(), KernelError> {
    let operand = "view";
    let outside = |reach| KernelError::OutOfBounds { operand, reach, length };
    let mut low = isize::try_from(offset).map_err(|_| outside(isize::MAX))?;
    let mut high = low;
    for &(extent, stride) in axes {
        let last = isize::try_from(extent - 1).map_err(|_| outside(isize::MAX))?;
        let step = last.checked_mul(stride).ok_or(outside(isize::MAX))?;
        let bound = if step < 0 { &mut low } else { &mut high };
        *bound = bound.checked_add(step).ok_or(outside(isize::MAX))?;
    }
    if low < 0 {
        return Err(outside(low));
    }
    if high >= signed(length) {
        return Err(outside(high));
    }
    Ok(())
}

/// A length as a signed stride; slices never exceed `isize::MAX` bytes.
pub(crate) fn signed(length: usize) -> isize {
    isize::try_from(length).unwrap_or(isize::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn views_are_checked() {
        let data = [0f32; 12];
        assert!(Matrix::dense(&data, 3, 4).is_ok());
        assert!(Matrix::dense(&data, 3, 5).is_err());
        assert!(Matrix::new(&data, 11, [3, 4], [-4, -1]).is_ok());
        assert!(Matrix::new(&data, 10, [3, 4], [-4, -1]).is_err());
        assert!(Matrix::new(&data, 0, [1000, 3], [0, 1]).is_ok());
        assert!(Matrix::new(&data, 500, [0, 3], [1, 1]).is_ok());
        assert!(Matrix::new(&data, 0, [usize::MAX, 3], [isize::MAX, 1]).is_err());
        let mut out = [0f32; 12];
        assert!(MatrixMut::new(&mut out, [3, 4], 3).is_err());
        assert!(MatrixMut::new(&mut out, [1, 4], 0).is_ok());
    }

    #[test]
    fn transposing_swaps_indices() {
        let data = [0, 1, 2, 3, 4, 5];
        let view = Matrix::dense(&data, 2, 3).expect("the view lies in its data");
        assert_eq!(view.at(1, 2), 5);
        assert_eq!(view.transposed().at(2, 1), 5);
        assert_eq!(view.transposed().rows(), 3);
    }

    #[test]
    fn bytes_cast_only_when_aligned() {
        let words = [0u64; 4];
        // SAFETY: the bytes of an integer array.
        let bytes = unsafe { words.align_to::<u8>().1 };
        assert_eq!(cast_bytes::<f32>("x", &bytes[..30]).expect("the extents agree").len(), 7);
        assert!(cast_bytes::<f32>("x", &bytes[1..]).is_err());
    }
}
