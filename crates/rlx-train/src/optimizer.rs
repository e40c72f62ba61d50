//! Optimisers, as code that builds the update of a param into a training step.
//!
//! Each keeps what it must remember in states called `optimizer:PARAM:PART`. All arithmetic is in `f32`. Weight decay
//! is decoupled (Loshchilov and Hutter, 2019): it shrinks the param by `rate * decay`, whatever the gradient, and only
//! params of at least two axes, so that biases and norms keep their size.

use crate::error::TrainError;
use rlx_ir::ops::{Activation, ActivationKind, ReduceKind};
use rlx_ir::{DType, Dim, Graph, Shape, TensorType, Value};
use serde::{Deserialize, Serialize};

/// How gradients change params.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case", deny_unknown_fields)]
pub enum Optimizer {
    /// Steps against the gradient.
    Sgd {
        /// Share of the last step that the next one keeps.
        #[serde(default)]
        momentum: f64,
        /// Look ahead by one more momentum?
        #[serde(default)]
        nesterov: bool,
    },
    /// Kingma and Ba, 2015, with decoupled weight decay.
    #[serde(rename = "adamw")]
    AdamW {
        /// Decay of the mean of gradients.
        #[serde(default = "beta1")]
        beta1: f64,
        /// Decay of the mean of their squares.
        #[serde(default = "beta2")]
        beta2: f64,
        /// Keeps the divisor from zero.
        #[serde(default = "epsilon")]
        epsilon: f64,
    },
    /// Chen et al., 2023: steps of one size in the direction of the sign.
    Lion {
        /// Share of the momentum in the direction.
        #[serde(default = "beta1")]
        beta1: f64,
        /// Decay of the momentum.
        #[serde(default = "lion_beta2")]
        beta2: f64,
    },
    /// Shazeer and Stern, 2018, with the given learning rate: second moments of matrices as one row and one column.
    Adafactor {
        /// The decay at step t is `1 - t^-exponent`.
        #[serde(default = "adafactor_exponent")]
        exponent: f64,
        /// Updates of a greater root mean square are scaled down to this.
        #[serde(default = "one")]
        clip: f64,
    },
    /// Jordan et al., 2024: orthogonal steps of matrices; other params, and those whose names hold one of
    /// `wte`, `wpe`, `embed` or `lm_head`, are updated as by AdamW at `adamw_rate` times the rate.
    Muon {
        /// Decay of the momentum.
        #[serde(default = "muon_momentum")]
        momentum: f64,
        /// Rate of the other params as a share of that of matrices.
        #[serde(default = "muon_adamw_rate")]
        adamw_rate: f64,
    },
}

fn beta1() -> f64 {
    0.9
}
fn beta2() -> f64 {
    0.999
}
fn lion_beta2() -> f64 {
    0.99
}
fn epsilon() -> f64 {
    1e-8
}
fn adafactor_exponent() -> f64 {
    0.8
}
fn one() -> f64 {
    1.0
}
fn muon_momentum() -> f64 {
    0.95
}
fn muon_adamw_rate() -> f64 {
    0.15
}

impl Default for Optimizer {
    fn default() -> Self {
        Optimizer::AdamW { beta1: beta1(), beta2: beta2(), epsilon: epsilon() }
    }
}

/// Coefficients of the polynomial that brings singular values near 1 in few rounds.
const ORTHOGONAL: [f64; 3] = [3.4445, -4.7750, 2.0315];
/// Rounds of it.
const ORTHOGONAL_ROUNDS: usize = 5;
/// Added to squares of gradients that may be zero.
const LEAST_SQUARE: f64 = 1e-30;

impl Optimizer {
    /// Checks the settings.
    ///
    /// # Errors
    /// A decay outside `0 <= decay < 1`, a number that is not positive.
    pub fn check(&self) -> Result<(), TrainError> {
        let decay = |name, value: f64| match (0.0..1.0).contains(&value) {
            true => Ok(()),
            false => Err(TrainError::setting(name, value, "a number from 0 to less than 1")),
        };
        let positive = |name, value: f64| match value > 0.0 && value.is_finite() {
            true => Ok(()),
            false => Err(TrainError::setting(name, value, "a positive number")),
        };
        match *self {
            Optimizer::Sgd { momentum, nesterov } => {
                decay("optimizer.momentum", momentum)?;
                if nesterov && momentum == 0.0 {
                    return Err(TrainError::setting("optimizer.nesterov", true, "a momentum beside it"));
                }
                Ok(())
            }
            Optimizer::AdamW { beta1, beta2, epsilon } => {
                decay("optimizer.beta1", beta1)?;
                decay("optimizer.beta2", beta2)?;
                positive("optimizer.epsilon", epsilon)
            }
            Optimizer::Lion { beta1, beta2 } => {
                decay("optimizer.beta1", beta1)?;
                decay("optimizer.beta2", beta2)
            }
            Optimizer::Adafactor { exponent, clip } => {
                positive("optimizer.exponent", exponent)?;
                positive("optimizer.clip", clip)
            }
            Optimizer::Muon { momentum, adamw_rate } => {
                decay("optimizer.momentum", momentum)?;
                positive("optimizer.adamw_rate", adamw_rate)
            }
        }
    }
}

