//! The prepare stage: what depends on params and constants alone.
//!
//! Such nodes (but for leaves and movement) form a graph of their own that
//! runs once when weights are bound. Operands that a backend wants packed are
//! packed there too. What comes out is one module for each set of steps that
//! stands alone, so that a weight that is bound anew prepares nothing else again.

use crate::capabilities::{Capabilities, OpView, Packing};
use crate::known::{Known, known};
use crate::memory::rename_step;
use crate::pass::{OptError, PassContext};
use rlx_ir::lir::{Buffer, BufferId, BufferKind, IoEntry, LirModule, PackStep, Step, View};
use rlx_ir::{DType, Graph, NodeId, Op, TensorType, Value};
use std::collections::{BTreeMap, BTreeSet, HashMap};

/// The split of a graph into what runs once and what runs every time.
pub(super) struct Preparation<'a> {
    graph: &'a Graph,
    known: Vec<Known>,
    /// Runs in the prepare stage.
    prepared: Vec<bool>,
    /// Prepared values that the main stage reads, with their names.
    outputs: BTreeMap<Value, String>,
    module: LirModule,
    /// Bodies around what is being lowered; their values are not those of `graph`.
    pub(super) depth: usize,
}

impl<'a> Preparation<'a> {
    /// Splits `graph` and lowers the part that runs once.
    pub(super) fn split(graph: &'a Graph, context: &PassContext<'_>) -> Result<Preparation<'a>, OptError> {
        let known = known(graph);
        let is_leaf = |op: &Op| op.leaf_name().is_some();
        let mut prepared: Vec<bool> = graph
            .iter()
            .map(|(id, node)| known[id.0 as usize] == Known::Bound && !is_leaf(&node.op))
            .collect();
        // Movement is free, so it stays in the main stage unless prepared work needs it.
        let mut needed = vec![false; prepared.len()];
        for (id, node) in graph.iter().rev() {
            let index = id.0 as usize;
            if prepared[index] && node.op.meaning().view.is_some() && !needed[index] {
                prepared[index] = false;
            }
            if prepared[index] {
                for operand in &node.operands {
                    needed[operand.node.0 as usize] = true;
                }
            }
        }
        let mut preparation = Preparation {
            graph,
            known,
            prepared,
            outputs: BTreeMap::new(),
            module: LirModule::default(),
            depth: 0,
        };
        preparation.find_outputs();
        preparation.lower(context)?;
        Ok(preparation)
    }

    /// Does node `id` run in the prepare stage?
    pub(super) fn is_prepared(&self, id: NodeId) -> bool {
        self.depth == 0 && self.prepared[id.0 as usize]
    }

    /// Is the value, which lies in the `source` in a weight or constant, known before the first run? In a body it is
    /// unless the place depends on the iteration.
    pub(super) fn is_constant(&self, value: Value, source: &View) -> bool {
        match self.depth {
            0 => self.known[value.node.0 as usize] < Known::Run,
            _ => source.layout.offset.as_static().is_some(),
        }
    }

    /// Takes what is prepared for the whole graph into the lowering of a body; what is left behind knows nothing.
    pub(super) fn lend(&mut self) -> Preparation<'a> {
        let (known, prepared, outputs) = (vec![], vec![], BTreeMap::new());
        let empty = Preparation {
            graph: self.graph,
            known,
            prepared,
            outputs,
            module: LirModule::default(),
            depth: 0,
        };
        std::mem::replace(self, empty)
    }

    /// Name of a prepared value that the main stage reads.
    pub(super) fn output_name(&self, value: Value) -> Option<String> {
        self.outputs.get(&value).cloned()
    }

    fn find_outputs(&mut self) {
        let mut outputs = BTreeSet::new();
        for (id, node) in self.graph.iter() {
            if !self.prepared[id.0 as usize] {
                outputs.extend(
                    node.operands.iter().filter(|operand| self.prepared[operand.node.0 as usize]).copied(),
                );
            }
        }
        let results = self.graph.outputs().iter().chain(self.graph.updates()).map(|output| output.value);
        outputs.extend(results.filter(|value| self.prepared[value.node.0 as usize]));
        self.outputs = outputs.into_iter().map(|value| (value, format!("prepared {value}"))).collect();
    }

    fn lower(&mut self, context: &PassContext<'_>) -> Result<(), OptError> {
        self.module.name = format!("{} prepare", self.graph.name);
        if self.outputs.is_empty() {
            return Ok(());
        }
        let mut graph = Graph::new(self.module.name.as_str());
        let mut map: BTreeMap<Value, Value> = BTreeMap::new();
        let mut wanted = vec![false; self.prepared.len()];
        for value in self.outputs.keys() {
            wanted[value.node.0 as usize] = true;
        }
        for (id, node) in self.graph.iter().rev() {
            if wanted[id.0 as usize] {
                node.operands.iter().for_each(|operand| wanted[operand.node.0 as usize] = true);
            }
        }
        // Params stand as inputs meanwhile, so that nothing is prepared again.
        for (id, node) in self.graph.iter().filter(|(id, _)| wanted[id.0 as usize]) {
            let operands: Vec<_> = node.operands.iter().map(|operand| map[operand]).collect();
            let results = match &node.op {
                Op::Param(param) => vec![graph.input(param.name.as_str(), param.result.clone())],
                _ => graph
                    .copy_node(node, &operands)
                    .map_err(|finding| OptError::Invalid(rlx_ir::IrError::Invalid(vec![finding])))?,
            };
            for (result, value) in results.into_iter().enumerate() {
                map.insert(Value { node: id, result: result as u32 }, value);
            }
        }
        for (value, name) in &self.outputs {
            graph.output(name.as_str(), map[value]);
        }
        let capabilities = Capabilities { pack: |_, _| None, ..context.capabilities.clone() };
        let context = PassContext { capabilities: &capabilities, options: context.options };
        let mut module = super::lower_to_lir(&graph, &context)?.module;
        for buffer in &mut module.buffers {
            match buffer.kind {
                BufferKind::Input => buffer.kind = BufferKind::Param,
                BufferKind::Output => buffer.kind = BufferKind::Prepared,
                _ => {}
            }
        }
        module.io.params = std::mem::take(&mut module.io.inputs);
        self.module = module;
        Ok(())
    }

    /// Adds the packing of an operand; returns the name of the packed buffer.
    pub(super) fn pack(
        &mut self,
        anchor: &OpView<'_>,
        operand: usize,
        source: &View,
        source_buffer: &Buffer,
        packing: &Packing,
    ) -> String {
        // One packed form per content and layout: the op's attributes (a transpose, say) are part of it.
        let name = format!(
            "packed {} {:?} {} for {:?} {operand}",
            source_buffer.name, source.layout, packing.key, anchor.op
        );
        if self.module.io.outputs.iter().any(|entry| entry.name == name) {
            return name;
        }
        let source_id = self.source(source_buffer);
        let ty = TensorType::new(DType::U8, [packing.bytes]);
        let target = self.module.add_buffer(Buffer {
            name: name.clone(),
            dtype: DType::U8,
            shape: ty.shape.clone(),
            kind: BufferKind::Prepared,
        });
        self.module.io.outputs.push(IoEntry { name: name.clone(), ty, buffer: target });
        self.module.steps.push(Step::Pack(Box::new(PackStep {
            op: anchor.op.clone(),
            operand_types: anchor.operands.iter().map(|ty| (*ty).clone()).collect(),
            operand,
            source: View { buffer: source_id, ..source.clone() },
            target,
            key: packing.key.clone(),
        })));
        name
    }

    /// The buffer in the prepare stage that holds what `buffer` of the main stage holds.
    fn source(&mut self, buffer: &Buffer) -> BufferId {
        let same = |other: &Buffer| other.name == buffer.name && other.kind == buffer.kind;
        let position = self.module.buffers.iter().position(same);
        if let Some(position) = position {
            return BufferId(position as u32);
        }
        let id = self.module.add_buffer(buffer.clone());
        if buffer.kind == BufferKind::Param {
            self.module.io.params.push(IoEntry { name: buffer.name.clone(), ty: buffer.ty(), buffer: id });
        }
        id
    }

    /// The finished stages, one for each set of steps that shares nothing but
    /// params and constants with the others. Results that `main` does not read
    /// (their packed form took their place) are temporaries of their stage, and
    /// each is packed as soon as it is made, so that their memory is shared.
    pub(super) fn into_stages(mut self, main: &LirModule, alignment: usize) -> Vec<LirModule> {
        let mut read = BTreeSet::new();
        main.for_each_step(&mut |step| {
            read.extend(step.reads().into_iter().map(|buffer| main.buffer(buffer).name.as_str()));
        });
        let outputs = std::mem::take(&mut self.module.io.outputs);
        for entry in outputs.iter().filter(|entry| !read.contains(entry.name.as_str())) {
            self.module.buffers[entry.buffer.0 as usize].kind = BufferKind::Temporary;
        }
        self.module.io.outputs =
            outputs.into_iter().filter(|entry| read.contains(entry.name.as_str())).collect();
        let steps = packs_first(std::mem::take(&mut self.module.steps));
        let stages = groups(&self.module, steps).into_iter().map(|steps| {
            let mut stage = stage(&self.module, steps);
            crate::memory::plan_memory(&mut stage, alignment);
            stage
        });
        stages.collect()
    }
}

