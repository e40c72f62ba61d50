//! GPT-2-class decoders.
//!
//! [`Gpt2Config`] reads `config.json`; [`module`] builds the blocks `embeddings`,
//! `h.N` and `head`. Input `input_ids` is `i64[B, S]`. With a cache, keys and
//! values live in the states `h.N.key_cache` and `h.N.value_cache`,
//! `[B, capacity, heads, depth]`, and input `past`, `i64[B]`, says how many
//! positions of each row are filled: the tokens of this run stand at `past ..`,
//! so one module serves the prompt (many tokens) and each step after it (one).
//! Rows may be of different lengths: tokens past a row's end are overwritten by
//! what comes next and are seen by no earlier token. No dropout, no other head.

mod config;

pub use config::Gpt2Config;

use crate::block::{Block, Extents, MatrixOrder};
use crate::error::ModelError;
use crate::weights::ModelWeights;
use rlx_ir::hir::{HirModule, HirValue};
use rlx_ir::ops::{Attention, AttentionLayout, AttentionOperands, MaskKind};
use rlx_ir::{DType, Dim, TensorType, Value};
use rlx_weights::WeightLoader;
use std::path::Path;
use std::sync::Arc;

/// Prefixes that checkpoints put before the names.
const PREFIXES: &[&str] = &["transformer."];

/// Which positions have logits.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Logits {
    /// One per row: `logits` is `f32[B, vocabulary]`, and input `last`, `i64[B]`, says at which
    /// of the `S` tokens of this run.
    #[default]
    Last,
    /// All: `logits` is `f32[B, S, vocabulary]`.
    All,
}

/// What a decoder module keeps and gives.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Gpt2Options {
    /// Positions that the cache holds; `None` for a module without cache, whose rows start at position 0.
    pub cache: Option<usize>,
    /// Which positions have logits.
    pub logits: Logits,
}

/// Opens the weights of a decoder folder.
///
/// # Errors
/// Files that are missing or damaged.
pub fn open_weights(folder: impl AsRef<Path>) -> Result<ModelWeights, ModelError> {
    ModelWeights::open(folder.as_ref(), PREFIXES)
}

/// The weights of a decoder, wherever they are.
///
/// # Errors
/// Two tensors that mean the same.
pub fn weights_of(loader: Arc<dyn WeightLoader>) -> Result<ModelWeights, ModelError> {
    ModelWeights::of(loader, PREFIXES)
}

/// The decoder as a module of blocks.
///
/// # Errors
/// Weights that are missing, unused or do not fit `config`; a cache that is larger than the model's positions.
pub fn module(
    config: &Gpt2Config,
    weights: &ModelWeights,
    options: Gpt2Options,
) -> Result<HirModule, ModelError> {
    let positions = options.cache.unwrap_or(config.n_positions);
    if positions == 0 || positions > config.n_positions {
        let message = format!("{positions} positions; it may have 1 to {}", config.n_positions);
        return Err(ModelError::Request { what: "cache", message });
    }
    let builder = Builder { config, weights, options, extents: Extents { positions } };
    let mut module = HirModule::new("gpt2");
    builder.embeddings(&mut module)?;
    let mut hidden = HirValue::block("embeddings", "hidden");
    for layer in 0..config.n_layer {
        let path = format!("h.{layer}");
        builder.layer(&mut module, layer, &path, hidden)?;
        hidden = HirValue::block(&path, "hidden");
    }
    builder.head(&mut module, hidden)?;
    builder.refuse_unused()?;
    Ok(module)
}

struct Builder<'a> {
    config: &'a Gpt2Config,
    weights: &'a ModelWeights,
    options: Gpt2Options,
    extents: Extents,
}

/// An `i64[B]` input.
fn per_row(block: &mut Block<'_>, name: &str) -> Value {
    block.graph.input(name, TensorType::new(DType::I64, vec![Extents::batch()]))
}

