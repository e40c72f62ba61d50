//! Derivatives and batches of ops with bodies, made of those of their bodies.
//!
//! A branch becomes a branch whose sides are the derivatives of its sides. A scan goes once backwards over the carries
//! that its form keeps; with fewer checkpoints it is first written as a scan of scans, of which the outer one keeps
//! its carries and the inner ones are run again. A loop with a condition has a reverse derivative where a number
//! bounds its iterations: it is a scan of so many steps, of which those after the last do nothing.

use crate::batch::{Batching, vmap};
use crate::error::AutodiffError;
use crate::transforms::{jvp, vjp};
use rlx_ir::derive::{Backward, Batched, Forward};
use rlx_ir::ops::{Checkpoint, If, ReduceKind, Scan, While};
use rlx_ir::{Body, Dim, Graph, NodeId, Op, TensorType, Value};

type Optional = Vec<Option<Value>>;

fn differentiable(graph: &Graph, value: Value) -> bool {
    graph.ty(value).dtype.is_differentiable()
}

fn strings(names: &[String]) -> Vec<&str> {
    names.iter().map(String::as_str).collect()
}

/// Names of the inputs of a body, in order.
fn input_names(body: &Graph) -> Vec<String> {
    body.nodes().iter().filter_map(|node| node.op.leaf_name()).map(String::from).collect()
}

/// The items whose flag is set.
fn picked<T: Clone>(items: &[T], flags: &[bool]) -> Vec<T> {
    items.iter().zip(flags).filter(|(_, flag)| **flag).map(|(item, _)| item.clone()).collect()
}

/// `body` with inputs called `x0`, `x1` and so on, and outputs `y0`, `y1` and so on: names of derivatives are new then.
fn renamed(body: &Body) -> Result<Graph, AutodiffError> {
    let types: Vec<TensorType> = body.input_types().into_iter().cloned().collect();
    let (mut graph, inputs) = started(&body.name, &types);
    let results = body.inline(&mut graph, &inputs)?;
    give(&mut graph, results);
    Ok(graph)
}

/// `body` from its inputs and the cotangents of the results in `given`, in order, to the derivatives by the inputs in
/// `wanted`, in order.
fn body_vjp(body: &Body, given: &[bool], wanted: &[bool]) -> Result<Graph, AutodiffError> {
    let body = renamed(body)?;
    let outputs: Vec<String> = body.outputs().iter().map(|output| output.name.clone()).collect();
    let (outputs, inputs) = (picked(&outputs, given), picked(&input_names(&body), wanted));
    let mut graph = vjp(&body, &strings(&outputs), &strings(&inputs))?;
    let skipped = graph.outputs().len() - inputs.len();
    let gradients: Vec<_> =
        graph.outputs()[skipped..].iter().map(|output| (output.name.clone(), output.value)).collect();
    graph.set_outputs(gradients);
    Ok(graph)
}

/// Builds `graph` into `target` on `operands`, in the order of its inputs.
fn inlined(target: &mut Graph, graph: &Graph, operands: &[Value]) -> Result<Vec<Value>, AutodiffError> {
    Ok(Body::from(graph.clone()).inline(target, operands)?)
}

/// A graph with inputs of those types; inputs and graph.
fn started(name: &str, types: &[TensorType]) -> (Graph, Vec<Value>) {
    let mut graph = Graph::new(name);
    let inputs = types.iter().enumerate().map(|(index, ty)| (format!("x{index}"), ty.clone()));
    let inputs = inputs.collect::<Vec<_>>().into_iter().map(|(name, ty)| graph.input(name, ty)).collect();
    (graph, inputs)
}

fn give(graph: &mut Graph, values: impl IntoIterator<Item = Value>) {
    graph.set_outputs(values.into_iter().enumerate().map(|(index, value)| (format!("y{index}"), value)));
}

fn types(graph: &Graph, values: &[Value]) -> Vec<TensorType> {
    values.iter().map(|&value| graph.ty(value).clone()).collect()
}

