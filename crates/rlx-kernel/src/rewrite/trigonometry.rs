//! Circular functions and their inverses, for [`super::maths`].
//!
//! Arguments up to 8192 are reduced by `pi / 2` in three parts; larger ones by exact integer multiplication with the
//! bits of `2 / pi`, so that every finite argument has its right quadrant.

use super::float::Float;
use crate::ir::*;

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

impl Float<'_> {
    /// `sin`, `cos` or `tan`.
    pub(super) fn circular(&mut self, op: UnaryOp, x: Value) -> Value {
        let (mut quadrant, r) = self.reduce(x);
        let square = self.mul(r, r);
        let curve = self.polynomial(square, &SIN);
        let curve = self.mul(square, curve);
        let curve = self.mul(curve, r);
        let sine = self.add(r, curve);
        let curve = self.polynomial(square, &COS);
        let fourth = self.mul(square, square);
        let curve = self.mul(fourth, curve);
        let half = self.times(square, -0.5);
        let flat = self.plus(half, 1.0);
        let cosine = self.add(flat, curve);
        let (one, two) = (self.u(1), self.u(2));
        if op == UnaryOp::Cos {
            quadrant = self.add(quadrant, one);
        }
        let odd = self.and(quadrant, one);
        let odd = self.eq(odd, one);
        let value = if op == UnaryOp::Tan {
            let (top, bottom) = (self.select(odd, cosine, sine), self.select(odd, sine, cosine));
            let quotient = self.div(top, bottom);
            let negative = self.negate(quotient);
            self.select(odd, negative, quotient)
        } else {
            let value = self.select(odd, cosine, sine);
            let low = self.and(quadrant, two);
            let low = self.eq(low, two);
            let negative = self.negate(value);
            self.select(low, negative, value)
        };
        let size = super::exact::magnitude(self.b, x);
        let infinity = self.u(0x7f80_0000);
        let outside = self.ge(size, infinity);
        let value = self.nan_if(outside, value);
        if op == UnaryOp::Cos {
            return value;
        }
        let near = self.u(2f32.powi(-13).to_bits());
        let near = self.lt(size, near);
        self.select(near, x, value)
    }

    /// The quadrant (its low two bits) and the rest in `[-pi/4, pi/4]`.
    fn reduce(&mut self, x: Value) -> (Value, Value) {
        let bounded = self.clamp(x, -8192.0, 8192.0);
        let n = self.times(bounded, std::f32::consts::FRAC_2_PI);
        let n = self.round(n);
        let r = HALF_PI.iter().fold(bounded, |r, &part| {
            let product = self.times(n, part);
            self.sub(r, product)
        });
        let n = self.as_i32(n);
        let n = self.bits(n);
        let unique = self.b.kernel().variables.len();
        let quadrant = self.b.variable_of(format!("quadrant{unique}"), n);
        let rest = self.b.variable_of(format!("rest{unique}"), r);
        let size = self.abs(x);
        let far = self.above(size, 8192.0);
        self.b.when(far, |b| {
            let mut m = Float { b };
            let (n, r) = m.reduce_far(size);
            // sin(-x) = -sin(x): the quadrant and the rest change sign together.
            let (zero, sign) = (m.u(0), m.sign_bit(x));
            let positive = m.eq(sign, zero);
            let opposite = m.sub(zero, n);
            let n = m.select(positive, n, opposite);
            let opposite = m.negate(r);
            let r = m.select(positive, r, opposite);
            m.b.set(quadrant, n);
            m.b.set(rest, r);
        });
        (self.b.get(quadrant), self.b.get(rest))
    }

    /// The same for `x` above 8192, in integers: 96 bits of `2 / pi`, starting where a multiple of 4 ends, times the
    /// 24-bit significand; the top two bits are the quadrant.
    fn reduce_far(&mut self, x: Value) -> (Value, Value) {
        let bits = self.bits(x);
        let (width, mask, hidden) = (self.u(23), self.u(0x7f_ffff), self.u(0x80_0000));
        let exponent = self.shr(bits, width);
        let significand = self.and(bits, mask);
        let significand = self.or(significand, hidden);
        // x = significand 2^(exponent - 150); the window starts 2 bits after that weight.
        let offset = self.u(120);
        let start = self.sub(exponent, offset);
        let (five, low) = (self.u(5), self.u(31));
        let first = self.shr(start, five);
        let shift = self.and(start, low);
        let words = [0, 1, 2].map(|i| self.window(first, shift, i));
        let (carry2, p2) = self.wide_product(significand, words[2]);
        let (carry1, p1) = self.wide_product(significand, words[1]);
        let (_, p0) = self.wide_product(significand, words[0]);
        let p1 = self.add(p1, carry2);
        let overflow = self.lt(p1, carry2);
        let overflow = self.b.cast(Scalar::U32, overflow);
        let p0 = self.add(p0, carry1);
        let p0 = self.add(p0, overflow);
        let (two, thirty, half) = (self.u(2), self.u(30), self.u(31));
        let quadrant = self.shr(p0, thirty);
        let join = |m: &mut Float<'_>, high: Value, low: Value| {
            let (high, low) = (m.shl(high, two), m.shr(low, thirty));
            m.or(high, low)
        };
        let (high, low) = (join(self, p0, p1), join(self, p1, p2));
        // A fraction of a half or more belongs to the next quadrant, from below.
        let up = self.shr(high, half);
        let quadrant = self.add(quadrant, up);
        let high = self.b.bitcast(Scalar::I32, high);
        let (high, low) = (self.as_f32(high), self.as_f32(low));
        let (high, low) = (self.times(high, 2f32.powi(-32)), self.times(low, 2f32.powi(-64)));
        let fraction = self.add(high, low);
        (quadrant, self.times(fraction, std::f32::consts::FRAC_PI_2))
    }

    /// Word `i` of the window of `2 / pi` that starts `shift` bits into word `first` (0 to 4).
    fn window(&mut self, first: Value, shift: Value, i: usize) -> Value {
        let word = |m: &mut Float<'_>, offset: usize| {
            let last = m.u(TWO_OVER_PI[4 + offset]);
            (0..4).fold(last, |value, k| {
                let (index, word) = (m.u(k as u32), m.u(TWO_OVER_PI[k + offset]));
                let here = m.eq(first, index);
                m.select(here, word, value)
            })
        };
        let (high, low) = (word(self, i), word(self, i + 1));
        let (one, top) = (self.u(1), self.u(31));
        let high = self.shl(high, shift);
        // Two shifts, as one by 32 is not a shift.
        let low = self.shr(low, one);
        let rest = self.sub(top, shift);
        let low = self.shr(low, rest);
        self.or(high, low)
    }

    /// The high and low words of `a b` for `a` below 2^24.
    fn wide_product(&mut self, a: Value, b: Value) -> (Value, Value) {
        let (sixteen, mask) = (self.u(16), self.u(0xffff));
        let low = self.mul(a, b);
        let parts = |m: &mut Float<'_>, x: Value| (m.shr(x, sixteen), m.and(x, mask));
        let ((ah, al), (bh, bl)) = (parts(self, a), parts(self, b));
        let (hh, hl, lh, ll) = (self.mul(ah, bh), self.mul(ah, bl), self.mul(al, bh), self.mul(al, bl));
        let carry = self.shr(ll, sixteen);
        let middle = self.add(hl, carry);
        let (middle_high, middle_low) = parts(self, middle);
        let sum = self.add(lh, middle_low);
        let sum = self.shr(sum, sixteen);
        let high = self.add(hh, middle_high);
        (self.add(high, sum), low)
    }

    /// The arc tangent of a value that is not negative.
    pub(super) fn atan_of_positive(&mut self, x: Value) -> Value {
        let (far, middle) = (self.above(x, 2.414_213_6), self.above(x, 0.414_213_57));
        let one = self.c(1.0);
        let (less, more) = (self.plus(x, -1.0), self.plus(x, 1.0));
        let turned = self.div(less, more);
        let inverse = self.div(one, x);
        let inverse = self.negate(inverse);
        let z = self.select(middle, turned, x);
        let z = self.select(far, inverse, z);
        let (none, quarter, half) =
            (self.c(0.0), self.c(std::f32::consts::FRAC_PI_4), self.c(std::f32::consts::FRAC_PI_2));
        let (quarter_low, half_low) = (self.c(HALF_PI_LOW * 0.5), self.c(HALF_PI_LOW));
        let base = self.select(middle, quarter, none);
        let base = self.select(far, half, base);
        let low = self.select(middle, quarter_low, none);
        let low = self.select(far, half_low, low);
        let square = self.mul(z, z);
        let curve = self.polynomial(square, &ATAN);
        let curve = self.mul(square, curve);
        let curve = self.mul(curve, z);
        let sum = self.add(curve, low);
        let sum = self.add(z, sum);
        self.add(base, sum)
    }

    /// The angle of the point (x, y).
    pub(super) fn atan2(&mut self, y: Value, x: Value) -> Value {
        let (a, c) = (self.abs(y), self.abs(x));
        let (small, large) = (self.min(a, c), self.max(a, c));
        let ratio = self.div(small, large);
        // 0 / 0 and infinity / infinity are on an axis and on the diagonal.
        let (zero, one, infinity) = (self.c(0.0), self.c(1.0), self.c(f32::INFINITY));
        let origin = self.eq(large, zero);
        let ratio = self.select(origin, zero, ratio);
        let corner = self.eq(small, infinity);
        let ratio = self.select(corner, one, ratio);
        let angle = self.atan_of_positive(ratio);
        let steep = self.gt(a, c);
        let other = self.from(std::f32::consts::FRAC_PI_2, angle);
        let other = self.plus(other, HALF_PI_LOW);
        let angle = self.select(steep, other, angle);
        let (sign, positive) = (self.sign_bit(x), self.u(0));
        let right = self.eq(sign, positive);
        let other = self.from(std::f32::consts::PI, angle);
        let other = self.plus(other, 2.0 * HALF_PI_LOW);
        let angle = self.select(right, angle, other);
        let angle = self.with_sign(angle, y);
        let angle = self.keep_nan(x, angle);
        self.keep_nan(y, angle)
    }

    /// `asin` or `acos`.
    pub(super) fn arc(&mut self, op: UnaryOp, x: Value) -> Value {
        let a = self.abs(x);
        let near = self.below(a, 0.5);
        let square = self.mul(a, a);
        let rest = self.from(1.0, a);
        let rest = self.times(rest, 0.5);
        let root = self.sqrt(rest);
        let (z, s) = (self.select(near, square, rest), self.select(near, a, root));
        let curve = self.polynomial(z, &ASIN);
        let curve = self.mul(z, curve);
        let curve = self.mul(curve, s);
        let angle = self.add(s, curve);
        let doubled = self.times(angle, 2.0);
        let value = if op == UnaryOp::Asin {
            let far = self.from(std::f32::consts::FRAC_PI_2, doubled);
            let far = self.plus(far, HALF_PI_LOW);
            let value = self.select(near, angle, far);
            self.with_sign(value, x)
        } else {
            let signed = self.with_sign(angle, x);
            let low = self.from(HALF_PI_LOW, signed);
            let middle = self.plus(low, std::f32::consts::FRAC_PI_2);
            let opposite = self.from(std::f32::consts::PI, doubled);
            let right = self.above(x, 0.0);
            let end = self.select(right, doubled, opposite);
            self.select(near, middle, end)
        };
        let outside = self.above(a, 1.0);
        let value = self.nan_if(outside, value);
        self.keep_nan(x, value)
    }
}
