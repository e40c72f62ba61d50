//! Dense linear algebra on single matrices, row after row: naive, sequential, in `f64` or pairs of it.
//!
//! The reference evaluation and the CPU run the same [`Problem`]; nothing here allocates. Signs that the
//! mathematics leaves open are fixed: the diagonal of `r` is not negative, and of each eigenvector and left
//! singular vector the first of the largest elements is real and positive.

mod elimination;
mod field;
mod jacobi;
mod reflections;

pub use field::{Complex, Field};

use crate::ops::{Op, TriangularSolve};
use elimination::{cholesky, eliminate, solve_triangular};
use jacobi::{eigenvectors, singular_values};
use reflections::orthogonal_factor;

/// A task for each matrix of a batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Problem {
    /// `a x = b`: `a` is n x n, `b` is n x k.
    Solve([usize; 2]),
    /// The same, `a` a triangle.
    Triangle([usize; 2], Triangle),
    /// The Cholesky factor of an n x n matrix.
    Cholesky(usize),
    /// `q` and `r` of an m x n matrix.
    Qr([usize; 2]),
    /// `u`, `s` and `vh` of an m x n matrix.
    Svd([usize; 2]),
    /// Eigenvalues and eigenvectors of an n x n matrix.
    Eigh(usize),
    /// The determinant of an n x n matrix.
    Det(usize),
    /// Its sign and the logarithm of its magnitude.
    LogDet(usize),
}

/// How a triangular matrix is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Triangle {
    /// Its lower part, or its upper one?
    pub lower: bool,
    /// Its conjugate transpose in its place?
    pub adjoint: bool,
    /// Ones on its diagonal, whatever stands there?
    pub unit_diagonal: bool,
}

/// A matrix with which a problem has no answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Flaw {
    /// No pivot in this column.
    Singular(usize),
    /// The leading minor that ends here is not positive.
    NotPositive(usize),
}

impl Flaw {
    /// The fault of matrix number `index` of operand `a`.
    pub fn fault(self, index: usize) -> String {
        match self {
            Flaw::Singular(column) => {
                format!("matrix {index} of a is singular: column {column} has no pivot")
            }
            Flaw::NotPositive(row) => {
                format!("matrix {index} of a is not positive definite: its leading minor {} is not", row + 1)
            }
        }
    }
}

/// Elements of one matrix of each operand and result, and of the scratch for them; absent ones have none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sizes {
    /// Of operands.
    pub operands: [usize; 2],
    /// Of results.
    pub results: [usize; 3],
    /// Of scratch.
    pub scratch: usize,
}

impl Sizes {
    /// All together.
    pub fn total(&self) -> usize {
        self.operands.iter().chain(&self.results).sum::<usize>() + self.scratch
    }
}

impl Problem {
    /// The problem of `op` whose operands have these extents; `None` for other ops.
    pub fn of(op: &Op, operands: &[&[usize]]) -> Option<Problem> {
        let a = operands.first()?;
        let [.., rows, columns] = a[..] else { return None };
        let right = |b: &[usize]| if b.len() < a.len() { 1 } else { b[b.len() - 1] };
        Some(match op {
            Op::DenseSolve(_) => Problem::Solve([rows, right(operands.get(1)?)]),
            Op::TriangularSolve(op) => {
                let &TriangularSolve { lower, adjoint, unit_diagonal } = op;
                Problem::Triangle([rows, right(operands.get(1)?)], Triangle { lower, adjoint, unit_diagonal })
            }
            Op::Cholesky(_) => Problem::Cholesky(rows),
            Op::Qr(_) => Problem::Qr([rows, columns]),
            Op::Svd(_) => Problem::Svd([rows, columns]),
            Op::Eigh(_) => Problem::Eigh(rows),
            Op::Det(_) => Problem::Det(rows),
            Op::LogDet(_) => Problem::LogDet(rows),
            _ => return None,
        })
    }

    /// What it needs per matrix.
    pub fn sizes(&self) -> Sizes {
        let (operands, results, scratch) = match *self {
            Problem::Solve([n, k]) | Problem::Triangle([n, k], _) => ([n * n, n * k], [n * k, 0, 0], 0),
            Problem::Cholesky(n) => ([n * n, 0], [n * n, 0, 0], 0),
            Problem::Qr([m, n]) => ([m * n, 0], [m * m.min(n), m.min(n) * n, 0], 0),
            Problem::Svd([m, n]) => {
                let k = m.min(n);
                ([m * n, 0], [m * k, k, k * n], k * (m.max(n) + k))
            }
            Problem::Eigh(n) => ([n * n, 0], [n, n * n, 0], 0),
            Problem::Det(n) => ([n * n, 0], [1, 0, 0], 0),
            Problem::LogDet(n) => ([n * n, 0], [1, 1, 0], 0),
        };
        Sizes { operands, results, scratch }
    }

    /// Solves it for one matrix. Operands are used up; slices have the lengths of [`Problem::sizes`].
    ///
    /// # Errors
    /// A matrix without an answer.
    pub fn run<F: Field>(
        &self,
        [a, b]: [&mut [F]; 2],
        [first, second, third]: [&mut [F]; 3],
        scratch: &mut [F],
    ) -> Result<(), Flaw> {
        match *self {
            Problem::Solve([n, k]) => {
                let flaw = eliminate(n, a, k, b).singular;
                if let Some(column) = flaw {
                    return Err(Flaw::Singular(column));
                }
                let upper = Triangle { lower: false, adjoint: false, unit_diagonal: false };
                solve_triangular(n, a, k, b, upper)?;
                first.copy_from_slice(b);
            }
            Problem::Triangle([n, k], triangle) => {
                solve_triangular(n, a, k, b, triangle)?;
                first.copy_from_slice(b);
            }
            Problem::Cholesky(n) => {
                cholesky(n, a)?;
                first.copy_from_slice(a);
            }
            Problem::Qr(extents) => orthogonal_factor(extents, a, first, second),
            Problem::Svd(extents) => singular_values(extents, a, [first, second, third], scratch),
            Problem::Eigh(n) => eigenvectors(n, a, first, second),
            Problem::Det(n) | Problem::LogDet(n) => {
                let odd = eliminate(n, a, 0, &mut []).odd;
                let diagonal = (0..n).map(|i| a[i * n + i]);
                let sign = F::of(if odd { -1.0 } else { 1.0 });
                if matches!(self, Problem::Det(_)) {
                    first[0] = diagonal.fold(sign, |product, x| product * x);
                } else {
                    second[0] = F::of(diagonal.clone().map(|x| x.magnitude().ln()).sum());
                    first[0] = diagonal.fold(sign, |product, x| product * x.phase());
                }
            }
        }
        Ok(())
    }
}