impl Builder<'_> {
    /// Token and position rows; with a cache also how many keys each row has after this run.
    fn embeddings(&self, module: &mut HirModule) -> Result<(), ModelError> {
        let config = self.config;
        let width = config.n_embd;
        let mut block = Block::new("embeddings", "embeddings", self.weights, &self.extents);
        let ids = block.tokens("input_ids");
        let tokens = block.embedding("/wte.weight", [config.vocab_size, width], ids);
        let mut inputs = vec![("input_ids", HirValue::input("input_ids"))];
        let places = if self.options.cache.is_some() {
            let past = per_row(&mut block, "past");
            inputs.push(("past", HirValue::input("past")));
            let g = &mut block.graph;
            let offsets = g.iota(DType::I64, vec![Extents::sequence()], 0usize);
            let column = g.unsqueeze(past, 1);
            let places = g.add(column, offsets);
            let last = g.narrow_at(places, 1, Extents::sequence() - Dim::from(1), 1);
            let last = g.view(last, [Extents::batch()]);
            let one = g.scalar(DType::I64, 1.0);
            let lengths = g.add(last, one);
            g.output("lengths", lengths);
            block.embedding("/wpe.weight", [config.n_positions, width], places)
        } else {
            let table = block.param("/wpe.weight", &[config.n_positions, width]);
            let rows = block.graph.narrow_at(table, 0, 0, Extents::sequence());
            block.graph.cast_to(rows, DType::F32)
        };
        let hidden = block.graph.add(tokens, places);
        block.graph.output("hidden", hidden);
        block.finish(module, inputs)
    }

    fn layer(
        &self,
        module: &mut HirModule,
        layer: usize,
        path: &str,
        hidden: HirValue,
    ) -> Result<(), ModelError> {
        let config = self.config;
        let (width, eps) = (config.n_embd, config.layer_norm_epsilon);
        let mut block = Block::new("layer", path, self.weights, &self.extents);
        let mut inputs = vec![("hidden", hidden)];
        let x = block.hidden("hidden", width);
        let normal = block.layer_norm(x, "ln_1", width, eps);
        let packed = block.linear(normal, "attn.c_attn", [width, 3 * width], MatrixOrder::InOut);
        let [q, k, v] = [0, 1, 2].map(|part: usize| {
            let flat = block.graph.narrow_at(packed, 2, part * width, width);
            block.heads(flat, config.n_head, width)
        });
        let mixed = self.attention(&mut block, &mut inputs, layer, [q, k, v]);
        let mixed = block.merge(mixed, width);
        let out = block.linear(mixed, "attn.c_proj", [width, width], MatrixOrder::InOut);
        let x = block.graph.add(out, x);
        let normal = block.layer_norm(x, "ln_2", width, eps);
        let wide = block.linear(normal, "mlp.c_fc", [width, config.n_inner], MatrixOrder::InOut);
        let wide = block.activation(wide, config.activation_function);
        let out = block.linear(wide, "mlp.c_proj", [config.n_inner, width], MatrixOrder::InOut);
        let x = block.graph.add(out, x);
        block.graph.output("hidden", x);
        block.finish(module, inputs)
    }

    /// Causal attention over the tokens of this run, or over the cache with them appended.
    fn attention(
        &self,
        block: &mut Block<'_>,
        inputs: &mut Vec<(&'static str, HirValue)>,
        layer: usize,
        [q, k, v]: [Value; 3],
    ) -> Value {
        let heads = self.config.n_head;
        let scale = self.config.attention_scale(layer);
        let op = Attention {
            scale: Some(scale.into()),
            ..Attention::heads(heads, heads).layout(AttentionLayout::Bshd).mask_kind(MaskKind::Causal)
        };
        let operands = match self.options.cache {
            None => AttentionOperands::new(q, k, v),
            Some(capacity) => {
                let (past, lengths) = (per_row(block, "past"), per_row(block, "lengths"));
                inputs.push(("past", HirValue::input("past")));
                inputs.push(("lengths", HirValue::block("embeddings", "lengths")));
                let depth = self.config.n_embd / heads;
                let dims = vec![Extents::batch(), capacity.into(), heads.into(), depth.into()];
                let [k, v] = [("key_cache", k), ("value_cache", v)].map(|(name, new)| {
                    let state = block.graph.state(name, TensorType::new(DType::F32, dims.clone()));
                    let whole = block.graph.kv_append(state, new, past, 1usize);
                    block.graph.update_state(name, whole);
                    whole
                });
                AttentionOperands { kv_lengths: Some(lengths), ..AttentionOperands::new(q, k, v) }
            }
        };
        block.graph.attend(op, operands).first().copied().unwrap_or(Value::POISON)
    }

    /// The last norm and the output projection.
    fn head(&self, module: &mut HirModule, hidden: HirValue) -> Result<(), ModelError> {
        let config = self.config;
        let width = config.n_embd;
        let mut block = Block::new("head", "head", self.weights, &self.extents);
        let mut inputs = vec![("hidden", hidden)];
        let mut x = block.hidden("hidden", width);
        if self.options.logits == Logits::Last {
            let last = per_row(&mut block, "last");
            inputs.push(("last", HirValue::input("last")));
            x = row_at(&mut block, x, last, width);
        }
        let x = block.layer_norm(x, "/ln_f", width, config.layer_norm_epsilon);
        let table = if config.tie_word_embeddings { "/wte.weight" } else { "/lm_head.weight" };
        let table = block.param_f32(table, &[config.vocab_size, width]);
        let mut logits = block.graph.matmul(x, table, false, true);
        if self.options.logits == Logits::Last {
            logits = block.graph.view(logits, [Extents::batch(), config.vocab_size.into()]);
        }
        block.graph.output("logits", logits);
        block.finish(module, inputs)?;
        module.output("logits", HirValue::block("head", "logits"));
        Ok(())
    }

    /// Refuses tensors of layers that the module does not use: more layers than configured, cross attention.
    fn refuse_unused(&self) -> Result<(), ModelError> {
        const KNOWN: &[&str] = &[
            "ln_1.",
            "ln_2.",
            "attn.c_attn.",
            "attn.c_proj.",
            "mlp.c_fc.",
            "mlp.c_proj.",
            "attn.bias",
            "attn.masked_bias",
        ];
        let layers = self.config.n_layer;
        self.weights.refuse(|name| {
            name.strip_prefix("h.").is_some_and(|rest| {
                let (index, inner) = rest.split_once('.').unwrap_or((rest, ""));
                let in_range = index.parse::<usize>().is_ok_and(|index| index < layers);
                !(in_range && KNOWN.iter().any(|known| inner.starts_with(known)))
            })
        })
    }
}

/// Position `last[b]` of every row of `x[B, S, width]`, as `[B, 1, width]`.
fn row_at(block: &mut Block<'_>, x: Value, last: Value, width: usize) -> Value {
    let g = &mut block.graph;
    let count = Extents::batch() * Extents::sequence();
    let flat = g.view(x, [count.clone(), width.into()]);
    let numbers = g.iota(DType::I64, vec![count], 0usize);
    let numbers = g.view(numbers, [Extents::batch(), Extents::sequence()]);
    let starts = g.narrow_at(numbers, 1, 0, 1);
    let starts = g.view(starts, [Extents::batch()]);
    let rows = g.add(starts, last);
    let rows = g.gather(flat, rows, 0usize);
    g.unsqueeze(rows, 1)
}
