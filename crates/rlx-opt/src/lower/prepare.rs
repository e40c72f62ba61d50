//! The prepare stage: what depends on params and constants alone.
//!
//! Such nodes (but for leaves and movement) form a graph of their own that
//! runs once when weights are bound. Operands that a backend wants packed are
//! packed there too.

use crate::capabilities::{OpView, Packing};
use crate::pass::{OptError, PassContext};
use rlx_ir::lir::{Buffer, BufferId, BufferKind, IoEntry, LirModule, PackStep, Step, View};
use rlx_ir::{DType, Graph, NodeId, Op, TensorType, Value};
use std::collections::{BTreeMap, BTreeSet};

/// The split of a graph into what runs once and what runs every time.
pub(super) struct Preparation<'a> {
    graph: &'a Graph,
    /// Depends on params and constants alone (leaves and movement included).
    constant: Vec<bool>,
    /// Runs in the prepare stage.
    prepared: Vec<bool>,
    /// Prepared values that the main stage reads, with their names.
    outputs: BTreeMap<Value, String>,
    module: LirModule,
}

impl<'a> Preparation<'a> {
    /// Splits `graph` and lowers the part that runs once.
    pub(super) fn split(graph: &'a Graph, context: &PassContext<'_>) -> Result<Preparation<'a>, OptError> {
        let mut constant = vec![];
        let mut has_param = vec![];
        for (_, node) in graph.iter() {
            let of = |list: &[bool], value: &Value| list[value.node.0 as usize];
            let is_constant = match &node.op {
                Op::Param(_) | Op::Constant(_) => true,
                Op::Input(_) | Op::State(_) => false,
                _ => !node.operands.is_empty() && node.operands.iter().all(|operand| of(&constant, operand)),
            };
            let static_shape =
                node.types.iter().all(|ty| ty.shape.as_static().is_some()) && !node.op.has_symbols();
            constant.push(is_constant && static_shape);
            has_param.push(
                matches!(node.op, Op::Param(_))
                    || node.operands.iter().any(|operand| of(&has_param, operand)),
            );
        }
        let is_leaf = |op: &Op| op.leaf_name().is_some() || matches!(op, Op::Constant(_));
        let mut prepared: Vec<bool> = graph
            .iter()
            .map(|(id, node)| constant[id.0 as usize] && has_param[id.0 as usize] && !is_leaf(&node.op))
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
        let mut preparation =
            Preparation { graph, constant, prepared, outputs: BTreeMap::new(), module: LirModule::default() };
        preparation.find_outputs();
        preparation.lower(context)?;
        Ok(preparation)
    }

    /// Does node `id` run in the prepare stage?
    pub(super) fn is_prepared(&self, id: NodeId) -> bool {
        self.prepared[id.0 as usize]
    }

    /// Is the value known before the first run, and not just a small literal?
    pub(super) fn is_constant(&self, value: Value) -> bool {
        self.constant[value.node.0 as usize]
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
        self.module.plan.alignment = context.capabilities.alignment;
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
        for (id, node) in self.graph.iter().filter(|(id, _)| wanted[id.0 as usize]) {
            // Params stay params; nothing else of the main stage is reachable from here.
            let operands: Vec<_> = node.operands.iter().map(|operand| map[operand]).collect();
            let results = graph
                .copy_node(node, &operands)
                .map_err(|finding| OptError::Invalid(rlx_ir::IrError::Invalid(vec![finding])))?;
            for (result, value) in results.into_iter().enumerate() {
                map.insert(Value { node: id, result: result as u32 }, value);
            }
        }
        for (value, name) in &self.outputs {
            graph.output(name.as_str(), map[value]);
        }
        // Everything here is constant: lower it as if its params were inputs, so that nothing is prepared again.
        let mut inner = Graph::new(graph.name.as_str());
        let mut inner_map: BTreeMap<Value, Value> = BTreeMap::new();
        for (id, node) in graph.iter() {
            let operands: Vec<_> = node.operands.iter().map(|operand| inner_map[operand]).collect();
            let results = match &node.op {
                Op::Param(param) => vec![inner.input(param.name.as_str(), param.result.clone())],
                _ => inner
                    .copy_node(node, &operands)
                    .map_err(|finding| OptError::Invalid(rlx_ir::IrError::Invalid(vec![finding])))?,
            };
            for (result, value) in results.into_iter().enumerate() {
                inner_map.insert(Value { node: id, result: result as u32 }, value);
            }
        }
        for output in graph.outputs() {
            inner.output(output.name.as_str(), inner_map[&output.value]);
        }
        let mut module = super::lower_to_lir(&inner, context)?.module;
        for buffer in &mut module.buffers {
            if buffer.kind == BufferKind::Input {
                buffer.kind = BufferKind::Param;
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
            kind: BufferKind::Output,
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
        let position = self.module.buffers.iter().position(|other| {
            other.name == buffer.name
                && match &buffer.kind {
                    BufferKind::Prepared => other.kind == BufferKind::Output,
                    kind => other.kind == *kind,
                }
        });
        if let Some(position) = position {
            return BufferId(position as u32);
        }
        let id = self.module.add_buffer(buffer.clone());
        if buffer.kind == BufferKind::Param {
            self.module.io.params.push(IoEntry { name: buffer.name.clone(), ty: buffer.ty(), buffer: id });
        }
        id
    }

    /// The finished stage; `None` when there is nothing to prepare. Results that
    /// `main` does not read (their packed form took their place) are temporaries
    /// of the stage, and each is packed as soon as it is made, so that their
    /// memory is shared.
    pub(super) fn into_module(mut self, main: &LirModule, alignment: usize) -> Option<Box<LirModule>> {
        if self.module.steps.is_empty() {
            return None;
        }
        let mut read = BTreeSet::new();
        main.for_each_step(&mut |step| {
            if let Step::Kernel(step) = step {
                read.extend(step.read_buffers().into_iter().map(|buffer| main.buffer(buffer).name.as_str()));
            }
        });
        let (kept, dropped): (Vec<_>, Vec<_>) = std::mem::take(&mut self.module.io.outputs)
            .into_iter()
            .partition(|entry| read.contains(entry.name.as_str()));
        self.module.io.outputs = kept;
        for entry in dropped {
            self.module.buffers[entry.buffer.0 as usize].kind = BufferKind::Temporary;
        }
        self.module.steps = packs_first(std::mem::take(&mut self.module.steps));
        crate::memory::plan_memory(&mut self.module, alignment);
        Some(Box::new(self.module))
    }
}

/// The steps in order, each pack moved to right after the last step that writes its source.
fn packs_first(steps: Vec<Step>) -> Vec<Step> {
    let (mut packs, kernels): (Vec<Step>, Vec<Step>) =
        steps.into_iter().partition(|step| matches!(step, Step::Pack(_)));
    let mut writers: BTreeMap<BufferId, usize> = BTreeMap::new();
    for (position, step) in kernels.iter().enumerate() {
        if let Step::Kernel(step) = step {
            writers.extend(step.outputs.iter().map(|view| (view.buffer, position + 1)));
        }
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
