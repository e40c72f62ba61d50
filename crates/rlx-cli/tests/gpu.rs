//! The commands with `--device gpu`: what they say is what they say on the processor.

mod common;

use common::{fails, json, rlx, succeeds};
use serde_json::Value;

const STORIES: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../models/stories");

/// Is there a gpu? Notes that `what` does not run where the list of devices has none.
fn has_gpu(what: &str) -> bool {
    let listed = json(&["devices", "--json"]);
    let devices = listed.as_array().expect("a list");
    let gpu = devices.iter().find(|device| device["device"] == "gpu").expect("every kind is listed");
    if let Some(reason) = gpu["reason"].as_str() {
        // What is not there is refused with the same words.
        assert!(!reason.contains("leaves it out"), "the program is built with the gpu: {reason}");
        let error = fails(1, &["generate", "One day", "--device", "gpu"]);
        assert_eq!(error, format!("error: {reason}\n"));
        rlx_testkit::not_run(what, reason);
        return false;
    }
    assert!(gpu["name"].as_str().is_some_and(|name| !name.is_empty()), "{gpu}");
    true
}

/// What a command prints on the processor and on the gpu.
fn both(arguments: &[&str]) -> [String; 2] {
    ["cpu", "gpu"].map(|device| succeeds(&[arguments, &["--device", device]].concat()))
}

fn both_json(arguments: &[&str]) -> [Value; 2] {
    let parse = |text: String| serde_json::from_str(&text).expect("it prints JSON");
    both(&[arguments, &["--json"]].concat()).map(parse)
}

#[test]
fn stories_are_the_same_on_the_gpu() {
    if !has_gpu("rlx generate on the gpu") {
        return;
    }
    for prompt in ["Once upon a time", "Tokens of other kinds: 42 + é = 🙂", ""] {
        let [cpu, gpu] = both_json(&["generate", prompt, "--max-tokens", "60"]);
        assert_eq!((&gpu["tokens"], &gpu["finish"]), (&cpu["tokens"], &cpu["finish"]), "{prompt}");
        assert_eq!(gpu["text"], cpu["text"]);
    }
    let draw =
        ["generate", "Lily", "--max-tokens", "40", "--temperature", "0.9", "--top-p", "0.9", "--seed", "3"];
    let [cpu, gpu] = both(&draw);
    assert_eq!(gpu, cpu);
}

/// Numbers of nested lists.
fn numbers(value: &Value) -> Vec<f64> {
    match value {
        Value::Array(list) => list.iter().flat_map(numbers).collect(),
        number => vec![number.as_f64().expect("a number")],
    }
}

fn assert_near(found: &Value, expected: &Value, bound: f64) {
    let (found, expected) = (numbers(found), numbers(expected));
    assert_eq!(found.len(), expected.len());
    for (index, (found, expected)) in found.iter().zip(&expected).enumerate() {
        assert!((found - expected).abs() <= bound, "element {index}: {found}, expected {expected}");
    }
}

#[test]
fn models_run_the_same_on_the_gpu() {
    if !has_gpu("rlx run on the gpu") {
        return;
    }
    let sum = ["run", "sum.rlx", "--input", "left=[1,2.5]", "--input", "right=1", "--input", "count=3"];
    let [cpu, gpu] = both(&sum);
    assert_eq!(gpu, cpu);
    let [cpu, gpu] = both_json(&["run", STORIES, "--input", "input_ids=[[1,2,3],[7,8,9]]"]);
    let (cpu, gpu) = (&cpu["outputs"][0], &gpu["outputs"][0]);
    assert_eq!((&gpu["name"], &gpu["shape"]), (&cpu["name"], &cpu["shape"]));
    // Logits reach 18; two devices add in different orders.
    assert_near(&gpu["values"], &cpu["values"], 2e-4);
}

#[test]
fn reports_and_measurements_name_the_gpu() {
    if !has_gpu("rlx explain and bench on the gpu") {
        return;
    }
    let story = json(&["explain", STORIES, "--device", "gpu", "--dim", "B=1", "--dim", "S=16", "--json"]);
    let nodes = story["nodes"].as_array().expect("a list").len() as u64;
    let fates = story["fates"].as_object().expect("counts");
    assert_eq!(fates.values().map(|count| count.as_u64().expect("a count")).sum::<u64>(), nodes);
    // There is no kernel for attention as a whole, so its definition runs, in steps of its own.
    let steps = story["steps"].as_array().expect("a list");
    let kernels = |name: &str| steps.iter().filter(|step| step["kernel"] == name).count();
    assert_eq!((kernels("attention"), kernels("pack")), (0, 0));
    assert!(kernels("matmul") > 4 * 6, "{} products", kernels("matmul"));
    let measured = json(&["bench", STORIES, "--device", "gpu", "--input", "input_ids=[[1,2]]", "--json"]);
    assert_eq!(measured["device"], "gpu", "{measured}");
}

#[test]
fn sentences_have_the_same_embedding_on_the_gpu() {
    let what = "rlx embed on the gpu";
    if !has_gpu(what) {
        return;
    }
    let Some(folder) = rlx_testkit::minilm(what) else { return };
    let folder = folder.display().to_string();
    let texts = ["A cat sits on the mat.", "The stock market fell sharply today."];
    let arguments = [&["embed", "--json", "--model", &folder], &texts[..]].concat();
    let [cpu, gpu] = both(&arguments).map(|text| {
        let lines = text.lines().map(|line| serde_json::from_str(line).expect("a line of JSON"));
        lines.collect::<Vec<Value>>()
    });
    assert_eq!((cpu.len(), gpu.len()), (2, 2));
    // The bound that holds against the reference, twice.
    cpu.iter().zip(&gpu).for_each(|(cpu, gpu)| assert_near(&gpu["embedding"], &cpu["embedding"], 4e-6));
}

#[test]
fn what_the_gpu_does_not_have_is_refused() {
    let error = fails(1, &["generate", "One day", "--device", "gpu", "--threads", "2"]);
    assert_eq!(error, "error: option threads: gpu has no thread count; it is an option of the cpu\n");
    let error = fails(1, &["generate", "One day", "--device", "gpu:7"]);
    assert!(error.starts_with("error: device gpu:7 is not available: "), "{error}");
    if !has_gpu("rlx run of f64 on the gpu") {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let model = folder.path().join("double.rlx");
    let text = "rlx 1\ngraph \"g\" {\n %0 = input {name = \"x\"} : f64[1]\n %1 = activation %0 {kind = exp, parameter = none}\n output \"y\" = %1\n}\n";
    std::fs::write(&model, text).unwrap();
    let said = rlx(&["run", &model.display().to_string(), "--input", "x=1", "--device", "gpu"]);
    assert_eq!((said.code, said.out.as_str()), (1, ""));
    assert!(said.err.contains("exp on f64: kernels do not compute f64 here"), "{}", said.err);
}
