//! `rlx train`: a run as a configuration file says, with its losses as lines of JSON and as a picture.

use crate::options::CompileArgs;
use crate::picture::losses;
use crate::{progress, report};
use anyhow::Context;
use rlx::train::{ModelConfig, Progress, TrainConfig, Training};
use serde_json::{Value, json};
use std::fs::{self, OpenOptions};
use std::io::Write;
use std::path::{Path, PathBuf};

const EXAMPLES: &str = "\
Examples:
  rlx train recipes/stories.toml
  rlx train run.toml --steps 100 --json
  rlx train run.toml --print-graph > step.rlx && rlx bench step.rlx --dim B=8 --dim S=128 --profile

The file has the tables [model], [data] and [learning_rate] and, where wanted, [optimizer], [loss_scaling], [lora]
(adapters are trained in place of the weights: rank, alpha, targets, quantize) and [rounding] (weights are rounded while
they are trained: bits, targets).

A run that was stopped goes on from the newest checkpoint of its output folder, with the same losses as if it had not
been. That folder gets `losses.jsonl`, `losses.svg` and, at the end, the model; after a run with [lora] also the folder
`adapter`, in the PEFT format.";

/// Updates between two lines of the report.
const REPORTED: u64 = 10;

/// Arguments of `rlx train`.
#[derive(clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct Args {
    /// Configuration file, TOML
    config: PathBuf,
    /// Updates to make, in place of those of the file
    #[arg(long)]
    steps: Option<u64>,
    /// Folder of results, in place of that of the file
    #[arg(long, value_name = "DIR")]
    output: Option<PathBuf>,
    #[command(flatten)]
    compile: CompileArgs,
    /// Print the graph of an update in text form, for `explain` and `bench`, and train nothing
    #[arg(long)]
    print_graph: bool,
    /// Print every update and evaluation as a line of JSON
    #[arg(long)]
    json: bool,
}

/// Runs the command.
pub fn run(args: &Args, out: &mut dyn Write) -> anyhow::Result<()> {
    let mut config = TrainConfig::read(&args.config)?;
    config.steps = args.steps.unwrap_or(config.steps);
    if let Some(folder) = &args.output {
        config.output.clone_from(folder);
    }
    let session = args.compile.session()?;
    let training = progress::while_running("building the step", || config.trainer(&session))?;
    if args.print_graph {
        return Ok(write!(out, "{}", rlx::ir::text::print_graph(&training.trainer.graph()?))?);
    }
    fs::create_dir_all(&config.output).with_context(|| config.output.display().to_string())?;
    let lines = kept_lines(&config.output, training.trainer.step())?;
    let mut run = Run { config: &config, training, lines, out, json: args.json };
    run.report_start()?;
    let bar = progress::bar("training", config.steps);
    bar.set_position(run.training.trainer.step());
    while !run.training.trainer.is_done() {
        let progress = run.training.trainer.advance()?;
        run.report(&progress)?;
        bar.set_position(progress.step);
        bar.set_message(format!("loss {:.4}", progress.loss));
        let is_time = |every: Option<u64>| every.is_some_and(|every| progress.step.is_multiple_of(every));
        if is_time(config.evaluate_every) && !run.evaluate()? {
            break;
        }
        if is_time(config.checkpoint_every) {
            run.checkpoint()?;
        }
    }
    bar.finish_and_clear();
    run.finish()
}

/// The lines of an earlier part of the run, up to the update that it goes on from.
fn kept_lines(folder: &Path, step: u64) -> anyhow::Result<Vec<Value>> {
    let path = folder.join("losses.jsonl");
    let mut kept = vec![];
    if step > 0 && path.exists() {
        let text = fs::read_to_string(&path).with_context(|| path.display().to_string())?;
        let lines = text.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
        kept.extend(lines.filter(|line| line["step"].as_u64().is_some_and(|at| at <= step)));
    }
    let text: String = kept.iter().map(|line| format!("{line}\n")).collect();
    fs::write(&path, text).with_context(|| path.display().to_string())?;
    Ok(kept)
}

struct Run<'a> {
    config: &'a TrainConfig,
    training: Training,
    lines: Vec<Value>,
    out: &'a mut dyn Write,
    json: bool,
}

