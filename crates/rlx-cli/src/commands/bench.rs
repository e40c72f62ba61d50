//! `rlx bench`: compile and run times, as medians over many runs.

use crate::inputs::{InputArgs, Missing, Wanted};
use crate::model::{Model, WeightArgs};
use crate::options::CompileArgs;
use crate::{Usage, progress, report};
use anyhow::Context;
use rlx::{Graph, Session, TensorRef};
use serde_json::{Value, json};
use std::fs::OpenOptions;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::{Instant, SystemTime, UNIX_EPOCH};

const EXAMPLES: &str = "\
Examples:
  rlx bench model.rlx --dim B=8 --runs 100 --threads 2
  rlx bench model.rlx --weights model.safetensors --input x=@x.npy --history times.jsonl
  rlx bench run-slots

Inputs and weights that are not given are random.";

/// The MODEL that stands for the built-in measurement of call overhead.
const RUN_SLOTS: &str = "run-slots";

/// Arguments of `rlx bench`.
#[derive(clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct Args {
    /// Graph or module in text form, a model folder, or run-slots: the overhead of one call
    model: PathBuf,
    #[command(flatten)]
    weights: WeightArgs,
    #[command(flatten)]
    inputs: InputArgs,
    #[command(flatten)]
    compile: CompileArgs,
    /// Runs that are measured
    #[arg(long, default_value_t = 20)]
    runs: usize,
    /// Runs before those
    #[arg(long, default_value_t = 3)]
    warmup: usize,
    /// Then take the time of every step, over as many runs
    #[arg(long)]
    profile: bool,
    /// Append the result to this file, one line of JSON per measurement
    #[arg(long, value_name = "FILE")]
    history: Option<PathBuf>,
    /// Print the result as JSON
    #[arg(long)]
    json: bool,
}

/// Runs the command.
pub fn run(args: &Args, out: &mut dyn Write) -> anyhow::Result<()> {
    if args.runs == 0 {
        return Err(Usage("--runs 0: expected at least one run".into()).into());
    }
    let session = args.compile.session()?;
    let mut result = if args.model == Path::new(RUN_SLOTS) {
        run_slots(args, &session)?
    } else {
        bench_model(args, &session)?
    };
    result["device"] = json!(session.device().to_string());
    result["device_name"] = json!(session.info().name);
    result["version"] = json!(env!("CARGO_PKG_VERSION"));
    if let Some(path) = &args.history {
        append(path, &result)?;
    }
    if args.json {
        return report::json(out, &result);
    }
    for (name, value) in result.as_object().into_iter().flatten().filter(|(_, value)| !value.is_array()) {
        let text = match value {
            Value::Number(number) if name.ends_with("seconds") => {
                report::seconds(number.as_f64().unwrap_or_default())
            }
            Value::Number(number) if name.ends_with("bytes") => {
                report::bytes(number.as_u64().unwrap_or_default())
            }
            Value::String(text) => text.clone(),
            other => other.to_string(),
        };
        writeln!(
            out,
            "{}: {text}",
            name.trim_end_matches("_seconds").trim_end_matches("_bytes").replace('_', " ")
        )?;
    }
    for step in result["steps"].as_array().into_iter().flatten() {
        let [seconds, share] = ["seconds", "share"].map(|name| step[name].as_f64().unwrap_or_default());
        let name = step["step"].as_str().unwrap_or_default();
        writeln!(out, "{:>10} {:>5.1} %  {name}", report::seconds(seconds), 100.0 * share)?;
    }
    Ok(())
}

fn bench_model(args: &Args, session: &Session) -> anyhow::Result<Value> {
    let model = Model::read(&args.model)?;
    let start = Instant::now();
    let mut compiled = model.compile(session)?;
    let compile = start.elapsed().as_secs_f64();
    let tensors = args.inputs.resolve(&Wanted::from(&**compiled.lir()), Missing::Random)?;
    let start = Instant::now();
    model.bind_any(&mut compiled, args.weights.weights.as_ref())?;
    let bind = start.elapsed().as_secs_f64();
    let feeds: Vec<_> =
        tensors.iter().map(|(name, literal)| (name.as_str(), TensorRef::from(literal))).collect();
    let start = Instant::now();
    compiled.run_raw(&feeds)?;
    let first = start.elapsed().as_secs_f64();
    let times = measure(args, || Ok(compiled.run_raw(&feeds).map(drop)?))?;
    let bindings: rlx::Bindings = bindings(&compiled, &feeds)?;
    let memory = compiled.memory_estimate(&bindings)?;
    let mut result = summary(times);
    result["model"] = json!(compiled.lir().name);
    result["compile_seconds"] = json!(compile);
    result["bind_seconds"] = json!(bind);
    result["first_run_seconds"] = json!(first);
    result["kernels"] = json!(compiled.lir().kernel_count());
    result["memory_bytes"] = json!(memory.total());
    if args.profile {
        result["steps"] = profile(&mut compiled, &feeds, args.runs)?;
    }
    Ok(result)
}

