//! Text from tokens as they come, in pieces that are whole characters.
//!
//! A character may need several tokens, and some tokenizers write a token
//! differently at the start of a text. So a few tokens before are decoded along,
//! and what ends in a broken character waits for the next token.

use crate::error::ModelError;
use crate::tokenizer::TextTokenizer;

/// What stands for bytes that are no character.
const BROKEN: char = char::REPLACEMENT_CHARACTER;
/// Tokens of the prompt that are decoded along with the first new one.
const CONTEXT: usize = 6;
/// Most tokens that wait; more are no character however they go on.
const MOST_WAITING: usize = 64;

/// The text of a growing list of tokens.
#[derive(Clone, Debug)]
pub struct TextStream {
    /// The tokens that are decoded together.
    window: Vec<u32>,
    /// How many of them stand for text that was given out, or for the prompt.
    given: usize,
}

impl TextStream {
    /// A stream that goes on after `prompt`.
    pub fn after(prompt: &[u32]) -> TextStream {
        let window = prompt[prompt.len().saturating_sub(CONTEXT)..].to_vec();
        TextStream { given: window.len(), window }
    }

    /// The text that `token` completes; empty while a character is open.
    ///
    /// # Errors
    /// Tokens that the tokenizer fails on.
    pub fn push(&mut self, tokenizer: &TextTokenizer, token: u32) -> Result<String, ModelError> {
        self.window.push(token);
        let text = self.waiting(tokenizer)?;
        let waits = self.window.len() - self.given;
        if text.is_empty() || (text.ends_with(BROKEN) && waits < MOST_WAITING) {
            return Ok(String::new());
        }
        // What was given out before is context no longer needed; the newest stays as context.
        self.window.drain(..self.given);
        self.given = self.window.len();
        Ok(text)
    }

    /// What still waits when no token follows.
    ///
    /// # Errors
    /// Tokens that the tokenizer fails on.
    pub fn finish(self, tokenizer: &TextTokenizer) -> Result<String, ModelError> {
        self.waiting(tokenizer)
    }

    fn waiting(&self, tokenizer: &TextTokenizer) -> Result<String, ModelError> {
        if self.given == self.window.len() {
            return Ok(String::new());
        }
        let before = tokenizer.decode(&self.window[..self.given])?;
        let all = tokenizer.decode(&self.window)?;
        match all.strip_prefix(&before) {
            Some(new) => Ok(new.to_string()),
            None => tokenizer.decode(&self.window[self.given..]),
        }
    }
}
