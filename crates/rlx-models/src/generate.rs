//! Text generation with a decoder: prompts in, tokens out, one by one.
//!
//! The prompt runs at once, each later token alone; keys and values stay on the
//! device. Rows of a batch are independent: a row gives the same tokens whatever
//! stands beside it. A row ends at an end token, at its most tokens, when the
//! cache is full, or when the caller says so.

mod sample;
mod stream;

use crate::error::ModelError;
use crate::fields::UnknownFields;
use crate::gpt2::{self, Gpt2Config, Gpt2Options, Logits};
use crate::tokenizer::TextTokenizer;
use crate::weights::ModelWeights;
use rlx_runtime::{CompiledGraph, RuntimeError, Session, TensorRef};
use std::ops::ControlFlow;
use std::path::Path;
pub use stream::TextStream;

/// How tokens are chosen and when to stop.
#[derive(Clone, PartialEq, Debug)]
pub struct GenerateOptions {
    /// Most new tokens.
    pub max_new_tokens: usize,
    /// Divides the logits; 0 always takes the likeliest token.
    pub temperature: f32,
    /// Only the so many likeliest tokens; all when `None`.
    pub top_k: Option<usize>,
    /// Only the likeliest tokens that together have this probability; 1 takes all.
    pub top_p: f32,
    /// Only tokens that have at least this part of the likeliest one's probability; 0 takes all.
    pub min_p: f32,
    /// Key of the random numbers.
    pub seed: u64,
    /// Tokens that end a row; those of the model when `None`.
    pub stop_tokens: Option<Vec<u32>>,
}

impl Default for GenerateOptions {
    /// The likeliest token, 64 times.
    fn default() -> Self {
        GenerateOptions {
            max_new_tokens: 64,
            temperature: 0.0,
            top_k: None,
            top_p: 1.0,
            min_p: 0.0,
            seed: 0,
            stop_tokens: None,
        }
    }
}

impl GenerateOptions {
    fn check(&self) -> Result<(), ModelError> {
        let refuse = |what, found: &dyn std::fmt::Display, expected: &str| {
            Err(ModelError::Request { what, message: format!("is {found}, expected {expected}") })
        };
        if !self.temperature.is_finite() || self.temperature < 0.0 {
            return refuse("temperature", &self.temperature, "a finite number of at least 0");
        }
        if self.top_k == Some(0) {
            return refuse("top_k", &0, "at least 1");
        }
        if !(self.top_p > 0.0 && self.top_p <= 1.0) {
            return refuse("top_p", &self.top_p, "more than 0 and at most 1");
        }
        if !(0.0..=1.0).contains(&self.min_p) {
            return refuse("min_p", &self.min_p, "0 to 1");
        }
        Ok(())
    }
}

/// Why a row ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum FinishReason {
    /// An end token, which is not part of the result.
    EndToken,
    /// The most new tokens.
    MaxTokens,
    /// The cache has no position left.
    ContextFull,
    /// The caller said so.
    Stopped,
}

/// What became of one prompt.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Generated {
    /// The new tokens.
    pub tokens: Vec<u32>,
    /// Why there are no more.
    pub finish: FinishReason,
}

/// A decoder with its tokenizer and cache, ready to generate.
#[derive(Debug)]
pub struct Generator {
    config: Gpt2Config,
    tokenizer: TextTokenizer,
    compiled: CompiledGraph,
    capacity: usize,
}

/// One prompt on its way.
struct Row {
    /// Tokens that the next run takes.
    next: Vec<u32>,
    /// Positions of the cache that are filled.
    past: usize,
    tokens: Vec<u32>,
    finish: Option<FinishReason>,
}

impl Generator {
    /// Loads the model in `folder` (`config.json`, `tokenizer.json`, weights) onto the device of `session`,
    /// with a cache of `capacity` positions, or as many as the model has.
    ///
    /// # Errors
    /// Whatever is wrong with the folder; what the device refuses.
    pub fn load(
        session: &Session,
        folder: impl AsRef<Path>,
        capacity: Option<usize>,
    ) -> Result<Generator, ModelError> {
        let folder = folder.as_ref();
        let config = Gpt2Config::read(folder, UnknownFields::Refuse)?;
        let tokenizer = TextTokenizer::read(folder, None)?;
        Generator::from_parts(session, config, tokenizer, &gpt2::open_weights(folder)?, capacity)
    }

    /// As [`Generator::load`], from parts that are in memory already.
    ///
    /// # Errors
    /// Weights that do not fit `config`; what the device refuses.
    pub fn from_parts(
        session: &Session,
        config: Gpt2Config,
        tokenizer: TextTokenizer,
        weights: &ModelWeights,
        capacity: Option<usize>,
    ) -> Result<Generator, ModelError> {
        let capacity = capacity.unwrap_or(config.n_positions);
        let options = Gpt2Options { cache: Some(capacity), logits: Logits::Last };
        let module = gpt2::module(&config, weights, options)?;
        let mut compiled = session.compile_hir(&module)?;
        weights.bind(&mut compiled)?;
        Ok(Generator { config, tokenizer, compiled, capacity })
    }

    /// The configuration of the decoder.
    pub fn config(&self) -> &Gpt2Config {
        &self.config
    }

    /// The tokenizer.
    pub fn tokenizer(&self) -> &TextTokenizer {
        &self.tokenizer
    }

    /// The compiled decoder, for times and reports.
    pub fn compiled(&mut self) -> &mut CompiledGraph {
        &mut self.compiled
    }

