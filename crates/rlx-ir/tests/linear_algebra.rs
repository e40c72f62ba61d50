//! What solvers and factorisations give reproduces their operands, also where matrices are badly conditioned,
//! deficient or empty; what has no answer faults by name.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

use rlx_ir::interpret::evaluate_op;
use rlx_ir::linear_algebra::{Complex, Field};
use rlx_ir::ops::{Cholesky, DenseSolve, Eigh, Op, Qr, Svd, TriangularSolve};
use rlx_ir::sample::Generator;
use rlx_ir::{DType, Literal};

type Matrix = (usize, usize, Vec<Complex>);

fn literal((rows, columns, numbers): &Matrix) -> Literal {
    Literal::from_numbers(DType::C128, &[*rows, *columns], numbers.iter().map(|x| x.number())).unwrap()
}

fn run(op: impl Into<Op>, operands: &[&Matrix]) -> Vec<Matrix> {
    let literals: Vec<Literal> = operands.iter().map(|matrix| literal(matrix)).collect();
    let results = evaluate_op(&op.into(), &literals.iter().collect::<Vec<_>>()).unwrap();
    let of = |literal: &Literal| {
        let rows = literal.dims()[0];
        let columns = literal.dims().get(1).copied().unwrap_or(1);
        (rows, columns, literal.numbers().into_iter().map(Complex::from_number).collect())
    };
    results.iter().map(of).collect()
}

fn times(a: &Matrix, b: &Matrix) -> Matrix {
    let element = |at: usize| {
        let (row, column) = (at / b.1, at % b.1);
        (0..a.1).fold(Complex::of(0.0), |sum, k| sum + a.2[row * a.1 + k] * b.2[k * b.1 + column])
    };
    (a.0, b.1, (0..a.0 * b.1).map(element).collect())
}

fn adjoint(a: &Matrix) -> Matrix {
    (a.1, a.0, (0..a.0 * a.1).map(|at| a.2[at % a.0 * a.1 + at / a.0].conj()).collect())
}

fn diagonal(values: &Matrix) -> Matrix {
    let n = values.0;
    let element = |at: usize| if at / n == at % n { values.2[at / n] } else { Complex::of(0.0) };
    (n, n, (0..n * n).map(element).collect())
}

fn identity(n: usize) -> Matrix {
    diagonal(&(n, 1, vec![Complex::of(1.0); n]))
}

fn size(a: &Matrix) -> f64 {
    a.2.iter().map(|x| x.square()).sum::<f64>().sqrt()
}

#[track_caller]
fn near(found: &Matrix, expected: &Matrix) {
    assert_eq!((found.0, found.1), (expected.0, expected.1));
    let difference = found.2.iter().zip(&expected.2).map(|(&a, &b)| (a - b).square()).sum::<f64>().sqrt();
    assert!(
        difference <= 1e-13 * size(expected).max(1e-300),
        "off by {difference:e} of {:e}",
        size(expected)
    );
}

/// Random matrices: some of less than full rank, some with columns of very different size, some of zeros.
fn matrix(generator: &mut Generator, rows: usize, columns: usize) -> Matrix {
    let kind = generator.below(4);
    let scale = |column: usize| if kind == 1 { 10f64.powi(-4 * (column % 3) as i32) } else { 1.0 };
    let numbers = (0..rows * columns).map(|at| {
        let (row, column) = (at / columns, at % columns);
        let (re, im) = (generator.unit() - 0.5, generator.unit() - 0.5);
        match kind {
            2 if column > 0 => Complex::of(row as f64 * column as f64),
            3 if row % 2 == 1 => Complex::of(0.0),
            _ => Complex { re: re * scale(column), im: im * scale(column) },
        }
    });
    let numbers = numbers.collect();
    (rows, columns, numbers)
}

#[test]
fn factors_multiply_to_their_operand() {
    let mut generator = Generator::new(3);
    for round in 0..200 {
        let (m, n) = (generator.below(9), generator.below(9));
        let a = matrix(&mut generator, m, n);
        let [q, r] = &run(Qr {}, &[&a])[..] else { panic!("{round}") };
        near(&times(q, r), &a);
        near(&times(&adjoint(q), q), &identity(q.1));
        let [u, s, vh] = &run(Svd {}, &[&a])[..] else { panic!("{round}") };
        near(&times(&times(u, &diagonal(s)), vh), &a);
        near(&times(&adjoint(u), u), &identity(u.1));
        near(&times(vh, &adjoint(vh)), &identity(vh.0));
        assert!(s.2.windows(2).all(|pair| pair[0].re >= pair[1].re) && s.2.iter().all(|s| s.re >= 0.0));
        let hermitian = times(&adjoint(&a), &a);
        let [w, v] = &run(Eigh {}, &[&hermitian])[..] else { panic!("{round}") };
        near(&times(&times(v, &diagonal(w)), &adjoint(v)), &hermitian);
        near(&times(&adjoint(v), v), &identity(n));
        let mut definite = hermitian.clone();
        let least = size(&hermitian).max(1.0) * 1e-3;
        (0..n).for_each(|at| definite.2[at * n + at] = definite.2[at * n + at] + Complex::of(least));
        let l = &run(Cholesky {}, &[&definite])[0];
        near(&times(l, &adjoint(l)), &definite);
        let b = matrix(&mut generator, n, 3);
        let x = &run(DenseSolve {}, &[&definite, &b])[0];
        let residual = times(&definite, x);
        let difference = residual.2.iter().zip(&b.2).map(|(&a, &b)| (a - b).square()).sum::<f64>().sqrt();
        assert!(difference <= 1e-13 * size(&definite) * size(x) + 1e-300, "{round}: {difference:e}");
    }
}

#[test]
fn matrices_without_an_answer_fault_by_name() {
    let batch = |numbers: &[f64]| Literal::floats(DType::F64, &[2, 2, 2], numbers).unwrap();
    let right = Literal::floats(DType::F64, &[2, 2, 1], &[1.0; 4]).unwrap();
    let singular = batch(&[1.0, 0.0, 0.0, 1.0, 1.0, 2.0, 2.0, 4.0]);
    let fault = |op: Op, operands: &[&Literal]| evaluate_op(&op, operands).unwrap_err().0;
    assert_eq!(
        fault(DenseSolve {}.into(), &[&singular, &right]),
        "matrix 1 of a is singular: column 1 has no pivot"
    );
    let triangle = batch(&[1.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 1.0]);
    let lower = TriangularSolve { lower: true, adjoint: false, unit_diagonal: false };
    assert_eq!(fault(lower.into(), &[&triangle, &right]), "matrix 0 of a is singular: column 1 has no pivot");
    assert_eq!(
        fault(Cholesky {}.into(), &[&batch(&[1.0, 0.0, 0.0, 1.0, 1.0, 2.0, 2.0, 1.0])]),
        "matrix 1 of a is not positive definite: its leading minor 2 is not"
    );
}
