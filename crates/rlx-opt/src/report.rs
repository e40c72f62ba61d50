//! What became of every node of a graph: by pass, by kind of op, node by node.
//!
//! Every original node is accounted for: it is in the final graph, alone or
//! with others in one node, or the pass that dropped it is named. All reports
//! are read off one record, which follows nodes through the passes.

use crate::lower::Placement;
use crate::pass::Pass;
use crate::rewrite::{Dispatch, Remark, Rewritten};
use rlx_ir::{Graph, NodeId, OpKind};
use std::collections::BTreeMap;
use std::fmt;

/// The record of one compilation. Node ids are those of the graph that was compiled.
#[derive(Clone, Debug, Default)]
pub struct CompileReport {
    /// Name of the target.
    pub target: &'static str,
    originals: Vec<(OpKind, String)>,
    passes: Vec<PassSummary>,
    remarks: Vec<(&'static str, Vec<NodeId>, Remark)>,
    /// Per original node, the pass after which nothing stands for it.
    dropped: Vec<Option<&'static str>>,
    /// Per node of the final graph, its kind and the original nodes that it stands for.
    finals: Vec<(OpKind, Vec<NodeId>)>,
    placements: Vec<Placement>,
}

/// What one pass did to the size of the graph.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PassSummary {
    /// The pass.
    pub pass: &'static str,
    /// Nodes before it.
    pub before: usize,
    /// Nodes after it.
    pub after: usize,
}

/// Original nodes of one kind, by what became of them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct DispatchCounts {
    /// Run by a kernel, a region or as movement, as they are.
    pub native: usize,
    /// Run by their definition.
    pub decomposed: usize,
    /// Replaced, folded, merged or dropped before the target was asked.
    pub rewritten: usize,
    /// Not supported by the target.
    pub missing: usize,
}

/// Per kind of op, what became of its nodes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DispatchReport {
    /// Name of the target.
    pub target: &'static str,
    /// The counts; every kind that occurs is there.
    pub kinds: BTreeMap<OpKind, DispatchCounts>,
}

/// Original nodes that one final node or one step computes together.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fusion {
    /// The final node: a region, a fused op, or the last node of a step.
    pub into: OpKind,
    /// The original nodes, ascending.
    pub nodes: Vec<NodeId>,
    /// Number of the step in the main stage, when one runs it.
    pub step: Option<usize>,
}

impl CompileReport {
    /// Starts the record for `graph`.
    pub fn new(graph: &Graph, target: &'static str) -> CompileReport {
        let original = |node: &rlx_ir::Node| {
            let name = node.op.leaf_name().map(|name| format!(" {name:?}")).unwrap_or_default();
            let path =
                if node.origin.path.is_empty() { String::new() } else { format!(" ({})", node.origin.path) };
            (node.op.kind(), format!("{}{name}{path}", node.op.def().name))
        };
        CompileReport {
            target,
            originals: graph.nodes().iter().map(original).collect(),
            dropped: vec![None; graph.nodes().len()],
            finals: graph.iter().map(|(id, node)| (node.op.kind(), vec![id])).collect(),
            ..CompileReport::default()
        }
    }

    /// Records what a pass gave.
    pub fn follow(&mut self, pass: &'static dyn Pass, rewritten: &Rewritten) {
        let before = self.finals.len();
        for note in &rewritten.notes {
            let nodes = self.finals[note.node.0 as usize].1.clone();
            self.remarks.push((pass.name(), nodes, note.remark.clone()));
        }
        if let Some(sources) = &rewritten.sources {
            let mut finals: Vec<(OpKind, Vec<NodeId>)> = Vec::with_capacity(sources.len());
            for (node, sources) in rewritten.graph.nodes().iter().zip(sources) {
                let mut nodes: Vec<NodeId> =
                    sources.iter().flat_map(|source| &self.finals[source.0 as usize].1).copied().collect();
                nodes.sort_unstable();
                nodes.dedup();
                finals.push((node.op.kind(), nodes));
            }
            let mut stands = vec![false; self.originals.len()];
            finals.iter().flat_map(|(_, nodes)| nodes).for_each(|node| stands[node.0 as usize] = true);
            for (stands, dropped) in stands.iter().zip(&mut self.dropped) {
                if !stands && dropped.is_none() {
                    *dropped = Some(pass.name());
                }
            }
            self.finals = finals;
        }
        self.passes.push(PassSummary { pass: pass.name(), before, after: self.finals.len() });
    }

    /// Records where the lowering put every final node.
    pub fn place(&mut self, placements: &[Placement]) {
        self.placements = placements.to_vec();
    }

    /// What each pass did to the size of the graph, in order.
    pub fn passes(&self) -> &[PassSummary] {
        &self.passes
    }

