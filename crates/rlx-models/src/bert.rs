//! BERT-class encoders.
//!
//! [`BertConfig`] reads `config.json`; [`module`] builds the blocks
//! `embeddings`, `attention_mask`, `encoder.layer.N.attention`, `encoder.layer.N`
//! (its feed-forward half), and `pooler` or `pooling` when their results are
//! asked for. Inputs are `input_ids`, `token_type_ids` and `attention_mask`,
//! each `i64[B, S]`; positions count from 0. No dropout, no heads on top.

mod config;
mod pooling;

pub use config::BertConfig;

use crate::block::{Block, Extents, MatrixOrder};
use crate::error::ModelError;
use crate::sentence::SentenceSettings;
use crate::weights::ModelWeights;
use rlx_ir::hir::{HirModule, HirValue};
use rlx_ir::ops::{Attention, AttentionLayout, AttentionOperands, MaskKind};
use rlx_ir::{DType, Dim};
use std::path::Path;

/// Prefixes that checkpoints put before the names.
const PREFIXES: &[&str] = &["bert."];

/// Which results an encoder module has.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct BertOutputs {
    /// `last_hidden_state`: `f32[B, S, hidden]`.
    pub last_hidden_state: bool,
    /// `pooler_output`: `f32[B, hidden]`, the tanh layer over the first token.
    pub pooler_output: bool,
    /// `sentence_embedding`: `f32[B, hidden]`, pooled and normalised as said.
    pub sentence_embedding: Option<SentenceSettings>,
}

/// Opens the weights of an encoder folder.
///
/// # Errors
/// Files that are missing or damaged.
pub fn open_weights(folder: impl AsRef<Path>) -> Result<ModelWeights, ModelError> {
    ModelWeights::open(folder.as_ref(), PREFIXES)
}

/// The encoder as a module of blocks.
///
/// # Errors
/// Weights that are missing, unused or do not fit `config`.
pub fn module(
    config: &BertConfig,
    weights: &ModelWeights,
    outputs: BertOutputs,
) -> Result<HirModule, ModelError> {
    let builder = Builder { config, weights, extents: Extents { positions: config.max_position_embeddings } };
    let mut module = HirModule::new("bert");
    builder.embeddings(&mut module)?;
    builder.mask(&mut module)?;
    let mut hidden = HirValue::block("embeddings", "hidden");
    for layer in 0..config.num_hidden_layers {
        hidden = builder.layer(&mut module, layer, hidden)?;
    }
    builder.refuse_unused()?;
    if outputs.last_hidden_state {
        module.output("last_hidden_state", hidden.clone());
    }
    if outputs.pooler_output {
        builder.pooler(&mut module, hidden.clone())?;
    }
    if let Some(settings) = outputs.sentence_embedding {
        builder.pooling(&mut module, hidden, settings)?;
    }
    Ok(module)
}

struct Builder<'a> {
    config: &'a BertConfig,
    weights: &'a ModelWeights,
    extents: Extents,
}

