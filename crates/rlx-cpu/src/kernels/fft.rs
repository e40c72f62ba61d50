//! Discrete Fourier transforms of complex rows of any length.
//!
//! A length whose prime factors are at most 13 goes through self-sorting passes, one per
//! factor, between the row and scratch; any other is a convolution with a chirp of a length of that
//! kind. A plan holds the roots of unity, each rounded once from `f64`. [`Square`] splits a long row
//! into short ones, which threads share. All transforms are forward and not divided; the inverse is
//! that of the numbers with real and imaginary parts exchanged, exchanged again.

use super::copy::{Axis, copy_strided};
use super::{Context, KernelError, Plain};
use crate::simd::{Kernel, Simd};
use std::f64::consts::TAU;
use std::ops::{Add, Mul, Sub};

/// Largest factor that has passes of its own.
const MOST_RADIX: usize = 13;

/// `f32` or `f64`.
pub trait FftElement:
    Plain + bytemuck::Pod + Add<Output = Self> + Sub<Output = Self> + Mul<Output = Self>
{
    /// The nearest number.
    fn of(value: f64) -> Self;
}

impl FftElement for f32 {
    fn of(value: f64) -> f32 {
        value as f32
    }
}

impl FftElement for f64 {
    fn of(value: f64) -> f64 {
        value
    }
}

/// A complex number: real and imaginary part.
pub type Pair<T> = [T; 2];

#[inline(always)]
fn plus<T: FftElement>(a: Pair<T>, b: Pair<T>) -> Pair<T> {
    [a[0] + b[0], a[1] + b[1]]
}

#[inline(always)]
fn minus<T: FftElement>(a: Pair<T>, b: Pair<T>) -> Pair<T> {
    [a[0] - b[0], a[1] - b[1]]
}

#[inline(always)]
fn times<T: FftElement>(a: Pair<T>, b: Pair<T>) -> Pair<T> {
    [a[0] * b[0] - a[1] * b[1], a[0] * b[1] + a[1] * b[0]]
}

/// `e^(-2 pi i step / count)`.
fn root<T: FftElement>(step: usize, count: usize) -> Pair<T> {
    let (sin, cos) = (TAU * (step % count) as f64 / count as f64).sin_cos();
    [T::of(cos), T::of(-sin)]
}

/// A transform of rows of one length.
pub struct Plan<T> {
    length: usize,
    way: Way<T>,
}

enum Way<T> {
    Passes(Vec<Pass<T>>),
    Chirp { inner: Box<Plan<T>>, chirp: Vec<Pair<T>>, spectrum: Vec<Pair<T>> },
}

/// One factor: `below` butterflies of `radix` elements, each on `stride` neighbours.
struct Pass<T> {
    radix: usize,
    below: usize,
    stride: usize,
    /// Per butterfly the factors of its results but the first.
    turns: Vec<Pair<T>>,
    /// Powers of the root of unity of order `radix`.
    roots: Vec<Pair<T>>,
}

/// The factors of `length` up to [`MOST_RADIX`], fours first, and what is left.
fn factors(length: usize) -> (Vec<usize>, usize) {
    let (mut rest, mut found) = (length.max(1), vec![]);
    for radix in [4, 2, 3, 5, 7, 11, MOST_RADIX] {
        while rest.is_multiple_of(radix) {
            found.push(radix);
            rest /= radix;
        }
    }
    (found, rest)
}

impl<T: FftElement> Plan<T> {
    /// The transform of rows of `length`.
    pub fn new(length: usize) -> Plan<T> {
        let (radices, rest) = factors(length);
        if rest > 1 {
            return Plan { length, way: Plan::chirp(length) };
        }
        let (mut left, mut stride, mut passes) = (length, 1, vec![]);
        for radix in radices {
            let below = left / radix;
            let turns = (0..below).flat_map(|j| (1..radix).map(move |k| root(j * k, left))).collect();
            let roots = (0..radix).map(|k| root(k, radix)).collect();
            passes.push(Pass { radix, below, stride, turns, roots });
            (left, stride) = (below, stride * radix);
        }
        Plan { length, way: Way::Passes(passes) }
    }

