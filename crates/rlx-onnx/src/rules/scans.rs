//! `Scan`: a `scan` of the graph; one iteration after the other where the body cannot be a body of the graph.
//!
//! Version 8 does so for every element of a batch, up to a length of its own; later versions choose axes.

use super::driven::{Collect, Driven, Item, empty_like};
use super::lifted::{Lifted, emit, native, wrap};
use super::{Rule, rule};
use crate::context::Context;
use crate::node::{Node, Outcome, Stop};
use crate::proto::GraphProto;
use crate::value::Imported;
use rlx_ir::ops::{Checkpoint, Scan};
use rlx_ir::{DType, Dim, Literal, Shape, TensorType, Value};

pub(super) const RULES: &[Rule] = &[rule("Scan", &[8, 9, 11, 16, 19, 21, 23, 24, 25], scan)];

/// Most iterations that are walked one after the other.
const MOST_WALKED: usize = 1 << 16;

/// A value and the dtype that ONNX sees.
type Typed = (Value, DType);

/// The axis of an operand or result, and whether it is walked from its end.
type Place = (i64, bool);

fn scan<'m>(cx: &mut Context<'m>, node: &Node<'m>) -> Outcome<'m> {
    let body = node.graph("body")?;
    let missing = || Stop::Invalid("it does not say how many scan inputs it has".into());
    let count = node.int("num_scan_inputs")?.and_then(|count| usize::try_from(count).ok());
    let count = count.ok_or_else(missing)?;
    let operands = node.inputs.get(usize::from(node.version == 8)..).unwrap_or_default();
    let states = operands.len().checked_sub(count).filter(|_| operands.len() == body.input.len());
    let states = states.filter(|&states| states <= body.output.len() && count > 0).ok_or_else(|| {
        Stop::Invalid(format!(
            "{} operands, {count} of them scanned, do not fit a body with {} inputs and {} outputs",
            operands.len(),
            body.input.len(),
            body.output.len()
        ))
    })?;
    let stacked = body.output.len() - states;
    if node.version == 8 {
        let inputs = places(node, None, Some("directions"), count)?;
        return batched(cx, node, body, states, &inputs);
    }
    let inputs = places(node, Some("scan_input_axes"), Some("scan_input_directions"), count)?;
    let outputs = places(node, Some("scan_output_axes"), Some("scan_output_directions"), stacked)?;
    let result = native(cx, node, |cx| {
        let mut typed = vec![];
        for index in 0..operands.len() {
            typed.push((node.value(cx, index)?, node.dtype(index)?));
        }
        for ((value, _), &place) in typed[states..].iter_mut().zip(&inputs) {
            *value = to_front(cx, *value, place)?;
        }
        let (first, rows) = typed.split_at(states);
        let mut results = over(cx, body, first, rows, None)?;
        for ((value, _), &place) in results[states..].iter_mut().zip(&outputs) {
            *value = from_front(cx, *value, place)?;
        }
        results.into_iter().map(|(value, dtype)| cx.tensor_as(value, dtype)).collect()
    })?;
    match result {
        Some(results) => Ok(results),
        None => walked(cx, node, body, (states, &inputs, outputs)),
    }
}

/// Axes and directions of `count` operands or results.
fn places<'m>(
    node: &Node<'m>,
    axes: Option<&str>,
    directions: Option<&str>,
    count: usize,
) -> Result<Vec<Place>, Stop<'m>> {
    let list = |name: Option<&str>| match name {
        None => Ok(vec![0; count]),
        Some(name) => match node.ints(name)? {
            None => Ok(vec![0; count]),
            Some(list) if list.len() == count => Ok(list),
            Some(list) => Err(Stop::Invalid(format!("{name} has {} values, expected {count}", list.len()))),
        },
    };
    let (axes, directions) = (list(axes)?, list(directions)?);
    match directions.iter().find(|direction| !(0..=1).contains(*direction)) {
        Some(direction) => Err(Stop::Invalid(format!("there is no direction {direction}"))),
        None => Ok(axes.into_iter().zip(directions.into_iter().map(|direction| direction == 1)).collect()),
    }
}

/// `value` with the axis of `place` in front, in the order of the iterations.
fn to_front<'m>(cx: &mut Context<'m>, value: Value, (axis, reverse): Place) -> Result<Value, Stop<'m>> {
    let rank = cx.ty(value)?.shape.rank();
    let axis = axis_of(axis, rank)?;
    let order: Vec<usize> = [axis].into_iter().chain((0..rank).filter(|&other| other != axis)).collect();
    let graph = cx.graph();
    let value = if axis == 0 { value } else { graph.transpose(value, order) };
    Ok(if reverse { graph.reverse(value, [0usize]) } else { value })
}

