//! From scores to weights: scale, softcap, masks and the running softmax of one row.

use super::super::rows::{Scale, change, replace_by_exp};
use super::super::{map::UnaryFunction, math, reduce::largest_of};
use super::Mask;
use crate::simd::{Float32, MAX_LANES, Simd, Vector};

/// Where one query's row stands.
#[derive(Clone, Copy, Debug)]
pub(super) struct Place {
    pub batch: usize,
    pub head: usize,
    pub query: usize,
    /// The key of the row's first element.
    pub first_key: usize,
}

/// Turns raw products into masked scores, in place; yields the positive factor that they still lack.
#[inline(always)]
pub(super) fn finish_scores<S: Simd>(
    simd: S,
    row: &mut [f32],
    scale: f32,
    softcap: Option<f32>,
    mask: Mask<'_>,
    place: Place,
) -> f32 {
    // What hides keys needs no scaled scores: the weights take the factor on the way.
    let late = scale > 0.0 && softcap.is_none() && !matches!(mask, Mask::Bias { .. });
    match softcap {
        None if late => {}
        None => change(simd, row, Scale(scale)),
        Some(cap) => change(simd, row, Softcap { scale: scale / cap, cap }),
    }
    let start = |strides: [usize; 4]| {
        let indices = [place.batch, place.head, place.query, place.first_key];
        indices.iter().zip(strides).map(|(index, stride)| index * stride).sum::<usize>()
    };
    match mask {
        Mask::None => {}
        Mask::Keep { data, strides } => {
            let data = &data[start(strides)..];
            if strides[3] == 1 {
                hide(simd, row, data);
            } else {
                let hidden = |j: usize| data[j * strides[3]] == 0;
                let hidden = row.iter_mut().enumerate().filter(|(j, _)| hidden(*j));
                hidden.for_each(|(_, x)| *x = f32::NEG_INFINITY);
            }
        }
        Mask::Bias { data, strides } => {
            let data = &data[start(strides)..];
            if strides[3] == 1 {
                row.iter_mut().zip(data).for_each(|(x, &bias)| *x += bias);
            } else {
                row.iter_mut().enumerate().for_each(|(j, x)| *x += data[j * strides[3]]);
            }
        }
    }
    if late { scale } else { 1.0 }
}

/// Scores where `keep` is zero become minus infinity.
#[inline(always)]
fn hide<S: Simd>(simd: S, row: &mut [f32], keep: &[u8]) {
    let keep = &keep[..row.len()];
    if !keep.contains(&0) {
        return;
    }
    let (zero, hidden) = (S::F32::splat(simd, 0.0), S::F32::splat(simd, f32::NEG_INFINITY));
    for (scores, keep) in row.chunks_mut(S::F32::LANES).zip(keep.chunks(S::F32::LANES)) {
        let mut flags = [0.0; MAX_LANES];
        flags.iter_mut().zip(keep).for_each(|(flag, &keep)| *flag = f32::from(keep));
        let mask = S::F32::read(simd, &flags).same(zero);
        if scores.len() == S::F32::LANES {
            S::F32::select(mask, hidden, S::F32::read(simd, scores)).write(scores);
        } else {
            S::F32::select(mask, hidden, S::F32::read_partial(simd, scores, 0.0)).write_partial(scores);
        }
    }
}

#[derive(Clone, Copy)]
struct Softcap {
    scale: f32,
    cap: f32,
}

impl UnaryFunction for Softcap {
    #[inline(always)]
    fn apply<S: Simd>(self, simd: S, x: S::F32) -> S::F32 {
        let inner = x * S::F32::splat(simd, self.scale);
        math::tanh(simd, inner) * S::F32::splat(simd, self.cap)
    }
}

/// Replaces scores (times a positive scale) by weights relative to the running maximum, which it
/// updates with the running sum; yields the factor that older weights must be multiplied by.
#[inline(always)]
pub(super) fn weigh<S: Simd>(simd: S, row: &mut [f32], scale: f32, top: &mut f32, sum: &mut f32) -> f32 {
    let largest = largest_of(simd, row) * scale;
    let new_top = if largest > *top { largest } else { *top };
    if new_top == f32::NEG_INFINITY {
        // Nothing is visible yet, unless it is NaN, which must show.
        let poison = if row.iter().any(|x| x.is_nan()) { f32::NAN } else { 0.0 };
        row.fill(poison);
        *sum += poison;
        return 1.0;
    }
    let factor = (*top - new_top).exp();
    let added = replace_by_exp(simd, row, scale, new_top);
    *sum = *sum * factor + added;
    *top = new_top;
    factor
}

/// The product of each of two vectors over their common length.
#[inline(always)]
pub(super) fn dot<S: Simd>(simd: S, x: &[f32], y: &[f32]) -> f32 {
    let lanes = S::F32::LANES;
    let mut sums = [S::F32::splat(simd, 0.0); 2];
    let (mut xs, mut ys) = (x.chunks_exact(2 * lanes), y.chunks_exact(2 * lanes));
    for (x, y) in xs.by_ref().zip(ys.by_ref()) {
        sums[0] = S::F32::read(simd, x).mul_add(S::F32::read(simd, y), sums[0]);
        let (x, y) = (S::F32::read(simd, &x[lanes..]), S::F32::read(simd, &y[lanes..]));
        sums[1] = x.mul_add(y, sums[1]);
    }
    let (x, y) = (xs.remainder(), ys.remainder());
    let mut start = 0;
    while start < x.len() {
        let part = start..x.len().min(start + lanes);
        let x = S::F32::read_partial(simd, &x[part.clone()], 0.0);
        sums[0] = x.mul_add(S::F32::read_partial(simd, &y[part], 0.0), sums[0]);
        start += lanes;
    }
    (sums[0] + sums[1]).sum_lanes()
}

/// `sum[i] += weight * x[i]`.
#[inline(always)]
pub(super) fn add_weighted<S: Simd>(simd: S, sum: &mut [f32], weight: f32, x: &[f32]) {
    let weight = S::F32::splat(simd, weight);
    for (sum, x) in sum.chunks_mut(S::F32::LANES).zip(x.chunks(S::F32::LANES)) {
        let old = S::F32::read_partial(simd, sum, 0.0);
        S::F32::read_partial(simd, x, 0.0).mul_add(weight, old).write_partial(sum);
    }
}
