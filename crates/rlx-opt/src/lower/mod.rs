//! MIR to LIR: nodes become steps over buffers, movement becomes views.
//!
//! Expects a verified graph whose every op is elementwise, movement, or one
//! that the target has a kernel for. What each kind of node turns into:
//!
//! | node | LIR |
//! |---|---|
//! | input, param, state, constant | a buffer |
//! | movement op | a view; a copy step first where strides do not allow it |
//! | elementwise op or region | a step without anchor, or part of an anchored step |
//! | `concat` | one copy step per operand, into its part of the result |
//! | op that updates its first operand | the step in place, after a copy unless the operand dies here |
//! | `if`, `while`, `scan` | a branch or a loop around the steps of its bodies: see `control.rs` |
//! | any other op | an anchored step |
//!
//! What depends on params alone goes to the prepare stage. Offsets are the
//! business of [`crate::memory`].

mod attach;
mod control;
mod prepare;

use crate::capabilities::OpView;
use crate::pass::{OptError, PassContext};
pub(crate) use attach::is_anchor;
use attach::{Fate, fates};
use prepare::Preparation;
use rlx_ir::lir::{
    Anchor, BindingCheck, Buffer, BufferId, BufferKind, Epilogue, EpilogueInput, IoEntry, KernelStep,
    LirModule, LirViewAlias, Operand, Region, Step, View, node_origin, updates_first_operand,
};
use rlx_ir::{
    DType, Diagnostic, Dim, Graph, Layout, Node, NodeId, Number, Op, ScalarKind, ScalarProgram, TensorType,
    Value,
};
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

/// What became of one node of the graph.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Placement {
    /// A buffer of its own (leaves).
    Buffer,
    /// A view of another value; no work.
    View,
    /// Work in the step with this number (walk order).
    Step(usize),
    /// Runs in the prepare stage.
    Prepared,
    /// Folded into a program as a scalar constant, or never used.
    Inlined,
}

/// The lowered module and what became of every node.
#[derive(Clone, Debug)]
pub struct Lowered {
    /// The module, planned.
    pub module: LirModule,
    /// One entry per node of the graph, in order.
    pub placements: Vec<Placement>,
}

/// Lowers `graph`.
///
/// # Errors
/// A graph that is not verified, or a node that has no lowering.
pub fn lower_to_lir(graph: &Graph, context: &PassContext<'_>) -> Result<Lowered, OptError> {
    let alignment = alignment(context)?;
    let preparation = Preparation::split(graph, context)?;
    let mut lowering = Lowering::new(graph, context, preparation);
    lowering.leaves_and_outputs();
    for (id, node) in graph.iter() {
        lowering.node(id, node)?;
    }
    lowering.finish_outputs();
    lowering.finish_states();
    let Lowering { mut module, mut placements, preparation, unshared, .. } = lowering;
    module.prepare = preparation.into_stages(&module, alignment);
    let removed = crate::memory::plan_memory(&mut module, alignment);
    for placement in &mut placements {
        if let Placement::Step(number) = placement {
            *number -= removed.iter().filter(|removed| **removed < *number).count();
        }
    }
    module.plan.unshared = unshared;
    Ok(Lowered { module, placements })
}

fn alignment(context: &PassContext<'_>) -> Result<usize, OptError> {
    let given = context.capabilities.alignment;
    match context.options.alignment {
        Some(wanted) if !wanted.is_power_of_two() || wanted > given => Err(OptError::Option {
            option: "alignment",
            reason: format!(
                "{wanted} is not a power of two of at most {given}, which is what {} aligns to",
                context.capabilities.name
            ),
        }),
        _ => Ok(given),
    }
}

