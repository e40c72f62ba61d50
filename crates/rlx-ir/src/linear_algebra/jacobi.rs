//! Eigenvectors of Hermitian matrices and singular values, by Jacobi's rotations.

use super::Field;

/// Sweeps after which what is left is taken as it is; a dozen suffice for any matrix of numbers.
const MOST_SWEEPS: usize = 60;

/// A rotation of two vectors: cosine, and sine with the phase between them.
struct Rotation<F> {
    cos: f64,
    sin: f64,
    phase: F,
}

impl<F: Field> Rotation<F> {
    /// The rotation that makes the Hermitian `[[first, between], [.., second]]` diagonal.
    fn of(first: f64, second: f64, between: F) -> Rotation<F> {
        let theta = (second - first) / (2.0 * between.magnitude());
        let tan = theta.signum() / (theta.abs() + theta.hypot(1.0));
        let cos = 1.0 / tan.hypot(1.0);
        Rotation { cos, sin: tan * cos, phase: between.phase().conj() }
    }

    /// The columns `x` and `y` after it.
    fn turn(&self, x: F, y: F) -> (F, F) {
        let (cos, sin, y) = (F::of(self.cos), F::of(self.sin), self.phase * y);
        (cos * x - sin * y, sin * x + cos * y)
    }
}

/// Eigenvalues `w` in ascending order and eigenvectors, the columns of `v`, of the Hermitian matrix whose lower
/// triangle `a` holds.
pub(super) fn eigenvectors<F: Field>(n: usize, a: &mut [F], w: &mut [F], v: &mut [F]) {
    for row in 0..n {
        for column in row..n {
            a[row * n + column] = a[column * n + row].conj();
        }
        a[row * n + row] = F::of(a[row * n + row].re());
    }
    v.fill(F::of(0.0));
    (0..n).for_each(|at| v[at * n + at] = F::of(1.0));
    let norm = a.iter().map(|x| x.square()).sum::<f64>().sqrt();
    for _ in 0..MOST_SWEEPS {
        let mut turned = false;
        for p in 0..n {
            for q in p + 1..n {
                let between = a[p * n + q];
                if between.magnitude() <= 1e-18 * norm {
                    continue;
                }
                turned = true;
                let rotation = Rotation::of(a[p * n + p].re(), a[q * n + q].re(), between);
                for row in 0..n {
                    for data in [&mut *a, &mut *v] {
                        let turned = rotation.turn(data[row * n + p], data[row * n + q]);
                        (data[row * n + p], data[row * n + q]) = turned;
                    }
                }
                for column in 0..n {
                    // Rows turn as the conjugates of columns do.
                    let (x, y) = (a[p * n + column].conj(), a[q * n + column].conj());
                    let (x, y) = rotation.turn(x, y);
                    (a[p * n + column], a[q * n + column]) = (x.conj(), y.conj());
                }
                (a[p * n + q], a[q * n + p]) = (F::of(0.0), F::of(0.0));
            }
        }
        if !turned {
            break;
        }
    }
    (0..n).for_each(|at| w[at] = F::of(a[at * n + at].re()));
    for at in 0..n {
        let least =
            (at + 1..n).fold(at, |best, other| if w[other].re() < w[best].re() { other } else { best });
        w.swap(at, least);
        (0..n).for_each(|row| v.swap(row * n + at, row * n + least));
    }
    for column in 0..n {
        let turn = leading_phase((0..n).map(|row| v[row * n + column])).conj();
        (0..n).for_each(|row| v[row * n + column] = v[row * n + column] * turn);
    }
}

/// The phase of the first of the largest elements, up to what rounding may change; 1 for zeros.
fn leading_phase<F: Field>(vector: impl Iterator<Item = F> + Clone) -> F {
    let largest = vector.clone().fold(0.0, |largest: f64, x| largest.max(x.magnitude()));
    let mut leading = vector.filter(|x| x.magnitude() > 0.0 && x.magnitude() >= largest * (1.0 - 1e-6));
    leading.next().map_or(F::of(1.0), F::phase)
}

fn dot<F: Field>(x: &[F], y: &[F]) -> F {
    x.iter().zip(y).fold(F::of(0.0), |sum, (&x, &y)| sum + x.conj() * y)
}

fn squares<F: Field>(x: &[F]) -> f64 {
    x.iter().map(|x| x.square()).sum()
}

