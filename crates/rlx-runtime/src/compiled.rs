//! A compiled graph: weights in, tensors in, tensors out.
//!
//! Wraps the executable of a backend and adds what is the same for all of them:
//! binding weights from a loader or registry, and the memory budget.

use crate::error::RuntimeError;
use crate::memory::smallest_bindings;
use crate::weights::{self, BoundWeights};
use rlx_driver::{
    ActiveExtent, Device, ExecutableGraph, ExpertResidency, HostValues, MemoryUse, Outputs, Pipelined,
    RawOutput, SharedBytes, SlotOutput, StateHandles, TensorRef, Timing,
};
use rlx_ir::lir::{BindingManifest, VerifiedLir};
use rlx_ir::{Bindings, Graph, nearest_name};
use rlx_opt::CompileReport;
use rlx_weights::{WeightLoader, WeightRegistry, WeightTensor};
use std::fmt;
use std::sync::Arc;

/// What the pipeline made of a graph, beside what runs.
#[derive(Clone, Debug)]
pub struct Compilation {
    /// The graph after the last graph pass.
    pub graph: Graph,
    /// What became of every node of the graph that was given.
    pub report: CompileReport,
}

/// A graph that is ready to run once its params are bound. Running takes
/// `&mut self`; [`CompiledGraph::clone_box`] makes more of the same that share
/// weights and code.
pub struct CompiledGraph {
    executable: Box<dyn ExecutableGraph>,
    device: Device,
    compilation: Option<Arc<Compilation>>,
    budget: Option<u64>,
}

impl CompiledGraph {
    pub(crate) fn new(
        mut executable: Box<dyn ExecutableGraph>,
        device: Device,
        compilation: Option<Arc<Compilation>>,
        budget: Option<u64>,
    ) -> CompiledGraph {
        executable.set_memory_budget(budget);
        CompiledGraph { executable, device, compilation, budget }
    }

    /// The device it runs on.
    pub fn device(&self) -> Device {
        self.device
    }

    /// The module that runs.
    pub fn lir(&self) -> &VerifiedLir {
        self.executable.lir()
    }

    /// Where inputs, params, states and outputs are, with the running offsets.
    pub fn manifest(&self) -> BindingManifest {
        self.executable.manifest()
    }

    /// What the pipeline did; `None` for a module that came as LIR or from the cache folder.
    pub fn compilation(&self) -> Option<&Compilation> {
        self.compilation.as_deref()
    }

    /// Memory that runs with these extents take, weights included, known before
    /// anything is loaded or allocated.
    ///
    /// # Errors
    /// A symbol that `bindings` leaves open.
    pub fn memory_estimate(&self, bindings: &Bindings) -> Result<MemoryUse, RuntimeError> {
        Ok(self.executable.memory_estimate(bindings)?)
    }

    /// Binds every param to the weight of its name. Bytes are shared with the
    /// loader, not copied, unless a float dtype differs from the graph's.
    ///
    /// # Errors
    /// Params that the loader lacks or that do not fit, all named; a budget that
    /// even the smallest extents exceed. Nothing is bound then.
    pub fn bind_weights(&mut self, loader: &dyn WeightLoader) -> Result<BoundWeights, RuntimeError> {
        self.bind_weights_named(loader, &|name| name.to_string())
    }

    /// As [`CompiledGraph::bind_weights`], with `rename` giving the loader's name of each param.
    ///
    /// # Errors
    /// As [`CompiledGraph::bind_weights`].
    pub fn bind_weights_named(
        &mut self,
        loader: &dyn WeightLoader,
        rename: &dyn Fn(&str) -> String,
    ) -> Result<BoundWeights, RuntimeError> {
        self.bind(loader.source(), &|name| loader.find(&rename(name)).cloned(), &|name| {
            nearest_name(&rename(name), loader.names()).map(str::to_string)
        })
    }

    /// Binds every param to the registered weight of its name; aliases are followed.
    ///
    /// # Errors
    /// As [`CompiledGraph::bind_weights`].
    pub fn bind_registry(&mut self, registry: &WeightRegistry) -> Result<BoundWeights, RuntimeError> {
        let find = |name: &str| -> Option<WeightTensor> {
            let entry = registry.lookup(name).and_then(|handle| registry.get(handle)).ok()?;
            Some(entry.tensor().clone())
        };
        self.bind("the weight registry", &find, &|_| None)
    }

