//! `rlx inspect`: what a weights or graph file holds.

use crate::Usage;
use crate::model::{Model, is_onnx};
use crate::onnx;
use crate::report::{self, Table};
use anyhow::Context;
use rlx::ir::Op;
use rlx::{Graph, GraphModule, MappedWeights, WeightLoader};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::fs::File;
use std::io::{BufRead, BufReader, Read, Write};
use std::path::{Path, PathBuf};

const EXAMPLES: &str = "\
Examples:
  rlx inspect model.safetensors
  rlx inspect model-folder --depth 2 --json
  rlx inspect graph.rlx
  rlx inspect model.onnx";

/// Arguments of `rlx inspect`.
#[derive(clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct Args {
    /// A weights file or folder, a graph or module in text form, or an ONNX file
    file: PathBuf,
    /// Name parts that make a block of weights
    #[arg(long, default_value_t = 3)]
    depth: usize,
    /// Print everything as JSON
    #[arg(long)]
    json: bool,
}

/// Runs the command.
pub fn run(args: &Args, out: &mut dyn Write) -> anyhow::Result<()> {
    if args.depth == 0 {
        return Err(Usage("--depth 0: expected at least one name part".into()).into());
    }
    if is_onnx(&args.file) {
        let value = onnx::described(&args.file)?;
        return if args.json { report::json(out, &value) } else { onnx::print(&value, out) };
    }
    if is_text(&args.file)? {
        let model = Model::read(&args.file)?;
        let value = described_graph(&model)?;
        return if args.json { report::json(out, &value) } else { print_graph(&value, out) };
    }
    let weights = MappedWeights::open(&args.file)?;
    if args.json {
        return report::json(out, &described_weights(&weights, args.depth));
    }
    print_weights(&weights, args.depth, out)
}

/// Does the file begin as the text form does, after comments?
fn is_text(path: &Path) -> anyhow::Result<bool> {
    if path.is_dir() {
        return Ok(false);
    }
    let told = || format!("cannot read {}", path.display());
    let mut file = BufReader::new(File::open(path).with_context(told)?);
    loop {
        let mut line = vec![];
        file.by_ref().take(4096).read_until(b'\n', &mut line).with_context(told)?;
        let text = line.strip_prefix("\u{feff}".as_bytes()).unwrap_or(&line).trim_ascii_start();
        if line.is_empty() || !(text.is_empty() || text.starts_with(b";")) {
            return Ok(text.starts_with(b"rlx "));
        }
        if text.starts_with(b";") && !text.ends_with(b"\n") {
            file.skip_until(b'\n').with_context(told)?;
        }
    }
}

struct Block {
    tensors: u64,
    bytes: u64,
}

fn blocks(weights: &MappedWeights, depth: usize) -> BTreeMap<String, Block> {
    let mut blocks: BTreeMap<String, Block> = BTreeMap::new();
    for tensor in weights.tensors() {
        let prefix = tensor.name().split('.').take(depth).collect::<Vec<_>>().join(".");
        let block = blocks.entry(prefix).or_insert(Block { tensors: 0, bytes: 0 });
        block.tensors += 1;
        block.bytes += tensor.bytes().len() as u64;
    }
    blocks
}

fn total(weights: &MappedWeights) -> u64 {
    weights.tensors().iter().map(|tensor| tensor.bytes().len() as u64).sum()
}

fn described_weights(weights: &MappedWeights, depth: usize) -> Value {
    let tensors: Vec<Value> = weights
        .tensors()
        .iter()
        .map(|tensor| {
            json!({ "name": tensor.name(), "dtype": tensor.dtype().to_string(),
                    "shape": tensor.dims(), "bytes": tensor.bytes().len() })
        })
        .collect();
    let blocks: Vec<Value> = blocks(weights, depth)
        .into_iter()
        .map(|(prefix, block)| json!({ "prefix": prefix, "tensors": block.tensors, "bytes": block.bytes }))
        .collect();
    let files: Vec<String> = weights.files().iter().map(|file| file.display().to_string()).collect();
    json!({ "kind": "weights", "files": files, "metadata": weights.metadata(),
            "total_bytes": total(weights), "tensors": tensors, "blocks": blocks })
}

