//! What the ops of dense linear algebra share: their checks, their evaluation, and graph code on matrices.

use crate::linear_algebra::{Complex, Field, Problem};
use crate::ops::prelude::*;

/// Solvers and factorisations: what LAPACK is known for.
pub(crate) const RESIDUAL: Accuracy = Accuracy::Residual { factor: 64.0 };

/// Leading extents, rows and columns of a batch of matrices of a dtype that is solved with.
pub(crate) fn matrices(
    label: &'static str,
    name: &str,
    ty: &TensorType,
) -> Result<(Vec<Dim>, [Dim; 2]), Violation> {
    let legal = matches!(ty.dtype, DType::F32 | DType::F64 | DType::C64 | DType::C128);
    require!(label, legal, "`{name}` must be f32, f64, c64 or c128, found {}", ty.dtype);
    let [lead @ .., rows, columns] = ty.shape.dims() else {
        return Err(Violation { constraint: label, message: format!("`{name}` is {ty}, expected matrices") });
    };
    Ok((lead.to_vec(), [rows.clone(), columns.clone()]))
}

/// The same of square matrices.
pub(crate) fn square(label: &'static str, ty: &TensorType) -> Result<(Vec<Dim>, Dim), Violation> {
    let (lead, [rows, columns]) = matrices(label, "a", ty)?;
    require!(label, rows == columns, "`a` is {ty}, expected square matrices");
    Ok((lead, rows))
}

/// The type of `dims` behind `lead`.
pub(crate) fn batch_of(dtype: DType, lead: &[Dim], dims: &[&Dim]) -> TensorType {
    let dims: Vec<Dim> = lead.iter().chain(dims.iter().copied()).cloned().collect();
    TensorType::new(dtype, Shape::from(dims))
}

/// Evaluates an op that is one [`Problem`] per matrix.
pub(crate) fn eval_matrices(op: impl Into<Op>, operands: &[&Literal]) -> Evaluated {
    let op = op.into();
    let types: Vec<TensorType> = operands.iter().map(|literal| literal.ty()).collect();
    let types = op.infer(&types.iter().collect::<Vec<_>>());
    let types = types.map_err(|violation| Fault(violation.to_string()))?;
    let dims: Vec<&[usize]> = operands.iter().map(|literal| literal.dims()).collect();
    let problem = Problem::of(&op, &dims).ok_or_else(|| Fault("is no problem of matrices".into()))?;
    match operands[0].dtype().is_complex() {
        true => eval_problem::<Complex>(problem, operands, &types),
        false => eval_problem::<f64>(problem, operands, &types),
    }
}

fn eval_problem<F: Field>(problem: Problem, operands: &[&Literal], types: &[TensorType]) -> Evaluated {
    let sizes = problem.sizes();
    let [.., rows, columns] = *operands[0].dims() else { return Err(Fault("has no matrices".into())) };
    let lead = &operands[0].dims()[..operands[0].dims().len() - 2];
    let mut columns_of: [Vec<Number>; 3] = Default::default();
    debug_assert_eq!(sizes.operands[0], rows * columns);
    for index in 0..lead.iter().product() {
        let read = |which: usize| -> Vec<F> {
            let size = sizes.operands[which];
            let elements = index * size..(index + 1) * size;
            operands
                .get(which)
                .map_or(vec![], |literal| elements.map(|at| F::from_number(literal.number(at))).collect())
        };
        let (mut a, mut b) = (read(0), read(1));
        let mut results = sizes.results.map(|size| vec![F::of(0.0); size]);
        let [first, second, third] = &mut results;
        let mut scratch = vec![F::of(0.0); sizes.scratch];
        let solved = problem.run([&mut a, &mut b], [first, second, third], &mut scratch);
        solved.map_err(|flaw| Fault(flaw.fault(index)))?;
        for (column, result) in columns_of.iter_mut().zip(results) {
            column.extend(result.into_iter().map(F::number));
        }
    }
    let literals = types.iter().zip(columns_of).map(|(ty, numbers)| {
        let dims = ty.shape.as_static().unwrap_or_default();
        Literal::from_numbers(ty.dtype, &dims, numbers.into_iter().map(|number| number.cast(ty.dtype)))
    });
    literals.collect::<Result<_, _>>().map_err(|error| Fault(error.to_string()))
}

/// Samples of an op on one batch of matrices: positive definite ones, empty ones, and several dtypes.
pub(crate) fn definite_samples<O: Clone>(op: O) -> Vec<Sample<O>> {
    let sample = |dtype, dims: &[usize]| Sample::new(op.clone(), [TensorType::new(dtype, dims)]).definite(0);
    vec![
        sample(DType::F32, &[4, 4]),
        sample(DType::F64, &[2, 3, 3]),
        sample(DType::F32, &[1, 1]),
        sample(DType::F64, &[0, 0]),
        sample(DType::F32, &[0, 2, 2]),
        sample(DType::C64, &[3, 3]),
        sample(DType::C128, &[2, 2, 2]),
    ]
}

impl Graph {
    /// Matrices with rows and columns exchanged, and complex elements conjugate.
    #[track_caller]
    pub fn adjoint(&mut self, x: Value) -> Value {
        let x = self.transpose_last_two(x);
        self.conjugated(x)
    }

