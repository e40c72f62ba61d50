//! The loss of a GPT-2-class decoder, and weights to start from.

use crate::error::TrainError;
use rlx_ir::attr::Real;
use rlx_ir::ops::ReduceKind;
use rlx_ir::sample::Generator;
use rlx_ir::{DType, Dim, Graph, Literal, TensorType};
use rlx_models::gpt2::{self, Gpt2Options, Logits};
use rlx_models::{Gpt2Config, ModelWeights};
use rlx_weights::BytesWeightLoader;

/// The graph of the mean cross entropy of the next token: inputs `input_ids` and `labels`, `i64[B, S]`, output `loss`,
/// `f32[]`, params under the names of the weights.
///
/// # Errors
/// Weights that do not fit `config`.
pub fn decoder_loss(config: &Gpt2Config, weights: &ModelWeights) -> Result<Graph, TrainError> {
    let options = Gpt2Options { cache: None, logits: Logits::All };
    let mut graph = gpt2::module(config, weights, options)?.lower()?;
    let logits = graph.outputs()[0].value;
    let labels = graph.input("labels", TensorType::new(DType::I64, vec![Dim::symbol("B"), Dim::symbol("S")]));
    let rows = graph.softmax_cross_entropy_with_logits(logits, labels, 2usize, None, Real(0.0));
    let loss = graph.reduce(rows, ReduceKind::Mean, vec![0usize, 1], false);
    graph.set_outputs([("loss", loss)]);
    Ok(graph.finish()?)
}

/// Weights as GPT-2 starts: normal with standard deviation 0.02, less in the projections that add to the residual
/// stream, biases 0, scales 1.
///
/// # Errors
/// A config of sizes beyond memory.
pub fn initial_weights(config: &Gpt2Config, seed: u64) -> Result<BytesWeightLoader, TrainError> {
    let width = config.n_embd;
    let mut made = vec![];
    let residual = 0.02 / (2.0 * config.n_layer as f64).sqrt();
    let mut tensor = |name: String, dims: &[usize], start: Start| -> Result<(), TrainError> {
        let mut generator = Generator::new(seed ^ name_hash(&name));
        let count = dims.iter().product();
        let values: Vec<f64> = match start {
            Start::All(value) => vec![value; count],
            Start::Normal(deviation) => (0..count).map(|_| deviation * normal(&mut generator)).collect(),
        };
        made.push((name, Literal::floats(DType::F32, dims, &values)?));
        Ok(())
    };
    tensor("wte.weight".into(), &[config.vocab_size, width], Start::Normal(0.02))?;
    tensor("wpe.weight".into(), &[config.n_positions, width], Start::Normal(0.02))?;
    for layer in 0..config.n_layer {
        for (part, [rows, columns], deviation) in [
            ("attn.c_attn", [width, 3 * width], 0.02),
            ("attn.c_proj", [width, width], residual),
            ("mlp.c_fc", [width, config.n_inner], 0.02),
            ("mlp.c_proj", [config.n_inner, width], residual),
        ] {
            tensor(format!("h.{layer}.{part}.weight"), &[rows, columns], Start::Normal(deviation))?;
            tensor(format!("h.{layer}.{part}.bias"), &[columns], Start::All(0.0))?;
        }
        for norm in ["ln_1", "ln_2"] {
            tensor(format!("h.{layer}.{norm}.weight"), &[width], Start::All(1.0))?;
            tensor(format!("h.{layer}.{norm}.bias"), &[width], Start::All(0.0))?;
        }
    }
    tensor("ln_f.weight".into(), &[width], Start::All(1.0))?;
    tensor("ln_f.bias".into(), &[width], Start::All(0.0))?;
    if !config.tie_word_embeddings {
        tensor("lm_head.weight".into(), &[config.vocab_size, width], Start::Normal(0.02))?;
    }
    Ok(BytesWeightLoader::from_pairs(made.iter().map(|(name, literal)| (name.as_str(), literal.clone())))?)
}

enum Start {
    All(f64),
    Normal(f64),
}

/// A number of the standard normal distribution (Box and Muller).
fn normal(generator: &mut Generator) -> f64 {
    let (radius, turn) = (1.0 - generator.unit(), generator.unit());
    (-2.0 * radius.ln()).sqrt() * (std::f64::consts::TAU * turn).cos()
}

/// FNV-1a, so that a tensor's start depends on its name and not on the order.
pub(crate) fn name_hash(name: &str) -> u64 {
    name.bytes()
        .fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x100_0000_01b3))
}
