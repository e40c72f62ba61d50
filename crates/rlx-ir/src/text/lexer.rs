//! Tokens of the text form.

use crate::diagnostic::{Diagnostic, IrError};
use std::cell::Cell;

/// A cursor over text that skips blanks and `;` comments.
pub struct Lexer<'a> {
    text: &'a str,
    position: usize,
    /// A position that was asked for, and its line.
    counted: Cell<(usize, usize)>,
}

fn is_word_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || byte == b'_'
}

impl<'a> Lexer<'a> {
    /// A cursor at the start of `text`, after the byte order mark that some editors write.
    pub fn new(text: &'a str) -> Lexer<'a> {
        let text = text.strip_prefix('\u{feff}').unwrap_or(text);
        Lexer { text, position: 0, counted: Cell::new((0, 1)) }
    }

    /// Line of the cursor, from 1. Counts on from the last answer, so that asking at every node is cheap.
    pub fn line(&self) -> usize {
        let (position, line) = self.counted.get();
        let since = &self.text.as_bytes()[position..self.position];
        let line = line + since.iter().filter(|&&byte| byte == b'\n').count();
        self.counted.set((self.position, line));
        line
    }

    pub fn error(&self, subject: impl Into<String>, message: impl Into<String>) -> IrError {
        IrError::Syntax(Diagnostic::new(subject, message).line(self.line()))
    }

    pub fn expected<T>(&mut self, what: &str) -> Result<T, IrError> {
        let found = self.describe();
        Err(self.error("text", format!("expected {what}, found {found}")))
    }

    /// What stands at the cursor, for messages.
    pub fn describe(&mut self) -> String {
        let rest = self.rest();
        let end = rest
            .char_indices()
            .take(20)
            .find(|(_, c)| c.is_whitespace())
            .map_or(rest.char_indices().nth(20).map_or(rest.len(), |(index, _)| index), |(index, _)| index);
        if rest.is_empty() { "the end".into() } else { format!("`{}`", &rest[..end]) }
    }

    /// The text after blanks and comments.
    pub fn rest(&mut self) -> &'a str {
        loop {
            let rest = &self.text[self.position..];
            let trimmed = rest.trim_start();
            self.position += rest.len() - trimmed.len();
            if !trimmed.starts_with(';') {
                return trimmed;
            }
            self.position += trimmed.find('\n').unwrap_or(trimmed.len());
        }
    }

    pub fn peek(&mut self) -> Option<u8> {
        self.rest().bytes().next()
    }

    /// Consumes `symbol` if it comes next.
    pub fn eat(&mut self, symbol: &str) -> bool {
        let next = self.rest().starts_with(symbol);
        if next {
            self.position += symbol.len();
        }
        next
    }

    /// Consumes the word `keyword` if it comes next as a whole word.
    pub fn eat_word(&mut self, keyword: &str) -> bool {
        let rest = self.rest();
        let next = rest.starts_with(keyword)
            && !rest.as_bytes().get(keyword.len()).copied().is_some_and(is_word_byte);
        if next {
            self.position += keyword.len();
        }
        next
    }

    pub fn expect(&mut self, symbol: &str) -> Result<(), IrError> {
        if self.eat(symbol) { Ok(()) } else { self.expected(&format!("`{symbol}`")) }
    }

    /// A word: letters, digits and underscores, not starting with a digit.
    pub fn word(&mut self) -> Option<&'a str> {
        let rest = self.rest();
        let end = rest.bytes().position(|byte| !is_word_byte(byte)).unwrap_or(rest.len());
        if end == 0 || rest.as_bytes()[0].is_ascii_digit() {
            return None;
        }
        self.position += end;
        Some(&rest[..end])
    }

    /// A run of word bytes that may start with a digit: value names.
    pub fn name(&mut self) -> Result<&'a str, IrError> {
        let rest = self.rest();
        let end = rest.bytes().position(|byte| !is_word_byte(byte)).unwrap_or(rest.len());
        if end == 0 {
            return self.expected("a name");
        }
        self.position += end;
        Ok(&rest[..end])
    }

    /// Digits, fraction and exponent of a number without sign; `None` if no digit comes next.
    pub fn number(&mut self) -> Option<&'a str> {
        let rest = self.rest();
        let bytes = rest.as_bytes();
        let digits =
            |from: usize| from + bytes[from..].iter().take_while(|byte| byte.is_ascii_digit()).count();
        let mut end = digits(0);
        if end == 0 {
            return None;
        }
        if bytes.get(end) == Some(&b'.') {
            end = digits(end + 1);
        }
        if matches!(bytes.get(end), Some(b'e' | b'E')) {
            let sign = usize::from(matches!(bytes.get(end + 1), Some(b'+' | b'-')));
            let exponent = digits(end + 1 + sign);
            if exponent > end + 1 + sign {
                end = exponent;
            }
        }
        self.position += end;
        Some(&rest[..end])
    }

    /// An integer with an optional sign.
    pub fn integer(&mut self) -> Result<i64, IrError> {
        let negative = self.eat("-");
        let Some(digits) = self.number() else { return self.expected("an integer") };
        let text = if negative { format!("-{digits}") } else { digits.to_string() };
        text.parse().map_err(|_| self.error(text.clone(), "is not an integer of 64 bits"))
    }

    /// A quoted string with `\"`, `\\`, `\n`, `\t` and `\u{..}` escapes.
    pub fn string(&mut self) -> Result<String, IrError> {
        self.expect("\"")?;
        let mut out = String::new();
        let mut chars = self.text[self.position..].char_indices();
        while let Some((index, c)) = chars.next() {
            match c {
                '"' => {
                    self.position += index + 1;
                    return Ok(out);
                }
                '\\' => {
                    let escaped = match chars.next().map(|(_, c)| c) {
                        Some('n') => Some('\n'),
                        Some('t') => Some('\t'),
                        Some('u') => {
                            let hex: String = chars
                                .by_ref()
                                .map(|(_, c)| c)
                                .skip(1)
                                .take(8)
                                .take_while(|&c| c != '}')
                                .collect();
                            u32::from_str_radix(&hex, 16).ok().and_then(char::from_u32)
                        }
                        Some(c @ ('"' | '\\')) => Some(c),
                        _ => None,
                    };
                    match escaped {
                        Some(c) => out.push(c),
                        None => {
                            return Err(self.error(
                                "string",
                                "has an unknown escape; use \\\" \\\\ \\n \\t or \\u{hex}",
                            ));
                        }
                    }
                }
                c => out.push(c),
            }
        }
        Err(self.error("string", "is not closed"))
    }
}

/// `text` in quotes, escaped so that [`Lexer::string`] reads it back.
pub fn quote(text: &str) -> String {
    let mut out = String::from("\"");
    for c in text.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\t' => out.push_str("\\t"),
            c if c.is_control() => out.push_str(&format!("\\u{{{:x}}}", c as u32)),
            c => out.push(c),
        }
    }
    out.push('"');
    out
}