/// Derivatives by the operands of an op with bodies, `Err` with a reason where there are none.
pub(crate) fn backward(
    graph: &mut Graph,
    op: &Op,
    given: Backward<'_>,
) -> Result<Result<Optional, &'static str>, AutodiffError> {
    match op {
        Op::If(op) => branch_backward(graph, op, given).map(Ok),
        Op::Scan(op) if op.checkpoint == Checkpoint::Every => sweep(graph, op, given).map(Ok),
        Op::Scan(op) => {
            let nested = scan_of_scans(graph, op, given.operands)?;
            via_graph(graph, &nested, given).map(Ok)
        }
        Op::While(op) => match &op.max_iterations {
            Some(limit) => {
                let bounded = bounded_scan(graph, op, limit, given.operands)?;
                via_graph(graph, &bounded, given).map(Ok)
            }
            None => {
                Ok(Err("nothing bounds its iterations, so nothing says what to keep; give it max_iterations"))
            }
        },
        _ => Ok(Err("it has no bodies")),
    }
}

/// The derivatives of `function`, whose inputs are the operands and whose outputs are the first results.
fn via_graph(graph: &mut Graph, function: &Graph, given: Backward<'_>) -> Result<Optional, AutodiffError> {
    let wanted = wanted(graph, given);
    let has: Vec<bool> = given.cotangents.iter().map(Option::is_some).collect();
    let derivative = body_vjp(&function.clone().into(), &has[..function.outputs().len()], &wanted)?;
    let operands: Vec<Value> =
        given.operands.iter().copied().chain(given.cotangents.iter().copied().flatten()).collect();
    let mut gradients = inlined(graph, &derivative, &operands)?.into_iter();
    Ok(wanted.iter().map(|wanted| if *wanted { gradients.next() } else { None }).collect())
}

/// Derivatives by the operands of a scan, each none where the operand has none.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ScanGradients {
    /// By the first carries.
    pub carries: Vec<Option<Value>>,
    /// By the broadcast operands.
    pub broadcast: Vec<Option<Value>>,
    /// By the stacked operands, stacked.
    pub stacked: Vec<Option<Value>>,
}

/// Appends the reverse sweep of node `scan` to `graph`: one scan backwards that gives all derivatives at once from the
/// cotangents of the results, none where they are zero. This is the derivative that [`vjp`] makes of a scan.
///
/// # Errors
/// A node that is no scan, or an op in its body that has no derivative.
pub fn scan_backward(
    graph: &mut Graph,
    scan: NodeId,
    cotangents: &[Option<Value>],
) -> Result<ScanGradients, AutodiffError> {
    let node = graph.node(scan).clone();
    let Op::Scan(op) = &node.op else {
        return Err(AutodiffError::unsupported(graph, scan, "reverse sweep", "it is not a scan"));
    };
    let count = node.types.len();
    graph.widen_node(scan, op.saving().into())?;
    let results: Vec<Value> =
        (0..graph.node(scan).types.len() as u32).map(|result| Value { node: scan, result }).collect();
    let mut all = cotangents.to_vec();
    all.truncate(count);
    all.resize(results.len(), None);
    let wanted = vec![true; node.operands.len()];
    let given = Backward { operands: &node.operands, results: &results, cotangents: &all, wanted: &wanted };
    let saving = graph.node(scan).op.clone();
    let derivatives = backward(graph, &saving, given)?;
    let mut carries =
        derivatives.map_err(|reason| AutodiffError::unsupported(graph, scan, "reverse sweep", reason))?;
    let stacked = carries.split_off(carries.len() - op.stacked);
    let broadcast = carries.split_off(op.carries);
    Ok(ScanGradients { carries, broadcast, stacked })
}

fn wanted(graph: &Graph, given: Backward<'_>) -> Vec<bool> {
    let pairs = given.operands.iter().zip(given.wanted);
    pairs.map(|(&operand, wanted)| *wanted && differentiable(graph, operand)).collect()
}

