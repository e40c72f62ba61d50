//! Says whether a sentence belongs to the grammar.
//!
//! For a rule and a place in the sentence, the recogniser computes once the set of places where the rule can end, as
//! the bits of one integer. No rule reaches itself, so the recursion is as deep as the grammar, and the work is at
//! most (size of the grammar) x (words of the sentence), times the words again where alternatives end in many
//! places: no input makes it blow up. A sentence of more than [`LONGEST`] words is refused unread.

use super::grammar::{Grammar, Kind, Symbol};
use super::text::{capitals, words};

/// The number of words and marks that a sentence may have.
pub const LONGEST: usize = 127;

/// The words that a place in the sentence may stand for: as it is written, and without its capital.
type Readings = [Option<usize>; 2];

struct Recogniser<'g> {
    grammar: &'g Grammar,
    places: Vec<Readings>,
    /// `ends[rule * (places + 1) + start]`: the set of ends, once known.
    ends: Vec<Option<u128>>,
}

impl Recogniser<'_> {
    fn ends(&mut self, rule: usize, start: usize) -> u128 {
        let slot = rule * (self.places.len() + 1) + start;
        if let Some(known) = self.ends[slot] {
            return known;
        }
        let grammar = self.grammar;
        let mut all = 0;
        for symbols in &grammar.rules[rule].alternatives {
            let mut reached: u128 = 1 << start;
            for symbol in symbols {
                reached = self.step(*symbol, reached);
                if reached == 0 {
                    break;
                }
            }
            all |= reached;
        }
        self.ends[slot] = Some(all);
        all
    }

    /// Where one symbol can end when it starts at any of the places in `starts`.
    fn step(&mut self, symbol: Symbol, starts: u128) -> u128 {
        let mut open = starts;
        let mut reached = 0;
        while open != 0 {
            let start = open.trailing_zeros() as usize;
            open &= open - 1;
            reached |= match symbol {
                Symbol::Rule(rule) => self.ends(rule, start),
                Symbol::Word(word) => match self.places.get(start) {
                    Some(readings) if readings.contains(&Some(word)) => 1 << (start + 1),
                    _ => 0,
                },
            };
        }
        reached
    }
}

/// Whether some sentence rule of the grammar gives exactly this text.
pub fn accepts(grammar: &Grammar, sentence: &str) -> bool {
    let Some(found) = words(sentence) else { return false };
    if found.len() > LONGEST {
        return false;
    }
    let places: Vec<Readings> = found
        .iter()
        .zip(capitals(&found))
        .map(|(word, capital)| {
            let lowered = capital.then(|| {
                let mut letters = word.chars();
                letters.next().map(|first| first.to_lowercase().chain(letters).collect::<String>())
            });
            [grammar.word_id(word), lowered.flatten().and_then(|word| grammar.word_id(&word))]
        })
        .collect();
    let full: u128 = 1 << places.len();
    let ends = vec![None; grammar.rules.len() * (places.len() + 1)];
    let mut recogniser = Recogniser { grammar, places, ends };
    grammar.of_kind(Kind::Sentence).any(|rule| recogniser.ends(rule, 0) & full != 0)
}

#[cfg(test)]
mod tests {
    use super::super::sample::story;
    use super::super::text::sentences;
    use super::*;

    #[test]
    fn every_sampled_sentence_is_accepted() {
        let grammar = Grammar::bundled().expect("the bundled grammar is well formed");
        for index in 0..500 {
            let told = story(&grammar, 11, index);
            assert!((3..=8).contains(&told.len()), "{} sentences: {told:?}", told.len());
            let text = told.join(" ");
            assert_eq!(sentences(&text).0, told, "the text is cut where its sentences end");
            for sentence in &told {
                assert!(accepts(&grammar, sentence), "{sentence}");
            }
        }
    }

    #[test]
    fn broken_sentences_are_refused() {
        let grammar = Grammar::bundled().expect("the bundled grammar is well formed");
        assert!(accepts(&grammar, "Lily was very sad."));
        assert!(accepts(&grammar, "\"I love it!\" said Tom."));
        for text in [
            "Lily were very sad.",
            "Lily was very sad",
            "lily was very sad.",
            "Lily was sad very.",
            "Lily was very sad. Tom was sad.",
            "She felt sad and began to Cry.",
            "He loved her red ball very much.",
            "\"I love it! said Tom.",
            "",
            ".",
        ] {
            assert!(!accepts(&grammar, text), "{text:?}");
        }
    }

    #[test]
    fn ambiguity_and_length_do_not_blow_up() {
        let mut text = String::from("part r0 = a | a a | {}\n");
        for level in 1..40 {
            text += &format!("part r{level} = {{r{0}}} {{r{0}}} | {{r{0}}}\n", level - 1);
        }
        text += "sentence s = {r39} .\nstory t = {s}";
        let grammar = Grammar::parse(&text).expect("the grammar is well formed");
        let sentence = |count: usize| format!("A{}.", " a".repeat(count - 1));
        assert!(accepts(&grammar, &sentence(LONGEST - 1)));
        assert!(!accepts(&grammar, &sentence(LONGEST)));
        assert!(!accepts(&grammar, &format!("A{} b.", " a".repeat(100))));
    }
}
