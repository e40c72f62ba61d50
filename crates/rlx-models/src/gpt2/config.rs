//! `config.json` of a GPT-2-class decoder.

use crate::activation;
use crate::error::ModelError;
use crate::fields::{Fields, UnknownFields};
use crate::files::{read_object, read_optional};
use rlx_ir::ops::ActivationKind;
use serde_json::{Map, Value, json};
use std::path::Path;

/// What decides the graph of a decoder, and where its texts end. Field names are those of the file.
#[derive(Clone, PartialEq, Debug)]
pub struct Gpt2Config {
    /// Tokens.
    pub vocab_size: usize,
    /// Positions.
    pub n_positions: usize,
    /// Width of the hidden state.
    pub n_embd: usize,
    /// Layers.
    pub n_layer: usize,
    /// Heads of each attention; they divide `n_embd`.
    pub n_head: usize,
    /// Width between the two linear layers of a feed-forward block.
    pub n_inner: usize,
    /// Function between them.
    pub activation_function: ActivationKind,
    /// Added to variances.
    pub layer_norm_epsilon: f64,
    /// Are scores divided by the root of the head extent?
    pub scale_attn_weights: bool,
    /// Are the scores of layer `n` (from 0) divided by `n + 1`?
    pub scale_attn_by_inverse_layer_idx: bool,
    /// Is the output projection the token table?
    pub tie_word_embeddings: bool,
    /// Tokens that end a text.
    pub eos_token_id: Vec<u32>,
}

/// Fields of heads and of training that this family has beside the common ones.
const WITHOUT_EFFECT: &[&str] = &[
    "attn_pdrop",
    "embd_pdrop",
    "resid_pdrop",
    "predict_special_tokens",
    // Scores are computed in f32 whatever it says.
    "reorder_and_upcast_attn",
    "summary_activation",
    "summary_first_dropout",
    "summary_proj_to_labels",
    "summary_type",
    "summary_use_proj",
];

impl Gpt2Config {
    /// Reads `config.json` of `folder`, and from `generation_config.json`, where it is, the tokens that end a text.
    ///
    /// # Errors
    /// A missing or damaged file, and fields that are refused.
    pub fn read(folder: impl AsRef<Path>, unknown: UnknownFields) -> Result<Gpt2Config, ModelError> {
        let path = folder.as_ref().join("config.json");
        let mut config = Gpt2Config::parse(&path.display().to_string(), read_object(&path)?, unknown)?;
        let path = folder.as_ref().join("generation_config.json");
        if let Some(object) = read_optional(&path)?
            && let Some(tokens) = Fields::new(path.display().to_string(), object).tokens("eos_token_id")?
        {
            config.eos_token_id = tokens;
        }
        Ok(config)
    }

    /// Reads the fields of `object`; `file` is for errors. Absent fields mean what they mean to `GPT2Config`
    /// of the transformers library.
    ///
    /// # Errors
    /// Fields that are refused.
    pub fn parse(
        file: &str,
        object: Map<String, Value>,
        unknown: UnknownFields,
    ) -> Result<Gpt2Config, ModelError> {
        let mut fields = Fields::new(file, object);
        fields.only("model_type", &json!("gpt2"))?;
        fields.only("add_cross_attention", &json!(false))?;
        fields.only("is_encoder_decoder", &json!(false))?;
        fields.only("pruned_heads", &json!({}))?;
        fields.only("quantization_config", &Value::Null)?;
        let name = fields.text("activation_function")?.unwrap_or_else(|| "gelu_new".into());
        let activation_function = activation::activation(&name)
            .ok_or_else(|| fields.refuse("activation_function", activation::expected()))?;
        let n_embd = fields.count_or("n_embd", 768)?;
        let config = Gpt2Config {
            vocab_size: fields.count_or("vocab_size", 50257)?,
            n_positions: fields.count_or("n_positions", 1024)?,
            n_embd,
            n_layer: fields.count_or("n_layer", 12)?,
            n_head: fields.count_or("n_head", 12)?,
            n_inner: fields.count_or("n_inner", 4 * n_embd)?,
            activation_function,
            layer_norm_epsilon: fields.real_or("layer_norm_epsilon", 1e-5)?,
            scale_attn_weights: fields.flag_or("scale_attn_weights", true)?,
            scale_attn_by_inverse_layer_idx: fields.flag_or("scale_attn_by_inverse_layer_idx", false)?,
            tie_word_embeddings: fields.flag_or("tie_word_embeddings", true)?,
            eos_token_id: fields.tokens("eos_token_id")?.unwrap_or_else(|| vec![50256]),
        };
        fields.only("n_ctx", &json!(config.n_positions))?;
        if !config.n_embd.is_multiple_of(config.n_head) {
            let expected = format!("a divisor of n_embd, which is {}", config.n_embd);
            return Err(fields.refuse("n_head", expected));
        }
        fields.ignore(WITHOUT_EFFECT);
        fields.finish(unknown)?;
        Ok(config)
    }

    /// The factor of the attention scores in `layer`.
    pub fn attention_scale(&self, layer: usize) -> f64 {
        let head = (self.n_embd / self.n_head) as f64;
        let scale = if self.scale_attn_weights { 1.0 / head.sqrt() } else { 1.0 };
        if self.scale_attn_by_inverse_layer_idx { scale / (layer + 1) as f64 } else { scale }
    }
}
