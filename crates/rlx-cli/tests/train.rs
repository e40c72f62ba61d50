//! `rlx train`: a short run of the recipe of the bundled model, stopped and gone on with.

mod common;

use common::{fails, succeeds};
use serde_json::Value;
use std::fs;
use std::path::Path;

const STORIES: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../models/stories");
const RECIPE: &str = include_str!("../../../recipes/stories.toml");

/// The recipe on other text, in `folder`.
fn write_recipe(folder: &Path) -> String {
    let text: String = (0..400)
        .map(|index| {
            let [who, what] = [["Tom", "Lily", "Ben"][index % 3], ["a dog", "a red ball"][index % 2]];
            format!("Once upon a time, {who} saw {what}. {who} was happy.\n")
        })
        .collect();
    fs::write(folder.join("stories.txt"), text).expect("a writable folder");
    let changes = [
        ("../target/stories.txt", "stories.txt"),
        ("../target/stories", "out"),
        ("../models/stories", STORIES),
        ("batch_size = 8", "batch_size = 4"),
        ("length = 512", "length = 32"),
        ("evaluate = 0.01", "evaluate = 0.1"),
        ("warm_up = 100", "warm_up = 4"),
        ("checkpoint_every = 200", "checkpoint_every = 10"),
        ("evaluate_every = 200", "evaluate_every = 10"),
    ];
    let recipe = changes.iter().fold(RECIPE.to_string(), |recipe, (from, to)| {
        assert!(recipe.contains(from), "the recipe has no `{from}`");
        recipe.replace(from, to)
    });
    let path = folder.join("run.toml");
    fs::write(&path, recipe).expect("a writable folder");
    path.display().to_string()
}

fn losses(lines: &str, key: &str) -> Vec<f64> {
    let lines = lines.lines().map(|line| serde_json::from_str::<Value>(line).expect("a line of JSON"));
    lines.filter_map(|line| line[key].as_f64()).collect()
}

#[test]
fn the_recipe_of_the_stories_learns_and_goes_on_where_it_stopped() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let recipe = write_recipe(folder.path());
    let file =
        |name: &str| fs::read_to_string(folder.path().join("out").join(name)).expect("the run wrote it");
    let lines = succeeds(&["train", &recipe, "--steps", "30", "--json"]);
    let whole = losses(&lines, "loss");
    assert_eq!(whole.len(), 30);
    assert!(whole[29] < 0.7 * whole[0], "{whole:?}");
    assert_eq!(losses(&lines, "evaluation").len(), 3);
    assert_eq!(losses(&file("losses.jsonl"), "loss"), whole);
    assert!(file("losses.svg").contains("<polyline"));
    let out = folder.path().join("out");
    let told = succeeds(&["generate", "Once", "--max-tokens", "4", "--model", out.to_str().expect("text")]);
    assert!(told.starts_with("Once"), "{told}");

    // As if the program had been killed after the checkpoint of update 20.
    fs::remove_dir_all(out.join("step-30")).expect("it is there");
    let rest = succeeds(&["train", &recipe, "--steps", "30", "--json"]);
    assert_eq!(losses(&rest, "loss"), whole[20..]);
    assert_eq!(losses(&file("losses.jsonl"), "loss"), whole);
    assert!(succeeds(&["train", &recipe, "--steps", "30"]).starts_with("30 updates to "));
}

#[test]
fn adapters_are_named_in_the_help_and_after_the_run() {
    let help = succeeds(&["train", "--help"]);
    for word in ["[lora]", "[rounding]", "`adapter`"] {
        assert!(help.contains(word), "{word}: {help}");
    }
    let folder = tempfile::tempdir().expect("a temporary folder");
    let recipe = write_recipe(folder.path());
    let mut text = fs::read_to_string(&recipe).expect("it was written");
    text += "\n[lora]\nrank = 2\nalpha = 4.0\ntargets = [\"attn\"]\n";
    fs::write(&recipe, text).expect("a writable folder");
    let told = succeeds(&["train", &recipe, "--steps", "2"]);
    let out = folder.path().join("out");
    for written in [out.join("model.safetensors"), out.join("adapter")] {
        assert!(told.contains(&format!("wrote {}\n", written.display())), "{told}");
        assert!(written.exists(), "{}", written.display());
    }
}

#[test]
fn what_does_not_fit_is_refused() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let recipe = write_recipe(folder.path());
    let broken = folder.path().join("broken.toml");
    let text = fs::read_to_string(&recipe).expect("it was written");
    let message = |from: &str, to: &str| {
        fs::write(&broken, text.replace(from, to)).expect("a writable folder");
        fails(1, &["train", broken.to_str().expect("text")])
    };
    let unknown = message("clip_norm", "clip_normal");
    assert!(unknown.contains("unknown field `clip_normal`"), "{unknown}");
    assert!(message("length = 32", "length = 3200").contains("a window of 3200 takes 3201"));
    assert!(message("<|endoftext|>", "<|end|>").contains("data.end is <|end|>; expected a token"));
    assert!(
        message("peak = 3e-3", "peak = 0.0").contains("learning_rate.peak is 0; expected a positive number")
    );
    assert!(message("stories.txt", "tales.txt").contains("tales.txt: No such file"));
}
