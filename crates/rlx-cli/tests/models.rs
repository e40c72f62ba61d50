//! `rlx generate` and `rlx embed`, and the other commands on a model folder.

mod common;

use common::{fails, json, program, succeeds};
use serde_json::Value;
use std::io::Read;
use std::process::Stdio;

const STORIES: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../models/stories");
const PROMPT: &str = "Once upon a time";

#[test]
fn the_bundled_model_tells_a_story() {
    let told = json(&["generate", PROMPT, "--max-tokens", "12", "--json"]);
    assert_eq!(told["tokens"].as_array().unwrap().len(), 12);
    assert_eq!(told["finish"], "max tokens");
    let text = told["text"].as_str().unwrap();
    assert_eq!(succeeds(&["generate", PROMPT, "--max-tokens", "12"]), format!("{PROMPT}{text}\n"));
    let folder = json(&["generate", PROMPT, "--max-tokens", "12", "--json", "--model", STORIES]);
    assert_eq!(folder["text"], told["text"], "the bundled model is the one in the folder");
    let short = json(&["generate", PROMPT, "--max-tokens", "0", "--json"]);
    assert_eq!((&short["text"], &short["finish"]), (&Value::from(""), &Value::from("max tokens")));
    assert_eq!(succeeds(&["generate", PROMPT, "--max-tokens", "0"]), format!("{PROMPT}\n"));
}

#[test]
fn seeds_choose_among_stories() {
    let told = |seed: &str| {
        succeeds(&[
            "generate",
            PROMPT,
            "--max-tokens",
            "30",
            "--temperature",
            "1.2",
            "--top-p",
            "0.98",
            "--seed",
            seed,
        ])
    };
    assert_eq!(told("1"), told("1"));
    let different: std::collections::BTreeSet<String> = ["1", "2", "3"].map(told).into();
    assert!(different.len() > 1);
    let greedy = succeeds(&["generate", PROMPT, "--max-tokens", "30"]);
    let one = ["generate", PROMPT, "--max-tokens", "30", "--temperature", "1.2", "--top-k", "1"];
    assert_eq!(succeeds(&one), greedy, "the likeliest one is all there is");
}

#[test]
fn generation_that_makes_no_sense_is_refused() {
    let error = fails(1, &["generate", PROMPT, "--temperature", "-1"]);
    assert_eq!(error, "error: temperature: is -1, expected a finite number of at least 0\n");
    let error = fails(1, &["generate", PROMPT, "--model", "nowhere"]);
    assert!(error.starts_with("error: nowhere/config.json: cannot be read: "), "{error}");
}

#[test]
fn a_reader_that_leaves_ends_the_story_quietly() {
    let mut command = program();
    command.args(["generate", PROMPT, "--max-tokens", "100"]);
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    drop(child.stdout.take());
    let mut error = String::new();
    child.stderr.take().unwrap().read_to_string(&mut error).unwrap();
    assert_eq!((child.wait().unwrap().code(), error.as_str()), (Some(0), ""));
}

#[test]
fn a_model_folder_is_a_model() {
    let story = json(&["explain", STORIES, "--json", "--dim", "B=1", "--dim", "S=16"]);
    assert_eq!(story["stages"][0]["stage"], "hir");
    let nodes = story["nodes"].as_array().unwrap().len() as u64;
    let counted: u64 =
        story["fates"].as_object().unwrap().values().map(|count| count.as_u64().unwrap()).sum();
    assert_eq!(counted, nodes);
    assert!(story["arena_bytes"].as_u64() < story["apart_bytes"].as_u64());
    let arguments = ["run", STORIES, "--input", "input_ids=[[1,2,3]]", "--json"];
    let logits = &json(&arguments)["outputs"][0];
    assert_eq!((&logits["name"], &logits["shape"][1]), (&Value::from("logits"), &Value::from(3)));
}

#[test]
fn embedding_asks_for_an_encoder_and_for_sentences() {
    let error = fails(1, &["embed", "--model", STORIES, "A sentence."]);
    assert!(error.contains("config.json: field \"model_type\" is \"gpt2\", expected \"bert\""), "{error}");
    let error = fails(2, &["embed", "--model", STORIES]);
    assert_eq!(error, "error: there is no sentence to embed; give some, or --file FILE\n");
}
