//! Binding: a LIR step with concrete extents becomes work.
//!
//! Steps whose regions no kernel takes are split: the region gets a workspace
//! buffer and a step of its own, so any module that verifies runs here,
//! whatever capabilities it was compiled for.

use super::attention::AttentionStep;
use super::index::IndexStep;
use super::matmul::{self, MatmulStep, RightOperand};
use super::memory::{Span, StepSpans};
use super::region::{RegionCore, RegionInput, RegionStep, Source};
use super::rows::RowStep;
use super::tape::Tape;
use super::view::BoundView;
use crate::kernels::Context;
use crate::pool::Pool;
use rlx_driver::DriverError;
use rlx_ir::interpret::evaluate_op;
use rlx_ir::lir::{
    Anchor, BufferId, Epilogue, EpilogueInput, KernelStep, LirModule, Operand, PackStep, Step, View,
};
use rlx_ir::{Bindings, DType, Dim, DimError, Literal, Op, TensorType};

/// What a bound step does.
enum Work {
    Region(RegionStep),
    Matmul(Box<MatmulStep>),
    Rows(RowStep),
    Attention(Box<AttentionStep>),
    Index(IndexStep),
    Pack(BoundView),
    /// The reference evaluation, on copies.
    Reference {
        op: Op,
        operands: Vec<(BoundView, Source)>,
        outputs: Vec<BoundView>,
    },
}

/// One step, ready to run.
pub struct BoundStep {
    /// What it touches.
    pub spans: StepSpans,
    work: Work,
    /// The node, for errors and times.
    pub origin: String,
    /// Bytes of scratch.
    pub scratch: usize,
}

/// Everything that a binding needs to make steps.
pub struct Binder<'a> {
    /// The module.
    pub module: &'a LirModule,
    /// Values of the symbols.
    pub bindings: &'a Bindings,
    /// Instruction set and threads.
    pub context: Context<'a>,
    /// Sizes in bytes of workspace buffers; their ids follow the module's.
    pub workspace: Vec<usize>,
    /// The steps so far.
    pub steps: Vec<BoundStep>,
}

fn failed(origin: &str) -> impl FnOnce(String) -> DriverError + use<'_> {
    move |fault| DriverError::Fault { node: origin.to_string(), fault }
}

