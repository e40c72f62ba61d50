//! Sequences and optionals: lists that exist while a model is imported. What they hold may be computed by the graph;
//! how many there are, and at which positions, is known.

use super::driven::{Collect, Driven, Item, same, stack};
use super::{Rule, rule};
use crate::context::Context;
use crate::host::Strings;
use crate::node::{Node, Outcome, Stop};
use crate::proto::attribute_proto::AttributeType;
use crate::tensor;
use crate::value::{Imported, Tensor};
use crate::{dims, proto::GraphProto};
use rlx_ir::{DType, Dim, Literal};

pub(super) const RULES: &[Rule] = &[
    rule("SequenceConstruct", &[11], construct),
    rule("SequenceEmpty", &[11], empty),
    rule("SequenceInsert", &[11], insert),
    rule("SequenceErase", &[11], erase),
    rule("SequenceAt", &[11], at),
    rule("SequenceLength", &[11], length),
    rule("SequenceMap", &[17], map),
    rule("SplitToSequence", &[11, 24], split),
    rule("ConcatFromSequence", &[11], concat),
    rule("Optional", &[15, 28], optional),
    rule("OptionalHasElement", &[15, 18, 28], has_element),
    rule("OptionalGetElement", &[15, 18, 28], get_element),
];

fn present<'a, 'm>(node: &'a Node<'m>, index: usize) -> Result<&'a Imported, Stop<'m>> {
    node.input(index).ok_or_else(|| Stop::Invalid(format!("operand {index} is missing")))
}

fn items<'a, 'm>(node: &'a Node<'m>, index: usize) -> Result<&'a [Imported], Stop<'m>> {
    match present(node, index)? {
        Imported::Sequence(items) => Ok(items),
        other => Err(Stop::Invalid(format!("operand {index} is {}, expected a sequence", other.describe()))),
    }
}

/// The position that operand `index` gives among `count`; `extra` positions lie behind the last element.
fn position<'m>(
    cx: &mut Context<'m>,
    node: &Node<'m>,
    index: usize,
    (count, extra): (usize, usize),
) -> Result<usize, Stop<'m>> {
    let given = node.known_int(cx, index)?;
    let shifted = if given < 0 { given.saturating_add(count as i64) } else { given };
    let legal = usize::try_from(shifted).ok().filter(|&at| at < count + extra);
    legal.ok_or_else(|| Stop::Invalid(format!("position {given} is out of range for {count} values")))
}

fn construct<'m>(_: &mut Context<'m>, node: &Node<'m>) -> Outcome<'m> {
    let items: Option<Vec<Imported>> = node.inputs.iter().cloned().collect();
    match items.filter(|items| !items.is_empty()) {
        Some(items) => Ok(vec![Imported::Sequence(items)]),
        None => Err(Stop::Invalid("an operand is missing".into())),
    }
}

fn empty<'m>(_: &mut Context<'m>, node: &Node<'m>) -> Outcome<'m> {
    // The element type is that of what is inserted later.
    tensor::element(node.int_or("dtype", 1)? as i32).map_err(Stop::Invalid)?;
    Ok(vec![Imported::Sequence(vec![])])
}

fn insert<'m>(cx: &mut Context<'m>, node: &Node<'m>) -> Outcome<'m> {
    let mut all = items(node, 0)?.to_vec();
    let at = if node.input(2).is_some() { position(cx, node, 2, (all.len(), 1))? } else { all.len() };
    all.insert(at, present(node, 1)?.clone());
    Ok(vec![Imported::Sequence(all)])
}

fn erase<'m>(cx: &mut Context<'m>, node: &Node<'m>) -> Outcome<'m> {
    let mut all = items(node, 0)?.to_vec();
    let last = all.len().checked_sub(1).ok_or_else(|| Stop::Invalid("the sequence is empty".into()))?;
    let at = if node.input(1).is_some() { position(cx, node, 1, (all.len(), 0))? } else { last };
    all.remove(at);
    Ok(vec![Imported::Sequence(all)])
}

