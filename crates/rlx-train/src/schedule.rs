//! Learning rates over time, as functions of the step alone.

use crate::error::TrainError;
use serde::{Deserialize, Serialize};

/// What becomes of the learning rate after its warm-up.
#[derive(Clone, Copy, Debug, PartialEq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Decay {
    /// It stays.
    Constant,
    /// It falls in a straight line to its floor at the last step.
    Linear,
    /// It falls along half a cosine to its floor at the last step.
    #[default]
    Cosine,
    /// It falls with the inverse square root of the step.
    InverseSqrt,
}

/// A learning rate over the steps of a run.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LearningRate {
    /// The highest rate.
    pub peak: f64,
    /// Steps over which it rises from 0 in a straight line.
    #[serde(default)]
    pub warm_up: u64,
    /// What comes after.
    #[serde(default)]
    pub decay: Decay,
    /// The lowest rate of the decay, as a share of the peak.
    #[serde(default)]
    pub floor: f64,
}

impl LearningRate {
    /// The same rate for all steps.
    pub fn constant(peak: f64) -> LearningRate {
        LearningRate { peak, warm_up: 0, decay: Decay::Constant, floor: 0.0 }
    }

    /// The rate of step `step`, counted from 1, of `steps`.
    pub fn at(&self, step: u64, steps: u64) -> f64 {
        if step <= self.warm_up {
            return self.peak * step as f64 / self.warm_up as f64;
        }
        let span = steps.saturating_sub(self.warm_up).max(1) as f64;
        let done = ((step - self.warm_up) as f64 / span).min(1.0);
        let share = match self.decay {
            Decay::Constant => return self.peak,
            Decay::InverseSqrt => {
                let share = (self.warm_up.max(1) as f64 / step as f64).sqrt();
                return self.peak * share.max(self.floor);
            }
            Decay::Linear => 1.0 - done,
            Decay::Cosine => 0.5 * (1.0 + (std::f64::consts::PI * done).cos()),
        };
        self.peak * (self.floor + (1.0 - self.floor) * share)
    }

    /// Checks the settings.
    ///
    /// # Errors
    /// A rate that is not positive and finite, a floor outside 0 to 1.
    pub fn check(&self) -> Result<(), TrainError> {
        if !(self.peak.is_finite() && self.peak > 0.0) {
            return Err(TrainError::setting("learning_rate.peak", self.peak, "a positive number"));
        }
        if !(0.0..=1.0).contains(&self.floor) {
            return Err(TrainError::setting("learning_rate.floor", self.floor, "a share from 0 to 1"));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rates_rise_and_fall() {
        let rate = LearningRate { peak: 2.0, warm_up: 10, decay: Decay::Linear, floor: 0.1 };
        let near = |step: u64, expected: f64| {
            assert!((rate.at(step, 110) - expected).abs() < 1e-12, "{step}: {}", rate.at(step, 110));
        };
        near(1, 0.2);
        near(10, 2.0);
        near(60, 2.0 * 0.55);
        near(110, 0.2);
        near(500, 0.2);
        let cosine = LearningRate { decay: Decay::Cosine, floor: 0.0, ..rate };
        assert!((cosine.at(60, 110) - 1.0).abs() < 1e-12 && cosine.at(110, 110).abs() < 1e-12);
        let root = LearningRate { decay: Decay::InverseSqrt, floor: 0.0, ..rate };
        assert!((root.at(40, 110) - 1.0).abs() < 1e-12);
        assert_eq!(LearningRate::constant(0.5).at(7, 7), 0.5);
    }

    #[test]
    fn senseless_rates_are_refused() {
        for rate in [0.0, -1.0, f64::NAN, f64::INFINITY] {
            assert!(LearningRate::constant(rate).check().is_err(), "{rate}");
        }
        let floor = LearningRate { floor: 1.5, ..LearningRate::constant(1.0) };
        assert_eq!(
            floor.check().unwrap_err().to_string(),
            "learning_rate.floor is 1.5; expected a share from 0 to 1"
        );
    }
}