impl Binder<'_> {
    /// Binds every step of the module.
    ///
    /// # Errors
    /// Dims that do not evaluate, spans that overlap, control flow.
    pub fn bind(&mut self) -> Result<(), DriverError> {
        let module = self.module;
        for step in &module.steps {
            match step {
                Step::Kernel(step) => self.kernel(step)?,
                Step::Pack(pack) => self.pack(pack)?,
                Step::Branch(_) | Step::Loop(_) => {
                    return Err(DriverError::NotOffered { backend: "cpu", ability: "control flow" });
                }
            }
        }
        Ok(())
    }

    fn view(&self, view: &View) -> Result<BoundView, DriverError> {
        Ok(BoundView::new(view, self.bindings)?)
    }

    /// A dense workspace buffer for a tensor of type `ty`.
    fn workspace(&mut self, ty: &TensorType) -> Result<View, DriverError> {
        let size = ty.size_bytes().extent(self.bindings)?;
        let id = BufferId((self.module.buffers.len() + self.workspace.len()) as u32);
        self.workspace.push(size);
        Ok(View::whole(id, ty))
    }

    fn pack(&mut self, pack: &PackStep) -> Result<(), DriverError> {
        let mut source = self.view(&pack.source)?;
        if matches!(&pack.op, Op::MatMul(op) if op.transpose_b) {
            matmul::swap_last(&mut source);
        }
        let len = self.module.buffer(pack.target).ty().size_bytes().extent(self.bindings)?;
        let target = Span { buffer: pack.target, start: 0, len };
        let spans = StepSpans::new(vec![source.span], vec![target]).map_err(failed(&pack.key))?;
        self.steps.push(BoundStep { spans, work: Work::Pack(source), origin: pack.key.clone(), scratch: 0 });
        Ok(())
    }

    fn kernel(&mut self, step: &KernelStep) -> Result<(), DriverError> {
        let Some(anchor) = &step.anchor else {
            let epilogue = step.epilogue.as_ref().expect("a verified step has an anchor or a region");
            return self.region(epilogue, None, &step.outputs, &step.origin);
        };
        if is_f32_matmul(anchor)
            && anchor.operands.iter().all(|operand| !matches!(operand, Operand::Region(_)))
        {
            let output = self.view(&step.outputs[0])?;
            let fusable = step.epilogue.as_ref().is_none_or(takes_epilogue);
            if output.is_dense() && output.dtype == DType::F32 && fusable {
                return self.matmul(anchor, step.epilogue.as_ref(), output, &step.origin);
            }
        }
        // Regions before the anchor become steps of their own.
        let mut operands = vec![];
        for operand in &anchor.operands {
            operands.push(match operand {
                Operand::View(view) => view.clone(),
                Operand::Region(region) => {
                    let target = self.workspace(&operand.ty())?;
                    let inputs = region.inputs.iter().cloned().map(EpilogueInput::View).collect();
                    let epilogue = Epilogue { program: region.program.clone(), inputs };
                    self.region(&epilogue, None, std::slice::from_ref(&target), &step.origin)?;
                    target
                }
                Operand::Packed { buffer, .. } => View::whole(*buffer, &self.module.buffer(*buffer).ty()),
            });
        }
        match &step.epilogue {
            None => self.anchor(&anchor.op, &operands, &step.outputs, &step.origin),
            Some(epilogue) => {
                let target = self.workspace(&anchor.results[0])?;
                self.anchor(&anchor.op, &operands, std::slice::from_ref(&target), &step.origin)?;
                self.region(epilogue, Some(&target), &step.outputs, &step.origin)
            }
        }
    }

    /// Inputs of a region as views and sources; `reads` collects their spans.
    fn region_inputs(
        &self,
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
        let outputs = outputs.iter().map(|view| self.view(view)).collect::<Result<Vec<_>, _>>()?;
        let mut reads = vec![];
        let inputs = self.region_inputs(epilogue, anchor, &outputs, &mut reads)?;
        let writes = outputs.iter().map(|view| view.span).collect();
        let spans = StepSpans::new(reads, writes).map_err(failed(origin))?;
        let work = match Tape::new(&epilogue.program) {
            Ok(tape) => {
                let threads = self.context.pool().threads();
                Work::Region(RegionStep::new(tape, inputs, outputs, threads, epilogue.program.is_identity()))
            }
            // Complex numbers: the reference runs the program.
            Err(_) => {
                let op = rlx_ir::ops::ElementwiseRegion {
                    program: epilogue.program.clone(),
                    shape: rlx_ir::Shape::from(outputs[0].dims.as_slice()),
                };
                let operands = inputs.into_iter().map(|input| (input.view, input.source)).collect();
                Work::Reference { op: op.into(), operands, outputs }
            }
        };
        self.steps.push(BoundStep { spans, work, origin: origin.into(), scratch: 0 });
        Ok(())
    }

    fn matmul(
        &mut self,
        anchor: &Anchor,
        epilogue: Option<&Epilogue>,
        output: BoundView,
        origin: &str,
    ) -> Result<(), DriverError> {
        let Op::MatMul(op) = &anchor.op else { return Ok(()) };
        let dims = output.dims.clone();
        let batch = dims.len() - 2;
        let mut reads = vec![];
        let mut left = match &anchor.operands[0] {
            Operand::View(view) => self.view(view)?,
            _ => return Err(failed(origin)("the left operand of a product is packed".into())),
        };
        if op.transpose_a {
            matmul::swap_last(&mut left);
        }
        reads.push(left.span);
        broadcast_batch(&mut left, &dims[..batch]);
        let right = match &anchor.operands[1] {
            Operand::View(view) => {
                let mut view = self.view(view)?;
                if op.transpose_b {
                    matmul::swap_last(&mut view);
                }
                broadcast_batch(&mut view, &dims[..batch]);
                reads.push(view.span);
                RightOperand::View { slot: 1, view }
            }
            Operand::Packed { buffer, .. } => {
                let len = self.module.buffer(*buffer).ty().size_bytes().extent(self.bindings)?;
                reads.push(Span { buffer: *buffer, start: 0, len });
                RightOperand::Packed { slot: 1 }
            }
            Operand::Region(_) => return Err(failed(origin)("a product takes no region before it".into())),
        };
        let region = match epilogue {
            None => None,
            Some(epilogue) => {
                let tape = Tape::new(&epilogue.program).map_err(failed(origin))?;
                let inputs = self.region_inputs(epilogue, None, std::slice::from_ref(&output), &mut reads)?;
                let threads = self.context.pool().threads();
                Some(RegionCore::new(tape, inputs, &mut [output.clone()], &dims, threads))
            }
        };
        let spans = StepSpans::new(reads, vec![output.span]).map_err(failed(origin))?;
        let step = MatmulStep::new(left, 0, right, dims[batch + 1], region, self.context);
        let scratch = step.scratch();
        self.steps.push(BoundStep {
            spans,
            work: Work::Matmul(Box::new(step)),
            origin: origin.into(),
            scratch,
        });
        Ok(())
    }

    fn anchor(
        &mut self,
        op: &Op,
        operands: &[View],
        outputs: &[View],
        origin: &str,
    ) -> Result<(), DriverError> {
        let views = operands.iter().map(|view| self.view(view)).collect::<Result<Vec<_>, _>>()?;
        let outputs = outputs.iter().map(|view| self.view(view)).collect::<Result<Vec<_>, _>>()?;
        let bound = op
            .map_dims(&|dim: &Dim| dim.eval(self.bindings).map_or_else(|_: DimError| dim.clone(), Dim::from));
        let mut sources = vec![];
        let mut reads = vec![];
        for view in &views {
            let written = outputs.iter().position(|output| output == view);
            sources.push(written.map_or(Source::Read(reads.len()), Source::Written));
            // An operand that is updated in place is reached through the output.
            reads.push(if written.is_some() { Span { len: 0, ..view.span } } else { view.span });
        }
        let spans =
            StepSpans::new(reads, outputs.iter().map(|view| view.span).collect()).map_err(failed(origin))?;
        let refs: Vec<&BoundView> = views.iter().collect();
        let in_place = sources.iter().any(|source| matches!(source, Source::Written(_)));
        let dense_out = outputs.iter().all(BoundView::is_dense);
        let mut scratch = 0;
        let work = if !dense_out {
            None
        } else if let Op::Attention(op) = &bound {
            AttentionStep::new(op, &refs, &outputs[0], self.context).map(|step| {
                scratch = step.scratch();
                Work::Attention(Box::new(step))
            })
        } else if let Some(step) = IndexStep::new(&bound, &refs) {
            Some(Work::Index(step))
        } else if !in_place {
            RowStep::new(&bound, &refs).map(Work::Rows)
        } else {
            None
        };
        let work = work.unwrap_or_else(|| Work::Reference {
            op: bound,
            operands: views.into_iter().zip(sources).collect(),
            outputs,
        });
        self.steps.push(BoundStep { spans, work, origin: origin.into(), scratch });
        Ok(())
    }
}