/// The steps in groups that have no buffer in common but params and constants.
fn groups(module: &LirModule, steps: Vec<Step>) -> Vec<Vec<Step>> {
    let mut groups: Vec<Vec<Step>> = vec![];
    // The group that makes each buffer.
    let mut homes: HashMap<BufferId, usize> = HashMap::new();
    for step in steps {
        let is_made =
            |id: &BufferId| matches!(module.buffer(*id).kind, BufferKind::Temporary | BufferKind::Prepared);
        let made: Vec<BufferId> = step.touched().into_iter().filter(is_made).collect();
        let joined: BTreeSet<usize> = made.iter().filter_map(|id| homes.get(id)).copied().collect();
        let home = joined.first().copied().unwrap_or(groups.len());
        if home == groups.len() {
            groups.push(vec![]);
        }
        // Later groups read nothing of this one, so their steps may follow its steps.
        for &other in joined.iter().skip(1) {
            let moved = std::mem::take(&mut groups[other]);
            groups[home].extend(moved);
        }
        if joined.len() > 1 {
            homes.values_mut().filter(|group| joined.contains(group)).for_each(|group| *group = home);
        }
        homes.extend(made.into_iter().map(|id| (id, home)));
        groups[home].push(step);
    }
    groups.retain(|group| !group.is_empty());
    groups
}

