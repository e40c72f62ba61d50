//! What a driver crate provides.

use crate::error::GpuError;
use rlx_kernel::Kernel;
use rlx_kernel::rewrite::{Target, words::Layout};
use std::fmt::Debug;
use std::sync::Arc;

/// Sizes that a device allows.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Limits {
    /// Largest buffer, in bytes.
    pub buffer_bytes: u64,
    /// Largest range of a buffer that one binding covers, in bytes.
    pub binding_bytes: u64,
    /// The start of a binding is a multiple of this, in bytes.
    pub binding_alignment: u64,
    /// Buffers that one kernel may bind.
    pub bindings: u32,
    /// Workgroups along one axis of a grid.
    pub groups: u32,
    /// Invocations in a workgroup.
    pub invocations: u32,
    /// Workgroup memory, in bytes.
    pub workgroup_bytes: u32,
}

/// A range of a device buffer, in bytes; both ends are multiples of 4.
#[derive(Debug)]
pub struct Range<'a, B> {
    /// The buffer.
    pub buffer: &'a B,
    /// First byte, a multiple of [`Limits::binding_alignment`].
    pub start: u64,
    /// Length, at most [`Limits::binding_bytes`].
    pub length: u64,
}

/// Bytes of a buffer on their way to the host.
#[derive(Debug)]
pub struct ReadBack<'a, B> {
    /// The buffer.
    pub buffer: &'a B,
    /// First byte, a multiple of 4.
    pub offset: u64,
    /// Receives as many bytes as it is long.
    pub bytes: &'a mut [u8],
}

/// One kernel of a list.
#[derive(Debug)]
pub struct Launch<'a, B, P> {
    /// The compiled kernel.
    pub program: &'a P,
    /// Workgroups along each axis; a grid with a zero runs nothing.
    pub groups: [u32; 3],
    /// The kernel's parameters after legalisation, one word each.
    pub parameters: Vec<u32>,
    /// The range of each binding of the layout.
    pub bindings: Vec<Range<'a, B>>,
}

/// A device with one queue. Calls happen in order; [`GpuDevice::submit`] may return before the work is done.
pub trait GpuDevice: Send + Sync + Debug {
    /// Memory on the device.
    type Buffer: Send + Sync + Debug;
    /// A compiled kernel.
    type Program: Send + Sync + Debug;

    /// The device's name, as its driver gives it.
    fn name(&self) -> &str;
    /// The sizes that it allows.
    fn limits(&self) -> Limits;
    /// What its language has, for [`rlx_kernel::rewrite::legalise`].
    fn target(&self) -> Target;
    /// Memory of `bytes` bytes, rounded up to a word, all zero.
    fn allocate(&self, what: &str, bytes: u64) -> Result<Self::Buffer, GpuError>;
    /// Copies host bytes into a buffer from byte `offset` on, a multiple of 4. A last word that the bytes do not fill
    /// gets zeros.
    fn write(&self, buffer: &Self::Buffer, offset: u64, bytes: &[u8]) -> Result<(), GpuError>;
    /// Copies device bytes to the host, all in one wait for the work before them.
    fn read(&self, parts: &mut [ReadBack<'_, Self::Buffer>]) -> Result<(), GpuError>;
    /// Compiles a kernel with its buffers bound as the layout says; the same pair is compiled once.
    fn compile(&self, kernel: &Kernel, layout: &Layout) -> Result<Arc<Self::Program>, GpuError>;
    /// Runs launches in order; each sees what those before it wrote.
    fn submit(&self, launches: &[Launch<'_, Self::Buffer, Self::Program>]) -> Result<(), GpuError>;
    /// Waits for all work and reports what went wrong in it.
    fn wait(&self) -> Result<(), GpuError>;
}

/// The smallest grid of at least `groups` workgroups whose first two axes keep to `limit`. Kernels number their
/// workgroups by [`rlx_kernel::Builder::linear_group`] and check that number.
pub fn fold_groups(groups: u64, limit: u32) -> Result<[u32; 3], GpuError> {
    let limit = u64::from(limit.max(1));
    let rows = groups.div_ceil(limit);
    if rows > limit {
        return Err(GpuError::AboveLimit { what: "workgroups".into(), found: groups, limit: limit * limit });
    }
    // Spread over the rows evenly, so that few workgroups idle.
    let width = groups.div_ceil(rows.max(1));
    Ok([width as u32, rows as u32, 1])
}

#[cfg(test)]
mod tests {
    use super::fold_groups;

    #[test]
    fn grids_cover_and_keep_to_the_limit() {
        for groups in [0u64, 1, 65535, 65536, 100_000, 65535 * 65535] {
            let [x, y, z] = fold_groups(groups, 65535).expect("the arguments fit the limits").map(u64::from);
            assert!(
                x * y * z >= groups && x <= 65535 && y <= 65535 && x * y < groups + y.max(1),
                "{groups}: {x} {y}"
            );
        }
        let error = fold_groups(65535 * 65535 + 1, 65535).unwrap_err().to_string();
        assert_eq!(error, "workgroups is 4294836226, the device allows 4294836225");
    }
}
