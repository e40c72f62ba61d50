//! Memory planning: which buffers share memory, and when each is alive.
//!
//! Three things happen here. What becomes a state or a carry is made in its
//! place where that is safe. An elementwise step may write over an input that
//! dies with it. Then every arena buffer gets a slot with its size and life;
//! [`rlx_ir::lir::LirBufferPlan::layout`] turns slots into offsets once the
//! symbols are bound.
//!
//! Lives are those of [`rlx_ir::lir::Lives`]; inputs live from before the first
//! step, outputs to after the last.

use rlx_ir::lir::{
    BufferId, BufferKind, EpilogueInput, KernelStep, LirBufferSlot, LirModule, Lives, Repeat, Step, View,
};
use std::collections::{HashMap, HashSet};

/// [`plan_memory`] under its older name.
pub use plan_memory as plan_memory_aligned;

/// Plans `module` with every slot at a multiple of `alignment` bytes. Copies that need not be made go; their numbers,
/// in the order of a walk, are returned.
pub fn plan_memory(module: &mut LirModule, alignment: usize) -> Vec<usize> {
    update_in_place(module);
    reuse_in_place(module);
    let removed = remove_idle_copies(module);
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
    removed
}

/// When and where a buffer is touched.
struct Use {
    first: usize,
    last: usize,
    /// The loops around all of it, outermost first, by number of their steps.
    loops: Vec<usize>,
}

/// The uses of every buffer; steps are numbered from 0 in the order of a walk.
fn uses(module: &LirModule) -> HashMap<BufferId, Use> {
    let mut uses: HashMap<BufferId, Use> = HashMap::new();
    walk(&module.steps, &mut vec![], &mut 0, &mut |number, loops, step| {
        for buffer in step.reads().into_iter().chain(step.writes()) {
            let entry =
                uses.entry(buffer).or_insert_with(|| Use { first: number, last: 0, loops: loops.to_vec() });
            // A loop reads its predicate after its condition as well.
            entry.last = if matches!(step, Step::Loop(_)) { usize::MAX } else { entry.last.max(number) };
            let common = entry.loops.iter().zip(loops).take_while(|(a, b)| a == b).count();
            entry.loops.truncate(common);
        }
    });
    uses
}

/// Calls `visit` with the number of every step, the loops around it, and the step. A loop that reads its predicate
/// stands for itself in front of its steps and inside itself.
fn walk<'a>(
    steps: &'a [Step],
    loops: &mut Vec<usize>,
    number: &mut usize,
    visit: &mut dyn FnMut(usize, &[usize], &'a Step),
) {
    for step in steps {
        let own = *number;
        *number += 1;
        let is_loop = matches!(step, Step::Loop(_));
        if is_loop {
            loops.push(own);
        }
        visit(own, loops, step);
        for list in step.lists() {
            walk(list, loops, number, visit);
        }
        if is_loop {
            loops.pop();
        }
    }
}

/// The whole buffers between which a step only copies.
fn whole_copy(module: &LirModule, step: &Step) -> Option<(BufferId, BufferId)> {
    let Step::Kernel(step) = step else { return None };
    let (Some(epilogue), None, [to]) = (&step.epilogue, &step.anchor, step.outputs.as_slice()) else {
        return None;
    };
    let [EpilogueInput::View(from)] = epilogue.inputs.as_slice() else { return None };
    let alike = epilogue.program.is_identity()
        && is_whole(module, from)
        && is_whole(module, to)
        && from.layout == to.layout
        && from.dtype == to.dtype;
    alike.then_some((from.buffer, to.buffer))
}

fn is_whole(module: &LirModule, view: &View) -> bool {
    *view == View::whole(view.buffer, &module.buffer(view.buffer).ty())
}

