//! `lower_control_flow`: takes away the control flow that is decided, and what control flow computes for nobody.
//!
//! ```text
//! %p = constant {value = bool[]:[true]}
//! %y = if %p, %x {then = graph "a" { .. }, ..}     =>    the nodes of "a" on %x
//! %y = custom_fn %x {body = graph "f" { .. }, ..}  =>    the nodes of "f" on %x
//! %y = scan %h, %xs {length = 1, ..}               =>    the nodes of its body, once
//! ```
//!
//! Scans of at most as many steps as the options say become their steps. Of what stays, results that nothing uses go,
//! with the carries that only they need, the operands that no body reads any more and dead nodes. What stays becomes branches and
//! loops in LIR. Preconditions: none; a predicate is known when it is a constant. Nothing moves out of a body that
//! may not run, so a fault stays where it was.

use crate::pass::{OptError, Pass, PassContext, run_pass};
use crate::rewrite::{Rewriter, Rewritten, invalid, live_nodes};
use rlx_ir::ops::{CustomFn, If, Scan};
use rlx_ir::{Body, Dim, Graph, Node, Op, Value};
use std::collections::{BTreeMap, HashSet};

/// See the module.
pub struct LowerControlFlow;

impl Pass for LowerControlFlow {
    fn name(&self) -> &'static str {
        "lower_control_flow"
    }

    fn run(&self, graph: Graph, context: &PassContext<'_>) -> Result<Rewritten, OptError> {
        let mut all = Rewritten::unchanged(graph);
        // What one loop needs no longer, another one may have computed for it alone; what is known of a branch may decide
        // one inside.
        while all.graph.nodes().iter().any(|node| !node.op.bodies().is_empty()) {
            let (next, changed) = once(&all.graph, context)?;
            all = all.then(next);
            if !changed {
                break;
            }
        }
        Ok(all)
    }
}

/// The pass over the nodes of `graph` that something needs, and whether it changed one.
fn once(graph: &Graph, context: &PassContext<'_>) -> Result<(Rewritten, bool), OptError> {
    let live = live_nodes(graph);
    let nodes = || graph.iter().filter(|(id, _)| live[id.0 as usize]);
    let mut used: HashSet<Value> = nodes().flat_map(|(_, node)| node.operands.iter().copied()).collect();
    used.extend(graph.outputs().iter().chain(graph.updates()).map(|result| result.value));
    let (mut rewriter, mut any) = (Rewriter::new(graph), false);
    for (id, node) in nodes() {
        rewriter.begin([id]);
        let operands = rewriter.operands(node);
        rewriter.new.set_path(&node.origin.path);
        let mut values = decided(&mut rewriter.new, node, &operands, context.options.unroll)?;
        if values.is_none() {
            let used = (0..node.types.len() as u32).map(|result| used.contains(&Value { node: id, result }));
            values = pruned(&mut rewriter, node, &operands, used.collect(), context)?;
        }
        any |= values.is_some();
        let values = values.map_or_else(|| rewriter.push(node, &operands), Ok)?;
        rewriter.map(id, values);
    }
    rewriter.new.set_path("");
    Ok((rewriter.finish()?, any))
}

/// The results of a node of which it is known what runs.
fn decided(
    graph: &mut Graph,
    node: &Node,
    operands: &[Value],
    unroll: usize,
) -> Result<Option<Vec<Value>>, OptError> {
    let constant = |graph: &Graph, value: Value| match graph.op(value) {
        Op::Constant(constant) => Some(constant.value.to_ints()[0] != 0),
        _ => None,
    };
    let inlined = match &node.op {
        Op::CustomFn(CustomFn { body, .. }) => body.inline(graph, operands),
        Op::If(If { then, otherwise }) => match constant(graph, operands[0]) {
            Some(true) => then.inline(graph, &operands[1..]),
            Some(false) => otherwise.inline(graph, &operands[1..]),
            None => return Ok(None),
        },
        Op::While(op) if constant(&op.condition, op.condition.outputs()[0].value) == Some(false) => {
            Ok(operands[..op.carries].to_vec())
        }
        Op::Scan(op) => match op.length.as_static() {
            Some(length) if length as usize <= unroll => {
                return Ok(Some(unrolled(graph, op, length, operands)?));
            }
            _ => return Ok(None),
        },
        _ => return Ok(None),
    };
    inlined.map(Some).map_err(invalid)
}

