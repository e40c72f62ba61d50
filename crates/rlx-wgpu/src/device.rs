//! Opening a device, its memory, and compiling kernels.

use rlx_gpu::{GpuDevice, GpuError, Launch, Limits, ReadBack};
use rlx_kernel::Kernel;
use rlx_kernel::ir::Access;
use rlx_kernel::print::{print, wgsl::Wgsl};
use rlx_kernel::rewrite::{Target, legalise, words::Layout};
use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// One wgpu device and its queue.
#[derive(Debug)]
pub struct Wgpu {
    pub(crate) device: wgpu::Device,
    pub(crate) queue: wgpu::Queue,
    name: String,
    limits: Limits,
    integers64: bool,
    /// What went wrong outside of an error scope: a lost device, or a late error.
    failure: Arc<Mutex<Option<GpuError>>>,
    pipelines: Mutex<HashMap<(Kernel, Layout), Arc<Pipeline>>>,
    /// The parameters of a launch list.
    pub(crate) parameters: Mutex<Option<Memory>>,
    /// Where results wait for the host, unmapped.
    pub(crate) staging: Mutex<Option<wgpu::Buffer>>,
}

/// Memory on a device.
#[derive(Debug)]
pub struct Memory {
    pub(crate) buffer: wgpu::Buffer,
}

/// A compiled kernel.
#[derive(Debug)]
pub struct Pipeline {
    pub(crate) pipeline: wgpu::ComputePipeline,
    pub(crate) bind_group_layout: wgpu::BindGroupLayout,
    /// Words of parameters after legalisation.
    pub(crate) parameters: usize,
    pub(crate) bindings: usize,
    pub(crate) name: String,
}

/// A device's state may be used after a thread that held it panicked: each change is complete or absent.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The name of the device that [`Wgpu::open`] would open, or why there is none.
pub fn available() -> Result<String, GpuError> {
    adapter().map(|(adapter, _)| adapter.get_info().name)
}

fn adapter() -> Result<(wgpu::Adapter, wgpu::Instance), GpuError> {
    let instance = wgpu::Instance::new(wgpu::InstanceDescriptor::new_without_display_handle());
    let mut adapters = pollster::block_on(instance.enumerate_adapters(wgpu::Backends::all()));
    let rank = |adapter: &wgpu::Adapter| match adapter.get_info().device_type {
        wgpu::DeviceType::DiscreteGpu => 0,
        wgpu::DeviceType::IntegratedGpu => 1,
        wgpu::DeviceType::VirtualGpu => 2,
        wgpu::DeviceType::Cpu => 3,
        wgpu::DeviceType::Other => 4,
    };
    adapters.retain(|adapter| {
        adapter.get_downlevel_capabilities().flags.contains(wgpu::DownlevelFlags::COMPUTE_SHADERS)
    });
    adapters.sort_by_key(rank);
    let why = "no adapter with compute shaders; install a Vulkan driver (without a GPU: mesa-vulkan-drivers)";
    let adapter = adapters.into_iter().next();
    adapter.map(|adapter| (adapter, instance)).ok_or(GpuError::NoDevice { api: "wgpu", why: why.into() })
}

impl Wgpu {
    /// Opens the best adapter: a discrete GPU before an integrated one, a software renderer last.
    pub fn open() -> Result<Wgpu, GpuError> {
        let (adapter, _) = adapter()?;
        let features = adapter.features() & wgpu::Features::SHADER_INT64;
        let wanted = wgpu::DeviceDescriptor {
            label: None,
            required_features: features,
            required_limits: adapter.limits(),
            ..Default::default()
        };
        let refused =
            |error: wgpu::RequestDeviceError| GpuError::NoDevice { api: "wgpu", why: error.to_string() };
        let (device, queue) = pollster::block_on(adapter.request_device(&wanted)).map_err(refused)?;
        let failure = Arc::new(Mutex::new(None));
        let lost = Arc::clone(&failure);
        device.set_device_lost_callback(move |reason, message| {
            *lock(&lost) = Some(GpuError::Lost { why: format!("{reason:?}: {message}") });
        });
        let late = Arc::clone(&failure);
        device.on_uncaptured_error(Arc::new(move |error: wgpu::Error| {
            lock(&late).get_or_insert(translate("earlier work", 0, error));
        }));
        let found = device.limits();
        let limits = Limits {
            buffer_bytes: found.max_buffer_size,
            binding_bytes: found.max_storage_buffer_binding_size,
            binding_alignment: u64::from(found.min_storage_buffer_offset_alignment),
            bindings: found.max_storage_buffers_per_shader_stage,
            groups: found.max_compute_workgroups_per_dimension,
            invocations: found.max_compute_invocations_per_workgroup,
            workgroup_bytes: found.max_compute_workgroup_storage_size,
        };
        Ok(Wgpu {
            name: adapter.get_info().name,
            limits,
            integers64: features.contains(wgpu::Features::SHADER_INT64),
            failure,
            pipelines: Mutex::new(HashMap::new()),
            parameters: Mutex::new(None),
            staging: Mutex::new(None),
            device,
            queue,
        })
    }