    /// `j k = (j^2 + k^2 - (k - j)^2) / 2`, so the sums over `j` are a convolution.
    fn chirp(length: usize) -> Way<T> {
        let whole = (2 * length - 1).next_power_of_two();
        let turn = |j: usize| ((j as u128 * j as u128) % (2 * length as u128)) as usize;
        let chirp: Vec<Pair<f64>> = (0..length).map(|j| root(turn(j), 2 * length)).collect();
        let mut spectrum = vec![[0.0; 2]; whole];
        for (j, &[re, im]) in chirp.iter().enumerate() {
            // Divided here by what the transform there and back multiplies by.
            let share = [re / whole as f64, -im / whole as f64];
            spectrum[j] = share;
            spectrum[(whole - j) % whole] = share;
        }
        let exact = Plan::<f64>::new(whole);
        let mut scratch = vec![[0.0; 2]; exact.scratch()];
        exact.run(None, &mut spectrum, &mut scratch);
        let narrow = |pairs: Vec<Pair<f64>>| pairs.into_iter().map(|pair| pair.map(T::of)).collect();
        Way::Chirp { inner: Box::new(Plan::new(whole)), chirp: narrow(chirp), spectrum: narrow(spectrum) }
    }

    /// Elements of scratch that a row of `length` needs, known without tables.
    pub fn scratch_of(length: usize) -> usize {
        match factors(length).1 {
            1 => length,
            // The row of the convolution and what its transform needs.
            _ => (2 * length - 1).next_power_of_two().saturating_mul(2),
        }
    }

    fn scratch(&self) -> usize {
        Plan::<T>::scratch_of(self.length)
    }

    /// Transforms `row`, of the plan's length, in place; without a context, on the plain instruction set.
    pub fn run(&self, context: Option<Context<'_>>, row: &mut [Pair<T>], scratch: &mut [Pair<T>]) {
        match &self.way {
            Way::Passes(passes) => {
                let (mut from, mut to) = (&mut row[..self.length], &mut scratch[..self.length]);
                for pass in passes {
                    let kernel = Butterflies { pass, from: &*from, to: &mut *to };
                    match context {
                        Some(context) => context.dispatch(kernel),
                        None => kernel.all(),
                    }
                    std::mem::swap(&mut from, &mut to);
                }
                if passes.len() % 2 == 1 {
                    to.copy_from_slice(from);
                }
            }
            Way::Chirp { inner, chirp, spectrum } => {
                let (line, scratch) = scratch.split_at_mut(inner.length);
                line.fill([T::of(0.0); 2]);
                for ((to, &x), &turn) in line.iter_mut().zip(&*row).zip(chirp) {
                    *to = times(x, turn);
                }
                inner.run(context, line, scratch);
                for (x, &factor) in line.iter_mut().zip(spectrum) {
                    let [re, im] = times(*x, factor);
                    *x = [im, re];
                }
                inner.run(context, line, scratch);
                for ((to, &[im, re]), &turn) in row.iter_mut().zip(&*line).zip(chirp) {
                    *to = times([re, im], turn);
                }
            }
        }
    }
}

/// One pass over a row.
struct Butterflies<'a, T> {
    pass: &'a Pass<T>,
    from: &'a [Pair<T>],
    to: &'a mut [Pair<T>],
}

impl<T: FftElement> Kernel for Butterflies<'_, T> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, _: S) {
        self.all();
    }
}

impl<T: FftElement> Butterflies<'_, T> {
    #[inline(always)]
    fn all(self) {
        let Butterflies { pass, from, to } = self;
        let &Pass { radix, below, stride, .. } = pass;
        for (j, to) in to.chunks_exact_mut(stride * radix).enumerate() {
            let at = |k: usize| &from[stride * (j + k * below)..][..stride];
            let turns = &pass.turns[j * (radix - 1)..][..radix - 1];
            match radix {
                4 => four([at(0), at(1), at(2), at(3)], to, turns),
                2 => two([at(0), at(1)], to, turns[0]),
                _ => {
                    for q in 0..stride {
                        for k in 0..radix {
                            let mut sum = at(0)[q];
                            for t in 1..radix {
                                sum = plus(sum, times(at(t)[q], pass.roots[t * k % radix]));
                            }
                            to[k * stride + q] = if k == 0 { sum } else { times(sum, turns[k - 1]) };
                        }
                    }
                }
            }
        }
    }
}

