//! `config.json` of a BERT-class encoder.

use crate::activation;
use crate::error::ModelError;
use crate::fields::{Fields, UnknownFields};
use crate::files::read_object;
use rlx_ir::ops::ActivationKind;
use serde_json::{Map, Value, json};
use std::path::Path;

/// What decides the graph of an encoder. Field names are those of the file.
#[derive(Clone, PartialEq, Debug)]
pub struct BertConfig {
    /// Tokens.
    pub vocab_size: usize,
    /// Width of the hidden state.
    pub hidden_size: usize,
    /// Layers.
    pub num_hidden_layers: usize,
    /// Heads of each attention; they divide `hidden_size`.
    pub num_attention_heads: usize,
    /// Width between the two linear layers of a feed-forward block.
    pub intermediate_size: usize,
    /// Function between them.
    pub hidden_act: ActivationKind,
    /// Positions.
    pub max_position_embeddings: usize,
    /// Kinds of segments.
    pub type_vocab_size: usize,
    /// Added to variances.
    pub layer_norm_eps: f64,
}

impl BertConfig {
    /// Reads `config.json` of `folder`.
    ///
    /// # Errors
    /// A missing or damaged file, and fields that are refused.
    pub fn read(folder: impl AsRef<Path>, unknown: UnknownFields) -> Result<BertConfig, ModelError> {
        let path = folder.as_ref().join("config.json");
        let object = read_object(&path)?;
        BertConfig::parse(&path.display().to_string(), object, unknown)
    }

    /// Reads the fields of `object`; `file` is for errors. Absent fields mean what they mean to `BertConfig`
    /// of the transformers library.
    ///
    /// # Errors
    /// Fields that are refused.
    pub fn parse(
        file: &str,
        object: Map<String, Value>,
        unknown: UnknownFields,
    ) -> Result<BertConfig, ModelError> {
        let mut fields = Fields::new(file, object);
        fields.only("model_type", &json!("bert"))?;
        fields.only("position_embedding_type", &json!("absolute"))?;
        fields.only("is_decoder", &json!(false))?;
        fields.only("is_encoder_decoder", &json!(false))?;
        fields.only("add_cross_attention", &json!(false))?;
        fields.only("pruned_heads", &json!({}))?;
        fields.only("quantization_config", &Value::Null)?;
        let name = fields.text("hidden_act")?.unwrap_or_else(|| "gelu".into());
        let hidden_act = activation::activation(&name)
            .ok_or_else(|| fields.refuse("hidden_act", activation::expected()))?;
        let config = BertConfig {
            vocab_size: fields.count_or("vocab_size", 30522)?,
            hidden_size: fields.count_or("hidden_size", 768)?,
            num_hidden_layers: fields.count_or("num_hidden_layers", 12)?,
            num_attention_heads: fields.count_or("num_attention_heads", 12)?,
            intermediate_size: fields.count_or("intermediate_size", 3072)?,
            hidden_act,
            max_position_embeddings: fields.count_or("max_position_embeddings", 512)?,
            type_vocab_size: fields.count_or("type_vocab_size", 2)?,
            layer_norm_eps: fields.real_or("layer_norm_eps", 1e-12)?,
        };
        if !config.hidden_size.is_multiple_of(config.num_attention_heads) {
            let expected = format!("a divisor of hidden_size, which is {}", config.hidden_size);
            return Err(fields.refuse("num_attention_heads", expected));
        }
        fields.ignore(&[
            "attention_probs_dropout_prob",
            "hidden_dropout_prob",
            // The feed-forward block in pieces: the same result.
            "chunk_size_feed_forward",
            "tie_encoder_decoder",
            // There is no output projection.
            "tie_word_embeddings",
        ]);
        fields.finish(unknown)?;
        Ok(config)
    }
}
