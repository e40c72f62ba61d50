//! From a wrong result to the pass that made it and a small graph that shows it.
//!
//! The caller says what wrong means, with a function that compares a graph with
//! what a pass made of it, on given feeds: by the interpreter, or by running
//! both on a device. The bisector finds the first pass whose result is wrong,
//! takes the graph before that pass, and reduces it while the pass stays wrong:
//! fewer outputs, results moved towards the operands, nodes replaced by inputs
//! that are fed what the interpreter computed.

use crate::pass::{OptError, Pass, PassContext, run_pass};
use crate::pipeline::Pipeline;
use crate::rewrite::invalid;
use rlx_ir::interpret::{Tensors, evaluate};
use rlx_ir::text::print_graph;
use rlx_ir::{Accuracy, Graph, Literal, Op, TensorType, Value};
use std::collections::{BTreeMap, BTreeSet};

/// Compares a graph with what a pass made of it.
///
/// Returns what is wrong with the second graph on the feeds, if anything.
pub type Checker<'a> = dyn FnMut(&Graph, &Graph, &Tensors) -> Result<(), String> + 'a;

/// What the bisector found.
#[derive(Clone, Debug)]
pub struct Bisection {
    /// The first wrong pass; `None` when the graph is wrong without any pass,
    /// so that the fault lies in what runs it.
    pub pass: Option<&'static str>,
    /// Its position in the pipeline.
    pub position: usize,
    /// What the checker, the verifier or the pass said about the small graph.
    pub message: String,
    /// The small graph before the pass.
    pub graph: Graph,
    /// Its feeds.
    pub feeds: Tensors,
    /// The small graph in text form.
    pub text: String,
}

/// A checker that runs both graphs in the interpreter and compares their
/// outputs and states to `accuracy`.
pub fn same_results(accuracy: Accuracy) -> impl FnMut(&Graph, &Graph, &Tensors) -> Result<(), String> {
    move |before, after, feeds| {
        // A graph that the feeds do not fit shows nothing.
        let Ok(expected) = evaluate(before, feeds) else { return Ok(()) };
        let found = evaluate(after, feeds).map_err(|error| error.to_string())?;
        let expected = expected.outputs.into_iter().chain(expected.states);
        let found: BTreeMap<String, Literal> = found.outputs.into_iter().chain(found.states).collect();
        for (name, literal) in expected {
            let other = found.get(&name).ok_or_else(|| format!("{name:?} is missing"))?;
            rlx_ir::accuracy::compare(other, &literal, accuracy, None)
                .map_err(|message| format!("{name:?}: {message}"))?;
        }
        Ok(())
    }
}

/// Finds the first pass of `pipeline` that makes a wrong graph, and a small
/// graph for which it does; `None` when no pass does.
///
/// # Errors
/// An invalid graph, feeds that do not fit it, or a pass that refuses it.
pub fn bisect(
    graph: &Graph,
    feeds: &Tensors,
    pipeline: &Pipeline,
    context: &PassContext<'_>,
    check: &mut Checker<'_>,
) -> Result<Option<Bisection>, OptError> {
    rlx_ir::verify::verify(graph)?;
    evaluate(graph, feeds)?;
    if check(graph, graph, feeds).is_err() {
        return Ok(Some(Reducer { pass: None, context, check }.reduce(0, graph, feeds)));
    }
    let mut current = graph.clone();
    for (position, &pass) in pipeline.passes().iter().enumerate() {
        if !pass.wanted(context.options) {
            continue;
        }
        let mut reducer = Reducer { pass: Some(pass), context, check };
        if reducer.wrong(&current, feeds).is_some() {
            return Ok(Some(reducer.reduce(position, &current, feeds)));
        }
        current = run_pass(pass, current, context)?.graph;
    }
    Ok(None)
}

struct Reducer<'a, 'b> {
    pass: Option<&'static dyn Pass>,
    context: &'a PassContext<'a>,
    check: &'a mut Checker<'b>,
}

impl Reducer<'_, '_> {
    /// What is wrong after the pass on `graph`; `None` for a right result, or
    /// for a graph that the pass refuses.
    fn wrong(&mut self, graph: &Graph, feeds: &Tensors) -> Option<String> {
        let Some(pass) = self.pass else { return (self.check)(graph, graph, feeds).err() };
        match run_pass(pass, graph.clone(), self.context) {
            Ok(rewritten) => match rlx_ir::verify::verify(&rewritten.graph) {
                Ok(()) => (self.check)(graph, &rewritten.graph, feeds).err(),
                Err(error) => Some(format!("the graph is invalid: {error}")),
            },
            Err(OptError::Broken { error, .. }) => Some(format!("the graph is invalid: {error}")),
            Err(_) => None,
        }
    }

