//! Tokens and comments of a Rust file, by the lexer of `proc-macro2`.
//!
//! Invariants: every token and comment carries the line it starts on; every opening delimiter knows its closing
//! partner, so that callers walk token trees by jumping. What lies between tokens is comments.
//!
//! It does not build a syntax tree and does not expand macros: macro bodies are tokens like any other,
//! which is what the size and habit rules want.

use std::ops::Range;

use proc_macro2::{LexError, TokenStream, TokenTree};

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
    let unreadable = |error: LexError| format!("line {}: {error}", error.span().start().line);
    let stream: TokenStream = text.parse().map_err(unreadable)?;
    let mut reader = Reader { text, at: 0, line: 1, source: Source::default() };
    reader.stream(stream);
    reader.comments(text.len());
    Ok(reader.source)
}

struct Reader<'a> {
    text: &'a str,
    at: usize,
    line: usize,
    source: Source<'a>,
}

impl<'a> Reader<'a> {
    /// Takes what lies before `end`, line by line.
    fn comments(&mut self, end: usize) {
        for (index, text) in self.text[self.at..end].split('\n').enumerate() {
            self.line += usize::from(index > 0);
            if !text.trim().is_empty() {
                self.source.comments.push(Comment { text: text.trim(), line: self.line });
            }
        }
        self.at = end;
    }

    /// Takes a token and returns its index.
    fn token(&mut self, kind: Kind, range: Range<usize>) -> usize {
        self.comments(range.start);
        let (partner, text) = (self.source.tokens.len(), &self.text[range]);
        let spelling = if kind == Kind::Word { text.trim_start_matches("r#") } else { text };
        self.source.tokens.push(Token { kind, text: spelling, line: self.line, partner });
        self.at += text.len();
        self.line += text.matches('\n').count();
        partner
    }

    fn stream(&mut self, stream: TokenStream) {
        let mut trees = stream.into_iter().peekable();
        while let Some(tree) = trees.next() {
            let mut range = tree.span().byte_range();
            // Doc comments come as attributes.
            if ["//", "/*"].iter().any(|start| self.text[range.clone()].starts_with(start)) {
                continue;
            }
            let kind = match tree {
                TokenTree::Group(group) => {
                    let open = self.token(Kind::Open, group.span_open().byte_range());
                    self.stream(group.stream());
                    self.source.tokens[open].partner =
                        self.token(Kind::Close, group.span_close().byte_range());
                    continue;
                }
                TokenTree::Ident(_) => Kind::Word,
                TokenTree::Literal(_) => Kind::Literal,
                TokenTree::Punct(mark) => {
                    let is_lifetime = mark.as_char() == '\'';
                    let is_pair =
                        ["->", "=>", "::"].iter().any(|pair| self.text[range.start..].starts_with(pair));
                    if (is_lifetime || is_pair)
                        && let Some(rest) = trees.next()
                    {
                        range.end = rest.span().byte_range().end;
                    }
                    if is_lifetime { Kind::Lifetime } else { Kind::Mark }
                }
            };
            self.token(kind, range);
        }
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
