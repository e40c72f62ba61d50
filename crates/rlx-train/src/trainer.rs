//! The loop: batches in, losses out, states on the device.

use crate::checkpoint::{Checkpoint, Position, find, write_tensors};
use crate::data::{Batch, Data};
use crate::error::TrainError;
use crate::schedule::LearningRate;
use crate::step::{SCALE, StepOptions, training_step};
use rlx_ir::{DType, Graph, Literal, OpKind};
use rlx_runtime::{CompiledGraph, Session, TensorRef};
use rlx_weights::WeightLoader;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// How a run goes on.
#[derive(Clone, Debug, PartialEq)]
pub struct TrainerOptions {
    /// The step.
    pub step: StepOptions,
    /// Updates to make.
    pub steps: u64,
    /// Learning rate over them.
    pub learning_rate: LearningRate,
    /// Seed of the batches, kept in checkpoints.
    pub seed: u64,
    /// Folder of the checkpoints; none are kept without.
    pub folder: Option<PathBuf>,
    /// Checkpoints that are kept.
    pub keep: usize,
}

/// How one update went.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Progress {
    /// Its number, from 1.
    pub step: u64,
    /// Mean loss of its batches.
    pub loss: f32,
    /// Norm of all gradients together, before clipping.
    pub gradient_norm: f32,
    /// Its learning rate.
    pub learning_rate: f64,
    /// Was it left out, since a gradient was not finite?
    pub skipped: bool,
    /// Tokens or rows that it took.
    pub items: usize,
    /// Time that it took.
    pub time: Duration,
}

fn step_graph(
    loss: &Graph,
    output: &str,
    trained: &[String],
    options: &TrainerOptions,
) -> Result<Graph, TrainError> {
    let names: Vec<&str> = trained.iter().map(String::as_str).collect();
    training_step(loss, output, &names, &options.step)
}

/// A run.
pub struct Trainer {
    compiled: CompiledGraph,
    loss: Graph,
    output: String,
    trained: Vec<String>,
    session: Session,
    evaluation: Option<CompiledGraph>,
    frozen: Vec<(String, Literal)>,
    data: Data,
    options: TrainerOptions,
    position: Position,
}

impl Trainer {
    /// A run that starts from `weights`, or from the newest checkpoint of its folder. It trains the params of `loss`
    /// for which `is_trained` holds; `output` is the output that falls.
    ///
    /// # Errors
    /// A graph without derivative, weights that are missing, a checkpoint of another run.
    pub fn new(
        session: &Session,
        (loss, output): (Graph, &str),
        is_trained: impl Fn(&str) -> bool,
        weights: &dyn WeightLoader,
        (data, options): (Data, TrainerOptions),
    ) -> Result<Trainer, TrainError> {
        options.learning_rate.check()?;
        let params = loss.nodes_of(OpKind::Param).filter_map(|(_, node)| node.op.leaf_name());
        let (trained, frozen): (Vec<String>, Vec<String>) =
            params.map(str::to_string).partition(|name| is_trained(name));
        if trained.is_empty() {
            return Err(TrainError::setting("trained", "no param", "a name, or a part of one, of a param"));
        }
        let mut compiled = session.compile(step_graph(&loss, output, &trained, &options)?)?;
        let starting = |name: &String| -> Result<(String, Literal), TrainError> {
            let tensor = weights.find(name).ok_or_else(|| {
                TrainError::data(weights.source(), format!("has no tensor {name}, which the model needs"))
            })?;
            Ok((name.clone(), tensor.view().to_literal()?))
        };
        let frozen: Vec<(String, Literal)> = frozen.iter().map(starting).collect::<Result<_, _>>()?;
        for (name, literal) in &frozen {
            compiled.set_param_typed(name, TensorRef::from(literal))?;
        }
        let position = Position { step: 0, seed: options.seed, best: None, since_best: 0 };
        let mut trainer = Trainer {
            compiled,
            loss,
            output: output.to_string(),
            session: session.clone(),
            evaluation: None,
            frozen,
            data,
            options,
            position,
            trained,
        };
        let newest = match &trainer.options.folder {
            Some(folder) => Checkpoint::all(folder)?.pop(),
            None => None,
        };
        match newest {
            Some(checkpoint) => trainer.resume(&checkpoint)?,
            None => {
                for name in trainer.trained.clone() {
                    let (name, literal) = starting(&name)?;
                    trainer.set_state(&name, &literal)?;
                }
                if let Some(scaling) = trainer.options.step.loss_scaling {
                    trainer.set_state(SCALE, &Literal::scalar_f32(scaling.initial as f32))?;
                }
            }
        }
        Ok(trainer)
    }

