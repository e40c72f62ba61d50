//! What a command line means by MODEL and by `--weights`.
//!
//! MODEL is a graph or a module of blocks in text form, or a folder with a
//! Hugging Face model or an ONNX file, which bring their own weights. Bytes of weights are
//! mapped, not read.

use crate::inputs;
use crate::progress;
use anyhow::{Context, bail};
use clap::Args;
use rlx::models::bert::{self, BertOutputs};
use rlx::models::gpt2::{self, Gpt2Options, Logits};
use rlx::models::{BertConfig, Gpt2Config, ModelWeights, SentenceSettings, UnknownFields};
use rlx::onnx::ImportOptions;
use rlx::{BytesWeightLoader, CompiledGraph, Graph, GraphModule, MappedWeights, Session, TensorRef};
use serde_json::Value;
use std::io::Read;
use std::path::{Path, PathBuf};

/// Which weights to bind.
#[derive(Args)]
pub struct WeightArgs {
    /// Weights by name: a safetensors, npz or npy file, a folder, or random:SEED
    #[arg(long, value_name = "FILE|random:SEED", value_parser = parse_weights)]
    pub weights: Option<WeightSource>,
}

/// Where weights come from.
#[derive(Clone, Debug, PartialEq)]
pub enum WeightSource {
    /// A file or folder.
    File(PathBuf),
    /// Random values, for measuring.
    Random(u64),
}

fn parse_weights(text: &str) -> Result<WeightSource, String> {
    match text.strip_prefix("random:") {
        Some(seed) => seed.parse().map(WeightSource::Random).map_err(|_| "expected random:SEED".into()),
        None => Ok(WeightSource::File(text.into())),
    }
}

/// Most bytes of a graph or module in text form.
const MOST_TEXT: u64 = 1 << 30;

/// A model that was read.
pub struct Model {
    /// Graph or module.
    pub module: GraphModule,
    /// The weights that came with it.
    weights: Option<OwnWeights>,
}

/// Weights that a model brings.
enum OwnWeights {
    Folder(ModelWeights),
    Onnx(BytesWeightLoader),
}

/// Is `path` an ONNX file, by its name?
pub fn is_onnx(path: &Path) -> bool {
    path.extension().is_some_and(|ending| ending == "onnx")
}

impl Model {
    /// Reads `path`.
    pub fn read(path: &Path) -> anyhow::Result<Model> {
        if path.is_dir() {
            return Model::read_folder(path);
        }
        if is_onnx(path) {
            let model = rlx::onnx::Model::open(path)?;
            let imported = rlx::onnx::import(&model, &ImportOptions::default())?;
            let weights = Some(OwnWeights::Onnx(imported.weights));
            return Ok(Model { module: imported.graph.into(), weights });
        }
        let mut bytes = vec![];
        std::fs::File::open(path)
            .and_then(|file| file.take(MOST_TEXT + 1).read_to_end(&mut bytes))
            .with_context(|| format!("cannot read {}", path.display()))?;
        if bytes.len() as u64 > MOST_TEXT {
            bail!("{} has more than {MOST_TEXT} bytes, the most that is read as text", path.display());
        }
        let Ok(text) = String::from_utf8(bytes) else {
            bail!(
                "{} is no text; expected a graph or module in text form, an ONNX file called *.onnx, or a model folder (weights are for \
                 --weights and `rlx inspect`)",
                path.display()
            )
        };
        let module = GraphModule::parse(&text).with_context(|| path.display().to_string())?;
        Ok(Model { module, weights: None })
    }

