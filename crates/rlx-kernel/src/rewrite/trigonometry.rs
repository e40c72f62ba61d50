//! Circular functions and their inverses, for [`super::maths`].
//!
//! Arguments up to 8192 are reduced by `pi / 2` in three parts; larger ones by exact integer multiplication with the
//! bits of `2 / pi`, so that every finite argument has its right quadrant.

use crate::ir::*;
use crate::num::{INFINITY, Num};
use std::f32::consts::{FRAC_2_PI, FRAC_PI_2, FRAC_PI_4, PI};

/// `pi / 2` in three parts; the first two have 11 bits.
const HALF_PI: [f32; 3] = [1.570_312_5, 0.000_483_751_3, 7.549_789_4e-8];
/// The first 224 bits of `2 / pi`, after 32 zeros.
const TWO_OVER_PI: [u32; 8] =
    [0, 0xa2f9_836e, 0x4e44_1529, 0xfc27_57d1, 0xf534_ddc0, 0xdb62_9599, 0x3c43_9041, 0xfe51_63ab];
/// `(sin(r) / r - 1) / r^2` in `r^2` for `|r| <= pi / 4`.
const SIN: [f32; 4] = [-0.166_666_67, 0.008_333_329, -0.000_198_391_8, 2.716_848_7e-6];
/// `(cos(r) - 1 + r^2 / 2) / r^4` in `r^2`.
const COS: [f32; 4] = [0.041_666_668, -0.001_388_888_3, 2.479_937_2e-5, -2.719_782_8e-7];
/// `(atan(x) / x - 1) / x^2` in `x^2` for `|x| <= tan(pi / 8)`.
const ATAN: [f32; 5] = [-0.333_333_13, 0.199_984_25, -0.142_423_4, 0.105_832_21, -0.060_477_52];
/// `(asin(x) / x - 1) / x^2` in `x^2` for `|x| <= 1/2`.
const ASIN: [f32; 6] = [0.166_666_6, 0.075_004_96, 0.044_518_12, 0.031_800_583, 0.014_458_777, 0.037_495_166];
/// `pi / 2` less its `f32`.
const HALF_PI_LOW: f32 = -4.371_139e-8;

impl<'b> Num<'b> {
    /// `sin`, `cos` or `tan`.
    pub(super) fn circular(self, op: UnaryOp) -> Self {
        let (quadrant, r) = self.reduce();
        let square = r * r;
        let sine = r + square * square.polynomial(&SIN) * r;
        let cosine = square * -0.5 + 1.0 + square * square * square.polynomial(&COS);
        let quadrant = if op == UnaryOp::Cos { quadrant + 1 } else { quadrant };
        let odd = (quadrant & 1).is(1);
        let value = if op == UnaryOp::Tan {
            let quotient = odd.choose(cosine, sine) / odd.choose(sine, cosine);
            odd.choose(quotient.negate(), quotient)
        } else {
            let value = odd.choose(cosine, sine);
            (quadrant & 2).is(2).choose(value.negate(), value)
        };
        let size = self.magnitude();
        let value = value.nan_if(size.at_least(INFINITY));
        if op == UnaryOp::Cos {
            return value;
        }
        size.below(2f32.powi(-13).to_bits()).choose(self, value)
    }

    /// The quadrant (its low two bits) and the rest in `[-pi/4, pi/4]`.
    fn reduce(self) -> (Self, Self) {
        let bounded = self.clamp(-8192.0, 8192.0);
        let n = (bounded * FRAC_2_PI).round();
        let r = HALF_PI.iter().fold(bounded, |r, &part| r - n * part);
        let (quadrant, rest) = (n.cast(Scalar::I32).bits().local("quadrant"), r.local("rest"));
        let size = self.abs();
        self.b.when(size.above(8192.0).value, |_| {
            let (n, r) = size.reduce_far();
            // sin(-x) = -sin(x): the quadrant and the rest change sign together.
            let positive = self.sign_bit().is(0);
            quadrant.set(positive.choose(n, 0 - n));
            rest.set(positive.choose(r, r.negate()));
        });
        (quadrant.get(), rest.get())
    }

