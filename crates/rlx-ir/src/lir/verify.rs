//! The LIR verifier, and the proof type that executors accept.

use super::{
    BindingCheck, Buffer, BufferId, BufferKind, EpilogueInput, IoEntry, KernelStep, LirModule, Lives,
    LoopStep, Operand, PlanError, Region, Repeat, Step, View, lives::mentions,
};
use crate::dim::{Bindings, Dim, DimError, Symbol};
use crate::dtype::DType;
use crate::scalar::ScalarKind;
use crate::shape::{Shape, TensorType};
use std::collections::HashSet;
use std::ops::Deref;

/// A module that keeps the invariants of LIR.
#[derive(Clone, Debug)]
pub struct VerifiedLir(LirModule);

impl Deref for VerifiedLir {
    type Target = LirModule;
    fn deref(&self) -> &LirModule {
        &self.0
    }
}

/// What the LIR verifier found, all at once.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{}", .0.join("\n"))]
pub struct LirError(pub Vec<String>);

impl VerifiedLir {
    /// Verifies `module` and its prepare stages.
    ///
    /// # Errors
    /// Every broken invariant.
    pub fn new(module: LirModule) -> Result<VerifiedLir, LirError> {
        let mut findings = Checker::findings(&module, false);
        for stage in &module.prepare {
            findings.extend(
                Checker::findings(stage, true).into_iter().map(|finding| format!("prepare: {finding}")),
            );
            let is_unknown = |kind: BufferKind, entry: &&IoEntry| {
                let same = |b: &Buffer| b.name == entry.name && b.kind == kind && b.ty() == entry.ty;
                !module.buffers.iter().any(same)
            };
            let params = stage.io.params.iter().filter(|entry| is_unknown(BufferKind::Param, entry));
            let unknown =
                params.chain(stage.io.outputs.iter().filter(|entry| is_unknown(BufferKind::Prepared, entry)));
            let unknown = unknown.map(|entry| format!("prepare: {:?} is not in the module", entry.name));
            findings.extend(unknown);
        }
        for (id, buffer) in module.buffers.iter().enumerate() {
            let mut made = module.prepare.iter().flat_map(|stage| &stage.io.outputs);
            if buffer.kind == BufferKind::Prepared
                && !made.any(|entry| entry.name == buffer.name && entry.ty == buffer.ty())
            {
                findings.push(format!("b{id} {:?} is not an output of a prepare stage", buffer.name));
            }
        }
        if findings.is_empty() { Ok(VerifiedLir(module)) } else { Err(LirError(findings)) }
    }

    /// A prepare stage, which was verified with the module.
    pub fn prepare_stage(&self, index: usize) -> VerifiedLir {
        VerifiedLir(self.prepare[index].clone())
    }

    /// The module, no longer known to be verified.
    pub fn into_inner(self) -> LirModule {
        self.0
    }

    /// Checks what only concrete extents show: the constraints of every op,
    /// and every view inside its buffer.
    ///
    /// # Errors
    /// Every violated constraint, every view that leaves its buffer, and dims
    /// that do not evaluate.
    pub fn check_binding(&self, bindings: &Bindings) -> Result<(), LirError> {
        let mut findings = vec![];
        for check in &self.checks {
            if let Err(finding) = run_check(check, bindings) {
                findings.push(format!("{}: {finding}", check.origin));
            }
        }
        self.check_views(&self.steps, bindings, &mut vec![], &mut findings);
        if findings.is_empty() { Ok(()) } else { Err(LirError(findings)) }
    }

    /// Checks the views of `steps`; `loops` are the counters of the loops around them with their last values.
    fn check_views(
        &self,
        steps: &[Step],
        bindings: &Bindings,
        loops: &mut Vec<(Symbol, i64)>,
        findings: &mut Vec<String>,
    ) {
        for step in steps {
            let (origin, views) = match step {
                Step::Kernel(step) => (&step.origin, step.reads().into_iter().chain(&step.outputs).collect()),
                Step::Pack(_) => continue,
                Step::Branch(branch) => (&branch.origin, vec![&branch.predicate]),
                Step::Loop(looped) => match &looped.repeat {
                    Repeat::While { predicate, .. } => (&looped.origin, vec![predicate]),
                    Repeat::Times { counter, count } => {
                        match count.extent(bindings) {
                            Ok(0) => {}
                            Ok(count) => {
                                let mut inner = bindings.clone();
                                inner.set(counter, 0);
                                loops.push((counter.clone(), count as i64 - 1));
                                self.check_views(&looped.body, &inner, loops, findings);
                                loops.pop();
                            }
                            Err(error) => findings.push(format!("{}: {error}", looped.origin)),
                        }
                        continue;
                    }
                },
            };
            for view in views {
                if let Err(finding) = self.check_view(view, bindings, loops) {
                    findings.push(format!("{origin}: {finding}"));
                }
            }
            for steps in step.lists() {
                self.check_views(steps, bindings, loops, findings);
            }
        }
    }

