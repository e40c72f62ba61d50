//! A device that is the checked interpreter: every kernel runs legalised as for WGSL with all 64-bit integers, and any
//! fault that the interpreter finds is an error. It shows what a GPU would do, slowly and without one.

use crate::device::{GpuDevice, Launch, Limits, ReadBack};
use crate::error::GpuError;
use rlx_kernel::Kernel;
use rlx_kernel::interp;
use rlx_kernel::rewrite::{Target, legalise, words::Layout};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// The device.
#[derive(Debug, Default)]
pub struct Checked;

/// Memory of the device.
#[derive(Debug)]
pub struct Memory(Mutex<Vec<u8>>);

impl Memory {
    fn lock(&self) -> MutexGuard<'_, Vec<u8>> {
        // A panic elsewhere leaves bytes, which are valid whatever they are.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn with<R>(
        &self,
        what: &str,
        start: u64,
        length: u64,
        f: impl FnOnce(&mut [u8]) -> R,
    ) -> Result<R, GpuError> {
        let mut bytes = self.lock();
        let size = bytes.len();
        let range = start.checked_add(length).map(|end| start as usize..end as usize);
        match range.and_then(|range| bytes.get_mut(range)) {
            Some(part) if start.is_multiple_of(4) => Ok(f(part)),
            _ => Err(GpuError::Rejected {
                what: what.into(),
                message: format!("{length} bytes from {start} in a buffer of {size}"),
            }),
        }
    }
}

impl GpuDevice for Checked {
    type Buffer = Memory;
    type Program = Kernel;

    fn name(&self) -> &str {
        "checked interpreter"
    }

    fn limits(&self) -> Limits {
        Limits {
            buffer_bytes: 1 << 32,
            binding_bytes: 1 << 31,
            binding_alignment: 32,
            bindings: 8,
            groups: 65535,
            invocations: 256,
            workgroup_bytes: 16384,
        }
    }

    fn target(&self) -> Target {
        Target::wgsl(true)
    }

    fn allocate(&self, what: &str, bytes: u64) -> Result<Memory, GpuError> {
        let refused = || GpuError::OutOfMemory { bytes, what: what.into() };
        let size =
            bytes.max(4).checked_next_multiple_of(4).filter(|&size| size <= self.limits().buffer_bytes);
        let size = size.and_then(|size| usize::try_from(size).ok()).ok_or_else(refused)?;
        let mut memory = Vec::new();
        memory.try_reserve_exact(size).map_err(|_| refused())?;
        memory.resize(size, 0);
        Ok(Memory(Mutex::new(memory)))
    }

    fn write(&self, memory: &Memory, offset: u64, bytes: &[u8]) -> Result<(), GpuError> {
        let length = bytes.len().next_multiple_of(4) as u64;
        memory.with("a write", offset, length, |part| {
            part[..bytes.len()].copy_from_slice(bytes);
            part[bytes.len()..].fill(0);
        })
    }

    fn read(&self, parts: &mut [ReadBack<'_, Memory>]) -> Result<(), GpuError> {
        parts.iter_mut().try_for_each(|part| {
            let length = part.bytes.len() as u64;
            part.buffer.with("a read", part.offset, length, |from| part.bytes.copy_from_slice(from))
        })
    }

    fn compile(&self, kernel: &Kernel, layout: &Layout) -> Result<Arc<Kernel>, GpuError> {
        Ok(Arc::new(legalise(kernel, &self.target(), layout)?))
    }

    fn submit(&self, launches: &[Launch<'_, Memory, Kernel>]) -> Result<(), GpuError> {
        for launch in launches {
            let what = format!("a launch of `{}`", launch.program.name);
            let copies = launch.bindings.iter().map(|binding| {
                binding.buffer.with(&what, binding.start, binding.length, |part| part.to_vec())
            });
            let mut buffers = copies.collect::<Result<Vec<_>, _>>()?;
            let run = interp::Launch::new(launch.groups, &launch.parameters, &mut buffers);
            let faults = interp::run(launch.program, run)?;
            if !faults.is_empty() {
                let lines: Vec<String> = faults.iter().map(ToString::to_string).collect();
                return Err(GpuError::Rejected { what, message: lines.join("; ") });
            }
            for (binding, bytes) in launch.bindings.iter().zip(&buffers) {
                binding
                    .buffer
                    .with(&what, binding.start, binding.length, |part| part.copy_from_slice(bytes))?;
            }
        }
        Ok(())
    }

    fn wait(&self) -> Result<(), GpuError> {
        Ok(())
    }
}