    /// Per kind of op: native, decomposed, rewritten, missing.
    pub fn dispatch(&self) -> DispatchReport {
        let mut outcomes: Vec<Option<&Dispatch>> = vec![None; self.originals.len()];
        let mut rewritten: Vec<bool> = self.dropped.iter().map(Option::is_some).collect();
        for (_, nodes, remark) in &self.remarks {
            for node in nodes.iter().map(|node| node.0 as usize) {
                match remark {
                    // A definition comes before its parts; only what is missing inside changes the verdict.
                    Remark::Dispatched { dispatch, .. } => {
                        if outcomes[node].is_none() || matches!(dispatch, Dispatch::Missing(_)) {
                            outcomes[node] = Some(dispatch);
                        }
                    }
                    // What happens after the target was asked happens to its kernels.
                    Remark::Simplified(_) | Remark::Fused(_) => rewritten[node] |= outcomes[node].is_none(),
                    Remark::Clamped(_) | Remark::Checked(_) => {}
                }
            }
        }
        let mut report = DispatchReport { target: self.target, ..DispatchReport::default() };
        for ((kind, _), (outcome, rewritten)) in self.originals.iter().zip(outcomes.iter().zip(rewritten)) {
            let counts = report.kinds.entry(*kind).or_default();
            match outcome {
                Some(Dispatch::Missing(_)) => counts.missing += 1,
                _ if rewritten => counts.rewritten += 1,
                Some(Dispatch::Decomposed(_)) => counts.decomposed += 1,
                Some(Dispatch::Native | Dispatch::Free) | None => counts.native += 1,
            }
        }
        report
    }

    /// Final nodes and steps that compute several original nodes, definitions left out.
    pub fn fusions(&self) -> Vec<Fusion> {
        let mut by_step: BTreeMap<usize, (OpKind, Vec<NodeId>)> = BTreeMap::new();
        let mut fusions = vec![];
        for (index, (kind, nodes)) in self.finals.iter().enumerate() {
            let nodes: Vec<NodeId> = nodes.iter().copied().filter(|node| self.computes(*node)).collect();
            match self.placements.get(index) {
                Some(Placement::Step(step)) => {
                    let entry = by_step.entry(*step).or_insert((*kind, vec![]));
                    entry.0 = *kind;
                    entry.1.extend(nodes);
                }
                _ => fusions.push(Fusion { into: *kind, nodes, step: None }),
            }
        }
        fusions.extend(by_step.into_iter().map(|(step, (into, mut nodes))| {
            nodes.sort_unstable();
            nodes.dedup();
            Fusion { into, nodes, step: Some(step) }
        }));
        fusions.retain(|fusion| fusion.nodes.len() > 1);
        fusions
    }

    fn computes(&self, node: NodeId) -> bool {
        let kind = self.originals[node.0 as usize].0;
        !matches!(kind, OpKind::Input | OpKind::Param | OpKind::State | OpKind::Constant)
    }

    /// Where the final nodes that stand for an original node were put; none when nothing stands for it.
    pub fn places(&self, node: NodeId) -> impl Iterator<Item = &Placement> {
        let stands =
            self.finals.iter().zip(&self.placements).filter(move |((_, nodes), _)| nodes.contains(&node));
        stands.map(|(_, placement)| placement)
    }

    /// Everything that is known of one original node, a line each; empty for a foreign id.
    pub fn why(&self, node: NodeId) -> Vec<String> {
        let Some((_, label)) = self.originals.get(node.0 as usize) else { return vec![] };
        let mut lines = vec![format!("%{} {label}", node.0)];
        for (pass, nodes, remark) in &self.remarks {
            if nodes.contains(&node) {
                lines.push(format!("{pass}: {remark}"));
            }
        }
        if let Some(pass) = self.dropped[node.0 as usize] {
            lines.push(format!("{pass}: nothing stands for it any more"));
        }
        for (index, (kind, nodes)) in self.finals.iter().enumerate() {
            if nodes.contains(&node) {
                let place = match self.placements.get(index) {
                    Some(Placement::Buffer) => "a buffer".to_owned(),
                    Some(Placement::View) => "a view".to_owned(),
                    Some(Placement::Step(step)) => format!("step {step}"),
                    Some(Placement::Prepared) => "prepared when weights are bound".to_owned(),
                    Some(Placement::Inlined) => "part of a program".to_owned(),
                    None => "not lowered".to_owned(),
                };
                lines.push(format!("now %{index} {kind}: {place}"));
            }
        }
        lines
    }
}

impl fmt::Display for DispatchReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{:<24} {:>8} {:>10} {:>9} {:>7}", "op", "native", "decomposed", "rewritten", "missing")?;
        for (kind, counts) in &self.kinds {
            let DispatchCounts { native, decomposed, rewritten, missing } = counts;
            writeln!(f, "{:<24} {native:>8} {decomposed:>10} {rewritten:>9} {missing:>7}", kind.def().name)?;
        }
        Ok(())
    }
}

impl fmt::Display for CompileReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "compiled {} nodes for {}", self.originals.len(), self.target)?;
        for PassSummary { pass, before, after } in &self.passes {
            writeln!(f, "  {pass}: {before} -> {after} nodes")?;
        }
        for fusion in self.fusions() {
            let nodes: Vec<_> = fusion
                .nodes
                .iter()
                .map(|node| format!("%{} {}", node.0, self.originals[node.0 as usize].1))
                .collect();
            let step = fusion.step.map(|step| format!("step {step} ")).unwrap_or_default();
            writeln!(f, "  {step}{}: {}", fusion.into, nodes.join(", "))?;
        }
        write!(f, "{}", self.dispatch())
    }
}