fn branch_backward(graph: &mut Graph, op: &If, given: Backward<'_>) -> Result<Optional, AutodiffError> {
    let wanted = wanted(graph, given);
    let has: Vec<bool> = given.cotangents.iter().map(Option::is_some).collect();
    let then = body_vjp(&op.then, &has, &wanted[1..])?;
    let otherwise = body_vjp(&op.otherwise, &has, &wanted[1..])?;
    let mut operands = given.operands[1..].to_vec();
    operands.extend(given.cotangents.iter().copied().flatten());
    let mut gradients = graph.r#if(given.operands[0], &operands, then, otherwise).into_iter();
    Ok(wanted.iter().map(|wanted| if *wanted { gradients.next() } else { None }).collect())
}

/// One sweep over the steps in the other direction. The carries are the cotangents of the carries and the sums of the
/// derivatives by the broadcast operands; the operands have their derivatives stacked.
fn sweep(graph: &mut Graph, op: &Scan, given: Backward<'_>) -> Result<Optional, AutodiffError> {
    let (carries, count) = (op.carries, given.operands.len());
    // The form that keeps what is needed gives the carries before every step as its last results.
    let own = op.body.outputs().len();
    let again = if op.saves() { given.results.to_vec() } else { graph.push_all(op.saving(), given.operands) };
    let saved = &again[again.len() - carries..];
    let moving: Vec<bool> = given.operands.iter().map(|&operand| differentiable(graph, operand)).collect();
    let wanted: Vec<bool> =
        (0..count).map(|index| moving[index] && (index < carries || given.wanted[index])).collect();
    let has: Vec<bool> = (0..own)
        .map(|index| if index < carries { moving[index] } else { given.cotangents[index].is_some() })
        .collect();
    let step = body_vjp(&op.body, &has, &wanted)?;
    let fixed = carries..count - op.stacked;
    let of = |range: std::ops::Range<usize>| range.filter(|&index| wanted[index]).collect::<Vec<_>>();
    let (by_carry, by_fixed, by_stacked) = (of(0..carries), of(fixed.clone()), of(fixed.end..count));
    let mut operands = vec![];
    for &index in &by_carry {
        operands.push(given.cotangent_or_zeros(graph, index));
    }
    for &index in &by_fixed {
        operands.push(graph.zeros_like(given.operands[index]));
    }
    let new_carries = operands.len();
    operands.extend_from_slice(&given.operands[fixed.clone()]);
    let first_stacked = operands.len();
    operands.extend_from_slice(saved);
    operands.extend_from_slice(&given.operands[fixed.end..]);
    operands.extend(given.cotangents[carries..own].iter().copied().flatten());
    let stacked = operands.len() - first_stacked;
    // The body: its inputs in the order of the operands.
    let mut inner = types(graph, &operands);
    for ty in &mut inner[first_stacked..] {
        *ty = TensorType::new(ty.dtype, ty.shape.dims()[1..].to_vec());
    }
    let (mut body, inputs) = started(&format!("{} backwards", op.body.name), &inner);
    let (ahead, behind) = inputs.split_at(first_stacked);
    let (cotangents, fixed_inputs) = ahead.split_at(new_carries);
    let mut arguments = behind[..carries].to_vec();
    arguments.extend_from_slice(fixed_inputs);
    arguments.extend_from_slice(&behind[carries..carries + op.stacked]);
    arguments.extend_from_slice(&cotangents[..by_carry.len()]);
    arguments.extend_from_slice(&behind[carries + op.stacked..]);
    let mut gradients = inlined(&mut body, &step, &arguments)?;
    for (position, &sum) in cotangents.iter().enumerate().skip(by_carry.len()) {
        gradients[position] = body.add(sum, gradients[position]);
    }
    give(&mut body, gradients);
    let checkpoint = op.checkpoint;
    let results =
        graph.scan(&operands, op.length.clone(), new_carries, stacked, !op.reverse, checkpoint, body);
    let mut derivatives = vec![None; count];
    for (index, result) in by_carry.into_iter().chain(by_fixed).chain(by_stacked).zip(results) {
        derivatives[index] = Some(result);
    }
    Ok(derivatives)
}

