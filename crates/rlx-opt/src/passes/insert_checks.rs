//! `insert_checks`: what happens to integer operands with values that their op does not take.
//!
//! ```text
//! %y = gather %table, %i {axis = 0}    =>    %c = clamp %i, %zero, %last       with checks = clamp
//!                                            %y = gather %table, %c {axis = 0}
//!
//! %y = gather %table, %i {axis = 0}    =>    %y = gather %table, %i {axis = 0} with checks = on, where
//!                                            %o = compare %i, %rows {kind = ge}      kernels do not check
//!                                            ..
//!                                            %w = reduce %p {kind = min, ..}
//!                                            output "faults" = %w
//! ```
//!
//! The ranges are those that ops declare ([`rlx_ir::ValueRange`]). A check gives one word: the position of the first
//! element outside, or `i64::MAX` where there is none; the words of all checks are the last output of the graph, and
//! the notes say in the same order what each word checks. Where kernels check values themselves, nothing is inserted
//! but clamps; then checks cannot be off. An empty range cannot be clamped to: a value of it stays a fault.
//!
//! What bodies find comes out of their op as one more result, with the node named after its body; values in the
//! condition of a loop cannot be checked and are refused.
//!
//! Preconditions: none. Ops stand as the caller wrote them where the pass runs before `decompose_unclaimed`, and
//! their definitions fault on no value that passes. It does not decide what an unchecked access does.

use crate::options::Checks;
use crate::pass::{OptError, Pass, PassContext};
use crate::rewrite::{Remark, Rewriter, Rewritten};
use rlx_ir::lir::{FaultCheck, node_origin};
use rlx_ir::ops::{CompareKind, ReduceKind};
use rlx_ir::{
    DType, Diagnostic, Dim, Graph, Literal, Node, NodeId, Op, OpKind, Shape, TensorType, Value, ValueRange,
    ValueWindow,
};
use std::collections::BTreeMap;

/// See the module.
pub struct InsertChecks;

impl Pass for InsertChecks {
    fn name(&self) -> &'static str {
        "insert_checks"
    }

    fn enters_bodies(&self) -> bool {
        true
    }

    fn run(&self, graph: Graph, context: &PassContext<'_>) -> Result<Rewritten, OptError> {
        let (policy, native) = (context.options.checks, context.capabilities.checks_values);
        match (policy, native) {
            (Checks::Off, true) => {
                let name = context.capabilities.name;
                let reason = format!("the kernels of {name} check values always; choose on or clamp");
                return Err(OptError::Option { option: "checks", reason });
            }
            (Checks::On, true) | (Checks::Off, false) => return Ok(Rewritten::unchanged(graph)),
            (Checks::On, false) | (Checks::Clamp, _) => {}
        }
        let mut checks = Checking { clamps: policy == Checks::Clamp, native, refused: vec![] };
        let (rewritten, words) = checks.graph(&graph, "")?;
        if !checks.refused.is_empty() {
            return Err(OptError::Unsupported { backend: context.capabilities.name, nodes: checks.refused });
        }
        Ok(with_words(rewritten, words))
    }
}

/// The graph with its fault words, where there are any, as its last output.
fn with_words(mut rewritten: Rewritten, words: Option<Value>) -> Rewritten {
    if let Some(words) = words {
        let name = free_name(&rewritten.graph);
        rewritten.graph.output(name, words);
    }
    rewritten
}

struct Checking {
    clamps: bool,
    native: bool,
    refused: Vec<Diagnostic>,
}

impl Checking {
    /// The checked graph and its fault words; the checks stand in the notes. `path` stands before the names of nodes.
    fn graph(&mut self, graph: &Graph, path: &str) -> Result<(Rewritten, Option<Value>), OptError> {
        let mut rewriter = Rewriter::new(graph);
        let mut words = vec![];
        for (id, node) in graph.iter() {
            let types: Vec<&TensorType> = node.operands.iter().map(|&operand| graph.ty(operand)).collect();
            rewriter.begin([id]);
            rewriter.new.set_path(&node.origin.path);
            let mut operands = rewriter.operands(node);
            let origin = format!("{path}{}", node_origin(graph, id));
            if node.op.is_control_flow() {
                let values = self.bodies(&mut rewriter, node, id, &operands, &origin, &mut words)?;
                rewriter.map(id, values);
                continue;
            }
            for range in node.op.value_ranges(&types).iter().filter(|range| !range.windows.is_empty()) {
                let name = node.op.operand_name(range.operand);
                if self.clamps {
                    operands[range.operand] = clamped(&mut rewriter.new, operands[range.operand], range);
                    rewriter.note(id, Remark::Clamped(name));
                }
                if !self.native && (!self.clamps || may_be_empty(graph, range)) {
                    words.push(fault_word(&mut rewriter.new, &operands, range));
                    let check = FaultCheck { node: origin.clone(), operand: name.into() };
                    rewriter.note(id, Remark::Checked(check));
                }
            }
            let values = rewriter.push(node, &operands)?;
            rewriter.map(id, values);
        }
        rewriter.new.set_path("");
        let words = (!words.is_empty()).then(|| rewriter.new.concat(&words, 0usize));
        Ok((rewriter.finish()?, words))
    }