    fn check_view(&self, view: &View, bindings: &Bindings, loops: &[(Symbol, i64)]) -> Result<(), String> {
        let text = |error: DimError| error.to_string();
        if let Ok(ty) = bind_type(&view.ty(), bindings)
            && !ty.fits()
        {
            return Err(format!("{ty} is beyond 2^48 elements"));
        }
        let Some((mut low, mut high)) = view_range(view, bindings).map_err(text)? else { return Ok(()) };
        for (counter, last) in loops {
            let reach = view.advance(counter, bindings).map_err(text)?.saturating_mul(*last);
            (low, high) = (low.saturating_add(reach.min(0)), high.saturating_add(reach.max(0)));
        }
        let size = self.buffer(view.buffer).shape.num_elements().eval(bindings).unwrap_or(0);
        if low < 0 || high >= size {
            let id = view.buffer.0;
            return Err(format!("view of b{id} spans {low}..={high}, outside its buffer of {size} elements"));
        }
        Ok(())
    }
}

fn run_check(check: &BindingCheck, bindings: &Bindings) -> Result<(), String> {
    let bind = |ty: &TensorType| bind_type(ty, bindings).map_err(|error| error.to_string());
    let operands = check.operands.iter().map(bind).collect::<Result<Vec<_>, _>>()?;
    let results = check.results.iter().map(bind).collect::<Result<Vec<_>, _>>()?;
    let op = check.op.map_dims(&|dim: &Dim| dim.eval(bindings).map_or_else(|_| dim.clone(), Dim::from));
    match op.infer(&operands.iter().collect::<Vec<_>>()) {
        Ok(inferred) if inferred == results => Ok(()),
        Ok(inferred) => Err(format!("results are {results:?}, inference gives {inferred:?}")),
        Err(violation) => Err(violation.to_string()),
    }
}

fn bind_type(ty: &TensorType, bindings: &Bindings) -> Result<TensorType, DimError> {
    Ok(TensorType::new(ty.dtype, ty.shape.eval(bindings)?.as_slice()))
}

/// Lowest and highest element that a view touches; `None` when it is empty.
fn view_range(view: &View, bindings: &Bindings) -> Result<Option<(i64, i64)>, DimError> {
    let (mut low, mut high) = (view.layout.offset.eval(bindings)?, view.layout.offset.eval(bindings)?);
    for (dim, stride) in view.layout.shape.dims().iter().zip(&view.layout.strides) {
        let extent = dim.extent(bindings)? as i64;
        if extent == 0 {
            return Ok(None);
        }
        let span = (extent - 1)
            .checked_mul(stride.eval(bindings)?)
            .ok_or_else(|| DimError::Overflow(dim.clone() * stride.clone()))?;
        low = low.saturating_add(span.min(0));
        high = high.saturating_add(span.max(0));
    }
    Ok(Some((low, high)))
}

struct Checker<'a> {
    module: &'a LirModule,
    written: HashSet<BufferId>,
    findings: Vec<String>,
    prepare: bool,
    /// Of the loops around the step.
    counters: Vec<Symbol>,
}

