//! `rlx run`: values, files, and one error for everything that is wrong.

mod common;

use common::{fails, json, succeeds};
use rlx::weights::{TensorRef, npy, safetensors};
use rlx::{DType, Literal, WeightLoader};
use serde_json::json;
use std::fs::{self, File};

fn view(literal: &Literal) -> TensorRef<'_> {
    TensorRef { dtype: literal.dtype(), dims: literal.dims(), bytes: literal.bytes() }
}

fn weights(folder: &std::path::Path) -> String {
    let path = folder.join("w.safetensors");
    let literals = [
        (
            "layer.w",
            Literal::floats(DType::F32, &[3, 2], &[1.0, 2.0, 3.0, 4.0, 5.0, 6.0])
                .expect("one value per element"),
        ),
        ("layer.b", Literal::floats(DType::F32, &[2], &[-10.0, 0.5]).expect("one value per element")),
    ];
    let tensors: Vec<_> = literals.iter().map(|(name, literal)| (*name, view(literal))).collect();
    safetensors::write("w", &mut File::create(&path).unwrap(), &tensors, &[]).unwrap();
    path.display().to_string()
}

#[test]
fn literals_go_in_and_values_come_out() {
    let out = json(&[
        "run",
        "sum.rlx",
        "--input",
        "left=[1,2.5]",
        "--input",
        "right=1",
        "--input",
        "count=3",
        "--json",
    ]);
    assert_eq!(
        out["outputs"],
        json!([
            {"name": "total", "dtype": "f32", "shape": [2], "values": [2.0, 3.5]},
            {"name": "minus count", "dtype": "i64", "shape": [], "values": [-3]},
        ])
    );
    let text =
        succeeds(&["run", "sum.rlx", "--input", "left=[1,2.5]", "--input", "right=1", "--input", "count=3"]);
    assert_eq!(text, "total : f32[2] = [2.0, 3.5]\nminus count : i64[] = [-3]\n");
}

#[test]
fn files_go_in_and_files_come_out() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name).display().to_string();
    let x = Literal::floats(DType::F32, &[2, 3], &[1.0, 1.0, 1.0, 0.0, -1.0, 2.0])
        .expect("one value per element");
    npy::write("x", &mut File::create(path("x.npy")).unwrap(), view(&x)).unwrap();
    let input = format!("x=@{}", path("x.npy"));
    let weights = weights(folder.path());
    let out = path("out");
    let arguments = ["run", "layer.rlx", "--weights", &weights, "--input", &input, "--output-dir", &out];
    let text = succeeds(&arguments);
    assert!(text.starts_with("y : f32[2, 2] -> ") && text.trim_end().ends_with("y.npy"), "{text}");
    let y = rlx::MappedWeights::open(folder.path().join("out/y.npy")).unwrap();
    let values = y.tensor("y").unwrap().to_literal().unwrap();
    assert_eq!(
        values,
        Literal::floats(DType::F32, &[2, 2], &[0.0, 12.5, 0.0, 8.5]).expect("one value per element")
    );
}

#[test]
fn file_names_stay_in_the_folder() {
    let folder = tempfile::tempdir().unwrap();
    let model = folder.path().join("escape.rlx");
    let text = "rlx 1\ngraph \"g\" {\n %0 = input {name = \"x\"} : f32[1]\n %1 = activation %0 {kind = neg, parameter = none}\n output \"../../up\" = %1\n}\n";
    fs::write(&model, text).unwrap();
    let out = folder.path().join("a/b");
    let model = model.display().to_string();
    succeeds(&["run", &model, "--input", "x=1", "--output-dir", &out.display().to_string()]);
    let names: Vec<_> = fs::read_dir(&out).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(names, ["_.._up.npy"]);
}

#[test]
fn random_inputs_repeat_for_a_seed() {
    let run = |seed: &str| {
        let left = format!("left=random:{seed}");
        succeeds(&[
            "run", "sum.rlx", "--input", &left, "--input", "right=0", "--input", "count=0", "--dim", "N=5",
        ])
    };
    assert_eq!(run("1"), run("1"));
    assert_ne!(run("1"), run("2"));
}

