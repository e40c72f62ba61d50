//! Adapters over frozen weights, quantised ones too, and training with rounded weights.

use rlx_ir::sample::{Generator, fill_literal};
use rlx_ir::{DType, Literal, TensorRef, TensorType};
use rlx_runtime::{Device, Session};
use rlx_train::{TrainConfig, Training};
use rlx_weights::{LoraAdapter, MappedWeights, OpenOptions, WeightLoader, npz, safetensors};
use std::fs::{self, File};
use std::path::Path;

const GRAPH: &str = r#"rlx 1
graph "regression" {
  %x = input {name = "x"} : f32[B, 16]
  %target = input {name = "target"} : f32[B, 8]
  %first = param {name = "first.weight"} : f32[16, 32]
  %second = param {name = "second.weight"} : f32[8, 32]
  %hidden = matmul %x, %first {transpose_a = false, transpose_b = false}
  %bent = activation %hidden {kind = tanh, parameter = none}
  %y = matmul %bent, %second {transpose_a = false, transpose_b = true}
  %miss = binary %y, %target {kind = sub}
  %square = binary %miss, %miss {kind = mul}
  %loss = reduce %square {kind = mean, axes = [0, 1], keep_dims = false}
  output "loss" = %loss
}
"#;

fn random(dims: &[usize], seed: u64) -> Literal {
    let fill = rlx_ir::op::Fill::Range(-0.5, 0.5);
    fill_literal(&TensorType::new(DType::F32, dims), fill, &mut Generator::new(seed))
}

