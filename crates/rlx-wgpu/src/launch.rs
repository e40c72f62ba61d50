//! Running launch lists and reading results back.

use crate::device::{Memory, Pipeline, Wgpu, lock};
use rlx_gpu::{GpuDevice, GpuError, Launch, ReadBack};
use std::sync::mpsc;

type Kernels<'a, 'b> = &'a [Launch<'b, Memory, Pipeline>];

impl Wgpu {
    /// Runs launches in one pass; dispatches of a pass see what those before them wrote.
    pub(crate) fn run(&self, launches: Kernels<'_, '_>) -> Result<(), GpuError> {
        launches.iter().try_for_each(|launch| self.check(launch))?;
        let (words, offsets) = self.pack_parameters(launches);
        let mut held = lock(&self.parameters);
        let needed = words.len() as u64;
        if held.as_ref().is_none_or(|memory| memory.buffer.size() < needed) {
            *held = Some(self.allocate("launch parameters", needed.next_power_of_two())?);
        }
        let parameters = held.as_ref().expect("allocated above");
        self.write(parameters, 0, &words)?;
        self.guarded("a launch list", 0, || {
            let mut encoder = self.device.create_command_encoder(&wgpu::CommandEncoderDescriptor::default());
            let mut pass = encoder.begin_compute_pass(&wgpu::ComputePassDescriptor::default());
            for (launch, &offset) in launches.iter().zip(&offsets) {
                if launch.groups.contains(&0) {
                    continue;
                }
                let group = self.bind_group(launch, parameters);
                pass.set_pipeline(&launch.program.pipeline);
                let offset = [offset];
                pass.set_bind_group(0, &group, if launch.parameters.is_empty() { &[] } else { &offset });
                let [x, y, z] = launch.groups;
                pass.dispatch_workgroups(x, y, z);
            }
            drop(pass);
            self.queue.submit([encoder.finish()]);
        })
    }

    fn check(&self, launch: &Launch<'_, Memory, Pipeline>) -> Result<(), GpuError> {
        let program = launch.program;
        let mismatch = |what: &str, found: usize, expected: usize| match found == expected {
            true => Ok(()),
            false => Err(GpuError::Rejected {
                what: format!("a launch of `{}`", program.name),
                message: format!("{what}: found {found}, expected {expected}"),
            }),
        };
        mismatch("number of parameters", launch.parameters.len(), program.parameters)?;
        mismatch("number of bindings", launch.bindings.len(), program.bindings)?;
        let limit = u64::from(self.limits().groups);
        match launch.groups.iter().map(|&count| u64::from(count)).find(|&count| count > limit) {
            Some(found) => {
                Err(GpuError::AboveLimit { what: format!("grid of `{}`", program.name), found, limit })
            }
            None => Ok(()),
        }
    }

    /// The parameters of all launches, each from an aligned offset on.
    fn pack_parameters(&self, launches: Kernels<'_, '_>) -> (Vec<u8>, Vec<u32>) {
        let alignment = self.device.limits().min_uniform_buffer_offset_alignment as usize;
        let mut bytes = Vec::new();
        let mut offsets = Vec::with_capacity(launches.len());
        for launch in launches {
            bytes.resize(bytes.len().next_multiple_of(alignment), 0);
            offsets.push(bytes.len() as u32);
            bytes.extend(launch.parameters.iter().flat_map(|word| word.to_le_bytes()));
        }
        bytes.resize(bytes.len().next_multiple_of(alignment), 0);
        (bytes, offsets)
    }

    fn bind_group(&self, launch: &Launch<'_, Memory, Pipeline>, parameters: &Memory) -> wgpu::BindGroup {
        let range = |buffer, offset, size| {
            wgpu::BindingResource::Buffer(wgpu::BufferBinding {
                buffer,
                offset,
                size: std::num::NonZeroU64::new(size),
            })
        };
        let uniform = (!launch.parameters.is_empty()).then(|| wgpu::BindGroupEntry {
            binding: 0,
            resource: range(&parameters.buffer, 0, 4 * launch.parameters.len() as u64),
        });
        let storage = launch.bindings.iter().enumerate().map(|(index, bound)| wgpu::BindGroupEntry {
            binding: index as u32 + 1,
            resource: range(&bound.buffer.buffer, bound.start, bound.length),
        });
        let entries: Vec<_> = uniform.into_iter().chain(storage).collect();
        let layout = &launch.program.bind_group_layout;
        self.device.create_bind_group(&wgpu::BindGroupDescriptor { label: None, layout, entries: &entries })
    }

    /// Copies device bytes to the host through one staging buffer, which is kept.
    pub(crate) fn read_back(&self, parts: &mut [ReadBack<'_, Memory>]) -> Result<(), GpuError> {
        let padded = |part: &ReadBack<'_, Memory>| (part.bytes.len() as u64).next_multiple_of(4);
        let size: u64 = parts.iter().map(padded).sum();
        if size == 0 {
            return self.wait();
        }
        let (sender, receiver) = mpsc::channel();
        let mut held = lock(&self.staging);
        // Taken out, so that one that fails while it is mapped is not used again.
        let kept = held.take().filter(|staging| staging.size() >= size);
        let staging = self.guarded("a read", size, || {
            let staging = kept.unwrap_or_else(|| self.staging_buffer(size));
            let mut encoder = self.device.create_command_encoder(&wgpu::CommandEncoderDescriptor::default());
            let mut target = 0;
            for part in parts.iter().filter(|part| !part.bytes.is_empty()) {
                let length = padded(part);
                encoder.copy_buffer_to_buffer(&part.buffer.buffer, part.offset, &staging, target, length);
                target += length;
            }
            self.queue.submit([encoder.finish()]);
            // The receiver outlives the wait below; a send after it has no reader to miss it.
            staging.slice(..size).map_async(wgpu::MapMode::Read, move |result| drop(sender.send(result)));
            staging
        })?;
        self.wait()?;
        let rejected = |message: String| GpuError::Rejected { what: "a read".into(), message };
        match receiver.try_recv() {
            Ok(Ok(())) => {}
            Ok(Err(error)) => return Err(rejected(error.to_string())),
            Err(error) => return Err(rejected(error.to_string())),
        }
        let view = staging.slice(..size).get_mapped_range().map_err(|error| rejected(error.to_string()))?;
        let mut source = 0;
        for part in parts {
            let length = part.bytes.len();
            part.bytes.copy_from_slice(&view[source..source + length]);
            source += length.next_multiple_of(4);
        }
        drop(view);
        staging.unmap();
        *held = Some(staging);
        Ok(())
    }

    fn staging_buffer(&self, size: u64) -> wgpu::Buffer {
        let usage = wgpu::BufferUsages::MAP_READ | wgpu::BufferUsages::COPY_DST;
        let size = size.checked_next_power_of_two().unwrap_or(size);
        let label = Some("read back");
        self.device.create_buffer(&wgpu::BufferDescriptor { label, size, usage, mapped_at_creation: false })
    }
}
