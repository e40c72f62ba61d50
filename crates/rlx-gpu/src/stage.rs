//! One list of steps on a device: its kernels, and its launches for one binding of the symbols.

use crate::binding::{Argument as Place, BoundRange, bind};
use crate::device::{GpuDevice, Launch, Range, ReadBack, fold_groups};
use crate::error::GpuError;
use rlx_driver::DriverError;
use rlx_ir::lir::{ArenaLayout, BufferId, BufferKind, LirModule, Repeat, Step, View};
use rlx_ir::ops::control::r#while::over_limit;
use rlx_ir::{Bindings, Diagnostic, Dim, Symbol};
use rlx_kernel::ir::Access;
use rlx_kernel::lower::{Argument, LoweredStep, lower_step};
use rlx_kernel::rewrite::{Target, words::check_types};
use rlx_opt::OptError;
use std::sync::Arc;

/// The step tree with kernels numbered.
#[derive(Debug)]
enum Node {
    Kernel(usize),
    Branch { predicate: View, then: Vec<Node>, otherwise: Vec<Node> },
    Loop { control: Control, body: Vec<Node> },
}

/// How often the body of a loop runs.
#[derive(Debug)]
enum Control {
    Times { counter: Symbol, count: Dim },
    While { condition: Vec<Node>, predicate: View, limit: Option<Dim>, origin: String },
}

/// The kernels of a module.
#[derive(Debug)]
pub(crate) struct Stage {
    nodes: Vec<Node>,
    kernels: Vec<LoweredStep>,
}

/// Most launches that are collected before the device gets them.
const MOST_PENDING: usize = 4096;

/// Numbers of allocations for [`bind`].
const ARENA: usize = 0;
const FAULTS: usize = 1;
const CONSTANTS: usize = 2;
const OWN: usize = 3;

/// The device memory of one executable, by what it holds.
#[derive(Debug)]
pub(crate) struct Memory<B> {
    pub arena: Arc<B>,
    pub faults: Arc<B>,
    pub constants: Arc<B>,
    /// Where each constant, by buffer, begins in `constants`.
    pub constant_offsets: Arc<Vec<u64>>,
    /// Params, prepared buffers and states, by buffer.
    pub own: Vec<Option<Arc<B>>>,
}

/// The launches of a stage for one binding of the symbols.
#[derive(Debug)]
pub(crate) struct Bound<P> {
    launches: Vec<BoundLaunch<P>>,
    pub layout: ArenaLayout,
}

#[derive(Debug)]
struct BoundLaunch<P> {
    program: Arc<P>,
    groups: [u32; 3],
    parameters: Vec<u32>,
    /// Parameters that the counters of loops decide, by position.
    moving: Vec<(usize, Dim)>,
    ranges: Vec<BoundRange>,
}

pub(crate) fn device_error(device: &str, error: GpuError) -> DriverError {
    DriverError::Device { device: device.into(), message: error.to_string() }
}

impl Stage {
    /// Lowers every step of a module; the error lists all steps that have no kernel on the target.
    pub fn new(backend: &'static str, target: &Target, module: &LirModule) -> Result<Stage, DriverError> {
        let mut stage = Stage { nodes: Vec::new(), kernels: Vec::new() };
        let mut refused = Vec::new();
        stage.nodes = stage.steps(&module.steps, target, &mut refused);
        match refused.is_empty() {
            true => Ok(stage),
            false => Err(DriverError::Compile(OptError::Unsupported { backend, nodes: refused })),
        }
    }

    fn steps(&mut self, steps: &[Step], target: &Target, refused: &mut Vec<Diagnostic>) -> Vec<Node> {
        steps.iter().filter_map(|step| self.step(step, target, refused)).collect()
    }

    fn step(&mut self, step: &Step, target: &Target, refused: &mut Vec<Diagnostic>) -> Option<Node> {
        Some(match step {
            Step::Kernel(step) => {
                let lowered = lower_step(step, self.kernels.len() as u32);
                let checked = lowered.and_then(|step| check_types(&step.kernel, target).map(|()| step));
                match checked {
                    Ok(lowered) => self.kernels.push(lowered),
                    Err(error) => {
                        refused.push(Diagnostic::new(step.origin.as_str(), error.to_string()));
                        return None;
                    }
                }
                Node::Kernel(self.kernels.len() - 1)
            }
            Step::Pack(pack) => {
                refused.push(Diagnostic::new(pack.op.def().name, "this backend packs nothing"));
                return None;
            }
            Step::Branch(branch) => Node::Branch {
                predicate: branch.predicate.clone(),
                then: self.steps(&branch.then, target, refused),
                otherwise: self.steps(&branch.otherwise, target, refused),
            },
            Step::Loop(looped) => {
                let control = match &looped.repeat {
                    Repeat::Times { counter, count } => {
                        Control::Times { counter: counter.clone(), count: count.clone() }
                    }
                    Repeat::While { condition, predicate, limit } => Control::While {
                        condition: self.steps(condition, target, refused),
                        predicate: predicate.clone(),
                        limit: limit.clone(),
                        origin: looped.origin.clone(),
                    },
                };
                Node::Loop { control, body: self.steps(&looped.body, target, refused) }
            }
        })
    }

