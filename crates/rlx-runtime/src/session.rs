//! A session: one device, its options, its compile cache.

use crate::cache::{CacheKey, CacheStatistics, CompileCache, folder};
use crate::compiled::{Compilation, CompiledGraph};
use crate::devices;
use crate::error::RuntimeError;
use rlx_driver::{Backend, Device, DeviceInfo, DriverError};
use rlx_ir::hir::HirModule;
use rlx_ir::lir::VerifiedLir;
use rlx_ir::{Graph, GraphModule};
use rlx_opt::{Capabilities, CompileOptions, PassContext, PrecisionPolicy};
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

/// What a caller can choose about a session.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SessionOptions {
    /// Options of every compilation that brings none of its own.
    pub compile: CompileOptions,
    /// Worker threads of the cpu; all processors when `None`.
    pub threads: Option<usize>,
    /// Most bytes that one executable may take, weights included; no limit when `None`.
    pub memory_budget: Option<u64>,
    /// Compilations that the session remembers; 0 remembers none.
    pub cache_entries: usize,
    /// A folder that keeps compilations between programs; none when `None`.
    pub cache_folder: Option<PathBuf>,
}

impl Default for SessionOptions {
    fn default() -> Self {
        SessionOptions {
            compile: CompileOptions::default(),
            threads: None,
            memory_budget: None,
            cache_entries: 64,
            cache_folder: None,
        }
    }
}

/// One device with its options and its compile cache. Clones share all of it;
/// sessions made apart share nothing.
#[derive(Clone)]
pub struct Session {
    shared: Arc<Shared>,
}

struct Shared {
    backend: Arc<dyn Backend>,
    capabilities: Capabilities,
    options: SessionOptions,
    cache: Mutex<CompileCache>,
}

impl Session {
    /// A session on `device` with the default options.
    ///
    /// # Errors
    /// A device that this build or machine does not have.
    pub fn new(device: Device) -> Result<Session, RuntimeError> {
        Session::with(device, SessionOptions::default())
    }

    /// A session on `device`.
    ///
    /// # Errors
    /// A device that this build or machine does not have, an option that the device does not have.
    pub fn with(device: Device, options: SessionOptions) -> Result<Session, RuntimeError> {
        Ok(Session::over(devices::open(device, &options)?, options))
    }

    /// A session on a backend of the caller's own making, which has the threads that it was made with.
    ///
    /// # Errors
    /// `options.threads` that are not `None`.
    pub fn on(backend: Arc<dyn Backend>, options: SessionOptions) -> Result<Session, RuntimeError> {
        if options.threads.is_some() {
            let reason = "the backend is made already; leave it out and give the threads to the backend";
            return Err(RuntimeError::Option { option: "threads", reason: reason.into() });
        }
        Ok(Session::over(backend, options))
    }

    fn over(backend: Arc<dyn Backend>, options: SessionOptions) -> Session {
        let cache = Mutex::new(CompileCache::new(options.cache_entries));
        Session { shared: Arc::new(Shared { capabilities: backend.capabilities(), backend, options, cache }) }
    }

    /// The device.
    pub fn device(&self) -> Device {
        self.shared.backend.device()
    }

    /// What is known about the device.
    pub fn info(&self) -> DeviceInfo {
        self.shared.backend.info()
    }

    /// What the device can do.
    pub fn capabilities(&self) -> &Capabilities {
        &self.shared.capabilities
    }

    /// The options.
    pub fn options(&self) -> &SessionOptions {
        &self.shared.options
    }

    /// How often the compile cache helped.
    pub fn cache_statistics(&self) -> CacheStatistics {
        self.shared.cache.lock().unwrap_or_else(PoisonError::into_inner).statistics()
    }

    /// Compiles `graph`.
    ///
    /// # Errors
    /// An invalid graph, or nodes that the device cannot run, all named.
    pub fn compile(&self, graph: Graph) -> Result<CompiledGraph, RuntimeError> {
        self.compile_with(graph, &self.shared.options.compile)
    }