#[inline(always)]
fn two<T: FftElement>([a, b]: [&[Pair<T>]; 2], to: &mut [Pair<T>], turn: Pair<T>) {
    let (first, second) = to.split_at_mut(a.len());
    for (((first, second), &a), &b) in first.iter_mut().zip(second).zip(a).zip(b) {
        *first = plus(a, b);
        *second = times(minus(a, b), turn);
    }
}

#[inline(always)]
fn four<T: FftElement>([a, b, c, d]: [&[Pair<T>]; 4], to: &mut [Pair<T>], turns: &[Pair<T>]) {
    let stride = a.len();
    let (low, high) = to.split_at_mut(2 * stride);
    let ((y0, y1), (y2, y3)) = (low.split_at_mut(stride), high.split_at_mut(stride));
    let (b, c, d) = (&b[..stride], &c[..stride], &d[..stride]);
    let (y1, y2, y3) = (&mut y1[..stride], &mut y2[..stride], &mut y3[..stride]);
    let [t1, t2, t3] = [turns[0], turns[1], turns[2]];
    for q in 0..stride {
        let (even, odd) = (plus(a[q], c[q]), plus(b[q], d[q]));
        let difference = minus(a[q], c[q]);
        let [re, im] = minus(b[q], d[q]);
        // Times -i.
        let (more, less) =
            ([difference[0] + im, difference[1] - re], [difference[0] - im, difference[1] + re]);
        y0[q] = plus(even, odd);
        y1[q] = times(more, t1);
        y2[q] = times(minus(even, odd), t2);
        y3[q] = times(less, t3);
    }
}

/// What is done to rows besides the transform.
#[derive(Clone, Copy)]
pub struct Around<T> {
    /// Exchange real and imaginary parts before.
    pub before: bool,
    /// Exchange them after.
    pub after: bool,
    /// Multiply by this after.
    pub scale: Option<T>,
}

impl<T: FftElement> Around<T> {
    /// Transforms one row.
    pub fn run(self, context: Context<'_>, plan: &Plan<T>, row: &mut [Pair<T>], scratch: &mut [Pair<T>]) {
        if self.before {
            row.iter_mut().for_each(|pair| pair.swap(0, 1));
        }
        plan.run(Some(context), row, scratch);
        if self.after {
            row.iter_mut().for_each(|pair| pair.swap(0, 1));
        }
        if let Some(scale) = self.scale {
            row.iter_mut().for_each(|pair| *pair = pair.map(|x| x * scale));
        }
    }
}

/// A long row as a matrix: transforms of its columns, turns, transforms of its rows.
pub struct Square<T> {
    columns: Plan<T>,
    rows: Plan<T>,
    /// Powers of the root of unity: the first [`FINE`], and every [`FINE`]th.
    turns: [Vec<Pair<T>>; 2],
}

/// Length from which a row is split.
const LONG: usize = 1 << 14;
/// Turns of the finer table.
const FINE: usize = 1 << 10;
/// Elements that are worth handing to a thread.
const PIECE: usize = 8 << 10;

impl<T: FftElement> Square<T> {
    /// For a long row of `length`, with one of its factors that [`Square::split`] gives.
    pub fn new(length: usize, split: usize) -> Square<T> {
        let fine = (0..FINE).map(|step| root(step, length)).collect();
        let coarse = (0..=length / FINE).map(|step| root(step * FINE, length)).collect();
        Square { columns: Plan::new(split), rows: Plan::new(length / split), turns: [fine, coarse] }
    }

    /// The smaller of two near factors of a long row.
    pub fn split(length: usize) -> Option<usize> {
        if length < LONG || factors(length).1 > 1 {
            return None;
        }
        let root_of = length.isqrt();
        (root_of / 4..=root_of).rev().find(|&count| length.is_multiple_of(count))
    }

