//! What a compiled graph can do.
//!
//! Running takes `&mut self`; weights and code are shared between clones.
//! Abilities that not every backend has are traits of their own, reached
//! through methods that give `None` where the ability is not offered; no method
//! panics or does nothing.

use crate::bytes::SharedBytes;
use crate::error::DriverError;
use crate::host::check_bytes;
use crate::memory::MemoryUse;
use rlx_ir::lir::{BindingManifest, VerifiedLir};
use rlx_ir::{Bindings, DType, Literal, TensorRef};
use std::time::Duration;

/// Named results, in the order of the graph's outputs.
pub type Outputs = Vec<(String, Literal)>;

/// One result, borrowed until the next run.
#[derive(Clone, Debug, PartialEq)]
pub struct RawOutput<'a> {
    /// Its name.
    pub name: &'a str,
    /// The elements.
    pub dtype: DType,
    /// Extents of this run.
    pub dims: Vec<usize>,
    /// Exactly as many bytes as the type needs.
    pub bytes: &'a [u8],
}

/// Where one result lies in the arena.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SlotOutput {
    /// Distance from the start, in bytes.
    pub offset: usize,
    /// Size in bytes.
    pub len: usize,
}

/// A compiled graph on a device.
pub trait ExecutableGraph: Send {
    /// The module that runs.
    fn lir(&self) -> &VerifiedLir;

    /// Where inputs, params, states and outputs are, with the running offsets.
    fn manifest(&self) -> BindingManifest;

    /// Memory that a run with these extents takes, known without running. The
    /// default is for backends whose kernels need no workspace.
    ///
    /// # Errors
    /// A symbol that `bindings` leaves open, extents that do not plan.
    fn memory_estimate(&self, bindings: &Bindings) -> Result<MemoryUse, DriverError> {
        MemoryUse::of_module(self.lir(), bindings)
    }

    /// Refuses, from now on, extents that did not run before and would take more bytes than this, weights included.
    fn set_memory_budget(&mut self, budget: Option<u64>);

    /// Binds a param without copying; `bytes` has exactly the param's size.
    ///
    /// # Errors
    /// An unknown name or a wrong size.
    fn bind_param(&mut self, name: &str, bytes: SharedBytes) -> Result<(), DriverError>;

