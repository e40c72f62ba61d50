//! The rules on Rust files: sizes, opening doc, unsafe code, habits, names, comments, assertions.
//!
//! Invariants: rules look at tokens and comments only, so a rule word inside a string is never a finding.
//!
//! It does not check formatting, types, or public docs: rustfmt, clippy and rustc do.

use std::collections::BTreeSet;

use super::allow::AllowList;
use super::lexer::{Kind, Source, lex};
use super::outline::{Function, Outline, outline};
use super::{File, Finding};

/// Longest file in lines.
const FILE_LINES: usize = 800;
/// Longest function in lines.
const FUNCTION_LINES: usize = 150;
/// Most arms written by hand in one match.
const MATCH_ARMS: usize = 25;
/// Most parameters of a function, `self` not counted.
const PARAMETERS: usize = 6;
/// Most methods of a trait.
const TRAIT_METHODS: usize = 12;

/// Words that no item and no file is named with: they tell history or nothing.
const FORBIDDEN_NAME_WORDS: [&str; 16] = [
    "deprecated",
    "hack",
    "helper",
    "helpers",
    "legacy",
    "milestone",
    "misc",
    "obsolete",
    "old",
    "prototype",
    "refactored",
    "stuff",
    "tmp",
    "util",
    "utils",
    "wip",
];

/// Phrases that no comment holds: they tell plans or history, which belong to issues and commits.
const FORBIDDEN_PHRASES: [&str; 9] = [
    "for now",
    "in the future",
    "later version",
    "legacy",
    "milestone",
    "not yet implemented",
    "to be done",
    "used to be",
    "work in progress",
];

/// Marks of unfinished work, matched as whole words in this spelling.
const FORBIDDEN_MARKS: [&str; 4] = ["TODO", "FIXME", "XXX", "HACK"];

/// A call whose name starts like this judges something.
const JUDGES: [&str; 8] =
    ["assert", "prop_assert", "expect", "unwrap", "check", "panic", "compare", "unreachable"];

struct Check<'a> {
    file: &'a File,
    source: &'a Source<'a>,
    outline: &'a Outline<'a>,
    allow: &'a mut AllowList,
    findings: &'a mut Vec<Finding>,
}

/// Runs the rules on one Rust file; returns how often it uses `unsafe`.
pub fn check(file: &File, allow: &mut AllowList, findings: &mut Vec<Finding>) -> usize {
    let source = match lex(&file.text) {
        Ok(source) => source,
        Err(message) => {
            findings.push(Finding { rule: "lexer", path: file.path.clone(), line: 1, message });
            return 0;
        }
    };
    let outline = outline(&source);
    let mut check = Check { file, source: &source, outline: &outline, allow, findings };
    check.opening_doc();
    check.sizes();
    check.crate_root();
    check.habits();
    check.not_run();
    check.library_panics();
    check.environment();
    check.names();
    check.comments();
    check.assertions();
    check.unsafe_code()
}

