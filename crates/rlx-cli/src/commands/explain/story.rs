//! Everything that `rlx explain` tells, as plain data.

use crate::options::DimArgs;
use rlx::ir::NodeId;
use rlx::ir::lir::{BufferId, KernelStep, LirModule, Operand, Repeat, Step};
use rlx::opt::{Compiled, DispatchReport, PassSummary, Placement};
use rlx::{Bindings, Graph, GraphModule, MemoryUse, OpKind, RuntimeError, Session};
use serde_json::{Value, json};
use std::collections::BTreeMap;

/// One node of the model.
pub struct NodeStory {
    /// `%4 matmul`.
    pub node: String,
    /// Block path, or empty.
    pub block: String,
    /// Type of its first result.
    pub ty: String,
    /// Where it ended: one of [`NodeStory::FATES`].
    pub fate: &'static str,
    /// The steps that compute it.
    pub steps: Vec<usize>,
    /// What happened to it, in order.
    pub history: Vec<String>,
}

impl NodeStory {
    /// Every fate that a node can have.
    pub const FATES: [&'static str; 6] = ["step", "prepare stage", "buffer", "view", "inlined", "removed"];
}

/// One step.
pub struct StepStory {
    /// What it stands for: `%3 matmul`.
    pub origin: String,
    /// Its anchor, or `region`; `branch` or `loop` for a step that holds those after it that are deeper.
    pub kernel: String,
    /// Number of steps around it.
    pub depth: usize,
    /// Elementwise instructions before the anchor.
    pub before: usize,
    /// Elementwise instructions after it.
    pub after: usize,
    /// Buffers that it reads.
    pub reads: Vec<u32>,
    /// Buffers that it writes.
    pub writes: Vec<u32>,
}

/// One buffer of the arena.
pub struct ArenaSlot {
    /// Input, output or node name.
    pub name: String,
    /// `input`, `output` or `temporary`.
    pub kind: &'static str,
    /// Distance from the start, in bytes.
    pub offset: usize,
    /// Size in bytes.
    pub size: usize,
    /// First step that touches it.
    pub first: usize,
    /// Last step that touches it.
    pub last: usize,
}

/// All of it.
pub struct Story {
    /// Name of the model.
    pub name: String,
    /// Where it would run.
    pub device: String,
    /// The stages it went through, each with its size.
    pub stages: Vec<(&'static str, String)>,
    /// The passes.
    pub passes: Vec<PassSummary>,
    /// Per kind of op, how its nodes run.
    pub dispatch: DispatchReport,
    /// Every node of the model.
    pub nodes: Vec<NodeStory>,
    /// Every step.
    pub steps: Vec<StepStory>,
    /// Names of all buffers of the module.
    pub buffers: Vec<(String, &'static str)>,
    /// The extents that sizes are for.
    pub extents: BTreeMap<String, i64>,
    /// The arena at those extents.
    pub slots: Vec<ArenaSlot>,
    /// Bytes of all values of a run (inputs, intermediates, outputs) had nothing been fused or shared.
    pub apart: u64,
    /// Memory of a run.
    pub memory: MemoryUse,
}

/// Gathers the story of a compilation.
pub fn tell(
    module: &GraphModule,
    graph: &Graph,
    compiled: &Compiled,
    session: &Session,
    dims: &DimArgs,
) -> anyhow::Result<Story> {
    let lir = &*compiled.module;
    let bindings = dims.over(default_extents(lir), lir)?;
    let layout = lir.plan.layout(&bindings)?;
    let memory = session.compile_module(compiled.module.clone())?.memory_estimate(&bindings)?;
    memory.within(session.options().memory_budget).map_err(RuntimeError::from)?;
    let mut slots: Vec<ArenaSlot> = lir
        .plan
        .slots
        .iter()
        .filter_map(|slot| {
            let (offset, size) = layout.places.get(slot.buffer.0 as usize).copied().flatten()?;
            let buffer = lir.buffer(slot.buffer);
            let (name, kind) = (buffer.name.clone(), buffer.kind.name());
            Some(ArenaSlot { name, kind, offset, size, first: slot.first, last: slot.last })
        })
        .collect();
    slots.sort_by_key(|slot| (slot.first, slot.offset));
    Ok(Story {
        name: graph.name.clone(),
        device: session.device().to_string(),
        stages: stages(module, graph, compiled),
        passes: compiled.report.passes().to_vec(),
        dispatch: compiled.report.dispatch(),
        nodes: (0..graph.nodes().len()).map(|index| node_story(graph, compiled, index)).collect(),
        steps: step_stories(lir),
        buffers: lir.buffers.iter().map(|b| (b.name.clone(), b.kind.name())).collect(),
        extents: bindings.iter().map(|(symbol, value)| (symbol.to_string(), value)).collect(),
        slots,
        apart: bytes_apart(graph, &bindings)?,
        memory,
    })
}

/// Upper bounds where there are, else 1 or the lower bound.
fn default_extents(module: &LirModule) -> Bindings {
    let mut bindings = Bindings::new();
    for (symbol, bounds) in &module.symbols {
        bindings.set(symbol, bounds.max.unwrap_or(bounds.min.max(1)));
    }
    bindings
}

fn bytes_apart(graph: &Graph, bindings: &Bindings) -> anyhow::Result<u64> {
    let lasting = |kind| matches!(kind, OpKind::Param | OpKind::State | OpKind::Constant);
    let mut bytes = 0;
    for node in graph.nodes().iter().filter(|node| !lasting(node.op.kind())) {
        for ty in &node.types {
            bytes += ty.size_bytes().extent(bindings)? as u64;
        }
    }
    Ok(bytes)
}

fn stages(module: &GraphModule, graph: &Graph, compiled: &Compiled) -> Vec<(&'static str, String)> {
    let mut stages = vec![];
    if let GraphModule::Hir(module) = module {
        stages.push(("hir", format!("{} blocks, {} bodies", module.blocks.len(), module.bodies.len())));
    }
    stages.push(("graph", format!("{} nodes", graph.nodes().len())));
    stages.push(("optimized", format!("{} nodes", compiled.graph.nodes().len())));
    let prepare = match compiled.module.prepare.iter().map(count_steps).sum() {
        0 => String::new(),
        steps => format!(", {steps} steps when weights are bound"),
    };
    stages.push(("lir", format!("{} steps{prepare}", count_steps(&compiled.module))));
    stages
}

fn count_steps(module: &LirModule) -> usize {
    let mut count = 0;
    module.for_each_step(&mut |_| count += 1);
    count
}

fn node_story(graph: &Graph, compiled: &Compiled, index: usize) -> NodeStory {
    let node = &graph.nodes()[index];
    let mut steps = vec![];
    let mut fate = "removed";
    for place in compiled.report.places(NodeId(index as u32)) {
        let reached = match place {
            Placement::Step(step) => {
                steps.push(*step);
                "step"
            }
            Placement::Prepared => "prepare stage",
            Placement::Buffer => "buffer",
            Placement::View => "view",
            Placement::Inlined => "inlined",
        };
        let rank = |fate| NodeStory::FATES.iter().position(|other| *other == fate);
        if rank(reached) < rank(fate) {
            fate = reached;
        }
    }
    steps.sort_unstable();
    steps.dedup();
    let name = node.op.leaf_name().map(|name| format!(" \"{name}\"")).unwrap_or_default();
    NodeStory {
        node: format!("%{index} {}{name}", node.op.def().name),
        block: node.origin.path.to_string(),
        ty: node.types.first().map(ToString::to_string).unwrap_or_default(),
        fate,
        steps,
        history: compiled.report.why(NodeId(index as u32)).into_iter().skip(1).collect(),
    }
}

fn step_stories(module: &LirModule) -> Vec<StepStory> {
    let mut stories = vec![];
    tell_steps(&module.steps, 0, &mut stories);
    stories
}

/// Every step, those that hold others first; the order is that of a walk over the module.
fn tell_steps(steps: &[Step], depth: usize, stories: &mut Vec<StepStory>) {
    for step in steps {
        let (kernel, origin) = match step {
            Step::Kernel(step) => {
                stories.push(StepStory { depth, ..kernel_story(step) });
                continue;
            }
            Step::Pack(pack) => ("pack", format!("pack {}", pack.key)),
            Step::Branch(branch) => ("branch", branch.origin.clone()),
            Step::Loop(looped) => match &looped.repeat {
                Repeat::Times { count, .. } => ("loop", format!("{}, {count} times", looped.origin)),
                Repeat::While { limit: Some(limit), .. } => {
                    ("loop", format!("{}, at most {limit} times", looped.origin))
                }
                Repeat::While { limit: None, .. } => ("loop", looped.origin.clone()),
            },
        };
        let ids = |buffers: Vec<BufferId>| buffers.into_iter().map(|id| id.0).collect();
        let (reads, writes) = (ids(step.reads()), ids(step.writes()));
        stories.push(StepStory { origin, kernel: kernel.into(), depth, before: 0, after: 0, reads, writes });
        step.lists().into_iter().for_each(|steps| tell_steps(steps, depth + 1, stories));
    }
}

fn kernel_story(step: &KernelStep) -> StepStory {
    let operands = step.anchor.iter().flat_map(|anchor| &anchor.operands);
    let before = operands.map(|operand| match operand {
        Operand::Region(region) => region.program.instrs.len(),
        Operand::View(_) | Operand::Packed { .. } => 0,
    });
    StepStory {
        origin: step.origin.clone(),
        depth: 0,
        kernel: step.anchor.as_ref().map_or("region", |anchor| anchor.op.def().name).into(),
        before: before.sum(),
        after: step.epilogue.as_ref().map_or(0, |epilogue| epilogue.program.instrs.len()),
        reads: step.read_buffers().iter().map(|id| id.0).collect(),
        writes: step.outputs.iter().map(|view| view.buffer.0).collect(),
    }
}

impl NodeStory {
    /// As JSON.
    pub fn json(&self) -> Value {
        json!({ "node": self.node, "block": self.block, "type": self.ty, "fate": self.fate,
                "steps": self.steps, "history": self.history })
    }
}

impl Story {
    /// Bytes of the arena.
    pub fn arena(&self) -> u64 {
        self.memory.arena
    }

    /// How many nodes have each fate; together, all nodes.
    pub fn fates(&self) -> Vec<(&'static str, usize)> {
        let count = |fate: &&'static str| self.nodes.iter().filter(|node| node.fate == *fate).count();
        NodeStory::FATES.iter().map(|fate| (*fate, count(fate))).filter(|(_, count)| *count > 0).collect()
    }

    /// As JSON.
    pub fn json(&self) -> Value {
        let stages: Vec<Value> =
            self.stages.iter().map(|(stage, size)| json!({ "stage": stage, "size": size })).collect();
        let passes: Vec<Value> = self
            .passes
            .iter()
            .map(|pass| json!({ "pass": pass.pass, "nodes_before": pass.before, "nodes_after": pass.after }))
            .collect();
        let steps: Vec<Value> = self
            .steps
            .iter()
            .map(|step| {
                json!({ "origin": step.origin, "kernel": step.kernel, "depth": step.depth, "fused_before": step.before,
                        "fused_after": step.after, "reads": step.reads, "writes": step.writes })
            })
            .collect();
        let slots: Vec<Value> = self
            .slots
            .iter()
            .map(|slot| {
                json!({ "name": slot.name, "kind": slot.kind, "offset": slot.offset, "bytes": slot.size,
                        "first_step": slot.first, "last_step": slot.last })
            })
            .collect();
        let dispatch: BTreeMap<&str, Value> = self
            .dispatch
            .kinds
            .iter()
            .map(|(kind, counts)| {
                let value = json!({ "native": counts.native, "decomposed": counts.decomposed,
                                    "rewritten": counts.rewritten, "missing": counts.missing });
                (kind.def().name, value)
            })
            .collect();
        let memory: BTreeMap<&str, u64> = self.memory.parts().into_iter().collect();
        json!({ "name": self.name, "device": self.device, "stages": stages, "passes": passes, "dispatch": dispatch,
                "fates": self.fates().into_iter().collect::<BTreeMap<_, _>>(),
                "nodes": self.nodes.iter().map(NodeStory::json).collect::<Vec<_>>(), "steps": steps,
                "extents": self.extents, "memory": memory, "arena_bytes": self.arena(),
                "apart_bytes": self.apart, "slots": slots })
    }
}
