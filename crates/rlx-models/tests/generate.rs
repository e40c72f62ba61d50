//! The generation loop: why it stops, what it streams, what it repeats.

mod common;

use common::{cpu, data};
use rlx_models::{FinishReason, GenerateOptions, Generated, Generator};
use std::ops::ControlFlow;
use std::path::PathBuf;

fn stories(capacity: Option<usize>) -> Generator {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../models/stories");
    Generator::load(&cpu(), folder, capacity).unwrap()
}

/// Tokens after `prompt`, alone.
fn alone(generator: &mut Generator, prompt: &[u32], options: &GenerateOptions) -> Generated {
    let mut all = generator.generate_tokens(&[prompt], options, &mut go_on).unwrap();
    all.pop().expect("one row went in")
}

fn go_on(_: usize, _: u32) -> ControlFlow<()> {
    ControlFlow::Continue(())
}

#[test]
fn a_row_ends_at_the_end_token_of_the_model() {
    let mut generator = stories(None);
    let options = GenerateOptions { max_new_tokens: 400, ..GenerateOptions::default() };
    let ids = generator.tokenizer().encode("Once upon a time").unwrap().ids;
    let story = alone(&mut generator, &ids, &options);
    assert_eq!(story.finish, FinishReason::EndToken);
    assert!(story.tokens.len() > 10 && !story.tokens.contains(&0));
    // The token before the end, made an end token, ends the row where it first stands.
    let last = *story.tokens.last().expect("not empty");
    let first = story.tokens.iter().position(|&token| token == last).expect("it is there");
    let options = GenerateOptions { stop_tokens: Some(vec![last]), ..options };
    let cut = alone(&mut generator, &ids, &options);
    assert_eq!((cut.tokens.as_slice(), cut.finish), (&story.tokens[..first], FinishReason::EndToken));
}

#[test]
fn a_row_ends_at_its_most_tokens_and_when_the_cache_is_full() {
    let mut generator = stories(Some(12));
    let ids = generator.tokenizer().encode("Once upon a time").unwrap().ids;
    assert_eq!(ids.len(), 4);
    let options = |count| GenerateOptions {
        max_new_tokens: count,
        stop_tokens: Some(vec![]),
        ..GenerateOptions::default()
    };
    // The last token needs no position of its own.
    for (count, length, finish) in [
        (0, 0, FinishReason::MaxTokens),
        (5, 5, FinishReason::MaxTokens),
        (9, 9, FinishReason::MaxTokens),
        (10, 9, FinishReason::ContextFull),
    ] {
        let made = alone(&mut generator, &ids, &options(count));
        assert_eq!((made.tokens.len(), made.finish), (length, finish), "{count} tokens asked for");
    }
    // Rows of one batch end apart, and none disturbs another.
    let short = alone(&mut generator, &ids[..1], &options(11));
    let both = generator.generate_tokens(&[&ids, &ids[..1]], &options(11), &mut go_on).unwrap();
    assert_eq!(both[0].finish, FinishReason::ContextFull);
    assert_eq!(both[1], short);
    assert_eq!((short.tokens.len(), short.finish), (11, FinishReason::MaxTokens));
}

#[test]
fn the_caller_ends_a_row() {
    let mut generator = stories(None);
    let mut pieces = vec![];
    let (text, made) = generator
        .generate("Once upon a time", &GenerateOptions::default(), &mut |piece| {
            pieces.push(piece.to_string());
            if pieces.len() == 3 { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        })
        .unwrap();
    assert_eq!((made.finish, pieces.len()), (FinishReason::Stopped, 3));
    assert_eq!(text, pieces.concat());
}

#[test]
fn draws_repeat_with_their_seed_and_differ_between_rows() {
    let mut generator = stories(None);
    let ids = generator.tokenizer().encode("One day, a").unwrap().ids;
    let options = |seed| GenerateOptions {
        temperature: 1.0,
        seed,
        max_new_tokens: 24,
        stop_tokens: Some(vec![]),
        ..GenerateOptions::default()
    };
    let first = alone(&mut generator, &ids, &options(7));
    assert_eq!(alone(&mut generator, &ids, &options(7)), first);
    assert_ne!(alone(&mut generator, &ids, &options(8)), first);
    let rows = generator.generate_tokens(&[&ids, &ids], &options(7), &mut go_on).unwrap();
    assert_eq!(rows[0], first);
    assert_ne!(rows[1], first);
}

#[test]
fn text_comes_in_whole_characters() {
    let mut generator = stories(None);
    // Byte tokens that make a character of four bytes, then one that never ends.
    let tokenizer = generator.tokenizer().clone();
    let smile = tokenizer.encode("🙂").unwrap().ids;
    assert!(smile.len() > 1, "the test needs a character of several tokens");
    let mut pieces = vec![];
    let mut stream = rlx_models::generate::TextStream::after(&[]);
    for &token in smile.iter().chain(&smile).chain(&smile[..1]) {
        pieces.push(stream.push(&tokenizer, token).unwrap());
    }
    pieces.push(stream.finish(&tokenizer).unwrap());
    let pieces: Vec<String> = pieces.into_iter().filter(|piece| !piece.is_empty()).collect();
    assert_eq!(pieces, ["🙂", "🙂", "\u{fffd}"]);
    // An empty prompt starts a story.
    let (text, _) =
        generator.generate("", &GenerateOptions::default(), &mut |_| ControlFlow::Continue(())).unwrap();
    assert!(text.len() > 20, "{text}");
}

#[test]
fn a_folder_without_tokenizer_is_refused() {
    let error = Generator::load(&cpu(), data("tiny_gpt2_scaled"), None).unwrap_err();
    assert!(error.to_string().contains("tokenizer.json: cannot be read"), "{error}");
}