/// Makes next values of carries and states in the place of the old ones, where nothing reads those any more: the copies
/// at the end of a body or of the run then have nothing to do.
fn update_in_place(module: &mut LirModule) {
    let uses = uses(module);
    let mut copies = vec![];
    let mut touches: HashMap<BufferId, Vec<usize>> = HashMap::new();
    let mut writers: HashMap<usize, (&KernelStep, Vec<usize>)> = HashMap::new();
    // The last step that could fail, at which no state may have changed yet.
    let mut may_fail = None;
    walk(&module.steps, &mut vec![], &mut 0, &mut |number, loops, step| {
        if let Some((from, to)) = whole_copy(module, step) {
            copies.push((number, loops.to_vec(), from, to));
        }
        match step {
            Step::Kernel(step) => {
                if step.anchor.is_some() {
                    may_fail = Some(number);
                }
                writers.insert(number, (step, loops.to_vec()));
            }
            _ => may_fail = Some(number),
        }
        step.reads()
            .into_iter()
            .chain(step.writes())
            .for_each(|buffer| touches.entry(buffer).or_default().push(number));
    });
    let fits = |(number, loops, from, to): &(usize, Vec<usize>, BufferId, BufferId)| {
        let (made, old) = (&uses[from], &uses[to]);
        let Some((maker, around)) = writers.get(&made.first) else { return false };
        // A new carry belongs to one iteration, the carry to more.
        let is_next = match module.buffer(*to).kind {
            BufferKind::State => loops.is_empty() && may_fail.is_none_or(|last| made.first > last),
            _ => old.loops.len() < loops.len(),
        };
        let reads_alike = maker.reads().iter().all(|view| view.buffer != *to || is_whole(module, view));
        let elementwise = maker.anchor.is_none() && maker.outputs.len() == 1;
        let reads_old = maker.read_buffers().contains(to);
        // The step that makes the value is not in a loop inside, and nothing but it touches the old one before the
        // copy.
        from != to
            && is_next
            && module.buffer(*from).kind == BufferKind::Temporary
            && made.loops == *loops
            && around == loops
            && module.buffer(*from).dtype.size_of().is_some()
            && !maker.read_buffers().contains(from)
            && maker.outputs.iter().all(|view| is_whole(module, view))
            && (!reads_old || elementwise && reads_alike)
            && !touches[to].iter().any(|&touch| touch > made.first && touch < *number)
            && touches[to].iter().filter(|&&touch| touch == *number).count() == 1
    };
    let mut renamed = HashMap::new();
    for copy in copies.iter().filter(|copy| fits(copy)) {
        let (.., from, to) = *copy;
        if !renamed.contains_key(&from) && !renamed.values().any(|other| *other == to) {
            renamed.insert(from, to);
        }
    }
    rename_all(module, &renamed);
}

/// Lets elementwise steps write over an input that dies with them.
fn reuse_in_place(module: &mut LirModule) {
    let mut uses = uses(module);
    let mut steps = vec![];
    walk(&module.steps, &mut vec![], &mut 0, &mut |number, loops, step| {
        if let Step::Kernel(step) = step
            && step.anchor.is_none()
        {
            steps.push((number, loops.to_vec(), step.clone()));
        }
    });
    let mut renamed: HashMap<BufferId, BufferId> = HashMap::new();
    for (number, loops, step) in steps {
        let mut step = Step::Kernel(step);
        rename_step(&mut step, &renamed);
        let Step::Kernel(step) = &step else { continue };
        // What other iterations or steps around the loop need is not theirs alone.
        let own = |buffer: BufferId| uses.get(&buffer).filter(|one| one.loops == loops);
        let Some((dying, fresh)) = reusable(
            module,
            step,
            |buffer| own(buffer).is_some_and(|one| one.last == number),
            |buffer| own(buffer).is_some_and(|one| one.first == number),
        ) else {
            continue;
        };
        // The fresh buffer becomes another name of the dying one.
        let last = uses.get(&fresh).map_or(number, |one| one.last);
        if let Some(one) = uses.get_mut(&dying) {
            one.last = last;
        }
        renamed.insert(fresh, dying);
    }
    rename_all(module, &renamed);
}

fn rename_all(module: &mut LirModule, renamed: &HashMap<BufferId, BufferId>) {
    module.steps.iter_mut().for_each(|step| rename_step(step, renamed));
    for alias in &mut module.plan.aliases {
        alias.root = resolve(alias.root, renamed);
    }
}

/// Takes out copies of buffers to themselves.
fn remove_idle_copies(module: &mut LirModule) -> Vec<usize> {
    let mut idle = vec![];
    walk(&module.steps, &mut vec![], &mut 0, &mut |number, _, step| {
        if whole_copy(module, step).is_some_and(|(from, to)| from == to) {
            idle.push(number);
        }
    });
    let mut steps = std::mem::take(&mut module.steps);
    without(&mut steps, &idle, &mut 0);
    module.steps = steps;
    idle
}

fn without(steps: &mut Vec<Step>, idle: &[usize], number: &mut usize) {
    steps.retain_mut(|step| {
        let keeps = !idle.contains(number);
        *number += 1;
        match step {
            Step::Kernel(_) | Step::Pack(_) => {}
            Step::Branch(branch) => {
                without(&mut branch.then, idle, number);
                without(&mut branch.otherwise, idle, number);
            }
            Step::Loop(looped) => {
                if let Repeat::While { condition, .. } = &mut looped.repeat {
                    without(condition, idle, number);
                }
                without(&mut looped.body, idle, number);
            }
        }
        keeps
    });
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
    let whole = |view: &View| is_whole(module, view);
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

/// Gives the buffers of a step and of the steps inside it their new ids; those not in `renamed` keep theirs.
pub(crate) fn rename_step(step: &mut Step, renamed: &HashMap<BufferId, BufferId>) {
    step.rename_buffers(&mut |buffer| *buffer = resolve(*buffer, renamed));
}

/// Temporaries that nothing touches any more take no memory; constants and
/// prepared buffers that nothing reads are kept out of the module as well.
fn drop_unused_buffers(module: &mut LirModule) {
    let mut used: HashSet<BufferId> = HashSet::new();
    module.steps.iter().for_each(|step| used.extend(step.touched()));
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
