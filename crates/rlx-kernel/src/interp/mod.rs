//! The checked interpreter: runs a kernel over a grid on the CPU and reports what a GPU would leave undefined.
//!
//! It finds out-of-bounds accesses, races between invocations (of one workgroup between barriers, of two workgroups
//! at any time), barriers that not all invocations reach, reads of workgroup memory and locals that nothing wrote,
//! and loops that do not end. The invocations of a workgroup run in step, one statement at a time; workgroups run one
//! after the other. Results with no fault reported do not depend on that order, atomics aside.
//!
//! After a fault the run goes on: an out-of-bounds load gives 0, an out-of-bounds store is dropped.

mod machine;
pub mod scalar;
mod shadow;

use crate::error::KernelError;
use crate::ir::Kernel;
use crate::verify::verify;
use std::fmt;

/// What went wrong, once for each statement and kind.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    /// The kind of fault.
    pub kind: FaultKind,
    /// The statement, as the text form prints it.
    pub statement: String,
    /// The first workgroup that saw it.
    pub group: [u32; 3],
    /// The first invocation that saw it.
    pub lane: u32,
    /// The element's index, where one is involved.
    pub index: u64,
}

/// Kinds of fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FaultKind {
    /// An index is not below the buffer's or array's length.
    OutOfBounds,
    /// Two invocations touch one element, at least one writes, and nothing orders them.
    Race,
    /// A barrier that some invocations of the workgroup do not reach.
    BarrierDivergence,
    /// A read of workgroup memory or a local that nothing wrote.
    Unwritten,
    /// A counted loop with step 0, or the step budget ran out.
    Endless,
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Fault { kind, statement, group, lane, index } = self;
        write!(f, "{kind:?} at `{statement}`, workgroup {group:?}, invocation {lane}, index {index}")
    }
}

/// One launch of a kernel.
#[derive(Debug)]
pub struct Launch<'a> {
    /// Workgroups along each axis.
    pub groups: [u32; 3],
    /// The kernel's parameters, one word each.
    pub parameters: &'a [u32],
    /// The kernel's buffers, little-endian elements.
    pub buffers: &'a mut [Vec<u8>],
    /// Statements times invocations that may run before the launch counts as endless.
    pub budget: u64,
}

impl<'a> Launch<'a> {
    /// A launch with a budget of 4e9 steps.
    pub fn new(groups: [u32; 3], parameters: &'a [u32], buffers: &'a mut [Vec<u8>]) -> Launch<'a> {
        Launch { groups, parameters, buffers, budget: 4_000_000_000 }
    }
}

/// Runs a kernel and returns its faults; the buffers hold the results.
///
/// The error is a kernel that is not well formed, or a launch that does not fit it.
pub fn run(kernel: &Kernel, launch: Launch<'_>) -> Result<Vec<Fault>, KernelError> {
    verify(kernel)?;
    let check = |what: &str, found: usize, expected: usize| match found == expected {
        true => Ok(()),
        false => Err(KernelError::Launch {
            kernel: kernel.name.clone(),
            what: what.into(),
            found: found as u64,
            expected: expected as u64,
        }),
    };
    check("number of parameters", launch.parameters.len(), kernel.parameters.len())?;
    check("number of buffers", launch.buffers.len(), kernel.buffers.len())?;
    for (buffer, bytes) in kernel.buffers.iter().zip(launch.buffers.iter()) {
        let size = buffer.element.bytes() as usize;
        check(&format!("bytes in buffer `{}`", buffer.name), bytes.len(), bytes.len() / size * size)?;
    }
    Ok(machine::Machine::new(kernel, launch).run())
}