impl Check<'_> {
    fn find(&mut self, rule: &'static str, line: usize, message: String) {
        self.findings.push(Finding { rule, path: self.file.path.clone(), line, message });
    }

    /// Reports a size over its limit unless the place is listed.
    fn limit(&mut self, rule: &'static str, name: Option<&str>, line: usize, found: (usize, usize, &str)) {
        let (size, most, unit) = found;
        if size <= most {
            return;
        }
        let place = match name {
            Some(name) => format!("{}::{name}", self.file.path),
            None => self.file.path.clone(),
        };
        if !self.allow.allows(rule, &place) {
            self.find(
                rule,
                line,
                format!("{place} has {size} {unit}, the most is {most}: split it by concept"),
            );
        }
    }

    fn opening_doc(&mut self) {
        let first = self.file.text.lines().find(|line| !line.trim().is_empty());
        if !first.is_some_and(|line| line.starts_with("//!")) {
            self.find(
                "header",
                1,
                "the file opens with `//!`: what it is, its invariants, what it does not do".into(),
            );
        }
    }

    fn sizes(&mut self) {
        self.limit("file", None, 1, (self.file.text.lines().count(), FILE_LINES, "lines"));
        let outline = self.outline;
        for function in &outline.functions {
            let name = Some(function.name);
            self.limit("function", name, function.line, (function.lines, FUNCTION_LINES, "lines"));
            self.limit("parameters", name, function.line, (function.parameters, PARAMETERS, "parameters"));
        }
        for found in &outline.matches {
            let name = outline.enclosing(found.token).map(|function| function.name);
            self.limit("match", name, found.line, (found.arms, MATCH_ARMS, "arms in one match"));
        }
        for found in &outline.traits {
            self.limit("trait", Some(found.name), found.line, (found.methods, TRAIT_METHODS, "methods"));
        }
    }

    /// Every crate root forbids unsafe code, or denies it when some of its modules are listed.
    fn crate_root(&mut self) {
        let Some(folder) =
            self.file.path.strip_suffix("lib.rs").or_else(|| self.file.path.strip_suffix("main.rs"))
        else {
            return;
        };
        if !folder.ends_with("src/") {
            return;
        }
        let level = if self.allow.has_unsafe_under(folder) { "deny" } else { "forbid" };
        if !self.has_tokens(&["#", "!", "[", level, "(", "unsafe_code", ")", "]"]) {
            self.find("unsafe", 1, format!("the crate root needs `#![{level}(unsafe_code)]`"));
        }
    }

    fn has_tokens(&self, wanted: &[&str]) -> bool {
        let matches = |start: usize| {
            wanted
                .iter()
                .zip(&self.source.tokens[start..])
                .filter(|(want, token)| **want == token.text)
                .count()
        };
        (0..self.source.tokens.len()).any(|start| matches(start) == wanted.len())
    }

    fn unsafe_code(&mut self) -> usize {
        let uses: Vec<usize> = self
            .source
            .tokens
            .iter()
            .filter(|token| token.kind == Kind::Word && token.text == "unsafe")
            .map(|token| token.line)
            .collect();
        if let Some(&line) = uses.first()
            && !self.allow.allows_unsafe(&self.file.path)
        {
            self.find(
                "unsafe",
                line,
                format!("unsafe code outside the modules listed in {}", super::ALLOW_LIST),
            );
        }
        uses.len()
    }

    /// Attributes and macros that hide work or tests, in any code.
    fn habits(&mut self) {
        for index in 0..self.source.tokens.len() {
            let message = match self.texts(index) {
                ["#", "[", name @ ("ignore" | "should_panic")] => {
                    format!("`#[{name}]` hides a result: assert it, or print `not run`")
                }
                [name @ ("todo" | "unimplemented"), "!", "(" | "[" | "{"] => {
                    format!("`{name}!` is no code: write it, or return a typed refusal")
                }
                _ => continue,
            };
            self.find("habit", self.source.tokens[index].line, message);
        }
    }

    /// What did not run is said in one way, which shows through the harness and is counted.
    fn not_run(&mut self) {
        if ["xtask/", "crates/rlx-testkit/"].iter().any(|folder| self.file.path.starts_with(folder)) {
            return;
        }
        for token in &self.source.tokens {
            if token.kind == Kind::Literal
                && token.text.trim_start_matches(['r', '#', '"']).starts_with("not run")
            {
                self.find("habit", token.line, "say it with `rlx_testkit::not_run(what, why)`".to_owned());
            }
        }
    }

    /// Whether the file is part of a crate's sources, the tests inside them included.
    fn is_library(&self) -> bool {
        self.file.path.starts_with("crates/") && self.file.path.contains("/src/")
    }

    /// Library code returns errors; `expect("why it holds")` is for our own broken invariants.
    fn library_panics(&mut self) {
        if !self.is_library() {
            return;
        }
        for index in 0..self.source.tokens.len() {
            let found = match self.texts(index) {
                [".", name @ "unwrap", "("] => name,
                [name @ "panic", "!", _] => name,
                _ => continue,
            };
            let message =
                format!("`{found}` in library code: return an error value, or `expect(\"why it holds\")`");
            self.find("panic", self.source.tokens[index].line, message);
        }
    }

    /// Environment variables are few and stand in one table; everything else is an option.
    fn environment(&mut self) {
        if !self.is_library() {
            return;
        }
        for index in 0..self.source.tokens.len() {
            let reads = match self.texts(index) {
                ["env", "::", name] => name.starts_with("var") || name.starts_with("set_var"),
                [name, "!", _] => name == "option_env",
                _ => false,
            };
            if reads && !self.allow.allows("environment", &self.file.path) {
                let message =
                    "the environment is read outside the listed places: make it an option".to_owned();
                self.find("environment", self.source.tokens[index].line, message);
            }
        }
    }

    /// The texts of three tokens, empty after the last one.
    fn texts(&self, index: usize) -> [&str; 3] {
        [0, 1, 2].map(|offset| self.source.tokens.get(index + offset).map_or("", |token| token.text))
    }

    fn names(&mut self) {
        let outline = self.outline;
        for name in &outline.names {
            if let Some(word) = forbidden_word(name.text) {
                self.find(
                    "name",
                    name.line,
                    format!("`{}` is named with `{word}`: say what it is", name.text),
                );
            }
        }
        let file = self.file;
        for part in file.path.trim_end_matches(".rs").split('/') {
            if let Some(word) = forbidden_word(part) {
                self.find(
                    "name",
                    1,
                    format!("the path part `{part}` is named with `{word}`: say what it holds"),
                );
            }
        }
    }

    fn comments(&mut self) {
        for comment in &self.source.comments {
            let lower = comment.text.to_lowercase();
            let phrase = FORBIDDEN_PHRASES.iter().find(|phrase| contains_word(&lower, phrase));
            let mark = FORBIDDEN_MARKS.iter().find(|mark| contains_word(comment.text, mark));
            if let Some(found) = phrase.or(mark) {
                self.find(
                    "comment",
                    comment.line,
                    format!("`{found}` tells plan or history: say what is true"),
                );
            }
        }
    }

    fn assertions(&mut self) {
        let outline = self.outline;
        let judging = self.judging_functions();
        for (index, function) in outline.functions.iter().enumerate() {
            if !function.is_test || judging.contains(&index) {
                continue;
            }
            if !self.allow.allows("assertion", &format!("{}::{}", self.file.path, function.name)) {
                self.find("assertion", function.line, format!("test `{}` asserts nothing", function.name));
            }
        }
    }

    /// Functions that judge something, themselves or through a function of the same file.
    fn judging_functions(&self) -> BTreeSet<usize> {
        let functions = &self.outline.functions;
        let mut judging = BTreeSet::new();
        let mut names = BTreeSet::new();
        loop {
            let before = judging.len();
            for (index, function) in functions.iter().enumerate() {
                if !judging.contains(&index) && self.judges(function, &names) {
                    judging.insert(index);
                    names.insert(function.name);
                }
            }
            if judging.len() == before {
                return judging;
            }
        }
    }

    fn judges(&self, function: &Function<'_>, judging: &BTreeSet<&str>) -> bool {
        self.source.tokens[function.body.clone()].iter().any(|token| match token.kind {
            Kind::Word => {
                JUDGES.iter().any(|start| token.text.starts_with(start)) || judging.contains(token.text)
            }
            Kind::Mark => token.text == "?",
            _ => false,
        })
    }
}

