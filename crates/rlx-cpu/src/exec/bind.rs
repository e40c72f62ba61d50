//! Binding: a LIR step with concrete extents becomes work.
//!
//! Steps whose regions no kernel takes are split: the region gets a workspace
//! buffer and a step of its own. An anchor whose operands no kernel takes as
//! they lie is tried again on dense copies, then on copies in `f32`; what is
//! left runs through the reference evaluation. So any module that verifies
//! runs here, whatever capabilities it was compiled for.

use super::complex::{Parts, parts_of};
use super::conv::ConvStep;
use super::copy::CopyStep;
use super::matmul::{self, Elements, Finish, MatmulStep, PackWork, RightOperand, takes_region};
use super::memory::{Moves, Span, StepSpans};
use super::region::{RegionCore, RegionInput, RegionStep, Source};
use super::select::{Site, select};
use super::steps::{BoundStep, Instruction, Reference};
use super::tape::{Class, Tape, class_of};
use super::view::BoundView;
use super::work::Work;
use crate::kernels::Context;
use rlx_driver::DriverError;
use rlx_ir::lir::{
    Anchor, BranchStep, BufferId, Epilogue, EpilogueInput, KernelStep, LirModule, LoopStep, Operand,
    PackStep, Region, Repeat, Step, View,
};
use rlx_ir::ops::Reduce;
use rlx_ir::{Bindings, DType, Dim, DimError, Op, ScalarKind, ScalarOp, ScalarProgram, Symbol, TensorType};
use std::sync::Arc;

/// Everything that a binding needs to make steps.
pub struct Binder<'a> {
    /// The module.
    pub module: &'a LirModule,
    /// Values of the symbols; counters of loops are 0.
    pub bindings: Bindings,
    /// Instruction set and threads.
    pub context: Context<'a>,
    /// Sizes in bytes of workspace buffers; their ids follow the module's.
    pub workspace: Vec<usize>,
    /// The steps so far.
    pub steps: Vec<BoundStep>,
    /// What runs when.
    pub program: Vec<Instruction>,
    /// How views move with the counters of loops.
    pub moves: Moves,
    /// Counters of the loops around the step, with their numbers.
    pub around: Vec<(Symbol, usize)>,
    /// Number of loops so far.
    pub loops: usize,
}

/// How operands and results are brought to a kernel.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Bring {
    /// As they lie.
    AsIs,
    /// By dense copies where they are not dense.
    Dense,
    /// Narrow floats by dense copies in `f32` too.
    Wide,
}

fn failed(origin: &str) -> impl FnOnce(String) -> DriverError + use<'_> {
    move |fault| DriverError::Fault { node: origin.to_string(), fault }
}

impl<'a> Binder<'a> {
    /// Without steps yet.
    pub fn new(module: &'a LirModule, bindings: Bindings, context: Context<'a>) -> Binder<'a> {
        let (workspace, steps, program) = (vec![], vec![], vec![]);
        let (moves, around) = (Moves::default(), vec![]);
        Binder { module, bindings, context, workspace, steps, program, moves, around, loops: 0 }
    }
}