fn at<'m>(cx: &mut Context<'m>, node: &Node<'m>) -> Outcome<'m> {
    let all = items(node, 0)?;
    present(node, 1)?;
    let at = position(cx, node, 1, (all.len(), 0))?;
    Ok(vec![all[at].clone()])
}

fn length<'m>(_: &mut Context<'m>, node: &Node<'m>) -> Outcome<'m> {
    let count = items(node, 0)?.len() as i64;
    Ok(vec![Tensor::literal(Literal::scalar_i64(count)).into()])
}

fn map<'m>(_: &mut Context<'m>, node: &Node<'m>) -> Outcome<'m> {
    let body: &'m GraphProto = node.graph("body")?;
    let count = items(node, 0)?.len();
    let mut operands = vec![];
    for index in 0..node.inputs.len() {
        operands.push(match present(node, index)? {
            Imported::Sequence(items) if items.len() == count => Item::Each(items.clone()),
            Imported::Sequence(items) => {
                let found = items.len();
                return Err(Stop::Invalid(format!("it maps sequences of {count} and of {found} values")));
            }
            other => Item::Fixed(other.clone()),
        });
    }
    if operands.len() != body.input.len() {
        let (given, expected) = (operands.len(), body.input.len());
        return Err(Stop::Invalid(format!("its body has {expected} inputs, it gets {given}")));
    }
    if count == 0 {
        return Ok(vec![Imported::Sequence(vec![]); body.output.len()]);
    }
    let (carries, most) = (vec![], Some(count));
    Driven { items: operands, carries, most, is_conditional: false, collect: Collect::Sequence }.begin(body)
}

fn split<'m>(cx: &mut Context<'m>, node: &Node<'m>) -> Outcome<'m> {
    let keeps = node.flag("keepdims", true)?;
    let axis = node.int_or("axis", 0)?;
    if let Imported::Strings(strings) = present(node, 0)? {
        return split_strings(cx, node, strings, (axis, keeps));
    }
    let (value, dtype) = (node.value(cx, 0)?, node.dtype(0)?);
    let shape = node.shape(0)?.clone();
    let axis = node.axis(axis, shape.rank())?;
    let parts = parts(cx, node, &shape.dims()[axis])?;
    let mut results = vec![];
    let mut start = Dim::from(0);
    for len in parts {
        let mut part = cx.graph().narrow_at(value, axis as i64, start.clone(), len.clone());
        if !keeps && node.input(1).is_none() {
            part = cx.graph().squeeze(part, axis as i64);
        }
        results.push(cx.tensor_as(part, dtype)?);
        start = start + len;
    }
    Ok(vec![Imported::Sequence(results)])
}

/// The lengths of the parts of `extent`.
fn parts<'m>(cx: &mut Context<'m>, node: &Node<'m>, extent: &Dim) -> Result<Vec<Dim>, Stop<'m>> {
    let of_length = |length: i64| {
        let total = extent.as_static();
        let total =
            total.ok_or_else(|| Stop::Refused(format!("the number of its parts depends on {extent}")))?;
        match length {
            1.. => Ok((0..total).step_by(length as usize).map(|at| length.min(total - at).into()).collect()),
            _ => Err(Stop::Invalid(format!("parts of {length} elements are asked for"))),
        }
    };
    if node.input(1).is_none() {
        return of_length(1);
    }
    if node.rank(1)? == 0 {
        let length = node.known_int(cx, 1)?;
        return of_length(length);
    }
    let parts = node.dims(cx, 1)?;
    let sum = parts.iter().cloned().fold(Dim::from(0), |a, b| a + b);
    let is_negative = parts.iter().any(|part| part.as_static().is_some_and(|part| part < 0));
    match (sum == *extent, is_negative) {
        (true, false) => Ok(parts),
        _ if sum.as_static().is_none() || extent.as_static().is_none() => {
            Err(Stop::Refused(format!("parts of {sum} elements in all are taken from {extent}")))
        }
        _ => Err(Stop::Invalid(format!("parts of {sum} elements in all are taken from {extent}"))),
    }
}

