//! Integers that are expressions over extents: what shapes are made of before a run binds the symbols.
//!
//! Exporters compute shapes with ordinary nodes (`Shape`, `Gather`, `Concat`, `Mul`, ..). Where their operands are
//! extents or constants, the results are expressions again, so that one compilation serves every extent. What is not
//! listed here is computed in the graph like any other tensor.

use crate::context::Context;
use crate::node::{Node, Stop};
use crate::tensor;
use crate::value::{Content, Imported, Tensor};
use rlx_ir::ops::ReduceKind;
use rlx_ir::{DType, Dim, Graph, Literal, Shape, Value};

/// A vector of expressions, or one alone.
struct Extents {
    dims: Vec<Dim>,
    rank: usize,
    is_symbolic: bool,
}

/// The extents of an operand; `None` where it is something else.
fn extents(input: Option<&Imported>) -> Option<Extents> {
    let Some(Imported::Tensor(tensor)) = input else { return None };
    match &tensor.content {
        Content::Dims(dims) => Some(Extents { dims: dims.clone(), rank: tensor.rank(), is_symbolic: true }),
        Content::Literal(literal) if literal.dtype().is_int() && tensor.rank() <= 1 => {
            let dims = literal.to_ints().into_iter().map(|value| i64::try_from(value).ok().map(Dim::from));
            Some(Extents { dims: dims.collect::<Option<_>>()?, rank: tensor.rank(), is_symbolic: false })
        }
        _ => None,
    }
}

/// The result of a node that computes extents from extents; `None` where it is another one.
pub(crate) fn import<'m>(cx: &mut Context<'m>, node: &Node<'m>) -> Result<Option<Tensor>, Stop<'m>> {
    let op = node.proto.op_type();
    if !node.proto.domain().is_empty() && node.proto.domain() != "ai.onnx" {
        return Ok(None);
    }
    match op {
        "Shape" => return shape(node).map(Some),
        "Size" => {
            let count = node.shape(0)?.num_elements();
            return Ok(Some(Tensor::dims(vec![count], 0)));
        }
        _ => {}
    }
    let symbolic = |input: &Option<Imported>| {
        matches!(input, Some(Imported::Tensor(Tensor { content: Content::Dims(_), .. })))
    };
    if !node.inputs.iter().any(symbolic) {
        return Ok(None);
    }
    let result = match op {
        "Identity" => extents(node.input(0)).map(|x| (x.dims, x.rank)),
        "Cast" => {
            let to = tensor::dtype(node.int_or("to", 0)? as i32).ok();
            extents(node.input(0)).filter(|_| to == Some(DType::I64)).map(|x| (x.dims, x.rank))
        }
        "Gather" => gather(node)?,
        "Concat" => concat(node)?,
        "Slice" => slice(cx, node)?,
        "Squeeze" => extents(node.input(0)).filter(|x| x.dims.len() == 1).map(|x| (x.dims, 0)),
        "Unsqueeze" => extents(node.input(0)).filter(|x| x.rank == 0).map(|x| (x.dims, 1)),
        "Reshape" => reshape(cx, node)?,
        "ReduceProd" | "ReduceSum" => reduce(node, op)?,
        "Where" => choose(cx, node)?,
        "Equal" => return equal(cx, node),
        "Add" | "Sub" | "Mul" | "Div" | "Mod" | "Min" | "Max" => arithmetic(cx, node, op)?,
        _ => None,
    };
    Ok(result.map(|(dims, rank)| Tensor::dims(dims, rank)))
}

fn shape<'m>(node: &Node<'m>) -> Result<Tensor, Stop<'m>> {
    let dims = match node.input(0) {
        Some(Imported::Strings(strings)) => Shape::from(strings.dims()).into_dims(),
        _ => node.shape(0)?.dims().to_vec(),
    };
    let rank = dims.len() as i64;
    let clip = |at: i64| if at < 0 { at + rank } else { at }.clamp(0, rank) as usize;
    let (start, end) = (clip(node.int_or("start", 0)?), clip(node.int_or("end", rank)?));
    Ok(Tensor::dims(dims.get(start..end).unwrap_or_default().to_vec(), 1))
}

