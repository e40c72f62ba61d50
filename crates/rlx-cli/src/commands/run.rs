//! `rlx run`: one run of a model on named inputs.

use crate::files::{self, OutputFormat};
use crate::inputs::{InputArgs, Missing, Wanted};
use crate::model::{Model, WeightArgs, is_onnx};
use crate::options::CompileArgs;
use crate::{onnx, progress, report};
use rlx::TensorRef;
use rlx::onnx::HostValue;
use serde_json::{Value, json};
use std::io::Write;
use std::path::PathBuf;

const EXAMPLES: &str = "\
Examples:
  rlx run model.rlx --input x=@x.npy --output-dir out
  rlx run model.rlx --weights model.safetensors --input x=random:1 --dim B=8
  rlx run model.rlx --input 'x=[[1,2],[3,4]]' --input scale=0.5 --json
  rlx run model.onnx --input pixels=@image.npy --dim batch=8
  rlx run model.onnx --input ids=@ids.pb --output-dir out --output-format pb
  rlx run model.onnx --list-unsupported";

/// Elements of an output that are shown when it goes to no file.
const SHOWN: usize = 8;

/// Arguments of `rlx run`.
#[derive(clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct Args {
    /// Graph or module in text form, an ONNX file, or a model folder
    model: PathBuf,
    #[command(flatten)]
    weights: WeightArgs,
    #[command(flatten)]
    inputs: InputArgs,
    /// Write every output to a file of its name in this folder
    #[arg(long, value_name = "DIR")]
    output_dir: Option<PathBuf>,
    /// Format of the files in --output-dir
    #[arg(long, value_enum, default_value = "npy", requires = "output_dir")]
    output_format: OutputFormat,
    /// Instead of running an ONNX file, name every op in it that is not supported
    #[arg(long, conflicts_with_all = ["output_dir", "inputs", "weights"])]
    list_unsupported: bool,
    #[command(flatten)]
    compile: CompileArgs,
    /// Print the results as JSON, all values included where they go to no file
    #[arg(long)]
    json: bool,
}

/// Runs the command.
pub fn run(args: &Args, out: &mut dyn Write) -> anyhow::Result<()> {
    if args.list_unsupported {
        return onnx::list_unsupported(&args.model, args.json, out);
    }
    let session = args.compile.session()?;
    let outputs: Vec<(String, HostValue)> = if is_onnx(&args.model) {
        onnx::run(&args.model, args.weights.weights.as_ref(), &args.inputs, &session)?
    } else {
        let model = Model::read(&args.model)?;
        let mut compiled = model.compile(&session)?;
        let tensors = args.inputs.resolve(&Wanted::from(&**compiled.lir()), Missing::Refused)?;
        model.bind(&mut compiled, args.weights.weights.as_ref())?;
        let feeds: Vec<_> =
            tensors.iter().map(|(name, literal)| (name.as_str(), TensorRef::from(literal))).collect();
        let outputs = progress::while_running("running", || compiled.run_typed(&feeds))?;
        outputs.into_iter().map(|(name, literal)| (name, literal.into())).collect()
    };
    let files = match &args.output_dir {
        Some(folder) => files::write_all(folder, args.output_format, &outputs)?,
        None => vec![None; outputs.len()],
    };
    if args.json {
        let list: Vec<Value> =
            outputs.iter().zip(&files).map(|((name, value), file)| described(name, value, file)).collect();
        return report::json(out, &json!({ "device": session.device().to_string(), "outputs": list }));
    }
    for ((name, value), file) in outputs.iter().zip(&files) {
        let name = report::line(name);
        match file {
            Some(path) => writeln!(out, "{name} : {value} -> {}", path.display())?,
            None => writeln!(out, "{name} : {value} = {}", preview(value))?,
        }
    }
    Ok(())
}

fn described(name: &str, value: &HostValue, file: &Option<PathBuf>) -> Value {
    let mut json = files::described(name, value);
    if let (Some(path), Some(fields)) = (file, json.as_object_mut()) {
        for values in ["values", "sequence", "optional"] {
            fields.remove(values);
        }
        fields.insert("file".into(), json!(path.display().to_string()));
    }
    json
}

fn preview(value: &HostValue) -> String {
    let list = |count: usize, item: &dyn Fn(usize) -> String| {
        let shown: Vec<String> = (0..count.min(SHOWN)).map(item).collect();
        format!("[{}{}]", shown.join(", "), if count > SHOWN { ", ..." } else { "" })
    };
    match value {
        HostValue::Tensor(literal) => list(literal.len(), &|index| files::number(literal, index).to_string()),
        HostValue::Strings(strings) => {
            list(strings.values().len(), &|index| format!("{:?}", strings.values()[index]))
        }
        HostValue::Sequence(items) => list(items.len(), &|index| preview(&items[index])),
        HostValue::Optional(None) => "none".into(),
        HostValue::Optional(Some(value)) => preview(value),
    }
}