/// What the updates of all params of a step share.
pub(crate) struct Updates<'g> {
    pub graph: &'g mut Graph,
    pub optimizer: Optimizer,
    /// `f32[]`.
    pub rate: Value,
    /// Number of the update, `f32[]`, from 1.
    pub number: Value,
    pub weight_decay: f64,
    /// Whether this run updates at all, `bool[]`; where it does not, every state stays as it is.
    pub apply: Option<Value>,
}

impl Updates<'_> {
    /// Declares the new content of `state` called `name`, unless this run keeps the old one.
    pub fn store(&mut self, name: &str, state: Value, new: Value) {
        let dtype = self.graph.ty(state).dtype;
        let new = self.graph.cast_to(new, dtype);
        let kept = match self.apply {
            Some(apply) => self.graph.where_(apply, new, state),
            None => new,
        };
        self.graph.update_state(name, kept);
    }

    /// Updates `param`, a state called `name`, by its gradient.
    pub fn update(&mut self, name: &str, param: Value, gradient: Value) {
        let shape = self.graph.ty(param).shape.clone();
        let gradient = self.graph.cast_to(gradient, DType::F32);
        let mut rate = self.rate;
        let direction = match self.optimizer {
            Optimizer::Sgd { momentum: 0.0, .. } => gradient,
            Optimizer::Sgd { momentum, nesterov } => {
                self.momentum(name, &shape, gradient, momentum, nesterov)
            }
            Optimizer::AdamW { beta1, beta2, epsilon } => {
                self.adam(name, &shape, gradient, [beta1, beta2, epsilon])
            }
            Optimizer::Lion { beta1, beta2 } => self.lion(name, &shape, gradient, [beta1, beta2]),
            Optimizer::Adafactor { exponent, clip } => {
                self.adafactor(name, &shape, gradient, [exponent, clip])
            }
            Optimizer::Muon { momentum, .. } if is_hidden_matrix(name, &shape) => {
                let direction = self.momentum(name, &shape, gradient, momentum, true);
                self.orthogonal(direction, &shape)
            }
            Optimizer::Muon { adamw_rate, .. } => {
                rate = self.scaled(rate, adamw_rate);
                self.adam(name, &shape, gradient, [beta1(), beta2(), epsilon()])
            }
        };
        let wide = self.graph.cast_to(param, DType::F32);
        let mut kept = wide;
        if self.weight_decay != 0.0 && shape.rank() > 1 {
            let shrink = self.scaled(rate, self.weight_decay);
            let one = self.number_of(1.0);
            let share = self.graph.sub(one, shrink);
            kept = self.graph.mul(wide, share);
        }
        let change = self.graph.mul(direction, rate);
        let new = self.graph.sub(kept, change);
        self.store(name, param, new);
    }

    fn number_of(&mut self, value: f64) -> Value {
        self.graph.scalar(DType::F32, value)
    }

    fn scaled(&mut self, x: Value, factor: f64) -> Value {
        let factor = self.number_of(factor);
        self.graph.mul(x, factor)
    }

    /// `decay * old + (1 - decay) * new`, with a decay that may be a value.
    fn blend(&mut self, old: Value, new: Value, decay: Value) -> Value {
        let one = self.number_of(1.0);
        let rest = self.graph.sub(one, decay);
        let (old, new) = (self.graph.mul(old, decay), self.graph.mul(new, rest));
        self.graph.add(old, new)
    }

    /// A state of this optimiser and its new content.
    fn remember(
        &mut self,
        name: &str,
        part: &str,
        shape: Shape,
        new: impl FnOnce(&mut Self, Value) -> Value,
    ) -> Value {
        let name = format!("optimizer:{name}:{part}");
        let state = self.graph.state(name.as_str(), TensorType::new(DType::F32, shape));
        let new = new(self, state);
        self.store(&name, state, new);
        new
    }

    fn momentum(&mut self, name: &str, shape: &Shape, gradient: Value, decay: f64, nesterov: bool) -> Value {
        let momentum = self.remember(name, "momentum", shape.clone(), |u, state| {
            let kept = u.scaled(state, decay);
            u.graph.add(kept, gradient)
        });
        if !nesterov {
            return momentum;
        }
        let ahead = self.scaled(momentum, decay);
        self.graph.add(ahead, gradient)
    }

    fn adam(
        &mut self,
        name: &str,
        shape: &Shape,
        gradient: Value,
        [beta1, beta2, epsilon]: [f64; 3],
    ) -> Value {
        let square = self.graph.mul(gradient, gradient);
        let mut mean = |part: &str, new: Value, decay: f64| {
            let moment = self.remember(name, part, shape.clone(), |u, state| {
                let decay = u.number_of(decay);
                u.blend(state, new, decay)
            });
            // The mean of few steps from zero is too small by this.
            let (decay, one) = (self.number_of(decay), self.number_of(1.0));
            let rest = self.graph.pow(decay, self.number);
            let share = self.graph.sub(one, rest);
            self.graph.div(moment, share)
        };
        let first = mean("first_moment", gradient, beta1);
        let second = mean("second_moment", square, beta2);
        let root = self.graph.sqrt(second);
        let epsilon = self.number_of(epsilon);
        let divisor = self.graph.add(root, epsilon);
        self.graph.div(first, divisor)
    }

    fn lion(&mut self, name: &str, shape: &Shape, gradient: Value, [beta1, beta2]: [f64; 2]) -> Value {
        let mut direction = Value::POISON;
        self.remember(name, "momentum", shape.clone(), |u, state| {
            let [now, next] = [beta1, beta2].map(|decay| {
                let decay = u.number_of(decay);
                u.blend(state, gradient, decay)
            });
            direction = u.graph.push(Activation::of(ActivationKind::Sign), &[now]);
            next
        });
        direction
    }

    fn adafactor(&mut self, name: &str, shape: &Shape, gradient: Value, [exponent, clip]: [f64; 2]) -> Value {
        let least = self.number_of(LEAST_SQUARE);
        let square = self.graph.mul(gradient, gradient);
        let square = self.graph.add(square, least);
        let (exponent, one) = (self.number_of(-exponent), self.number_of(1.0));
        let rest = self.graph.pow(self.number, exponent);
        let decay = self.graph.sub(one, rest);
        let rank = shape.rank();
        let second = if rank < 2 {
            self.remember(name, "second_moment", shape.clone(), |u, state| u.blend(state, square, decay))
        } else {
            let mut side = |part: &str, axis: usize| {
                let mean = self.graph.reduce(square, ReduceKind::Mean, vec![axis], true);
                let shape = self.graph.ty(mean).shape.clone();
                self.remember(name, part, shape, |u, state| u.blend(state, mean, decay))
            };
            let (rows, columns) = (side("row_moment", rank - 1), side("column_moment", rank - 2));
            let whole = self.graph.reduce(rows, ReduceKind::Mean, vec![rank - 2], true);
            let product = self.graph.mul(rows, columns);
            self.graph.div(product, whole)
        };
        let root = self.graph.rsqrt(second);
        let update = self.graph.mul(gradient, root);
        let size = self.root_mean_square(update);
        let size = self.scaled(size, 1.0 / clip);
        let divisor = self.graph.maximum(size, one);
        self.graph.div(update, divisor)
    }

    fn root_mean_square(&mut self, x: Value) -> Value {
        let axes: Vec<usize> = (0..self.graph.ty(x).rank()).collect();
        let square = self.graph.mul(x, x);
        let mean = self.graph.reduce(square, ReduceKind::Mean, axes, false);
        self.graph.sqrt(mean)
    }

    /// The nearest matrix with orthogonal rows or columns, about, scaled so that steps of wide and tall matrices
    /// are of one size.
    fn orthogonal(&mut self, matrix: Value, shape: &Shape) -> Value {
        let [rows, columns] = [0, 1].map(|axis| shape[axis].as_static().unwrap_or(1).max(1));
        let tall = rows > columns;
        let mut x = if tall { self.graph.transpose_last_two(matrix) } else { matrix };
        let square = self.graph.mul(x, x);
        let sum = self.graph.reduce(square, ReduceKind::Sum, vec![0, 1], false);
        let norm = self.graph.sqrt(sum);
        let least = self.number_of(1e-7);
        let norm = self.graph.add(norm, least);
        x = self.graph.div(x, norm);
        for _ in 0..ORTHOGONAL_ROUNDS {
            let gram = self.graph.matmul(x, x, false, true);
            let [linear, cubic, quintic] = ORTHOGONAL;
            let higher = self.graph.matmul(gram, gram, false, false);
            let (gram, higher) = (self.scaled(gram, cubic), self.scaled(higher, quintic));
            let factor = self.graph.add(gram, higher);
            let bent = self.graph.matmul(factor, x, false, false);
            let straight = self.scaled(x, linear);
            x = self.graph.add(straight, bent);
        }
        let x = if tall { self.graph.transpose_last_two(x) } else { x };
        self.scaled(x, (rows as f64 / columns as f64).max(1.0).sqrt())
    }
}

/// Does Muon's orthogonal step fit: a matrix between layers, not a table of rows?
fn is_hidden_matrix(name: &str, shape: &Shape) -> bool {
    let is_table = ["wte", "wpe", "embed", "lm_head"].iter().any(|part| name.contains(part));
    shape.rank() == 2 && !is_table && shape.dims().iter().all(|dim: &Dim| dim.as_static().is_some())
}