type Found = Option<(Vec<Dim>, usize)>;

fn gather<'m>(node: &Node<'m>) -> Result<Found, Stop<'m>> {
    let (Some(data), Some(Imported::Tensor(indices))) = (extents(node.input(0)), node.input(1)) else {
        return Ok(None);
    };
    node.int_or("axis", 0)?;
    let Content::Literal(literal) = &indices.content else { return Ok(None) };
    if data.rank != 1 || indices.rank() > 1 {
        return Ok(None);
    }
    let count = data.dims.len() as i128;
    let pick =
        |index: i128| data.dims.get(usize::try_from(if index < 0 { index + count } else { index }).ok()?);
    let picked: Option<Vec<Dim>> = literal.to_ints().into_iter().map(|index| pick(index).cloned()).collect();
    match picked {
        Some(picked) => Ok(Some((picked, indices.rank()))),
        None => Err(Stop::Invalid(format!("an index of {literal:?} is outside {count} elements"))),
    }
}

fn concat<'m>(node: &Node<'m>) -> Result<Found, Stop<'m>> {
    node.int_or("axis", 0)?;
    let mut all = vec![];
    for input in &node.inputs {
        match extents(input.as_ref()) {
            Some(part) if part.rank == 1 => all.extend(part.dims),
            _ => return Ok(None),
        }
    }
    Ok(Some((all, 1)))
}

fn slice<'m>(cx: &mut Context<'m>, node: &Node<'m>) -> Result<Found, Stop<'m>> {
    let Some(data) = extents(node.input(0)).filter(|data| data.rank == 1 && node.version >= 10) else {
        return Ok(None);
    };
    let mut part = |index: usize, default: i64| match node.input(index) {
        None => Ok(default),
        Some(_) => node.known_int(cx, index),
    };
    let (start, end, step) = (part(1, 0)?, part(2, i64::MAX)?, part(4, 1)?);
    let count = data.dims.len() as i64;
    let clip = |at: i64| if at < 0 { at.saturating_add(count) } else { at }.clamp(0, count) as usize;
    let (start, end) = (clip(start), clip(end));
    match usize::try_from(step) {
        Ok(step @ 1..) => Ok(Some((
            data.dims.get(start..end).unwrap_or_default().iter().step_by(step).cloned().collect(),
            1,
        ))),
        _ => Ok(None),
    }
}

fn reshape<'m>(cx: &mut Context<'m>, node: &Node<'m>) -> Result<Found, Stop<'m>> {
    let Some(data) = extents(node.input(0)).filter(|_| node.version >= 5) else { return Ok(None) };
    let to = node.known_ints(cx, 1)?;
    let fits = to == [-1] || to == [data.dims.len() as i64];
    Ok(match to.len() {
        0 if data.dims.len() == 1 => Some((data.dims, 0)),
        1 if fits => Some((data.dims, 1)),
        _ => None,
    })
}

fn reduce<'m>(node: &Node<'m>, op: &str) -> Result<Found, Stop<'m>> {
    let keep = node.flag("keepdims", true)?;
    node.flag("noop_with_empty_axes", false)?;
    node.without_influence("axes");
    let Some(data) = extents(node.input(0)) else { return Ok(None) };
    let (first, join): (i64, fn(Dim, Dim) -> Dim) = match op {
        "ReduceProd" => (1, |a, b| a * b),
        _ => (0, |a, b| a + b),
    };
    Ok(Some((vec![data.dims.into_iter().fold(Dim::from(first), join)], usize::from(keep))))
}

/// Two operands, the shorter one repeated where it has one element.
fn pairs(a: &Extents, b: &Extents) -> Option<(Vec<(Dim, Dim)>, usize)> {
    let count = if a.dims.len() == 1 { b.dims.len() } else { a.dims.len() };
    let at = |x: &Extents, i: usize| {
        if x.dims.len() == 1 { x.dims.first().cloned() } else { x.dims.get(i).cloned() }
    };
    let all: Option<Vec<_>> = (0..count).map(|i| Some((at(a, i)?, at(b, i)?))).collect();
    Some((all?, a.rank.max(b.rank)))
}

