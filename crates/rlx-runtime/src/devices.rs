//! The one table of backends, and the list of devices.
//!
//! A backend joins by one entry. Opening a device never falls back to another
//! one: what is not there is refused with the reason.

use crate::error::RuntimeError;
use crate::session::SessionOptions;
use rlx_cpu::exec::CpuBackend;
use rlx_driver::{Backend, Device, DeviceInfo, DeviceKind, DriverError};
use std::sync::Arc;

type Open = fn(u32, &SessionOptions) -> Result<Arc<dyn Backend>, RuntimeError>;

/// How one kind of device is found and opened.
struct Entry {
    kind: DeviceKind,
    open: Open,
    count: fn() -> u32,
}

/// Every kind that this build can run on.
const BACKENDS: &[Entry] = &[
    Entry { kind: DeviceKind::Cpu, open: open_cpu, count: || 1 },
    // The best adapter; opening it says why there is none.
    #[cfg(feature = "gpu")]
    Entry { kind: DeviceKind::Gpu, open: |_, _| Ok(Arc::new(rlx_wgpu::open()?)), count: || 1 },
];

fn open_cpu(_: u32, options: &SessionOptions) -> Result<Arc<dyn Backend>, RuntimeError> {
    Ok(match options.threads {
        Some(threads) => Arc::new(CpuBackend::with(threads, rlx_cpu::simd::SimdLevel::detect())?),
        None => Arc::new(CpuBackend::new()?),
    })
}

fn unavailable(device: Device, reason: impl Into<String>) -> DriverError {
    DriverError::Unavailable { device: device.to_string(), reason: reason.into() }
}

/// Opens `device`.
pub(crate) fn open(device: Device, options: &SessionOptions) -> Result<Arc<dyn Backend>, RuntimeError> {
    let Some(entry) = BACKENDS.iter().find(|entry| entry.kind == device.kind) else {
        let reason = match device.kind {
            DeviceKind::Gpu => "this build leaves it out; build with the cargo feature `gpu`",
            _ => "this build has no backend for it",
        };
        return Err(unavailable(device, reason).into());
    };
    let count = (entry.count)();
    if device.ordinal >= count {
        let kind = device.kind.name();
        return Err(unavailable(device, format!("{count} of kind {kind} can be opened")).into());
    }
    if options.threads.is_some() && device.kind != DeviceKind::Cpu {
        let reason = format!("{device} has no thread count; it is an option of the cpu");
        return Err(RuntimeError::Option { option: "threads", reason });
    }
    (entry.open)(device.ordinal, options)
}

/// One line of the list of devices.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeviceStatus {
    /// The device; ordinal 0 of its kind where there is none.
    pub device: Device,
    /// What is known about it, or why it cannot be used.
    pub info: Result<DeviceInfo, String>,
}

/// Every kind of device: each one that is there, and for the others why not.
pub fn devices() -> Vec<DeviceStatus> {
    let mut list = vec![];
    for &kind in DeviceKind::ALL {
        let count = BACKENDS.iter().find(|entry| entry.kind == kind).map_or(0, |entry| (entry.count)());
        for ordinal in 0..count.max(1) {
            let device = Device { kind, ordinal };
            let info = open(device, &SessionOptions::default());
            let info = info.map(|backend| backend.info()).map_err(|error| error.to_string());
            list.push(DeviceStatus { device, info });
        }
    }
    list
}
