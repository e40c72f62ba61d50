//! Arguments that several commands share.

use crate::{Usage, inputs};
use anyhow::bail;
use clap::{Args, ValueEnum};
use rlx::ir::lir::LirModule;
use rlx::{
    Bindings, Checks, CompileOptions, DType, Device, KernelDispatch, PrecisionPolicy, Session, SessionOptions,
};
use std::collections::BTreeMap;

/// Where to run.
#[derive(Args)]
pub struct DeviceArgs {
    /// Device, such as cpu, gpu or cuda:1 (see `rlx devices`)
    #[arg(long, default_value = "cpu")]
    pub device: Device,
    /// Worker threads of the cpu [default: all processors]
    #[arg(long)]
    pub threads: Option<usize>,
    /// Refuse to take more memory than this many bytes
    #[arg(long, value_name = "BYTES")]
    pub memory_budget: Option<u64>,
}

/// Float arithmetic of a compiled graph.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Precision {
    /// As the graph says
    Keep,
    /// Always f32
    F32,
    /// Always f16
    F16,
    /// Always bf16
    Bf16,
    /// Products in f16, the rest in f32
    MixedF16,
    /// Products in bf16, the rest in f32
    MixedBf16,
    /// As mixed-bf16, for products with weights only
    ConservativeBf16,
}

/// Which ops run as kernels of the device.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Dispatch {
    /// Kernels where there are, else decompositions
    PreferNative,
    /// Decompositions where there are
    ForceDecomposed,
    /// Refuse composite ops without a kernel
    ForceNative,
}

/// What becomes of values that an op does not take.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum ValueChecks {
    /// The run fails and names the op
    On,
    /// The nearest legal value is taken
    Clamp,
}

/// Where to run, and how to compile for it.
#[derive(Args)]
pub struct CompileArgs {
    #[command(flatten)]
    device: DeviceArgs,
    /// Dtypes of float arithmetic
    #[arg(long, value_enum, default_value_t = Precision::Keep)]
    pub precision: Precision,
    /// Kernels or decompositions
    #[arg(long, value_enum, default_value_t = Dispatch::PreferNative)]
    pub dispatch: Dispatch,
    /// Values that ops do not take, such as an index out of range
    #[arg(long, value_enum, default_value_t = ValueChecks::On)]
    pub checks: ValueChecks,
    /// Leave elementwise ops as steps of their own
    #[arg(long)]
    pub no_fusion: bool,
}

impl CompileArgs {
    /// Opens the device.
    pub fn session(&self) -> anyhow::Result<Session> {
        self.device.session(self.options())
    }

    fn options(&self) -> CompileOptions {
        CompileOptions {
            precision: match self.precision {
                Precision::Keep => PrecisionPolicy::Keep,
                Precision::F32 => PrecisionPolicy::Always(DType::F32),
                Precision::F16 => PrecisionPolicy::Always(DType::F16),
                Precision::Bf16 => PrecisionPolicy::Always(DType::BF16),
                Precision::MixedF16 => PrecisionPolicy::Mixed(DType::F16),
                Precision::MixedBf16 => PrecisionPolicy::Mixed(DType::BF16),
                Precision::ConservativeBf16 => PrecisionPolicy::MixedConservative(DType::BF16),
            },
            dispatch: match self.dispatch {
                Dispatch::PreferNative => KernelDispatch::PreferNative,
                Dispatch::ForceDecomposed => KernelDispatch::ForceDecomposed,
                Dispatch::ForceNative => KernelDispatch::ForceNative,
            },
            checks: match self.checks {
                ValueChecks::On => Checks::On,
                ValueChecks::Clamp => Checks::Clamp,
            },
            fusion: !self.no_fusion,
            ..CompileOptions::default()
        }
    }
}

impl DeviceArgs {
    /// Opens the device.
    pub fn session(&self, compile: CompileOptions) -> anyhow::Result<Session> {
        if self.threads == Some(0) {
            return Err(Usage("--threads 0: expected at least one thread".into()).into());
        }
        let options = SessionOptions {
            compile,
            threads: self.threads,
            memory_budget: self.memory_budget,
            ..SessionOptions::default()
        };
        Ok(Session::with(self.device, options)?)
    }
}

/// Extents of symbolic dims.
#[derive(Args, Clone)]
pub struct DimArgs {
    /// Extent of a symbolic dim; may be given several times
    #[arg(long = "dim", value_name = "SYMBOL=N", value_parser = parse_dim)]
    dims: Vec<(String, i64)>,
}

fn parse_dim(text: &str) -> Result<(String, i64), String> {
    let parts = text.split_once('=').and_then(|(name, value)| Some((name, value.parse().ok()?)));
    match parts {
        Some((name, value)) if !name.is_empty() => Ok((name.to_string(), value)),
        _ => Err("expected SYMBOL=N with an integer, such as B=8".into()),
    }
}

impl DimArgs {
    /// Are no extents given?
    pub fn is_empty(&self) -> bool {
        self.dims.is_empty()
    }

    /// The extents by symbol.
    pub fn by_symbol(&self) -> anyhow::Result<BTreeMap<&str, i64>> {
        let mut map = BTreeMap::new();
        for (name, value) in &self.dims {
            if map.insert(name.as_str(), *value).is_some_and(|before| before != *value) {
                return Err(Usage(format!("--dim {name} is given twice")).into());
            }
        }
        Ok(map)
    }

    /// `bindings` of the symbols of `module`, with the extents that were given in their place.
    pub fn over(&self, mut bindings: Bindings, module: &LirModule) -> anyhow::Result<Bindings> {
        let mut findings = vec![];
        for (symbol, value) in inputs::bind_dims(&module.symbols, &self.by_symbol()?, &mut findings).iter() {
            bindings.set(symbol, value);
        }
        if findings.is_empty() { Ok(bindings) } else { bail!("{}", findings.join("\n")) }
    }
}
