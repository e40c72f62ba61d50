//! Elementary functions of f32 on vectors, each within 4 units in the last place.
//!
//! Every function takes all of f32: NaN gives NaN, infinities and overflow give their limits,
//! subnormal arguments and results are kept. A lane's result depends on that lane alone. The
//! polynomials are minimax fits of this project (relative error below 2^-27 before rounding).
//!
//! [`functions`] names them as values for [`map`](super::map).

pub mod functions;
#[cfg(test)]
mod tests;

use crate::simd::{Float32, Int32, Mask, Simd, Vector};
use std::f32::consts;

/// ln 2 in two parts; the first has 12 bits, so that small multiples of it are exact.
const LN_2: [f32; 2] = [0.693_115_23, 3.194_618_3e-5];
/// pi / 2 in three parts.
const HALF_PI: [f32; 3] = [1.570_796_4, -4.371_139e-8, -1.715_124_5e-15];
/// Up to here the three parts of pi / 2 reduce an argument exactly enough.
const REDUCIBLE: f32 = 65_536.0;

#[inline(always)]
fn polynomial<S: Simd, const N: usize>(simd: S, x: S::F32, coefficients: [f32; N]) -> S::F32 {
    let mut sum = S::F32::splat(simd, coefficients[N - 1]);
    for &coefficient in coefficients[..N - 1].iter().rev() {
        sum = sum.mul_add(x, S::F32::splat(simd, coefficient));
    }
    sum
}

/// `x` limited to `low..=high`; NaN stays.
#[inline(always)]
fn clamp<S: Simd>(simd: S, x: S::F32, low: f32, high: f32) -> S::F32 {
    let x = S::F32::splat(simd, low).larger(x);
    S::F32::splat(simd, high).smaller(x)
}

/// `magnitude` (not negative) with the sign bit of `sign`.
#[inline(always)]
fn with_sign<S: Simd>(simd: S, magnitude: S::F32, sign: S::F32) -> S::F32 {
    let bit = sign.bits() & S::I32::splat(simd, i32::MIN);
    S::F32::from_bits(magnitude.bits() | bit)
}

/// `n` and `r` with `x = n ln 2 + r`, `n` whole and `r` near zero.
#[inline(always)]
fn reduce_exponent<S: Simd>(simd: S, x: S::F32) -> [S::F32; 2] {
    let n = (x * S::F32::splat(simd, consts::LOG2_E)).round();
    let r = n.mul_add(S::F32::splat(simd, -LN_2[0]), x);
    [n, n.mul_add(S::F32::splat(simd, -LN_2[1]), r)]
}

/// What follows `1 + r` in the series of `e^r`, divided by `r^2`.
const EXP_TAIL: [f32; 5] = [0.499_999_94, 0.166_665_21, 0.041_668_277, 0.008_368_687, 0.001_381_982_6];

/// The exponential.
#[inline(always)]
pub fn exp<S: Simd>(simd: S, x: S::F32) -> S::F32 {
    exp_between(simd, S::F32::splat(simd, 89.0).smaller(x), -104.0)
}

/// The exponential of numbers up to 89, zero where it would be subnormal: making such a number takes the
/// processor a hundred times as long as making another.
#[inline(always)]
pub(crate) fn exp_or_zero<S: Simd>(simd: S, x: S::F32) -> S::F32 {
    exp_between(simd, x, -87.0)
}

/// The exponential of numbers up to 89, zero below `least`.
#[inline(always)]
fn exp_between<S: Simd>(simd: S, x: S::F32, least: f32) -> S::F32 {
    let least = S::F32::splat(simd, least);
    let below = x.lt(least);
    let [n, r] = reduce_exponent(simd, least.larger(x));
    let one = S::F32::splat(simd, 1.0);
    let sum = polynomial(simd, r, EXP_TAIL);
    let sum = sum.mul_add(r, one).mul_add(r, one);
    S::F32::select(below, S::F32::splat(simd, 0.0), sum).scale(simd, n)
}