    /// Runs driver calls inside error scopes and returns their first error.
    pub(crate) fn guarded<R>(
        &self,
        what: &str,
        bytes: u64,
        calls: impl FnOnce() -> R,
    ) -> Result<R, GpuError> {
        if let Some(failure) = self.failure() {
            return Err(failure);
        }
        let filters =
            [wgpu::ErrorFilter::Internal, wgpu::ErrorFilter::Validation, wgpu::ErrorFilter::OutOfMemory];
        let [outer, middle, inner] = filters.map(|filter| self.device.push_error_scope(filter));
        let result = calls();
        let errors = [inner, middle, outer].map(|scope| pollster::block_on(scope.pop()));
        match errors.into_iter().flatten().next() {
            Some(error) => Err(self.failure().unwrap_or_else(|| translate(what, bytes, error))),
            None => self.failure().map_or(Ok(result), Err),
        }
    }

    /// A failure outside of a scope. A lost device stays lost; any other error is reported once.
    fn failure(&self) -> Option<GpuError> {
        let mut failure = lock(&self.failure);
        match &*failure {
            Some(GpuError::Lost { .. }) => failure.clone(),
            _ => failure.take(),
        }
    }

    fn build(&self, kernel: &Kernel, layout: &Layout) -> Result<Pipeline, GpuError> {
        let kernel = legalise(kernel, &self.target(), layout)?;
        let check = |what: &str, found: u64, limit: u64| match found <= limit {
            true => Ok(()),
            false => Err(GpuError::AboveLimit {
                what: format!("{what} of kernel `{}`", kernel.name),
                found,
                limit,
            }),
        };
        check("workgroup memory in bytes", kernel.workgroup_bytes(), u64::from(self.limits.workgroup_bytes))?;
        check("workgroup size", u64::from(kernel.invocations()), u64::from(self.limits.invocations))?;
        check("number of bindings", kernel.buffers.len() as u64, u64::from(self.limits.bindings))?;
        let source = print(&kernel, &Wgsl)?;
        self.guarded(&format!("kernel `{}`", kernel.name), 0, || self.pipeline(&kernel, source))
    }

    fn pipeline(&self, kernel: &Kernel, source: String) -> Pipeline {
        let label = Some(kernel.name.as_str());
        let source = wgpu::ShaderSource::Wgsl(source.into());
        let module = self.device.create_shader_module(wgpu::ShaderModuleDescriptor { label, source });
        let entry = |binding: usize, ty: wgpu::BufferBindingType| wgpu::BindGroupLayoutEntry {
            binding: binding as u32,
            visibility: wgpu::ShaderStages::COMPUTE,
            ty: wgpu::BindingType::Buffer {
                ty,
                has_dynamic_offset: ty == wgpu::BufferBindingType::Uniform,
                min_binding_size: None,
            },
            count: None,
        };
        let uniform = (!kernel.parameters.is_empty()).then(|| entry(0, wgpu::BufferBindingType::Uniform));
        let storage = kernel.buffers.iter().enumerate().map(|(index, buffer)| {
            let read_only = buffer.access == Access::Read;
            entry(index + 1, wgpu::BufferBindingType::Storage { read_only })
        });
        let entries: Vec<_> = uniform.into_iter().chain(storage).collect();
        let group = wgpu::BindGroupLayoutDescriptor { label, entries: &entries };
        let bind_group_layout = self.device.create_bind_group_layout(&group);
        let layout = self.device.create_pipeline_layout(&wgpu::PipelineLayoutDescriptor {
            label,
            bind_group_layouts: &[Some(&bind_group_layout)],
            immediate_size: 0,
        });
        let pipeline = self.device.create_compute_pipeline(&wgpu::ComputePipelineDescriptor {
            label,
            layout: Some(&layout),
            module: &module,
            entry_point: Some("main"),
            compilation_options: wgpu::PipelineCompilationOptions {
                // Kernels write workgroup memory before they read it; the interpreter checks that.
                zero_initialize_workgroup_memory: false,
                ..Default::default()
            },
            cache: None,
        });
        let (parameters, bindings) = (kernel.parameters.len(), kernel.buffers.len());
        Pipeline { pipeline, bind_group_layout, parameters, bindings, name: kernel.name.clone() }
    }
}