impl<'a> Builder<'a> {
    fn block(&self, kind: &str, path: &'a str) -> Block<'a> {
        Block::new(kind, path, self.weights, &self.extents)
    }

    fn embeddings(&self, module: &mut HirModule) -> Result<(), ModelError> {
        let config = self.config;
        let width = config.hidden_size;
        let mut block = self.block("embeddings", "embeddings");
        let (ids, types) = (block.tokens("input_ids"), block.tokens("token_type_ids"));
        let words = block.embedding("word_embeddings.weight", [config.vocab_size, width], ids);
        let kinds = block.embedding("token_type_embeddings.weight", [config.type_vocab_size, width], types);
        let table = block.param("position_embeddings.weight", &[config.max_position_embeddings, width]);
        let positions = block.graph.narrow_at(table, 0, 0, Extents::sequence());
        let positions = block.graph.cast_to(positions, DType::F32);
        let sum = block.graph.add(words, kinds);
        let sum = block.graph.add(sum, positions);
        let hidden = block.layer_norm(sum, "LayerNorm", width, config.layer_norm_eps);
        block.graph.output("hidden", hidden);
        let inputs = ["input_ids", "token_type_ids"].map(|name| (name, HirValue::input(name)));
        block.finish(module, inputs)
    }

    /// The mask that all layers share: which keys count, `bool[B, 1, 1, S]`.
    fn mask(&self, module: &mut HirModule) -> Result<(), ModelError> {
        let mut block = self.block("attention_mask", "attention_mask");
        let mask = block.tokens("attention_mask");
        let zero = block.graph.scalar(DType::I64, 0.0);
        let keep = block.graph.compare_ne(mask, zero);
        let dims: [Dim; 4] = [Extents::batch(), 1.into(), 1.into(), Extents::sequence()];
        let keep = block.graph.view(keep, dims);
        block.graph.output("keep", keep);
        block.finish(module, [("attention_mask", HirValue::input("attention_mask"))])
    }

    fn layer(&self, module: &mut HirModule, layer: usize, hidden: HirValue) -> Result<HirValue, ModelError> {
        let attention = format!("encoder.layer.{layer}.attention");
        self.attention(module, &attention, hidden)?;
        let path = format!("encoder.layer.{layer}");
        self.feed_forward(module, &path, HirValue::block(&attention, "hidden"))?;
        Ok(HirValue::block(&path, "hidden"))
    }

    fn attention(&self, module: &mut HirModule, path: &str, hidden: HirValue) -> Result<(), ModelError> {
        let config = self.config;
        let (width, heads) = (config.hidden_size, config.num_attention_heads);
        let mut block = Block::new("attention", path, self.weights, &self.extents);
        let x = block.hidden("hidden", width);
        let dims = vec![Extents::batch(), 1.into(), 1.into(), Extents::sequence()];
        let keep = block.graph.input("keep", rlx_ir::TensorType::new(DType::Bool, dims));
        let [q, k, v] = ["query", "key", "value"].map(|name| {
            let flat = block.linear(x, &format!("self.{name}"), [width, width], MatrixOrder::OutIn);
            block.heads(flat, heads, width)
        });
        let op = Attention::heads(heads, heads).layout(AttentionLayout::Bshd).mask_kind(MaskKind::Custom);
        let operands = AttentionOperands { mask: Some(keep), ..AttentionOperands::new(q, k, v) };
        let mixed = block.graph.attend(op, operands).first().copied().unwrap_or(rlx_ir::Value::POISON);
        let mixed = block.merge(mixed, width);
        let out = block.linear(mixed, "output.dense", [width, width], MatrixOrder::OutIn);
        let sum = block.graph.add(out, x);
        let normal = block.layer_norm(sum, "output.LayerNorm", width, config.layer_norm_eps);
        block.graph.output("hidden", normal);
        block.finish(module, [("hidden", hidden), ("keep", HirValue::block("attention_mask", "keep"))])
    }

    fn feed_forward(&self, module: &mut HirModule, path: &str, hidden: HirValue) -> Result<(), ModelError> {
        let config = self.config;
        let (width, inner) = (config.hidden_size, config.intermediate_size);
        let mut block = Block::new("feed_forward", path, self.weights, &self.extents);
        let x = block.hidden("hidden", width);
        let wide = block.linear(x, "intermediate.dense", [width, inner], MatrixOrder::OutIn);
        let wide = block.activation(wide, config.hidden_act);
        let out = block.linear(wide, "output.dense", [inner, width], MatrixOrder::OutIn);
        let sum = block.graph.add(out, x);
        let normal = block.layer_norm(sum, "output.LayerNorm", width, config.layer_norm_eps);
        block.graph.output("hidden", normal);
        block.finish(module, [("hidden", hidden)])
    }

    /// Refuses tensors of embeddings and layers that the module does not use:
    /// more layers than configured, relative positions, adapters.
    fn refuse_unused(&self) -> Result<(), ModelError> {
        let layers = self.config.num_hidden_layers;
        self.weights.refuse(|name| match name.strip_prefix("encoder.layer.") {
            Some(rest) => {
                let (index, inner) = rest.split_once('.').unwrap_or((rest, ""));
                let in_range = index.parse::<usize>().is_ok_and(|index| index < layers);
                let dense = ["attention.self.query.", "attention.self.key.", "attention.self.value."];
                let others = ["attention.output.", "intermediate.dense.", "output."];
                !(in_range && dense.iter().chain(&others).any(|known| inner.starts_with(known)))
            }
            None => name.strip_prefix("embeddings.").is_some_and(|inner| {
                let known =
                    ["word_embeddings.", "token_type_embeddings.", "position_embeddings.", "LayerNorm."];
                inner != "position_ids"
                    && inner != "token_type_ids"
                    && !known.iter().any(|k| inner.starts_with(k))
            }),
        })
    }
}
