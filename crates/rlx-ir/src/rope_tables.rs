//! Tables of cosines and sines for [`rope`](crate::ops::Rope), with the usual
//! ways to stretch a model past the length it was trained on.
//!
//! Everything is computed in f64 and rounded once. The formulas are those of
//! the papers as the Hugging Face configurations parametrise them.

use crate::dtype::DType;
use crate::literal::{Literal, LiteralError};
use crate::number::Number;
use std::f64::consts::TAU;

/// How frequencies are stretched.
#[derive(Clone, Debug, PartialEq, Default)]
pub enum RopeScaling {
    /// As trained.
    #[default]
    None,
    /// Every position divided by `factor`.
    Linear {
        /// Stretch.
        factor: f64,
    },
    /// The base raised so that the lowest frequency is divided by `factor`.
    Ntk {
        /// Stretch.
        factor: f64,
    },
    /// As `Ntk`, with a stretch that follows the length; none up to the trained one.
    DynamicNtk {
        /// Stretch at the trained length.
        factor: f64,
        /// Length in use.
        length: f64,
        /// Length in training.
        trained_length: f64,
    },
    /// Low frequencies divided by `factor`, high ones kept, a ramp between.
    Yarn {
        /// Stretch.
        factor: f64,
        /// Length in training.
        trained_length: f64,
        /// Turns over the trained length above which a frequency is kept (usually 32).
        beta_fast: f64,
        /// Turns below which it is divided (usually 1).
        beta_slow: f64,
        /// Round the ends of the ramp to whole pairs? (usually true)
        truncate: bool,
        /// Factor of the tables; none means `0.1 ln(factor) + 1`.
        attention_factor: Option<f64>,
    },
    /// As `Yarn` with a ramp over wavelengths and no factor of the tables (Llama 3.1).
    Llama3 {
        /// Stretch.
        factor: f64,
        /// Turns over the trained length below which a frequency is divided (usually 1).
        low_freq_factor: f64,
        /// Turns above which it is kept (usually 4).
        high_freq_factor: f64,
        /// Length in training.
        trained_length: f64,
    },
    /// A divisor for each frequency (LongRope, GGUF `rope_freqs`).
    Divisors {
        /// One per pair.
        divisors: Vec<f64>,
        /// Factor of the tables.
        attention_factor: f64,
    },
}

/// The factor of the scores in YaRN as DeepSeek uses it: `0.1 mscale ln(factor) + 1`.
pub fn yarn_mscale(factor: f64, mscale: f64) -> f64 {
    if factor <= 1.0 { 1.0 } else { 0.1 * mscale * factor.ln() + 1.0 }
}

/// Angle per position of each of the `n_rot / 2` pairs, in radians.
pub fn inverse_frequencies(n_rot: usize, theta: f64, scaling: &RopeScaling) -> Vec<f64> {
    let dim = n_rot as f64;
    let stretched = |factor: f64| theta * factor.powf(dim / (dim - 2.0));
    let base = match scaling {
        RopeScaling::Ntk { factor } => stretched(*factor),
        RopeScaling::DynamicNtk { factor, length, trained_length } if length > trained_length => {
            stretched(factor * length / trained_length - (factor - 1.0))
        }
        _ => theta,
    };
    let trained = |pair: usize| base.powf(-2.0 * pair as f64 / dim);
    (0..n_rot / 2).map(|pair| stretch(trained(pair), pair, dim, theta, scaling)).collect()
}

/// `frequency`, that of `pair`, after what `scaling` does to single frequencies.
fn stretch(frequency: f64, pair: usize, dim: f64, theta: f64, scaling: &RopeScaling) -> f64 {
    match scaling {
        RopeScaling::None | RopeScaling::Ntk { .. } | RopeScaling::DynamicNtk { .. } => frequency,
        RopeScaling::Linear { factor } => frequency / factor,
        RopeScaling::Yarn { factor, trained_length, beta_fast, beta_slow, truncate, .. } => {
            // The pair that turns so many times over the trained length.
            let pair_of = |turns: f64| dim * (trained_length / (turns * TAU)).ln() / (2.0 * theta.ln());
            let (mut low, mut high) = (pair_of(*beta_fast), pair_of(*beta_slow));
            if *truncate {
                (low, high) = (low.floor(), high.ceil());
            }
            (low, high) = (low.max(0.0), high.min(dim - 1.0));
            if low == high {
                high += 0.001;
            }
            let ramp = ((pair as f64 - low) / (high - low)).clamp(0.0, 1.0);
            frequency / factor * ramp + frequency * (1.0 - ramp)
        }
        RopeScaling::Llama3 { factor, low_freq_factor, high_freq_factor, trained_length } => {
            let turns = trained_length * frequency / TAU;
            if turns < *low_freq_factor {
                return frequency / factor;
            }
            if turns > *high_freq_factor {
                return frequency;
            }
            let kept = (turns - low_freq_factor) / (high_freq_factor - low_freq_factor);
            (1.0 - kept) * frequency / factor + kept * frequency
        }
        RopeScaling::Divisors { divisors, .. } => frequency / divisors.get(pair).copied().unwrap_or(1.0),
    }
}

/// The factor that the tables carry.
pub fn attention_factor(scaling: &RopeScaling) -> f64 {
    match scaling {
        RopeScaling::Yarn { factor, attention_factor, .. } => {
            attention_factor.unwrap_or_else(|| yarn_mscale(*factor, 1.0))
        }
        RopeScaling::Divisors { attention_factor, .. } => *attention_factor,
        _ => 1.0,
    }
}

/// Cosine and sine tables `[rows, n_rot / 2]` in `dtype`, row `p` for position `p`.
///
/// # Errors
/// Tables that do not fit memory.
pub fn rope_tables(
    rows: usize,
    n_rot: usize,
    theta: f64,
    scaling: &RopeScaling,
    dtype: DType,
) -> Result<(Literal, Literal), LiteralError> {
    let dims = [rows, n_rot / 2];
    let too_large = || LiteralError::TooLarge { dtype, dims: dims.to_vec() };
    let elements = crate::literal::element_count(&dims).ok_or_else(too_large)?;
    let frequencies = inverse_frequencies(n_rot, theta, scaling);
    let factor = attention_factor(scaling);
    let table = |function: fn(f64) -> f64| {
        let mut numbers = Vec::new();
        numbers.try_reserve_exact(elements).map_err(|_| too_large())?;
        for row in 0..rows {
            let value = |frequency: &f64| Number::Float(factor * function(row as f64 * frequency));
            numbers.extend(frequencies.iter().map(value));
        }
        Literal::from_numbers(dtype, &dims, numbers)
    };
    Ok((table(f64::cos)?, table(f64::sin)?))
}