    /// Compiles `graph` with options of its own.
    ///
    /// # Errors
    /// As [`Session::compile`], and options that cannot be honoured.
    pub fn compile_with(
        &self,
        graph: Graph,
        options: &CompileOptions,
    ) -> Result<CompiledGraph, RuntimeError> {
        let shared = &*self.shared;
        let key = CacheKey::new(&graph, &shared.capabilities, options);
        let cache = || shared.cache.lock().unwrap_or_else(PoisonError::into_inner);
        let found = cache().find(key)?;
        if let Some((executable, compilation)) = found {
            return Ok(self.compiled(executable, compilation));
        }
        // Outside the lock: other threads may compile other graphs meanwhile.
        let stored = match &shared.options.cache_folder {
            Some(path) => self.load_stored(path, key, options)?,
            None => None,
        };
        let (module, compilation) = match stored {
            Some(module) => {
                cache().folder_hits += 1;
                (module, None)
            }
            None => {
                let compiled = rlx_opt::compile(graph, &shared.capabilities, options)?;
                if let Some(path) = &shared.options.cache_folder {
                    folder::store(path, key, &compiled.graph)?;
                }
                let compilation = Compilation { graph: compiled.graph, report: compiled.report };
                (compiled.module, Some(Arc::new(compilation)))
            }
        };
        let prototype = shared.backend.compile_lir(module)?;
        let executable = cache().keep(key, prototype, compilation.clone())?;
        Ok(self.compiled(executable, compilation))
    }

    /// The module that the cache folder has for `key`, lowered and verified anew.
    fn load_stored(
        &self,
        path: &Path,
        key: CacheKey,
        options: &CompileOptions,
    ) -> Result<Option<VerifiedLir>, RuntimeError> {
        let Some(graph) = folder::load(path, key)? else { return Ok(None) };
        let context = PassContext { capabilities: &self.shared.capabilities, options };
        let lowered = rlx_opt::lower_to_lir(&graph, &context)?;
        Ok(Some(VerifiedLir::new(lowered.module).map_err(DriverError::from)?))
    }

    /// Compiles `graph` with the float dtypes of `precision`.
    ///
    /// # Errors
    /// As [`Session::compile_with`].
    pub fn compile_with_precision(
        &self,
        graph: Graph,
        precision: PrecisionPolicy,
    ) -> Result<CompiledGraph, RuntimeError> {
        self.compile_with(graph, &CompileOptions { precision, ..self.shared.options.compile.clone() })
    }

    /// Compiles a module of named blocks.
    ///
    /// # Errors
    /// Blocks that do not fit together, and as [`Session::compile`].
    pub fn compile_hir(&self, module: &HirModule) -> Result<CompiledGraph, RuntimeError> {
        self.compile(module.lower()?)
    }

    /// Compiles a module at any stage. LIR must have been made for the
    /// capabilities of this device; it is loaded as it is.
    ///
    /// # Errors
    /// As [`Session::compile_hir`], and LIR that the device refuses.
    pub fn compile_module(&self, module: impl Into<GraphModule>) -> Result<CompiledGraph, RuntimeError> {
        match module.into() {
            GraphModule::Hir(module) => self.compile_hir(&module),
            GraphModule::Mir(graph) => self.compile(graph),
            GraphModule::Lir(module) => self.load(module),
        }
    }

    fn load(&self, module: VerifiedLir) -> Result<CompiledGraph, RuntimeError> {
        Ok(self.compiled(self.shared.backend.compile_lir(module)?, None))
    }

    fn compiled(
        &self,
        executable: Box<dyn rlx_driver::ExecutableGraph>,
        compilation: Option<Arc<Compilation>>,
    ) -> CompiledGraph {
        CompiledGraph::new(executable, self.device(), compilation, self.shared.options.memory_budget)
    }
}

impl fmt::Debug for Session {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Session({}, {:?})", self.device(), self.cache_statistics())
    }
}
