//! The CPU as a backend.

use super::capabilities::capabilities;
use super::executable::CpuExecutable;
use crate::pool::Pool;
use crate::simd::SimdLevel;
use rlx_driver::{Backend, Device, DeviceInfo, DriverError, ExecutableGraph};
use rlx_ir::lir::VerifiedLir;
use rlx_opt::Capabilities;
use std::sync::Arc;

/// More threads than any machine has use for, and fewer than exhaust its mappings.
const MAX_THREADS: usize = 1024;

/// The host processor: an instruction set and a pool of threads.
#[derive(Clone)]
pub struct CpuBackend {
    level: SimdLevel,
    pool: Arc<Pool>,
}

impl CpuBackend {
    /// All processors of the machine, the best instruction set.
    ///
    /// # Errors
    /// Threads that cannot be started.
    pub fn new() -> Result<CpuBackend, DriverError> {
        let threads = std::thread::available_parallelism().map_or(1, std::num::NonZeroUsize::get);
        CpuBackend::with(threads.min(MAX_THREADS), SimdLevel::detect())
    }

    /// A given number of threads, 1 to 1024, and instruction set.
    ///
    /// # Errors
    /// Another number of threads, threads that cannot be started, an instruction set that the processor lacks.
    pub fn with(threads: usize, level: SimdLevel) -> Result<CpuBackend, DriverError> {
        let device = || Device::CPU.to_string();
        if !level.is_available() {
            let reason = format!("the processor lacks {level:?}");
            return Err(DriverError::Unavailable { device: device(), reason });
        }
        if !(1..=MAX_THREADS).contains(&threads) {
            let reason = format!("found {threads} threads, expected 1 to {MAX_THREADS}");
            return Err(DriverError::Unavailable { device: device(), reason });
        }
        let pool = Pool::new(threads).map_err(|error| DriverError::Device {
            device: device(),
            message: format!("cannot start threads: {error}"),
        })?;
        Ok(CpuBackend { level, pool: Arc::new(pool) })
    }
}

/// What a `key : value` file of the system says of `key`, where there is such a file.
fn line_of(file: &str, key: &str) -> Option<String> {
    let text = std::fs::read_to_string(file).ok()?;
    let (_, value) =
        text.lines().filter_map(|line| line.split_once(':')).find(|(name, _)| name.trim() == key)?;
    Some(value.trim().to_owned())
}

impl Backend for CpuBackend {
    fn device(&self) -> Device {
        Device::CPU
    }

    fn info(&self) -> DeviceInfo {
        DeviceInfo {
            device: Device::CPU,
            name: line_of("/proc/cpuinfo", "model name").unwrap_or_else(|| std::env::consts::ARCH.into()),
            memory: line_of("/proc/meminfo", "MemTotal")
                .and_then(|line| line.strip_suffix(" kB")?.parse::<u64>().ok()?.checked_mul(1024)),
            features: vec![
                format!("{:?}", self.level).to_lowercase(),
                format!("{} threads", self.pool.threads()),
            ],
        }
    }

    fn capabilities(&self) -> Capabilities {
        capabilities(self.level)
    }

    fn compile_lir(&self, module: VerifiedLir) -> Result<Box<dyn ExecutableGraph>, DriverError> {
        Ok(Box::new(CpuExecutable::new(module, self.pool.clone(), self.level)))
    }
}