fn arithmetic<'m>(cx: &mut Context<'m>, node: &Node<'m>, op: &str) -> Result<Found, Stop<'m>> {
    let (Some(a), Some(b)) = (extents(node.input(0)), extents(node.input(1))) else { return Ok(None) };
    let Some((pairs, rank)) = pairs(&a, &b).filter(|_| node.inputs.len() == 2) else { return Ok(None) };
    if op == "Mod" {
        node.int_or("fmod", 0)?;
    }
    let mut results = vec![];
    for (a, b) in pairs {
        // ONNX divides towards zero, expressions divide downwards: the same where nothing is negative.
        let lower = |graph: &Graph, dim: &Dim| graph.dim_bounds(dim).0;
        let is_plain = lower(cx.graph(), &a).is_some_and(|low| low >= 0)
            && lower(cx.graph(), &b).is_some_and(|low| low > 0);
        results.push(match op {
            "Add" => a + b,
            "Sub" => a - b,
            "Mul" => a * b,
            "Min" => a.minimum(&b),
            "Max" => a.maximum(&b),
            "Div" if is_plain => a.floor_div(&b),
            "Mod" if is_plain => a.modulo(&b),
            _ => return Ok(None),
        });
    }
    Ok(Some((results, rank)))
}

fn choose<'m>(cx: &mut Context<'m>, node: &Node<'m>) -> Result<Found, Stop<'m>> {
    let (Some(a), Some(b)) = (extents(node.input(1)), extents(node.input(2))) else { return Ok(None) };
    let (Some((pairs, rank)), Ok(condition)) = (pairs(&a, &b), node.literal(cx, 0)) else { return Ok(None) };
    if condition.len() != pairs.len() {
        return Ok(None);
    }
    let chosen = condition.to_ints().into_iter().zip(pairs).map(|(yes, (a, b))| if yes != 0 { a } else { b });
    Ok(Some((chosen.collect(), rank)))
}

/// Whether extents are equal, where that holds for every binding of the symbols or for none.
fn equal<'m>(cx: &mut Context<'m>, node: &Node<'m>) -> Result<Option<Tensor>, Stop<'m>> {
    let (Some(a), Some(b)) = (extents(node.input(0)), extents(node.input(1))) else { return Ok(None) };
    debug_assert!(a.is_symbolic || b.is_symbolic);
    let Some((pairs, rank)) = pairs(&a, &b) else { return Ok(None) };
    let mut results = vec![];
    for (a, b) in pairs {
        let (low, high) = cx.graph().dim_bounds(&(a.clone() - b.clone()));
        results.push(match (low, high) {
            (Some(0), Some(0)) => 1,
            (Some(1..), _) | (_, Some(..=-1)) => 0,
            _ => return Ok(None),
        });
    }
    let dims: &[usize] = if rank == 0 { &[] } else { &[results.len()] };
    let literal =
        Literal::ints(DType::Bool, dims, &results).map_err(|error| Stop::Invalid(error.to_string()))?;
    Ok(Some(Tensor::literal(literal)))
}

/// Extents as a tensor of the graph.
pub(crate) fn materialise<'m>(graph: &mut Graph, dims: &[Dim], rank: usize) -> Result<Value, Stop<'m>> {
    let mut parts = vec![];
    for dim in dims {
        // Counting is the one way from an extent to a number that every backend has.
        let Some(low) = graph.dim_bounds(dim).0 else {
            return Err(Stop::Refused(format!(
                "the extent {dim} has no lower bound, so it cannot become a number"
            )));
        };
        let one = graph.scalar(DType::I64, 1.0);
        let ones = graph.expand(one, vec![dim.clone() - Dim::from(low)]);
        let counted = graph.reduce(ones, ReduceKind::Sum, [0], false);
        let low = graph.constant(Literal::scalar_i64(low));
        parts.push(graph.add(counted, low));
    }
    Ok(match (rank, &parts[..]) {
        (0, [one]) => *one,
        _ => graph.stack(&parts, 0),
    })
}