impl Checker<'_> {
    fn findings(module: &LirModule, prepare: bool) -> Vec<String> {
        let mut checker =
            Checker { module, written: HashSet::new(), findings: vec![], prepare, counters: vec![] };
        checker.module();
        checker.findings
    }

    /// Do steps of the module write such buffers?
    fn is_made(&self, kind: &BufferKind) -> bool {
        matches!(kind, BufferKind::Temporary | BufferKind::Output)
            || self.prepare && *kind == BufferKind::Prepared
    }

    fn module(&mut self) {
        for (index, buffer) in self.module.buffers.iter().enumerate() {
            // What has no elements need not be written: loops may leave out the parts of it.
            if !self.is_made(&buffer.kind) || buffer.shape.num_elements() == Dim::from(0) {
                self.written.insert(BufferId(index as u32));
            }
            if let BufferKind::Constant(literal) = &buffer.kind
                && literal.ty() != buffer.ty()
            {
                self.findings.push(format!("b{index} holds a constant of type {}", literal.ty()));
            }
        }
        self.steps(&self.module.steps);
        let io = &self.module.io;
        for entry in io.outputs.iter().chain(io.faults.iter().map(|faults| &faults.entry)) {
            if !self.written.contains(&entry.buffer) {
                self.findings.push(format!("output {:?} is never written", entry.name));
            }
        }
        self.io();
        self.plan();
        self.lives();
    }

    fn plan(&mut self) {
        let plan = &self.module.plan;
        if !plan.alignment.is_power_of_two() {
            self.findings.push(format!("alignment {} is not a power of two", plan.alignment));
        }
        for (index, buffer) in self.module.buffers.iter().enumerate() {
            let slots = plan.slots.iter().filter(|slot| slot.buffer.0 as usize == index).count();
            if slots != usize::from(buffer.kind.in_arena()) {
                self.findings.push(format!("b{index} has {slots} arena slots"));
            }
        }
        let is_static = plan.slots.iter().all(|slot| slot.size.as_static().is_some());
        if is_static {
            match plan.layout(&Bindings::new()) {
                Ok(layout) => {
                    if let Some((a, b)) = plan.overlap(&layout) {
                        self.findings.push(format!("b{} and b{} live at once in the same memory", a.0, b.0));
                    }
                }
                // Too large for this machine is the caller's problem, at binding.
                Err(PlanError::TooLarge) => {}
                Err(error) => self.findings.push(error.to_string()),
            }
        }
    }

    fn io(&mut self) {
        let io = &self.module.io;
        let faults = io.faults.as_ref().map_or(&[][..], |faults| std::slice::from_ref(&faults.entry));
        let lists: [(&str, &[IoEntry], BufferKind); 5] = [
            ("input", &io.inputs, BufferKind::Input),
            ("param", &io.params, BufferKind::Param),
            ("state", &io.states, BufferKind::State),
            ("output", &io.outputs, if self.prepare { BufferKind::Prepared } else { BufferKind::Output }),
            ("output", faults, BufferKind::Output),
        ];
        if let Some(words) = &io.faults {
            let expected = TensorType::new(DType::I64, [words.checks.len()]);
            if words.entry.ty != expected {
                self.findings.push(format!("fault words are {}, expected {expected}", words.entry.ty));
            }
        }
        for (what, entries, kind) in lists {
            for entry in entries {
                let buffer = self.module.buffers.get(entry.buffer.0 as usize);
                if buffer.is_none_or(|buffer| buffer.kind != kind || buffer.ty() != entry.ty) {
                    self.findings.push(format!(
                        "{what} {:?} is not b{} of type {}",
                        entry.name, entry.buffer.0, entry.ty
                    ));
                }
            }
        }
    }

    /// Every slot is as large as its buffer and alive whenever a step, the
    /// caller's feeding or the caller's reading touches it: executors hand out
    /// memory on the strength of this.
    fn lives(&mut self) {
        let lives = Lives::of(&self.module.steps);
        for slot in &self.module.plan.slots {
            let Some(buffer) = self.module.buffers.get(slot.buffer.0 as usize) else { continue };
            let (mut first, mut last) =
                lives.touched.get(&slot.buffer).copied().unwrap_or((slot.first, slot.last));
            match buffer.kind {
                BufferKind::Input => first = 0,
                BufferKind::Output => last = lives.end,
                _ => {}
            }
            if slot.first > first || slot.last < last {
                self.findings.push(format!(
                    "b{} is touched in {first}..={last}, its slot lives in {}..={}",
                    slot.buffer.0, slot.first, slot.last
                ));
            }
            if slot.size != buffer.ty().size_bytes() {
                self.findings.push(format!(
                    "b{} needs {} bytes, its slot has {}",
                    slot.buffer.0,
                    buffer.ty().size_bytes(),
                    slot.size
                ));
            }
        }
    }

    fn steps(&mut self, steps: &[Step]) {
        for step in steps {
            match step {
                Step::Kernel(step) => self.kernel(step),
                Step::Pack(pack) => {
                    if !self.prepare {
                        self.findings.push(format!("pack {:?} stands outside the prepare stage", pack.key));
                    }
                    self.view("pack", &pack.source, true);
                    if self.module.buffers.get(pack.target.0 as usize).is_none_or(|b| !self.is_made(&b.kind))
                    {
                        self.findings.push(format!(
                            "pack {:?} writes b{}, which is read-only",
                            pack.key, pack.target.0
                        ));
                    }
                    self.written.insert(pack.target);
                }
                Step::Branch(branch) => {
                    self.predicate(&branch.origin, &branch.predicate);
                    let before = self.written.clone();
                    self.steps(&branch.then);
                    let then = std::mem::replace(&mut self.written, before);
                    self.steps(&branch.otherwise);
                    // Only what both sides write is written afterwards.
                    self.written.retain(|id| then.contains(id));
                }
                Step::Loop(looped) => self.looped(looped),
            }
        }
    }

    fn predicate(&mut self, origin: &str, view: &View) {
        self.view(origin, view, true);
        let one = view.dtype == DType::Bool && view.layout.shape.rank() == 0;
        if !one {
            self.findings.push(format!("{origin}: the predicate is {}, expected bool[]", view.ty()));
        }
    }

    fn looped(&mut self, looped: &LoopStep) {
        let before = match &looped.repeat {
            Repeat::While { condition, predicate, .. } => {
                self.steps(condition);
                self.predicate(&looped.origin, predicate);
                self.written.clone()
            }
            Repeat::Times { counter, .. } => {
                if self.module.symbols.contains_key(counter) || self.counters.contains(counter) {
                    self.findings.push(format!("{}: the counter {counter} is taken", looped.origin));
                }
                self.counters.push(counter.clone());
                self.written.clone()
            }
        };
        self.steps(&looped.body);
        let after = std::mem::replace(&mut self.written, before);
        if let Repeat::Times { counter, .. } = &looped.repeat {
            self.counters.pop();
            // Iterations write these part by part; where there are none, there are no parts.
            let mut parts = vec![];
            super::walk(&looped.body, &mut |step| {
                if let Step::Kernel(step) = step {
                    let moves = step.outputs.iter().filter(|view| mentions(&view.layout.offset, counter));
                    parts.extend(moves.map(|view| view.buffer));
                }
            });
            self.written.extend(parts.into_iter().filter(|buffer| after.contains(buffer)));
        }
    }

    /// Counters of loops stand in offsets alone, and those grow by the same amount with each iteration.
    fn counters(&mut self, origin: &str, view: &View) {
        let layout = &view.layout;
        for counter in &self.counters {
            let fixed = layout.shape.dims().iter().chain(&layout.strides).all(|dim| !mentions(dim, counter));
            let at =
                |value: i64| layout.offset.substitute(&|name| (*name == **counter).then(|| Dim::from(value)));
            let steady = at(0) + Dim::symbol(counter) * (at(1) - at(0));
            if !fixed || steady != layout.offset {
                self.findings
                    .push(format!("{origin}: a view of b{} is not steady in {counter}", view.buffer.0));
            }
        }
    }

    fn kernel(&mut self, step: &KernelStep) {
        let origin = step.origin.as_str();
        for view in step.reads() {
            self.view(origin, view, true);
        }
        for operand in step.anchor.iter().flat_map(|anchor| &anchor.operands) {
            match operand {
                Operand::Region(region) => self.region(origin, region),
                Operand::Packed { buffer, .. } if !self.written.contains(buffer) => {
                    self.findings.push(format!("{origin}: packed operand b{} is not prepared", buffer.0));
                }
                _ => {}
            }
        }
        let Some(domain) = step.outputs.first().map(|view| view.layout.shape.clone()) else {
            self.findings.push(format!("{origin}: writes nothing"));
            return;
        };
        for output in &step.outputs {
            self.view(origin, output, false);
            let Some(buffer) = self.module.buffers.get(output.buffer.0 as usize) else { continue };
            if !self.is_made(&buffer.kind) && buffer.kind != BufferKind::State {
                self.findings.push(format!("{origin}: writes b{}, which is read-only", output.buffer.0));
            }
        }
        if step.anchor.is_none() && step.epilogue.is_none() {
            self.findings.push(format!("{origin}: has neither anchor nor region"));
        }
        self.results(step, &domain);
        if step.is_in_place() {
            let first = step.anchor.as_ref().and_then(|anchor| anchor.operands.first());
            let same = matches!(first, Some(Operand::View(view)) if Some(view) == step.outputs.first());
            if !same {
                self.findings.push(format!("{origin}: an in-place op must write the view it reads"));
            }
        }
        self.written.extend(step.outputs.iter().map(|view| view.buffer));
    }

    fn results(&mut self, step: &KernelStep, domain: &Shape) {
        let origin = step.origin.as_str();
        if let Some(anchor) = &step.anchor {
            let types: Vec<_> = anchor.operands.iter().map(Operand::ty).collect();
            match anchor.op.infer(&types.iter().collect::<Vec<_>>()) {
                Ok(inferred) if inferred == anchor.results => {}
                Ok(inferred) => {
                    self.findings.push(format!(
                        "{origin}: results are {:?}, inference gives {inferred:?}",
                        anchor.results
                    ));
                }
                Err(violation) => self.findings.push(format!("{origin}: {violation}")),
            }
        }
        let produced: Vec<_> = match (&step.epilogue, &step.anchor) {
            (Some(epilogue), anchor) => {
                let mut dtypes = vec![];
                for input in &epilogue.inputs {
                    let ty = match (input, anchor) {
                        (EpilogueInput::View(view), _) => view.ty(),
                        (EpilogueInput::Anchor, Some(anchor)) if !anchor.results.is_empty() => {
                            anchor.results[0].clone()
                        }
                        (EpilogueInput::Anchor, _) => {
                            self.findings
                                .push(format!("{origin}: the epilogue reads an anchor that is not there"));
                            return;
                        }
                    };
                    if ty.shape != *domain {
                        self.findings
                            .push(format!("{origin}: epilogue input {ty} is not over the domain {domain}"));
                    }
                    dtypes.push(ty.dtype);
                }
                if !self.program(origin, &epilogue.program, &dtypes, domain.rank()) {
                    return;
                }
                let outputs = epilogue.program.output_dtypes();
                outputs.into_iter().map(|dtype| (dtype, domain.clone())).collect()
            }
            (None, Some(anchor)) => anchor.results.iter().map(|ty| (ty.dtype, ty.shape.clone())).collect(),
            (None, None) => return,
        };
        let stored: Vec<_> =
            step.outputs.iter().map(|view| (view.dtype, view.layout.shape.clone())).collect();
        if produced != stored {
            let spell = |types: &[(DType, Shape)]| {
                join(types.iter().map(|(dtype, shape)| TensorType::new(*dtype, shape.clone())))
            };
            self.findings.push(format!("{origin}: stores {}, produces {}", spell(&stored), spell(&produced)));
        }
    }

    fn region(&mut self, origin: &str, region: &Region) {
        for view in region.inputs.iter().filter(|view| view.layout.shape != region.shape) {
            self.findings.push(format!("{origin}: region input {} is not over {}", view.ty(), region.shape));
        }
        let dtypes: Vec<_> = region.inputs.iter().map(|view| view.dtype).collect();
        self.program(origin, &region.program, &dtypes, region.shape.rank());
        if region.program.outputs.len() != 1 {
            self.findings.push(format!("{origin}: an operand region has one output"));
        }
    }

    /// Checks a program; is it sound in itself?
    fn program(
        &mut self,
        origin: &str,
        program: &crate::ScalarProgram,
        dtypes: &[DType],
        rank: usize,
    ) -> bool {
        if program.inputs != dtypes {
            self.findings.push(format!(
                "{origin}: region inputs are [{}], its program takes [{}]",
                join(dtypes),
                join(&program.inputs)
            ));
        }
        if let Err(problem) = program.check() {
            self.findings.push(format!("{origin}: {problem}"));
            return false;
        }
        let outside = program
            .instrs
            .iter()
            .any(|instr| matches!(instr.kind, ScalarKind::Index(axis) if axis as usize >= rank));
        if outside {
            self.findings.push(format!("{origin}: the region asks for a coordinate beyond rank {rank}"));
        }
        true
    }

    fn view(&mut self, origin: &str, view: &View, read: bool) {
        let Some(buffer) = self.module.buffers.get(view.buffer.0 as usize) else {
            self.findings.push(format!("{origin}: there is no b{}", view.buffer.0));
            return;
        };
        if view.layout.strides.len() != view.layout.shape.rank() {
            self.findings
                .push(format!("{origin}: a view of b{} has a stride too many or too few", view.buffer.0));
        }
        if view.dtype != buffer.dtype && view.dtype.size_of() != buffer.dtype.size_of() {
            self.findings
                .push(format!("{origin}: b{} is {}, seen as {}", view.buffer.0, buffer.dtype, view.dtype));
        }
        self.counters(origin, view);
        let repeats = |(stride, dim): (&Dim, &Dim)| stride.is(0) && !dim.is(1) && !dim.is(0);
        let empty = view.layout.shape.dims().iter().any(|dim| dim.is(0));
        if !read && !empty && view.layout.strides.iter().zip(view.layout.shape.dims()).any(repeats) {
            self.findings
                .push(format!("{origin}: writes several elements of b{} to one place", view.buffer.0));
        }
        if read && !self.written.contains(&view.buffer) {
            self.findings.push(format!("{origin}: reads b{} before anything wrote it", view.buffer.0));
        }
    }
}

fn join(items: impl IntoIterator<Item: std::fmt::Display>) -> String {
    items.into_iter().map(|item| item.to_string()).collect::<Vec<_>>().join(", ")
}