impl Run<'_> {
    fn report_start(&mut self) -> anyhow::Result<()> {
        if self.json {
            return Ok(());
        }
        let (from, to) = (self.training.trainer.step(), self.config.steps);
        let folder = self.config.output.display();
        let again = if from > 0 { format!(", going on from update {from}") } else { String::new() };
        Ok(writeln!(self.out, "{to} updates to {folder}{again}")?)
    }

    /// Appends a line to the file of losses, and prints it as JSON where asked.
    fn note(&mut self, line: Value) -> anyhow::Result<()> {
        let path = self.config.output.join("losses.jsonl");
        let mut file = OpenOptions::new().append(true).create(true).open(&path);
        let written = file.as_mut().map_err(|error| std::io::Error::new(error.kind(), error.to_string()));
        written.and_then(|file| writeln!(file, "{line}")).with_context(|| path.display().to_string())?;
        if self.json {
            writeln!(self.out, "{line}")?;
        }
        self.lines.push(line);
        Ok(())
    }

    fn report(&mut self, progress: &Progress) -> anyhow::Result<()> {
        let seconds = progress.time.as_secs_f64();
        let per_second = progress.items as f64 / seconds.max(1e-9);
        let name = self.training.trainer.data().item_name();
        if !self.json && (progress.step == 1 || progress.step.is_multiple_of(REPORTED)) {
            writeln!(
                self.out,
                "update {:>6}  loss {:>8.4}  gradient {:>8.3}  rate {:.2e}  {} an update, {:.0} {name}/s{}",
                progress.step,
                progress.loss,
                progress.gradient_norm,
                progress.learning_rate,
                report::seconds(seconds),
                per_second,
                if progress.skipped { "  left out: a gradient was not finite" } else { "" },
            )?;
        }
        self.note(json!({
            "step": progress.step,
            "loss": progress.loss,
            "gradient_norm": progress.gradient_norm,
            "learning_rate": progress.learning_rate,
            "skipped": progress.skipped,
            "seconds": seconds,
            "items": progress.items,
        }))
    }

    /// Whether the run goes on.
    fn evaluate(&mut self) -> anyhow::Result<bool> {
        let Some(loss) = self.training.trainer.evaluate(self.config.evaluate_batches)? else {
            return Ok(true);
        };
        let step = self.training.trainer.step();
        if !self.json {
            writeln!(self.out, "update {step:>6}  evaluation {loss:.4}")?;
        }
        self.note(json!({ "step": step, "evaluation": loss }))?;
        let waited = self.training.trainer.evaluations_since_best();
        let goes_on = self.config.patience.is_none_or(|patience| waited < patience);
        if !goes_on && !self.json {
            writeln!(self.out, "stopped: no better evaluation in the last {waited}")?;
        }
        Ok(goes_on)
    }

    fn checkpoint(&mut self) -> anyhow::Result<()> {
        self.training.trainer.save()?;
        self.draw()
    }

    fn draw(&self) -> anyhow::Result<()> {
        let points = |key: &str| -> Vec<(f64, f64)> {
            let point = |line: &Value| Some((line["step"].as_f64()?, line[key].as_f64()?));
            self.lines.iter().filter_map(point).collect()
        };
        let path = self.config.output.join("losses.svg");
        fs::write(&path, losses::draw(&points("loss"), &points("evaluation")))
            .with_context(|| path.display().to_string())
    }

    /// The last checkpoint, the picture, and the model where programs look for one.
    fn finish(&mut self) -> anyhow::Result<()> {
        self.checkpoint()?;
        let written = self.training.save(&self.config.output)?;
        if let ModelConfig::Gpt2 { folder, .. } = &self.config.model {
            for name in ["config.json", "generation_config.json", "tokenizer.json", "tokenizer_config.json"] {
                let (from, to) = (folder.join(name), self.config.output.join(name));
                if from.exists() {
                    fs::copy(&from, &to)
                        .with_context(|| format!("{} -> {}", from.display(), to.display()))?;
                }
            }
        }
        for path in written.iter().filter(|_| !self.json) {
            writeln!(self.out, "wrote {}", path.display())?;
        }
        Ok(())
    }
}