fn split_strings<'m>(
    cx: &mut Context<'m>,
    node: &Node<'m>,
    strings: &Strings,
    (axis, keeps): (i64, bool),
) -> Outcome<'m> {
    let axis = node.axis(axis, strings.dims().len())?;
    let parts = parts(cx, node, &strings.dims()[axis].into())?;
    let drops = !keeps && node.input(1).is_none();
    let (mut results, mut start) = (vec![], 0);
    for part in parts {
        let length = part.as_static().and_then(|length| usize::try_from(length).ok()).unwrap_or(0);
        let mut part = strings.narrow(axis, start, length);
        if drops {
            let mut dims = part.dims().to_vec();
            dims.remove(axis);
            part = part.reshaped(&dims).unwrap_or(part);
        }
        results.push(part.into());
        start += length;
    }
    Ok(vec![Imported::Sequence(results)])
}

fn concat<'m>(cx: &mut Context<'m>, node: &Node<'m>) -> Outcome<'m> {
    let missing = || Stop::Invalid("it has no axis".into());
    let axis = node.int("axis")?.ok_or_else(missing)?;
    let is_new = node.flag("new_axis", false)?;
    let all = items(node, 0)?;
    if all.is_empty() {
        return Err(Stop::Invalid("an empty sequence has nothing to join".into()));
    }
    if let Some(joined) = dims::joined(all, axis, is_new) {
        return Ok(vec![joined.into()]);
    }
    if let Some(Imported::Strings(_)) = all.first() {
        return Ok(vec![concat_strings(node, all, axis, is_new)?.into()]);
    }
    if is_new {
        return Ok(vec![stack(cx, all, axis)?]);
    }
    let (values, dtype) = same(cx, all)?;
    let axis = node.axis(axis, cx.ty(values[0])?.shape.rank())?;
    let joined = cx.graph().concat(&values, axis);
    Ok(vec![cx.tensor_as(joined, dtype)?])
}

fn concat_strings<'m>(
    node: &Node<'m>,
    all: &[Imported],
    axis: i64,
    is_new: bool,
) -> Result<Strings, Stop<'m>> {
    let mut parts = vec![];
    for item in all {
        let Imported::Strings(strings) = item else {
            return Err(Stop::Invalid(format!("strings and {} cannot be joined", item.describe())));
        };
        parts.push(strings.clone());
    }
    let rank = parts[0].dims().len() + usize::from(is_new);
    let axis = node.axis(axis, rank)?;
    if is_new {
        for part in &mut parts {
            let mut dims = part.dims().to_vec();
            dims.insert(axis.min(dims.len()), 1);
            *part = part.reshaped(&dims).unwrap_or_else(|| part.clone());
        }
    }
    let joined = Strings::concat(&parts, axis);
    joined.ok_or_else(|| Stop::Invalid("the shapes of the strings do not fit".into()))
}

fn optional<'m>(_: &mut Context<'m>, node: &Node<'m>) -> Outcome<'m> {
    // The type of what may come later.
    let declared = node.raw("type", AttributeType::TypeProto)?;
    match node.input(0) {
        None if declared.is_none() => Err(Stop::Invalid("it has neither a value nor a type".into())),
        value => Ok(vec![Imported::Optional(value.cloned().map(Box::new))]),
    }
}

fn has_element<'m>(_: &mut Context<'m>, node: &Node<'m>) -> Outcome<'m> {
    let has = !matches!(node.input(0), None | Some(Imported::Optional(None)));
    let literal = Literal::ints(DType::Bool, &[], &[i128::from(has)]);
    let literal = literal.map_err(|error| Stop::Invalid(error.to_string()))?;
    Ok(vec![Tensor::literal(literal).into()])
}

fn get_element<'m>(_: &mut Context<'m>, node: &Node<'m>) -> Outcome<'m> {
    match present(node, 0)? {
        Imported::Optional(Some(value)) => Ok(vec![(**value).clone()]),
        Imported::Optional(None) => Err(Stop::Invalid("the optional is empty".into())),
        value => Ok(vec![value.clone()]),
    }
}
