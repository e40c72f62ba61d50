//! The outline of a source file: functions, matches, traits, named items and test-only regions.
//!
//! Invariants: everything is found on tokens, so strings and comments never count, and macro bodies do.
//! A region is test-only when a `cfg(test)` or `test` attribute stands on it.
//!
//! It does not resolve names: two functions of one name in one file are told apart by line only.

use std::ops::Range;

use super::lexer::{Kind, Source, Token};

/// One function with a name; closures and function pointer types are not listed.
#[derive(Debug)]
pub struct Function<'a> {
    /// Its name.
    pub name: &'a str,
    /// Line of the `fn` keyword.
    pub line: usize,
    /// Lines from the `fn` keyword to the end of the body, both counted.
    pub lines: usize,
    /// Parameters, `self` not counted.
    pub parameters: usize,
    /// Token range of the body, empty for a declaration without one.
    pub body: Range<usize>,
    /// Whether a `#[test]` attribute stands on it.
    pub is_test: bool,
}

/// One `match` with the arms written out in it.
#[derive(Debug)]
pub struct Match {
    /// Line of the keyword.
    pub line: usize,
    /// Index of the keyword token.
    pub token: usize,
    /// Arms written by hand.
    pub arms: usize,
}

/// One trait with the methods declared in it.
#[derive(Debug)]
pub struct Trait<'a> {
    /// Its name.
    pub name: &'a str,
    /// Line of the keyword.
    pub line: usize,
    /// Methods, those with a default body included.
    pub methods: usize,
}

/// The name of one item and where it stands.
#[derive(Debug)]
pub struct Name<'a> {
    /// The identifier.
    pub text: &'a str,
    /// Its line.
    pub line: usize,
}

/// What the rules ask about a file.
#[derive(Debug, Default)]
pub struct Outline<'a> {
    /// All functions in order.
    pub functions: Vec<Function<'a>>,
    /// All matches in order.
    pub matches: Vec<Match>,
    /// All traits in order.
    pub traits: Vec<Trait<'a>>,
    /// Names of functions, types, traits, modules, constants and macros.
    pub names: Vec<Name<'a>>,
}

impl Outline<'_> {
    /// The innermost function whose body holds token `index`.
    pub fn enclosing(&self, index: usize) -> Option<&Function<'_>> {
        self.functions.iter().rfind(|function| function.body.contains(&index))
    }
}

/// Reads the outline of a lexed file.
pub fn outline<'a>(source: &Source<'a>) -> Outline<'a> {
    let tokens = &source.tokens;
    let mut found = Outline::default();
    let mut test_attribute = false;
    for index in 0..tokens.len() {
        let token = &tokens[index];
        test_attribute |= is_test_attribute(tokens, index);
        if token.kind != Kind::Word {
            continue;
        }
        match token.text {
            "fn" => {
                if let Some(function) = function_at(tokens, index, test_attribute) {
                    found.names.push(Name { text: function.name, line: token.line });
                    found.functions.push(function);
                }
                test_attribute = false;
            }
            "match" => found.matches.extend(match_at(tokens, index)),
            "trait" => found.traits.extend(trait_at(tokens, index)),
            _ => {}
        }
        if ["struct", "enum", "union", "trait", "mod", "const", "static", "type", "macro_rules"]
            .contains(&token.text)
        {
            found.names.extend(item_name(tokens, index));
        }
    }
    found
}

/// The name that follows an item keyword, if it is one.
fn item_name<'a>(tokens: &[Token<'a>], keyword: usize) -> Option<Name<'a>> {
    let skip =
        tokens[keyword + 1..].iter().take_while(|token| token.text == "!" || token.text == "mut").count();
    let name = tokens.get(keyword + 1 + skip)?;
    let keyword_again = ["fn", "unsafe", "extern", "async"].contains(&name.text);
    (name.kind == Kind::Word && !keyword_again).then_some(Name { text: name.text, line: name.line })
}

/// Whether `#[test]` starts at token `index`.
fn is_test_attribute(tokens: &[Token<'_>], index: usize) -> bool {
    ["#", "[", "test", "]"].iter().zip(&tokens[index..]).filter(|(want, token)| **want == token.text).count()
        == 4
}

/// Walks a run of tokens at one nesting level, telling the depth of angle brackets before each token.
fn at_one_level<'t, 'a>(
    tokens: &'t [Token<'a>],
    range: Range<usize>,
) -> impl Iterator<Item = (usize, usize, &'t Token<'a>)> {
    let mut index = range.start;
    let mut angle = 0usize;
    std::iter::from_fn(move || {
        let token = tokens[..range.end].get(index)?;
        let here = (index, angle, token);
        match token.text {
            "<" => angle += 1,
            ">" => angle = angle.saturating_sub(1),
            _ => {}
        }
        index = token.partner + 1;
        Some(here)
    })
}