    /// Goes on after `prompt`. `on_text` gets the new text in pieces of whole characters and may end
    /// the row; together the pieces are the text that is returned. A prompt without tokens starts
    /// after an end token.
    ///
    /// # Errors
    /// Settings without meaning, a prompt that is too long, and what running reports.
    pub fn generate(
        &mut self,
        prompt: &str,
        options: &GenerateOptions,
        on_text: &mut dyn FnMut(&str) -> ControlFlow<()>,
    ) -> Result<(String, Generated), ModelError> {
        let mut ids = self.tokenizer.encode(prompt)?.ids;
        if ids.is_empty() {
            ids.extend(self.config.eos_token_id.first());
        }
        let mut stream = TextStream::after(&ids);
        let tokenizer = self.tokenizer.clone();
        let (mut text, mut failure, mut stopped) = (String::new(), None, false);
        let mut generated =
            self.generate_tokens(&[&ids], options, &mut |_, token| match stream.push(&tokenizer, token) {
                Ok(piece) if piece.is_empty() => ControlFlow::Continue(()),
                Ok(piece) => {
                    text.push_str(&piece);
                    let flow = on_text(&piece);
                    stopped = flow.is_break();
                    flow
                }
                Err(error) => {
                    failure = Some(error);
                    ControlFlow::Break(())
                }
            })?;
        if let Some(failure) = failure {
            return Err(failure);
        }
        let rest = stream.finish(&tokenizer)?;
        if !rest.is_empty() && !stopped {
            text.push_str(&rest);
            // The row has ended already.
            let _ = on_text(&rest);
        }
        let generated = generated.pop().expect("one row went in");
        Ok((text, generated))
    }

    /// Goes on after each of `prompts`, all in one batch. `on_token` gets the row and each new token
    /// and may end the row.
    ///
    /// # Errors
    /// Settings without meaning, a prompt that is empty or too long, a token beyond the vocabulary,
    /// and what running reports.
    pub fn generate_tokens(
        &mut self,
        prompts: &[&[u32]],
        options: &GenerateOptions,
        on_token: &mut dyn FnMut(usize, u32) -> ControlFlow<()>,
    ) -> Result<Vec<Generated>, ModelError> {
        options.check()?;
        let mut rows = prompts.iter().map(|prompt| self.row(prompt)).collect::<Result<Vec<_>, _>>()?;
        let stop_tokens = options.stop_tokens.clone().unwrap_or_else(|| self.config.eos_token_id.clone());
        for step in 0..options.max_new_tokens {
            if rows.iter().all(|row| row.finish.is_some()) {
                break;
            }
            let logits = self.run(&rows)?;
            for (index, row) in rows.iter_mut().enumerate() {
                if row.finish.is_some() {
                    continue;
                }
                row.past += row.next.len();
                let width = self.config.vocab_size;
                let token =
                    sample::choose(&logits[index * width..(index + 1) * width], options, index, step)?;
                row.next = vec![token];
                if stop_tokens.contains(&token) {
                    row.finish = Some(FinishReason::EndToken);
                    continue;
                }
                row.tokens.push(token);
                if on_token(index, token).is_break() {
                    row.finish = Some(FinishReason::Stopped);
                } else if row.tokens.len() < options.max_new_tokens && row.past == self.capacity {
                    row.finish = Some(FinishReason::ContextFull);
                }
            }
        }
        let done = |row: Row| Generated {
            tokens: row.tokens,
            finish: row.finish.unwrap_or(FinishReason::MaxTokens),
        };
        Ok(rows.into_iter().map(done).collect())
    }

    fn row(&self, prompt: &[u32]) -> Result<Row, ModelError> {
        let vocabulary = self.config.vocab_size;
        if prompt.is_empty() {
            let message = "it has no tokens; start with an end token".into();
            return Err(ModelError::Request { what: "prompt", message });
        }
        if prompt.len() > self.capacity {
            return Err(ModelError::TooLong {
                found: prompt.len(),
                limit: self.capacity,
                reason: " of the cache",
            });
        }
        if let Some(&token) = prompt.iter().find(|&&token| token as usize >= vocabulary) {
            return Err(ModelError::Token { token, vocabulary });
        }
        Ok(Row { next: prompt.to_vec(), past: 0, tokens: vec![], finish: None })
    }

    /// Runs the next tokens of all rows; the logits after each row's last token. Rows that have ended
    /// run their last positions again, which nothing reads.
    fn run(&mut self, rows: &[Row]) -> Result<Vec<f32>, ModelError> {
        let (batch, longest) = (rows.len(), rows.iter().map(|row| row.next.len()).max().unwrap_or(0));
        let mut ids = vec![0i64; batch * longest];
        let (mut past, mut last) = (vec![0i64; batch], vec![0i64; batch]);
        for (index, row) in rows.iter().enumerate() {
            for (column, &token) in row.next.iter().enumerate() {
                ids[index * longest + column] = i64::from(token);
            }
            past[index] = row.past.min(self.capacity - longest) as i64;
            last[index] = row.next.len() as i64 - 1;
        }
        let (matrix, vector) = ([batch, longest], [batch]);
        let tensor = |dims, values| TensorRef::i64(dims, values).map_err(RuntimeError::from);
        let inputs = [
            ("input_ids", tensor(&matrix, &ids)?),
            ("past", tensor(&vector, &past)?),
            ("last", tensor(&vector, &last)?),
        ];
        let outputs = self.compiled.run_raw(&inputs)?;
        let bytes = outputs.first().map_or(&[][..], |output| output.bytes);
        Ok(bytes
            .chunks_exact(4)
            .map(|four| f32::from_le_bytes([four[0], four[1], four[2], four[3]]))
            .collect())
    }
}