/// The steps of a scan, one after the other.
fn unrolled(graph: &mut Graph, op: &Scan, length: i64, operands: &[Value]) -> Result<Vec<Value>, OptError> {
    let (fixed, stacked) = operands.split_at(operands.len() - op.stacked);
    let mut values = fixed.to_vec();
    let mut rows: Vec<Vec<Value>> = vec![vec![]; op.body.outputs().len() - op.carries];
    for step in 0..length {
        let position = if op.reverse { length - 1 - step } else { step };
        for &value in stacked {
            let row = graph.narrow(value, 0usize, Dim::from(position), Dim::from(1));
            values.push(graph.squeeze(row, 0));
        }
        let mut next = op.body.inline(graph, &values).map_err(invalid)?;
        for (rows, value) in rows.iter_mut().zip(next.split_off(op.carries)) {
            let row = graph.unsqueeze(value, 0);
            rows.insert(if op.reverse { 0 } else { rows.len() }, row);
        }
        values.truncate(fixed.len());
        values.splice(..op.carries, next);
    }
    values.truncate(op.carries);
    for (rows, output) in rows.into_iter().zip(&op.body.outputs()[op.carries..]) {
        let ty = op.body.ty(output.value);
        let dims: Vec<Dim> = [Dim::from(0)].into_iter().chain(ty.shape.dims().iter().cloned()).collect();
        values.push(match &rows[..] {
            [] => graph.full(ty.dtype, dims, 0.0),
            [row] => *row,
            rows => graph.concat(rows, 0usize),
        });
    }
    Ok(values)
}

/// What a loop feeds back, and where its bodies find the operands.
struct Form<'a> {
    carries: usize,
    /// Operands before those of the bodies.
    before: usize,
    /// Bodies that give the results.
    giving: Vec<&'a Body>,
    /// A body whose one result is always needed.
    condition: Option<&'a Body>,
}

