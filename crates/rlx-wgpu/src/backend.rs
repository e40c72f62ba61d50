//! The backend of the driver contract on a wgpu device.

use crate::device::Wgpu;
use rlx_driver::{Device, DriverError};
use rlx_gpu::GpuBackend;

/// The backend on the first device that wgpu finds.
pub type WgpuBackend = GpuBackend<Wgpu>;

/// Opens the backend.
///
/// # Errors
/// [`DriverError::Unavailable`] where there is no device.
pub fn open() -> Result<WgpuBackend, DriverError> {
    let device = Wgpu::open().map_err(|error| DriverError::Unavailable {
        device: Device::GPU.to_string(),
        reason: error.to_string(),
    })?;
    Ok(GpuBackend::new(device, Device::GPU, "wgpu"))
}
