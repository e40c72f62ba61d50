//! `Gradient`: the part of the graph between two sets of values, differentiated at other values.

use super::Rule;
use crate::context::Context;
use crate::node::{Node, Outcome, Stop};
use crate::value::{Content, Imported, Tensor};
use rlx_ir::{DType, Graph, Op, Value};
use std::collections::{BTreeMap, BTreeSet};

pub(super) const RULES: &[Rule] =
    &[Rule { domain: "ai.onnx.preview.training", op: "Gradient", versions: &[1], import: gradient }];

fn gradient<'m>(cx: &mut Context<'m>, node: &Node<'m>) -> Outcome<'m> {
    let missing = |name: &str| Stop::Invalid(format!("it has no {name}"));
    let xs = node.strings("xs")?.ok_or_else(|| missing("xs"))?;
    let zs = node.strings("zs")?.unwrap_or_default();
    let y = node.string("y")?.ok_or_else(|| missing("y"))?;
    let names: Vec<&String> = xs.iter().chain(&zs).collect();
    if names.len() != node.inputs.len() {
        return Err(Stop::Invalid(format!(
            "{} operands stand for {} values",
            node.inputs.len(),
            names.len()
        )));
    }
    let mut sources = vec![];
    for name in names {
        sources.push(variable(cx, name)?);
    }
    let y = variable(cx, &y)?;
    let (part, fixed) = between(cx, &sources, y)?;
    let given: Vec<String> = (0..xs.len()).map(|index| format!("x{index}")).collect();
    let given: Vec<&str> = given.iter().map(String::as_str).collect();
    let derived =
        rlx_autodiff::vjp(&part, &["y"], &given).map_err(|error| Stop::Refused(error.to_string()))?;
    let mut inputs: BTreeMap<String, Value> = fixed.into_iter().collect();
    for index in 0..node.inputs.len() {
        inputs.insert(format!("x{index}"), node.value(cx, index)?);
    }
    let ty = cx.ty(y)?;
    inputs.insert("cotangent:y".into(), cx.graph().full(ty.dtype, ty.shape, 1.0));
    let results = cx.graph().inline(&derived, &inputs, &str::to_owned);
    let results = results.map_err(|error| Stop::Refused(error.to_string()))?;
    results.into_iter().skip(1).map(|value| cx.tensor(value)).collect()
}

/// The value called `name`, of which the graph knows what depends on it.
fn variable<'m>(cx: &mut Context<'m>, name: &str) -> Result<Value, Stop<'m>> {
    let value = cx.lookup(name).cloned();
    let tensor = match value {
        Some(Imported::Tensor(tensor)) => tensor,
        Some(other) => return Err(Stop::Invalid(format!("{name:?} is {}", other.describe()))),
        None => return Err(Stop::Refused(format!("{name:?} is not known here any more"))),
    };
    let is_traced = match (&tensor.node, &tensor.content) {
        (Some(node), _) => node.level == cx.level(),
        (None, Content::Fed(feed)) => !cx.looked_at.contains(&feed.name) && cx.level() == 0,
        (None, Content::Weight(_)) => cx.level() == 0,
        (None, _) => false,
    };
    match (is_traced, &tensor) {
        (true, Tensor { dtype: DType::F32 | DType::F64 | DType::F16 | DType::BF16, .. }) => cx.value(&tensor),
        (true, _) => Err(Stop::Invalid(format!("{name:?} is {}, which has no derivative", tensor.ty()))),
        (false, _) => Err(Stop::Refused(format!("what depends on {name:?} was computed before the run"))),
    }
}

/// Values by the names of the inputs that they are for.
type Named = Vec<(String, Value)>;

/// What computes `y`, as a graph of `sources`, whose inputs are `x0`, `x1`, .., and of other inputs that are named.
fn between<'m>(cx: &mut Context<'m>, sources: &[Value], y: Value) -> Result<(Graph, Named), Stop<'m>> {
    let graph = cx.graph();
    let mut needed = BTreeSet::from([y.node]);
    for (id, node) in graph.iter().rev() {
        let is_source = sources.iter().any(|source| source.node == id);
        if needed.contains(&id) && !is_source {
            needed.extend(node.operands.iter().map(|operand| operand.node));
        }
    }
    let mut part = graph.emptied();
    let mut values: BTreeMap<Value, Value> = BTreeMap::new();
    for (index, &source) in sources.iter().enumerate() {
        let own = part.input(format!("x{index}"), graph.ty(source).clone());
        if values.insert(source, own).is_some() {
            return Err(Stop::Refused("one value is a variable twice".into()));
        }
    }
    let mut fixed = vec![];
    for (id, node) in graph.iter().filter(|(id, _)| needed.contains(id)) {
        if values.contains_key(&Value::first(id)) {
            continue;
        }
        if matches!(node.op, Op::Input(_) | Op::Param(_)) {
            let name = format!("fixed{}", fixed.len());
            let own = part.input(name.clone(), node.types[0].clone());
            values.insert(Value::first(id), own);
            fixed.push((name, Value::first(id)));
            continue;
        }
        let operands: Option<Vec<Value>> =
            node.operands.iter().map(|operand| values.get(operand).copied()).collect();
        let operands =
            operands.ok_or_else(|| Stop::Refused("a variable is one of several results".into()))?;
        let copied = part.copy_node(node, &operands).map_err(|error| Stop::Refused(error.to_string()))?;
        for (result, own) in copied.into_iter().enumerate() {
            values.insert(Value { node: id, result: result as u32 }, own);
        }
    }
    let end = *values.get(&y).ok_or_else(|| Stop::Invalid("y is not computed".into()))?;
    part.output("y", end);
    let part = part.finish().map_err(|error| Stop::Refused(error.to_string()))?;
    Ok((part, fixed))
}
