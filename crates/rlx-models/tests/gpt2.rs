//! Decoders against their golden results: the tiny random ones and the bundled stories model.

mod common;

use common::{cpu, data, floats, integers, ints, json, largest_difference, tokens};
use rlx_models::gpt2::{self, Gpt2Options, Logits};
use rlx_models::{FinishReason, GenerateOptions, Generator, Gpt2Config, UnknownFields};
use rlx_runtime::CompiledGraph;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};

fn compile(folder: &Path, options: Gpt2Options) -> CompiledGraph {
    let config = Gpt2Config::read(folder, UnknownFields::Refuse).unwrap();
    let weights = gpt2::open_weights(folder).unwrap();
    let mut compiled = cpu().compile_hir(&gpt2::module(&config, &weights, options).unwrap()).unwrap();
    weights.bind(&mut compiled).unwrap();
    compiled
}

fn logits(compiled: &mut CompiledGraph, inputs: &[(&str, rlx_runtime::TensorRef<'_>)]) -> Vec<f32> {
    let outputs = compiled.run_typed(inputs).unwrap();
    assert_eq!(outputs[0].0, "logits");
    outputs[0].1.to_f64s().into_iter().map(|value| value as f32).collect()
}

/// All logits without a cache, and with one: the prompt in two runs, rows one apart.
fn check_tiny(name: &str) {
    let folder = data(name);
    let expected = json(folder.join("expected.json"));
    let (ids, wanted) = (integers(&expected["input_ids"]), floats(&expected["logits"]));
    let (length, vocabulary) = (ids.len() / 2, wanted.len() / ids.len());
    let mut plain = compile(&folder, Gpt2Options { cache: None, logits: Logits::All });
    let found = logits(&mut plain, &[("input_ids", ints(&[2, length], &ids))]);
    let difference = largest_difference(&found, &wanted);
    assert!(difference <= 5e-5, "{name}: off by {difference}");

    let mut cached = compile(&folder, Gpt2Options { cache: Some(20), logits: Logits::Last });
    let row = |row: usize, from: usize, to: usize| &ids[row * length..][from..to];
    let at = |row: usize, position: usize| &wanted[(row * length + position) * vocabulary..][..vocabulary];
    // Row 0 has 4 tokens; row 1 has 3, and one that the next run replaces.
    let first = [row(0, 0, 4), row(1, 0, 3), &[0]].concat();
    let inputs =
        [("input_ids", ints(&[2, 4], &first)), ("past", ints(&[2], &[0, 0])), ("last", ints(&[2], &[3, 2]))];
    let found = logits(&mut cached, &inputs);
    let difference = largest_difference(&found, &[at(0, 3), at(1, 2)].concat());
    assert!(difference <= 5e-5, "{name}, first run: off by {difference}");
    let second = [row(0, 4, 6), row(1, 3, 5)].concat();
    let inputs =
        [("input_ids", ints(&[2, 2], &second)), ("past", ints(&[2], &[4, 3])), ("last", ints(&[2], &[1, 0]))];
    let found = logits(&mut cached, &inputs);
    let difference = largest_difference(&found, &[at(0, 5), at(1, 3)].concat());
    assert!(difference <= 5e-5, "{name}, second run: off by {difference}");
}

#[test]
fn untied_output_and_own_inner_width_agree() {
    check_tiny("tiny_gpt2_untied");
}

#[test]
fn scores_scaled_by_layer_agree() {
    check_tiny("tiny_gpt2_scaled");
}

#[test]
fn unscaled_scores_agree() {
    check_tiny("tiny_gpt2_unscaled");
}

fn stories() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../models/stories")
}

/// Greedy, to the end of the tokens asked for.
fn greedy(count: usize) -> GenerateOptions {
    GenerateOptions { max_new_tokens: count, stop_tokens: Some(vec![]), ..GenerateOptions::default() }
}

#[test]
fn stories_have_the_golden_logits_and_go_on_as_expected() {
    let golden = json(data("stories_golden.json"));
    let mut compiled = compile(&stories(), Gpt2Options { cache: Some(512), logits: Logits::Last });
    let mut generator = Generator::load(&cpu(), stories(), None).unwrap();
    let cases = golden["cases"].as_array().expect("a list");
    assert_eq!(cases.len(), 7);
    for case in cases {
        let text = case["text"].as_str().expect("a text");
        let ids = integers(&case["ids"]);
        assert_eq!(generator.tokenizer().encode(text).unwrap().ids, tokens(&case["ids"]));
        let (dims, last) = ([1, ids.len()], [ids.len() as i64 - 1]);
        let inputs =
            [("input_ids", ints(&dims, &ids)), ("past", ints(&[1], &[0])), ("last", ints(&[1], &last))];
        // Logits reach 18.
        let difference = largest_difference(&logits(&mut compiled, &inputs), &floats(&case["last_logits"]));
        assert!(difference <= 2e-4, "{text}: off by {difference}");
        let mut pieces = String::new();
        let (made, generated) = generator
            .generate(text, &greedy(64), &mut |piece| {
                pieces.push_str(piece);
                ControlFlow::Continue(())
            })
            .unwrap();
        assert_eq!(generated.tokens, tokens(&case["greedy"]), "{text}");
        assert_eq!(generated.finish, FinishReason::MaxTokens);
        assert_eq!(made, case["greedy_text"].as_str().expect("a text"));
        assert_eq!(made, pieces);
    }
    let prompts: Vec<Vec<u32>> = cases.iter().map(|case| tokens(&case["ids"])).collect();
    let prompts: Vec<&[u32]> = prompts.iter().map(Vec::as_slice).collect();
    let together =
        generator.generate_tokens(&prompts, &greedy(64), &mut |_, _| ControlFlow::Continue(())).unwrap();
    for (case, generated) in cases.iter().zip(together) {
        assert_eq!(generated.tokens, tokens(&case["greedy"]), "{} in a batch", case["text"]);
    }
}
