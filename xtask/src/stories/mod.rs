//! The stories that the bundled model is trained on: a grammar, a sampler and an acceptor.
//!
//! `stories generate --seed N --count N` prints one story per line; equal arguments give equal text on every machine.
//! `stories check FILE|- [--at-least SHARE]` reads such a text, reports which share of its sentences the grammar
//! accepts and prints those that it refuses. The last sentence of a line counts only if it has an end, since a
//! generation may stop at its token limit.

mod accept;
mod grammar;
mod sample;
mod text;

use std::io::{self, BufWriter, Read, Write};

use anyhow::{Context, Result, bail, ensure};

use grammar::Grammar;

const USAGE: &str = "usage: stories generate --seed N --count N | stories check FILE|- [--at-least SHARE]";

/// Runs the subcommand with the arguments that follow `stories`.
pub fn run(args: &[String]) -> Result<()> {
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    match args[..] {
        ["generate", "--seed", seed, "--count", count] | ["generate", "--count", count, "--seed", seed] => {
            generate(number(seed)?, number(count)?)
        }
        ["check", path] => check(path, 0.0),
        ["check", path, "--at-least", share] => {
            check(path, share.parse().with_context(|| format!("`{share}` is not a share such as 0.95"))?)
        }
        _ => bail!(USAGE),
    }
}

fn number(text: &str) -> Result<u64> {
    text.parse().with_context(|| format!("`{text}` is not a whole number"))
}

fn generate(seed: u64, count: u64) -> Result<()> {
    let grammar = Grammar::bundled()?;
    let mut out = BufWriter::new(io::stdout().lock());
    for index in 0..count {
        writeln!(out, "{}", sample::story(&grammar, seed, index).join(" "))?;
    }
    out.flush()?;
    Ok(())
}

/// What a text is made of, sentence by sentence.
#[derive(Debug, Default, PartialEq)]
struct Tally<'t> {
    accepted: usize,
    refused: Vec<&'t str>,
    unfinished: usize,
}

fn tally<'t>(grammar: &Grammar, text: &'t str) -> Tally<'t> {
    let mut tally = Tally::default();
    for line in text.lines() {
        let (sentences, rest) = text::sentences(line);
        tally.unfinished += usize::from(!rest.is_empty());
        for sentence in sentences {
            if accept::accepts(grammar, sentence) {
                tally.accepted += 1;
            } else {
                tally.refused.push(sentence);
            }
        }
    }
    tally
}

fn check(path: &str, at_least: f64) -> Result<()> {
    let mut text = String::new();
    match path {
        "-" => io::stdin().read_to_string(&mut text).context("standard input")?,
        path => std::fs::File::open(path)
            .and_then(|mut file| file.read_to_string(&mut text))
            .context(path.to_string())?,
    };
    let tally = tally(&Grammar::bundled()?, &text);
    let total = tally.accepted + tally.refused.len();
    ensure!(total > 0, "{path} holds no whole sentence");
    let share = tally.accepted as f64 / total as f64;
    tally.refused.iter().for_each(|sentence| println!("refused: {sentence}"));
    println!(
        "{} of {total} sentences accepted ({:.2} %), {} unfinished",
        tally.accepted,
        100.0 * share,
        tally.unfinished
    );
    ensure!(share >= at_least, "the share {share:.4} is below {at_least}");
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_is_counted_by_sentence() {
        let grammar = Grammar::bundled().expect("the bundled grammar is well formed");
        let text = "Lily was very sad. Lily sad. The end.\n\nThe end. Then L\n";
        assert_eq!(tally(&grammar, text), Tally { accepted: 3, refused: vec!["Lily sad."], unfinished: 1 });
    }

    #[test]
    fn wrong_arguments_are_refused() {
        for args in [&["generate"][..], &["generate", "--seed", "x", "--count", "1"], &["check"], &[]] {
            let args: Vec<String> = args.iter().map(|arg| arg.to_string()).collect();
            assert!(run(&args).is_err(), "{args:?}");
        }
    }
}
