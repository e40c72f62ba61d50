//! A backend from a device: what the driver contract asks for, once for every GPU.

use crate::device::GpuDevice;
use crate::executable::GpuExecutable;
use rlx_driver::{Backend, Device, DeviceInfo, DriverError, ExecutableGraph};
use rlx_ir::lir::VerifiedLir;
use rlx_kernel::lower::claims::{self, Wide};
use rlx_opt::Capabilities;
use std::sync::Arc;

/// A backend on one device.
#[derive(Debug)]
pub struct GpuBackend<D> {
    device: Arc<D>,
    name: Device,
    backend: &'static str,
}

impl<D: GpuDevice> GpuBackend<D> {
    /// The backend called `backend` on `device`, known to callers as `name`.
    pub fn new(device: D, name: Device, backend: &'static str) -> GpuBackend<D> {
        GpuBackend { device: Arc::new(device), name, backend }
    }

    /// The device underneath.
    pub fn gpu(&self) -> &D {
        &self.device
    }
}

const WORDS: Wide = Wide { long: false, double: false };
const LONG: Wide = Wide { long: true, double: false };

impl<D: GpuDevice + 'static> Backend for GpuBackend<D> {
    fn device(&self) -> Device {
        self.name
    }

    fn info(&self) -> DeviceInfo {
        let features = if self.device.target().integers64 { vec!["int64".into()] } else { vec![] };
        DeviceInfo { device: self.name, name: self.device.name().into(), memory: None, features }
    }

    fn capabilities(&self) -> Capabilities {
        let long = self.device.target().integers64;
        Capabilities {
            name: self.backend,
            fingerprint: if long { "int64".into() } else { String::new() },
            alignment: 256,
            checks_values: true,
            claim: if long { |view| claims::claim(view, LONG) } else { |view| claims::claim(view, WORDS) },
            scalar: match long {
                true => |op, dtype| claims::scalar(op, dtype, LONG),
                false => |op, dtype| claims::scalar(op, dtype, WORDS),
            },
            accept: |attachment| claims::accept(attachment),
            pack: |_, _| None,
        }
    }

    fn compile_lir(&self, module: VerifiedLir) -> Result<Box<dyn ExecutableGraph>, DriverError> {
        Ok(Box::new(GpuExecutable::new(Arc::clone(&self.device), self.backend, module)?))
    }
}
