//! Transposing copies of dense rows, by the width of the element.
//!
//! Four-byte elements go through squares in registers; other widths go element by element over
//! blocks that stay in L1.

use super::matrix::Plain;
use crate::simd::{Kernel, Simd, Vector};

/// `to[c * to_row + r] = from[r * from_row + c]` for each row `r` and column `c`.
pub(crate) struct Transpose<'a, T> {
    pub extents: [usize; 2],
    pub from: &'a [T],
    pub from_row: usize,
    pub to: &'a mut [T],
    pub to_row: usize,
}

/// Rows and columns of a block that is transposed element by element.
const BLOCK: usize = 16;

impl<T: Plain> Kernel for Transpose<'_, T> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, simd: S) {
        let Transpose { extents: [rows, columns], from, from_row, to, to_row } = self;
        if rows == 0 || columns == 0 {
            return;
        }
        assert!((rows - 1) * from_row + columns <= from.len(), "the rows lie in the source");
        assert!((columns - 1) * to_row + rows <= to.len(), "the columns lie in the target");
        let unit = S::F32::LANES;
        let squares = if size_of::<T>() == 4 { [rows / unit * unit, columns / unit * unit] } else { [0, 0] };
        for row in (0..squares[0]).step_by(unit) {
            for column in (0..squares[1]).step_by(unit) {
                let source = from.as_ptr().wrapping_add(row * from_row + column).cast();
                let target = to.as_mut_ptr().wrapping_add(column * to_row + row).cast();
                // SAFETY: the square lies in both slices, as just checked for all of the matrix;
                // the elements have four bytes.
                unsafe { simd.transpose(source, from_row as isize, target, to_row as isize) };
            }
        }
        let mut rest = |rows: std::ops::Range<usize>, columns: std::ops::Range<usize>| {
            for first in rows.clone().step_by(BLOCK) {
                let block = first..rows.end.min(first + BLOCK);
                for column in columns.clone() {
                    for row in block.clone() {
                        to[column * to_row + row] = from[row * from_row + column];
                    }
                }
            }
        };
        rest(0..squares[0], squares[1]..columns);
        rest(squares[0]..rows, 0..columns);
    }
}