impl Binder<'_> {
    /// Binds steps.
    ///
    /// # Errors
    /// Dims that do not evaluate, spans that overlap.
    pub fn bind(&mut self, steps: &[Step]) -> Result<(), DriverError> {
        for step in steps {
            let first = self.steps.len();
            match step {
                Step::Kernel(step) => self.kernel(step)?,
                Step::Pack(pack) => self.pack(pack)?,
                Step::Branch(branch) => self.branch(branch)?,
                Step::Loop(looped) => self.looped(looped)?,
            }
            if step.lists().is_empty() {
                self.program.extend((first..self.steps.len()).map(Instruction::Run));
            }
        }
        Ok(())
    }

    /// An instruction that goes on elsewhere unless the predicate holds; where is not known yet.
    fn unless(&mut self, predicate: &View, origin: &str) -> Result<usize, DriverError> {
        let spans = StepSpans::new(vec![self.view(predicate)?.span], vec![]).map_err(failed(origin))?;
        self.program.push(Instruction::Unless { spans, to: 0 });
        Ok(self.program.len() - 1)
    }

    fn branch(&mut self, branch: &BranchStep) -> Result<(), DriverError> {
        let unless = self.unless(&branch.predicate, &branch.origin)?;
        self.bind(&branch.then)?;
        let jump = self.program.len();
        self.program.push(Instruction::Jump { to: 0 });
        self.target(unless);
        self.bind(&branch.otherwise)?;
        self.target(jump);
        Ok(())
    }

    /// Makes the instruction at `from` go on at what comes next.
    fn target(&mut self, from: usize) {
        let next = self.program.len();
        if let Instruction::Unless { to, .. } | Instruction::Jump { to } | Instruction::Until { to, .. } =
            &mut self.program[from]
        {
            *to = next;
        }
    }

    fn looped(&mut self, looped: &LoopStep) -> Result<(), DriverError> {
        let number = self.loops;
        let (count, symbol) = match &looped.repeat {
            Repeat::Times { counter, count } => (count.extent(&self.bindings)?, Some(counter)),
            Repeat::While { .. } => (0, None),
        };
        if symbol.is_some() && count == 0 {
            return Ok(());
        }
        self.loops += 1;
        self.program.push(Instruction::Enter { number });
        let start = self.program.len();
        let exit = match &looped.repeat {
            Repeat::Times { counter, .. } => {
                self.program.push(Instruction::Until { number, count, to: 0 });
                self.around.push((counter.clone(), number));
                self.bindings.set(counter, 0);
                start
            }
            Repeat::While { condition, predicate, limit } => {
                self.bind(condition)?;
                let exit = self.unless(predicate, &looped.origin)?;
                if let Some(limit) = limit {
                    let limit = limit.extent(&self.bindings)?;
                    self.program.push(Instruction::Limit { number, limit, origin: looped.origin.clone() });
                }
                exit
            }
        };
        self.bind(&looped.body)?;
        if symbol.is_some() {
            self.around.pop();
        }
        self.program.push(Instruction::Next { number, to: start });
        self.target(exit);
        Ok(())
    }

    fn view(&mut self, view: &View) -> Result<BoundView, DriverError> {
        let mut bound = BoundView::new(view, &self.bindings)?;
        let mut way = vec![];
        for (counter, number) in &self.around {
            let elements = view.advance(counter, &self.bindings)?;
            if elements != 0 {
                let width = view.dtype.size_of().unwrap_or(0) as isize;
                way.push((*number, (elements as isize).saturating_mul(width)));
            }
        }
        bound.span.moves = self.moves.number(way);
        Ok(bound)
    }

    /// A dense workspace buffer for a tensor of type `ty`.
    fn workspace(&mut self, ty: &TensorType) -> Result<View, DriverError> {
        let size = ty.size_bytes().extent(&self.bindings)?;
        let id = BufferId((self.module.buffers.len() + self.workspace.len()) as u32);
        self.workspace.push(size);
        Ok(View::whole(id, ty))
    }

    fn push(&mut self, spans: StepSpans, work: impl Work + 'static, origin: &str) {
        self.steps.push(BoundStep { spans, work: Box::new(work), origin: origin.into() });
    }

    fn pack(&mut self, pack: &PackStep) -> Result<(), DriverError> {
        let mut source = self.view(&pack.source)?;
        if matches!(&pack.op, Op::MatMul(op) if op.transpose_b) {
            matmul::swap_last(&mut source);
        }
        let len = self.module.buffer(pack.target).ty().size_bytes().extent(&self.bindings)?;
        let target = Span { buffer: pack.target, start: 0, len, moves: 0 };
        let spans = StepSpans::new(vec![source.span], vec![target]).map_err(failed(&pack.key))?;
        let refused = || failed(&pack.key)(format!("no kernel packs {}", pack.source.dtype));
        let work = PackWork::new(source).ok_or_else(refused)?;
        self.push(spans, work, &pack.key);
        Ok(())
    }

    fn kernel(&mut self, step: &KernelStep) -> Result<(), DriverError> {
        let Some(anchor) = &step.anchor else {
            let epilogue = step.epilogue.as_ref().expect("a verified step has an anchor or a region");
            return self.region(epilogue, None, &step.outputs, &step.origin);
        };
        if self.matmul(anchor, step)? || self.convolution(anchor, step)? {
            return Ok(());
        }
        if let Some(epilogue) = &step.epilogue {
            let target = self.workspace(&anchor.results[0])?;
            self.kernel(&KernelStep { epilogue: None, outputs: vec![target.clone()], ..step.clone() })?;
            return self.region(epilogue, Some(&target), &step.outputs, &step.origin);
        }
        // Regions before the anchor become steps of their own.
        let mut operands = vec![];
        for operand in &anchor.operands {
            operands.push(match operand {
                Operand::View(view) => view.clone(),
                Operand::Region(region) => self.before(region, &operand.ty(), &step.origin)?,
                Operand::Packed { buffer, .. } => View::whole(*buffer, &self.module.buffer(*buffer).ty()),
            });
        }
        self.anchor(&anchor.op, &operands, &step.outputs, &step.origin)
    }

    /// Can the region after a product run on its tiles? It must have one computed result, and not read what it
    /// writes.
    fn ends_tiles(&mut self, step: &KernelStep, output: &BoundView) -> Result<bool, DriverError> {
        let Some(epilogue) = &step.epilogue else { return Ok(true) };
        for input in &epilogue.inputs {
            if let EpilogueInput::View(view) = input
                && self.view(view)?.span.buffer == output.span.buffer
            {
                return Ok(false);
            }
        }
        Ok(epilogue.program.output_dtypes().len() == 1 && is_computed(&epilogue.program))
    }

    /// Runs a region before an anchor into a workspace buffer.
    fn before(&mut self, region: &Region, ty: &TensorType, origin: &str) -> Result<View, DriverError> {
        let target = self.workspace(ty)?;
        let inputs = region.inputs.iter().cloned().map(EpilogueInput::View).collect();
        let epilogue = Epilogue { program: region.program.clone(), inputs };
        self.region(&epilogue, None, std::slice::from_ref(&target), origin)?;
        Ok(target)
    }

    /// Copies `from` to `to`, converting where the dtypes differ.
    fn convert(&mut self, from: &View, to: &View, origin: &str) -> Result<(), DriverError> {
        let program = conversion(from.dtype, to.dtype);
        let epilogue =
            Epilogue { program: Arc::new(program), inputs: vec![EpilogueInput::View(from.clone())] };
        self.region(&epilogue, None, std::slice::from_ref(to), origin)
    }

    /// Inputs of a region as views and sources; `reads` collects their spans.
    fn region_inputs(
        &mut self,
        epilogue: &Epilogue,
        anchor: Option<&View>,
        outputs: &[BoundView],
        reads: &mut Vec<Span>,
    ) -> Result<Vec<RegionInput>, DriverError> {
        let mut inputs = vec![];
        for input in &epilogue.inputs {
            let view = match (input, anchor) {
                (EpilogueInput::View(view), _) | (EpilogueInput::Anchor, Some(view)) => view,
                (EpilogueInput::Anchor, None) => {
                    // The block that the anchor just made; the view is never read.
                    inputs.push(RegionInput { view: outputs[0].clone(), source: Source::Anchor });
                    continue;
                }
            };
            let view = self.view(view)?;
            let written = outputs.iter().position(|output| *output == view);
            let source = match written {
                Some(index) => Source::Written(index),
                None => {
                    reads.push(view.span);
                    Source::Read(reads.len() - 1)
                }
            };
            inputs.push(RegionInput { view, source });
        }
        Ok(inputs)
    }

    fn region(
        &mut self,
        epilogue: &Epilogue,
        anchor: Option<&View>,
        outputs: &[View],
        origin: &str,
    ) -> Result<(), DriverError> {
        if let Some(parts) = Parts::of(&epilogue.program) {
            return self.complex_region(parts, epilogue, anchor, outputs, origin);
        }
        let outputs = outputs.iter().map(|view| self.view(view)).collect::<Result<Vec<_>, _>>()?;
        if outputs.iter().all(|view| view.dims.contains(&0)) {
            return Ok(());
        }
        let mut reads = vec![];
        let inputs = self.region_inputs(epilogue, anchor, &outputs, &mut reads)?;
        let writes = outputs.iter().map(|view| view.span).collect();
        let spans = StepSpans::new(reads, writes).map_err(failed(origin))?;
        if epilogue.program.is_identity()
            && let ([RegionInput { view, source: Source::Read(_) }], [output]) = (&inputs[..], &outputs[..])
            && let Some(copy) = CopyStep::new(view, output)
        {
            self.push(spans, copy, origin);
            return Ok(());
        }
        match Tape::new(&epilogue.program) {
            Ok(tape) => self.push(spans, RegionStep::new(tape, inputs, outputs), origin),
            // Complex numbers: the reference runs the program.
            Err(_) => {
                let op = rlx_ir::ops::ElementwiseRegion {
                    program: epilogue.program.clone(),
                    shape: rlx_ir::Shape::from(outputs[0].dims.as_slice()),
                };
                let operands = inputs.into_iter().map(|input| (input.view, input.source)).collect();
                self.push(spans, Reference { op: op.into(), operands, outputs }, origin);
            }
        }
        Ok(())
    }

    /// A region of complex numbers as one of their parts, which are then brought together.
    fn complex_region(
        &mut self,
        parts: Parts,
        epilogue: &Epilogue,
        anchor: Option<&View>,
        outputs: &[View],
        origin: &str,
    ) -> Result<(), DriverError> {
        let mut inputs = vec![];
        for input in &epilogue.inputs {
            match (input, anchor) {
                (EpilogueInput::View(view), _) | (EpilogueInput::Anchor, Some(view)) => {
                    inputs.extend(parts_of(view).into_iter().map(EpilogueInput::View));
                }
                (EpilogueInput::Anchor, None) => inputs.push(EpilogueInput::Anchor),
            }
        }
        let (mut targets, mut joined) = (vec![], vec![]);
        for view in outputs {
            for part in parts_of(view) {
                if view.dtype.is_complex() {
                    targets.push(self.workspace(&part.ty())?);
                    joined.push((targets[targets.len() - 1].clone(), part));
                } else {
                    targets.push(part);
                }
            }
        }
        self.region(&Epilogue { program: parts.program, inputs }, None, &targets, origin)?;
        joined.iter().try_for_each(|(from, to)| self.convert(from, to, origin))
    }

    /// A product on the GEMM kernels; `false` for a step that they do not take.
    fn matmul(&mut self, anchor: &Anchor, step: &KernelStep) -> Result<bool, DriverError> {
        let (Op::MatMul(op), origin) = (&anchor.op, step.origin.as_str()) else { return Ok(false) };
        let output = self.view(&step.outputs[0])?;
        let result = anchor.results[0].dtype;
        let computed = Elements::widened(result).unwrap_or(result);
        let fusable = step.epilogue.is_none() || takes_region(result) && self.ends_tiles(step, &output)?;
        if Elements::of(computed, computed).is_none() || !output.is_dense() || !fusable {
            return Ok(false);
        }
        let mut operands = vec![];
        for (index, operand) in anchor.operands.iter().enumerate() {
            operands.push(self.factor(index, operand, computed, origin)?);
        }
        let (dims, batch) = (output.dims.clone(), output.dims.len() - 2);
        let mut reads: Vec<Span> = vec![];
        let [Factor::View(mut left), right] = <[Factor; 2]>::try_from(operands)
            .map_err(|_| failed(origin)("a product has two operands".into()))?
        else {
            return Err(failed(origin)("the left operand of a product is packed".into()));
        };
        if op.transpose_a {
            matmul::swap_last(&mut left);
        }
        reads.push(left.span);
        broadcast_batch(&mut left, &dims[..batch]);
        let (elements, right) = match right {
            Factor::View(mut view) => {
                if op.transpose_b {
                    matmul::swap_last(&mut view);
                }
                broadcast_batch(&mut view, &dims[..batch]);
                reads.push(view.span);
                (Elements::of(left.dtype, view.dtype), RightOperand::View { slot: 1, view })
            }
            Factor::Packed(span) => {
                reads.push(span);
                (Elements::of(left.dtype, left.dtype), RightOperand::Packed { slot: 1 })
            }
        };
        let elements =
            elements.ok_or_else(|| failed(origin)(format!("no kernel multiplies {}", left.dtype)))?;
        let finish =
            self.finish(step.epilogue.as_ref(), (result, elements.sums()), &output, &mut reads, origin)?;
        let spans = StepSpans::new(reads, vec![output.span]).map_err(failed(origin))?;
        let work = MatmulStep::new(elements, (left, 0), right, dims[batch + 1], finish, self.context);
        self.push(spans, work, origin);
        Ok(true)
    }

    /// What happens to the tiles of a product whose sums are elements of `sums`.
    fn finish(
        &mut self,
        epilogue: Option<&Epilogue>,
        (result, sums): (DType, &[DType]),
        output: &BoundView,
        reads: &mut Vec<Span>,
        origin: &str,
    ) -> Result<Option<Finish>, DriverError> {
        let rounding;
        let epilogue = match epilogue {
            Some(epilogue) => epilogue,
            None if sums.contains(&result) => return Ok(None),
            None => {
                let program = Arc::new(ScalarProgram::identity(result));
                rounding = Epilogue { program, inputs: vec![EpilogueInput::Anchor] };
                &rounding
            }
        };
        let tape = Tape::new(&epilogue.program).map_err(failed(origin))?;
        let inputs = self.region_inputs(epilogue, None, std::slice::from_ref(output), reads)?;
        let region = RegionCore::new(tape, inputs, &mut [output.clone()], &output.dims);
        Ok(Some(Finish { region, dtype: output.dtype }))
    }

    /// A convolution on the GEMM kernels; `false` for a step that they do not take.
    fn convolution(&mut self, anchor: &Anchor, step: &KernelStep) -> Result<bool, DriverError> {
        let (Op::Conv(op), origin) = (&anchor.op, step.origin.as_str()) else { return Ok(false) };
        let output = self.view(&step.outputs[0])?;
        let result = anchor.results[0].dtype;
        let computed = if result == DType::F64 { DType::F64 } else { DType::F32 };
        if !output.is_dense() || !self.ends_tiles(step, &output)? {
            return Ok(false);
        }
        let (mut views, mut reads) = (vec![], vec![]);
        for (index, operand) in anchor.operands.iter().enumerate() {
            let view = match operand {
                Operand::View(view) => view.clone(),
                Operand::Region(region) => self.before(region, &operand.ty(), origin)?,
                Operand::Packed { .. } => return Ok(false),
            };
            let keep = view.dtype == computed && (index == 0 || self.view(&view)?.is_dense());
            let near = if keep {
                view
            } else {
                let near =
                    self.workspace(&TensorType { dtype: computed, shape: view.layout.shape.clone() })?;
                self.convert(&view, &near, origin)?;
                near
            };
            let bound = self.view(&near)?;
            reads.push(bound.span);
            views.push(bound);
        }
        let finish =
            self.finish(step.epilogue.as_ref(), (result, &[computed]), &output, &mut reads, origin)?;
        let spans = StepSpans::new(reads, vec![output.span]).map_err(failed(origin))?;
        let work = ConvStep::new(op, [&views[0], &views[1]], &output, finish, self.context);
        self.push(spans, work, origin);
        Ok(true)
    }

    /// Operand `index` of a product that computes in `computed`.
    fn factor(
        &mut self,
        index: usize,
        operand: &Operand,
        computed: DType,
        origin: &str,
    ) -> Result<Factor, DriverError> {
        let view = match operand {
            Operand::Packed { buffer, .. } => {
                let len = self.module.buffer(*buffer).ty().size_bytes().extent(&self.bindings)?;
                return Ok(Factor::Packed(Span { buffer: *buffer, start: 0, len, moves: 0 }));
            }
            Operand::View(view) => view.clone(),
            Operand::Region(region) => match widening(region) {
                // The kernel widens it itself.
                Some(view) if index == 1 && computed == DType::F32 => {
                    return Ok(Factor::View(self.view(view)?));
                }
                _ => self.before(region, &operand.ty(), origin)?,
            },
        };
        if view.dtype == computed {
            return Ok(Factor::View(self.view(&view)?));
        }
        let wide = self.workspace(&TensorType { dtype: computed, shape: view.layout.shape.clone() })?;
        self.convert(&view, &wide, origin)?;
        Ok(Factor::View(self.view(&wide)?))
    }

    fn anchor(
        &mut self,
        op: &Op,
        operands: &[View],
        outputs: &[View],
        origin: &str,
    ) -> Result<(), DriverError> {
        let bound = op.map_dims(&|dim: &Dim| {
            dim.eval(&self.bindings).map_or_else(|_: DimError| dim.clone(), Dim::from)
        });
        let mut operands = operands.to_vec();
        let bound = reduce_last(bound, &mut operands);
        for bring in [Bring::AsIs, Bring::Dense, Bring::Wide] {
            let (steps, workspace) = (self.steps.len(), self.workspace.len());
            if self.attempt(&bound, &operands, outputs, bring, origin)? {
                return Ok(());
            }
            self.steps.truncate(steps);
            self.workspace.truncate(workspace);
        }
        let site = self.site(&bound, &operands, outputs, origin)?;
        let Site { operands, sources, outputs, spans, .. } = site;
        let operands = operands.into_iter().zip(sources).collect();
        self.push(spans, Reference { op: bound, operands, outputs }, origin);
        Ok(())
    }

    fn site<'o>(
        &mut self,
        op: &'o Op,
        operands: &[View],
        outputs: &[View],
        origin: &str,
    ) -> Result<Site<'o>, DriverError> {
        let operands = operands.iter().map(|view| self.view(view)).collect::<Result<Vec<_>, _>>()?;
        let outputs = outputs.iter().map(|view| self.view(view)).collect::<Result<Vec<_>, _>>()?;
        let (mut sources, mut reads) = (vec![], vec![]);
        for view in &operands {
            let written = outputs.iter().position(|output| output == view);
            sources.push(written.map_or(Source::Read(reads.len()), Source::Written));
            // An operand that is updated in place is reached through the output.
            reads.push(if written.is_some() { Span { len: 0, ..view.span } } else { view.span });
        }
        let writes = outputs.iter().map(|view| view.span).collect();
        let spans = StepSpans::new(reads, writes).map_err(failed(origin))?;
        Ok(Site { op, operands, sources, outputs, spans })
    }

    /// Pushes the steps for an anchor if a kernel takes what `bring` makes of its operands.
    fn attempt(
        &mut self,
        op: &Op,
        operands: &[View],
        outputs: &[View],
        bring: Bring,
        origin: &str,
    ) -> Result<bool, DriverError> {
        let in_place = rlx_ir::lir::updates_first_operand(op);
        let (mut near_operands, mut near_outputs) = (vec![], vec![]);
        let mut changed = bring == Bring::AsIs;
        for (index, view) in outputs.iter().enumerate() {
            let near = self.near(view, bring)?;
            // The first operand of an update must stand where its result does.
            if index == 0 && in_place && near != operands[0] {
                self.convert(&operands[0], &near, origin)?;
            }
            changed |= near != *view;
            near_outputs.push(near);
        }
        for (index, view) in operands.iter().enumerate() {
            if index == 0 && in_place {
                near_operands.push(near_outputs[0].clone());
                continue;
            }
            let near = self.near(view, bring)?;
            if near != *view {
                self.convert(view, &near, origin)?;
                changed = true;
            }
            near_operands.push(near);
        }
        if !changed {
            return Ok(false);
        }
        let site = self.site(op, &near_operands, &near_outputs, origin)?;
        let Some(work) = select(&site, self.context) else { return Ok(false) };
        self.steps.push(BoundStep { spans: site.spans, work, origin: origin.into() });
        for (near, view) in near_outputs.iter().zip(outputs) {
            if near != view {
                self.convert(near, view, origin)?;
            }
        }
        Ok(true)
    }

    /// The view itself, or a workspace buffer of its extents that is as `bring` wants it.
    fn near(&mut self, view: &View, bring: Bring) -> Result<View, DriverError> {
        let narrow = class_of(view.dtype) == Some(Class::F32) && view.dtype != DType::F32;
        let dtype = if bring == Bring::Wide && narrow { DType::F32 } else { view.dtype };
        let keep = bring == Bring::AsIs || view.dtype.size_of().is_none();
        if keep || (dtype == view.dtype && self.view(view)?.is_dense()) {
            return Ok(view.clone());
        }
        self.workspace(&TensorType { dtype, shape: view.layout.shape.clone() })
    }
}