impl<'a> Form<'a> {
    fn of(op: &'a Op) -> Option<Form<'a>> {
        let (carries, before, condition) = (0, 0, None);
        Some(match op {
            Op::If(op) => Form { carries, before: 1, giving: vec![&op.then, &op.otherwise], condition },
            Op::Scan(op) => Form { carries: op.carries, before, giving: vec![&op.body], condition },
            Op::While(op) => {
                Form { carries: op.carries, before, giving: vec![&op.body], condition: Some(&op.condition) }
            }
            _ => return None,
        })
    }

    /// Which results and which operands of the bodies are needed when the results `used` are.
    fn needed(&self, mut results: Vec<bool>, operands: usize) -> (Vec<bool>, Vec<bool>) {
        loop {
            let mut live = vec![false; operands];
            let mut see = |body: &Body, results: &[bool]| {
                for (live, input) in live.iter_mut().zip(live_inputs(body, results)) {
                    *live |= input;
                }
            };
            self.giving.iter().for_each(|body| see(body, &results));
            self.condition.iter().for_each(|body| see(body, &[true]));
            let fed_back: Vec<usize> =
                (0..self.carries).filter(|&index| live[index] && !results[index]).collect();
            if fed_back.is_empty() {
                for (live, needed) in live.iter_mut().zip(&results).take(self.carries) {
                    *live |= needed;
                }
                return (results, live);
            }
            fed_back.into_iter().for_each(|index| results[index] = true);
        }
    }
}

/// Which inputs of `body` the results `needed` depend on.
fn live_inputs(body: &Body, needed: &[bool]) -> Vec<bool> {
    let mut graph = Graph::clone(body);
    let outputs = body.outputs().iter().zip(needed).filter(|(_, needed)| **needed);
    graph.set_outputs(outputs.map(|(output, _)| (output.name.as_str(), output.value)));
    let uses = {
        let live = live_nodes(&graph);
        let users = graph.iter().filter(|(id, _)| live[id.0 as usize]);
        let operands: Vec<Value> = users.flat_map(|(_, node)| node.operands.iter().copied()).collect();
        operands.into_iter().chain(graph.outputs().iter().map(|output| output.value)).collect::<Vec<_>>()
    };
    body.inputs().iter().map(|input| uses.contains(input)).collect()
}

/// `body` with those inputs and outputs alone.
fn restricted(body: &Body, inputs: &[bool], outputs: &[bool]) -> Result<Graph, OptError> {
    let mut graph = Graph::clone(body);
    let kept = body.outputs().iter().zip(outputs).filter(|(_, kept)| **kept);
    graph.set_outputs(kept.map(|(output, _)| (output.name.as_str(), output.value)));
    let live = live_nodes(&graph);
    let dropped: Vec<Value> =
        body.inputs().into_iter().zip(inputs).filter(|(_, kept)| !**kept).map(|(input, _)| input).collect();
    let (mut new, mut map) = (graph.emptied(), BTreeMap::new());
    for (id, node) in graph.iter() {
        if !live[id.0 as usize] || dropped.contains(&Value::first(id)) {
            continue;
        }
        let operands: Vec<Value> = node.operands.iter().map(|operand| map[operand]).collect();
        let values = new.copy_node(node, &operands).map_err(invalid)?;
        map.extend(
            values
                .into_iter()
                .enumerate()
                .map(|(result, value)| (Value { node: id, result: result as u32 }, value)),
        );
    }
    new.set_outputs(graph.outputs().iter().map(|output| (output.name.as_str(), map[&output.value])));
    Ok(new)
}

/// The node without the results that nothing uses and without what only they need; `None` where all is needed.
fn pruned(
    rewriter: &mut Rewriter<'_>,
    node: &Node,
    operands: &[Value],
    used: Vec<bool>,
    context: &PassContext<'_>,
) -> Result<Option<Vec<Value>>, OptError> {
    let Some(form) = Form::of(&node.op).filter(|_| used.contains(&true)) else { return Ok(None) };
    let (results, live) = form.needed(used, operands.len() - form.before);
    if results.iter().chain(&live).all(|needed| *needed) {
        return Ok(None);
    }
    let kept = |range: &[bool]| range.iter().filter(|kept| **kept).count();
    let mut op = node.op.clone();
    let body = |body: &mut Body, results: &[bool]| {
        let restricted = restricted(body, &live, results)?;
        *body = run_pass(&LowerControlFlow, restricted, context)?.graph.into();
        Ok::<(), OptError>(())
    };
    match &mut op {
        Op::If(op) => {
            body(&mut op.then, &results)?;
            body(&mut op.otherwise, &results)?;
        }
        Op::While(op) => {
            body(&mut op.condition, &[true])?;
            body(&mut op.body, &results)?;
            op.carries = kept(&results);
        }
        Op::Scan(op) => {
            body(&mut op.body, &results)?;
            op.stacked = kept(&live[live.len() - op.stacked..]);
            op.carries = kept(&results[..op.carries]);
        }
        _ => {}
    }
    let (first, rest) = operands.split_at(form.before);
    let rest = rest.iter().zip(&live).filter(|(_, live)| **live).map(|(value, _)| value);
    let operands: Vec<Value> = first.iter().chain(rest).copied().collect();
    let mut values = rewriter.push_op(op, &operands, node)?.into_iter();
    let values = results.iter().map(|kept| if *kept { values.next() } else { None });
    Ok(Some(values.map(|value| value.unwrap_or(Value::POISON)).collect()))
}