/// The scan as a scan of scans of `k` steps, `k` the largest divisor of its length up to the root of it.
fn scan_of_scans(graph: &Graph, op: &Scan, operands: &[Value]) -> Result<Graph, AutodiffError> {
    let every = |length: Dim, reverse: bool, stacked: usize, body: Body| Scan {
        length,
        carries: op.carries,
        stacked,
        reverse,
        checkpoint: Checkpoint::Every,
        body,
    };
    let (mut outer, inputs) = started(&op.body.name, &types(graph, operands));
    let length = op.length.as_static().unwrap_or(1).max(1);
    let most = (1..=length).take_while(|k| k * k <= length).filter(|k| length % k == 0).max().unwrap_or(1);
    if most == 1 {
        let values =
            outer.push_all(every(op.length.clone(), op.reverse, op.stacked, op.body.clone()), &inputs);
        give(&mut outer, values);
        return Ok(outer.finish()?);
    }
    let (k, blocks) = (Dim::from(most), Dim::from(length / most));
    let mut folded = inputs.clone();
    for value in &mut folded[inputs.len() - op.stacked..] {
        let dims = outer.ty(*value).shape.dims()[1..].to_vec();
        let dims: Vec<Dim> = [blocks.clone(), k.clone()].into_iter().chain(dims).collect();
        *value = outer.reshape(*value, dims);
    }
    let mut inner = types(&outer, &folded);
    for ty in &mut inner[inputs.len() - op.stacked..] {
        *ty = TensorType::new(ty.dtype, ty.shape.dims()[1..].to_vec());
    }
    let (mut block, block_inputs) = started("block", &inner);
    let values = block.push_all(every(k, op.reverse, op.stacked, op.body.clone()), &block_inputs);
    give(&mut block, values);
    let mut values = outer.push_all(every(blocks, op.reverse, op.stacked, block.into()), &folded);
    for value in values.iter_mut().skip(op.carries) {
        let dims = outer.ty(*value).shape.dims()[2..].to_vec();
        let dims: Vec<Dim> = [op.length.clone()].into_iter().chain(dims).collect();
        *value = outer.reshape(*value, dims);
    }
    give(&mut outer, values);
    Ok(outer.finish()?)
}

/// The loop as a scan of `limit` steps, which keep the carries once the condition holds no longer.
fn bounded_scan(graph: &Graph, op: &While, limit: &Dim, operands: &[Value]) -> Result<Graph, AutodiffError> {
    let all = types(graph, operands);
    let (mut kept, kept_inputs) = started("done", &all);
    give(&mut kept, kept_inputs[..op.carries].iter().copied());
    let (mut step, inputs) = started(&op.body.name, &all);
    let goes_on = inlined(&mut step, &op.condition, &inputs)?;
    let next = step.r#if(goes_on[0], &inputs, op.body.clone(), kept);
    give(&mut step, next);
    let (mut outer, inputs) = started("bounded", &all);
    let values = outer.scan(&inputs, limit.clone(), op.carries, 0usize, false, Checkpoint::Every, step);
    give(&mut outer, values);
    Ok(outer.finish()?)
}

/// `body` with its inputs and the tangents of those in `moving`, to its results and the tangents of those that have
/// derivatives.
fn body_jvp(body: &Body, moving: &[bool]) -> Result<Graph, AutodiffError> {
    let body = renamed(body)?;
    let inputs = picked(&input_names(&body), moving);
    jvp(&body, &strings(&inputs))
}

