//! A training step as one graph.
//!
//! Trained params of the loss graph become states, which the step updates in place; the other params are frozen. The
//! step takes the inputs of the loss graph and `learning_rate`, `f32[]`. Where gradients are accumulated it takes
//! `update`, `bool[]`, too: a run without it only adds to the sums. It gives the outputs of the loss graph,
//! `gradient_norm`, `f32[]`, before clipping, and with loss scaling `skipped`, `bool[]`.

use crate::adapt::copy_with;
use crate::error::TrainError;
use crate::optimizer::{Optimizer, Updates};
use rlx_autodiff::vjp;
use rlx_ir::ops::ReduceKind;
use rlx_ir::{DType, Graph, Op, TensorType, Value};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// Gradients in half precision: the loss is multiplied before they are taken, so that small ones do not vanish.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LossScaling {
    /// The factor of the first step.
    #[serde(default = "first_scale")]
    pub initial: f64,
    /// Steps without overflow after which it doubles; a step with overflow is left out and halves it.
    #[serde(default = "growth_interval")]
    pub growth_interval: u32,
}

fn first_scale() -> f64 {
    65536.0
}
fn growth_interval() -> u32 {
    2000
}

impl Default for LossScaling {
    fn default() -> Self {
        LossScaling { initial: first_scale(), growth_interval: growth_interval() }
    }
}

/// How a step is built.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct StepOptions {
    /// What turns gradients into updates.
    pub optimizer: Optimizer,
    /// Shrinking of matrices per step, times the learning rate.
    pub weight_decay: f64,
    /// Gradients whose norm, all together, is greater are scaled down to it.
    pub clip_norm: Option<f64>,
    /// For half precision.
    pub loss_scaling: Option<LossScaling>,
    /// Runs whose gradients are averaged for one update.
    pub accumulate: usize,
}

/// State that counts updates.
pub(crate) const UPDATES: &str = "optimizer:updates";
/// State that holds the loss scale.
pub(crate) const SCALE: &str = "optimizer:loss_scale";
const GOOD_STEPS: &str = "optimizer:good_steps";

/// The training step of `loss`, whose output `output` is one real number, with respect to the params `trained`.
///
/// # Errors
/// Names that are not there, an op that has no derivative, options that make no sense.
pub fn training_step(
    loss: &Graph,
    output: &str,
    trained: &[&str],
    options: &StepOptions,
) -> Result<Graph, TrainError> {
    check(options)?;
    let with_gradients = vjp(loss, &[output], trained)?;
    let cotangent = format!("cotangent:{output}");
    let mut step = loss.emptied();
    let rate = step.input("learning_rate", TensorType::new(DType::F32, [0usize; 0]));
    let loss_scale =
        options.loss_scaling.map(|_| step.state(SCALE, TensorType::new(DType::F32, [0usize; 0])));
    let mut states = BTreeMap::new();
    let values = copy_with(&with_gradients, &mut step, |step, node, _| match &node.op {
        Op::Param(param) if trained.contains(&param.name.as_str()) => {
            let state = step.state(param.name.as_str(), node.types[0].clone());
            states.insert(param.name.clone(), state);
            Some(vec![state])
        }
        Op::Input(input) if input.name == cotangent => {
            let one = step.full(node.types[0].dtype, node.types[0].shape.clone(), 1.0);
            let seed = loss_scale.map_or(one, |scale| {
                let scale = step.cast_to(scale, node.types[0].dtype);
                step.mul(one, scale)
            });
            Some(vec![seed])
        }
        _ => None,
    })?;
    let mut gradients = vec![];
    let mut outputs = vec![];
    for output in with_gradients.outputs() {
        let value = values[&output.value];
        match output.name.strip_prefix("grad:").filter(|name| states.contains_key(*name)) {
            Some(name) => gradients.push((name.to_string(), value)),
            None => outputs.push((output.name.clone(), value)),
        }
    }
    let mut rest = Rest { step: &mut step, options, rate };
    outputs.extend(rest.finish(gradients, &states, loss_scale));
    step.set_outputs(outputs);
    Ok(step.finish()?)
}

fn check(options: &StepOptions) -> Result<(), TrainError> {
    options.optimizer.check()?;
    if !(options.weight_decay >= 0.0 && options.weight_decay.is_finite()) {
        return Err(TrainError::setting("weight_decay", options.weight_decay, "0 or a positive number"));
    }
    if let Some(norm) = options.clip_norm.filter(|norm| !(*norm > 0.0 && norm.is_finite())) {
        return Err(TrainError::setting("clip_norm", norm, "a positive number"));
    }
    if let Some(scaling) = options.loss_scaling
        && !(scaling.initial >= 1.0 && scaling.initial.is_finite() && scaling.growth_interval > 0)
    {
        let found = format!("{} growing after {} steps", scaling.initial, scaling.growth_interval);
        return Err(TrainError::setting(
            "loss_scaling",
            found,
            "a number from 1, growing after 1 step or more",
        ));
    }
    Ok(())
}

/// What follows the gradients.
struct Rest<'a> {
    step: &'a mut Graph,
    options: &'a StepOptions,
    rate: Value,
}

