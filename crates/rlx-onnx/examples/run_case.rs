//! Runs one folder as `recipes/onnx_models.py` and `recipes/onnx_conformance.py` write them, and compares.
//!
//!     cargo run --release -p rlx-onnx --example run_case -- target/onnx-conformance/node/test_softmax_axis_0
//!
//! For every data set: the largest difference, as a part of what the case allows (1 is the limit), the graphs that one
//! run took, the compiled forms that the program keeps for further runs, and the time of the first run (import and
//! compilation included) and of the second.

use anyhow::{Context, Result, bail};
use rlx_cpu::exec::CpuBackend;
use rlx_cpu::simd::SimdLevel;
use rlx_onnx::{HostValue, ImportOptions, Model, OnnxProgram, read_value};
use rlx_runtime::{Session, SessionOptions};
use std::fs;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Instant;

/// The largest difference of two values, as a part of the tolerance.
fn difference(found: &HostValue, expected: &HostValue, relative: f64, absolute: f64) -> Result<f64> {
    let (HostValue::Tensor(found), HostValue::Tensor(expected)) = (found, expected) else {
        bail!("only tensors are compared")
    };
    if found.ty() != expected.ty() {
        bail!("a result is {}, expected {}", found.ty(), expected.ty());
    }
    let pairs = found.to_f64s().into_iter().zip(expected.to_f64s());
    let part = |(a, b): (f64, f64)| match a == b || (a.is_nan() && b.is_nan()) {
        true => 0.0,
        false if a.is_finite() && b.is_finite() => (a - b).abs() / (absolute + relative * b.abs()),
        false => f64::INFINITY,
    };
    Ok(pairs.map(part).fold(0.0, f64::max))
}

/// Most memory that this process ever held, in MiB; where the system tells.
fn peak() -> Option<u64> {
    let status = fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find(|line| line.starts_with("VmHWM:"))?;
    line.split_whitespace().nth(1)?.parse::<u64>().ok().map(|kib| kib / 1024)
}

fn main() -> Result<()> {
    let folder = PathBuf::from(std::env::args().nth(1).context("give the folder of a case")?);
    if !folder.is_dir() {
        let why = "its folder is not there; `cargo xtask test --only setup` writes the cases";
        rlx_testkit::not_run(&format!("the case {}", folder.display()), why);
        return Ok(());
    }
    let case: serde_json::Value = serde_json::from_str(&fs::read_to_string(folder.join("case.json"))?)?;
    let tolerance = |key: &str| case[key].as_f64().with_context(|| format!("case.json has no {key}"));
    let (relative, absolute) = (tolerance("rtol")?, tolerance("atol")?);
    let start = Instant::now();
    let model = Model::open(folder.join("model.onnx"))?;
    println!("read in {:.0?}, peak {:?} MiB", start.elapsed(), peak());
    let (inputs, outputs) = (model.inputs()?, model.outputs()?);
    let session =
        Session::on(Arc::new(CpuBackend::with(1, SimdLevel::detect())?), SessionOptions::default())?;
    let mut program = OnnxProgram::new(model, &session, ImportOptions::default());
    let mut worst = 0.0f64;
    for set in 0.. {
        let data = folder.join(format!("data_{set}"));
        if !data.is_dir() {
            break;
        }
        let read = |part: &str, index: usize, kind| -> Result<HostValue> {
            let path = data.join(format!("{part}_{index}.pb"));
            Ok(read_value(&fs::read(&path)?, kind, &path.display().to_string())?)
        };
        let mut feeds = vec![];
        for (index, input) in inputs.iter().enumerate() {
            feeds.push((input.name.as_str(), read("input", index, &input.kind)?));
        }
        let start = Instant::now();
        program.run(&feeds)?;
        let (first, stages) = (start.elapsed(), program.stages());
        let start = Instant::now();
        let results = program.run(&feeds)?;
        let second = start.elapsed();
        for (index, output) in outputs.iter().enumerate() {
            let expected = read("output", index, &output.kind)?;
            let part = difference(&results[index].1, &expected, relative, absolute)?;
            println!("data {set} {}: {part:.3} of the tolerance", output.name);
            worst = worst.max(part);
        }
        println!(
            "data {set}: {stages} graphs, {} forms, first run {first:.1?}, second {second:.1?}, peak {:?} MiB",
            program.forms(),
            peak()
        );
    }
    if worst > 1.0 {
        bail!("a result differs by {worst} times the tolerance");
    }
    Ok(())
}