    /// Words of the fault buffer.
    pub fn fault_words(&self) -> usize {
        self.kernels.len()
    }

    /// What a fault word stands for.
    pub fn origin(&self, word: usize) -> &str {
        &self.kernels[word].origin
    }

    /// Bindings and parameters of every launch, for extents that the symbols give.
    pub fn bind<D: GpuDevice>(
        &self,
        device: &D,
        module: &LirModule,
        constant_offsets: &[u64],
        bindings: &Bindings,
    ) -> Result<Bound<D::Program>, DriverError> {
        let layout = module.plan.layout(bindings)?;
        let is_result = |id| module.io.outputs.iter().any(|entry| entry.buffer == id);
        let place = |argument: &Argument| {
            let Argument::Buffer(id) = *argument else {
                let length = 4 * self.fault_words() as u64;
                return Ok(Place { allocation: FAULTS, access: Access::ReadWrite, offset: 0, length });
            };
            let index = id.0 as usize;
            let buffer = module.buffer(id);
            let length = buffer.ty().size_bytes().extent(bindings)? as u64;
            let own = |access| Place { allocation: OWN + index, access, offset: 0, length };
            Ok(match &buffer.kind {
                BufferKind::State => own(Access::ReadWrite),
                BufferKind::Prepared if is_result(id) => own(Access::ReadWrite),
                BufferKind::Param | BufferKind::Prepared => own(Access::Read),
                BufferKind::Constant(_) => {
                    let offset = constant_offsets[index];
                    Place { allocation: CONSTANTS, access: Access::Read, offset, length }
                }
                BufferKind::Temporary | BufferKind::Input | BufferKind::Output => {
                    let offset =
                        layout.places.get(index).copied().flatten().map_or(0, |place| place.0 as u64);
                    Place { allocation: ARENA, access: Access::ReadWrite, offset, length }
                }
            })
        };
        let mut launches = Vec::with_capacity(self.kernels.len());
        // Counters of loops are 0 until a run counts.
        let mut first = bindings.clone();
        counters(&self.nodes).into_iter().for_each(|counter| first.set(counter, 0));
        for step in &self.kernels {
            let kernel = step.choose(bindings)?;
            let places = kernel.arguments.iter().map(place).collect::<Result<Vec<_>, DriverError>>()?;
            let failed = |error| device_error(device.name(), error);
            let bound = bind(&places, &device.limits()).map_err(failed)?;
            let mut parameters = Vec::with_capacity(kernel.parameters.len() + bound.bases.len());
            let mut moving = vec![];
            for dim in &kernel.parameters {
                if dim.eval(bindings).is_err() {
                    moving.push((parameters.len(), dim.clone()));
                }
                parameters.push(word(dim.eval(&first)?).map_err(failed)?);
            }
            parameters.extend(&bound.bases);
            let groups = kernel.groups.extent(bindings)? as u64;
            let groups = fold_groups(groups, device.limits().groups).map_err(failed)?;
            let program = device.compile(&kernel.kernel, &bound.layout).map_err(failed)?;
            launches.push(BoundLaunch { program, groups, parameters, moving, ranges: bound.ranges });
        }
        Ok(Bound { launches, layout })
    }

    /// Runs the steps; waits only where a predicate decides what runs next.
    pub fn run<D: GpuDevice>(
        &self,
        device: &D,
        memory: &Memory<D::Buffer>,
        bound: &Bound<D::Program>,
        bindings: &Bindings,
    ) -> Result<(), DriverError> {
        let mut run = Run { device, memory, bound, bindings: bindings.clone(), pending: Vec::new() };
        run.nodes(&self.nodes)?;
        run.flush()
    }
}

/// The counters of all loops.
fn counters(nodes: &[Node]) -> Vec<&Symbol> {
    let mut found = vec![];
    for node in nodes {
        match node {
            Node::Kernel(_) => {}
            Node::Branch { then, otherwise, .. } => {
                found.extend(counters(then));
                found.extend(counters(otherwise));
            }
            Node::Loop { control, body } => {
                match control {
                    Control::Times { counter, .. } => found.push(counter),
                    Control::While { condition, .. } => found.extend(counters(condition)),
                }
                found.extend(counters(body));
            }
        }
    }
    found
}