impl Rest<'_> {
    fn finish(
        &mut self,
        gradients: Vec<(String, Value)>,
        states: &BTreeMap<String, Value>,
        loss_scale: Option<Value>,
    ) -> Vec<(String, Value)> {
        let wide = |g: &mut Graph, value: Value| g.cast_to(value, DType::F32);
        let mut gradients: Vec<(String, Value)> =
            gradients.into_iter().map(|(name, value)| (name, wide(self.step, value))).collect();
        if let Some(scale) = loss_scale {
            for (_, gradient) in &mut gradients {
                *gradient = self.step.div(*gradient, scale);
            }
        }
        let mut apply = None;
        if self.options.accumulate > 1 {
            let update = self.step.input("update", TensorType::new(DType::Bool, [0usize; 0]));
            apply = Some(update);
            self.accumulate(&mut gradients, update);
        }
        let norm = self.norm(&gradients);
        let mut outputs = vec![("gradient_norm".to_string(), norm)];
        if let Some(most) = self.options.clip_norm {
            let (most, one) = (self.step.scalar(DType::F32, most), self.step.scalar(DType::F32, 1.0));
            let least = self.step.scalar(DType::F32, 1e-6);
            let divisor = self.step.add(norm, least);
            let factor = self.step.div(most, divisor);
            let factor = self.step.minimum(factor, one);
            for (_, gradient) in &mut gradients {
                *gradient = self.step.mul(*gradient, factor);
            }
        }
        if let (Some(scaling), Some(scale)) = (self.options.loss_scaling, loss_scale) {
            let finite = self.is_finite(norm);
            self.rescale(scaling, scale, finite, apply);
            let skipped = self.step.not(finite);
            let both = match apply {
                Some(update) => self.step.and(update, finite),
                None => finite,
            };
            apply = Some(both);
            outputs.push(("skipped".to_string(), skipped));
        }
        let count = self.step.state(UPDATES, TensorType::new(DType::F32, [0usize; 0]));
        let one = self.step.scalar(DType::F32, 1.0);
        let number = self.step.add(count, one);
        let mut updates = Updates {
            graph: self.step,
            optimizer: self.options.optimizer,
            rate: self.rate,
            number,
            weight_decay: self.options.weight_decay,
            apply,
        };
        updates.store(UPDATES, count, number);
        for (name, gradient) in gradients {
            updates.update(&name, states[&name], gradient);
        }
        outputs
    }

    /// Sums over runs; the gradients become their mean.
    fn accumulate(&mut self, gradients: &mut [(String, Value)], update: Value) {
        let share = self.step.scalar(DType::F32, 1.0 / self.options.accumulate as f64);
        for (name, gradient) in gradients {
            let state_name = format!("optimizer:{name}:sum");
            let ty = self.step.ty(*gradient).clone();
            let state = self.step.state(state_name.as_str(), ty);
            let part = self.step.mul(*gradient, share);
            let sum = self.step.add(state, part);
            let zeros = self.step.zeros_like(sum);
            let kept = self.step.where_(update, zeros, sum);
            self.step.update_state(state_name, kept);
            *gradient = sum;
        }
    }

    fn norm(&mut self, gradients: &[(String, Value)]) -> Value {
        let mut total = self.step.scalar(DType::F32, 0.0);
        for &(_, gradient) in gradients {
            let axes: Vec<usize> = (0..self.step.ty(gradient).rank()).collect();
            let square = self.step.mul(gradient, gradient);
            let sum = self.step.reduce(square, ReduceKind::Sum, axes, false);
            total = self.step.add(total, sum);
        }
        self.step.sqrt(total)
    }

    fn is_finite(&mut self, norm: Value) -> Value {
        let infinity = self.step.scalar(DType::F32, f64::INFINITY);
        self.step.compare_lt(norm, infinity)
    }

    /// The next loss scale.
    fn rescale(&mut self, scaling: LossScaling, scale: Value, finite: Value, update: Option<Value>) {
        let scalar = |g: &mut Graph, value: f64| g.scalar(DType::F32, value);
        let g = &mut *self.step;
        let good = g.state(GOOD_STEPS, TensorType::new(DType::F32, [0usize; 0]));
        let [zero, one, half, two] = [0.0, 1.0, 0.5, 2.0].map(|value| scalar(g, value));
        let more = g.add(good, one);
        let interval = scalar(g, f64::from(scaling.growth_interval));
        let grows = g.compare_ge(more, interval);
        let (grown, shrunk) = (g.mul(scale, two), g.mul(scale, half));
        let shrunk = g.maximum(shrunk, one);
        let after_good = g.where_(grows, grown, scale);
        let next = g.where_(finite, after_good, shrunk);
        let count = g.where_(grows, zero, more);
        let count = g.where_(finite, count, zero);
        for (name, state, new) in [(SCALE, scale, next), (GOOD_STEPS, good, count)] {
            let kept = match update {
                Some(update) => g.where_(update, new, state),
                None => new,
            };
            g.update_state(name, kept);
        }
    }
}
