//! Which elements, with which weights, make an element of a resized axis.
//! Positions by the ratio of two extents are exact fractions.

use super::{CoordinateMode, NearestRounding, Resize, ResizeMode};

/// Elements of the input axis and their weights.
pub(super) type Taps = Vec<(usize, f64)>;

/// A source position: the element before it and how far it lies behind that, in `[0, 1)`.
struct Source {
    floor: i64,
    fraction: f64,
}

/// Taps of each of the `size` elements that an axis of `extent` becomes. `position` is that of the axis in `axes`.
pub(super) fn all(op: &Resize, position: usize, extent: usize, size: usize) -> Vec<Taps> {
    let scale = op.scales.get(position).map(|scale| scale.0);
    (0..size).map(|element| taps(op, &source(op.coordinates, scale, element, extent, size), extent)).collect()
}

fn source(mode: CoordinateMode, scale: Option<f64>, element: usize, extent: usize, size: usize) -> Source {
    let (i, input, result) = (element as i64, extent as i64, size as i64);
    let fraction = |numerator: i64, denominator: i64| Source {
        floor: numerator.div_euclid(denominator),
        fraction: numerator.rem_euclid(denominator) as f64 / denominator as f64,
    };
    let single = result == 1;
    match (mode, scale) {
        (CoordinateMode::AlignCorners | CoordinateMode::PytorchHalfPixel, _) if single => fraction(0, 1),
        (CoordinateMode::AlignCorners, _) => fraction(i * (input - 1), result - 1),
        (CoordinateMode::Asymmetric, None) => fraction(i * input, result),
        (_, None) => fraction((2 * i + 1) * input - result, 2 * result),
        (_, Some(scale)) => {
            let centre = match mode {
                CoordinateMode::Asymmetric => i as f64 / scale,
                _ => (i as f64 + 0.5) / scale - 0.5,
            };
            let moved = match mode {
                CoordinateMode::HalfPixelSymmetric => {
                    let input = input as f64;
                    input / 2.0 * (1.0 - result as f64 / (scale * input))
                }
                _ => 0.0,
            };
            let position = centre + moved;
            Source { floor: position.floor() as i64, fraction: position - position.floor() }
        }
    }
}

fn taps(op: &Resize, source: &Source, extent: usize) -> Taps {
    let Source { floor, fraction } = *source;
    let weights: Vec<(i64, f64)> = match op.mode {
        ResizeMode::Nearest => {
            let up = match op.rounding {
                Some(NearestRounding::Ceil) => fraction > 0.0,
                Some(NearestRounding::RoundPreferCeil) => fraction >= 0.5,
                Some(NearestRounding::Floor) => false,
                Some(NearestRounding::RoundPreferFloor) | None => fraction > 0.5,
            };
            vec![(floor.saturating_add(i64::from(up)), 1.0)]
        }
        ResizeMode::Linear => vec![(floor, 1.0 - fraction), (floor.saturating_add(1), fraction)],
        ResizeMode::Cubic => {
            let a = op.cubic_coefficient.map_or(-0.75, |coefficient| coefficient.0);
            let at = |offset: i64| {
                let weight = cubic_weight(a, (offset as f64 - fraction).abs());
                (floor.saturating_add(offset), weight)
            };
            (-1..=2).map(at).collect()
        }
    };
    let outside = |element: i64| element < 0 || element >= extent as i64;
    let kept = |&(element, weight): &(i64, f64)| {
        if op.exclude_outside && outside(element) { 0.0 } else { weight }
    };
    let sum: f64 = if op.exclude_outside { weights.iter().map(kept).sum() } else { 1.0 };
    let last = extent.saturating_sub(1) as i64;
    let clamped = |tap: &(i64, f64)| (tap.0.clamp(0, last) as usize, kept(tap) / sum);
    weights.iter().map(clamped).collect()
}

/// The cubic convolution kernel with coefficient `a` at `distance` in `[0, 2]`.
fn cubic_weight(a: f64, distance: f64) -> f64 {
    let d = distance;
    if d <= 1.0 {
        ((a + 2.0) * d - (a + 3.0)) * d * d + 1.0
    } else {
        ((a * d - 5.0 * a) * d + 8.0 * a) * d - 4.0 * a
    }
}