    /// The node with checked bodies. Their words come out of it as one more result: those of the side that does not
    /// run are neutral, and a loop carries the smallest ones along.
    fn bodies(
        &mut self,
        rewriter: &mut Rewriter<'_>,
        node: &Node,
        id: NodeId,
        operands: &[Value],
        origin: &str,
        words: &mut Vec<Value>,
    ) -> Result<Vec<Value>, OptError> {
        let (mut bodies, mut counts) = (vec![], vec![]);
        for (name, body) in node.op.bodies() {
            let path = format!("{origin} {name}: ");
            let (rewritten, found) = self.graph(body, &path)?;
            let mut count = 0;
            for note in &rewritten.notes {
                let is_check = matches!(note.remark, Remark::Checked(_));
                if is_check && name == "condition" {
                    let reason = "values in a condition cannot be checked; compute them in the body";
                    self.refused.push(Diagnostic::new(format!("{path}%{}", note.node.0), reason));
                    continue;
                }
                count += usize::from(is_check);
                rewriter.note(id, note.remark.clone());
            }
            bodies.push(with_words(rewritten, found.filter(|_| count > 0)).graph);
            counts.push(count);
        }
        let total: usize = counts.iter().sum();
        let (mut op, mut operands) = (node.op.clone(), operands.to_vec());
        if total > 0 {
            let carries = match &mut op {
                Op::Scan(scan) => Some(&mut scan.carries),
                Op::While(looped) => Some(&mut looped.carries),
                _ => None,
            };
            if let Some(carries) = carries {
                let none = neutral(&mut rewriter.new, total);
                operands.insert(*carries, none);
                let with = bodies
                    .iter()
                    .zip(&counts)
                    .map(|(body, count)| carrying(body, *carries, total, *count > 0));
                bodies = with.collect::<Result<_, _>>()?;
                *carries += 1;
            } else {
                let mut before = 0;
                for (body, count) in bodies.iter_mut().zip(&counts) {
                    widen(body, before, *count, total);
                    before += count;
                }
            }
        }
        for (slot, body) in op.bodies_mut().into_iter().zip(bodies) {
            *slot = body.into();
        }
        let mut values = rewriter.push_op(op, &operands, node)?;
        if total > 0 {
            let position = node.op.loop_carries().unwrap_or(values.len() - 1);
            words.push(values.remove(position));
        }
        Ok(values)
    }
}

/// `count` words that say nothing.
fn neutral(g: &mut Graph, count: usize) -> Value {
    let none = g.constant(Literal::scalar_i64(i64::MAX));
    g.expand(none, [count])
}

/// Makes the last output of a branch, its `count` words, one of `total` words, of which its own begin at `before`.
fn widen(body: &mut Graph, before: usize, count: usize, total: usize) {
    let mut outputs: Vec<_> =
        body.outputs().iter().map(|output| (output.name.clone(), output.value)).collect();
    let own = (count > 0).then(|| outputs.pop()).flatten().map(|(_, value)| value);
    let mut parts = vec![];
    for (count, value) in [(before, None), (count, own), (total - before - count, None)] {
        if count > 0 {
            parts.push(value.unwrap_or_else(|| neutral(body, count)));
        }
    }
    let words = body.concat(&parts, 0usize);
    body.set_outputs(outputs);
    let name = free_name(body);
    body.output(name, words);
}

/// The body of a loop with one more carry of `total` words at position `carries`. Where it gives words, at the end of
/// its outputs, the next carry is the smaller of the two; a condition gives none.
fn carrying(body: &Graph, carries: usize, total: usize, gives: bool) -> Result<Graph, OptError> {
    let mut new = body.emptied();
    let mut inputs = BTreeMap::new();
    let mut names =
        body.nodes_of(OpKind::Input).filter_map(|(_, node)| Some((node.op.leaf_name()?, &node.types[0])));
    let mut taken = |new: &mut Graph, count: usize| {
        for (name, ty) in names.by_ref().take(count) {
            inputs.insert(name.to_owned(), new.input(name, ty.clone()));
        }
    };
    taken(&mut new, carries);
    let mut name = "faults".to_owned();
    while body.nodes().iter().any(|node| node.op.leaf_name() == Some(&name)) {
        name.push('_');
    }
    let carry = new.input(name, TensorType::new(DType::I64, [total]));
    taken(&mut new, usize::MAX);
    let mut values = new.inline(body, &inputs, &str::to_owned).map_err(crate::rewrite::invalid)?;
    if gives {
        let own = values.pop().expect("the words are the last output");
        values.insert(carries, new.minimum(own, carry));
    }
    new.set_outputs(values.into_iter().enumerate().map(|(index, value)| (format!("result{index}"), value)));
    Ok(new)
}