/// The inverse of [`to_front`].
fn from_front<'m>(cx: &mut Context<'m>, value: Value, (axis, reverse): Place) -> Result<Value, Stop<'m>> {
    let rank = cx.ty(value)?.shape.rank();
    let axis = axis_of(axis, rank)?;
    let mut order: Vec<usize> = (1..rank).collect();
    order.insert(axis, 0);
    let graph = cx.graph();
    let value = if reverse { graph.reverse(value, [0usize]) } else { value };
    Ok(if axis == 0 { value } else { graph.transpose(value, order) })
}

fn axis_of<'m>(axis: i64, rank: usize) -> Result<usize, Stop<'m>> {
    let shifted = if axis < 0 { axis + rank as i64 } else { axis };
    let legal = usize::try_from(shifted).ok().filter(|&axis| axis < rank);
    legal.ok_or_else(|| Stop::Invalid(format!("axis {axis} is out of range for rank {rank}")))
}

/// Types of `values`, without their first extent, which is the same for all.
fn row_types<'m>(cx: &mut Context<'m>, values: &[Typed]) -> Result<(Dim, Vec<TensorType>), Stop<'m>> {
    let mut length = None;
    let mut types = vec![];
    for &(value, _) in values {
        let ty = cx.ty(value)?;
        let Some((first, dims)) = ty.shape.dims().split_first() else {
            return Err(Stop::Invalid(format!("{ty} has no axis to go along")));
        };
        let known = length.get_or_insert_with(|| first.clone());
        if known != first {
            return Err(Stop::Refused(format!("operands have {known} and {first} elements to go along")));
        }
        types.push(TensorType::new(ty.dtype, dims.to_vec()));
    }
    let length = length.ok_or_else(|| Stop::Invalid("there is nothing to go along".into()))?;
    Ok((length, types))
}

/// `body` over the rows of `rows`. Where `limit` is given, rows behind it change no state and give zeros.
fn over<'m>(
    cx: &mut Context<'m>,
    body: &'m GraphProto,
    states: &[Typed],
    rows: &[Typed],
    limit: Option<Value>,
) -> Result<Vec<Typed>, Stop<'m>> {
    let (length, row_types) = row_types(cx, rows)?;
    let types = states.iter().map(|&(value, _)| cx.ty(value)).collect::<Result<Vec<_>, _>>()?;
    let dtypes: Vec<DType> = states.iter().chain(rows).map(|&(_, dtype)| dtype).collect();
    let inputs: Vec<TensorType> = types.iter().chain(&row_types).cloned().collect();
    let lifted = Lifted::new(cx, body.name(), &inputs, |cx, own| {
        let own = own.into_iter().zip(&dtypes);
        let inputs =
            own.map(|(value, &dtype)| cx.tensor_as(value, dtype).map(Some)).collect::<Result<_, _>>()?;
        cx.walk(body, inputs)
    })?;
    for (index, ty) in types.iter().enumerate() {
        if (&lifted.types[index], lifted.dtypes[index]) != (ty, dtypes[index]) {
            return Err(Stop::Refused(format!("a state is {ty}, then {}", lifted.types[index])));
        }
    }
    let count = TensorType::new(DType::I64, Shape::scalar());
    let mut all = vec![count.clone()];
    all.extend(types.iter().cloned());
    all.extend(lifted.capture_types(cx)?);
    all.extend(limit.map(|_| count));
    all.extend(row_types);
    let (carries, captures) = (types.len(), lifted.captures.len());
    let step = wrap(cx, &all, |graph, inputs| {
        let (own, given) = inputs.split_at(1 + carries + captures + usize::from(limit.is_some()));
        let operands =
            own[1..1 + carries].iter().chain(given).chain(&own[1 + carries..1 + carries + captures]);
        let operands: Vec<Value> = operands.copied().collect();
        let mut results = lifted.inline(graph, &operands)?;
        if limit.is_some() {
            let is_inside = graph.compare_lt(own[0], own[1 + carries + captures]);
            for (index, result) in results.iter_mut().enumerate() {
                let other = match own[1..1 + carries].get(index) {
                    Some(&state) => state,
                    None => graph.zeros_like(*result),
                };
                *result = graph.where_(is_inside, *result, other);
            }
        }
        let one = graph.constant(Literal::scalar_i64(1));
        results.insert(0, graph.add(own[0], one));
        Ok(results)
    })?;
    let zero = cx.graph().constant(Literal::scalar_i64(0));
    let values = |list: &[Typed]| list.iter().map(|&(value, _)| value).collect::<Vec<_>>();
    let mut operands = vec![zero];
    operands.extend(values(states));
    operands.extend(&lifted.captures);
    operands.extend(limit);
    operands.extend(values(rows));
    let op = Scan {
        length,
        carries: 1 + carries,
        stacked: rows.len(),
        reverse: false,
        checkpoint: Checkpoint::Every,
        body: step.into(),
    };
    let results = emit(cx, op, &operands)?;
    Ok(results.into_iter().skip(1).zip(lifted.dtypes).collect())
}

