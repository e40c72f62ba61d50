//! Single elements: exact decoding to `f64` or `i128`, and rounding back.
//!
//! Floats round to nearest even; integers wrap. Nothing here goes through a
//! narrower type than it must: `i64` and `u64` never become floats unless a
//! cast asks for it.

use crate::dtype::{DType, DTypeClass};

/// One element, decoded.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Number {
    /// Any float dtype.
    Float(f64),
    /// Any integer dtype, and `bool` as 0 or 1.
    Int(i128),
    /// Any complex dtype: real, imaginary.
    Complex(f64, f64),
}

/// Layout of a float format of at most 8 bits with a sign: sign, exponent, mantissa, from the top.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MiniFloat {
    /// Bits of the exponent.
    pub exponent_bits: u32,
    /// Bits of the mantissa.
    pub mantissa_bits: u32,
    /// What the stored exponent is larger by.
    pub bias: i32,
    /// What the top codes mean.
    pub special: Special,
}

/// What the top codes of a small float format mean.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Special {
    /// Top exponent holds infinity and NaN.
    Ieee,
    /// Only all-ones is NaN; no infinity.
    FiniteNan,
    /// Only negative zero is NaN; no infinity.
    UnsignedZero,
    /// All codes are finite.
    Finite,
}

/// The layout of a small float dtype; `None` for all others.
pub fn mini_float(dtype: DType) -> Option<MiniFloat> {
    let (exponent_bits, mantissa_bits, bias, special) = match dtype {
        DType::F8E4M3 => (4, 3, 7, Special::FiniteNan),
        DType::F8E5M2 => (5, 2, 15, Special::Ieee),
        DType::F8E4M3Fnuz => (4, 3, 8, Special::UnsignedZero),
        DType::F8E5M2Fnuz => (5, 2, 16, Special::UnsignedZero),
        DType::F4E2M1 => (2, 1, 1, Special::Finite),
        _ => return None,
    };
    Some(MiniFloat { exponent_bits, mantissa_bits, bias, special })
}

impl MiniFloat {
    /// The bit of the sign.
    pub fn sign_bit(&self) -> u32 {
        1 << (self.exponent_bits + self.mantissa_bits)
    }

    /// What NaN becomes; the largest number where the format has no NaN.
    pub fn nan_code(&self) -> u32 {
        match self.special {
            Special::Ieee | Special::FiniteNan => self.sign_bit() - 1,
            Special::UnsignedZero => self.sign_bit(),
            Special::Finite => self.max_code(),
        }
    }

    fn decode(&self, bits: u32) -> f64 {
        let magnitude = bits & (self.sign_bit() - 1);
        let sign = if bits & self.sign_bit() != 0 { -1.0 } else { 1.0 };
        let exponent = magnitude >> self.mantissa_bits;
        let mantissa =
            f64::from(magnitude & ((1 << self.mantissa_bits) - 1)) / f64::from(1 << self.mantissa_bits);
        let top = (1 << self.exponent_bits) - 1;
        match self.special {
            Special::Ieee if exponent == top => {
                return if mantissa == 0.0 { sign * f64::INFINITY } else { f64::NAN };
            }
            Special::FiniteNan if magnitude == self.sign_bit() - 1 => return f64::NAN,
            Special::UnsignedZero if bits == self.sign_bit() => return f64::NAN,
            _ => {}
        }
        let (significand, power) = if exponent == 0 {
            (mantissa, 1 - self.bias)
        } else {
            (1.0 + mantissa, exponent as i32 - self.bias)
        };
        sign * significand * 2f64.powi(power)
    }

    /// Largest finite code.
    pub fn max_code(&self) -> u32 {
        let all = self.sign_bit() - 1;
        match self.special {
            Special::Ieee => (((1 << self.exponent_bits) - 1) << self.mantissa_bits) - 1,
            Special::FiniteNan => all - 1,
            Special::UnsignedZero | Special::Finite => all,
        }
    }