    /// Transforms `from` to `to`; `between` has their length, `scratch` a share for each thread.
    ///
    /// # Errors
    /// When lengths disagree.
    pub fn run(
        &self,
        context: Context<'_>,
        around: Around<T>,
        from: &[Pair<T>],
        [to, between]: [&mut [Pair<T>]; 2],
        scratch: &mut [Pair<T>],
    ) -> Result<(), KernelError> {
        let (high, wide) = (self.columns.length, self.rows.length);
        transpose(context, [1, high, wide], from, to)?;
        let inner =
            |around: Around<T>, plan: &Plan<T>, data: &mut [Pair<T>], turned, scratch: &mut [Pair<T>]| {
                let length = plan.length;
                let rows = PIECE.div_ceil(length);
                context.pool().run_pieces_with(data, rows * length, scratch, |piece, data, scratch| {
                    for (row, data) in data.chunks_exact_mut(length).enumerate() {
                        around.run(context, plan, data, scratch);
                        if turned {
                            self.turn(piece * rows + row, data);
                        }
                    }
                });
            };
        inner(Around { after: false, scale: None, ..around }, &self.columns, to, true, scratch);
        transpose(context, [1, wide, high], to, between)?;
        inner(Around { before: false, ..around }, &self.rows, between, false, scratch);
        transpose(context, [1, high, wide], between, to)
    }

    /// Multiplies by the powers of the turn of `row`.
    fn turn(&self, row: usize, data: &mut [Pair<T>]) {
        for (column, pair) in data.iter_mut().enumerate() {
            let step = row * column;
            let turn = times(self.turns[0][step % FINE], self.turns[1][step / FINE]);
            *pair = times(*pair, turn);
        }
    }
}

/// Exchanges the last two of three axes.
///
/// # Errors
/// When lengths disagree.
pub fn transpose<T: FftElement>(
    context: Context<'_>,
    [outer, rows, columns]: [usize; 3],
    from: &[Pair<T>],
    to: &mut [Pair<T>],
) -> Result<(), KernelError> {
    let signed = |count: usize| isize::try_from(count).unwrap_or(isize::MAX);
    let axes = [
        Axis { extent: outer, from: signed(rows * columns), to: rows * columns },
        Axis { extent: columns, from: 1, to: rows },
        Axis { extent: rows, from: signed(columns), to: 1 },
    ];
    let width = size_of::<Pair<T>>();
    copy_strided(context, width, &axes, (bytemuck::cast_slice(from), 0), bytemuck::cast_slice_mut(to))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernels::testing::{Noise, at_every_level};
    use crate::pool::Pool;

    fn sums(x: &[Pair<f64>]) -> Vec<Pair<f64>> {
        let n = x.len();
        let element = |k: usize| (0..n).fold([0.0; 2], |sum, j| plus(sum, times(x[j], root(j * k, n))));
        (0..n).map(element).collect()
    }

    fn check(found: &[Pair<f64>], expected: &[Pair<f64>], what: &str) {
        let scale = expected.iter().flatten().fold(1.0f64, |scale, x| scale.max(x.abs()));
        for (found, expected) in found.iter().flatten().zip(expected.iter().flatten()) {
            assert!((found - expected).abs() <= 1e-12 * scale, "{what}: {found} is not {expected}");
        }
    }

    #[test]
    fn rows_of_every_length_match_their_sums() {
        let pool = Pool::new(2).expect("threads start");
        let mut noise = Noise::new(8);
        at_every_level(&pool, |context| {
            for length in (1..70).chain([121, 127, 128, 169, 240, 509]) {
                let x: Vec<_> = (0..length).map(|_| [(); 2].map(|()| f64::from(noise.unit()))).collect();
                let plan = Plan::new(length);
                let (mut row, mut scratch) = (x.clone(), vec![[0.0; 2]; plan.scratch()]);
                plan.run(Some(context), &mut row, &mut scratch);
                check(&row, &sums(&x), &format!("length {length}"));
            }
        });
    }

    #[test]
    fn long_rows_match_a_plan() {
        let pool = Pool::new(2).expect("threads start");
        let mut noise = Noise::new(9);
        for length in [1 << 14, 3 * 5 * 7 * 256, 1 << 17] {
            let x: Vec<_> = (0..length).map(|_| [(); 2].map(|()| f64::from(noise.unit()))).collect();
            let plan = Plan::new(length);
            let (mut expected, mut between) = (x.clone(), vec![[0.0; 2]; length]);
            plan.run(None, &mut expected, &mut between);
            let split = Square::<f32>::split(length).expect("the length has near factors");
            let square = Square::new(length, split);
            let (mut found, mut scratch) = (x.clone(), vec![[0.0; 2]; 2 * length]);
            let around = Around { before: false, after: false, scale: None };
            let context = Context::new(&pool);
            square.run(context, around, &x, [&mut found, &mut between], &mut scratch).expect("lengths agree");
            check(&found, &expected, &format!("length {length}"));
        }
    }
}
