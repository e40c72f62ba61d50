//! `rlx train CONFIG.toml`: what a run is, as a file. Paths in it are relative to its folder.

use crate::adapt::{Adapted, Lora, Rounding};
use crate::data::Data;
use crate::decoder::{decoder_loss, initial_weights};
use crate::error::TrainError;
use crate::optimizer::Optimizer;
use crate::schedule::LearningRate;
use crate::step::{LossScaling, StepOptions};
use crate::trainer::{Trainer, TrainerOptions};
use rlx_ir::{Graph, GraphModule};
use rlx_models::{Gpt2Config, ModelWeights, TextTokenizer, UnknownFields, gpt2};
use rlx_runtime::Session;
use rlx_weights::{MappedWeights, WeightLoader};
use serde::{Deserialize, Serialize};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// A run.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TrainConfig {
    /// What is trained.
    pub model: ModelConfig,
    /// On what.
    pub data: DataConfig,
    /// What turns gradients into updates.
    #[serde(default)]
    pub optimizer: Optimizer,
    /// Learning rate over the updates.
    pub learning_rate: LearningRate,
    /// Updates.
    pub steps: u64,
    /// Rows of a batch.
    pub batch_size: usize,
    /// Batches whose gradients are averaged for one update.
    #[serde(default = "one")]
    pub accumulate: usize,
    /// Seed of the starting weights and of the batches.
    #[serde(default)]
    pub seed: u64,
    /// Shrinking of matrices per step, times the learning rate.
    #[serde(default)]
    pub weight_decay: f64,
    /// Greatest norm of all gradients together.
    #[serde(default)]
    pub clip_norm: Option<f64>,
    /// For half precision.
    #[serde(default)]
    pub loss_scaling: Option<LossScaling>,
    /// Adapters that are trained in place of the weights.
    #[serde(default)]
    pub lora: Option<Lora>,
    /// Rounding of weights while training.
    #[serde(default)]
    pub rounding: Option<Rounding>,
    /// Only params whose name holds one of these are trained; all where there is none.
    #[serde(default)]
    pub trained: Vec<String>,
    /// Folder of results: checkpoints, losses, the trained weights.
    pub output: PathBuf,
    /// Updates between checkpoints; only the last is one where there is none.
    #[serde(default)]
    pub checkpoint_every: Option<u64>,
    /// Checkpoints that are kept.
    #[serde(default = "two")]
    pub keep: usize,
    /// Updates between evaluations; none where there is none.
    #[serde(default)]
    pub evaluate_every: Option<u64>,
    /// Most batches of an evaluation.
    #[serde(default = "sixteen")]
    pub evaluate_batches: usize,
    /// Stop after this many evaluations without a better one.
    #[serde(default)]
    pub patience: Option<u64>,
}

fn one() -> usize {
    1
}
fn two() -> usize {
    2
}
fn sixteen() -> usize {
    16
}

/// A run that a configuration describes.
pub struct Training {
    /// What makes updates.
    pub trainer: Trainer,
    adapted: Option<Adapted>,
}

impl Training {
    /// Writes the model as it is now to `folder`: `model.safetensors`, and the folder of its adapters where there are
    /// some. Gives the paths of both.
    ///
    /// # Errors
    /// Files that cannot be written.
    pub fn save(&mut self, folder: &Path) -> Result<Vec<PathBuf>, TrainError> {
        if let Some(adapted) = &self.adapted {
            return Ok(adapted.save(&mut self.trainer, folder)?.into());
        }
        let path = folder.join("model.safetensors");
        self.trainer.save_weights(&path)?;
        Ok(vec![path])
    }
}

/// What is trained.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case", deny_unknown_fields)]
pub enum ModelConfig {
    /// A GPT-2-class decoder.
    Gpt2 {
        /// Folder with `config.json`, `tokenizer.json` and, to start from them, weights.
        folder: PathBuf,
        /// Where weights come from.
        #[serde(default)]
        start: Start,
    },
    /// Any graph in text form with a loss.
    Graph {
        /// The file.
        file: PathBuf,
        /// The output that falls.
        #[serde(default = "loss")]
        output: String,
        /// A safetensors or npz file with the params to start from.
        weights: PathBuf,
    },
}

fn loss() -> String {
    "loss".into()
}

/// Where the weights of a decoder come from.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Start {
    /// Random, by the seed.
    #[default]
    Random,
    /// Those of the model's folder.
    Weights,
}

/// What a model is trained on.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case", deny_unknown_fields)]
pub enum DataConfig {
    /// Windows of text, cut into tokens by the model's tokenizer.
    Text {
        /// UTF-8 files.
        files: Vec<PathBuf>,
        /// Tokens of a window.
        length: usize,
        /// Is every line a document of its own?
        #[serde(default)]
        lines: bool,
        /// The token that stands after each document, such as `<|endoftext|>`.
        #[serde(default)]
        end: Option<String>,
        /// Share of the text that is kept for evaluation.
        #[serde(default)]
        evaluate: f64,
    },
    /// Rows of arrays whose names are those of the graph's inputs.
    Arrays {
        /// An npz file.
        file: PathBuf,
        /// Share of the rows that is kept for evaluation.
        #[serde(default)]
        evaluate: f64,
    },
}