    /// Nearest code, ties to even. Beyond the largest finite value: infinity
    /// where the format has one, else NaN where it has that, else the largest.
    fn encode(&self, value: f64) -> u32 {
        if value.is_nan() {
            return self.nan_code();
        }
        let sign = if value.is_sign_negative() { self.sign_bit() } else { 0 };
        let magnitude = value.abs();
        let max = self.max_code();
        // Codes are ordered like the values, so the nearest code is found by bisection.
        let (mut low, mut high) = (0, max);
        while low < high {
            let middle = (low + high).div_ceil(2);
            if self.decode(middle) <= magnitude { low = middle } else { high = middle - 1 }
        }
        let below = self.decode(low);
        let step = if low < max { self.decode(low + 1) - below } else { below - self.decode(low - 1) };
        let rest = magnitude - below;
        let code = if rest > step / 2.0 || (rest == step / 2.0 && low % 2 == 1) { low + 1 } else { low };
        if code > max {
            return match self.special {
                Special::Ieee => sign | (max + 1),
                Special::FiniteNan | Special::UnsignedZero => self.nan_code(),
                Special::Finite => sign | max,
            };
        }
        if code == 0 && self.special == Special::UnsignedZero { 0 } else { sign | code }
    }
}

/// `f64` rounded once to `f32`-like formats narrower than it.
fn round_bf16(value: f64) -> u16 {
    // Round to odd in f32 first, so that the second rounding is correct.
    half::bf16::from_f32(round_to_odd_f32(value)).to_bits()
}

fn round_f16(value: f64) -> u16 {
    half::f16::from_f32(round_to_odd_f32(value)).to_bits()
}

fn round_to_odd_f32(value: f64) -> f32 {
    let nearest = value as f32;
    if nearest.is_nan() || f64::from(nearest) == value || nearest.is_infinite() {
        return nearest;
    }
    let bits = nearest.to_bits();
    if bits & 1 == 1 {
        return nearest;
    }
    // The neighbour on the other side of `value` has an odd significand.
    let away = value.abs() > f64::from(nearest).abs();
    f32::from_bits(if away { bits + 1 } else { bits.wrapping_sub(1) })
}

impl Number {
    /// The value as a float; `None` for complex numbers.
    pub fn as_f64(self) -> Option<f64> {
        match self {
            Number::Float(value) => Some(value),
            Number::Int(value) => Some(value as f64),
            Number::Complex(..) => None,
        }
    }

    /// Converts as `Cast` does: float to int truncates and saturates with NaN
    /// to 0, int to int wraps, anything to `bool` is `!= 0`, complex to real
    /// drops the imaginary part.
    pub fn cast(self, to: DType) -> Number {
        let real = match self {
            Number::Complex(re, im) => {
                if to.is_complex() {
                    return self;
                }
                if to == DType::Bool {
                    return Number::Int(i128::from(re != 0.0 || im != 0.0));
                }
                Number::Float(re)
            }
            other => other,
        };
        match (to.class(), real) {
            (DTypeClass::Bool, Number::Int(value)) => Number::Int(i128::from(value != 0)),
            (DTypeClass::Bool, Number::Float(value)) => Number::Int(i128::from(value != 0.0)),
            (DTypeClass::Signed | DTypeClass::Unsigned, Number::Float(value)) => {
                let (min, max) = to.int_range().unwrap_or((0, 0));
                Number::Int((value as i128).clamp(min, max))
            }
            (DTypeClass::Signed | DTypeClass::Unsigned, Number::Int(value)) => Number::Int(wrap(to, value)),
            // Blocks hold no single numbers.
            (DTypeClass::Block, _) => Number::Float(f64::NAN),
            (DTypeClass::Complex, value) => Number::Complex(value.as_f64().unwrap_or(f64::NAN), 0.0),
            (_, value) => Number::Float(round_float(to, value)),
        }
    }
}

/// `value` reduced modulo the width of integer type `dtype`.
pub fn wrap(dtype: DType, value: i128) -> i128 {
    let bits = dtype.block_bits() as u32;
    let shift = 128 - bits;
    match dtype.class() {
        DTypeClass::Signed => (value << shift) >> shift,
        DTypeClass::Unsigned => ((value << shift) as u128 >> shift) as i128,
        _ => i128::from(value != 0),
    }
}