    /// The same for `x` above 8192, in integers: 96 bits of `2 / pi`, starting where a multiple of 4 ends, times the
    /// 24-bit significand; the top two bits are the quadrant.
    fn reduce_far(self) -> (Self, Self) {
        let bits = self.bits();
        let significand = (bits & 0x7f_ffff) | 0x80_0000;
        // x = significand 2^(exponent - 150); the window starts 2 bits after that weight.
        let start = (bits >> 23) - 120;
        let (first, shift) = (start >> 5, start & 31);
        let [(_, p0), (carry1, p1), (carry2, p2)] =
            [0, 1, 2].map(|i| significand.wide_product(window(first, shift, i)));
        let p1 = p1 + carry2;
        let p0 = p0 + carry1 + p1.below(carry2).cast(Scalar::U32);
        let join = |high: Self, low: Self| (high << 2) | (low >> 30);
        let (high, low) = (join(p0, p1), join(p1, p2));
        // A fraction of a half or more belongs to the next quadrant, from below.
        let quadrant = (p0 >> 30) + (high >> 31);
        let high = high.bitcast(Scalar::I32).cast(Scalar::F32) * 2f32.powi(-32);
        let fraction = high + low.cast(Scalar::F32) * 2f32.powi(-64);
        (quadrant, fraction * FRAC_PI_2)
    }

    /// The high and low words of `a b` for `a` below 2^24.
    fn wide_product(self, b: Self) -> (Self, Self) {
        let parts = |x: Self| (x >> 16, x & 0xffff);
        let ((ah, al), (bh, bl)) = (parts(self), parts(b));
        let (middle_high, middle_low) = parts(ah * bl + ((al * bl) >> 16));
        (ah * bh + middle_high + ((al * bh + middle_low) >> 16), self * b)
    }

    /// The arc tangent of a value that is not negative.
    pub(super) fn atan_of_positive(self) -> Self {
        let (far, middle) = (self.above(2.414_213_6), self.above(0.414_213_57));
        let turned = (self - 1.0) / (self + 1.0);
        let z = far.choose((1.0 / self).negate(), middle.choose(turned, self));
        let base = far.choose(FRAC_PI_2, middle.choose(FRAC_PI_4, 0.0));
        let low = far.choose(HALF_PI_LOW, middle.choose(HALF_PI_LOW * 0.5, 0.0));
        let square = z * z;
        base + (z + (square * square.polynomial(&ATAN) * z + low))
    }

    /// The angle of the point (x, y).
    pub(super) fn atan2(self, x: Self) -> Self {
        let (a, c) = (self.abs(), x.abs());
        let (small, large) = (a.min(c), a.max(c));
        // 0 / 0 and infinity / infinity are on an axis and on the diagonal.
        let ratio = large.is(0.0).choose(0.0, small / large);
        let ratio = small.is(f32::INFINITY).choose(1.0, ratio);
        let angle = ratio.atan_of_positive();
        let angle = a.above(c).choose(FRAC_PI_2 - angle + HALF_PI_LOW, angle);
        let right = x.sign_bit().is(0);
        let angle = right.choose(angle, PI - angle + 2.0 * HALF_PI_LOW);
        angle.with_sign(self).or_nan(x).or_nan(self)
    }

    /// `asin` or `acos`.
    pub(super) fn arc(self, op: UnaryOp) -> Self {
        let a = self.abs();
        let near = a.below(0.5);
        let rest = (1.0 - a) * 0.5;
        let (z, s) = (near.choose(a * a, rest), near.choose(a, rest.sqrt()));
        let angle = s + z * z.polynomial(&ASIN) * s;
        let doubled = angle * 2.0;
        let value = if op == UnaryOp::Asin {
            near.choose(angle, FRAC_PI_2 - doubled + HALF_PI_LOW).with_sign(self)
        } else {
            let middle = HALF_PI_LOW - angle.with_sign(self) + FRAC_PI_2;
            near.choose(middle, self.above(0.0).choose(doubled, PI - doubled))
        };
        value.nan_if(a.above(1.0)).or_nan(self)
    }
}

/// Word `i` of the window of `2 / pi` that starts `shift` bits into word `first` (0 to 4).
fn window<'b>(first: Num<'b>, shift: Num<'b>, i: usize) -> Num<'b> {
    let word = |offset: usize| {
        let last = first.like(TWO_OVER_PI[4 + offset]);
        (0..4).fold(last, |value, k| first.is(k as u32).choose(TWO_OVER_PI[k + offset], value))
    };
    // Two shifts, as one by 32 is not a shift.
    (word(i) << shift) | (word(i + 1) >> 1 >> (31 - shift))
}
