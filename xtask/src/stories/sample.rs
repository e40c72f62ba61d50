//! Samples stories from a grammar. Story `i` of seed `s` is a function of `s` and `i` alone: no state runs from one
//! story to the next, so any range can be made anywhere in any order.

use std::collections::HashMap;

use super::grammar::{Grammar, Kind, Symbol};
use super::text::render;

/// A counter-based generator: draw `n` of a stream is a hash of the seed, the stream and `n`.
struct CounterRandom {
    key: u64,
    counter: u64,
}

impl CounterRandom {
    fn new(seed: u64, stream: u64) -> CounterRandom {
        CounterRandom { key: mix(mix(seed) ^ stream), counter: 0 }
    }

    /// A number below `bound`, which is small enough for the bias of the multiplication not to matter.
    fn below(&mut self, bound: usize) -> usize {
        self.counter += 1;
        let draw = mix(self.key.wrapping_add(self.counter.wrapping_mul(0x9e37_79b9_7f4a_7c15)));
        ((u128::from(draw) * bound as u128) >> 64) as usize
    }
}

/// A bijection of 64-bit words that spreads every input bit over the result.
fn mix(mut word: u64) -> u64 {
    word = (word ^ (word >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    word = (word ^ (word >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    word ^ (word >> 31)
}

/// One story in the making.
struct Sampler<'g> {
    grammar: &'g Grammar,
    random: CounterRandom,
    chosen: HashMap<usize, &'g [Symbol]>,
    sentences: Vec<String>,
}

impl<'g> Sampler<'g> {
    /// Expands a rule and appends its words; a sentence rule writes its words out instead.
    fn expand(&mut self, rule: usize, words: &mut Vec<&'g str>) {
        let grammar = self.grammar;
        let alternatives = &grammar.rules[rule].alternatives;
        let kind = grammar.rules[rule].kind;
        let symbols = match self.chosen.get(&rule) {
            Some(symbols) => symbols,
            None => alternatives[self.random.below(alternatives.len())].as_slice(),
        };
        if kind == Kind::Once {
            self.chosen.insert(rule, symbols);
        }
        let mut own = Vec::new();
        let target = if kind == Kind::Sentence { &mut own } else { words };
        for symbol in symbols {
            match *symbol {
                Symbol::Word(word) => target.push(&grammar.words[word]),
                Symbol::Rule(inner) => self.expand(inner, target),
            }
        }
        if kind == Kind::Sentence {
            self.sentences.push(render(&own));
        }
    }
}

/// Story number `index` of the given seed, as its sentences.
pub fn story(grammar: &Grammar, seed: u64, index: u64) -> Vec<String> {
    let plots: Vec<usize> = grammar.of_kind(Kind::Story).collect();
    let mut random = CounterRandom::new(seed, index);
    let plot = plots[random.below(plots.len())];
    let mut sampler = Sampler { grammar, random, chosen: HashMap::new(), sentences: Vec::new() };
    sampler.expand(plot, &mut Vec::new());
    sampler.sentences
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_story_depends_on_seed_and_index_alone() {
        let grammar = Grammar::bundled().expect("the bundled grammar is well formed");
        assert_eq!(story(&grammar, 7, 3), story(&grammar, 7, 3));
        assert_ne!(story(&grammar, 7, 3), story(&grammar, 7, 4));
        assert_ne!(story(&grammar, 7, 3), story(&grammar, 8, 3));
    }

    #[test]
    fn a_once_rule_is_chosen_one_time() {
        let text =
            "once name = Ann | Bob | Cy | Di | Ed\nsentence s = {name} and {name} .\nstory t = {s} {s}";
        let grammar = Grammar::parse(text).expect("the grammar is well formed");
        for index in 0..20 {
            let told = story(&grammar, 1, index);
            let name = &told[0][..told[0].find(' ').expect("the sentence has blanks")];
            assert_eq!(told, [format!("{name} and {name}."), format!("{name} and {name}.")]);
        }
    }
}