    fn reduce(mut self, position: usize, graph: &Graph, feeds: &Tensors) -> Bisection {
        let mut best = Case { graph: graph.clone(), feeds: feeds.clone() };
        loop {
            let size = best.size();
            self.fewer_results(&mut best);
            self.earlier_results(&mut best);
            self.cut_nodes(&mut best);
            if best.size() >= size {
                break;
            }
        }
        let message = self.wrong(&best.graph, &best.feeds).unwrap_or_default();
        let (graph, feeds) = (best.graph, best.feeds);
        let text = print_graph(&graph);
        Bisection { pass: self.pass.map(Pass::name), position, message, graph, feeds, text }
    }

    /// Takes `case` in place of `best` when it is valid and still wrong.
    fn take(&mut self, best: &mut Case, case: Option<Case>) -> bool {
        let Some(case) = case else { return false };
        let valid = rlx_ir::verify::verify(&case.graph).is_ok() && evaluate(&case.graph, &case.feeds).is_ok();
        if !valid || self.wrong(&case.graph, &case.feeds).is_none() {
            return false;
        }
        *best = case;
        true
    }

    /// Keeps one result if it is enough, else drops what is not needed.
    fn fewer_results(&mut self, best: &mut Case) {
        let results = best.results();
        if results.len() > 1
            && results.iter().any(|&result| {
                let case = best.with_results(&[result]);
                self.take(best, case)
            })
        {
            return;
        }
        for result in results {
            let rest: Vec<Value> = best.results().into_iter().filter(|&other| other != result).collect();
            let case = if rest.is_empty() { None } else { best.with_results(&rest) };
            self.take(best, case);
        }
    }

    /// Moves results to operands of the nodes that make them.
    fn earlier_results(&mut self, best: &mut Case) {
        let mut moved = true;
        while moved {
            moved = false;
            let results = best.results();
            for &result in &results {
                let rest = results.iter().copied().filter(|&other| other != result);
                let operands = best.graph.node(result.node).operands.clone();
                let computed = |value: &Value| best.graph.op(*value).leaf_name().is_none();
                let operands: Vec<Value> = operands.into_iter().filter(computed).collect();
                let mut choices: Vec<Vec<Value>> = operands.iter().map(|&operand| vec![operand]).collect();
                choices.push(operands);
                for choice in choices {
                    let results: BTreeSet<Value> = rest.clone().chain(choice).collect();
                    let results: Vec<Value> = results.into_iter().collect();
                    let case = if results.is_empty() { None } else { best.with_results(&results) };
                    if case.as_ref().is_some_and(|case| case.size() < best.size()) && self.take(best, case) {
                        moved = true;
                        break;
                    }
                }
                if moved {
                    break;
                }
            }
        }
    }

    /// Replaces nodes by inputs: in halves, then quarters, down to single nodes.
    fn cut_nodes(&mut self, best: &mut Case) {
        let mut chunk = best.graph.nodes().len().div_ceil(2);
        while chunk > 0 {
            let mut start = 0;
            while start < best.graph.nodes().len() {
                let end = (start + chunk).min(best.graph.nodes().len());
                let case = best.with_cuts(start..end).filter(|case| case.size() < best.size());
                if !self.take(best, case) {
                    start = end;
                }
            }
            chunk /= 2;
        }
    }
}

/// A graph with feeds.
struct Case {
    graph: Graph,
    feeds: Tensors,
}

impl Case {
    /// Computing nodes count most, so that inputs in their place are progress.
    fn size(&self) -> usize {
        let weigh = |op: &Op| if op.leaf_name().is_some() || matches!(op, Op::Constant(_)) { 1 } else { 4 };
        self.graph.nodes().iter().map(|node| weigh(&node.op)).sum::<usize>() + self.results().len()
    }

    fn results(&self) -> Vec<Value> {
        let all = self.graph.outputs().iter().chain(self.graph.updates()).map(|result| result.value);
        all.collect::<BTreeSet<_>>().into_iter().collect()
    }

