//! What a bound step is to the executable.

use super::region::Files;
use crate::kernels::Context;

/// What a step is given when it runs.
pub struct Call<'a, 'b> {
    /// Instruction set and threads.
    pub context: Context<'a>,
    /// The same instruction set on the calling thread alone.
    pub inline: Context<'a>,
    /// Registers for elementwise programs.
    pub files: &'a Files,
    /// The read spans, in the step's order.
    pub reads: &'a [&'a [u8]],
    /// The written spans, in the step's order.
    pub writes: &'a mut [&'b mut [u8]],
    /// At least the step's scratch.
    pub scratch: &'a mut [u8],
}

/// Work with concrete extents; running it allocates nothing.
pub trait Work: Send + Sync {
    /// Name of the kernel, for reports.
    fn name(&self) -> &'static str;

    /// Bytes of scratch that a run needs.
    fn scratch(&self) -> usize {
        0
    }

    /// Slots of the registers that a run needs.
    fn slots(&self) -> usize {
        0
    }

    /// Runs.
    ///
    /// # Errors
    /// The fault that the values cause.
    fn run(&self, call: Call<'_, '_>) -> Result<(), String>;
}