    /// Updates so far.
    pub fn step(&self) -> u64 {
        self.position.step
    }

    /// Are all updates made?
    pub fn is_done(&self) -> bool {
        self.position.step >= self.options.steps
    }

    /// What batches are cut from.
    pub fn data(&self) -> &Data {
        &self.data
    }

    /// The graph of a step, before it was compiled.
    ///
    /// # Errors
    /// None that building the run did not have.
    pub fn graph(&self) -> Result<Graph, TrainError> {
        step_graph(&self.loss, &self.output, &self.trained, &self.options)
    }

    /// Where it runs.
    pub fn session(&self) -> &Session {
        &self.session
    }

    /// What runs.
    pub fn compiled(&self) -> &CompiledGraph {
        &self.compiled
    }

    /// Makes one update.
    ///
    /// # Errors
    /// A loss that is not finite (without loss scaling), a fault of the step.
    pub fn advance(&mut self) -> Result<Progress, TrainError> {
        let start = Instant::now();
        let (step, runs) = (self.position.step + 1, self.options.step.accumulate.max(1));
        let rate = self.options.learning_rate.at(step, self.options.steps);
        let mut found = Found::default();
        for run in 0..runs {
            let batch = self.data.batch((step - 1) * runs as u64 + run as u64)?;
            let one = self.run(&batch, rate, run + 1 == runs)?;
            found.loss += one.loss / runs as f32;
            (found.gradient_norm, found.skipped) = (one.gradient_norm, one.skipped);
        }
        self.position.step = step;
        if !found.loss.is_finite() && !found.skipped {
            return Err(TrainError::Diverged { step, loss: found.loss, rate });
        }
        Ok(Progress {
            step,
            loss: found.loss,
            gradient_norm: found.gradient_norm,
            learning_rate: rate,
            skipped: found.skipped,
            items: runs * self.data.items_per_batch(),
            time: start.elapsed(),
        })
    }

