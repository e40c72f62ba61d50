//! `tokenizer.json`, and its limits.
//!
//! The file is checked for size and nesting before the tokenizer library sees
//! it; what that library panics on becomes an error. Truncation and padding in
//! the file say how it was last saved, not how the model is used: both are
//! replaced. Padding is the caller's, so that batches of any shape are possible.

use crate::error::ModelError;
use crate::files::{TOKENIZER_LIMIT, check_depth, read};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use tokenizers::{Tokenizer, TruncationDirection, TruncationParams, TruncationStrategy};

/// Most bytes of one text.
const TEXT_LIMIT: usize = 64 << 20;

/// The tokens of one text.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Encoding {
    /// Tokens.
    pub ids: Vec<u32>,
    /// The segment of each: 0, or 1 for the second text of a pair.
    pub type_ids: Vec<u32>,
}

/// Cuts text into tokens and joins them again.
#[derive(Clone)]
pub struct TextTokenizer {
    inner: Tokenizer,
}

impl std::fmt::Debug for TextTokenizer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "TextTokenizer({} tokens)", self.inner.get_vocab_size(true))
    }
}

impl TextTokenizer {
    /// Reads `tokenizer.json` of `folder`. Texts are cut to `max_tokens` tokens, special ones
    /// included; not at all when `None`.
    ///
    /// # Errors
    /// A file that is missing, too large, nested too deeply or not a tokenizer.
    pub fn read(folder: impl AsRef<Path>, max_tokens: Option<usize>) -> Result<TextTokenizer, ModelError> {
        let path = folder.as_ref().join("tokenizer.json");
        let bytes = read(&path, TOKENIZER_LIMIT)?;
        TextTokenizer::parse(&path.display().to_string(), &bytes, max_tokens)
    }

    /// As [`TextTokenizer::read`], from the bytes of `file`.
    ///
    /// # Errors
    /// As [`TextTokenizer::read`].
    pub fn parse(file: &str, bytes: &[u8], max_tokens: Option<usize>) -> Result<TextTokenizer, ModelError> {
        check_depth(file, bytes)?;
        let refuse = |message: String| ModelError::Tokenizer { file: file.into(), message };
        let mut inner = guarded(|| Tokenizer::from_bytes(bytes)).map_err(refuse)?;
        inner.with_padding(None);
        let truncation = max_tokens.map(|max_length| TruncationParams {
            max_length,
            direction: TruncationDirection::Right,
            strategy: TruncationStrategy::LongestFirst,
            stride: 0,
        });
        guarded(|| inner.with_truncation(truncation).map(|_| ())).map_err(refuse)?;
        Ok(TextTokenizer { inner })
    }

    /// The tokens of `text`, with the special tokens of the model around them.
    ///
    /// # Errors
    /// A text of more than 64 MiB, or one that the tokenizer fails on.
    pub fn encode(&self, text: &str) -> Result<Encoding, ModelError> {
        if text.len() > TEXT_LIMIT {
            return Err(ModelError::Tokenize(format!(
                "a text of {} bytes is longer than the limit of {TEXT_LIMIT}",
                text.len()
            )));
        }
        let encoding = guarded(|| self.inner.encode(text, true)).map_err(ModelError::Tokenize)?;
        Ok(Encoding { ids: encoding.get_ids().to_vec(), type_ids: encoding.get_type_ids().to_vec() })
    }

    /// The text of `ids`; special tokens become text too.
    ///
    /// # Errors
    /// Tokens that the tokenizer fails on.
    pub fn decode(&self, ids: &[u32]) -> Result<String, ModelError> {
        guarded(|| self.inner.decode(ids, false)).map_err(ModelError::Tokenize)
    }

    /// The token that is written `text`.
    pub fn token(&self, text: &str) -> Option<u32> {
        self.inner.token_to_id(text)
    }
}

/// Runs `work` of the tokenizer library; a panic in it becomes a message.
fn guarded<T, E: std::fmt::Display>(work: impl FnOnce() -> Result<T, E>) -> Result<T, String> {
    match catch_unwind(AssertUnwindSafe(work)) {
        Ok(result) => result.map_err(|error| error.to_string()),
        Err(panic) => {
            let text = panic.downcast_ref::<String>().map(String::as_str);
            let text = text.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("no message");
            Err(format!("the tokenizer library gave up: {text}"))
        }
    }
}
