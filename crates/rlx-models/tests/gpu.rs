//! The bundled stories model on the gpu device, and on the processor from a GPU's module.

mod common;

use common::{cpu, data, floats, integers, ints, json, largest_difference, tokens};
use rlx_gpu::GpuBackend;
use rlx_gpu::checked::Checked;
use rlx_ir::hir::HirModule;
use rlx_models::gpt2::{self, Gpt2Options, Logits};
use rlx_models::{GenerateOptions, Generator, Gpt2Config, UnknownFields};
use rlx_opt::CompileOptions;
use rlx_runtime::{CompiledGraph, Device, Session, SessionOptions};
use serde_json::Value;
use std::ops::ControlFlow;
use std::path::PathBuf;
use std::sync::Arc;

fn stories() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../models/stories")
}

fn module() -> HirModule {
    let config = Gpt2Config::read(stories(), UnknownFields::Refuse).unwrap();
    let options = Gpt2Options { cache: Some(512), logits: Logits::Last };
    gpt2::module(&config, &gpt2::open_weights(stories()).unwrap(), options).unwrap()
}

/// The golden cases, as many as `count`.
fn cases(count: usize) -> Vec<Value> {
    let golden = json(data("stories_golden.json"));
    let cases = golden["cases"].as_array().expect("a list");
    assert!(cases.len() >= count);
    cases[..count].to_vec()
}

/// The logits after the prompt, against those of the reference; they reach 18.
fn check_prompt(compiled: &mut CompiledGraph, case: &Value) {
    gpt2::open_weights(stories()).unwrap().bind(compiled).unwrap();
    let ids = integers(&case["ids"]);
    let (dims, last) = ([1, ids.len()], [ids.len() as i64 - 1]);
    let inputs = [("input_ids", ints(&dims, &ids)), ("past", ints(&[1], &[0])), ("last", ints(&[1], &last))];
    let outputs = compiled.run_typed(&inputs).unwrap();
    let found: Vec<f32> = outputs[0].1.to_f64s().into_iter().map(|value| value as f32).collect();
    let difference = largest_difference(&found, &floats(&case["last_logits"]));
    assert!(difference <= 2e-4, "off by {difference}");
}

/// Greedy tokens of the prompts, one at a time and all together.
fn check_tokens(session: &Session, cases: &[Value], count: usize) {
    let mut generator = Generator::load(session, stories(), None).unwrap();
    let options =
        GenerateOptions { max_new_tokens: count, stop_tokens: Some(vec![]), ..GenerateOptions::default() };
    let prompts: Vec<Vec<u32>> = cases.iter().map(|case| tokens(&case["ids"])).collect();
    let all: Vec<&[u32]> = prompts.iter().map(Vec::as_slice).collect();
    for range in [0..1, 0..all.len()] {
        let made = generator.generate_tokens(&all[range], &options, &mut |_, _| ControlFlow::Continue(()));
        for (case, generated) in cases.iter().zip(made.unwrap()) {
            assert_eq!(generated.tokens, tokens(&case["greedy"])[..count], "{}", case["text"]);
        }
    }
}

#[test]
fn stories_on_the_gpu_have_the_golden_logits_and_go_on_as_expected() {
    let session = match Session::new(Device::GPU) {
        Ok(session) => session,
        Err(error) => return rlx_testkit::not_run("stories on the gpu", &error.to_string()),
    };
    let cases = cases(2);
    check_prompt(&mut session.compile_hir(&module()).unwrap(), &cases[0]);
    check_tokens(&session, &cases, 8);
}

/// The kernels of a GPU without one: slow, so a short prompt, and one row beside another.
#[test]
fn stories_on_the_checked_device_have_the_golden_logits() {
    let gpu = GpuBackend::new(Checked, Device::GPU, "checked");
    let session = Session::on(Arc::new(gpu), SessionOptions::default());
    let cases = cases(2);
    check_prompt(&mut session.compile_hir(&module()).unwrap(), &cases[0]);
    check_tokens(&session, &cases, 2);
}

#[test]
fn the_processor_runs_the_module_of_a_gpu() {
    use rlx_driver::Backend;
    let gpu = GpuBackend::new(Checked, Device::GPU, "checked");
    let graph = module().lower().unwrap();
    let compiled = rlx_opt::compile(graph, &gpu.capabilities(), &CompileOptions::default()).unwrap();
    check_prompt(&mut cpu().compile_module(compiled.module).unwrap(), &cases(1)[0]);
}