    /// Runs with named inputs and copies the results out.
    ///
    /// # Errors
    /// Unbound params; inputs that are missing, unknown, duplicate or of the
    /// wrong type, all named; a fault of a step.
    fn run_typed(&mut self, inputs: &[(&str, TensorRef<'_>)]) -> Result<Outputs, DriverError>;

    /// As [`ExecutableGraph::run_typed`], the results borrowed until the next run.
    ///
    /// # Errors
    /// As [`ExecutableGraph::run_typed`].
    fn run_raw(&mut self, inputs: &[(&str, TensorRef<'_>)]) -> Result<Vec<RawOutput<'_>>, DriverError>;

    /// Runs on inputs in manifest order, with the extents of the last binding.
    /// Allocates nothing. The results lie in [`ExecutableGraph::arena`].
    ///
    /// # Errors
    /// A wrong number of inputs or of bytes, unbound params, a fault of a step.
    fn run_slots(&mut self, inputs: &[&[u8]]) -> Result<&[SlotOutput], DriverError>;

    /// The arena, where the host can see it; its address is that of the slice (`arena_ptr` in older naming).
    #[doc(alias = "arena_ptr")]
    fn arena(&self) -> Option<&[u8]>;

    /// An independent executable that shares weights and code.
    ///
    /// # Errors
    /// Memory that cannot be had.
    fn clone_box(&self) -> Result<Box<dyn ExecutableGraph>, DriverError>;

    /// Named state on the device between runs, where offered.
    fn states(&mut self) -> Option<&mut dyn StateHandles> {
        None
    }

    /// Binding a bounded symbol to less than its bound, where offered.
    fn active_extent(&mut self) -> Option<&mut dyn ActiveExtent> {
        None
    }

    /// Runs that do not wait, where offered.
    fn pipelined(&mut self) -> Option<&mut dyn Pipelined> {
        None
    }

    /// Time per step, where offered.
    fn timing(&mut self) -> Option<&mut dyn Timing> {
        None
    }

    /// Experts that are on the device or not, where offered.
    fn experts(&mut self) -> Option<&mut dyn ExpertResidency> {
        None
    }
}

/// Feeding and reading by `f32` values or by tensors of other dtypes, for every executable.
pub trait HostValues: ExecutableGraph {
    /// Binds a param from a host tensor, converting to the param's dtype.
    ///
    /// # Errors
    /// An unknown name, or extents or bytes that do not fit.
    fn set_param_typed(&mut self, name: &str, tensor: TensorRef<'_>) -> Result<(), DriverError> {
        let entry = self.lir().io.params.iter().find(|entry| entry.name == name);
        let Some(entry) = entry else {
            let known = self.lir().io.params.iter().map(|entry| entry.name.clone()).collect();
            return Err(DriverError::NoSuchName { what: "param", name: name.into(), known });
        };
        let (ty, dtype) = (entry.ty.clone(), entry.ty.dtype);
        if ty.shape.as_static().as_deref() != Some(tensor.dims) {
            let found = tensor.ty().to_string();
            return Err(DriverError::Mismatch {
                what: "param",
                name: name.into(),
                expected: ty.to_string(),
                found,
            });
        }
        check_bytes(tensor, "param", name)?;
        let size = dtype.byte_size(tensor.dims.iter().product()).unwrap_or(0);
        let mut bytes = vec![0; size];
        if tensor.dtype == dtype {
            bytes.copy_from_slice(tensor.bytes);
        } else {
            crate::host::convert(tensor.dtype, tensor.bytes, dtype, &mut bytes)?;
        }
        self.bind_param(name, SharedBytes::from(bytes))
    }

    /// Binds a param from `f32` values, as many as the param has elements.
    ///
    /// # Errors
    /// As [`HostValues::set_param_typed`].
    fn set_param(&mut self, name: &str, values: &[f32]) -> Result<(), DriverError> {
        let entry = self.lir().io.params.iter().find(|entry| entry.name == name);
        let dims = entry.and_then(|entry| entry.ty.shape.as_static()).unwrap_or_default();
        let tensor = TensorRef { dtype: DType::F32, dims: &dims, bytes: bytemuck::cast_slice(values) };
        if entry.is_some() && dims.iter().product::<usize>() != values.len() {
            let expected = format!("{} values", dims.iter().product::<usize>());
            let found = format!("{} values", values.len());
            return Err(DriverError::Mismatch { what: "param", name: name.into(), expected, found });
        }
        self.set_param_typed(name, tensor)
    }

    /// Runs with named `f32` inputs whose extents follow from the graph and gives `f32` results.
    ///
    /// # Errors
    /// As [`ExecutableGraph::run_typed`].
    fn run(&mut self, inputs: &[(&str, &[usize], &[f32])]) -> Result<Vec<Vec<f32>>, DriverError> {
        let tensors = inputs
            .iter()
            .map(|(name, dims, values)| Ok((*name, TensorRef::f32(dims, values)?)))
            .collect::<Result<Vec<_>, DriverError>>()?;
        let outputs = self.run_typed(&tensors)?;
        outputs
            .into_iter()
            .map(|(_, literal)| {
                let mut values = vec![0.0; literal.len()];
                crate::host::read_typed_to_f32(literal.dtype(), literal.bytes(), &mut values)?;
                Ok(values)
            })
            .collect()
    }
}

impl<E: ExecutableGraph + ?Sized> HostValues for E {}

/// Named state that lives on the device between runs.
pub trait StateHandles {
    /// Names of the states.
    fn names(&self) -> Vec<String>;
    /// Is there a state of this name, or an input that is fed or holds something (`has_gpu_handle`)?
    #[doc(alias = "has_gpu_handle")]
    fn has_handle(&self, name: &str) -> bool;
    /// Sets the content of a state, or what an input holds for runs with feeds
    /// (`bind_gpu_handle` in older naming).
    ///
    /// # Errors
    /// An unknown name, or a tensor that does not fit.
    #[doc(alias = "bind_gpu_handle")]
    fn bind_handle(&mut self, name: &str, tensor: TensorRef<'_>) -> Result<(), DriverError>;
    /// Reads the content of a state or of a fed input (`read_gpu_handle`).
    ///
    /// # Errors
    /// An unknown name, or state that a failed run touched.
    #[doc(alias = "read_gpu_handle")]
    fn read_handle(&self, name: &str) -> Result<Literal, DriverError>;
    /// Zeroes a state and makes it usable again after a fault.
    ///
    /// # Errors
    /// An unknown name.
    fn reset_handle(&mut self, name: &str) -> Result<(), DriverError>;
    /// After every [`StateHandles::run_feed`], and no other run, output `output` becomes the content of input
    /// or state `name` (`set_gpu_handle_feed`).
    ///
    /// # Errors
    /// Unknown names, or types that never agree.
    #[doc(alias = "set_gpu_handle_feed")]
    fn set_feed(&mut self, name: &str, output: &str) -> Result<(), DriverError>;
    /// Runs with the fed inputs left out where they hold something: what their feeds
    /// gave, or [`StateHandles::bind_handle`]; then the feeds take the outputs
    /// (`run_feed_gpu_handle`).
    ///
    /// # Errors
    /// As [`ExecutableGraph::run_typed`].
    #[doc(alias = "run_feed_gpu_handle")]
    fn run_feed(&mut self, inputs: &[(&str, TensorRef<'_>)]) -> Result<Outputs, DriverError>;
}

/// Binding one bounded symbol by hand.
pub trait ActiveExtent {
    /// Binds the symbol whose upper bound is `upper` to `actual` for the runs
    /// that follow: inputs keep the extents of `upper`, work and results follow
    /// `actual`.
    ///
    /// # Errors
    /// No symbol, or several, with this bound; `actual` beyond it.
    fn set_active_extent(&mut self, actual: usize, upper: usize) -> Result<(), DriverError>;
}

/// Runs that do not wait for their results.
pub trait Pipelined {
    /// Starts a run; returns its ticket.
    ///
    /// # Errors
    /// As [`ExecutableGraph::run_typed`], but for faults, which the sync reports.
    fn commit_no_wait(&mut self, inputs: &[(&str, TensorRef<'_>)]) -> Result<u64, DriverError>;
    /// Waits for every started run; results in the order of their tickets.
    ///
    /// # Errors
    /// The first fault.
    fn sync_pending(&mut self) -> Result<Vec<(u64, Outputs)>, DriverError>;

    /// Starts a run for each list of inputs, then waits for all: their results in order, after those of runs
    /// that were started before.
    ///
    /// # Errors
    /// As [`Pipelined::commit_no_wait`] and [`Pipelined::sync_pending`].
    fn run_pipelined(
        &mut self,
        runs: &[&[(&str, TensorRef<'_>)]],
    ) -> Result<Vec<(u64, Outputs)>, DriverError> {
        for inputs in runs {
            self.commit_no_wait(inputs)?;
        }
        self.sync_pending()
    }
}

/// What ran on experts that were on the device and on those that were not.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ResidencyStats {
    /// Products with an expert that was there, and with one that was not.
    pub calls: [u64; 2],
    /// Rows of those products.
    pub tokens: [u64; 2],
    /// Bytes that were brought to the device for them.
    pub bytes_streamed: u64,
}

/// Experts of mixture layers that are on the device or not; results are the same either way.
pub trait ExpertResidency {
    /// Keeps exactly these experts of every mixture layer on the device.
    ///
    /// # Errors
    /// An expert that a layer lacks.
    fn set_moe_resident_experts(&mut self, experts: &[usize]) -> Result<(), DriverError>;
    /// Keeps exactly these experts of each named layer on the device.
    ///
    /// # Errors
    /// An unknown layer, or an expert that it lacks.
    fn set_moe_resident_experts_per_layer(&mut self, layers: &[(&str, &[usize])]) -> Result<(), DriverError>;
    /// Records, from now on, which experts the router of each layer chooses.
    fn enable_moe_topk_capture(&mut self, on: bool);
    /// The choices recorded since the last call, by layer: one row of experts per token.
    fn take_moe_topk_capture(&mut self) -> Vec<(String, Literal)>;
    /// What was counted since the last call.
    fn take_moe_residency_stats(&mut self) -> ResidencyStats;
}

/// Time of one step.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StepTime {
    /// The step's origin: node and block.
    pub step: String,
    /// Total over the timed runs.
    pub total: Duration,
    /// How often it ran.
    pub runs: u64,
}

/// Time per step.
pub trait Timing {
    /// Starts or stops taking times; starting clears old ones, other extents do not.
    fn set_timing(&mut self, on: bool);
    /// Times so far, in step order.
    fn step_times(&self) -> Vec<StepTime>;
}