    /// The same graph with these results only, as outputs.
    fn with_results(&self, results: &[Value]) -> Option<Case> {
        let mut graph = self.graph.clone();
        graph.set_outputs(results.iter().enumerate().map(|(index, &value)| (format!("y{index}"), value)));
        Case { graph, feeds: self.feeds.clone() }.rebuilt(&BTreeMap::new(), true).ok()
    }

    /// The nodes of `range` that others use become inputs.
    fn with_cuts(&self, range: std::ops::Range<usize>) -> Option<Case> {
        let mut probe = self.graph.clone();
        let mut wanted = vec![];
        for (id, node) in self.graph.iter().filter(|(id, _)| range.contains(&(id.0 as usize))) {
            if node.op.leaf_name().is_none() {
                wanted.extend((0..node.types.len() as u32).map(|result| Value { node: id, result }));
            }
        }
        probe.set_outputs(wanted.iter().enumerate().map(|(index, &value)| (format!("cut{index}"), value)));
        let values = evaluate(&probe, &self.feeds).ok()?;
        let cuts = wanted.into_iter().zip(values.outputs.into_iter().map(|(_, literal)| literal)).collect();
        self.rebuilt(&cuts, false).ok()
    }

    /// The graph with `cuts` as inputs, without dead nodes and leaves.
    fn rebuilt(&self, cuts: &BTreeMap<Value, Literal>, outputs_only: bool) -> Result<Case, OptError> {
        let mut graph = Graph::new(self.graph.name.as_str());
        let mut feeds = Tensors::new();
        let needed = self.needed(cuts, outputs_only);
        let mut map: BTreeMap<Value, Value> = BTreeMap::new();
        for (id, node) in self.graph.iter().filter(|(id, _)| needed[id.0 as usize]) {
            let results: Vec<Value> =
                (0..node.types.len() as u32).map(|result| Value { node: id, result }).collect();
            if cuts.contains_key(&results[0]) {
                for (&value, ty) in results.iter().zip(&node.types) {
                    let name = fresh_name(&feeds, &self.feeds);
                    map.insert(value, graph.input(name.as_str(), TensorType::clone(ty)));
                    feeds.insert(name, cuts[&value].clone());
                }
                continue;
            }
            if let Some((name, literal)) = node.op.leaf_name().and_then(|name| self.feeds.get_key_value(name))
            {
                feeds.insert(name.clone(), literal.clone());
            }
            let operands: Vec<Value> = node.operands.iter().map(|operand| map[operand]).collect();
            let values = graph.copy_node(node, &operands).map_err(invalid)?;
            map.extend(results.into_iter().zip(values));
        }
        // Symbols that no node mentions any more could not be bound.
        for (symbol, bounds) in self.graph.symbols() {
            if graph.symbols().contains_key(symbol) {
                graph.bound_symbol(symbol, *bounds);
            }
        }
        for output in self.graph.outputs() {
            graph.output(output.name.as_str(), map[&output.value]);
        }
        for update in self.graph.updates().iter().filter(|_| !outputs_only) {
            graph.update_state(update.name.as_str(), map[&update.value]);
        }
        Ok(Case { graph, feeds })
    }

    /// Nodes that results need when `cuts` are inputs; states with an update count as needed.
    fn needed(&self, cuts: &BTreeMap<Value, Literal>, outputs_only: bool) -> Vec<bool> {
        let mut needed = vec![false; self.graph.nodes().len()];
        for output in self.graph.outputs() {
            needed[output.value.node.0 as usize] = true;
        }
        if !outputs_only {
            for update in self.graph.updates() {
                needed[update.value.node.0 as usize] = true;
                let state = self.graph.iter().find(|(_, node)| node.op.leaf_name() == Some(&update.name));
                needed[state.map_or(update.value.node.0, |(id, _)| id.0) as usize] = true;
            }
        }
        for (id, node) in self.graph.iter().rev() {
            if needed[id.0 as usize] && !cuts.contains_key(&Value::first(id)) {
                node.operands.iter().for_each(|operand| needed[operand.node.0 as usize] = true);
            }
        }
        needed
    }
}

fn fresh_name(new: &Tensors, old: &Tensors) -> String {
    let taken = |name: &String| new.contains_key(name) || old.contains_key(name);
    let mut names = (0..).map(|index| format!("cut{index}"));
    names.find(|name| !taken(name)).unwrap_or_default()
}