/// Tangents of the results of an op with bodies.
pub(crate) fn forward(graph: &mut Graph, op: &Op, given: Forward<'_>) -> Result<Optional, AutodiffError> {
    let moves: Vec<bool> = given.results.iter().map(|&result| differentiable(graph, result)).collect();
    let count = given.results.len();
    let tangents: Vec<Value> = if let Op::If(op) = op {
        let moving: Vec<bool> = given.tangents[1..].iter().map(Option::is_some).collect();
        let (then, otherwise) = (body_jvp(&op.then, &moving)?, body_jvp(&op.otherwise, &moving)?);
        let mut operands = given.operands[1..].to_vec();
        operands.extend(given.tangents[1..].iter().copied().flatten());
        graph.r#if(given.operands[0], &operands, then, otherwise).split_off(count)
    } else {
        loop_forward(graph, op, given)?
    };
    let mut tangents = tangents.into_iter();
    Ok(moves.iter().map(|moves| if *moves { tangents.next() } else { None }).collect())
}

/// A loop over its carries and their tangents; gives the tangents of all results that have them.
fn loop_forward(graph: &mut Graph, op: &Op, given: Forward<'_>) -> Result<Vec<Value>, AutodiffError> {
    let carries = op.loop_carries().unwrap_or(0);
    let stacked = if let Op::Scan(op) = op { op.stacked } else { 0 };
    let fixed = given.operands.len() - stacked;
    // The tangent of any carry may depend on that of any operand.
    let moving: Vec<bool> = (0..given.operands.len())
        .map(|index| {
            given.tangents[index].is_some() || index < carries && differentiable(graph, given.operands[index])
        })
        .collect();
    let mut tangents: Optional = given.tangents.to_vec();
    for index in (0..carries).filter(|&index| moving[index] && given.tangents[index].is_none()) {
        tangents[index] = Some(graph.zeros_like(given.operands[index]));
    }
    // Each group of operands is followed by its tangents.
    let mut operands: Vec<Value> = vec![];
    let mut bounds = vec![];
    for range in [0..carries, carries..fixed, fixed..given.operands.len()] {
        operands.extend_from_slice(&given.operands[range.clone()]);
        operands.extend(tangents[range].iter().copied().flatten());
        bounds.push(operands.len());
    }
    let mut inner = types(graph, &operands);
    for ty in &mut inner[bounds[1]..] {
        *ty = TensorType::new(ty.dtype, ty.shape.dims()[1..].to_vec());
    }
    // The same order of inputs for every body: the operands, then the tangents.
    let arguments = |inputs: &[Value]| {
        let (mut own, mut theirs, mut next) = (vec![], vec![], 0);
        for range in [0..carries, carries..fixed, fixed..given.operands.len()] {
            own.extend_from_slice(&inputs[next..next + range.len()]);
            next += range.len();
            let moved = moving[range].iter().filter(|moving| **moving).count();
            theirs.extend_from_slice(&inputs[next..next + moved]);
            next += moved;
        }
        (own, theirs)
    };
    let (Op::Scan(Scan { body, .. }) | Op::While(While { body, .. })) = op else { return Ok(vec![]) };
    let derivative = body_jvp(body, &moving)?;
    let (mut step, inputs) = started(&format!("{} with tangents", body.name), &inner);
    let (own, theirs) = arguments(&inputs);
    let mut values = inlined(&mut step, &derivative, &[own, theirs].concat())?;
    let mut moved = values.split_off(body.outputs().len());
    let rows = values.split_off(carries);
    let moving_carries = moving[..carries].iter().filter(|moving| **moving).count();
    let moved_rows = moved.split_off(moving_carries);
    give(&mut step, values.into_iter().chain(moved).chain(rows.iter().copied()).chain(moved_rows));
    let all = carries + moving_carries;
    let results = match op {
        Op::Scan(op) => {
            let stacked = operands.len() - bounds[1];
            graph.scan(&operands, op.length.clone(), all, stacked, op.reverse, op.checkpoint, step)
        }
        Op::While(op) => {
            let (mut condition, inputs) = started(&op.condition.name, &inner);
            let (own, _) = arguments(&inputs);
            let goes_on = inlined(&mut condition, &op.condition, &own)?;
            give(&mut condition, goes_on);
            graph.r#while(&operands, all, op.max_iterations.clone(), condition, step)
        }
        _ => vec![],
    };
    let rows = all + rows.len();
    Ok([results.get(carries..all).unwrap_or(&[]), results.get(rows..).unwrap_or(&[])].concat())
}

