//! Memory planning: which buffers share memory, and when each is alive.
//!
//! Two things happen here. An elementwise step may write over an input that
//! dies with it. Then every arena buffer gets a slot with its size and life;
//! [`rlx_ir::lir::LirBufferPlan::layout`] turns slots into offsets once the
//! symbols are bound.
//!
//! Lives are those of [`rlx_ir::lir::Lives`]; inputs live from before the first
//! step, outputs to after the last.

use rlx_ir::lir::{
    BufferId, BufferKind, EpilogueInput, KernelStep, LirBufferSlot, LirModule, Lives, Operand, Step, View,
};
use std::collections::{HashMap, HashSet};

/// [`plan_memory`] under its older name.
pub use plan_memory as plan_memory_aligned;

/// Plans `module` with every slot at a multiple of `alignment` bytes.
pub fn plan_memory(module: &mut LirModule, alignment: usize) {
    reuse_in_place(module);
    drop_unused_buffers(module);
    let lives = Lives::of(&module.steps);
    let end = lives.end;
    let mut slots = vec![];
    for (index, buffer) in module.buffers.iter().enumerate() {
        if !buffer.kind.in_arena() {
            continue;
        }
        let id = BufferId(index as u32);
        let (mut first, mut last) = lives.touched.get(&id).copied().unwrap_or((end, 0));
        match buffer.kind {
            BufferKind::Input => {
                first = 0;
                last = last.max(first);
            }
            BufferKind::Output => {
                last = end;
                first = first.min(last);
            }
            _ => {}
        }
        slots.push(LirBufferSlot { buffer: id, size: buffer.ty().size_bytes(), first, last });
    }
    module.plan.slots = slots;
    module.plan.alignment = alignment;
}

/// Lets elementwise steps write over an input that dies with them.
fn reuse_in_place(module: &mut LirModule) {
    let mut last_use: HashMap<BufferId, usize> = HashMap::new();
    let mut first_write: HashMap<BufferId, usize> = HashMap::new();
    for (position, step) in module.steps.iter().enumerate() {
        let step = match step {
            Step::Kernel(step) => step,
            Step::Pack(pack) => {
                last_use.insert(pack.source.buffer, position);
                continue;
            }
            // Control flow would need lives across iterations: leave such modules as they are.
            Step::Branch(_) | Step::Loop(_) => return,
        };
        for buffer in step.read_buffers() {
            last_use.insert(buffer, position);
        }
        for view in &step.outputs {
            last_use.insert(view.buffer, position);
            first_write.entry(view.buffer).or_insert(position);
        }
    }
    let mut renamed: HashMap<BufferId, BufferId> = HashMap::new();
    for position in 0..module.steps.len() {
        rename_step(&mut module.steps[position], &renamed);
        let Step::Kernel(step) = &module.steps[position] else { continue };
        let step = step.clone();
        let Some((dying, fresh)) = reusable(
            module,
            &step,
            |buffer| last_use.get(&buffer) == Some(&position),
            |buffer| first_write.get(&buffer) == Some(&position),
        ) else {
            continue;
        };
        // The fresh buffer becomes another name of the dying one.
        let end = last_use.get(&fresh).copied().unwrap_or(position);
        renamed.insert(fresh, dying);
        last_use.insert(dying, end);
        rename_step(&mut module.steps[position], &renamed);
    }
    for alias in &mut module.plan.aliases {
        alias.root = resolve(alias.root, &renamed);
    }
}

fn resolve(buffer: BufferId, renamed: &HashMap<BufferId, BufferId>) -> BufferId {
    renamed.get(&buffer).copied().unwrap_or(buffer)
}