struct Lowering<'a> {
    graph: &'a Graph,
    context: &'a PassContext<'a>,
    preparation: Preparation<'a>,
    fates: Vec<Fate>,
    uses: BTreeMap<Value, usize>,
    /// Where each value is read last.
    last_use: HashMap<Value, usize>,
    views: HashMap<Value, View>,
    /// Values that are results of the graph, by the place that waits for them.
    targets: HashMap<Value, View>,
    state_buffers: HashMap<String, BufferId>,
    /// Buffers that are to hold a value at the end of the graph: states, and carries of a loop around a body.
    homes: HashMap<BufferId, Value>,
    /// What stands before the names of the nodes of a body.
    path: String,
    /// The first buffer that the graph, or the body, made itself.
    first_buffer: usize,
    module: LirModule,
    placements: Vec<Placement>,
    steps: usize,
    unshared: Dim,
}

impl<'a> Lowering<'a> {
    fn new(graph: &'a Graph, context: &'a PassContext<'a>, preparation: Preparation<'a>) -> Lowering<'a> {
        let fates = fates(graph, context, &preparation);
        let module =
            LirModule { name: graph.name.clone(), symbols: graph.symbols().clone(), ..LirModule::default() };
        Lowering {
            graph,
            context,
            preparation,
            last_use: last_uses(graph, &fates),
            fates,
            uses: graph.use_counts(),
            views: HashMap::new(),
            targets: HashMap::new(),
            state_buffers: HashMap::new(),
            homes: HashMap::new(),
            path: String::new(),
            first_buffer: 0,
            module,
            placements: vec![Placement::Inlined; graph.nodes().len()],
            steps: 0,
            unshared: Dim::from(0),
        }
    }

    /// Buffers that the caller names, so that their ids come first.
    fn leaves_and_outputs(&mut self) {
        for (id, node) in self.graph.iter() {
            let (Some(name), ty) = (node.op.leaf_name(), &node.types[0]) else { continue };
            let kind = match &node.op {
                Op::Input(_) => BufferKind::Input,
                Op::Param(_) => BufferKind::Param,
                _ => BufferKind::State,
            };
            let buffer = self.buffer(name, ty, kind.clone());
            let entry = IoEntry { name: name.into(), ty: ty.clone(), buffer };
            match kind {
                BufferKind::Input => self.module.io.inputs.push(entry),
                BufferKind::Param => self.module.io.params.push(entry),
                _ => {
                    self.state_buffers.insert(name.into(), buffer);
                    let update = self.graph.updates().iter().find(|update| update.name == *name);
                    self.homes.extend(update.map(|update| (buffer, update.value)));
                    self.module.io.states.push(entry);
                }
            }
            self.views.insert(Value::first(id), View::whole(buffer, ty));
            self.placements[id.0 as usize] = Placement::Buffer;
        }
        for output in self.graph.outputs() {
            let ty = self.graph.ty(output.value).clone();
            let buffer = self.buffer(&output.name, &ty, BufferKind::Output);
            self.targets.entry(output.value).or_insert_with(|| View::whole(buffer, &ty));
            self.module.io.outputs.push(IoEntry { name: output.name.clone(), ty, buffer });
        }
    }

    fn buffer(&mut self, name: &str, ty: &TensorType, kind: BufferKind) -> BufferId {
        self.module.add_buffer(Buffer { name: name.into(), dtype: ty.dtype, shape: ty.shape.clone(), kind })
    }

    fn node(&mut self, id: NodeId, node: &'a Node) -> Result<(), OptError> {
        if node.op.leaf_name().is_some() {
            return Ok(());
        }
        if self.preparation.is_prepared(id) {
            self.placements[id.0 as usize] = Placement::Prepared;
            for result in 0..node.types.len() as u32 {
                let value = Value { node: id, result };
                if let Some(name) = self.preparation.output_name(value) {
                    let ty = self.graph.ty(value).clone();
                    let buffer = self.buffer(&name, &ty, BufferKind::Prepared);
                    self.views.insert(value, View::whole(buffer, &ty));
                }
            }
            return Ok(());
        }
        if let Op::Constant(constant) = &node.op {
            let ty = &node.types[0];
            let name = format!("{}%{}", self.path, id.0);
            let buffer = self.buffer(&name, ty, BufferKind::Constant(constant.value.clone()));
            self.views.insert(Value::first(id), View::whole(buffer, ty));
            self.placements[id.0 as usize] = Placement::Buffer;
            return Ok(());
        }
        self.count_unshared(node);
        let check = BindingCheck::of(self.graph, id);
        self.module.checks.extend(check.map(|check| BindingCheck { origin: self.origin(id), ..check }));
        match self.fates[id.0 as usize] {
            Fate::Merged => return Ok(()),
            Fate::Own => {}
        }
        let meaning = node.op.meaning();
        if let Some(rule) = &meaning.view {
            return self.movement(id, node, rule);
        }
        if meaning.scalar.is_some() {
            self.elementwise(id, node);
            return Ok(());
        }
        match &node.op {
            Op::Concat(concat) => self.concat(id, node, concat.axis),
            op if updates_first_operand(op) => self.in_place(id, node),
            Op::If(op) => self.branch(id, node, op)?,
            Op::While(op) => self.conditional_loop(id, node, op)?,
            Op::Scan(op) => self.counted_loop(id, node, op)?,
            _ => self.anchored(id, node),
        }
        Ok(())
    }

    fn count_unshared(&mut self, node: &Node) {
        for ty in &node.types {
            self.unshared = std::mem::take(&mut self.unshared) + ty.size_bytes();
        }
    }

    fn origin(&self, id: NodeId) -> String {
        format!("{}{}", self.path, node_origin(self.graph, id))
    }

    fn view(&self, value: Value) -> View {
        self.views.get(&value).cloned().expect("operands stand earlier and were lowered")
    }

    fn push(&mut self, step: KernelStep) -> usize {
        self.module.steps.push(Step::Kernel(Box::new(step)));
        self.steps += 1;
        self.steps - 1
    }

    /// A buffer for result `value`, and the dense view of it.
    fn result(&mut self, value: Value) -> View {
        match self.targets.get(&value) {
            Some(target) => target.clone(),
            None => self.temporary(&value.to_string(), &self.graph.ty(value).clone()),
        }
    }

    /// A buffer of the step tree, and the view of all of it.
    fn temporary(&mut self, name: &str, ty: &TensorType) -> View {
        let name = format!("{}{name}", self.path);
        View::whole(self.buffer(&name, ty, BufferKind::Temporary), ty)
    }

    fn copy(&mut self, from: View, to: View, origin: String) -> usize {
        let epilogue = Epilogue {
            program: Arc::new(ScalarProgram::identity(from.dtype)),
            inputs: vec![EpilogueInput::View(from)],
        };
        self.push(KernelStep { anchor: None, epilogue: Some(epilogue), outputs: vec![to], origin })
    }

    fn movement(
        &mut self,
        id: NodeId,
        node: &Node,
        rule: &dyn Fn(&Layout, &TensorType) -> Option<Layout>,
    ) -> Result<(), OptError> {
        let value = Value::first(id);
        let source = self.view(node.operands[0]);
        let ty = &node.types[0];
        if let Some(layout) = rule(&source.layout, ty) {
            let view = View { layout, ..source };
            self.alias(value, &view);
            self.views.insert(value, view);
            self.placements[id.0 as usize] = Placement::View;
            return Ok(());
        }
        // The strides do not allow it: copy to a dense buffer, of which any movement is a view.
        let dense = self.temporary(&format!("%{} operand", id.0), &source.ty());
        let step = self.copy(source, dense.clone(), format!("{} (copy)", self.origin(id)));
        let layout = rule(&dense.layout, ty)
            .ok_or_else(|| refuse(self.origin(id), "a movement op refused a dense operand"))?;
        self.views.insert(value, View { layout, ..dense });
        self.placements[id.0 as usize] = Placement::Step(step);
        Ok(())
    }

    /// Values of bodies are left out: where they are may differ from one iteration to the next.
    fn alias(&mut self, value: Value, view: &View) {
        if !self.path.is_empty() {
            return;
        }
        let width = Dim::from(view.dtype.size_of().unwrap_or(1));
        self.module.plan.aliases.push(LirViewAlias {
            name: value.to_string(),
            root: view.buffer,
            byte_offset: view.layout.offset.clone() * width,
        });
    }

    /// The program of an elementwise node over its operands' views, broadcast
    /// to the result; single-element constants become program constants.
    fn region(&self, id: NodeId) -> (ScalarProgram, Vec<Value>) {
        let node = self.graph.node(id);
        let mut inputs: Vec<Value> = vec![];
        for &operand in &node.operands {
            if scalar_constant(self.graph, operand).is_none() && !inputs.contains(&operand) {
                inputs.push(operand);
            }
        }
        let mut program =
            ScalarProgram::new(inputs.iter().map(|&input| self.graph.ty(input).dtype).collect());
        let mut args = vec![];
        for &operand in &node.operands {
            args.push(match scalar_constant(self.graph, operand) {
                Some((kind, dtype)) => program.push(kind, &[], dtype),
                None => {
                    let index = inputs.iter().position(|input| *input == operand).unwrap_or_default();
                    program.input(index)
                }
            });
        }
        if let Some(rule) = &node.op.meaning().scalar {
            program.outputs = rule(&mut program, &args).into_iter().map(|value| value.0).collect();
            program.drop_unused();
        }
        (program, inputs)
    }

    fn broadcast(&self, value: Value, domain: &rlx_ir::Shape) -> View {
        let mut view = self.view(value);
        view.layout = view.layout.expand(domain);
        view
    }

    fn elementwise(&mut self, id: NodeId, node: &Node) {
        let anchor_node = node.operands.iter().map(|operand| operand.node).find(|operand| {
            matches!(self.fates[operand.0 as usize], Fate::Merged)
                && attach::epilogue_of(self.graph, *operand, id)
        });
        let (program, inputs) = self.region(id);
        let domain = node.types[0].shape.clone();
        let inputs = inputs
            .into_iter()
            .map(|value| match anchor_node {
                Some(anchor) if value == Value::first(anchor) => EpilogueInput::Anchor,
                _ => EpilogueInput::View(self.broadcast(value, &domain)),
            })
            .collect();
        let outputs: Vec<View> =
            (0..node.types.len() as u32).map(|result| self.result(Value { node: id, result })).collect();
        let mut origin = self.origin(id);
        let anchor = anchor_node.map(|anchor| {
            origin = format!("{} + {origin}", self.origin(anchor));
            self.anchor(anchor)
        });
        let epilogue = Some(Epilogue { program: Arc::new(program), inputs });
        let step = self.push(KernelStep { anchor, epilogue, outputs: outputs.clone(), origin });
        self.place(id, step);
        if let Some(anchor) = anchor_node {
            self.place(anchor, step);
        }
        for (result, view) in outputs.into_iter().enumerate() {
            self.views.insert(Value { node: id, result: result as u32 }, view);
        }
    }

    /// Records the step of a node and of the regions merged before it.
    fn place(&mut self, id: NodeId, step: usize) {
        self.placements[id.0 as usize] = Placement::Step(step);
        let operands = self.graph.node(id).operands.clone();
        for operand in operands {
            let index = operand.node.0 as usize;
            if matches!(self.fates[index], Fate::Merged) && self.placements[index] == Placement::Inlined {
                self.placements[index] = Placement::Step(step);
            }
        }
    }

    fn anchor(&mut self, id: NodeId) -> Anchor {
        let node = self.graph.node(id);
        let types: Vec<_> = node.operands.iter().map(|&operand| self.graph.ty(operand)).collect();
        let symbols = self.graph.symbols();
        let view = OpView { op: &node.op, operands: &types, results: &node.types, symbols };
        let mut operands = vec![];
        for (index, &operand) in node.operands.iter().enumerate() {
            if matches!(self.fates[operand.node.0 as usize], Fate::Merged) {
                let (program, inputs) = self.region(operand.node);
                let shape = self.graph.ty(operand).shape.clone();
                let inputs = inputs.into_iter().map(|value| self.broadcast(value, &shape)).collect();
                operands.push(Operand::Region(Region { program: Arc::new(program), inputs, shape }));
                continue;
            }
            let source = self.view(operand);
            // What the main stage makes (a copy for movement, say) is not there when packing runs.
            let kind = &self.module.buffer(source.buffer).kind;
            let early = matches!(kind, BufferKind::Param | BufferKind::Prepared | BufferKind::Constant(_));
            let packing = if early && self.preparation.is_constant(operand, &source) {
                (self.context.capabilities.pack)(&view, index)
            } else {
                None
            };
            operands.push(match packing {
                Some(packing) => {
                    let source_buffer = self.module.buffer(source.buffer).clone();
                    let name = self.preparation.pack(&view, index, &source, &source_buffer, &packing);
                    let ty = TensorType::new(DType::U8, [packing.bytes]);
                    let known = self.module.buffers.iter().position(|buffer| buffer.name == name);
                    let buffer = match known {
                        Some(position) => BufferId(position as u32),
                        None => self.buffer(&name, &ty, BufferKind::Prepared),
                    };
                    Operand::Packed { buffer, ty: source.ty(), key: packing.key }
                }
                None => Operand::View(source),
            });
        }
        Anchor { op: node.op.clone(), operands, results: node.types.clone() }
    }

    fn anchored(&mut self, id: NodeId, node: &Node) {
        let anchor = self.anchor(id);
        let outputs: Vec<View> =
            (0..node.types.len() as u32).map(|result| self.result(Value { node: id, result })).collect();
        let step = self.push(KernelStep {
            anchor: Some(anchor),
            epilogue: None,
            outputs: outputs.clone(),
            origin: self.origin(id),
        });
        self.place(id, step);
        for (result, view) in outputs.into_iter().enumerate() {
            self.views.insert(Value { node: id, result: result as u32 }, view);
        }
    }

    fn concat(&mut self, id: NodeId, node: &Node, axis: usize) {
        let target = self.result(Value::first(id));
        let mut start = Dim::from(0);
        let mut step = self.steps;
        for &operand in &node.operands {
            let source = self.view(operand);
            let len = source.layout.shape[axis].clone();
            let part = View { layout: target.layout.slice(axis, &start, 1, &len), ..target.clone() };
            step = self.copy(source, part, self.origin(id));
            start = start + len;
        }
        self.place(id, step);
        self.views.insert(Value::first(id), target);
    }

    /// An op that updates its first operand: in place when nothing else needs
    /// the old content, else on a copy.
    fn in_place(&mut self, id: NodeId, node: &Node) {
        let (value, base) = (Value::first(id), node.operands[0]);
        let source = self.view(base);
        let dies = self.uses.get(&base) == Some(&1)
            && source.layout.is_dense()
            && !self.is_read_later(base, source.buffer, id);
        let donated = match &self.module.buffer(source.buffer).kind {
            _ if self.homes.contains_key(&source.buffer) => dies && self.returns_home(value, source.buffer),
            BufferKind::Temporary => dies && source.buffer.0 as usize >= self.first_buffer,
            _ => false,
        } && !self.targets.contains_key(&value);
        let target = if donated {
            source
        } else {
            let target = self.result(value);
            self.copy(source, target.clone(), format!("{} (copy)", self.origin(id)));
            target
        };
        let mut anchor = self.anchor(id);
        anchor.operands[0] = Operand::View(target.clone());
        let step = self.push(KernelStep {
            anchor: Some(anchor),
            epilogue: None,
            outputs: vec![target.clone()],
            origin: self.origin(id),
        });
        self.place(id, step);
        self.views.insert(value, target);
    }

    /// Does anything but `value` look at `buffer` at or after node `id`?
    fn is_read_later(&self, value: Value, buffer: BufferId, id: NodeId) -> bool {
        let others = self.views.iter().filter(|(other, view)| view.buffer == buffer && **other != value);
        others
            .into_iter()
            .any(|(other, _)| self.last_use.get(other).is_some_and(|&last| last >= id.0 as usize))
    }

    /// Does `value`, maybe after further updates, become what `buffer` is to hold?
    fn returns_home(&self, value: Value, buffer: BufferId) -> bool {
        let Some(&home) = self.homes.get(&buffer) else { return false };
        let mut current = home;
        while current != value {
            let node = self.graph.node(current.node);
            match node.operands.first() {
                Some(&base) if updates_first_operand(&node.op) => current = base,
                _ => return false,
            }
        }
        true
    }

    /// Copies outputs that no step wrote straight into their buffer.
    fn finish_outputs(&mut self) {
        for index in 0..self.module.io.outputs.len() {
            let target = self.module.io.outputs[index].buffer;
            let value = self.graph.outputs()[index].value;
            let source = self.view(value);
            if source.buffer != target {
                let to = View::whole(target, &self.module.io.outputs[index].ty);
                self.copy(source, to, format!("output {:?} (copy)", self.module.io.outputs[index].name));
            }
        }
    }

    /// Copies new state contents that were not updated in place.
    fn finish_states(&mut self) {
        let mut moves = vec![];
        for update in self.graph.updates() {
            let Some(&target) = self.state_buffers.get(&update.name) else { continue };
            let to = View::whole(target, self.graph.ty(update.value));
            moves.push((self.view(update.value), to, format!("update {:?} (copy)", update.name)));
        }
        self.move_all(moves);
    }

    /// Copies each view to its place, all at once: what lies in a place of another is saved first.
    fn move_all(&mut self, moves: Vec<(View, View, String)>) {
        let moves: Vec<_> = moves.into_iter().filter(|(source, to, _)| source != to).collect();
        let places: Vec<BufferId> = moves.iter().map(|(_, to, _)| to.buffer).collect();
        let mut pending = vec![];
        for (source, to, origin) in moves {
            let source = if places.contains(&source.buffer) {
                let saved = self.temporary(&format!("saved for {origin}"), &source.ty());
                self.copy(source, saved.clone(), origin.clone());
                saved
            } else {
                source
            };
            pending.push((source, to, origin));
        }
        for (source, to, origin) in pending {
            self.copy(source, to, origin);
        }
    }
}