    /// The identity matrix of `extent` rows.
    #[track_caller]
    pub fn identity(&mut self, dtype: DType, extent: &Dim) -> Value {
        let shape = Shape::from(vec![extent.clone(); 2]);
        let (rows, columns) =
            (self.iota(DType::I64, shape.clone(), 0usize), self.iota(DType::I64, shape, 1usize));
        let same = self.compare(rows, columns, CompareKind::Eq);
        self.cast_to(same, dtype)
    }
}

/// The derivative by the lower triangle of a Hermitian matrix, where that by all of it is `full`.
pub(crate) fn by_lower_triangle(g: &mut Graph, full: Value) -> Value {
    let mirrored = g.adjoint(full);
    let sum = g.add(full, mirrored);
    halved_lower(g, sum)
}

/// The lower triangle with half of the diagonal.
pub(crate) fn halved_lower(g: &mut Graph, x: Value) -> Value {
    let ty = g.ty(x).clone();
    let rank = ty.rank();
    let lower = g.trilu(x, false, 0, rank - 2, rank - 1);
    let diagonal = g.identity(ty.dtype, &ty.shape[rank - 1]);
    let half = g.scaled(diagonal, -0.5);
    let ones = g.ones_like(half);
    let factor = g.add(half, ones);
    g.mul(lower, factor)
}

/// A real derivative as a part of one by elements of `dtype`, of which a complex one counts twice.
pub(crate) fn beside(g: &mut Graph, dx: Value, dtype: DType) -> Value {
    if !dtype.is_complex() {
        return dx;
    }
    let halved = g.scaled(dx, 0.5);
    g.cast(halved, dtype)
}

/// `i` times the real `x`.
pub(crate) fn imaginary(g: &mut Graph, x: Value) -> Value {
    let zeros = g.zeros_like(x);
    g.complex(zeros, x)
}

/// How much a turn of each column of the complex `x` changes what has the derivatives `dx`: the imaginary parts
/// of the products of the conjugate of the one with the other, [.., 1, columns].
pub(crate) fn turning(g: &mut Graph, x: Value, dx: Value) -> Value {
    let conjugate = g.conjugate(dx);
    let product = g.mul(conjugate, x);
    let imag = g.imag(product);
    let rows = g.ty(x).rank() - 2;
    g.reduce(imag, ReduceKind::Sum, vec![rows], true)
}

/// The derivatives `dx` by complex columns `x`, each of which is turned so that the first of its largest elements is
/// real, which undoes `turning`.
pub(crate) fn unturned(g: &mut Graph, x: Value, dx: Value, turning: Value) -> Value {
    let rows = g.ty(x).rank() - 2;
    let sizes = g.complex_norm_sq(x);
    let largest = g.reduce(sizes, ReduceKind::Max, vec![rows], true);
    let most = g.scaled(largest, 1.0 - 2e-6);
    let is_large = g.compare_ge(sizes, most);
    let counted = g.cast(is_large, DType::I32);
    let counted = g.cumsum(counted, rows, false, false);
    let one = g.scalar(DType::I32, 1.0);
    let is_first = g.compare_eq(counted, one);
    let leads = g.and(is_large, is_first);
    let re = g.real(x);
    let (ones, zeros) = (g.ones_like(re), g.zeros_like(re));
    let divisor = g.where_(leads, re, ones);
    let share = g.div(turning, divisor);
    let share = g.where_(leads, share, zeros);
    let share = imaginary(g, share);
    g.add(dx, share)
}

/// `1 / (x_j - x_i)` at (i, j) for rows `x`, 0 on the diagonal.
pub(crate) fn inverse_gaps(g: &mut Graph, x: Value) -> Value {
    let ty = g.ty(x).clone();
    let diagonal = g.identity(ty.dtype, &ty.shape[ty.rank() - 1]);
    let (to, from) = (g.unsqueeze(x, -2), g.unsqueeze(x, -1));
    let gaps = g.sub(to, from);
    let gaps = g.add(gaps, diagonal);
    let ones = g.ones_like(diagonal);
    let others = g.sub(ones, diagonal);
    g.div(others, gaps)
}

/// Matrices with the rows `x` on their diagonals.
pub(crate) fn on_diagonal(g: &mut Graph, x: Value) -> Value {
    let ty = g.ty(x).clone();
    let diagonal = g.identity(ty.dtype, &ty.shape[ty.rank() - 1]);
    let columns = g.unsqueeze(x, -1);
    g.mul(columns, diagonal)
}

/// The conjugate transpose of the inverse.
pub(crate) fn inverse_adjoint(g: &mut Graph, a: Value) -> Value {
    let ty = g.ty(a).clone();
    let ones = g.identity(ty.dtype, &ty.shape[ty.rank() - 1]);
    let ones = g.expand(ones, ty.shape);
    let across = g.adjoint(a);
    g.dense_solve(across, ones)
}

/// Samples of a factorisation of matrices of any extents.
pub(crate) fn factor_samples<O: Clone>(op: O) -> Vec<Sample<O>> {
    let cases: [(DType, &[usize]); 8] = [
        (DType::F32, &[4, 3]),
        (DType::F64, &[2, 3, 3]),
        (DType::F64, &[2, 4]),
        (DType::C64, &[3, 2]),
        (DType::C128, &[2, 3]),
        (DType::F32, &[0, 2]),
        (DType::F64, &[2, 3, 0]),
        (DType::F64, &[1, 1]),
    ];
    cases.map(|(dtype, dims)| Sample::new(op.clone(), [TensorType::new(dtype, dims)])).into()
}
