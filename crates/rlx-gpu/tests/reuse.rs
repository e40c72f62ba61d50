//! What a run asks of its device: once a step of a decoder has run, equal steps compile and allocate nothing, and wait
//! for the device once.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

use rlx_driver::{Backend, Device, ExecutableGraph, TensorRef};
use rlx_gpu::checked::{Checked, Memory};
use rlx_gpu::{GpuBackend, GpuDevice, GpuError, Launch, Limits, ReadBack};
use rlx_ir::op::Fill;
use rlx_ir::sample::{Generator, fill_literal};
use rlx_ir::{DType, Literal};
use rlx_kernel::Kernel;
use rlx_kernel::rewrite::{Target, words::Layout};
use rlx_opt::CompileOptions;
use rlx_testkit::decoder::decoder;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// The checked device, its calls counted.
#[derive(Debug, Default)]
struct Counted {
    device: Checked,
    allocations: AtomicUsize,
    compilations: AtomicUsize,
    writes: AtomicUsize,
    reads: AtomicUsize,
    submissions: AtomicUsize,
    launches: AtomicUsize,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Counts {
    allocations: usize,
    compilations: usize,
    writes: usize,
    reads: usize,
    submissions: usize,
    launches: usize,
}

impl Counted {
    /// The calls since the last question.
    fn take(&self) -> Counts {
        let take = |count: &AtomicUsize| count.swap(0, Ordering::Relaxed);
        Counts {
            allocations: take(&self.allocations),
            compilations: take(&self.compilations),
            writes: take(&self.writes),
            reads: take(&self.reads),
            submissions: take(&self.submissions),
            launches: take(&self.launches),
        }
    }
}

fn count(counter: &AtomicUsize, by: usize) {
    counter.fetch_add(by, Ordering::Relaxed);
}

impl GpuDevice for Counted {
    type Buffer = Memory;
    type Program = Kernel;

    fn name(&self) -> &str {
        self.device.name()
    }

    fn limits(&self) -> Limits {
        self.device.limits()
    }

    fn target(&self) -> Target {
        self.device.target()
    }

    fn allocate(&self, what: &str, bytes: u64) -> Result<Memory, GpuError> {
        count(&self.allocations, 1);
        self.device.allocate(what, bytes)
    }

    fn write(&self, memory: &Memory, offset: u64, bytes: &[u8]) -> Result<(), GpuError> {
        count(&self.writes, 1);
        self.device.write(memory, offset, bytes)
    }

    fn read(&self, parts: &mut [ReadBack<'_, Memory>]) -> Result<(), GpuError> {
        count(&self.reads, 1);
        self.device.read(parts)
    }

    fn compile(&self, kernel: &Kernel, layout: &Layout) -> Result<Arc<Kernel>, GpuError> {
        count(&self.compilations, 1);
        self.device.compile(kernel, layout)
    }

    fn submit(&self, launches: &[Launch<'_, Memory, Kernel>]) -> Result<(), GpuError> {
        count(&self.submissions, 1);
        count(&self.launches, launches.len());
        self.device.submit(launches)
    }

    fn wait(&self) -> Result<(), GpuError> {
        self.device.wait()
    }
}

fn step(executable: &mut dyn ExecutableGraph, tokens: &[i128], position: i128) {
    let tokens = Literal::ints(DType::I64, &[tokens.len()], tokens).expect("one value per element");
    let position = Literal::ints(DType::I64, &[1], &[position]).expect("one value per element");
    let inputs = [("tokens", TensorRef::from(&tokens)), ("position", TensorRef::from(&position))];
    executable.run_typed(&inputs).unwrap();
}

#[test]
fn equal_steps_compile_and_allocate_nothing_and_wait_once() {
    let backend = GpuBackend::new(Counted::default(), Device::GPU, "counted");
    let graph = decoder().finish().unwrap();
    let mut executable = backend.compile(graph, &CompileOptions::default()).unwrap();
    let mut generator = Generator::new(3);
    for entry in &executable.lir().io.params.clone() {
        let literal = fill_literal(&entry.ty, Fill::Range(-0.7, 0.7), &mut generator);
        executable.bind_param(&entry.name, literal.bytes().to_vec().into()).unwrap();
    }
    step(&mut *executable, &[5, 0, 36], 0);
    let prompt = backend.gpu().take();
    assert!(prompt.compilations > 0 && prompt.allocations > 0, "{prompt:?}");
    step(&mut *executable, &[7], 3);
    let first = backend.gpu().take();
    // The arena of the prompt is large enough.
    assert_eq!((first.allocations, first.compilations), (0, first.launches), "{first:?}");
    for position in 4..7 {
        step(&mut *executable, &[7], position);
        let again = backend.gpu().take();
        let launches = first.launches;
        let expected =
            Counts { allocations: 0, compilations: 0, writes: 2, reads: 1, submissions: 1, launches };
        assert_eq!(again, expected);
    }
}