/// Whether `text` holds `phrase` with no letter, digit or underscore beside it.
fn contains_word(text: &str, phrase: &str) -> bool {
    let is_word = |c: char| c == '_' || c.is_alphanumeric();
    text.match_indices(phrase).any(|(at, _)| {
        let before = text[..at].chars().next_back();
        let after = text[at + phrase.len()..].chars().next();
        !before.is_some_and(is_word) && !after.is_some_and(is_word)
    })
}

/// The first part of an identifier that tells history, a version or nothing.
fn forbidden_word(name: &str) -> Option<String> {
    split_words(name).into_iter().find(|word| {
        let numbered = |prefix: &str| {
            word.strip_prefix(prefix)
                .is_some_and(|rest| !rest.is_empty() && rest.chars().all(|c| c.is_ascii_digit()))
        };
        FORBIDDEN_NAME_WORDS.contains(&word.as_str())
            || numbered("v")
            || numbered("phase")
            || numbered("milestone")
    })
}

/// Splits snake case, camel case and kebab case into lower-case words.
fn split_words(name: &str) -> Vec<String> {
    let mut words = vec![String::new()];
    let mut previous_lower = false;
    for c in name.chars() {
        if !c.is_alphanumeric() {
            words.push(String::new());
        } else {
            if c.is_uppercase() && previous_lower {
                words.push(String::new());
            }
            if let Some(word) = words.last_mut() {
                word.extend(c.to_lowercase());
            }
        }
        previous_lower = c.is_lowercase() || c.is_ascii_digit();
    }
    words
}