/// A module of these steps and what they touch of `whole`.
fn stage(whole: &LirModule, mut steps: Vec<Step>) -> LirModule {
    let mut stage = LirModule { name: whole.name.clone(), ..LirModule::default() };
    let mut renamed = HashMap::new();
    for id in steps.iter().flat_map(Step::touched).collect::<BTreeSet<_>>() {
        renamed.insert(id, stage.add_buffer(whole.buffer(id).clone()));
    }
    steps.iter_mut().for_each(|step| rename_step(step, &renamed));
    let entry =
        |entry: &IoEntry| renamed.get(&entry.buffer).map(|&buffer| IoEntry { buffer, ..entry.clone() });
    stage.io.params = whole.io.params.iter().filter_map(entry).collect();
    stage.io.outputs = whole.io.outputs.iter().filter_map(entry).collect();
    stage.steps = steps;
    stage
}

/// The steps in order, each pack moved to right after the last step that touches its source.
fn packs_first(steps: Vec<Step>) -> Vec<Step> {
    let (mut packs, kernels): (Vec<Step>, Vec<Step>) =
        steps.into_iter().partition(|step| matches!(step, Step::Pack(_)));
    let mut writers: BTreeMap<BufferId, usize> = BTreeMap::new();
    for (position, step) in kernels.iter().enumerate() {
        writers.extend(step.touched().into_iter().map(|buffer| (buffer, position + 1)));
    }
    let place = |step: &Step| match step {
        Step::Pack(pack) => writers.get(&pack.source.buffer).copied().unwrap_or(0),
        _ => 0,
    };
    packs.sort_by_key(place);
    let mut packs = packs.into_iter().peekable();
    let mut ordered = vec![];
    for (position, kernel) in kernels.into_iter().map(Some).chain([None]).enumerate() {
        while packs.peek().is_some_and(|pack| place(pack) <= position) {
            ordered.extend(packs.next());
        }
        ordered.extend(kernel);
    }
    ordered
}