impl TrainConfig {
    /// Reads a file; paths in it become relative to where the program runs.
    ///
    /// # Errors
    /// A file that cannot be read or does not parse, fields that are unknown or missing.
    pub fn read(path: impl AsRef<Path>) -> Result<TrainConfig, TrainError> {
        let path = path.as_ref();
        let text = std::fs::read_to_string(path).map_err(TrainError::file(path))?;
        let mut config = TrainConfig::parse(&path.display().to_string(), &text)?;
        let folder = path.parent().unwrap_or(Path::new(""));
        let below = |path: &mut PathBuf| *path = folder.join(&*path);
        match &mut config.model {
            ModelConfig::Gpt2 { folder, .. } => below(folder),
            ModelConfig::Graph { file, weights, .. } => [file, weights].into_iter().for_each(below),
        }
        match &mut config.data {
            DataConfig::Text { files, .. } => files.iter_mut().for_each(below),
            DataConfig::Arrays { file, .. } => below(file),
        }
        below(&mut config.output);
        Ok(config)
    }

    /// Parses the text of `file`.
    ///
    /// # Errors
    /// As [`TrainConfig::read`].
    pub fn parse(file: &str, text: &str) -> Result<TrainConfig, TrainError> {
        toml::from_str(text)
            .map_err(|error| TrainError::Config { file: file.into(), message: error.to_string() })
    }

    /// The run, ready to go on where its folder says.
    ///
    /// # Errors
    /// Files that are missing or do not fit each other, settings that make no sense.
    pub fn trainer(&self, session: &Session) -> Result<Training, TrainError> {
        for (setting, value) in [("accumulate", self.accumulate), ("keep", self.keep)] {
            if value == 0 {
                return Err(TrainError::setting(setting, value, "1 or more"));
            }
        }
        for (setting, value) in
            [("checkpoint_every", self.checkpoint_every), ("evaluate_every", self.evaluate_every)]
        {
            if value == Some(0) {
                return Err(TrainError::setting(setting, 0, "1 or more"));
            }
        }
        let (mut loss, output, weights) = self.model()?;
        if let Some(rounding) = &self.rounding {
            loss = rounding.apply(&loss)?;
        }
        let adapted = match &self.lora {
            Some(lora) => Some(lora.apply(session, &loss, &*weights, self.seed)?),
            None => None,
        };
        let options = TrainerOptions {
            step: StepOptions {
                optimizer: self.optimizer,
                weight_decay: self.weight_decay,
                clip_norm: self.clip_norm,
                loss_scaling: self.loss_scaling,
                accumulate: self.accumulate,
            },
            steps: self.steps,
            learning_rate: self.learning_rate,
            seed: self.seed,
            folder: Some(self.output.clone()),
            keep: self.keep,
        };
        let is_trained = |name: &str| {
            self.trained.is_empty() || self.trained.iter().any(|part| name.contains(part.as_str()))
        };
        let data = (self.data()?, options);
        let trainer = match &adapted {
            Some(adapted) => {
                let of_adapter = |name: &str| adapted.is_adapter(name) && is_trained(name);
                Trainer::new(session, (adapted.loss.clone(), &output), of_adapter, &adapted.weights, data)?
            }
            None => Trainer::new(session, (loss, &output), is_trained, &*weights, data)?,
        };
        Ok(Training { trainer, adapted })
    }

    fn model(&self) -> Result<(Graph, String, Arc<dyn WeightLoader>), TrainError> {
        match &self.model {
            ModelConfig::Gpt2 { folder, start } => {
                let config = Gpt2Config::read(folder, UnknownFields::Refuse)?;
                let loader: Arc<dyn WeightLoader> = match start {
                    Start::Random => Arc::new(initial_weights(&config, self.seed)?),
                    Start::Weights => Arc::new(MappedWeights::open(folder)?),
                };
                let weights: ModelWeights = gpt2::weights_of(loader.clone())?;
                Ok((decoder_loss(&config, &weights)?, "loss".into(), loader))
            }
            ModelConfig::Graph { file, output, weights } => {
                let text = std::fs::read_to_string(file).map_err(TrainError::file(file))?;
                let graph = match GraphModule::parse(&text)? {
                    GraphModule::Hir(module) => module.lower()?,
                    GraphModule::Mir(graph) => graph,
                    GraphModule::Lir(_) => {
                        return Err(TrainError::setting(
                            "model.file",
                            file.display(),
                            "a graph or a module of blocks",
                        ));
                    }
                };
                Ok((graph, output.clone(), Arc::new(MappedWeights::open(weights)?)))
            }
        }
    }

    fn data(&self) -> Result<Data, TrainError> {
        match (&self.data, &self.model) {
            (DataConfig::Text { files, length, lines, end, evaluate }, ModelConfig::Gpt2 { folder, .. }) => {
                let tokenizer = TextTokenizer::read(folder, None)?;
                let token = |text: &String| {
                    tokenizer.token(text).ok_or_else(|| {
                        TrainError::setting("data.end", text, "a token of the model's tokenizer")
                    })
                };
                let end = end.as_ref().map(token).transpose()?;
                Data::text(
                    files,
                    (&tokenizer, end, *lines),
                    [self.batch_size, *length],
                    (*evaluate, self.seed),
                )
            }
            (DataConfig::Text { .. }, ModelConfig::Graph { .. }) => {
                Err(TrainError::setting("data.kind", "text", "arrays, for a model that is a graph"))
            }
            (DataConfig::Arrays { file, evaluate }, _) => {
                Data::arrays(file, self.batch_size, (*evaluate, self.seed))
            }
        }
    }
}