    fn bind(
        &mut self,
        source_name: &str,
        find: &dyn Fn(&str) -> Option<WeightTensor>,
        suggest: &dyn Fn(&str) -> Option<String>,
    ) -> Result<BoundWeights, RuntimeError> {
        let smallest = smallest_bindings(self.executable.lir());
        self.memory_estimate(&smallest)?.within(self.budget)?;
        let entries = self.executable.lir().io.params.clone();
        let (all, bound) = weights::gather(source_name, &entries, find, suggest)?;
        for (entry, bytes) in entries.iter().zip(all) {
            self.executable.bind_param(&entry.name, bytes)?;
        }
        Ok(bound)
    }

    /// Binds one param by reference; `bytes` has exactly the param's size.
    ///
    /// # Errors
    /// An unknown name or a wrong size.
    pub fn bind_param(&mut self, name: &str, bytes: SharedBytes) -> Result<(), RuntimeError> {
        Ok(self.executable.bind_param(name, bytes)?)
    }

    /// Sets one param from `f32` values.
    ///
    /// # Errors
    /// An unknown name or a wrong number of values.
    pub fn set_param(&mut self, name: &str, values: &[f32]) -> Result<(), RuntimeError> {
        Ok(self.executable.set_param(name, values)?)
    }

    /// Sets one param from a tensor, converting to the param's dtype.
    ///
    /// # Errors
    /// An unknown name, or extents that do not fit.
    pub fn set_param_typed(&mut self, name: &str, tensor: TensorRef<'_>) -> Result<(), RuntimeError> {
        Ok(self.executable.set_param_typed(name, tensor)?)
    }

    /// Runs with named `f32` inputs (name, extents, values) and gives `f32` results in output order.
    ///
    /// # Errors
    /// As [`CompiledGraph::run_typed`].
    pub fn run(&mut self, inputs: &[(&str, &[usize], &[f32])]) -> Result<Vec<Vec<f32>>, RuntimeError> {
        Ok(self.executable.run(inputs)?)
    }

    /// Runs with named inputs and copies the results out.
    ///
    /// # Errors
    /// Unbound params; inputs that are missing, unknown, duplicate or of the
    /// wrong type, all named; extents over the memory budget; a fault of a step.
    pub fn run_typed(&mut self, inputs: &[(&str, TensorRef<'_>)]) -> Result<Outputs, RuntimeError> {
        Ok(self.executable.run_typed(inputs)?)
    }

    /// As [`CompiledGraph::run_typed`], the results borrowed until the next run.
    ///
    /// # Errors
    /// As [`CompiledGraph::run_typed`].
    pub fn run_raw(&mut self, inputs: &[(&str, TensorRef<'_>)]) -> Result<Vec<RawOutput<'_>>, RuntimeError> {
        Ok(self.executable.run_raw(inputs)?)
    }

    /// Runs on inputs in manifest order, with the extents of the last run;
    /// allocates nothing. Results lie in [`CompiledGraph::arena`].
    ///
    /// # Errors
    /// A wrong number of inputs or of bytes, unbound params, a fault of a step.
    pub fn run_slots(&mut self, inputs: &[&[u8]]) -> Result<&[SlotOutput], RuntimeError> {
        Ok(self.executable.run_slots(inputs)?)
    }

    /// The arena, where the host can see it.
    #[doc(alias = "arena_ptr")]
    pub fn arena(&self) -> Option<&[u8]> {
        self.executable.arena()
    }

    /// An independent executable that shares weights and code; its state starts fresh.
    ///
    /// # Errors
    /// Memory that cannot be had.
    pub fn clone_box(&self) -> Result<CompiledGraph, RuntimeError> {
        Ok(CompiledGraph {
            executable: self.executable.clone_box()?,
            device: self.device,
            compilation: self.compilation.clone(),
            budget: self.budget,
        })
    }

    /// Named state on the device between runs, where offered.
    pub fn states(&mut self) -> Option<&mut dyn StateHandles> {
        self.executable.states()
    }

    /// Binding a bounded symbol to less than its bound, where offered.
    pub fn active_extent(&mut self) -> Option<&mut dyn ActiveExtent> {
        self.executable.active_extent()
    }

    /// Runs that do not wait, where offered.
    pub fn pipelined(&mut self) -> Option<&mut dyn Pipelined> {
        self.executable.pipelined()
    }

    /// Time per step, where offered.
    pub fn timing(&mut self) -> Option<&mut dyn Timing> {
        self.executable.timing()
    }

    /// Experts that are on the device or not, where offered.
    pub fn experts(&mut self) -> Option<&mut dyn ExpertResidency> {
        self.executable.experts()
    }
}

impl fmt::Debug for CompiledGraph {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "CompiledGraph({:?} on {})", self.lir().name, self.device)
    }
}
