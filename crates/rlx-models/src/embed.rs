//! Text to vectors: tokenizer, encoder and pooling in one.

use crate::bert::{self, BertConfig, BertOutputs};
use crate::error::ModelError;
use crate::fields::UnknownFields;
use crate::sentence::SentenceSettings;
use crate::tokenizer::{Encoding, TextTokenizer};
use rlx_runtime::{CompiledGraph, RuntimeError, Session, TensorRef};
use std::path::Path;

/// An encoder with its tokenizer, ready to embed texts.
#[derive(Debug)]
pub struct TextEmbedder {
    config: BertConfig,
    settings: SentenceSettings,
    tokenizer: TextTokenizer,
    compiled: CompiledGraph,
}

impl TextEmbedder {
    /// Loads the model in `folder` (`config.json`, `tokenizer.json`, weights, and the files of
    /// sentence-transformers where they are) onto the device of `session`.
    ///
    /// # Errors
    /// Whatever is wrong with the folder; what the device refuses.
    pub fn load(session: &Session, folder: impl AsRef<Path>) -> Result<TextEmbedder, ModelError> {
        let folder = folder.as_ref();
        let config = BertConfig::read(folder, UnknownFields::Refuse)?;
        let settings = SentenceSettings::read(folder, config.hidden_size)?;
        let limit = settings.max_tokens.unwrap_or(usize::MAX).min(config.max_position_embeddings);
        let tokenizer = TextTokenizer::read(folder, Some(limit))?;
        let weights = bert::open_weights(folder)?;
        let outputs = BertOutputs { sentence_embedding: Some(settings), ..BertOutputs::default() };
        let module = bert::module(&config, &weights, outputs)?;
        let mut compiled = session.compile_hir(&module)?;
        weights.bind(&mut compiled)?;
        Ok(TextEmbedder { config, settings, tokenizer, compiled })
    }

    /// The configuration of the encoder.
    pub fn config(&self) -> &BertConfig {
        &self.config
    }

    /// How positions become one vector.
    pub fn settings(&self) -> SentenceSettings {
        self.settings
    }

    /// The compiled encoder, for times and reports.
    pub fn compiled(&mut self) -> &mut CompiledGraph {
        &mut self.compiled
    }

    /// Numbers per embedding.
    pub fn width(&self) -> usize {
        self.config.hidden_size
    }

    /// The tokens of `text`, cut to what the model takes.
    ///
    /// # Errors
    /// A text that the tokenizer fails on, a token beyond the vocabulary.
    pub fn encode(&self, text: &str) -> Result<Encoding, ModelError> {
        let encoding = match self.settings.lower_case {
            true => self.tokenizer.encode(&text.to_lowercase())?,
            false => self.tokenizer.encode(text)?,
        };
        self.check(&encoding)?;
        Ok(encoding)
    }

    /// One vector of [`TextEmbedder::width`] numbers per text, all in one run.
    ///
    /// # Errors
    /// As [`TextEmbedder::encode`], and what running reports.
    pub fn embed(&mut self, texts: &[&str]) -> Result<Vec<Vec<f32>>, ModelError> {
        let encodings = texts.iter().map(|text| self.encode(text)).collect::<Result<Vec<_>, _>>()?;
        self.embed_tokens(&encodings)
    }

    /// As [`TextEmbedder::embed`], from tokens. Shorter rows are padded; the padding has no effect.
    ///
    /// # Errors
    /// An encoding without tokens or with more than the model has positions for, a token beyond the
    /// vocabulary, and what running reports.
    pub fn embed_tokens(&mut self, encodings: &[Encoding]) -> Result<Vec<Vec<f32>>, ModelError> {
        encodings.iter().try_for_each(|encoding| self.check(encoding))?;
        let batch = encodings.len();
        let longest = encodings.iter().map(|encoding| encoding.ids.len()).max().unwrap_or(0);
        if batch == 0 {
            return Ok(vec![]);
        }
        let mut ids = vec![0i64; batch * longest];
        let (mut types, mut mask) = (ids.clone(), ids.clone());
        for (row, encoding) in encodings.iter().enumerate() {
            for (column, &id) in encoding.ids.iter().enumerate() {
                let position = row * longest + column;
                ids[position] = i64::from(id);
                types[position] = encoding.type_ids.get(column).map_or(0, |&kind| i64::from(kind));
                mask[position] = 1;
            }
        }
        let dims = [batch, longest];
        let tensor = |values| TensorRef::i64(&dims, values).map_err(RuntimeError::from);
        let inputs = [
            ("input_ids", tensor(&ids)?),
            ("token_type_ids", tensor(&types)?),
            ("attention_mask", tensor(&mask)?),
        ];
        let outputs = self.compiled.run_raw(&inputs)?;
        let values: Vec<f32> = outputs.first().map(|output| floats(output.bytes)).unwrap_or_default();
        Ok(values.chunks_exact(self.config.hidden_size).map(<[f32]>::to_vec).collect())
    }

    fn check(&self, encoding: &Encoding) -> Result<(), ModelError> {
        let (found, limit) = (encoding.ids.len(), self.config.max_position_embeddings);
        if found == 0 {
            return Err(ModelError::Request { what: "text", message: "it has no tokens at all".into() });
        }
        if found > limit {
            return Err(ModelError::TooLong { found, limit, reason: " of the encoder" });
        }
        let vocabulary = self.config.vocab_size;
        if let Some(&token) = encoding.ids.iter().find(|&&id| id as usize >= vocabulary) {
            return Err(ModelError::Token { token, vocabulary });
        }
        let kinds = self.config.type_vocab_size;
        if let Some(kind) = encoding.type_ids.iter().find(|&&kind| kind as usize >= kinds) {
            let message = format!("segment {kind} is not one of the {kinds} that the model has");
            return Err(ModelError::Request { what: "type_ids", message });
        }
        Ok(())
    }
}

/// Little-endian `f32` values.
fn floats(bytes: &[u8]) -> Vec<f32> {
    bytes.chunks_exact(4).map(|four| f32::from_le_bytes([four[0], four[1], four[2], four[3]])).collect()
}