    /// An encoder with its hidden states and sentence embedding, or a decoder
    /// without cache and with all logits.
    fn read_folder(folder: &Path) -> anyhow::Result<Model> {
        let (module, weights) = match family(folder)?.as_str() {
            "bert" => {
                let config = BertConfig::read(folder, UnknownFields::Refuse)?;
                let weights = bert::open_weights(folder)?;
                let settings = SentenceSettings::read(folder, config.hidden_size)?;
                let outputs = BertOutputs {
                    last_hidden_state: true,
                    sentence_embedding: Some(settings),
                    ..BertOutputs::default()
                };
                (bert::module(&config, &weights, outputs)?, weights)
            }
            "gpt2" => {
                let config = Gpt2Config::read(folder, UnknownFields::Refuse)?;
                let weights = gpt2::open_weights(folder)?;
                let options = Gpt2Options { cache: None, logits: Logits::All };
                (gpt2::module(&config, &weights, options)?, weights)
            }
            other => {
                bail!("{}: model_type is {other:?}, expected \"bert\" or \"gpt2\"", folder.display())
            }
        };
        Ok(Model { module: module.into(), weights: Some(OwnWeights::Folder(weights)) })
    }

    /// The model as one graph.
    pub fn graph(&self) -> anyhow::Result<Graph> {
        match &self.module {
            GraphModule::Hir(module) => Ok(module.lower()?),
            GraphModule::Mir(graph) => Ok(graph.clone()),
            GraphModule::Lir(module) => bail!("{} is compiled already", module.name),
        }
    }

    /// Compiles it.
    pub fn compile(&self, session: &Session) -> anyhow::Result<CompiledGraph> {
        Ok(progress::while_running("compiling", || session.compile_module(self.module.clone()))?)
    }

    /// Binds all params: from `source`, else from the weights of its folder.
    pub fn bind(&self, compiled: &mut CompiledGraph, source: Option<&WeightSource>) -> anyhow::Result<()> {
        match (source, &self.weights) {
            (Some(WeightSource::File(path)), _) => {
                let loader = MappedWeights::open(path)?;
                progress::while_running("binding weights", || compiled.bind_weights(&loader))?;
                Ok(())
            }
            (Some(WeightSource::Random(seed)), _) => bind_random(compiled, *seed),
            (None, Some(OwnWeights::Folder(weights))) => Ok(weights.bind(compiled)?),
            (None, Some(OwnWeights::Onnx(weights))) => {
                compiled.bind_weights(weights)?;
                Ok(())
            }
            (None, None) => {
                let names: Vec<_> =
                    compiled.lir().io.params.iter().map(|entry| entry.name.as_str()).collect();
                let (shown, more) = names.split_at(names.len().min(8));
                if shown.is_empty() {
                    return Ok(());
                }
                let more = if more.is_empty() { String::new() } else { format!(" and {} more", more.len()) };
                let shown = shown.join(", ");
                bail!("the model has weights ({shown}{more}); pass --weights FILE, or --weights random:SEED")
            }
        }
    }

    /// As [`Model::bind`], with random values where there are no weights.
    pub fn bind_any(
        &self,
        compiled: &mut CompiledGraph,
        source: Option<&WeightSource>,
    ) -> anyhow::Result<()> {
        match (source, &self.weights) {
            (None, None) => bind_random(compiled, 0),
            _ => self.bind(compiled, source),
        }
    }
}

fn bind_random(compiled: &mut CompiledGraph, seed: u64) -> anyhow::Result<()> {
    for (index, entry) in compiled.lir().io.params.clone().iter().enumerate() {
        let literal = inputs::random(&entry.ty, seed.wrapping_add(index as u64))
            .with_context(|| format!("param \"{}\"", entry.name))?;
        compiled.set_param_typed(&entry.name, TensorRef::from(&literal))?;
    }
    Ok(())
}

/// `model_type` of a folder.
fn family(folder: &Path) -> anyhow::Result<String> {
    let path = folder.join("config.json");
    let text = std::fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
    let config: Value = serde_json::from_str(&text).with_context(|| path.display().to_string())?;
    match config["model_type"].as_str() {
        Some(family) => Ok(family.to_string()),
        None => bail!("{}: it has no model_type", path.display()),
    }
}