fn print_weights(weights: &MappedWeights, depth: usize, out: &mut dyn Write) -> anyhow::Result<()> {
    let mut table = Table::new(&["tensor", "dtype", "shape", ">bytes"]);
    for tensor in weights.tensors() {
        let (dtype, shape) = (tensor.dtype().to_string(), format!("{:?}", tensor.dims()));
        table.row([tensor.name().into(), dtype, shape, tensor.bytes().len().to_string()]);
    }
    table.print(out)?;
    writeln!(out)?;
    let mut table = Table::new(&["block", ">tensors", ">size"]);
    for (prefix, block) in blocks(weights, depth) {
        table.row([prefix, block.tensors.to_string(), report::bytes(block.bytes)]);
    }
    table.print(out)?;
    for (key, value) in weights.metadata() {
        writeln!(out, "metadata {}: {}", report::line(key), report::line(value))?;
    }
    let (tensors, files) = (weights.tensors().len(), weights.files().len());
    Ok(writeln!(out, "{tensors} tensors, {}, {files} file(s)", report::bytes(total(weights)))?)
}

fn described_graph(model: &Model) -> anyhow::Result<Value> {
    let graph = model.graph()?;
    let leaves = |wanted: &dyn Fn(&Op) -> bool| -> Vec<Value> {
        let nodes = graph.nodes().iter().filter(|node| wanted(&node.op));
        nodes
            .filter_map(|node| {
                Some(json!({ "name": node.op.leaf_name()?, "type": node.types[0].to_string() }))
            })
            .collect()
    };
    let kind = |name: &'static str| leaves(&move |op: &Op| op.def().name == name);
    let outputs: Vec<Value> = graph
        .outputs()
        .iter()
        .map(|output| json!({ "name": output.name, "type": graph.ty(output.value).to_string() }))
        .collect();
    let blocks: Vec<Value> = match &model.module {
        GraphModule::Hir(module) => module
            .blocks
            .iter()
            .map(|block| json!({ "path": block.path, "body": module.bodies[block.body].name }))
            .collect(),
        GraphModule::Mir(_) | GraphModule::Lir(_) => vec![],
    };
    let symbols: BTreeMap<String, Value> = graph
        .symbols()
        .iter()
        .map(|(symbol, bounds)| (symbol.to_string(), json!({ "min": bounds.min, "max": bounds.max })))
        .collect();
    Ok(json!({ "kind": model.module.stage(), "name": graph.name, "symbols": symbols,
        "inputs": kind("input"), "params": kind("param"), "states": kind("state"), "outputs": outputs,
        "ops": op_counts(&graph), "nodes": graph.nodes().len(), "blocks": blocks }))
}

fn op_counts(graph: &Graph) -> BTreeMap<&'static str, usize> {
    let mut counts = BTreeMap::new();
    for node in graph.nodes() {
        *counts.entry(node.op.def().name).or_insert(0) += 1;
    }
    counts
}

fn print_graph(value: &Value, out: &mut dyn Write) -> anyhow::Result<()> {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_string();
    writeln!(out, "{} {}, {} nodes", text(&value["kind"]), value["name"], value["nodes"])?;
    let none = vec![];
    for kind in ["inputs", "params", "states", "outputs"] {
        for entry in value[kind].as_array().unwrap_or(&none) {
            writeln!(
                out,
                "{} {} : {}",
                kind.trim_end_matches('s'),
                text(&entry["name"]),
                text(&entry["type"])
            )?;
        }
    }
    for (symbol, bounds) in value["symbols"].as_object().into_iter().flatten() {
        let max = bounds["max"].as_i64().map_or("inf".into(), |max| max.to_string());
        writeln!(out, "symbol {symbol} in [{}, {max}]", bounds["min"])?;
    }
    for block in value["blocks"].as_array().unwrap_or(&none) {
        writeln!(out, "block {} = {}", text(&block["path"]), text(&block["body"]))?;
    }
    let mut table = Table::new(&["op", ">nodes"]);
    for (op, count) in value["ops"].as_object().into_iter().flatten() {
        table.row([op.clone(), count.to_string()]);
    }
    Ok(table.print(out)?)
}
