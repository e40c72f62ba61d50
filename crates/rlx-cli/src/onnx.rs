//! ONNX files on the command line: what they take, what they hold, what of them is not supported.

use crate::files;
use crate::inputs::{InputArgs, InputValue, Missing, Wanted};
use crate::model::WeightSource;
use crate::progress;
use crate::report::{self, Table};
use anyhow::bail;
use rlx::Session;
use rlx::ir::SymbolBounds;
use rlx::onnx::{self, Declared, DeclaredKind, HostValue, ImportOptions, Model, OnnxProgram, Results};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::io::Write;
use std::path::Path;

/// One run of the model in `path`.
pub fn run(
    path: &Path,
    weights: Option<&WeightSource>,
    inputs: &InputArgs,
    session: &Session,
) -> anyhow::Result<Results> {
    if weights.is_some() {
        bail!("an ONNX file brings its own weights: leave out --weights");
    }
    let model = Model::open(path)?;
    let declared = model.inputs()?;
    let mut feeds: Vec<(String, HostValue)> = others(&declared, inputs)?;
    let wanted = wanted(&model, &declared)?;
    let tensors =
        inputs.without(feeds.iter().map(|(name, _)| name.as_str())).resolve(&wanted, Missing::Refused)?;
    feeds.extend(tensors.into_iter().map(|(name, literal)| (name, literal.into())));
    let feeds: Vec<(&str, HostValue)> =
        feeds.iter().map(|(name, value)| (name.as_str(), value.clone())).collect();
    let mut program = OnnxProgram::new(model, session, ImportOptions::default());
    Ok(progress::while_running("compiling and running", || program.run(&feeds))?)
}

/// The inputs that are tensors of declared rank.
fn wanted(model: &Model, declared: &[Declared]) -> anyhow::Result<Wanted> {
    let mut wanted = Wanted { inputs: vec![], symbols: BTreeMap::new() };
    for input in declared {
        if let Some(ty) = model.input_type(input) {
            for dim in ty.shape.dims() {
                dim.visit_symbols(&mut |symbol| {
                    wanted.symbols.insert(symbol.clone(), SymbolBounds::default());
                });
            }
            wanted.inputs.push((input.name.clone(), ty));
        }
    }
    Ok(wanted)
}

/// The values of inputs that are no tensors of declared rank.
fn others(declared: &[Declared], inputs: &InputArgs) -> anyhow::Result<Vec<(String, HostValue)>> {
    let mut values = vec![];
    for input in declared {
        let is_plain = matches!(&input.kind, DeclaredKind::Tensor(_, Some(_)));
        let given = inputs.inputs.iter().find(|spec| spec.name == input.name);
        let (false, Some(spec)) = (is_plain, given) else { continue };
        let value = match &spec.value {
            InputValue::File(path) => files::value(path, &input.name, &input.kind),
            InputValue::List(list) => files::of_json(list, &input.kind),
            InputValue::Random(_) | InputValue::Fill(_) => {
                bail!("input {:?} is {}: give it as a file or a list", input.name, input.kind)
            }
        };
        values.push((
            input.name.clone(),
            value.map_err(|error| error.context(format!("input {:?}", input.name)))?,
        ));
    }
    Ok(values)
}

/// Prints every op of the model in `path` that is not supported, with the nodes that use it.
pub fn list_unsupported(path: &Path, as_json: bool, out: &mut dyn Write) -> anyhow::Result<()> {
    let found = onnx::unsupported(&Model::open(path)?);
    let mut ops: BTreeMap<(String, String, i64, String), Vec<String>> = BTreeMap::new();
    for node in found {
        ops.entry((node.domain, node.op, node.opset, node.reason)).or_default().push(node.node);
    }
    if as_json {
        let list: Vec<Value> = ops
            .iter()
            .map(|((domain, op, opset, reason), nodes)| {
                json!({ "domain": domain, "op": op, "opset": opset, "reason": reason, "nodes": nodes })
            })
            .collect();
        return report::json(out, &json!({ "unsupported": list }));
    }
    if ops.is_empty() {
        return Ok(writeln!(out, "every op of the model has a rule")?);
    }
    let mut table = Table::new(&["op", "domain", ">opset", ">nodes", "reason", "first nodes"]);
    for ((domain, op, opset, reason), nodes) in &ops {
        let domain = if domain.is_empty() { "ai.onnx" } else { domain };
        let first = nodes.iter().take(3).cloned().collect::<Vec<_>>().join(", ");
        table.row([
            op.clone(),
            domain.into(),
            opset.to_string(),
            nodes.len().to_string(),
            reason.clone(),
            first,
        ]);
    }
    Ok(table.print(out)?)
}

/// What a model file holds, as JSON.
pub fn described(path: &Path) -> anyhow::Result<Value> {
    let model = Model::open(path)?;
    let summary = model.summary()?;
    let declared = |list: &[Declared]| -> Vec<Value> {
        list.iter().map(|value| json!({ "name": value.name, "type": value.kind.to_string() })).collect()
    };
    let unsupported: Vec<String> = onnx::unsupported(&model).iter().map(ToString::to_string).collect();
    Ok(
        json!({ "kind": "onnx", "name": summary.name, "producer": summary.producer, "ir_version": summary.ir_version,
        "opsets": model.opsets(), "inputs": declared(&model.inputs()?), "outputs": declared(&model.outputs()?),
        "weights": summary.weights, "weight_bytes": summary.weight_bytes, "functions": summary.functions,
        "ops": summary.ops, "nodes": summary.ops.values().sum::<usize>(), "unsupported": unsupported }),
    )
}

/// Prints what a model file holds.
pub fn print(value: &Value, out: &mut dyn Write) -> anyhow::Result<()> {
    let text = |value: &Value| report::line(value.as_str().unwrap_or_default());
    writeln!(out, "onnx {}, {} nodes, made by {}", value["name"], value["nodes"], text(&value["producer"]))?;
    for (domain, version) in value["opsets"].as_object().into_iter().flatten() {
        writeln!(out, "opset {version} of {}", if domain.is_empty() { "ai.onnx" } else { domain })?;
    }
    for (key, kind) in [("inputs", "input"), ("outputs", "output")] {
        for entry in value[key].as_array().into_iter().flatten() {
            writeln!(out, "{kind} {} : {}", text(&entry["name"]), text(&entry["type"]))?;
        }
    }
    let bytes = report::bytes(value["weight_bytes"].as_u64().unwrap_or(0));
    writeln!(out, "{} weights, {bytes}; {} functions", value["weights"], value["functions"])?;
    let mut table = Table::new(&["op", ">nodes"]);
    for (op, count) in value["ops"].as_object().into_iter().flatten() {
        table.row([op.clone(), count.to_string()]);
    }
    table.print(out)?;
    for line in value["unsupported"].as_array().into_iter().flatten() {
        writeln!(out, "not supported: {}", text(line))?;
    }
    Ok(())
}
