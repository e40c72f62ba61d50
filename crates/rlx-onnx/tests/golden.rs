//! Models that `recipes/golden_onnx.py` and `recipes/golden_contrib.py` wrote, run with the extents that they declare,
//! with all extents as symbols and with all as numbers, and compared with what the recipes expect.

use rlx_cpu::exec::CpuBackend;
use rlx_cpu::simd::SimdLevel;
use rlx_ir::Number;
use rlx_onnx::{Extents, HostValue, ImportOptions, Model, OnnxProgram, read_value};
use rlx_runtime::{Session, SessionOptions};
use std::fmt::Write as _;
use std::sync::Arc;

struct Case {
    name: String,
    model: Vec<u8>,
    inputs: Vec<Vec<u8>>,
    outputs: Vec<Vec<u8>>,
    /// Compiled graphs that a run takes, where the recipe states it.
    stages: Option<usize>,
}

fn bytes(hex: &str) -> Vec<u8> {
    let digit = |at: usize| u8::from_str_radix(&hex[at..at + 2], 16).expect("two digits of a byte");
    (0..hex.len()).step_by(2).map(digit).collect()
}

fn cases(text: &str) -> Vec<Case> {
    let mut cases: Vec<Case> = vec![];
    for line in text.lines().filter(|line| !line.starts_with('#') && !line.is_empty()) {
        let (word, rest) = line.split_once(' ').expect("a word and its value");
        if word == "case" {
            let (name, model) = (rest.to_string(), vec![]);
            cases.push(Case { name, model, inputs: vec![], outputs: vec![], stages: None });
            continue;
        }
        let case = cases.last_mut().expect("a case comes first");
        match word {
            "model" => case.model = bytes(rest),
            "input" => case.inputs.push(bytes(rest)),
            "output" => case.outputs.push(bytes(rest)),
            "stages" => case.stages = rest.parse().ok(),
            other => assert_eq!(other, "model", "an unknown line of {}", case.name),
        }
    }
    cases
}

fn session() -> Session {
    let backend = CpuBackend::with(1, SimdLevel::detect()).expect("this processor");
    Session::on(Arc::new(backend), SessionOptions::default()).expect("a session")
}

fn close(found: Number, expected: Number) -> bool {
    match (found, expected) {
        (Number::Float(a), Number::Float(b)) => {
            a == b || (a.is_nan() && b.is_nan()) || (a - b).abs() <= 1e-6 + 1e-5 * b.abs()
        }
        (a, b) => a == b,
    }
}

fn agree(found: &HostValue, expected: &HostValue) -> bool {
    match (found, expected) {
        (HostValue::Tensor(a), HostValue::Tensor(b)) => {
            a.ty() == b.ty() && (0..b.len()).all(|index| close(a.number(index), b.number(index)))
        }
        (HostValue::Sequence(a), HostValue::Sequence(b)) => {
            a.len() == b.len() && a.iter().zip(b).all(|(a, b)| agree(a, b))
        }
        (a, b) => a == b,
    }
}

/// Runs `case` with `extents`, twice: the second time what was compiled for the first serves.
fn run(case: &Case, session: &Session, extents: Option<Extents>) -> Result<usize, String> {
    let text = |error: rlx_onnx::OnnxError| error.to_string();
    let model = Model::from_bytes(case.model.clone(), &case.name).map_err(text)?;
    let (inputs, outputs) = (model.inputs().map_err(text)?, model.outputs().map_err(text)?);
    let read = |bytes: &[u8], kind| read_value(bytes, kind, &case.name).map_err(text);
    let mut feeds = vec![];
    for (input, bytes) in inputs.iter().zip(&case.inputs) {
        feeds.push((input.name.as_str(), read(bytes, &input.kind)?));
    }
    let mut program = OnnxProgram::new(model, session, ImportOptions::default());
    let mut stages = 0;
    for again in [false, true] {
        let results = match extents {
            None => program.run(&feeds),
            Some(extents) => program.run_with(&feeds, extents),
        };
        let results = results.map_err(text)?;
        stages = program.stages().max(stages);
        for ((output, bytes), (_, found)) in outputs.iter().zip(&case.outputs).zip(&results) {
            let expected = read(bytes, &output.kind)?;
            if !agree(found, &expected) {
                let name = &output.name;
                return Err(format!("WRONG, again = {again}: {name:?} is {found:?}, expected {expected:?}"));
            }
        }
    }
    Ok(stages)
}

#[test]
fn models_give_what_the_recipe_expects() {
    let session = session();
    let mut findings = String::new();
    let mut cases = cases(include_str!("data/control.txt"));
    cases.extend(self::cases(include_str!("data/contrib.txt")));
    assert!(cases.len() > 100, "found {} cases", cases.len());
    for case in cases {
        for (what, extents) in [("declared", None), ("concrete", Some(Extents::Concrete))] {
            match run(&case, &session, extents) {
                Ok(stages) if case.stages.is_none_or(|expected| stages == expected) => {}
                Ok(stages) => {
                    let _ = writeln!(findings, "{} ({what}): {stages} stages", case.name);
                }
                Err(text) => {
                    let _ = writeln!(findings, "{} ({what}): {text}", case.name);
                }
            }
        }
        if let Err(text) = run(&case, &session, Some(Extents::Symbolic))
            && text.starts_with("WRONG")
        {
            let _ = writeln!(findings, "{} (symbolic): {text}", case.name);
        }
    }
    assert!(findings.is_empty(), "{findings}");
}