/// A name that no output has.
fn free_name(graph: &Graph) -> String {
    let mut name = "faults".to_owned();
    while graph.outputs().iter().any(|output| output.name == name) {
        name.push('_');
    }
    name
}

/// Can the symbols be such that no value lies in the range?
fn may_be_empty(graph: &Graph, range: &ValueRange) -> bool {
    let low = |window: &ValueWindow| graph.dim_bounds(&window.limit()).0;
    range.windows.iter().any(|window| low(window).is_none_or(|low| low < 1))
}

/// `x` with every value moved to the nearest one of its range.
fn clamped(g: &mut Graph, x: Value, range: &ValueRange) -> Value {
    let dtype = g.ty(x).dtype;
    let most = match dtype {
        DType::I32 => Some(i64::from(i32::MAX)),
        DType::U32 => Some(i64::from(u32::MAX)),
        _ => None,
    };
    let last = |window: &ValueWindow| {
        let last = (window.limit() - Dim::from(1)).maximum(&Dim::from(0));
        most.map_or(last.clone(), |most| last.minimum(&Dim::from(most)))
    };
    let high = per_window(g, dtype, range, last);
    let low = g.scalar(dtype, 0.0);
    let moved = g.clamp(x, Some(low), Some(high));
    match is_except(g, x, range) {
        Some(is_except) => g.r#where(is_except, x, moved),
        None => moved,
    }
}

/// Where `x` has the value that the range leaves out.
fn is_except(g: &mut Graph, x: Value, range: &ValueRange) -> Option<Value> {
    let except = g.constant(Literal::scalar_i64(range.except?));
    let wide = g.cast_to(x, DType::I64);
    Some(g.compare(wide, except, CompareKind::Eq))
}

/// The position of the first element outside `range` as `i64[1]`, or `i64::MAX`.
fn fault_word(g: &mut Graph, operands: &[Value], range: &ValueRange) -> Value {
    let shape = g.ty(operands[range.operand]).shape.clone();
    let wide = |g: &mut Graph, operand: usize| g.cast_to(operands[operand], DType::I64);
    let (x, zero) = (wide(g, range.operand), g.scalar(DType::I64, 0.0));
    let limit = per_window(g, DType::I64, range, ValueWindow::limit);
    let below = g.compare(x, zero, CompareKind::Lt);
    let beyond = g.compare(x, limit, CompareKind::Ge);
    let mut outside = g.or(below, beyond);
    if range.windows.iter().any(|window| g.dim_bounds(&window.len).0.is_none_or(|low| low < 1)) {
        let touched = per_window(g, DType::I64, range, |window| window.len.clone());
        let touches = g.compare(touched, zero, CompareKind::Gt);
        outside = g.and(outside, touches);
    }
    if let Some(part) = &range.used {
        let lengths = wide(g, part.lengths);
        let lengths = g.reshape(lengths, vec![shape[0].clone(), Dim::from(1)]);
        let number = g.iota(DType::I64, vec![Dim::from(1), shape[1].clone()], 1usize);
        let step = g.constant(Literal::scalar_i64(part.step as i64));
        let first = g.mul(number, step);
        let used = g.compare(first, lengths, CompareKind::Lt);
        outside = g.and(outside, used);
    }
    if let Some(is_except) = is_except(g, x, range) {
        let counts = g.not(is_except);
        outside = g.and(outside, counts);
    }
    let count = vec![shape.num_elements()];
    let outside = g.reshape(outside, count.clone());
    let position = g.iota(DType::I64, count, 0usize);
    let none = g.constant(Literal::scalar_i64(i64::MAX));
    let found = g.r#where(outside, position, none);
    g.reduce(found, ReduceKind::Min, vec![0], true)
}

/// What `of` gives for each window: one value of shape `[]`, or a vector along the last axis of the operand.
fn per_window(g: &mut Graph, dtype: DType, range: &ValueRange, of: impl Fn(&ValueWindow) -> Dim) -> Value {
    let dims: Vec<Dim> = range.windows.iter().map(of).collect();
    let fixed: Option<Vec<i128>> = dims.iter().map(|dim| dim.as_static().map(i128::from)).collect();
    let single = dims.len() == 1;
    if let Some(values) = fixed {
        let extents = [values.len()];
        return g.constant(
            Literal::ints(dtype, if single { &[] } else { &extents }, &values)
                .expect("one value per element"),
        );
    }
    let values: Vec<Value> = dims.into_iter().map(|dim| extent(g, dtype, dim)).collect();
    if single { g.reshape(values[0], Shape::scalar()) } else { g.concat(&values, 0usize) }
}

/// An extent, known once symbols are bound, as a value of shape `[1]`: the sum of as many ones.
fn extent(g: &mut Graph, dtype: DType, dim: Dim) -> Value {
    let ones = g.full(dtype, vec![dim], 1.0);
    g.reduce(ones, ReduceKind::Sum, vec![0], true)
}
