//! The bundled stories model on the gpu device, and on the processor from a GPU's module.

mod common;

use common::{cpu, data, floats, integers, ints, json, tokens};
use rlx_gpu::GpuBackend;
use rlx_gpu::checked::Checked;
use rlx_ir::hir::HirModule;
use rlx_models::gpt2::{self, Gpt2Options, Logits};
use rlx_models::{FinishReason, GenerateOptions, Generated, Generator, Gpt2Config, UnknownFields};
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

fn cases() -> Vec<Value> {
    let golden = json(data("stories_golden.json"));
    let cases = golden["cases"].as_array().expect("a list");
    assert_eq!(cases.len(), 7);
    cases.clone()
}

/// What the accuracy that a product of matrices declares allows the logits to be off, each: a sum of `k` products
/// `x[i] * w[i]` may be off by `k * 2^-24` times the sum of their magnitudes, which is at most `|x| * |w|`; and what
/// leaves the last norm is at most `sqrt(k)` times its largest scale, and its shift. That the layers before the last
/// product are off, too, must fit in.
fn allowed() -> Vec<f64> {
    let weights = gpt2::open_weights(stories()).unwrap();
    let read = |name: &str| weights.find(name).expect("it is there").view().to_literal().unwrap().to_f64s();
    let (table, scale, shift) = (read("wte.weight"), read("ln_f.weight"), read("ln_f.bias"));
    let length = |values: &[f64]| values.iter().map(|value| value * value).sum::<f64>().sqrt();
    let width = scale.len() as f64;
    let largest = scale.iter().fold(0.0, |most: f64, value| most.max(value.abs()));
    let hidden = largest * width.sqrt() + length(&shift);
    let rows = table.chunks(scale.len());
    rows.map(|row| width * 2f64.powi(-24) * hidden * length(row)).collect()
}

/// The logits after the prompts, against those of the reference in f64.
fn check_prompts(compiled: &mut CompiledGraph, cases: &[Value]) {
    gpt2::open_weights(stories()).unwrap().bind(compiled).unwrap();
    let allowed = allowed();
    for case in cases {
        let ids = integers(&case["ids"]);
        let (dims, last) = ([1, ids.len()], [ids.len() as i64 - 1]);
        let inputs =
            [("input_ids", ints(&dims, &ids)), ("past", ints(&[1], &[0])), ("last", ints(&[1], &last))];
        let found = compiled.run_typed(&inputs).unwrap()[0].1.to_f64s();
        let expected = floats(&case["last_logits"]);
        assert_eq!((found.len(), expected.len()), (allowed.len(), allowed.len()));
        for ((found, expected), allowed) in found.iter().zip(expected).zip(&allowed) {
            let off = (found - f64::from(expected)).abs();
            assert!(off <= *allowed, "{}: off by {off}, allowed {allowed}", case["text"]);
        }
    }
}

fn options(count: usize) -> GenerateOptions {
    GenerateOptions { max_new_tokens: count, stop_tokens: Some(vec![]), ..GenerateOptions::default() }
}

fn generate(session: &Session, prompts: &[Vec<u32>], options: &GenerateOptions) -> Vec<Generated> {
    let mut generator = Generator::load(session, stories(), None).unwrap();
    let prompts: Vec<&[u32]> = prompts.iter().map(Vec::as_slice).collect();
    generator.generate_tokens(&prompts, options, &mut |_, _| ControlFlow::Continue(())).unwrap()
}

/// The likeliest tokens after all prompts at once.
fn check_tokens(session: &Session, cases: &[Value], count: usize) {
    let prompts: Vec<Vec<u32>> = cases.iter().map(|case| tokens(&case["ids"])).collect();
    for (case, generated) in cases.iter().zip(generate(session, &prompts, &options(count))) {
        assert_eq!(generated.tokens, tokens(&case["greedy"])[..count], "{}", case["text"]);
    }
}

/// A session on the gpu, or a note that `what` did not run.
fn gpu(what: &str) -> Option<Session> {
    Session::new(Device::GPU).inspect_err(|error| rlx_testkit::not_run(what, &error.to_string())).ok()
}

#[test]
fn stories_on_the_gpu_have_the_golden_logits() {
    let Some(session) = gpu("logits of stories on the gpu") else { return };
    check_prompts(&mut session.compile_hir(&module()).unwrap(), &cases());
}

#[test]
fn stories_on_the_gpu_go_on_as_expected() {
    let Some(session) = gpu("stories on the gpu") else { return };
    check_tokens(&session, &cases(), 64);
    // Alone, rows have no others beside them.
    check_tokens(&session, &cases()[3..4], 16);
}

#[test]
fn a_story_on_the_gpu_fills_its_context_as_on_the_processor() {
    let Some(session) = gpu("a full context on the gpu") else { return };
    let both = |case: &Value| [tokens(&case["ids"]), tokens(&case["greedy"])].concat();
    let all: Vec<u32> = cases().iter().flat_map(both).collect();
    let prompts = [all[..490].to_vec(), all[100..120].to_vec()];
    let made = generate(&session, &prompts, &options(40));
    assert_eq!((made[0].tokens.len(), made[0].finish), (23, FinishReason::ContextFull));
    assert_eq!((made[1].tokens.len(), made[1].finish), (40, FinishReason::MaxTokens));
    assert_eq!(made, generate(&cpu(), &prompts, &options(40)));
}

#[test]
fn draws_on_the_gpu_are_those_of_the_processor() {
    let Some(session) = gpu("draws on the gpu") else { return };
    let prompts: Vec<Vec<u32>> = cases()[..3].iter().map(|case| tokens(&case["ids"])).collect();
    let options = GenerateOptions { temperature: 0.9, top_p: 0.95, seed: 7, ..options(24) };
    let made = generate(&session, &prompts, &options);
    assert_eq!(made, generate(&cpu(), &prompts, &options));
    assert_ne!(made[0].tokens, tokens(&cases()[0]["greedy"])[..24]);
}

/// The kernels of a GPU without one, and with every access checked: slow, so few tokens, one row beside another.
#[test]
fn stories_on_the_checked_device_have_the_golden_logits() {
    let gpu = GpuBackend::new(Checked, Device::GPU, "checked");
    let session = Session::on(Arc::new(gpu), SessionOptions::default()).unwrap();
    check_prompts(&mut session.compile_hir(&module()).unwrap(), &cases()[..1]);
    check_tokens(&session, &cases()[..2], 2);
}

#[test]
fn the_processor_runs_the_module_of_a_gpu() {
    use rlx_driver::Backend;
    let gpu = GpuBackend::new(Checked, Device::GPU, "checked");
    let graph = module().lower().unwrap();
    let compiled = rlx_opt::compile(graph, &gpu.capabilities(), &CompileOptions::default()).unwrap();
    check_prompts(&mut cpu().compile_module(compiled.module).unwrap(), &cases());
}
