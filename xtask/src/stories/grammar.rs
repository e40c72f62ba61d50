//! The story grammar as data: reads `models/stories/grammar.txt` into rules over interned words.
//!
//! Invariants of a [`Grammar`]: every reference resolves, no rule reaches itself (so sampling ends and recognition
//! recurses no deeper than the grammar), and a story holds words only inside its sentences. The format is described
//! at the top of the grammar file. This module neither samples nor recognises.

use std::collections::{BTreeMap, HashMap};

use anyhow::{Context, Result, bail, ensure};

/// What a rule is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A whole story.
    Story,
    /// One sentence, the unit that is accepted.
    Sentence,
    /// Chosen one time in a story.
    Once,
    /// Chosen anew at each use.
    Part,
}

/// One item of an alternative.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Symbol {
    /// Index into [`Grammar::words`].
    Word(usize),
    /// Index into [`Grammar::rules`].
    Rule(usize),
}

/// A named choice between sequences of symbols.
#[derive(Debug)]
pub struct Rule {
    /// Name with its feature value, such as `opening[she]`.
    pub name: String,
    /// What the rule is for.
    pub kind: Kind,
    /// The sequences that the rule stands for, all of equal weight.
    pub alternatives: Vec<Vec<Symbol>>,
}

/// A checked grammar.
#[derive(Debug)]
pub struct Grammar {
    /// All rules, one per name and feature value.
    pub rules: Vec<Rule>,
    /// Words and punctuation marks that alternatives refer to.
    pub words: Vec<String>,
    word_ids: HashMap<String, usize>,
}

/// The grammar of the bundled stories.
const BUNDLED: &str = include_str!("../../../models/stories/grammar.txt");

/// A rule whose features are bound and whose references are still names.
struct Draft {
    name: String,
    kind: Kind,
    body: String,
}

impl Grammar {
    /// The grammar in `models/stories/grammar.txt`.
    pub fn bundled() -> Result<Grammar> {
        Grammar::parse(BUNDLED).context("models/stories/grammar.txt")
    }

    /// Reads and checks a grammar; the error names the rule at fault.
    pub fn parse(text: &str) -> Result<Grammar> {
        let drafts = read_drafts(text)?;
        let mut ids = HashMap::new();
        for (id, draft) in drafts.iter().enumerate() {
            ensure!(ids.insert(draft.name.clone(), id).is_none(), "rule `{}` is defined twice", draft.name);
        }
        let mut grammar = Grammar { rules: Vec::new(), words: Vec::new(), word_ids: HashMap::new() };
        for draft in drafts {
            let alternatives = draft
                .body
                .split('|')
                .map(|alternative| grammar.read_alternative(alternative, &ids))
                .collect::<Result<Vec<_>>>()
                .with_context(|| format!("rule `{}`", draft.name))?;
            grammar.rules.push(Rule { name: draft.name, kind: draft.kind, alternatives });
        }
        grammar.check_acyclic()?;
        grammar.check_stories()?;
        Ok(grammar)
    }

    /// Indices of the rules of one kind.
    pub fn of_kind(&self, kind: Kind) -> impl Iterator<Item = usize> {
        self.rules.iter().enumerate().filter(move |(_, rule)| rule.kind == kind).map(|(id, _)| id)
    }

    /// The index of a word in [`Grammar::words`], if the grammar uses it.
    pub fn word_id(&self, word: &str) -> Option<usize> {
        self.word_ids.get(word).copied()
    }

    fn read_alternative(&mut self, text: &str, ids: &HashMap<String, usize>) -> Result<Vec<Symbol>> {
        ensure!(!text.trim().is_empty(), "an alternative is empty; write `{{}}` for nothing");
        let mut symbols = Vec::new();
        for item in text.split_whitespace() {
            match item.strip_prefix('{').and_then(|rest| rest.strip_suffix('}')) {
                Some("") => {}
                Some(name) => match ids.get(name) {
                    Some(&id) => symbols.push(Symbol::Rule(id)),
                    None => bail!("refers to `{name}`, which is not defined"),
                },
                None => symbols.push(Symbol::Word(self.intern(item))),
            }
        }
        Ok(symbols)
    }

    fn intern(&mut self, word: &str) -> usize {
        let next = self.words.len();
        let id = *self.word_ids.entry(word.to_string()).or_insert(next);
        if id == next {
            self.words.push(word.to_string());
        }
        id
    }

    fn references(&self, rule: usize) -> impl Iterator<Item = usize> {
        self.rules[rule].alternatives.iter().flatten().filter_map(|symbol| match symbol {
            Symbol::Rule(id) => Some(*id),
            Symbol::Word(_) => None,
        })
    }