fn views<'a>(named: &'a [(&'a str, Literal)]) -> Vec<(&'a str, TensorRef<'a>)> {
    named.iter().map(|(name, literal)| (*name, TensorRef::from(literal))).collect()
}

/// A run in `folder`, with `extra` at the end of its configuration.
fn config(folder: &Path, extra: &str) -> TrainConfig {
    fs::write(folder.join("loss.rlx"), GRAPH).expect("a writable folder");
    let create = |name: &str| File::create(folder.join(name)).expect("a writable folder");
    let arrays = [("x", random(&[64, 16], 1)), ("target", random(&[64, 8], 2))];
    let weights = [("first.weight", random(&[16, 32], 3)), ("second.weight", random(&[8, 32], 4))];
    npz::write("data", &mut create("data.npz"), &views(&arrays), npz::Compression::Stored)
        .expect("sound arrays");
    safetensors::write("base", &mut create("base.safetensors"), &views(&weights), &[])
        .expect("sound weights");
    let text = format!(
        "output = \"out\"\nsteps = 60\nbatch_size = 16\n[model]\nkind = \"graph\"\nfile = \"loss.rlx\"\n\
         weights = \"base.safetensors\"\n[data]\nkind = \"arrays\"\nfile = \"data.npz\"\nevaluate = 0.25\n\
         [learning_rate]\npeak = 2e-2\n{extra}"
    );
    fs::write(folder.join("run.toml"), text).expect("a writable folder");
    TrainConfig::read(folder.join("run.toml")).expect("a sound configuration")
}

fn session() -> Session {
    Session::new(Device::CPU).expect("there is a processor")
}

/// Trains to the end; gives the first and the last loss.
fn train(training: &mut Training) -> (f32, f32) {
    let mut losses = vec![];
    while !training.trainer.is_done() {
        losses.push(training.trainer.advance().expect("a sound update").loss);
    }
    (losses[0], losses[losses.len() - 1])
}

fn largest_difference(a: &Literal, b: &Literal) -> f64 {
    a.to_f64s().iter().zip(b.to_f64s()).map(|(a, b)| (a - b).abs()).fold(0.0, f64::max)
}

/// Trains adapters and gives the base, the merged weights, and the evaluation with adapters and after merging.
fn adapted(extra: &str) -> ([Literal; 2], [Literal; 2], [f32; 2]) {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let mut training = config(folder.path(), extra).trainer(&session()).expect("a sound run");
    let names: Vec<String> =
        training.trainer.weights().expect("readable states").into_iter().map(|(name, _)| name).collect();
    let expected = ["first", "second"]
        .map(|module| ["A", "B"].map(|factor| format!("{module}.lora_{factor}.weight")))
        .concat();
    assert!(expected.iter().all(|name| names.contains(name)) && names.len() == 4, "{names:?}");
    let (first, last) = train(&mut training);
    assert!(last < 0.9 * first, "{first} -> {last}");
    let before = training.trainer.evaluate(1).expect("a sound graph").expect("rows are kept");
    let out = folder.path().join("out");
    fs::create_dir_all(&out).expect("a writable folder");
    training.save(&out).expect("a writable folder");
    let adapter =
        LoraAdapter::open(out.join("adapter"), &OpenOptions::default()).expect("an adapter that can be read");
    assert_eq!(adapter.pairs().len(), 2);
    assert!(adapter.pairs().iter().all(|pair| pair.rank() == 4 && pair.scale() == 2.0));

    let read = |path: &Path| {
        let weights = MappedWeights::open(path).expect("a sound file");
        ["first.weight", "second.weight"]
            .map(|name| weights.tensor(name).expect("it is there").to_literal().expect("whole tensors"))
    };
    let (base, merged) =
        (read(&folder.path().join("base.safetensors")), read(&out.join("model.safetensors")));
    // The merged weights as the base of a run without adapters.
    let again = tempfile::tempdir().expect("a temporary folder");
    let plain = config(again.path(), "");
    fs::copy(out.join("model.safetensors"), again.path().join("base.safetensors"))
        .expect("a writable folder");
    let mut plain = plain.trainer(&session()).expect("a sound run");
    let after = plain.trainer.evaluate(1).expect("a sound graph").expect("rows are kept");
    (base, merged, [before, after])
}

#[test]
fn adapters_are_trained_and_added_to_the_weights() {
    let (base, merged, [before, after]) = adapted("[lora]\nrank = 4\nalpha = 8.0\ntargets = [\"weight\"]\n");
    assert!((before - after).abs() <= 1e-5 * before, "{before} and {after}");
    for (base, merged) in base.iter().zip(&merged) {
        assert!(largest_difference(base, merged) > 1e-2);
    }
}

#[test]
fn a_quantised_base_is_kept_in_its_format() {
    let extra = "[lora]\nrank = 4\nalpha = 8.0\ntargets = [\"weight\"]\nquantize = \"q8_0\"\n";
    let (_, _, [before, after]) = adapted(extra);
    assert!((before - after).abs() <= 1e-5 * before, "{before} and {after}");
    let folder = tempfile::tempdir().expect("a temporary folder");
    let training = config(folder.path(), extra).trainer(&session()).expect("a sound run");
    let params = &training.trainer.compiled().lir().io.params;
    assert!(params.iter().filter(|param| param.ty.dtype == DType::Q8_0).count() == 2, "{params:?}");
}

#[test]
fn rounded_weights_are_trained_through_their_rounding() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let extra = "[rounding]\nbits = 4\ntargets = [\"weight\"]\n";
    let mut rounded = config(folder.path(), extra).trainer(&session()).expect("a sound run");
    let (first, last) = train(&mut rounded);
    assert!(last < 0.7 * first, "{first} -> {last}");
    let rounded = rounded.trainer.evaluate(1).expect("a sound graph").expect("rows are kept");
    // Four bits are seen: the weights before rounding give another loss.
    let plain = config(folder.path(), "");
    let mut plain = plain.trainer(&session()).expect("a sound run");
    let plain = plain.trainer.evaluate(1).expect("a sound graph").expect("rows are kept");
    assert!(rounded.is_finite() && plain.is_finite() && rounded != plain);
}

#[test]
fn settings_that_fit_no_weight_are_refused() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let refused = |extra: &str| match config(folder.path(), extra).trainer(&session()) {
        Ok(_) => "nothing".to_string(),
        Err(error) => error.to_string(),
    };
    let lora = |rest: &str| refused(&format!("[lora]\nalpha = 8.0\n{rest}"));
    assert_eq!(lora("rank = 0\ntargets = [\"first\"]"), "lora.rank is 0; expected 1 or more");
    assert_eq!(
        lora("rank = 2\ntargets = [\"third\"]"),
        "lora.targets is [\"third\"]; expected parts of names of f32 matrices that products take as they are"
    );
    assert_eq!(
        lora("rank = 2\ntargets = [\"first\"]\nquantize = \"f16\""),
        "lora.quantize is f16; expected a dtype that is for storage only, such as q8_0 or q4_0"
    );
    assert_eq!(
        refused("[rounding]\nbits = 1\ntargets = [\"first\"]"),
        "rounding.bits is 1; expected 2 to 16"
    );
}
