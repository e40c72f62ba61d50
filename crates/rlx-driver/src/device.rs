//! Names of devices.

use crate::error::DriverError;
use std::fmt;
use std::str::FromStr;

/// A family of devices.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub enum DeviceKind {
    /// The host processor.
    Cpu,
    /// Any GPU through wgpu.
    Gpu,
    /// NVIDIA GPUs.
    Cuda,
    /// AMD GPUs.
    Rocm,
    /// Apple GPUs.
    Metal,
    /// Apple's MLX.
    Mlx,
    /// TPUs through PJRT.
    Tpu,
}

impl DeviceKind {
    /// Every kind.
    pub const ALL: &'static [DeviceKind] = &[
        DeviceKind::Cpu,
        DeviceKind::Gpu,
        DeviceKind::Cuda,
        DeviceKind::Rocm,
        DeviceKind::Metal,
        DeviceKind::Mlx,
        DeviceKind::Tpu,
    ];

    /// Name on a command line.
    pub const fn name(self) -> &'static str {
        match self {
            DeviceKind::Cpu => "cpu",
            DeviceKind::Gpu => "gpu",
            DeviceKind::Cuda => "cuda",
            DeviceKind::Rocm => "rocm",
            DeviceKind::Metal => "metal",
            DeviceKind::Mlx => "mlx",
            DeviceKind::Tpu => "tpu",
        }
    }
}

/// One device: a kind and an ordinal. Prints and parses as `cuda:1`; ordinal 0 may be left out.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub struct Device {
    /// The family.
    pub kind: DeviceKind,
    /// Which of the family, from 0.
    pub ordinal: u32,
}

impl Device {
    /// The host processor.
    pub const CPU: Device = Device { kind: DeviceKind::Cpu, ordinal: 0 };
    /// The first GPU that wgpu finds.
    pub const GPU: Device = Device { kind: DeviceKind::Gpu, ordinal: 0 };
}

impl fmt::Display for Device {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.ordinal {
            0 => f.write_str(self.kind.name()),
            ordinal => write!(f, "{}:{ordinal}", self.kind.name()),
        }
    }
}

impl FromStr for Device {
    type Err = DriverError;
    fn from_str(text: &str) -> Result<Device, DriverError> {
        let (name, ordinal) = text.split_once(':').unwrap_or((text, "0"));
        let kind = DeviceKind::ALL.iter().copied().find(|kind| kind.name() == name);
        match (kind, ordinal.parse()) {
            (Some(kind), Ok(ordinal)) => Ok(Device { kind, ordinal }),
            _ => Err(DriverError::NoSuchDevice(text.into())),
        }
    }
}

/// What is known about a device that is present.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeviceInfo {
    /// Which one.
    pub device: Device,
    /// Name of the hardware.
    pub name: String,
    /// Bytes of memory, where the driver tells.
    pub memory: Option<u64>,
    /// Features that matter to kernels, such as `avx512`.
    pub features: Vec<String>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn devices_print_and_parse() {
        for &kind in DeviceKind::ALL {
            for ordinal in [0, 3] {
                let device = Device { kind, ordinal };
                assert_eq!(device.to_string().parse::<Device>().expect("the text parses"), device);
            }
        }
        let error = "cudaa:1".parse::<Device>().unwrap_err().to_string();
        assert_eq!(
            error,
            "there is no device \"cudaa:1\"; the kinds are cpu, gpu, cuda, rocm, metal, mlx, tpu, each with an ordinal such as cuda:1"
        );
        assert!("cpu:x".parse::<Device>().is_err());
    }
}