/// `value` as the nearest number of float type `dtype`.
fn round_float(dtype: DType, value: Number) -> f64 {
    // Integers wider than 53 bits round once, straight to the target.
    let value = match (dtype, value) {
        (DType::F32, Number::Int(int)) => return f64::from(int as f32),
        (_, other) => other.as_f64().unwrap_or(f64::NAN),
    };
    let mut bytes = [0; 8];
    let width = encode(dtype, Number::Float(value), &mut bytes);
    match decode(dtype, &bytes[..width]) {
        Number::Float(rounded) => rounded,
        _ => f64::NAN,
    }
}

/// Decodes one element of a whole-byte dtype, or the low bits for a sub-byte one.
/// `bytes` holds at least the element; block formats decode to NaN.
pub fn decode(dtype: DType, bytes: &[u8]) -> Number {
    fn array<const N: usize>(bytes: &[u8]) -> [u8; N] {
        let mut out = [0; N];
        for (to, from) in out.iter_mut().zip(bytes) {
            *to = *from;
        }
        out
    }
    match dtype {
        DType::F64 => Number::Float(f64::from_le_bytes(array(bytes))),
        DType::F32 => Number::Float(f64::from(f32::from_le_bytes(array(bytes)))),
        DType::F16 => Number::Float(half::f16::from_le_bytes(array(bytes)).to_f64()),
        DType::BF16 => Number::Float(half::bf16::from_le_bytes(array(bytes)).to_f64()),
        DType::F8E8M0 => Number::Float(match bytes[0] {
            255 => f64::NAN,
            exponent => 2f64.powi(i32::from(exponent) - 127),
        }),
        DType::C64 => Number::Complex(
            f64::from(f32::from_le_bytes(array(bytes))),
            f64::from(f32::from_le_bytes(array(&bytes[4..]))),
        ),
        DType::C128 => {
            Number::Complex(f64::from_le_bytes(array(bytes)), f64::from_le_bytes(array(&bytes[8..])))
        }
        DType::Bool => Number::Int(i128::from(bytes[0] != 0)),
        _ => match mini_float(dtype) {
            Some(format) => Number::Float(format.decode(u32::from(bytes[0]))),
            None if dtype.is_int() => Number::Int(wrap(dtype, i128::from(u64::from_le_bytes(array(bytes))))),
            None => Number::Float(f64::NAN),
        },
    }
}

/// Encodes one element after [`Number::cast`] semantics have been applied by
/// the caller where kinds differ; floats round, integers wrap. Returns the
/// number of bytes written (1 for sub-byte types, in the low bits).
pub fn encode(dtype: DType, value: Number, out: &mut [u8]) -> usize {
    let put = |out: &mut [u8], bytes: &[u8]| {
        out[..bytes.len()].copy_from_slice(bytes);
        bytes.len()
    };
    let (re, im) = match value {
        Number::Float(value) => (value, 0.0),
        Number::Complex(re, im) => (re, im),
        Number::Int(value) => (value as f64, 0.0),
    };
    match dtype {
        DType::F64 => put(out, &re.to_le_bytes()),
        DType::F32 => put(out, &(re as f32).to_le_bytes()),
        DType::F16 => put(out, &round_f16(re).to_le_bytes()),
        DType::BF16 => put(out, &round_bf16(re).to_le_bytes()),
        DType::F8E8M0 => put(out, &[encode_e8m0(re)]),
        DType::C64 => put(out, &(re as f32).to_le_bytes()) + put(&mut out[4..], &(im as f32).to_le_bytes()),
        DType::C128 => put(out, &re.to_le_bytes()) + put(&mut out[8..], &im.to_le_bytes()),
        _ => match mini_float(dtype) {
            Some(format) => put(out, &[format.encode(re) as u8]),
            None => {
                let Number::Int(int) = value.cast(dtype) else { return 0 };
                let width = dtype.block_bits().div_ceil(8).min(8);
                put(out, &(int as u64).to_le_bytes()[..width])
            }
        },
    }
}

