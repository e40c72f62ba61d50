"""Golden data of solvers and factorisations. Oracle: NumPy's and SciPy's linalg (LAPACK) in double precision,
signs made those of the op.

python recipes/golden_solvers.py   (numpy 2, scipy 1.17)
"""

import numpy as np
import scipy.linalg
from golden import Golden

rng = np.random.default_rng(29)
golden = Golden()


def matrix(dtype, *shape):
    x = rng.normal(size=shape)
    return x + 1j * rng.normal(size=shape) if np.dtype(dtype).kind == "c" else x


def adjoint(x):
    return x.conj().swapaxes(-1, -2)


def phase(vectors):
    """Per column of each matrix the conjugate phase of the first of the largest elements."""
    sizes = np.abs(vectors)
    first = np.argmax(sizes >= sizes.max(-2, keepdims=True) * (1 - 1e-6), axis=-2)
    leading = np.take_along_axis(vectors, first[..., None, :], -2)
    return (leading / np.abs(leading)).conj()


def diagonal(r):
    values = np.diagonal(r, axis1=-2, axis2=-1)
    return values / np.abs(values)


for dtype in (np.float64, np.complex128):
    pivoted = matrix(dtype, 4, 4)
    pivoted[0, 0] = 0
    for a, b in ((pivoted, matrix(dtype, 4, 3)), (matrix(dtype, 3, 3), matrix(dtype, 3)),
                 (matrix(dtype, 2, 3, 3), matrix(dtype, 2, 3, 2))):
        golden.case("dense_solve", [a, b], np.linalg.solve(a, b))
    for lower in (False, True):
        for adj in (False, True):
            for unit in (False, True):
                a, b = matrix(dtype, 3, 3), matrix(dtype, 3, 2)
                x = scipy.linalg.solve_triangular(a, b, trans=2 if adj else 0, lower=lower, unit_diagonal=unit)
                golden.case("triangular_solve", [a, b], x, lower=lower, adjoint=adj, unit_diagonal=unit)
    for a in (matrix(dtype, 4, 4), matrix(dtype, 2, 3, 3)):
        definite = a @ adjoint(a) + np.eye(a.shape[-1])
        factor = np.linalg.cholesky(definite)
        golden.case("cholesky", [np.tril(definite)], factor)
        hermitian = a + adjoint(a)
        w, v = np.linalg.eigh(hermitian)
        golden.case("eigh", [np.tril(hermitian)], [w, v * phase(v)])
        golden.case("det", [a], np.linalg.det(a))
        sign, log_abs = np.linalg.slogdet(a)
        golden.case("log_det", [a], [sign, log_abs])
    singular = matrix(dtype, 3, 3)
    singular[1] = 0
    golden.case("det", [singular], np.linalg.det(singular))
    golden.case("log_det", [singular], list(np.linalg.slogdet(singular)))
    for shape in ((4, 3), (3, 5), (2, 3, 3)):
        a = matrix(dtype, *shape)
        q, r = np.linalg.qr(a)
        turn = diagonal(r)
        golden.case("qr", [a], [q * turn[..., None, :], r * turn.conj()[..., :, None]])
        u, s, vh = np.linalg.svd(a, full_matrices=False)
        turn = phase(u)
        golden.case("svd", [a], [u * turn, s, vh * turn.conj().swapaxes(-1, -2)])
golden.write("crates/rlx-ir/tests/golden/solvers.rlx")