    fn run(&mut self, batch: &Batch, rate: f64, updates: bool) -> Result<Found, TrainError> {
        let rate = Literal::scalar_f32(rate as f32);
        let update = Literal::from_bytes(DType::Bool, &[], &[u8::from(updates)])?;
        let mut feeds: Vec<(&str, TensorRef<'_>)> =
            batch.iter().map(|(name, literal)| (name.as_str(), TensorRef::from(literal))).collect();
        feeds.push(("learning_rate", TensorRef::from(&rate)));
        if self.options.step.accumulate > 1 {
            feeds.push(("update", TensorRef::from(&update)));
        }
        let outputs: BTreeMap<String, Literal> = self.compiled.run_typed(&feeds)?.into_iter().collect();
        let number = |name: &str| outputs.get(name).and_then(|literal| literal.to_f64s().first().copied());
        Ok(Found {
            loss: number(&self.output).map_or(f32::NAN, |loss| loss as f32),
            gradient_norm: number("gradient_norm").map_or(f32::NAN, |norm| norm as f32),
            skipped: number("skipped").is_some_and(|skipped| skipped != 0.0),
        })
    }

    /// The mean loss over up to `most` batches that are kept for evaluation; `None` where there are none.
    ///
    /// # Errors
    /// A fault of the graph.
    pub fn evaluate(&mut self, most: usize) -> Result<Option<f32>, TrainError> {
        let batches = self.data.evaluation(most)?;
        if batches.is_empty() {
            return Ok(None);
        }
        let mut evaluation = match self.evaluation.take() {
            Some(evaluation) => evaluation,
            None => {
                let mut evaluation = self.session.compile(self.loss.clone())?;
                for (name, literal) in &self.frozen {
                    evaluation.set_param_typed(name, TensorRef::from(literal))?;
                }
                evaluation
            }
        };
        for (name, literal) in self.weights()? {
            evaluation.set_param_typed(&name, TensorRef::from(&literal))?;
        }
        let (mut sum, mut rows) = (0.0, 0.0);
        for batch in &batches {
            let feeds: Vec<(&str, TensorRef<'_>)> =
                batch.iter().map(|(name, literal)| (name.as_str(), TensorRef::from(literal))).collect();
            let outputs = evaluation.run_typed(&feeds)?;
            let found = outputs.iter().find(|(name, _)| *name == self.output);
            let loss = found.and_then(|(_, literal)| literal.to_f64s().first().copied());
            let count = batch.first().and_then(|(_, literal)| literal.dims().first().copied()).unwrap_or(1);
            sum += loss.unwrap_or(f64::NAN) * count as f64;
            rows += count as f64;
        }
        self.evaluation = Some(evaluation);
        let loss = (sum / rows) as f32;
        match self.position.best {
            Some(best) if best <= loss || loss.is_nan() => self.position.since_best += 1,
            _ => (self.position.best, self.position.since_best) = (Some(loss), 0),
        }
        Ok(Some(loss))
    }

    /// Evaluations since the best one.
    pub fn evaluations_since_best(&self) -> u64 {
        self.position.since_best
    }

    /// The trained params as they are now.
    ///
    /// # Errors
    /// A device that cannot be read.
    pub fn weights(&mut self) -> Result<Vec<(String, Literal)>, TrainError> {
        let names = self.trained.clone();
        names.into_iter().map(|name| Ok((name.clone(), self.state(&name)?))).collect()
    }

    /// Writes all params, trained and frozen, as one safetensors file.
    ///
    /// # Errors
    /// A file that cannot be written.
    pub fn save_weights(&mut self, path: impl AsRef<Path>) -> Result<(), TrainError> {
        let mut all = self.weights()?;
        all.extend(self.frozen.iter().cloned());
        write_tensors(path.as_ref(), &all)
    }

    /// Writes a checkpoint, where there is a folder for them.
    ///
    /// # Errors
    /// Files that cannot be written; those that were there stay.
    pub fn save(&mut self) -> Result<Option<Checkpoint>, TrainError> {
        let Some(folder) = self.options.folder.clone() else { return Ok(None) };
        let params = self.weights()?;
        let others = self.state_names()?.into_iter().filter(|name| !self.trained.contains(name));
        let others: Vec<String> = others.collect();
        let others: Vec<(String, Literal)> = others
            .into_iter()
            .map(|name| Ok((name.clone(), self.state(&name)?)))
            .collect::<Result<_, TrainError>>()?;
        Checkpoint::write(&folder, &self.position, [&params, &others], self.options.keep).map(Some)
    }

    fn resume(&mut self, checkpoint: &Checkpoint) -> Result<(), TrainError> {
        let (position, files) = checkpoint.read()?;
        if position.seed != self.options.seed {
            let message = format!("was made with seed {}, this run has {}", position.seed, self.options.seed);
            return Err(checkpoint.mismatch(message));
        }
        for name in self.state_names()? {
            let literal = find(&files, &name)
                .ok_or_else(|| checkpoint.mismatch(format!("has no tensor {name}, which this run needs")))?;
            self.set_state(&name, &literal).map_err(|error| checkpoint.mismatch(error.to_string()))?;
        }
        self.position = position;
        Ok(())
    }

    fn state_names(&mut self) -> Result<Vec<String>, TrainError> {
        Ok(self.handles()?.names())
    }

    fn state(&mut self, name: &str) -> Result<Literal, TrainError> {
        Ok(self.handles()?.read_handle(name).map_err(rlx_runtime::RuntimeError::from)?)
    }

    fn set_state(&mut self, name: &str, literal: &Literal) -> Result<(), TrainError> {
        let bound = self.handles()?.bind_handle(name, TensorRef::from(literal));
        Ok(bound.map_err(rlx_runtime::RuntimeError::from)?)
    }

    fn handles(&mut self) -> Result<&mut dyn rlx_runtime::StateHandles, TrainError> {
        let device = self.compiled.device();
        self.compiled
            .states()
            .ok_or_else(|| TrainError::setting("device", device, "a device that keeps state between runs"))
    }
}

/// What one run gave.
#[derive(Default)]
struct Found {
    loss: f32,
    gradient_norm: f32,
    skipped: bool,
}