    /// Refuses a grammar in which removing rules without open references, again and again, leaves some over.
    fn check_acyclic(&self) -> Result<()> {
        let mut settled = vec![false; self.rules.len()];
        loop {
            let ready: Vec<usize> = (0..self.rules.len())
                .filter(|&rule| !settled[rule] && self.references(rule).all(|id| settled[id]))
                .collect();
            if ready.is_empty() {
                break;
            }
            ready.into_iter().for_each(|rule| settled[rule] = true);
        }
        match settled.iter().position(|done| !done) {
            Some(rule) => bail!("rule `{}` reaches itself", self.rules[rule].name),
            None => Ok(()),
        }
    }

    fn check_stories(&self) -> Result<()> {
        let mut open: Vec<usize> = self.of_kind(Kind::Story).collect();
        ensure!(!open.is_empty(), "the grammar has no story");
        let mut seen = vec![false; self.rules.len()];
        while let Some(rule) = open.pop() {
            if seen[rule] || self.rules[rule].kind == Kind::Sentence {
                continue;
            }
            seen[rule] = true;
            let speaks = self.rules[rule].alternatives.iter().flatten().any(|s| matches!(s, Symbol::Word(_)));
            ensure!(
                !speaks,
                "rule `{}` puts words into a story outside of a sentence",
                self.rules[rule].name
            );
            open.extend(self.references(rule));
        }
        Ok(())
    }
}

/// Joins continued lines, reads the features and copies each rule once per value of the feature in its head.
fn read_drafts(text: &str) -> Result<Vec<Draft>> {
    let mut statements: Vec<String> = Vec::new();
    for line in text.lines().filter(|line| !line.starts_with('#') && !line.trim().is_empty()) {
        match statements.last_mut() {
            Some(last) if line.starts_with(char::is_whitespace) => last.push_str(line),
            _ => statements.push(line.to_string()),
        }
    }
    let mut features: BTreeMap<String, Vec<String>> = BTreeMap::new();
    let mut drafts = Vec::new();
    for statement in &statements {
        let (left, body) = statement.split_once('=').with_context(|| format!("no `=` in `{statement}`"))?;
        let (keyword, head) =
            left.trim().split_once(' ').with_context(|| format!("no keyword in `{left}`"))?;
        let head = head.trim();
        let kind = match keyword {
            "feature" => {
                features.insert(head.to_string(), body.split_whitespace().map(String::from).collect());
                continue;
            }
            "story" => Kind::Story,
            "sentence" => Kind::Sentence,
            "once" => Kind::Once,
            "part" => Kind::Part,
            other => bail!("`{other}` is not feature, story, sentence, once or part"),
        };
        let argument = head.split_once('[').and_then(|(_, rest)| rest.strip_suffix(']'));
        match argument.and_then(|name| features.get(name).map(|values| (name, values))) {
            None => drafts.push(Draft { name: head.to_string(), kind, body: body.to_string() }),
            Some((feature, values)) => drafts.extend(values.iter().map(|value| {
                let bind = |text: &str| text.replace(&format!("[{feature}]"), &format!("[{value}]"));
                Draft { name: bind(head), kind, body: bind(body) }
            })),
        }
    }
    Ok(drafts)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(text: &str) -> String {
        format!("{:#}", Grammar::parse(text).expect_err("the grammar is wrong"))
    }

    #[test]
    fn features_copy_rules() {
        let grammar = Grammar::parse(
            "feature g = she he\npart who[she] = she\npart who[he] = he\nsentence s[g] = {who[g]}\n    | no .\nstory t = {s[he]}",
        )
        .expect("the grammar is well formed");
        let names: Vec<&str> = grammar.rules.iter().map(|rule| rule.name.as_str()).collect();
        assert_eq!(names, ["who[she]", "who[he]", "s[she]", "s[he]", "t"]);
        assert_eq!(grammar.rules[3].alternatives[0], [Symbol::Rule(1)]);
        assert_eq!(grammar.rules[3].alternatives.len(), 2);
    }

    #[test]
    fn faults_are_named() {
        assert_eq!(message("part a = {b}"), "rule `a`: refers to `b`, which is not defined");
        assert_eq!(message("part a = {b}\npart b = x {a}\nstory s = {}"), "rule `a` reaches itself");
        assert_eq!(message("part a = x\npart a = y"), "rule `a` is defined twice");
        assert_eq!(message("part a = x |"), "rule `a`: an alternative is empty; write `{}` for nothing");
        assert_eq!(message("rule a = x"), "`rule` is not feature, story, sentence, once or part");
        assert_eq!(message("part a = x"), "the grammar has no story");
        assert_eq!(
            message("story a = {b}\npart b = x"),
            "rule `b` puts words into a story outside of a sentence"
        );
    }
}