fn translate(what: &str, bytes: u64, error: wgpu::Error) -> GpuError {
    match error {
        wgpu::Error::OutOfMemory { .. } => GpuError::OutOfMemory { bytes, what: what.into() },
        wgpu::Error::Validation { description, .. } | wgpu::Error::Internal { description, .. } => {
            GpuError::Rejected { what: what.into(), message: description }
        }
    }
}

impl GpuDevice for Wgpu {
    type Buffer = Memory;
    type Program = Pipeline;

    fn name(&self) -> &str {
        &self.name
    }

    fn limits(&self) -> Limits {
        self.limits
    }

    fn target(&self) -> Target {
        Target::wgsl(self.integers64)
    }

    fn allocate(&self, what: &str, bytes: u64) -> Result<Memory, GpuError> {
        let size = bytes.max(4).checked_next_multiple_of(4).unwrap_or(u64::MAX);
        if size > self.limits.buffer_bytes {
            let what = format!("{what}, in bytes,");
            return Err(GpuError::AboveLimit { what, found: size, limit: self.limits.buffer_bytes });
        }
        let usage = wgpu::BufferUsages::STORAGE
            | wgpu::BufferUsages::UNIFORM
            | wgpu::BufferUsages::COPY_SRC
            | wgpu::BufferUsages::COPY_DST;
        let descriptor = wgpu::BufferDescriptor { label: Some(what), size, usage, mapped_at_creation: false };
        let buffer = self.guarded(what, size, || self.device.create_buffer(&descriptor))?;
        Ok(Memory { buffer })
    }

    fn write(&self, memory: &Memory, offset: u64, bytes: &[u8]) -> Result<(), GpuError> {
        let (whole, rest) = bytes.split_at(bytes.len() / 4 * 4);
        self.guarded("a write", bytes.len() as u64, || {
            self.queue.write_buffer(&memory.buffer, offset, whole);
            if !rest.is_empty() {
                let mut word = [0; 4];
                word[..rest.len()].copy_from_slice(rest);
                self.queue.write_buffer(&memory.buffer, offset + whole.len() as u64, &word);
            }
        })
    }

    fn read(&self, parts: &mut [ReadBack<'_, Memory>]) -> Result<(), GpuError> {
        self.read_back(parts)
    }

    fn compile(&self, kernel: &Kernel, layout: &Layout) -> Result<Arc<Pipeline>, GpuError> {
        let key = (kernel.clone(), layout.clone());
        if let Some(found) = lock(&self.pipelines).get(&key) {
            return Ok(Arc::clone(found));
        }
        let built = Arc::new(self.build(kernel, layout)?);
        lock(&self.pipelines).insert(key, Arc::clone(&built));
        Ok(built)
    }

    fn submit(&self, launches: &[Launch<'_, Memory, Pipeline>]) -> Result<(), GpuError> {
        self.run(launches)
    }

    fn wait(&self) -> Result<(), GpuError> {
        let polled = self.guarded("waiting", 0, || self.device.poll(wgpu::PollType::wait_indefinitely()))?;
        match polled {
            Ok(_) => self.failure().map_or(Ok(()), Err),
            Err(error) => Err(GpuError::Lost { why: error.to_string() }),
        }
    }
}
