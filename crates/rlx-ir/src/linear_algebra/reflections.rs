//! The orthogonal factor of a matrix by Householder's reflections.

use super::Field;

/// `a = q r` for the m x n `a`, which is used up; `q` is m x k and `r` k x n, k the smaller extent.
pub(super) fn orthogonal_factor<F: Field>([m, n]: [usize; 2], a: &mut [F], q: &mut [F], r: &mut [F]) {
    let k = m.min(n);
    let zero = F::of(0.0);
    r.fill(zero);
    for step in 0..k {
        let norm = (step..m).map(|row| a[row * n + step].square()).sum::<f64>().sqrt();
        let corner = a[step * n + step];
        let phase = if corner == zero { F::of(1.0) } else { corner.phase() };
        // The column becomes `-phase norm` in its first place; its reflection takes the column's place.
        r[step * n + step] = -phase * F::of(norm);
        a[step * n + step] = corner + phase * F::of(norm);
        let squares = (step..m).map(|row| a[row * n + step].square()).sum();
        for column in step + 1..n {
            reflect(m, step, squares, |row| row * n + step, |row| row * n + column, a);
        }
        for column in step + 1..n {
            r[step * n + column] = a[step * n + column];
        }
    }
    q.fill(zero);
    (0..k).for_each(|at| q[at * k + at] = F::of(1.0));
    for step in (0..k).rev() {
        let vector = |row: usize| a[row * n + step];
        let squares: f64 = (step..m).map(|row| vector(row).square()).sum();
        if squares == 0.0 {
            continue;
        }
        for column in step..k {
            let dot = (step..m).fold(zero, |sum, row| sum + vector(row).conj() * q[row * k + column]);
            let factor = dot * F::of(2.0 / squares);
            for row in step..m {
                q[row * k + column] = q[row * k + column] - factor * vector(row);
            }
        }
    }
    for step in 0..k {
        let phase = r[step * n + step].phase();
        if phase == zero || phase == F::of(1.0) {
            continue;
        }
        (step..n).for_each(|column| r[step * n + column] = phase.conj() * r[step * n + column]);
        (0..m).for_each(|row| q[row * k + step] = q[row * k + step] * phase);
        r[step * n + step] = F::of(r[step * n + step].re());
    }
}

/// Reflects one column of `a` at the vector of rows `step..m`, the sum of whose squares is given.
fn reflect<F: Field>(
    m: usize,
    step: usize,
    squares: f64,
    vector: impl Fn(usize) -> usize,
    column: impl Fn(usize) -> usize,
    a: &mut [F],
) {
    if squares == 0.0 {
        return;
    }
    let dot = (step..m).fold(F::of(0.0), |sum, row| sum + a[vector(row)].conj() * a[column(row)]);
    let factor = dot * F::of(2.0 / squares);
    for row in step..m {
        a[column(row)] = a[column(row)] - factor * a[vector(row)];
    }
}