/// `a = u diag(s) vh` for the m x n `a`; `s` descends. Scratch holds k vectors of either length.
pub(super) fn singular_values<F: Field>(
    [m, n]: [usize; 2],
    a: &[F],
    [u, s, vh]: [&mut [F]; 3],
    scratch: &mut [F],
) {
    let (k, long, tall) = (m.min(n), m.max(n), m >= n);
    let (left, right) = scratch.split_at_mut(k * long);
    let largest = a.iter().fold(0.0, |largest: f64, x| largest.max(x.magnitude()));
    let scale = if largest > 0.0 && largest.is_finite() { largest } else { 1.0 };
    // The rows of `left` are the columns of the taller of `a` and its adjoint; they are made orthogonal, and
    // what is done to them is done to the rows of `right`.
    for j in 0..k {
        for i in 0..long {
            let x = if tall { a[i * n + j] } else { a[j * n + i].conj() };
            left[j * long + i] = x * F::of(1.0 / scale);
        }
    }
    right.fill(F::of(0.0));
    (0..k).for_each(|at| right[at * k + at] = F::of(1.0));
    make_orthogonal(k, long, left, right);
    for j in 0..k {
        s[j] = F::of(squares(&left[j * long..][..long]).sqrt());
    }
    for at in 0..k {
        let most =
            (at + 1..k).fold(at, |best, other| if s[other].re() > s[best].re() { other } else { best });
        s.swap(at, most);
        (0..long).for_each(|i| left.swap(at * long + i, most * long + i));
        (0..k).for_each(|i| right.swap(at * k + i, most * k + i));
    }
    for j in 0..k {
        let length = s[j].re();
        let row = &mut left[j * long..][..long];
        if length == 0.0 {
            complete(j, long, left);
        } else {
            row.iter_mut().for_each(|x| *x = *x * F::of(1.0 / length));
        }
        s[j] = F::of(length * scale);
        let (left, right) = (&mut left[j * long..][..long], &mut right[j * k..][..k]);
        let turn = leading_phase(if tall { left.iter() } else { right.iter() }.copied()).conj();
        left.iter_mut().chain(right.iter_mut()).for_each(|x| *x = *x * turn);
        let (of_u, of_v) = if tall { (left, right) } else { (right, left) };
        of_u.iter().enumerate().for_each(|(i, &x)| u[i * k + j] = x);
        of_v.iter().enumerate().for_each(|(i, &x)| vh[j * n + i] = x.conj());
    }
}

/// Rotates the rows of `left` until any two are orthogonal, and the rows of `right` alike.
fn make_orthogonal<F: Field>(k: usize, long: usize, left: &mut [F], right: &mut [F]) {
    for _ in 0..MOST_SWEEPS {
        let mut turned = false;
        for p in 0..k {
            for q in p + 1..k {
                let (x, y) = (&left[p * long..][..long], &left[q * long..][..long]);
                let (first, second, between) = (squares(x), squares(y), dot(x, y));
                let limit = 1e-16 * (first * second).sqrt();
                if between.magnitude() <= limit || between.magnitude() < f64::MIN_POSITIVE {
                    continue;
                }
                turned = true;
                let rotation = Rotation::of(first, second, between);
                for (data, width) in [(&mut *left, long), (&mut *right, k)] {
                    for i in 0..width {
                        let pair = rotation.turn(data[p * width + i], data[q * width + i]);
                        (data[p * width + i], data[q * width + i]) = pair;
                    }
                }
            }
        }
        if !turned {
            break;
        }
    }
}

/// Makes row `j` a unit vector orthogonal to the rows before it; those behind it are zero like it.
fn complete<F: Field>(j: usize, long: usize, left: &mut [F]) {
    for axis in 0..long {
        let (before, row) = left.split_at_mut(j * long);
        let row = &mut row[..long];
        row.fill(F::of(0.0));
        row[axis] = F::of(1.0);
        // Twice, against what rounding leaves.
        for _ in 0..2 {
            for other in before.chunks_exact(long) {
                let part = dot(other, row);
                row.iter_mut().zip(other).for_each(|(x, &y)| *x = *x - part * y);
            }
        }
        let length = squares(row).sqrt();
        // Some axis is at least so far from a space of fewer dimensions.
        if length * length * 2.0 * long as f64 >= 1.0 {
            row.iter_mut().for_each(|x| *x = *x * F::of(1.0 / length));
            return;
        }
    }
}
