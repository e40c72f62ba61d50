//! Gaussian elimination, triangular systems and the Cholesky factor.

use super::{Field, Flaw, Triangle};

/// What elimination found.
pub(super) struct Eliminated {
    /// The first column without a pivot.
    pub(super) singular: Option<usize>,
    /// Were rows exchanged an odd number of times?
    pub(super) odd: bool,
}

/// `to -= factor from`.
fn subtract<F: Field>(to: &mut [F], factor: F, from: &[F]) {
    for (to, &from) in to.iter_mut().zip(from) {
        *to = *to - factor * from;
    }
}

/// Two rows of a matrix, the second further down.
fn two_rows<F>(data: &mut [F], width: usize, first: usize, second: usize) -> (&[F], &mut [F]) {
    let (head, tail) = data.split_at_mut(second * width);
    (&head[first * width..][..width], &mut tail[..width])
}

/// Makes the n x n `a` upper triangular with partial pivoting, and does the same to the rows of the n x k `b`.
pub(super) fn eliminate<F: Field>(n: usize, a: &mut [F], k: usize, b: &mut [F]) -> Eliminated {
    let mut found = Eliminated { singular: None, odd: false };
    for column in 0..n {
        let size = |row: usize| a[row * n + column].magnitude();
        let pivot = (column + 1..n).fold(column, |best, row| if size(row) > size(best) { row } else { best });
        if size(pivot) == 0.0 {
            found.singular = found.singular.or(Some(column));
            continue;
        }
        if pivot != column {
            found.odd = !found.odd;
            (0..n).for_each(|at| a.swap(pivot * n + at, column * n + at));
            (0..k).for_each(|at| b.swap(pivot * k + at, column * k + at));
        }
        for row in column + 1..n {
            let (above, below) = two_rows(a, n, column, row);
            let factor = below[column] / above[column];
            if factor == F::of(0.0) {
                continue;
            }
            subtract(&mut below[column..], factor, &above[column..]);
            if k > 0 {
                let (above, below) = two_rows(b, k, column, row);
                subtract(below, factor, above);
            }
        }
    }
    found
}

/// Solves a triangular system for the n x k `b` in place.
pub(super) fn solve_triangular<F: Field>(
    n: usize,
    a: &[F],
    k: usize,
    b: &mut [F],
    triangle: Triangle,
) -> Result<(), Flaw> {
    let element = |row: usize, column: usize| match triangle.adjoint {
        true => a[column * n + row].conj(),
        false => a[row * n + column],
    };
    let forward = triangle.lower != triangle.adjoint;
    for step in 0..n {
        let row = if forward { step } else { n - 1 - step };
        if !triangle.unit_diagonal {
            let diagonal = element(row, row);
            if diagonal == F::of(0.0) {
                return Err(Flaw::Singular(row));
            }
            b[row * k..][..k].iter_mut().for_each(|x| *x = *x / diagonal);
        }
        let (head, rest) = b.split_at_mut(row * k);
        let (solved, tail) = rest.split_at_mut(k);
        if forward {
            for (below, to) in tail.chunks_exact_mut(k.max(1)).enumerate() {
                subtract(to, element(row + 1 + below, row), solved);
            }
        } else {
            for (above, to) in head.chunks_exact_mut(k.max(1)).enumerate() {
                subtract(to, element(above, row), solved);
            }
        }
    }
    Ok(())
}

/// The lower triangular factor of the Hermitian matrix whose lower triangle `a` holds, in place.
pub(super) fn cholesky<F: Field>(n: usize, a: &mut [F]) -> Result<(), Flaw> {
    for row in 0..n {
        for column in 0..=row {
            let dot = |a: &[F]| {
                let (x, y) = (&a[row * n..][..column], &a[column * n..][..column]);
                x.iter().zip(y).fold(F::of(0.0), |sum, (&x, &y)| sum + x * y.conj())
            };
            let left = a[row * n + column] - dot(a);
            a[row * n + column] = if column < row {
                left / a[column * n + column]
            } else if left.re() <= 0.0 {
                return Err(Flaw::NotPositive(row));
            } else {
                F::of(left.re().sqrt())
            };
        }
        a[row * n + row + 1..(row + 1) * n].fill(F::of(0.0));
    }
    Ok(())
}
