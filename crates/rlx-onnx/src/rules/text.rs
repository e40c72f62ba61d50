//! Strings. They exist on the host only, so every op on them is evaluated when it is imported.

use super::{Rule, rule};
use crate::context::Context;
use crate::host::Strings;
use crate::node::{Node, Outcome, Stop};
use crate::value::{Imported, Tensor};
use regex::Regex;
use rlx_ir::{DType, Literal};
use std::collections::BTreeSet;

pub(super) const RULES: &[Rule] = &[
    rule("StringConcat", &[20], concat),
    rule("StringSplit", &[20], split),
    rule("StringNormalizer", &[10], normalise),
    rule("RegexFullMatch", &[20], full_match),
];

/// Operand `index`, a tensor of strings.
pub(super) fn strings<'a, 'm>(node: &'a Node<'m>, index: usize) -> Result<&'a Strings, Stop<'m>> {
    match node.input(index) {
        Some(Imported::Strings(strings)) => Ok(strings),
        Some(other) => {
            Err(Stop::Invalid(format!("operand {index} is {}, expected strings", other.describe())))
        }
        None => Err(Stop::Invalid(format!("operand {index} is missing"))),
    }
}

/// A tensor of strings as a result.
pub(super) fn made<'m>(dims: &[usize], values: Vec<String>) -> Result<Imported, Stop<'m>> {
    let (expected, found) = (format!("{dims:?}"), values.len());
    let strings = Strings::new(dims, values);
    strings.map(Into::into).ok_or_else(|| Stop::Invalid(format!("{found} strings do not fill {expected}")))
}

/// A tensor of integers as a result.
pub(super) fn integers<'m>(dtype: DType, dims: &[usize], values: &[i128]) -> Result<Imported, Stop<'m>> {
    let literal = Literal::ints(dtype, dims, values);
    literal.map(|literal| Tensor::literal(literal).into()).map_err(|error| Stop::Invalid(error.to_string()))
}

fn concat<'m>(_: &mut Context<'m>, node: &Node<'m>) -> Outcome<'m> {
    let (a, b) = (strings(node, 0)?, strings(node, 1)?);
    let dims = Strings::common_dims(a, b)
        .ok_or_else(|| Stop::Invalid(format!("shapes {:?} and {:?} do not fit", a.dims(), b.dims())))?;
    let pairs = a.expanded(&dims).into_iter().zip(b.expanded(&dims));
    Ok(vec![made(&dims, pairs.map(|(a, b)| format!("{a}{b}")).collect())?])
}

fn split<'m>(_: &mut Context<'m>, node: &Node<'m>) -> Outcome<'m> {
    let x = strings(node, 0)?;
    let delimiter = node.string_or("delimiter", "")?;
    let most = node.int("maxsplit")?.and_then(|most| usize::try_from(most).ok());
    let most = most.map_or(usize::MAX, |most| most.saturating_add(1));
    let parts = |text: &String| -> Vec<String> {
        match delimiter.as_str() {
            "" => words(text, most),
            delimiter => text.splitn(most, delimiter).map(str::to_string).collect(),
        }
    };
    let rows: Vec<Vec<String>> = x.values().iter().map(parts).collect();
    let longest = rows.iter().map(Vec::len).max().unwrap_or(0);
    let counts: Vec<i128> = rows.iter().map(|row| row.len() as i128).collect();
    let pad = |row: Vec<String>| row.into_iter().chain(std::iter::repeat(String::new())).take(longest);
    let dims: Vec<usize> = x.dims().iter().copied().chain([longest]).collect();
    Ok(vec![made(&dims, rows.into_iter().flat_map(pad).collect())?, integers(DType::I64, x.dims(), &counts)?])
}

/// The words of `text`, at most `most`; the last one is what is left.
fn words(text: &str, most: usize) -> Vec<String> {
    let mut words = vec![];
    let mut rest = text.trim_start();
    while !rest.is_empty() {
        match rest.find(char::is_whitespace).filter(|_| words.len() + 1 < most) {
            Some(end) => {
                words.push(rest[..end].to_string());
                rest = rest[end..].trim_start();
            }
            None => {
                words.push(rest.to_string());
                break;
            }
        }
    }
    words
}

/// How the case of strings changes.
#[derive(Clone, Copy, PartialEq)]
enum Case {
    Same,
    Lower,
    Upper,
}

impl Case {
    fn of(self, text: &str) -> String {
        match self {
            Case::Same => text.to_string(),
            Case::Lower => text.to_lowercase(),
            Case::Upper => text.to_uppercase(),
        }
    }
}

