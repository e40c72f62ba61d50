//! Model families as modules of named blocks, tokenizers and generation.
//!
//! A model is read from a Hugging Face folder: `config.json` becomes a
//! [`BertConfig`] or [`Gpt2Config`], the weights are checked against it, and
//! [`bert`] or [`gpt2`] build a [`HirModule`](rlx_ir::hir::HirModule) whose batch
//! `B` and sequence `S` are symbols. Params have the names of the files, without
//! the prefix that some checkpoints put before them. [`TextEmbedder`] and
//! [`Generator`] run such modules on a session.
//!
//! Folders are untrusted: every field that changes results is honoured or
//! refused by name, sizes are checked before they are used, and nothing panics.
//! No kernel and no backend stands here.
#![forbid(unsafe_code)]

mod activation;
pub mod bert;
mod block;
mod embed;
mod error;
mod fields;
mod files;
pub mod generate;
pub mod gpt2;
mod sentence;
mod tokenizer;
mod weights;

pub use bert::BertConfig;
pub use embed::TextEmbedder;
pub use error::ModelError;
pub use fields::UnknownFields;
pub use generate::{FinishReason, GenerateOptions, Generated, Generator};
pub use gpt2::Gpt2Config;
pub use sentence::{Pooling, SentenceSettings};
pub use tokenizer::{Encoding, TextTokenizer};
pub use weights::ModelWeights;
