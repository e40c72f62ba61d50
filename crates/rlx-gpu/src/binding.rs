//! From the ranges that a kernel's buffers occupy to the bindings of one launch.
//!
//! Buffers of one allocation share a binding where one binding may cover them all, so that an allocation that a kernel
//! writes is bound once; else each gets its own binding. An allocation that may be written is bound writable in every
//! kernel, as usage is tracked for it as a whole.

use crate::device::Limits;
use crate::error::GpuError;
use rlx_kernel::ir::Access;
use rlx_kernel::rewrite::words::Layout;

/// Where one buffer of a kernel lies.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Argument {
    /// Number of the allocation, chosen by the caller.
    pub allocation: usize,
    /// What kernels may do with the allocation.
    pub access: Access,
    /// First byte in the allocation, a multiple of 4.
    pub offset: u64,
    /// Bytes, rounded up to a word.
    pub length: u64,
}

/// The range of one binding.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct BoundRange {
    /// Number of the allocation.
    pub allocation: usize,
    /// First byte.
    pub start: u64,
    /// Length in bytes.
    pub length: u64,
}

/// How the buffers of one launch are bound.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Bound {
    /// The layout that the kernel is compiled for.
    pub layout: Layout,
    /// The range of each binding.
    pub ranges: Vec<BoundRange>,
    /// The first word of each buffer in its binding.
    pub bases: Vec<u32>,
}

/// Chooses the bindings for a kernel's buffers.
pub fn bind(arguments: &[Argument], limits: &Limits) -> Result<Bound, GpuError> {
    let mut bound = Bound {
        layout: Layout { slots: Vec::new(), bindings: Vec::new() },
        ranges: Vec::<BoundRange>::new(),
        bases: Vec::new(),
    };
    for argument in arguments {
        let alignment = limits.binding_alignment.max(4);
        let start = argument.offset / alignment * alignment;
        let end = (argument.offset + argument.length.max(4)).next_multiple_of(4);
        if end - start > limits.binding_bytes {
            let what = "the range that a kernel reads, in bytes,".into();
            return Err(GpuError::AboveLimit { what, found: end - start, limit: limits.binding_bytes });
        }
        let fits = |range: &BoundRange| {
            let (first, last) = (range.start.min(start), (range.start + range.length).max(end));
            range.allocation == argument.allocation && last - first <= limits.binding_bytes
        };
        let slot = bound.ranges.iter().position(fits).unwrap_or_else(|| {
            bound.ranges.push(BoundRange { allocation: argument.allocation, start, length: end - start });
            bound.layout.bindings.push(argument.access);
            bound.ranges.len() - 1
        });
        let range = &mut bound.ranges[slot];
        let last = (range.start + range.length).max(end);
        range.start = range.start.min(start);
        range.length = last - range.start;
        bound.layout.slots.push(slot);
    }
    if bound.ranges.len() > limits.bindings as usize {
        let (found, limit) = (bound.ranges.len() as u64, u64::from(limits.bindings));
        return Err(GpuError::AboveLimit { what: "buffers bound by one kernel".into(), found, limit });
    }
    let base = |(argument, &slot): (&Argument, &usize)| (argument.offset - bound.ranges[slot].start) / 4;
    let bases = arguments.iter().zip(&bound.layout.slots).map(base);
    // A binding is far below 2^34 bytes on every device with 32-bit indices.
    bound.bases = bases.map(|base| u32::try_from(base).unwrap_or(u32::MAX)).collect();
    Ok(bound)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn limits(binding_bytes: u64) -> Limits {
        Limits {
            buffer_bytes: 1 << 30,
            binding_bytes,
            binding_alignment: 32,
            bindings: 2,
            groups: 65535,
            invocations: 1024,
            workgroup_bytes: 1 << 15,
        }
    }

    fn argument(allocation: usize, offset: u64, length: u64) -> Argument {
        Argument { allocation, access: Access::ReadWrite, offset, length }
    }

    #[test]
    fn one_allocation_is_bound_once() {
        let bound = bind(&[argument(0, 400, 10), argument(1, 0, 8), argument(0, 64, 32)], &limits(4096))
            .expect("the arguments fit the limits");
        assert_eq!(bound.layout.slots, [0, 1, 0]);
        assert_eq!(bound.ranges[0], BoundRange { allocation: 0, start: 64, length: 348 });
        assert_eq!(bound.bases, [84, 0, 0]);
    }

    #[test]
    fn far_ranges_get_bindings_of_their_own() {
        let far = [argument(0, 0, 64), argument(0, 4096, 64)];
        let bound = bind(&far, &limits(1024)).expect("the arguments fit the limits");
        assert_eq!((bound.layout.slots, bound.bases), (vec![0, 1], vec![0, 0]));
        let three = [far[0], far[1], argument(0, 8192, 64)];
        let error = bind(&three, &limits(1024)).unwrap_err().to_string();
        assert_eq!(error, "buffers bound by one kernel is 3, the device allows 2");
        let error = bind(&[argument(0, 4, 1024)], &limits(1024)).unwrap_err().to_string();
        assert_eq!(error, "the range that a kernel reads, in bytes, is 1028, the device allows 1024");
    }
}
