//! A small Rust lexer: enough to tell code from strings and comments.
//!
//! Invariants: every token and comment carries the line it starts and ends on; every opening
//! delimiter knows its closing partner, so that callers walk token trees by jumping. Text inside
//! string, character and byte literals never appears as an identifier.
//!
//! It does not build a syntax tree and does not expand macros: macro bodies are tokens like any other,
//! which is what the size and habit rules want.

/// What a token is; `Open` and `Close` are the six bracket characters.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Identifier or keyword, without a raw prefix.
    Word,
    /// A lifetime or loop label.
    Lifetime,
    /// Any literal: string, character, byte string or number.
    Literal,
    /// Punctuation: `->`, `=>`, `::` and single characters.
    Mark,
    /// `(`, `[` or `{`.
    Open,
    /// `)`, `]` or `}`.
    Close,
}

/// One token of a source file.
#[derive(Debug, Clone)]
pub struct Token<'a> {
    /// What it is.
    pub kind: Kind,
    /// Its spelling.
    pub text: &'a str,
    /// Line on which it starts, counted from 1.
    pub line: usize,
    /// For an opening delimiter the index of its closing partner; otherwise its own index.
    pub partner: usize,
}

/// One comment, with its markers.
#[derive(Debug, Clone)]
pub struct Comment<'a> {
    /// The comment as written.
    pub text: &'a str,
    /// Line on which it starts, counted from 1.
    pub line: usize,
}

/// A source file split into tokens and comments.
#[derive(Debug, Default)]
pub struct Source<'a> {
    /// All tokens in order.
    pub tokens: Vec<Token<'a>>,
    /// All comments in order.
    pub comments: Vec<Comment<'a>>,
}

/// Splits `text` into tokens and comments; the error names the line that cannot be read.
pub fn lex(text: &str) -> Result<Source<'_>, String> {
    let mut lexer = Lexer { text, at: 0, line: 1, source: Source::default() };
    if text.starts_with("#!") && !text.starts_with("#![") {
        lexer.take_while(|c| c != '\n');
    }
    while let Some(c) = lexer.peek(0) {
        lexer.step(c)?;
    }
    let mut source = lexer.source;
    pair_delimiters(&mut source.tokens)?;
    Ok(source)
}

fn pair_delimiters(tokens: &mut [Token<'_>]) -> Result<(), String> {
    let mut open = Vec::new();
    for index in 0..tokens.len() {
        match tokens[index].kind {
            Kind::Open => open.push(index),
            Kind::Close => {
                let line = tokens[index].line;
                let start =
                    open.pop().ok_or_else(|| format!("line {line}: closing delimiter without opening"))?;
                tokens[start].partner = index;
            }
            _ => {}
        }
    }
    match open.last() {
        Some(&index) => Err(format!("line {}: delimiter is never closed", tokens[index].line)),
        None => Ok(()),
    }
}

struct Lexer<'a> {
    text: &'a str,
    at: usize,
    line: usize,
    source: Source<'a>,
}

