//! The program as a whole: help, exit codes, closed pipes, its reference page.

mod common;

use common::{fails, json, program, rlx, succeeds};
use std::io::Read;
use std::process::Stdio;
use std::{fs, path::Path};

const COMMANDS: [&str; 8] =
    ["run", "explain", "inspect", "devices", "bench", "generate", "embed", "completions"];

#[test]
fn every_command_has_help_with_examples() {
    for command in COMMANDS {
        let help = succeeds(&[command, "--help"]);
        assert!(help.contains("Examples:") && help.contains(&format!("rlx {command}")), "{command}");
    }
}

#[test]
fn wrong_usage_is_exit_code_two() {
    for arguments in [&["fly"][..], &[], &["devices", "--fast"], &["bench", "layer.rlx", "--runs", "0"]] {
        assert_eq!(rlx(arguments).code, 2, "{arguments:?}");
    }
}

#[test]
fn no_option_is_taken_and_ignored() {
    for arguments in [
        &["bench", "run-slots", "--input", "x=1"][..],
        &["bench", "run-slots", "--weights", "random:1"],
        &["bench", "run-slots", "--dim", "B=2"],
        &["explain", "layer.rlx", "--stage", "lir", "--html", "page.html"],
        &["explain", "layer.rlx", "--stage", "lir", "--dim", "B=2"],
        &["inspect", "layer.rlx", "--depth", "0"],
    ] {
        fails(2, arguments);
    }
    assert_eq!(
        fails(1, &["explain", "layer.rlx", "--dim", "S=1", "--dim", "B=65"]),
        "error: symbol B: is 65, outside [1, 64]\nsymbol S: the graph has no such symbol; it has B\n"
    );
    let error = fails(1, &["explain", "layer.rlx", "--memory-budget", "1"]);
    assert!(error.contains("more than the budget of 1 bytes"), "{error}");
}

#[test]
fn devices_name_the_cpu_and_say_why_others_are_not_there() {
    let list = json(&["devices", "--json"]);
    let list = list.as_array().unwrap();
    assert_eq!(list[0]["device"], "cpu");
    assert_eq!(list[0]["available"], true);
    assert!(list.iter().all(|entry| entry["available"] == true || entry["reason"].is_string()));
    assert_eq!(succeeds(&["devices"]).lines().count(), list.len() + 1);
}

#[test]
fn completions_exist_for_every_shell() {
    for shell in ["bash", "elvish", "fish", "powershell", "zsh"] {
        assert!(succeeds(&["completions", shell]).contains("explain"), "{shell}");
    }
}

#[test]
fn bench_measures_and_keeps_a_history() {
    let folder = tempfile::tempdir().unwrap();
    let history = folder.path().join("times.jsonl");
    let history_text = history.to_str().unwrap();
    for model in ["layer.rlx", "run-slots"] {
        let mut arguments =
            vec!["bench", model, "--runs", "5", "--threads", "1", "--history", history_text, "--json"];
        if model == "layer.rlx" {
            arguments.extend(["--dim", "B=4"]);
        }
        let result = json(&arguments);
        let seconds = |name: &str| result[name].as_f64().unwrap();
        assert!(seconds("least_seconds") > 0.0 && seconds("least_seconds") <= seconds("median_seconds"));
        assert!(seconds("median_seconds") <= seconds("p90_seconds"));
        assert_eq!(result["runs"], 5);
    }
    let lines = fs::read_to_string(history).unwrap();
    let models: Vec<String> = lines
        .lines()
        .map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap()["model"].to_string())
        .collect();
    assert_eq!(models, ["\"layer\"", "\"run-slots\""]);
    assert!(succeeds(&["bench", "layer.rlx", "--dim", "B=4", "--runs", "2"]).contains("median: "));
}

#[test]
fn a_closed_pipe_ends_the_program_quietly() {
    for arguments in [&["completions", "zsh"][..], &["explain", "layer.rlx"], &["--help"], &["devices"]] {
        let mut child =
            program().args(arguments).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        drop(child.stdout.take());
        let mut error = String::new();
        child.stderr.take().unwrap().read_to_string(&mut error).unwrap();
        assert_eq!((child.wait().unwrap().code(), error.as_str()), (Some(0), ""), "{arguments:?}");
    }
}

#[test]
fn text_that_does_not_parse_is_told_with_file_and_line() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("broken.rlx");
    fs::write(&path, "rlx 1\ngraph \"t\" {\n %0 = softmaxx %1\n}\n").unwrap();
    let path = path.to_str().unwrap();
    assert_eq!(
        fails(1, &["explain", path]),
        format!("error: {path}: line 3: softmaxx: there is no op softmaxx; did you mean softmax?\n")
    );
}

#[test]
fn the_reference_page_is_current() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/cli.md");
    let page = succeeds(&["reference"]);
    if std::env::var_os("BLESS").is_some() {
        fs::write(&path, &page).unwrap();
    }
    let found = fs::read_to_string(&path).unwrap_or_default();
    assert!(found == page, "docs/cli.md is not current; run the test with BLESS=1");
    for command in COMMANDS {
        assert!(page.contains(&format!("## `rlx {command}`")), "{command}");
    }
}