/// `exp(x) - 1` without cancellation.
#[inline(always)]
pub fn expm1<S: Simd>(simd: S, x: S::F32) -> S::F32 {
    let [n, r] = reduce_exponent(simd, clamp(simd, x, -20.0, 89.0));
    let rest = (r * r).mul_add(polynomial(simd, r, EXP_TAIL), r);
    let half = S::F32::splat(simd, 0.5);
    // Half of the result, since 2^128 is not a number.
    let power = half.scale(simd, n);
    let halved = rest.mul_add(power, power - half);
    let tiny = x.abs().lt(S::F32::splat(simd, 1e-30));
    S::F32::select(tiny, x, halved + halved)
}

/// The natural logarithm.
#[inline(always)]
pub fn log<S: Simd>(simd: S, x: S::F32) -> S::F32 {
    let zero = S::F32::splat(simd, 0.0);
    let infinity = S::F32::splat(simd, f32::INFINITY);
    let subnormal = x.lt(S::F32::splat(simd, f32::MIN_POSITIVE));
    let lifted = S::F32::select(subnormal, x * S::F32::splat(simd, 8_388_608.0), x);
    let lift = S::F32::select(subnormal, S::F32::splat(simd, -23.0), zero);
    // The exponent that leaves a fraction between the square roots of 1/2 and 2.
    let bits = lifted.bits();
    let exponent = (bits - S::I32::splat(simd, 0x3F35_04F3)).shift_right(23);
    let f = S::F32::from_bits(bits - exponent.shift_left(23)) - S::F32::splat(simd, 1.0);
    let exponent = S::F32::from_int(exponent) + lift;
    let tail = [
        0.333_333_13,
        -0.250_000_1,
        0.200_020_76,
        -0.166_679_92,
        0.142_202_06,
        -0.124_060_41,
        0.118_848_18,
        -0.116_722_085,
        0.067_487_2,
    ];
    let square = f * f;
    let cubic = square * f * polynomial(simd, f, tail);
    let rest = exponent.mul_add(S::F32::splat(simd, LN_2[1]), cubic);
    let rest = square.mul_add(S::F32::splat(simd, -0.5), rest) + f;
    let result = exponent.mul_add(S::F32::splat(simd, LN_2[0]), rest);
    let result = S::F32::select(x.same(zero), -infinity, result);
    let result = S::F32::select(x.same(infinity), infinity, result);
    let valid = zero.le(x);
    S::F32::select(valid, result, S::F32::splat(simd, f32::NAN))
}

/// `log(1 + x)` without cancellation.
#[inline(always)]
pub fn log1p<S: Simd>(simd: S, x: S::F32) -> S::F32 {
    let one = S::F32::splat(simd, 1.0);
    let sum = one + x;
    let kept = sum - one;
    let result = log(simd, sum) * (x / kept);
    let exact = kept.same(S::F32::splat(simd, 0.0)) | x.same(S::F32::splat(simd, f32::INFINITY));
    S::F32::select(exact, x, result)
}

/// The hyperbolic tangent.
#[inline(always)]
pub fn tanh<S: Simd>(simd: S, x: S::F32) -> S::F32 {
    let size = S::F32::splat(simd, 10.0).smaller(x.abs());
    let grown = expm1(simd, size + size);
    with_sign(simd, grown / (grown + S::F32::splat(simd, 2.0)), x)
}

/// `1 / (1 + exp(-x))`.
#[inline(always)]
pub fn sigmoid<S: Simd>(simd: S, x: S::F32) -> S::F32 {
    let one = S::F32::splat(simd, 1.0);
    let small = exp(simd, -x.abs());
    let negative = x.lt(S::F32::splat(simd, 0.0));
    S::F32::select(negative, small, one) / (one + small)
}

/// The error function.
#[inline(always)]
pub fn erf<S: Simd>(simd: S, x: S::F32) -> S::F32 {
    let one = S::F32::splat(simd, 1.0);
    let excess = [
        0.128_379_17,
        -0.376_126_3,
        0.112_836_26,
        -0.026_855_731,
        0.005_192_405,
        -8.049_769e-4,
        7.996_642e-5,
    ];
    let inner = polynomial(simd, x * x, excess).mul_add(x, x);
    let size = S::F32::splat(simd, 4.0).smaller(x.abs());
    let slope = [
        1.128_546_6,
        0.635_649_1,
        0.105_216_57,
        -0.022_625_621,
        0.002_900_256,
        -3.879_294e-5,
        -4.769_344e-5,
        5.111_038e-6,
    ];
    let complement = exp(simd, -(size * polynomial(simd, size, slope)));
    let outer = with_sign(simd, one - complement, x);
    S::F32::select(size.lt(S::F32::splat(simd, 0.92)), inner, outer)
}