fn is_f32_matmul(anchor: &Anchor) -> bool {
    matches!(anchor.op, Op::MatMul(_)) && anchor.results.iter().all(|ty| ty.dtype == DType::F32)
}

fn takes_epilogue(epilogue: &Epilogue) -> bool {
    epilogue.program.output_dtypes() == [DType::F32]
        && epilogue.program.inputs.iter().all(|&dtype| super::tape::class_of(dtype).is_some())
        && epilogue.program.instrs.iter().all(|instr| super::tape::class_of(instr.dtype).is_some())
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

impl BoundStep {
    /// Bytes of the registers that the step keeps for its threads.
    pub fn register_bytes(&self) -> usize {
        match &self.work {
            Work::Region(region) => region.register_bytes(),
            Work::Matmul(product) => product.register_bytes(),
            Work::Rows(_) | Work::Attention(_) | Work::Index(_) | Work::Pack(_) | Work::Reference { .. } => 0,
        }
    }

    /// Runs the step.
    ///
    /// # Errors
    /// The fault that its values cause.
    pub fn run(
        &self,
        context: Context<'_>,
        inline: &Pool,
        reads: &[&[u8]],
        writes: &mut [&mut [u8]],
        scratch: &mut [u8],
    ) -> Result<(), String> {
        match &self.work {
            Work::Region(step) => {
                step.run(context, inline, reads, writes);
                Ok(())
            }
            Work::Matmul(step) => {
                step.run(context, inline, reads, writes[0], scratch).map_err(|error| error.to_string())
            }
            Work::Rows(step) => step.run(context, reads, writes[0]).map_err(|error| error.to_string()),
            Work::Attention(step) => step.run(context, reads, writes, scratch),
            Work::Index(step) => step.run(reads, writes[0]),
            Work::Pack(view) => {
                matmul::pack(context, view, reads[0], writes[0]).map_err(|error| error.to_string())
            }
            Work::Reference { op, operands, outputs } => reference(op, operands, outputs, reads, writes),
        }
    }

    /// Name of the kernel, for reports.
    pub fn kernel(&self) -> &'static str {
        match self.work {
            Work::Region(_) => "region",
            Work::Matmul(_) => "gemm",
            Work::Rows(_) => "rows",
            Work::Attention(_) => "attention",
            Work::Index(_) => "index",
            Work::Pack(_) => "pack",
            Work::Reference { .. } => "reference",
        }
    }
}

fn reference(
    op: &Op,
    operands: &[(BoundView, Source)],
    outputs: &[BoundView],
    reads: &[&[u8]],
    writes: &mut [&mut [u8]],
) -> Result<(), String> {
    let mut literals: Vec<Literal> = vec![];
    for (view, source) in operands {
        literals.push(match source {
            Source::Read(slot) => view.read(reads[*slot])?,
            Source::Written(output) => view.read(writes[*output])?,
            Source::Anchor => return Err("a reference step has no anchor block".into()),
        });
    }
    let results = evaluate_op(op, &literals.iter().collect::<Vec<_>>()).map_err(|fault| fault.0)?;
    for ((view, literal), write) in outputs.iter().zip(&results).zip(writes) {
        view.write(literal, write);
    }
    Ok(())
}
