//! Times of steps, over runs with any extents.
//!
//! Other extents may make other steps of the same module. Times of equal names add up, in the order of the steps.

use super::steps::BoundStep;
use rlx_driver::StepTime;
use std::time::Duration;

/// What the steps in force took, and those before them.
#[derive(Default)]
pub struct Times {
    now: Vec<(Duration, u64)>,
    before: Vec<StepTime>,
}

impl Times {
    /// No times yet.
    pub fn new(steps: usize) -> Times {
        Times { now: vec![(Duration::ZERO, 0); steps], before: vec![] }
    }

    /// Step `index` took `time`.
    pub fn add(&mut self, index: usize, time: Duration) {
        self.now[index].0 += time;
        self.now[index].1 += 1;
    }

    /// From now on `count` other steps run instead of `steps`.
    pub fn turn(&mut self, steps: &[BoundStep], count: usize) {
        *self = Times { before: self.all(steps), ..Times::new(count) };
    }

    /// All times, where `steps` are in force.
    pub fn all(&self, steps: &[BoundStep]) -> Vec<StepTime> {
        let mut all = self.before.clone();
        let mut next = 0;
        for (step, &(total, runs)) in steps.iter().zip(&self.now) {
            let name = format!("{} [{}]", step.origin, step.work.name());
            match all[next..].iter().position(|time| time.step == name) {
                Some(found) => {
                    next += found + 1;
                    all[next - 1].total += total;
                    all[next - 1].runs += runs;
                }
                None => all.push(StepTime { step: name, total, runs }),
            }
        }
        all
    }
}