/// Version 8: axis 0 is a batch, axis 1 is walked.
fn batched<'m>(
    cx: &mut Context<'m>,
    node: &Node<'m>,
    body: &'m GraphProto,
    states: usize,
    inputs: &[Place],
) -> Outcome<'m> {
    let limits = node.optional(cx, 0)?;
    if limits.is_some() && inputs.iter().any(|place| place.1) {
        return Err(Stop::Refused(
            "sequences with lengths of their own are not walked from their ends".into(),
        ));
    }
    let mut all = vec![];
    for index in 1..node.inputs.len() {
        all.push((node.value(cx, index)?, node.dtype(index)?));
    }
    for ((value, _), place) in all[states..].iter_mut().zip(inputs) {
        if place.1 {
            *value = cx.graph().reverse(*value, [1usize]);
        }
    }
    let dtypes: Vec<DType> = all.iter().map(|&(_, dtype)| dtype).collect();
    if let Some(limits) = limits {
        let limits = cx.graph().cast_to(limits, DType::I64);
        all.push((limits, DType::I64));
    }
    let (length, types) = row_types(cx, &all)?;
    let batch = Lifted::new(cx, body.name(), &types, |cx, own| {
        let (own, limit) = own.split_at(dtypes.len());
        let own: Vec<Typed> = own.iter().copied().zip(dtypes.iter().copied()).collect();
        let results = over(cx, body, &own[..states], &own[states..], limit.first().copied())?;
        results.into_iter().map(|(value, dtype)| cx.tensor_as(value, dtype)).collect()
    })?;
    let (captures, stacked) = (batch.captures.len(), all.len());
    let mut inputs = batch.capture_types(cx)?;
    inputs.extend(types);
    let step = wrap(cx, &inputs, |graph, inputs| {
        let (captured, rows) = inputs.split_at(captures);
        batch.inline(graph, &[rows, captured].concat())
    })?;
    let checkpoint = Checkpoint::Every;
    let op = Scan { length, carries: 0, stacked, reverse: false, checkpoint, body: step.into() };
    let operands: Vec<Value> = batch.captures.iter().copied().chain(all.iter().map(|&(v, _)| v)).collect();
    let results = emit(cx, op, &operands)?;
    results.into_iter().zip(batch.dtypes).map(|(value, dtype)| cx.tensor_as(value, dtype)).collect()
}

/// One iteration after the other.
fn walked<'m>(
    cx: &mut Context<'m>,
    node: &Node<'m>,
    body: &'m GraphProto,
    (states, inputs, outputs): (usize, &[Place], Vec<Place>),
) -> Outcome<'m> {
    let mut items = vec![Item::Carries];
    let mut most = None;
    for (index, &place) in inputs.iter().enumerate() {
        let (value, dtype) = (node.value(cx, states + index)?, node.dtype(states + index)?);
        let value = to_front(cx, value, place)?;
        let length =
            cx.ty(value)?.shape.dims()[0].as_static().and_then(|length| usize::try_from(length).ok());
        let length = length.filter(|&length| length <= MOST_WALKED);
        let length = length.ok_or_else(|| Stop::Refused("its length is not known, or too large".into()))?;
        if *most.get_or_insert(length) != length {
            return Err(Stop::Invalid("its operands have different lengths".into()));
        }
        let row = |at: usize| {
            let row = cx.graph().narrow_at(value, 0, at, 1);
            let row = cx.graph().squeeze(row, 0);
            cx.tensor_as(row, dtype)
        };
        items.push(Item::Each((0..length).map(row).collect::<Result<_, _>>()?));
    }
    let carries: Option<Vec<Imported>> = node.inputs[..states].iter().cloned().collect();
    let carries = carries.ok_or_else(|| Stop::Invalid("a state is missing".into()))?;
    if most == Some(0) {
        if outputs.iter().any(|place| place.0 != 0) {
            return Err(Stop::Refused("nothing is walked, and its results are not stacked in front".into()));
        }
        let empty = body.output.iter().skip(states).map(empty_like).collect::<Result<Vec<_>, _>>()?;
        return Ok(carries.into_iter().chain(empty).collect());
    }
    Driven { items, carries, most, is_conditional: false, collect: Collect::Stack(outputs) }.begin(body)
}
