//! Every variant of `GpuError`, with the message that a user sees.

#[macro_use]
#[path = "../../rlx-testkit/shared/error_cases.rs"]
mod shared;

use rlx_gpu::GpuError;
use rlx_kernel::KernelError;

error_cases! { GpuError in "../src/error.rs":
    a_machine_without_device: NoDevice,
        GpuError::NoDevice { api: "wgpu", why: "no adapter was found".into() }
        => "no wgpu device: no adapter was found";
    a_device_that_went_away: Lost, GpuError::Lost { why: "reset".into() }
        => "the device was lost: reset; open it again";
    a_device_that_is_full: OutOfMemory, GpuError::OutOfMemory { bytes: 1024, what: "the arena".into() }
        => "the device has no memory left for 1024 bytes (the arena)";
    a_size_above_a_limit: AboveLimit,
        GpuError::AboveLimit { what: "binding 0 of `add`, in bytes".into(), found: 300, limit: 256 }
        => "binding 0 of `add`, in bytes is 300, the device allows 256";
    a_call_that_the_driver_rejects: Rejected,
        GpuError::Rejected { what: "pipeline `add`".into(), message: "type mismatch".into() }
        => "the driver rejected pipeline `add`: type mismatch";
    a_kernel_that_cannot_be_made: Kernel,
        GpuError::from(KernelError::Launch { kernel: "add".into(), what: "buffers".into(), found: 1, expected: 3 })
        => "kernel `add`: buffers: found 1, expected 3";
}