/// The sine.
#[inline(always)]
pub fn sin<S: Simd>(simd: S, x: S::F32) -> S::F32 {
    let result = circular(simd, x, 0, f64::sin);
    S::F32::select(x.same(S::F32::splat(simd, 0.0)), x, result)
}

/// The cosine.
#[inline(always)]
pub fn cos<S: Simd>(simd: S, x: S::F32) -> S::F32 {
    circular(simd, x, 1, f64::cos)
}

/// The sine of `x` plus so many quarter turns; large arguments go through `wide`.
#[inline(always)]
fn circular<S: Simd>(simd: S, x: S::F32, quarters: i32, wide: fn(f64) -> f64) -> S::F32 {
    let n = (x * S::F32::splat(simd, consts::FRAC_2_PI)).round();
    let mut r = x;
    for part in HALF_PI {
        r = n.mul_add(S::F32::splat(simd, -part), r);
    }
    let square = r * r;
    let sine = polynomial(simd, square, [-0.166_666_55, 0.008_332_19, -1.951_840_8e-4]);
    let sine = (r * square).mul_add(sine, r);
    let cosine = polynomial(simd, square, [0.041_666_646, -0.001_388_731, 2.443_232_7e-5]);
    let one = S::F32::splat(simd, 1.0);
    let cosine = (square * square).mul_add(cosine, square.mul_add(S::F32::splat(simd, -0.5), one));
    let turn = n.to_int() + S::I32::splat(simd, quarters);
    let odd = (turn & S::I32::splat(simd, 1)).shift_left(23);
    let is_odd = S::F32::splat(simd, 0.0).lt(S::F32::from_bits(odd));
    let flip = (turn & S::I32::splat(simd, 2)).shift_left(30);
    let chosen = S::F32::select(is_odd, cosine, sine);
    let result = S::F32::from_bits(chosen.bits() ^ flip);
    let limit = S::F32::splat(simd, if S::FUSED { REDUCIBLE } else { 0.0 });
    let large = limit.lt(x.abs());
    if large.any() { S::F32::select(large, by_lane::<S>(simd, x, wide), result) } else { result }
}

/// Applies a function of f64 to each lane.
#[inline(always)]
fn by_lane<S: Simd>(simd: S, x: S::F32, f: fn(f64) -> f64) -> S::F32 {
    let mut lanes = [0f32; 16];
    x.write(&mut lanes);
    for lane in &mut lanes[..S::F32::LANES] {
        *lane = f(f64::from(*lane)) as f32;
    }
    S::F32::read(simd, &lanes)
}

/// `x / 2 (1 + erf(x / sqrt 2))`.
#[inline(always)]
pub fn gelu<S: Simd>(simd: S, x: S::F32) -> S::F32 {
    let half = x * S::F32::splat(simd, 0.5);
    erf(simd, x * S::F32::splat(simd, consts::FRAC_1_SQRT_2)).mul_add(half, half)
}

/// `x / 2 (1 + tanh(sqrt(2 / pi) (x + 0.044715 x^3)))`.
#[inline(always)]
pub fn gelu_tanh<S: Simd>(simd: S, x: S::F32) -> S::F32 {
    let half = x * S::F32::splat(simd, 0.5);
    let cubic = (x * x).mul_add(S::F32::splat(simd, 0.044_715), S::F32::splat(simd, 1.0));
    let inner = x * cubic * S::F32::splat(simd, 0.797_884_6);
    tanh(simd, inner).mul_add(half, half)
}

/// `x` times its sigmoid.
#[inline(always)]
pub fn silu<S: Simd>(simd: S, x: S::F32) -> S::F32 {
    x * sigmoid(simd, x)
}