/// A word that a kernel takes as `u32`; negative values wrap.
fn word(value: i64) -> Result<u32, GpuError> {
    if (i64::from(i32::MIN)..=i64::from(u32::MAX)).contains(&value) {
        return Ok(value as u32);
    }
    let what = "an extent, stride or offset in elements".into();
    Err(GpuError::AboveLimit { what, found: value.unsigned_abs(), limit: u64::from(u32::MAX) })
}

struct Run<'a, D: GpuDevice> {
    device: &'a D,
    memory: &'a Memory<D::Buffer>,
    bound: &'a Bound<D::Program>,
    /// Symbols, and counters of the loops around.
    bindings: Bindings,
    pending: Vec<Launch<'a, D::Buffer, D::Program>>,
}

impl<D: GpuDevice> Run<'_, D> {
    fn nodes(&mut self, nodes: &[Node]) -> Result<(), DriverError> {
        nodes.iter().try_for_each(|node| self.node(node))
    }

    fn node(&mut self, node: &Node) -> Result<(), DriverError> {
        match node {
            Node::Kernel(index) => {
                let launch = &self.bound.launches[*index];
                let memory = self.memory;
                let range = |range: &BoundRange| {
                    let buffer = memory.allocation(range.allocation);
                    Range { buffer, start: range.start, length: range.length }
                };
                self.pending.push(Launch {
                    program: &launch.program,
                    groups: launch.groups,
                    parameters: self.parameters(launch)?,
                    bindings: launch.ranges.iter().map(range).collect(),
                });
                if self.pending.len() < MOST_PENDING { Ok(()) } else { self.flush() }
            }
            Node::Branch { predicate, then, otherwise } => {
                let taken = if self.predicate(predicate)? { then } else { otherwise };
                self.nodes(taken)
            }
            Node::Loop { control: Control::Times { counter, count }, body } => {
                for step in 0..count.extent(&self.bindings)? {
                    self.bindings.set(counter, step as i64);
                    self.nodes(body)?;
                }
                Ok(())
            }
            Node::Loop { control: Control::While { condition, predicate, limit, origin }, body } => {
                let limit = limit.as_ref().map(|limit| limit.extent(&self.bindings)).transpose()?;
                let mut rounds = 0;
                loop {
                    self.nodes(condition)?;
                    if !self.predicate(predicate)? {
                        return Ok(());
                    }
                    if limit == Some(rounds) {
                        let fault = over_limit(rounds as i64).0;
                        return Err(DriverError::Fault { node: origin.clone(), fault });
                    }
                    self.nodes(body)?;
                    rounds += 1;
                }
            }
        }
    }

    fn parameters(&self, launch: &BoundLaunch<D::Program>) -> Result<Vec<u32>, DriverError> {
        let mut parameters = launch.parameters.clone();
        for (position, dim) in &launch.moving {
            let value = word(dim.eval(&self.bindings)?);
            parameters[*position] = value.map_err(|error| device_error(self.device.name(), error))?;
        }
        Ok(parameters)
    }

    fn flush(&mut self) -> Result<(), DriverError> {
        let result = self.device.submit(&self.pending);
        self.pending.clear();
        result.map_err(|error| device_error(self.device.name(), error))
    }

    /// Reads the one bool that decides what runs next.
    fn predicate(&mut self, view: &View) -> Result<bool, DriverError> {
        self.flush()?;
        let (buffer, start) = self.memory.place(view.buffer, &self.bound.layout);
        let position = start + view.layout.offset.extent(&self.bindings)? as u64;
        let mut word = [0; 4];
        let mut parts = [ReadBack { buffer, offset: position / 4 * 4, bytes: &mut word }];
        self.device.read(&mut parts).map_err(|error| device_error(self.device.name(), error))?;
        Ok(word[(position % 4) as usize] != 0)
    }
}

impl<B> Memory<B> {
    fn allocation(&self, number: usize) -> &B {
        match number {
            ARENA => &self.arena,
            FAULTS => &self.faults,
            CONSTANTS => &self.constants,
            _ => self.own[number - OWN].as_ref().expect("unbound buffers are refused before a run"),
        }
    }

    /// The memory of a buffer and its first byte there.
    pub fn place(&self, id: BufferId, layout: &ArenaLayout) -> (&B, u64) {
        let index = id.0 as usize;
        if let Some(Some(buffer)) = self.own.get(index) {
            return (buffer, 0);
        }
        match layout.places.get(index).copied().flatten() {
            Some((offset, _)) => (&self.arena, offset as u64),
            None => (&self.constants, self.constant_offsets[index]),
        }
    }
}