/// The results of an op with bodies, with the batch in front, or why it takes none.
pub(crate) fn batched(graph: &mut Graph, op: &Op, given: Batched<'_>) -> Result<Vec<Value>, AutodiffError> {
    let batch_of = |body: &Body, flags: &[bool]| {
        let names = picked(&input_names(body), flags);
        let inputs: Vec<(&str, usize)> = names.iter().map(|name| (name.as_str(), 0)).collect();
        vmap(body, &Batching { size: given.size.clone(), inputs: &inputs, output_axis: 0 })
    };
    match op {
        Op::If(op) => {
            let (captures, flags) = (&given.operands[1..], &given.is_batched[1..]);
            let (then, otherwise) = (batch_of(&op.then, flags)?, batch_of(&op.otherwise, flags)?);
            if !given.is_batched[0] {
                return Ok(graph.r#if(given.operands[0], captures, then, otherwise));
            }
            // Elements may go to either side, so both are computed.
            let then = inlined(graph, &then, captures)?;
            let otherwise = inlined(graph, &otherwise, captures)?;
            let pairs = then.into_iter().zip(otherwise);
            Ok(pairs.map(|(then, otherwise)| choose(graph, given.operands[0], then, otherwise)).collect())
        }
        Op::Scan(op) => {
            let (mut operands, mut flags) = (given.operands.to_vec(), given.is_batched.to_vec());
            batch_carries(graph, &mut operands, &mut flags, op.carries, given.size);
            let fixed = operands.len() - op.stacked;
            for index in (fixed..operands.len()).filter(|&index| flags[index]) {
                operands[index] = graph.move_axis(operands[index], 0, 1);
            }
            let op = Scan { body: batch_of(&op.body, &flags)?.into(), ..op.clone() };
            let carries = op.carries;
            let mut results = graph.push_all(op, &operands);
            for result in results.iter_mut().skip(carries) {
                *result = graph.move_axis(*result, 1, 0);
            }
            Ok(results)
        }
        Op::While(op) => {
            let (mut operands, mut flags) = (given.operands.to_vec(), given.is_batched.to_vec());
            batch_carries(graph, &mut operands, &mut flags, op.carries, given.size);
            let (one, each) = (batch_of(&op.condition, &flags)?, batch_of(&op.body, &flags)?);
            let all = types(graph, &operands);
            // The loop goes on while an element does; those that do not keep what they have.
            let (mut condition, inputs) = started(&op.condition.name, &all);
            let goes_on = inlined(&mut condition, &one, &inputs)?;
            let any = condition.reduce(goes_on[0], ReduceKind::Any, vec![0], false);
            give(&mut condition, [any]);
            let (mut body, inputs) = started(&op.body.name, &all);
            let goes_on = inlined(&mut body, &one, &inputs)?;
            let next = inlined(&mut body, &each, &inputs)?;
            let pairs = next.into_iter().zip(&inputs);
            let next: Vec<Value> =
                pairs.map(|(next, &now)| choose(&mut body, goes_on[0], next, now)).collect();
            give(&mut body, next);
            Ok(graph.r#while(&operands, op.carries, op.max_iterations.clone(), condition, body))
        }
        _ => Ok(vec![]),
    }
}

/// Carries that meet a batch have one from the start.
fn batch_carries(graph: &mut Graph, operands: &mut [Value], flags: &mut [bool], carries: usize, size: &Dim) {
    for index in (0..carries).filter(|&index| !std::mem::replace(&mut flags[index], true)) {
        operands[index] = graph.expand_batch(operands[index], size);
    }
}

/// For each element of the batch one of two values; `condition` is `bool[batch]`.
fn choose(graph: &mut Graph, condition: Value, yes: Value, no: Value) -> Value {
    let rank = graph.try_ty(yes).map_or(0, TensorType::rank);
    let condition = graph.align_batch(condition, rank);
    graph.r#where(condition, yes, no)
}