impl<'a> Lexer<'a> {
    fn rest(&self) -> &'a str {
        &self.text[self.at..]
    }

    fn peek(&self, ahead: usize) -> Option<char> {
        self.rest().chars().nth(ahead)
    }

    fn bump(&mut self) -> Option<char> {
        let c = self.peek(0)?;
        self.at += c.len_utf8();
        if c == '\n' {
            self.line += 1;
        }
        Some(c)
    }

    fn take_while(&mut self, keep: impl Fn(char) -> bool) {
        while self.peek(0).is_some_and(&keep) {
            self.bump();
        }
    }

    fn push(&mut self, kind: Kind, start: usize, line: usize) {
        let partner = self.source.tokens.len();
        self.source.tokens.push(Token { kind, text: &self.text[start..self.at], line, partner });
    }

    fn step(&mut self, c: char) -> Result<(), String> {
        let (start, line) = (self.at, self.line);
        if c.is_whitespace() {
            self.bump();
        } else if self.rest().starts_with("//") {
            self.take_while(|c| c != '\n');
            self.source.comments.push(Comment { text: &self.text[start..self.at], line });
        } else if self.rest().starts_with("/*") {
            self.block_comment()?;
            self.source.comments.push(Comment { text: &self.text[start..self.at], line });
        } else if let Some(hashes) = raw_string_hashes(self.rest()) {
            self.raw_string(hashes)?;
            self.push(Kind::Literal, start, line);
        } else if let Some(prefix) = quoted_prefix(self.rest()) {
            self.at += prefix;
            self.quoted()?;
            self.push(Kind::Literal, start, line);
        } else if c == '\'' {
            let kind = self.quote_mark()?;
            self.push(kind, start, line);
        } else if c == '_' || c.is_alphabetic() {
            let raw = self.rest().starts_with("r#");
            self.at += if raw { 2 } else { 0 };
            let start = self.at;
            self.take_while(|c| c == '_' || c.is_alphanumeric());
            self.push(Kind::Word, start, line);
        } else if c.is_ascii_digit() {
            self.number();
            self.push(Kind::Literal, start, line);
        } else {
            self.mark(c, start, line);
        }
        Ok(())
    }

    fn mark(&mut self, c: char, start: usize, line: usize) {
        let pair = ["->", "=>", "::"].iter().any(|pair| self.rest().starts_with(pair));
        self.bump();
        if pair {
            self.bump();
        }
        let kind = match c {
            '(' | '[' | '{' => Kind::Open,
            ')' | ']' | '}' => Kind::Close,
            _ => Kind::Mark,
        };
        self.push(kind, start, line);
    }

    fn block_comment(&mut self) -> Result<(), String> {
        let line = self.line;
        let mut depth = 0usize;
        loop {
            if self.rest().starts_with("/*") {
                depth += 1;
                self.at += 2;
            } else if self.rest().starts_with("*/") {
                depth -= 1;
                self.at += 2;
                if depth == 0 {
                    return Ok(());
                }
            } else if self.bump().is_none() {
                return Err(format!("line {line}: comment is never closed"));
            }
        }
    }

    fn raw_string(&mut self, hashes: usize) -> Result<(), String> {
        let line = self.line;
        self.take_while(|c| c != '"');
        self.bump();
        let end = format!("\"{}", "#".repeat(hashes));
        while !self.rest().starts_with(&end) {
            self.bump().ok_or_else(|| format!("line {line}: raw string is never closed"))?;
        }
        self.at += end.len();
        Ok(())
    }

    /// Reads a quoted literal whose quote character is next.
    fn quoted(&mut self) -> Result<(), String> {
        let line = self.line;
        let quote = self.bump();
        loop {
            match self.bump() {
                None => return Err(format!("line {line}: literal is never closed")),
                Some('\\') => {
                    self.bump();
                }
                c if c == quote => return Ok(()),
                Some(_) => {}
            }
        }
    }

    /// A quote mark starts a character literal or a lifetime.
    fn quote_mark(&mut self) -> Result<Kind, String> {
        if self.peek(1) == Some('\\') || self.peek(2) == Some('\'') {
            self.quoted()?;
            return Ok(Kind::Literal);
        }
        self.bump();
        self.take_while(|c| c == '_' || c.is_alphanumeric());
        Ok(Kind::Lifetime)
    }

    fn number(&mut self) {
        self.take_while(|c| c == '_' || c.is_ascii_alphanumeric());
        if self.peek(0) == Some('.') && self.peek(1).is_some_and(|c| c.is_ascii_digit()) {
            self.bump();
            self.take_while(|c| c == '_' || c.is_ascii_alphanumeric());
        }
    }
}

/// The number of `#` marks if `rest` starts a raw string.
fn raw_string_hashes(rest: &str) -> Option<usize> {
    let after = ["br", "cr", "r"].iter().find_map(|prefix| rest.strip_prefix(prefix))?;
    let hashes = after.len() - after.trim_start_matches('#').len();
    after[hashes..].starts_with('"').then_some(hashes)
}

/// The length of the `b` or `c` prefix if `rest` starts an escaped string or a byte literal.
fn quoted_prefix(rest: &str) -> Option<usize> {
    if rest.starts_with('"') {
        Some(0)
    } else if ["b\"", "c\"", "b'"].iter().any(|start| rest.starts_with(start)) {
        Some(1)
    } else {
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(text: &str) -> Vec<&str> {
        let source = lex(text).expect("the snippet is well formed");
        source.tokens.iter().filter(|token| token.kind == Kind::Word).map(|token| token.text).collect()
    }

    #[test]
    fn literals_and_comments_hide_their_words() {
        let text = r####"a "b \" c" r#"d " e"# b"f" b'g' br##"h"# i"## 'j' '\'' // k
            /* l /* m */ n */ o c"p" 'q: r#fn"####;
        assert_eq!(words(text), ["a", "o", "fn"]);
    }

    #[test]
    fn lifetimes_are_not_characters() {
        let source = lex("fn f<'a,'b>(x: &'a str, c: char) { 'x' ; '\\n' }").expect("well formed");
        let kinds = |kind| source.tokens.iter().filter(|token| token.kind == kind).count();
        assert_eq!((kinds(Kind::Lifetime), kinds(Kind::Literal)), (3, 2));
    }

    #[test]
    fn lines_are_counted_through_multi_line_literals() {
        let source = lex("\"a\nb\"\n/* c\nd */ e").expect("well formed");
        assert_eq!(source.tokens.last().map(|token| (token.text, token.line)), Some(("e", 4)));
    }

    #[test]
    fn numbers_leave_ranges_and_methods_alone() {
        let source = lex("0..10 1.5e3 1.max(2) 0xff_u8").expect("well formed");
        let literals: Vec<_> = source
            .tokens
            .iter()
            .filter(|token| token.kind == Kind::Literal)
            .map(|token| token.text)
            .collect();
        assert_eq!(literals, ["0", "10", "1.5e3", "1", "2", "0xff_u8"]);
    }

    #[test]
    fn broken_text_is_refused_with_its_line() {
        for (text, line) in [("a\n\"b", 2), ("/* a", 1), ("{\n(", 2), ("}", 1), ("r#\"a\"", 1), ("'\\", 1)] {
            let error = lex(text).expect_err("the snippet is broken");
            assert!(error.starts_with(&format!("line {line}:")), "{text:?} gave {error:?}");
        }
    }
}