fn refuse(subject: String, message: &str) -> OptError {
    OptError::Invalid(rlx_ir::IrError::Invalid(vec![Diagnostic::new(subject, message)]))
}

/// Does `op` become copy steps, whatever the backend?
pub(crate) fn is_copies(op: &Op) -> bool {
    matches!(op, Op::Concat(_))
}

/// The node at whose place each value is last read: regions and anchors that
/// merge into another step run where that step runs. Results of the graph are
/// read after everything.
fn last_uses(graph: &Graph, fates: &[Fate]) -> HashMap<Value, usize> {
    let mut runs_at: Vec<usize> = (0..graph.nodes().len()).collect();
    let mut last: HashMap<Value, usize> = HashMap::new();
    for output in graph.outputs().iter().chain(graph.updates()) {
        last.insert(output.value, usize::MAX);
    }
    for (id, node) in graph.iter().rev() {
        let index = id.0 as usize;
        if matches!(fates[index], Fate::Merged) {
            runs_at[index] = last.get(&Value::first(id)).copied().unwrap_or(index);
        }
        for operand in &node.operands {
            let slot = last.entry(*operand).or_insert(0);
            *slot = (*slot).max(runs_at[index]);
        }
    }
    last
}

/// The one element of a constant, as an instruction.
pub(crate) fn scalar_constant(graph: &Graph, value: Value) -> Option<(ScalarKind, DType)> {
    let Op::Constant(constant) = graph.op(value) else { return None };
    if constant.value.len() != 1 || constant.value.dtype().is_storage_only() {
        return None;
    }
    let kind = match constant.value.number(0) {
        Number::Float(value) => ScalarKind::Float(value.to_bits()),
        Number::Int(value) => ScalarKind::Int(i64::try_from(value).ok()?),
        Number::Complex(..) => return None,
    };
    Some((kind, constant.value.dtype()))
}
