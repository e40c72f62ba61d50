//! How far a result may be from the reference, and the one comparator.

use crate::dtype::DType;
use crate::literal::Literal;
use crate::number::Number;

/// Accuracy class of an op. Kernels are compared with the reference under it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Accuracy {
    /// Bit for bit (any NaN equals any NaN).
    Exact,
    /// One rounding to the dtype: half a unit in the last place, one with excess precision.
    Rounding,
    /// At most this many units in the last place.
    Approx {
        /// Units in the last place of the result dtype.
        ulp: f64,
    },
    /// A sum of `terms` products: the error is bounded by the sum of magnitudes.
    Accumulated {
        /// Number of accumulated terms.
        terms: usize,
    },
    /// Solvers and factorisations, whose results are fixed: the error is at most so many roundings of the largest
    /// element, where the problem is well conditioned.
    Residual {
        /// Units of rounding of the largest element.
        factor: f64,
    },
    /// Random numbers: the same stream.
    Random,
}

/// Distance from 1 to the next number of a float dtype.
pub fn epsilon(dtype: DType) -> f64 {
    match dtype {
        DType::F64 | DType::C128 => f64::EPSILON,
        DType::F32 | DType::C64 => f64::from(f32::EPSILON),
        DType::F16 => 2f64.powi(-10),
        DType::BF16 => 2f64.powi(-7),
        DType::F8E4M3 | DType::F8E4M3Fnuz => 0.125,
        DType::F8E5M2 | DType::F8E5M2Fnuz => 0.25,
        _ => 0.0,
    }
}

/// Smallest positive number of a float dtype, the unit near zero.
fn tiny(dtype: DType) -> f64 {
    match dtype {
        DType::F64 | DType::C128 => f64::from_bits(1),
        DType::F16 => 2f64.powi(-24),
        DType::F8E4M3 | DType::F8E4M3Fnuz => 2f64.powi(-10),
        DType::F8E5M2 | DType::F8E5M2Fnuz => 2f64.powi(-17),
        _ => f64::from(f32::from_bits(1)),
    }
}

/// First element where `actual` is not an acceptable form of `expected`.
///
/// `scale` is the magnitude that an [`Accuracy::Accumulated`] error is relative
/// to, per element (the sum of the magnitudes of the accumulated terms); where
/// it is not known, the largest finite magnitude of `expected` stands for it.
///
/// # Errors
/// A description of the first difference, with position and bound.
pub fn compare(
    actual: &Literal,
    expected: &Literal,
    accuracy: Accuracy,
    scale: Option<&[f64]>,
) -> Result<(), String> {
    if actual.ty() != expected.ty() {
        return Err(format!("type {} where {} is expected", actual.ty(), expected.ty()));
    }
    let dtype = expected.dtype();
    if dtype.block_elements() > 1 {
        let pairs = actual.bytes().iter().zip(expected.bytes());
        let off = pairs.enumerate().find(|(_, (a, e))| a != e);
        return off.map_or(Ok(()), |(at, (a, e))| Err(format!("byte {at} is {a:#x}, expected {e:#x}")));
    }
    let largest =
        expected.to_f64s().into_iter().filter(|x| x.is_finite()).fold(0.0, |m: f64, x| m.max(x.abs()));
    for index in 0..expected.len() {
        let (a, e) = (actual.number(index), expected.number(index));
        let magnitude = scale.map_or(largest, |scale| scale[index]);
        let (pairs, count) = match (a, e) {
            (Number::Float(a), Number::Float(e)) => ([(a, e), (0.0, 0.0)], 1),
            (Number::Complex(ar, ai), Number::Complex(er, ei)) => ([(ar, er), (ai, ei)], 2),
            _ if a == e => continue,
            _ => return Err(format!("element {index} is {a:?}, expected {e:?}")),
        };
        for &(a, e) in &pairs[..count] {
            if a == e || (a.is_nan() && e.is_nan()) {
                continue;
            }
            let bound = bound(accuracy, dtype, e, magnitude);
            // An overflow at the edge of the range is one rounding away from the largest number.
            let close = (a - e).abs() <= bound;
            if !close {
                return Err(format!(
                    "element {index} is {a:e}, expected {e:e}, off by {:e}, bound {bound:e} ({accuracy:?})",
                    (a - e).abs()
                ));
            }
        }
    }
    Ok(())
}

fn bound(accuracy: Accuracy, dtype: DType, expected: f64, magnitude: f64) -> f64 {
    let unit = (expected.abs() * epsilon(dtype)).max(tiny(dtype));
    match accuracy {
        Accuracy::Exact | Accuracy::Random => 0.0,
        Accuracy::Rounding => unit,
        Accuracy::Approx { ulp } => ulp * unit,
        Accuracy::Residual { factor } => factor * epsilon(dtype) * magnitude,
        Accuracy::Accumulated { terms } => {
            // Accumulation is in f32 at least, then one rounding to the dtype.
            let accumulate =
                epsilon(if dtype == DType::F64 || dtype == DType::C128 { dtype } else { DType::F32 });
            let gamma = (terms.max(1) as f64 + 4.0) * accumulate;
            gamma * magnitude.max(expected.abs()) + 2.0 * unit
        }
    }
}
