//! From LIR to kernels: one kernel for each step.
//!
//! A kernel depends on the structure of its step alone: static extents are constants in it, expressions over symbols
//! are parameters, and so are the positions of buffers; steps of equal structure share one kernel. An anchor takes the
//! regions before and after it that [`claims::accept`] allowed.
//!
//! Every index that data chooses is checked: an invocation that finds one outside does no access with it and puts its
//! position into the step's word of the fault buffer, the smallest position winning.

pub mod claims;
mod elementwise;
mod emitter;
mod fold;
mod index;
mod matmul;
mod ordering;
mod program;
mod small_float;
mod window;

use crate::error::KernelError;
use crate::ir::Kernel;
use rlx_ir::lir::{Anchor, BufferId, KernelStep};
use rlx_ir::{Bindings, DType, Dim, DimError, Op, Shape};

use crate::ir::Scalar;
use emitter::Emitter;
use matmul::Rows;

/// What a kernel's buffer is.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
pub enum Argument {
    /// A buffer of the module.
    Buffer(BufferId),
    /// The fault words, one for each step, `u32::MAX` where there is no fault.
    Faults,
}

/// A step as a kernel.
#[derive(Clone, PartialEq, Debug)]
pub struct LoweredStep {
    /// The kernel; its name says the kind of step.
    pub kernel: Kernel,
    /// What each buffer of the kernel is.
    pub arguments: Vec<Argument>,
    /// The kernel's parameters; a negative value wraps to 32 bits.
    pub parameters: Vec<Dim>,
    /// Number of workgroups; the kernel numbers them over a folded grid and checks the number.
    pub groups: Dim,
    /// The nodes that it runs, for reports.
    pub origin: String,
    /// What runs instead where an extent turns out small.
    pub small: Option<Box<SmallExtent>>,
}

/// A kernel for a small value of an extent that is known when symbols are bound.
#[derive(Clone, PartialEq, Debug)]
pub struct SmallExtent {
    /// The extent.
    pub extent: Dim,
    /// The largest value that the kernel is for; it is right for all.
    pub most: i64,
    /// The kernel.
    pub step: LoweredStep,
}

impl LoweredStep {
    /// The kernel to run for a binding of the symbols.
    ///
    /// # Errors
    /// A symbol of the extent is not bound.
    pub fn choose(&self, bindings: &Bindings) -> Result<&LoweredStep, DimError> {
        match &self.small {
            Some(small) if small.extent.eval(bindings)? <= small.most => small.step.choose(bindings),
            _ => Ok(self),
        }
    }
}

/// Lowers a step. `fault_word` is its place in the fault buffer.
///
/// # Errors
/// An op, dtype or extent that has no kernel; [`claims`] says no to all of them.
pub fn lower_step(step: &KernelStep, fault_word: u32) -> Result<LoweredStep, KernelError> {
    let lower = |rows: Rows| {
        let e = Emitter::new(step, fault_word);
        let groups = match &step.anchor {
            None => elementwise::lower(&e)?,
            Some(anchor) => lower_anchor(&e, anchor, rows)?,
        };
        Ok(e.finish(groups))
    };
    let mut lowered = lower(Rows::Any)?;
    let Some(extent) = step.anchor.as_ref().and_then(matmul::varying_rows) else { return Ok(lowered) };
    let mut last = &mut lowered;
    for rows in [Rows::Few, Rows::Fewest] {
        let small = SmallExtent { extent: extent.clone(), most: rows.most(), step: lower(rows)? };
        last = &mut last.small.insert(Box::new(small)).step;
    }
    Ok(lowered)
}

fn lower_anchor(e: &Emitter<'_>, anchor: &Anchor, rows: Rows) -> Result<Dim, KernelError> {
    match &anchor.op {
        Op::Reduce(op) => fold::reduce(e, anchor, op),
        Op::ArgReduce(op) => fold::arg_reduce(e, anchor, op),
        Op::MatMul(op) => matmul::lower(e, anchor, op, rows),
        Op::Gather(op) => index::gather(e, anchor, op),
        Op::GatherNd(op) => index::gather_nd(e, anchor, op),
        Op::Conv(op) => window::conv(e, anchor, op),
        Op::Pool(op) => window::pool(e, anchor, op),
        Op::ScatterNd(op) => index::scatter_nd(e, anchor, op),
        Op::TopK(op) => ordering::top_k(e, anchor, op),
        op => match op.as_cumulative() {
            Some(op) => ordering::cumulative(e, anchor, op),
            None => Err(e.refuse(format!("a kernel for {}", op.def().name))),
        },
    }
}

/// The kernel type that stores a dtype: bytes for 8-bit floats; `None` for complex, sub-byte and block dtypes.
pub fn storage(dtype: DType) -> Option<Scalar> {
    if small_float::is_small(dtype) {
        return Some(Scalar::U8);
    }
    Scalar::ALL.into_iter().find(|scalar| scalar.name() == dtype.name())
}

/// The kernel type that computes a dtype: `f32` for all smaller floats, else the storage type.
pub fn register(dtype: DType) -> Option<Scalar> {
    if small_float::is_small(dtype) {
        return Some(Scalar::F32);
    }
    storage(dtype).map(|scalar| match scalar {
        Scalar::F16 | Scalar::BF16 => Scalar::F32,
        scalar => scalar,
    })
}

/// The number of elements of some extents.
fn product(dims: &[Dim]) -> Dim {
    Shape::new(dims.to_vec()).num_elements()
}