#[test]
fn everything_wrong_with_the_inputs_is_one_error() {
    let error = fails(
        1,
        &["run", "sum.rlx", "--input", "lef=1", "--input", "count=0.5", "--input", "count=1", "--dim", "M=2"],
    );
    assert_eq!(
        error,
        "error: symbol M: the graph has no such symbol; it has N\n\
         input \"lef\": there is no such input; did you mean \"left\"?\n\
         input \"count\": is given twice\n\
         input \"left\": is missing; expected f32[N]\n\
         input \"right\": is missing; expected f32[N]\n\
         input \"count\": 0.5 is no i64\n"
    );
    let contradiction =
        ["run", "sum.rlx", "--input", "left=[1,2]", "--input", "right=[1]", "--input", "count=0"];
    assert_eq!(
        fails(1, &contradiction),
        "error: input \"right\": expected f32[N] with N = 2, found f32[1]\n"
    );
    let open = ["run", "sum.rlx", "--input", "left=0", "--input", "right=0", "--input", "count=0"];
    assert_eq!(fails(1, &open), "error: symbol N: has no extent; pass --dim N=N\n");
    let beyond = ["run", "layer.rlx", "--input", "x=0", "--dim", "B=65"];
    assert_eq!(fails(1, &beyond), "error: symbol B: is 65, outside [1, 64]\n");
}

#[test]
fn integers_keep_every_digit() {
    let count = "count=9007199254740993";
    let arguments = ["run", "sum.rlx", "--input", "left=[1]", "--input", "right=1", "--input", count];
    assert!(succeeds(&arguments).ends_with("minus count : i64[] = [-9007199254740993]\n"));
}

#[test]
fn what_no_memory_holds_is_refused() {
    let extent = "N=100000000000000";
    let arguments = [
        "run",
        "sum.rlx",
        "--input",
        "left=0",
        "--input",
        "right=[1]",
        "--input",
        "count=0",
        "--dim",
        extent,
    ];
    assert_eq!(
        fails(1, &arguments),
        "error: input \"right\": expected f32[N] with N = 100000000000000, found f32[1]\n\
         input \"left\": f32[100000000000000] is more than memory holds\n"
    );
    let error = fails(1, &["run", "sum.rlx", "--threads", "100000"]);
    assert_eq!(error, "error: device cpu is not available: found 100000 threads, expected 1 to 1024\n");
}

#[test]
fn a_cause_is_told_once() {
    let error = fails(1, &["run", "layer.rlx", "--input", "x=0", "--dim", "B=1", "--weights", "nowhere"]);
    assert_eq!(error.matches("os error 2").count(), 1, "{error}");
}

#[test]
fn a_model_is_text_or_a_folder() {
    let folder = tempfile::tempdir().unwrap();
    let weights = weights(folder.path());
    let error = fails(1, &["run", &weights]);
    assert!(error.contains("w.safetensors is no text; expected a graph or module in text form"), "{error}");
}

#[test]
fn missing_files_and_weights_are_told() {
    let error = fails(1, &["run", "nowhere.rlx"]);
    assert!(error.starts_with("error: cannot read nowhere.rlx: "), "{error}");
    let error = fails(1, &["run", "layer.rlx", "--input", "x=0", "--dim", "B=1"]);
    assert_eq!(
        error,
        "error: the model has weights (layer.w, layer.b); pass --weights FILE, or --weights random:SEED\n"
    );
    let error = fails(1, &["run", "sum.rlx", "--device", "cuda", "--input", "left=0"]);
    assert_eq!(error, "error: device cuda is not available: this build has no backend for it\n");
}

#[test]
fn malformed_arguments_are_usage() {
    for (arguments, part) in [
        (&["run"][..], "<MODEL>"),
        (&["run", "sum.rlx", "--input", "left"], "expected NAME=VALUE"),
        (&["run", "sum.rlx", "--input", "left=[1"], "malformed list"),
        (&["run", "sum.rlx", "--dim", "N"], "expected SYMBOL=N"),
        (&["run", "sum.rlx", "--device", "abacus"], "there is no device \"abacus\""),
        (&["run", "sum.rlx", "--threads", "0"], "expected at least one thread"),
        (&["run", "sum.rlx", "--dim", "N=1", "--dim", "N=2"], "--dim N is given twice"),
    ] {
        let error = fails(2, arguments);
        assert!(error.contains(part), "{arguments:?}: {error}");
    }
}