/// Seconds of each step per run, in step order, and its share of all.
fn profile(
    compiled: &mut rlx::CompiledGraph,
    feeds: &[(&str, TensorRef<'_>)],
    runs: usize,
) -> anyhow::Result<Value> {
    let unable = "--profile: this device takes no times of steps; leave it out or choose --device cpu";
    compiled.timing().ok_or_else(|| Usage(unable.into()))?.set_timing(true);
    for _ in 0..runs {
        compiled.run_raw(feeds)?;
    }
    let times = compiled.timing().map(|timing| timing.step_times()).unwrap_or_default();
    let seconds = |time: &rlx::driver::StepTime| time.total.as_secs_f64() / time.runs.max(1) as f64;
    let all: f64 = times.iter().map(seconds).sum();
    let line = |time: &rlx::driver::StepTime| json!({ "step": time.step, "seconds": seconds(time), "share": seconds(time) / all });
    Ok(times.iter().map(line).collect())
}

fn bindings(compiled: &rlx::CompiledGraph, feeds: &[(&str, TensorRef<'_>)]) -> anyhow::Result<rlx::Bindings> {
    let mut bindings = rlx::Bindings::new();
    rlx::driver::match_inputs(compiled.lir(), feeds, &|_| false, &mut bindings)?;
    Ok(bindings)
}

/// Seconds of each measured call of `run`, after those that warm up.
fn measure(args: &Args, mut run: impl FnMut() -> anyhow::Result<()>) -> anyhow::Result<Vec<f64>> {
    let bar = progress::bar("running", (args.warmup as u64).saturating_add(args.runs as u64));
    for _ in 0..args.warmup {
        run()?;
        bar.inc(1);
    }
    let mut times = vec![];
    for _ in 0..args.runs {
        let start = Instant::now();
        run()?;
        times.push(start.elapsed().as_secs_f64());
        bar.inc(1);
    }
    bar.finish_and_clear();
    Ok(times)
}

/// Median, least and ninth decile.
fn summary(mut times: Vec<f64>) -> Value {
    times.sort_by(f64::total_cmp);
    let at = |part: f64| times[((times.len() - 1) as f64 * part).round() as usize];
    let middle = times.len() / 2;
    let median = if times.len() % 2 == 1 { times[middle] } else { (times[middle - 1] + times[middle]) / 2.0 };
    json!({ "runs": times.len(), "median_seconds": median, "least_seconds": times[0], "p90_seconds": at(0.9) })
}

/// The overhead of one positional call: `y = exp(-x)` on 16 elements.
fn run_slots(args: &Args, session: &Session) -> anyhow::Result<Value> {
    const CALLS: u32 = 10_000;
    if args.weights.weights.is_some() || !args.inputs.is_empty() {
        let message = "run-slots brings its own graph; expected no --weights, --input or --dim";
        return Err(Usage(message.into()).into());
    }
    let mut graph = Graph::new("two nodes");
    let x = graph.input_f32("x", [16]);
    let negative = graph.neg(x);
    let y = graph.exp(negative);
    graph.output("y", y);
    let mut compiled = session.compile(graph.finish()?)?;
    compiled.run(&[("x", &[16], &[0.5; 16])])?;
    let bytes = [0u8; 64];
    let times =
        measure(args, || (0..CALLS).try_for_each(|_| Ok(compiled.run_slots(&[&bytes]).map(drop)?)))?;
    let mut result = summary(times.into_iter().map(|time| time / f64::from(CALLS)).collect());
    result["model"] = json!(RUN_SLOTS);
    result["calls_per_run"] = json!(CALLS);
    Ok(result)
}

fn append(path: &Path, result: &Value) -> anyhow::Result<()> {
    let mut line = result.clone();
    let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |elapsed| elapsed.as_secs());
    line["unix_time"] = json!(now);
    let mut file = OpenOptions::new().create(true).append(true).open(path);
    let written = file.as_mut().map_err(|error| std::io::Error::new(error.kind(), error.to_string()));
    let written = written.and_then(|file| writeln!(file, "{line}"));
    written.with_context(|| format!("cannot append to {}", path.display()))
}
