//! What the ops that order elements share: the order itself and walks along one axis.

use crate::ops::prelude::*;
use std::cmp::Ordering;

/// The order of elements: numbers by value (`-0 = +0`), every NaN above every
/// number and equal to every other NaN, as NumPy sorts. Complex numbers are
/// not ordered and compare equal.
pub(crate) fn compare_numbers(a: Number, b: Number) -> Ordering {
    match (a, b) {
        (Number::Float(a), Number::Float(b)) => {
            a.partial_cmp(&b).unwrap_or_else(|| a.is_nan().cmp(&b.is_nan()))
        }
        (Number::Int(a), Number::Int(b)) => a.cmp(&b),
        _ => Ordering::Equal,
    }
}

/// Positions `0..row.len()` of a row in (descending) order, ties by position.
pub(crate) fn sorted_positions(row: &[Number], descending: bool) -> Vec<usize> {
    let mut positions: Vec<usize> = (0..row.len()).collect();
    positions.sort_by(|&a, &b| {
        let order = compare_numbers(row[a], row[b]);
        if descending { order.reverse() } else { order }
    });
    positions
}

/// `x` has a dtype whose elements are ordered: float or integer.
pub(crate) fn check_ordered(label: &'static str, x: &TensorType) -> Result<(), Violation> {
    let legal = (x.dtype.is_float() || x.dtype.is_int()) && !x.dtype.is_storage_only();
    require!(label, legal, "expected a float or integer dtype, found {}", x.dtype);
    Ok(())
}

/// Replaces each row of `x` along `axis` by the numbers that `row` makes of it,
/// `extent` of them, for each of several results of the given dtypes.
///
/// # Errors
/// A result that does not fit memory.
pub(crate) fn map_rows<const N: usize>(
    x: &Literal,
    axis: usize,
    extent: usize,
    dtypes: [DType; N],
    mut row: impl FnMut(&[Number]) -> [Vec<Number>; N],
) -> Result<Vec<Literal>, Fault> {
    let mut dims = x.dims().to_vec();
    let old_extent = dims[axis];
    let inner = dims[axis + 1..].iter().product::<usize>();
    let outer = dims[..axis].iter().product::<usize>();
    dims[axis] = extent;
    let numbers = x.numbers();
    let count = outer.checked_mul(extent).and_then(|count| count.checked_mul(inner));
    let count = count.ok_or_else(|| Fault(format!("a result of extents {dims:?} does not fit memory")))?;
    let mut columns: [Vec<Number>; N] = std::array::from_fn(|_| vec![Number::Int(0); count]);
    // Rows without a result need no walk, however many there are.
    let rows = if count == 0 { 0 } else { outer };
    for_each_index(&[rows, inner], |index| {
        let gathered: Vec<Number> =
            (0..old_extent).map(|at| numbers[(index[0] * old_extent + at) * inner + index[1]]).collect();
        for (column, made) in columns.iter_mut().zip(row(&gathered)) {
            for (at, number) in made.into_iter().enumerate() {
                column[(index[0] * extent + at) * inner + index[1]] = number;
            }
        }
    });
    let literals = dtypes.into_iter().zip(columns);
    literals.map(|(dtype, column)| Ok(Literal::from_numbers(dtype, &dims, column)?)).collect()
}

/// Positions as index elements.
pub(crate) fn index_numbers(positions: &[usize]) -> Vec<Number> {
    positions.iter().map(|&position| Number::Int(position as i128)).collect()
}