fn encode_e8m0(value: f64) -> u8 {
    if value.is_nan() || value <= 0.0 {
        return 255;
    }
    let exponent = value.log2().round_ties_even();
    (exponent + 127.0).clamp(0.0, 254.0) as u8
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn casts_are_settled_by_the_first() {
        for &dtype in DType::ALL {
            for number in
                [Number::Float(1.0), Number::Float(f64::NAN), Number::Int(-3), Number::Complex(2.0, 1.0)]
            {
                let once = number.cast(dtype);
                assert_eq!(format!("{:?}", once.cast(dtype)), format!("{once:?}"), "{number:?} to {dtype}");
            }
        }
    }

    #[test]
    fn every_small_float_code_round_trips() {
        for dtype in
            [DType::F8E4M3, DType::F8E5M2, DType::F8E4M3Fnuz, DType::F8E5M2Fnuz, DType::F4E2M1, DType::F8E8M0]
        {
            let codes = 1u32 << dtype.block_bits();
            for code in 0..codes {
                let value = decode(dtype, &[code as u8]);
                let Number::Float(float) = value else { unreachable!() };
                let mut back = [0];
                encode(dtype, value, &mut back);
                let Number::Float(again) = decode(dtype, &back) else { unreachable!() };
                assert!(
                    again == float || (again.is_nan() && float.is_nan()),
                    "{dtype} {code:#x}: {float} -> {again}"
                );
                if !float.is_nan() && float != 0.0 {
                    assert_eq!(u32::from(back[0]), code, "{dtype}");
                }
            }
        }
    }

    #[test]
    fn known_values() {
        assert_eq!(decode(DType::F8E4M3, &[0x7e]), Number::Float(448.0));
        assert_eq!(decode(DType::F8E5M2, &[0x7b]), Number::Float(57344.0));
        assert_eq!(decode(DType::F8E4M3Fnuz, &[0x7f]), Number::Float(240.0));
        assert_eq!(decode(DType::F4E2M1, &[7]), Number::Float(6.0));
    }

    #[test]
    fn casts_follow_the_contract() {
        assert_eq!(Number::Float(f64::NAN).cast(DType::I32), Number::Int(0));
        assert_eq!(Number::Float(3e10).cast(DType::I32), Number::Int(i128::from(i32::MAX)));
        assert_eq!(Number::Float(-1.9).cast(DType::I8), Number::Int(-1));
        assert_eq!(Number::Float(-1.0).cast(DType::U8), Number::Int(0));
        assert_eq!(Number::Int(300).cast(DType::U8), Number::Int(44));
        assert_eq!(Number::Int((1 << 62) + 1).cast(DType::I64), Number::Int((1 << 62) + 1));
        assert_eq!(Number::Float(f64::NAN).cast(DType::Bool), Number::Int(1));
    }

    #[test]
    fn double_rounding_does_not_happen() {
        // Just above a bf16 tie in f64, but on the tie after rounding to f32.
        let value = 1.0 + 2f64.powi(-8) + 2f64.powi(-40);
        assert_eq!(Number::Float(value).cast(DType::BF16), Number::Float(1.0 + 2f64.powi(-7)));
        // The same for f16, at a normal and at a subnormal number, and with either sign.
        for (unit, sign) in [(1.0, 1.0), (1.0, -1.0), (2f64.powi(-20), 1.0)] {
            let ulp = if unit == 1.0 { 2f64.powi(-10) } else { 2f64.powi(-24) };
            let above = sign * (unit + ulp / 2.0 + ulp * 2f64.powi(-30));
            assert_eq!(Number::Float(above).cast(DType::F16), Number::Float(sign * (unit + ulp)), "{above}");
            let below = sign * (unit + ulp * 1.5 - ulp * 2f64.powi(-30));
            assert_eq!(Number::Float(below).cast(DType::F16), Number::Float(sign * (unit + ulp)), "{below}");
        }
    }
}