fn function_at<'a>(tokens: &[Token<'a>], keyword: usize, is_test: bool) -> Option<Function<'a>> {
    let dollar = usize::from(tokens.get(keyword + 1)?.text == "$");
    let name = tokens.get(keyword + 1 + dollar)?;
    if name.kind != Kind::Word {
        return None;
    }
    let mut parameters = None;
    let mut body = 0..0;
    let mut end = keyword;
    for (index, angle, token) in at_one_level(tokens, keyword + 2 + dollar..tokens.len()) {
        end = index;
        if parameters.is_none() && angle == 0 && token.text == "(" {
            parameters = Some(count_parameters(tokens, index + 1..token.partner));
        } else if parameters.is_some() && token.text == "{" {
            body = index + 1..token.partner;
            end = token.partner;
            break;
        } else if token.text == ";" || token.kind == Kind::Close {
            break;
        }
    }
    let line = tokens[keyword].line;
    let lines = tokens[end].line - line + 1;
    Some(Function { name: name.text, line, lines, parameters: parameters?, body, is_test })
}

fn count_parameters(tokens: &[Token<'_>], range: Range<usize>) -> usize {
    let mut count = 0;
    let mut at_start = true;
    for (_, angle, token) in at_one_level(tokens, range) {
        if angle == 0 && token.text == "," {
            at_start = true;
        } else if at_start && !(token.kind == Kind::Lifetime || token.text == "&" || token.text == "mut") {
            count += usize::from(token.text != "self");
            at_start = false;
        }
    }
    count
}

fn match_at(tokens: &[Token<'_>], keyword: usize) -> Option<Match> {
    for (index, _, token) in at_one_level(tokens, keyword + 1..tokens.len()) {
        if token.text == ";" || token.kind == Kind::Close {
            return None;
        }
        if token.text != "{" {
            continue;
        }
        let arms =
            at_one_level(tokens, index + 1..token.partner).filter(|(_, _, token)| token.text == "=>").count();
        if arms > 0 {
            return Some(Match { line: tokens[keyword].line, token: keyword, arms });
        }
    }
    None
}

fn trait_at<'a>(tokens: &[Token<'a>], keyword: usize) -> Option<Trait<'a>> {
    let name = tokens.get(keyword + 1)?;
    let body = at_one_level(tokens, keyword + 1..tokens.len())
        .take_while(|(_, _, token)| token.text != ";" && token.kind != Kind::Close)
        .find(|(_, _, token)| token.text == "{");
    let (open, _, brace) = body?;
    let methods =
        at_one_level(tokens, open + 1..brace.partner).filter(|(_, _, token)| token.text == "fn").count();
    Some(Trait { name: name.text, line: tokens[keyword].line, methods })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tidy::lexer::lex;

    fn with_outline<T>(text: &str, look: impl FnOnce(&Outline<'_>, &Source<'_>) -> T) -> T {
        let source = lex(text).expect("the snippet is well formed");
        look(&outline(&source), &source)
    }

    #[test]
    fn parameters_are_counted_through_generics_and_closures() {
        let cases = [
            ("fn f() {}", 0),
            ("fn f(&'a mut self, a: u8,) {}", 1),
            ("fn f(self: Arc<Self>, a: HashMap<K, V>) {}", 1),
            ("fn f<F: Fn(A, B) -> C, const N: usize>(a: F, b: fn(A, B) -> C, c: [u8; 2]) -> (u8, u8) {}", 3),
            ("fn $name<T: Into<<A as B>::C>>(mut a: (u8, u8), Point { x, y }: Point) {}", 2),
        ];
        for (text, expected) in cases {
            let counted = with_outline(text, |outline, _| outline.functions[0].parameters);
            assert_eq!(counted, expected, "{text}");
        }
    }

    #[test]
    fn function_lines_run_to_the_end_of_the_body() {
        let text = "fn a();\nfn b<T>(x: T)\nwhere\n    T: Copy,\n{\n    let f: fn(u8) = c;\n}\n";
        with_outline(text, |outline, _| {
            let lines: Vec<_> = outline.functions.iter().map(|f| (f.name, f.line, f.lines)).collect();
            assert_eq!(lines, [("a", 1, 1), ("b", 2, 6)]);
        });
    }

    #[test]
    fn arms_are_those_of_the_match_itself() {
        let text = "fn f() { match if a { b } else { c } { 1 | 2 => match d { _ => {} }, x if y => z!(p => q), _ => {} } }";
        with_outline(text, |outline, _| {
            assert_eq!(outline.matches.iter().map(|m| m.arms).collect::<Vec<_>>(), [3, 1]);
        });
    }

    #[test]
    fn trait_methods_do_not_count_nested_functions() {
        let text = "pub trait T: Sized where Self: X { type A; fn a(&self); fn b(&self) { fn c() {} } }";
        with_outline(text, |outline, _| assert_eq!(outline.traits[0].methods, 2));
    }

    #[test]
    fn tests_are_functions_under_the_attribute() {
        let text =
            "fn a() {}\n#[cfg(test)]\nmod tests { fn b() {} #[test]\n#[cfg(unix)]\nfn c() {} fn d() {} }";
        with_outline(text, |outline, _| {
            let tests: Vec<_> = outline.functions.iter().map(|function| function.is_test).collect();
            assert_eq!(tests, [false, false, true, false]);
        });
    }

    #[test]
    fn names_are_those_of_items() {
        let text = "const fn a() {} static mut B: u8 = 0; macro_rules! c { () => {} } type D = u8; mod e; union F {}";
        with_outline(text, |outline, _| {
            let names: Vec<_> = outline.names.iter().map(|name| name.text).collect();
            assert_eq!(names, ["a", "B", "c", "D", "e", "F"]);
        });
    }
}
