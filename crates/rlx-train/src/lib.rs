//! Training.
//!
//! A training step is a graph like any other ([`training_step`]): the loss graph, its gradients, their clipping and
//! the update of the optimiser, with params and moments as states that stay on the device. A [`Trainer`] runs it on
//! batches of [`Data`], says how it goes ([`Progress`]), and keeps [`Checkpoint`]s from which a run that was stopped
//! at any moment goes on with the same bits: batches follow from seed and step alone, everything else is state.
//!
//! It knows no op by name but those that optimisers are made of, and no backend.
#![forbid(unsafe_code)]

mod adapt;
mod checkpoint;
mod config;
mod data;
mod decoder;
mod error;
mod optimizer;
mod schedule;
mod step;
mod trainer;

pub use adapt::{Adapted, Lora, Rounding};
pub use checkpoint::Checkpoint;
pub use config::{DataConfig, ModelConfig, Start, TrainConfig, Training};
pub use data::{Batch, Data};
pub use decoder::{decoder_loss, initial_weights};
pub use error::TrainError;
pub use optimizer::Optimizer;
pub use schedule::{Decay, LearningRate};
pub use step::{LossScaling, StepOptions, training_step};
pub use trainer::{Progress, Trainer, TrainerOptions};