fn normalise<'m>(_: &mut Context<'m>, node: &Node<'m>) -> Outcome<'m> {
    let x = strings(node, 0)?;
    let case = match node.string_or("case_change_action", "NONE")?.as_str() {
        "NONE" => Case::Same,
        "LOWER" => Case::Lower,
        "UPPER" => Case::Upper,
        other => return Err(Stop::Invalid(format!("there is no case_change_action {other:?}"))),
    };
    let locale = node.string_or("locale", "en_US")?;
    let language = locale.split(['_', '-', '.']).next().unwrap_or_default().to_lowercase();
    if case != Case::Same && matches!(language.as_str(), "tr" | "az" | "lt") {
        return Err(Stop::Refused(format!("upper and lower case of locale {locale:?} are not known")));
    }
    let is_sensitive = node.flag("is_case_sensitive", false)?;
    let stop_words = node.strings("stopwords")?.unwrap_or_default();
    if !matches!(x.dims(), [_] | [1, _]) {
        return Err(Stop::Invalid(format!("operand 0 is string{:?}, expected [C] or [1, C]", x.dims())));
    }
    let compared = match (is_sensitive, case) {
        (true, _) => Case::Same,
        (false, Case::Upper) => Case::Upper,
        (false, _) => Case::Lower,
    };
    let stop_words: BTreeSet<String> = stop_words.iter().map(|word| compared.of(word)).collect();
    let kept = x.values().iter().filter(|word| !stop_words.contains(&compared.of(word)));
    let mut kept: Vec<String> = kept.map(|word| case.of(word)).collect();
    if kept.is_empty() {
        kept.push(String::new());
    }
    let mut dims = x.dims().to_vec();
    *dims.last_mut().expect("of rank 1 or 2") = kept.len();
    Ok(vec![made(&dims, kept)?])
}

fn full_match<'m>(_: &mut Context<'m>, node: &Node<'m>) -> Outcome<'m> {
    let x = strings(node, 0)?;
    let missing = || Stop::Invalid("it has no pattern".into());
    let pattern = node.string("pattern")?.ok_or_else(missing)?;
    let regex = Regex::new(&format!(r"\A(?:{})\z", translated(&pattern)));
    let regex = regex.map_err(|error| Stop::Refused(format!("pattern {pattern:?}: {error}")))?;
    let matches: Vec<i128> = x.values().iter().map(|text| i128::from(regex.is_match(text))).collect();
    Ok(vec![integers(DType::Bool, x.dims(), &matches)?])
}

/// A pattern of RE2, where classes such as `\w` are ASCII and a class holds no other one, in the words of `regex`.
fn translated(pattern: &str) -> String {
    let mut out = String::new();
    let mut rest = pattern;
    let mut in_class = false;
    while let Some(c) = rest.chars().next() {
        let mut length = c.len_utf8();
        if c == '\\' {
            let escaped = rest[1..].chars().next();
            length += escaped.map_or(0, char::len_utf8);
            out.push_str(match escaped {
                Some('d') => "[0-9]",
                Some('D') => "[^0-9]",
                Some('w') => "[0-9A-Za-z_]",
                Some('W') => "[^0-9A-Za-z_]",
                Some('s') => r"[\t\n\f\r ]",
                Some('S') => r"[^\t\n\f\r ]",
                Some('b') => r"(?-u:\b)",
                Some('B') => r"(?-u:\B)",
                _ => &rest[..length],
            });
        } else if in_class && c == '[' {
            match rest.find(":]").filter(|_| rest.starts_with("[:")) {
                Some(end) => {
                    length = end + 2;
                    out.push_str(&rest[..length]);
                }
                None => out.push_str(r"\["),
            }
        } else if in_class && matches!(c, '&' | '~') {
            // Twice in a row they would be operators between classes.
            out.extend(['\\', c]);
        } else if c == '[' {
            in_class = true;
            // A `]` that comes first is an element.
            length = match rest.as_bytes() {
                [_, b'^', b']', ..] => 3,
                [_, b'^', ..] | [_, b']', ..] => 2,
                _ => 1,
            };
            out.push_str(&rest[..length]);
        } else {
            in_class &= c != ']';
            out.push(c);
        }
        rest = &rest[length..];
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_mean_what_they_mean_to_re2() {
        let matches = |pattern: &str, text: &str| {
            Regex::new(&format!(r"\A(?:{})\z", translated(pattern))).is_ok_and(|regex| regex.is_match(text))
        };
        assert!(matches(r"\d+", "123") && !matches(r"\d+", "١٢٣"));
        assert!(matches(r"[\w.]+@[^\s]+", "a.b_c@d") && !matches(r"\w", "é"));
        assert!(matches("[[&&]+", "[&&") && !matches("[a&&b]", "[") && matches("[a&&b]", "a"));
        assert!(matches("[[:alpha:]]+", "abc") && matches("[]a]+", "]a") && matches("[^]]", "b"));
        assert!(matches("a|ab", "ab") && !matches("a", "ab") && matches(r"\.\[", ".["));
        assert!(matches(".", "é") && !matches(".", "\n"));
    }

    #[test]
    fn words_end_where_python_ends_them() {
        assert_eq!(words("  a  b c ", usize::MAX), ["a", "b", "c"]);
        assert_eq!(words(" a  b c ", 2), ["a", "b c "]);
        assert_eq!(words(" a b ", 1), ["a b "]);
        assert!(words("  ", 3).is_empty());
    }
}