/// An operand of a product.
enum Factor {
    View(BoundView),
    Packed(Span),
}

/// Do registers hold every value of the program?
pub fn is_computed(program: &ScalarProgram) -> bool {
    let dtypes = program.instrs.iter().map(|instr| instr.dtype).chain(program.inputs.iter().copied());
    dtypes.into_iter().all(|dtype| class_of(dtype).is_some())
}

/// Is the program a cast of its one input from a 16-bit float to `f32`?
pub fn is_widening(program: &ScalarProgram) -> bool {
    matches!(program.inputs[..], [DType::F16 | DType::BF16])
        && matches!(&program.instrs[..], [cast] if cast.kind == ScalarKind::Op(ScalarOp::Cast) && cast.dtype == DType::F32)
        && program.outputs == [1]
}

/// The 16-bit view that `region` only widens.
fn widening(region: &Region) -> Option<&View> {
    let [view] = &region.inputs[..] else { return None };
    (is_widening(&region.program) && view.layout.shape == region.shape).then_some(view)
}

/// The program that converts an element.
fn conversion(from: DType, to: DType) -> ScalarProgram {
    let mut program = ScalarProgram::identity(from);
    let input = program.input(0);
    program.outputs = vec![program.cast(input, to).0];
    program
}

/// A reduction over axes that are not neighbours reads its operand with those axes last.
fn reduce_last(op: Op, operands: &mut [View]) -> Op {
    let Op::Reduce(reduce) = &op else { return op };
    let neighbours = reduce.axes.windows(2).all(|pair| pair[1] == pair[0] + 1);
    if neighbours {
        return op;
    }
    let rank = operands[0].layout.shape.rank();
    let kept = (0..rank).filter(|axis| !reduce.axes.contains(axis));
    let order: Vec<usize> = kept.chain(reduce.axes.iter().copied()).collect();
    operands[0].layout = operands[0].layout.transpose(&order);
    // The result has the same elements in the same order, its axes of extent 1 aside.
    let axes = (rank - reduce.axes.len()..rank).collect();
    Reduce { axes, ..reduce.clone() }.into()
}

/// Gives a matrix operand the leading extents `batch`, by stride 0 where it repeats.
fn broadcast_batch(view: &mut BoundView, batch: &[usize]) {
    let matrix = view.dims.len() - 2;
    let lead = batch.len() - matrix;
    let mut strides = vec![0; batch.len()];
    for axis in 0..matrix {
        if view.dims[axis] == batch[axis + lead] && view.dims[axis] != 1 {
            strides[axis + lead] = view.strides[axis];
        }
    }
    strides.extend_from_slice(&view.strides[matrix..]);
    let mut dims = batch.to_vec();
    dims.extend_from_slice(&view.dims[matrix..]);
    view.dims = dims;
    view.strides = strides;
}
