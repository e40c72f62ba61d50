//! `rlx run`: one run of a model on named inputs.

use crate::inputs::{InputArgs, Missing};
use crate::model::{Model, WeightArgs};
use crate::options::CompileArgs;
use crate::{progress, report};
use anyhow::{Context, bail};
use rlx::weights::{npy, output};
use rlx::{Literal, Outputs, TensorRef};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::io::Write;
use std::path::{Path, PathBuf};

const EXAMPLES: &str = "\
Examples:
  rlx run model.rlx --input x=@x.npy --output-dir out
  rlx run model.rlx --weights model.safetensors --input x=random:1 --dim B=8
  rlx run model.rlx --input 'x=[[1,2],[3,4]]' --input scale=0.5 --json";

/// Elements of an output that are shown when it goes to no file.
const SHOWN: usize = 8;

/// Arguments of `rlx run`.
#[derive(clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct Args {
    /// Graph or module in text form, or a model folder
    model: PathBuf,
    #[command(flatten)]
    weights: WeightArgs,
    #[command(flatten)]
    inputs: InputArgs,
    /// Write every output to NAME.npy in this folder
    #[arg(long, value_name = "DIR")]
    output_dir: Option<PathBuf>,
    #[command(flatten)]
    compile: CompileArgs,
    /// Print the results as JSON, all values included where they go to no file
    #[arg(long)]
    json: bool,
}

/// Runs the command.
pub fn run(args: &Args, out: &mut dyn Write) -> anyhow::Result<()> {
    let model = Model::read(&args.model)?;
    let session = args.compile.session()?;
    let mut compiled = model.compile(&session)?;
    let tensors = args.inputs.resolve(compiled.lir(), Missing::Refused)?;
    model.bind(&mut compiled, args.weights.weights.as_ref())?;
    let feeds: Vec<_> =
        tensors.iter().map(|(name, literal)| (name.as_str(), TensorRef::from(literal))).collect();
    let outputs = progress::while_running("running", || compiled.run_typed(&feeds))?;
    let files = match &args.output_dir {
        Some(folder) => write_all(folder, &outputs)?,
        None => vec![None; outputs.len()],
    };
    if args.json {
        let list: Vec<Value> = outputs
            .iter()
            .zip(&files)
            .map(|((name, literal), file)| described(name, literal, file))
            .collect();
        return report::json(out, &json!({ "device": session.device().to_string(), "outputs": list }));
    }
    for ((name, literal), file) in outputs.iter().zip(&files) {
        let name = report::line(name);
        match file {
            Some(path) => writeln!(out, "{name} : {} -> {}", literal.ty(), path.display())?,
            None => writeln!(out, "{name} : {} = {}", literal.ty(), preview(literal))?,
        }
    }
    Ok(())
}

fn described(name: &str, literal: &Literal, file: &Option<PathBuf>) -> Value {
    let mut value = json!({ "name": name, "dtype": literal.dtype().to_string(), "shape": literal.dims() });
    match file {
        Some(path) => value["file"] = json!(path.display().to_string()),
        None => value["values"] = (0..literal.len()).map(|index| number(literal, index)).collect(),
    }
    value
}

/// An element as JSON; what JSON has no number for is a string.
fn number(literal: &Literal, index: usize) -> Value {
    use rlx::ir::Number;
    match literal.number(index) {
        Number::Float(value) if value.is_finite() => json!(value),
        Number::Float(value) => json!(value.to_string()),
        Number::Int(value) if literal.dtype() == rlx::DType::Bool => json!(value != 0),
        Number::Int(value) => {
            i64::try_from(value).map(Value::from).unwrap_or_else(|_| match u64::try_from(value) {
                Ok(value) => json!(value),
                Err(_) => json!(value.to_string()),
            })
        }
        Number::Complex(re, im) => json!([re, im]),
    }
}

fn preview(literal: &Literal) -> String {
    let shown: Vec<String> =
        (0..literal.len().min(SHOWN)).map(|index| number(literal, index).to_string()).collect();
    let more = if literal.len() > SHOWN { ", ..." } else { "" };
    format!("[{}{more}]", shown.join(", "))
}

/// Writes every output; the names of the files.
fn write_all(folder: &Path, outputs: &Outputs) -> anyhow::Result<Vec<Option<PathBuf>>> {
    let mut names: BTreeMap<String, &str> = BTreeMap::new();
    for (name, _) in outputs {
        if let Some(other) = names.insert(file_name(name), name) {
            bail!("outputs {other:?} and {name:?} would both be written to {}", file_name(name));
        }
    }
    std::fs::create_dir_all(folder).with_context(|| format!("cannot make {}", folder.display()))?;
    let mut files = vec![];
    for (name, literal) in outputs {
        let path = folder.join(file_name(name));
        output::write_file(&path, |file, sink| npy::write(file, sink, literal.into()))?;
        files.push(Some(path));
    }
    Ok(files)
}

/// The file of an output: characters that could name another place become `_`.
fn file_name(output: &str) -> String {
    let safe = |c: char| if c.is_alphanumeric() || "._-".contains(c) { c } else { '_' };
    let name: String = output.chars().map(safe).collect();
    format!("{}.npy", name.trim_start_matches('.'))
}