/// An input of an elementwise step that dies there and fits its output.
fn reusable(
    module: &LirModule,
    step: &KernelStep,
    dies: impl Fn(BufferId) -> bool,
    is_fresh: impl Fn(BufferId) -> bool,
) -> Option<(BufferId, BufferId)> {
    let ([output], None) = (step.outputs.as_slice(), &step.anchor) else { return None };
    let fresh = module.buffer(output.buffer);
    let whole = |view: &View| *view == View::whole(view.buffer, &module.buffer(view.buffer).ty());
    if fresh.kind != BufferKind::Temporary || !is_fresh(output.buffer) || !whole(output) {
        return None;
    }
    let reads = step.reads();
    reads.iter().find_map(|input| {
        let buffer = module.buffer(input.buffer);
        let fits = buffer.kind == BufferKind::Temporary
            && dies(input.buffer)
            && whole(input)
            && input.layout == output.layout
            && buffer.dtype.size_of().is_some()
            && buffer.dtype == fresh.dtype;
        let read_elsewhere =
            reads.iter().any(|other| other.buffer == input.buffer && other.layout != input.layout);
        (fits && !read_elsewhere).then_some((input.buffer, output.buffer))
    })
}

/// Every buffer that a step reads or writes; control flow is looked into by its caller.
pub(crate) fn touched(step: &Step) -> Vec<BufferId> {
    match step {
        Step::Kernel(step) => {
            let mut touched = step.read_buffers();
            touched.extend(step.outputs.iter().map(|view| view.buffer));
            touched
        }
        Step::Pack(pack) => vec![pack.source.buffer, pack.target],
        Step::Branch(_) | Step::Loop(_) => vec![],
    }
}

/// Gives the buffers of a step their new ids; those that are not in `renamed` keep theirs.
pub(crate) fn rename_step(step: &mut Step, renamed: &HashMap<BufferId, BufferId>) {
    let fix = |view: &mut View| view.buffer = resolve(view.buffer, renamed);
    let step = match step {
        Step::Kernel(step) => step,
        Step::Pack(pack) => {
            fix(&mut pack.source);
            pack.target = resolve(pack.target, renamed);
            return;
        }
        Step::Branch(_) | Step::Loop(_) => return,
    };
    step.outputs.iter_mut().for_each(fix);
    for operand in step.anchor.iter_mut().flat_map(|anchor| &mut anchor.operands) {
        match operand {
            Operand::View(view) => fix(view),
            Operand::Region(region) => region.inputs.iter_mut().for_each(fix),
            Operand::Packed { buffer, .. } => *buffer = resolve(*buffer, renamed),
        }
    }
    for input in step.epilogue.iter_mut().flat_map(|epilogue| &mut epilogue.inputs) {
        if let EpilogueInput::View(view) = input {
            fix(view);
        }
    }
}

/// Temporaries that nothing touches any more take no memory; constants and
/// prepared buffers that nothing reads are kept out of the module as well.
fn drop_unused_buffers(module: &mut LirModule) {
    let mut used: HashSet<BufferId> = HashSet::new();
    let mut has_control_flow = false;
    module.for_each_step(&mut |step| used.extend(touched(step)));
    for step in &module.steps {
        has_control_flow |= matches!(step, Step::Branch(_) | Step::Loop(_));
    }
    if has_control_flow {
        return;
    }
    let io = &module.io;
    used.extend(
        io.inputs.iter().chain(&io.params).chain(&io.states).chain(&io.outputs).map(|entry| entry.buffer),
    );
    let mut renamed: HashMap<BufferId, BufferId> = HashMap::new();
    let mut kept = vec![];
    for (index, buffer) in std::mem::take(&mut module.buffers).into_iter().enumerate() {
        let id = BufferId(index as u32);
        if used.contains(&id) {
            renamed.insert(id, BufferId(kept.len() as u32));
            kept.push(buffer);
        }
    }
    module.buffers = kept;
    module.steps.iter_mut().for_each(|step| rename_step(step, &renamed));
    let io = &mut module.io;
    let lists = [&mut io.inputs, &mut io.params, &mut io.states, &mut io.outputs];
    for entry in lists.into_iter().flatten() {
        entry.buffer = resolve(entry.buffer, &renamed);
    }
    module.plan.aliases.retain(|alias| used.contains(&alias.root));
    for alias in &mut module.plan.aliases {
        alias.root = resolve(alias.root, &renamed);
    }
}
