//! What a backend is.

use crate::device::{Device, DeviceInfo};
use crate::error::DriverError;
use crate::executable::ExecutableGraph;
use rlx_ir::hir::HirModule;
use rlx_ir::lir::VerifiedLir;
use rlx_ir::{Graph, OpKind};
use rlx_opt::{Capabilities, CompileOptions, OpView};

/// A backend on one device. It adds capabilities and kernels to the one
/// pipeline, never a pass of its own.
pub trait Backend: Send + Sync {
    /// The device.
    fn device(&self) -> Device;

    /// What is known about the device.
    fn info(&self) -> DeviceInfo;

    /// What the backend can do.
    fn capabilities(&self) -> Capabilities;

    /// Makes a verified module executable.
    ///
    /// # Errors
    /// What the device refuses.
    fn compile_lir(&self, module: VerifiedLir) -> Result<Box<dyn ExecutableGraph>, DriverError>;

    /// Compiles a graph through the one pipeline.
    ///
    /// # Errors
    /// What the pipeline or the device refuses.
    fn compile(
        &self,
        graph: Graph,
        options: &CompileOptions,
    ) -> Result<Box<dyn ExecutableGraph>, DriverError> {
        self.compile_lir(rlx_opt::compile(graph, &self.capabilities(), options)?.module)
    }

    /// Compiles a module of named blocks.
    ///
    /// # Errors
    /// What lowering, the pipeline or the device refuses.
    fn compile_hir(
        &self,
        module: &HirModule,
        options: &CompileOptions,
    ) -> Result<Box<dyn ExecutableGraph>, DriverError> {
        let graph = module.lower().map_err(|error| DriverError::Compile(error.into()))?;
        self.compile(graph, options)
    }

    /// Op kinds of which the backend runs at least one sample natively: read off its capabilities.
    fn supported_ops(&self) -> Vec<OpKind> {
        let capabilities = self.capabilities();
        let symbols = Default::default();
        let native = |kind: &OpKind| {
            let samples = kind.samples();
            samples.is_empty()
                || samples.iter().any(|sample| {
                    let operands: Vec<_> = sample.operands.iter().map(|(ty, _)| ty).collect();
                    let meaning = sample.op.meaning();
                    let Ok(results) = sample.op.infer(&operands) else { return false };
                    let view =
                        OpView { op: &sample.op, operands: &operands, results: &results, symbols: &symbols };
                    meaning.scalar.is_some()
                        || meaning.view.is_some()
                        || (capabilities.claim)(&view).is_native()
                })
        };
        OpKind::ALL.iter().copied().filter(native).collect()
    }
}
