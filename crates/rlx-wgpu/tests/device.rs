//! Kernels on the device give what the checked interpreter gives, and misuse gives typed errors.

#![allow(clippy::unwrap_used)]

use rlx_gpu::GpuError;
use rlx_gpu::device::{GpuDevice, Launch, Range, ReadBack, fold_groups};
use rlx_kernel::interp;
use rlx_kernel::ir::*;
use rlx_kernel::rewrite::words::Layout;
use rlx_kernel::{Builder, Kernel, Scalar};
use rlx_wgpu::Wgpu;

/// The device; without one, says so in the form that the gate counts.
fn device() -> Option<Wgpu> {
    match Wgpu::open() {
        Ok(device) => Some(device),
        Err(error) => {
            rlx_testkit::not_run("kernels on wgpu", &error.to_string());
            None
        }
    }
}

fn read(device: &Wgpu, buffer: &rlx_wgpu::Memory, offset: u64, bytes: &mut [u8]) -> Result<(), GpuError> {
    device.read(&mut [ReadBack { buffer, offset, bytes }])
}

/// Runs a kernel on the device with each buffer in an allocation of its own.
fn on_device(device: &Wgpu, kernel: &Kernel, groups: [u32; 3], parameters: &[u32], buffers: &mut [Vec<u8>]) {
    let program = device.compile(kernel, &Layout::separate(kernel)).unwrap();
    let allocate = |bytes: &Vec<u8>| {
        let memory = device.allocate("test", bytes.len() as u64).unwrap();
        device.write(&memory, 0, bytes).unwrap();
        memory
    };
    let memory: Vec<_> = buffers.iter().map(allocate).collect();
    let length = |bytes: &Vec<u8>| (bytes.len() as u64).next_multiple_of(4);
    let ranges = memory.iter().zip(buffers.iter());
    let bindings = ranges.map(|(buffer, bytes)| Range { buffer, start: 0, length: length(bytes) }).collect();
    let mut parameters = parameters.to_vec();
    parameters.resize(parameters.len() + buffers.len(), 0);
    device.submit(&[Launch { program: &program, groups, parameters, bindings }]).unwrap();
    for (memory, bytes) in memory.iter().zip(buffers.iter_mut()) {
        read(device, memory, 0, bytes).unwrap();
    }
}

/// `y[i] = fill(x[i])` over `f32`.
fn map(name: &str, fill: impl FnOnce(&Builder, Value) -> Value) -> Kernel {
    let b = Builder::new(name, [64, 1, 1]);
    let x = b.buffer("x", Scalar::F32, Access::Read);
    let y = b.buffer("y", Scalar::F32, Access::ReadWrite);
    let n = b.parameter("n");
    let id = b.linear_invocation();
    b.when(b.lt(id, n), |b| b.store(y, id, fill(b, b.load(x, id))));
    b.finish()
}

fn encode(values: &[f32]) -> Vec<u8> {
    values.iter().flat_map(|value| value.to_le_bytes()).collect()
}

fn decode(bytes: &[u8]) -> Vec<f32> {
    bytes.chunks_exact(4).map(|chunk| f32::from_le_bytes(chunk.try_into().unwrap())).collect()
}

#[test]
fn functions_agree_with_the_interpreter() {
    let Some(device) = device() else { return };
    let mut values = vec![0.0, -0.0, f32::INFINITY, f32::NEG_INFINITY, f32::NAN, f32::MAX, 1e6, 3e38, -1e30];
    values.extend((0..2000).map(|i| (i as f32 - 1000.0) * 0.11));
    values.extend((0..2000).map(|i| (i as f32 - 1000.0) * 0.0011));
    for &op in UnaryOp::ALL.iter().filter(|&&op| op != UnaryOp::Not) {
        let kernel = map(op.name(), |b, x| b.unary(op, x));
        let input = [encode(&values), vec![0; values.len() * 4]];
        let groups = [values.len().div_ceil(64) as u32, 1, 1];
        let parameters = [values.len() as u32];
        let (mut found, mut expected) = (input.clone(), input);
        on_device(&device, &kernel, groups, &parameters, &mut found);
        let launch = interp::Launch::new(groups, &parameters, &mut expected);
        assert_eq!(interp::run(&kernel, launch).unwrap(), vec![]);
        let (found, expected) = (decode(&found[1]), decode(&expected[1]));
        for ((x, found), expected) in values.iter().zip(found).zip(expected) {
            assert!(close(found, expected), "{} of {x:?}: found {found:?}, expected {expected:?}", op.name());
        }
    }
}

/// Equal within 5e-7; a device may flush subnormal numbers and round each step its own way.
fn close(found: f32, expected: f32) -> bool {
    let close = (found - expected).abs() <= 5e-7 * expected.abs() + 2e-38;
    close || found.to_bits() == expected.to_bits() || (found.is_nan() && expected.is_nan())
}

#[test]
fn functions_of_two_operands_agree_with_the_interpreter() {
    let Some(device) = device() else { return };
    let mut values = vec![0.0, -0.0, 1.0, -1.0, f32::INFINITY, f32::NEG_INFINITY, f32::NAN, 3.0, -3.0, 1e30];
    values.extend((1..50).map(|i| i as f32 * 0.37 - 7.0));
    let pairs: Vec<(f32, f32)> = values.iter().flat_map(|&a| values.iter().map(move |&b| (a, b))).collect();
    let n = pairs.len();
    let (left, right): (Vec<f32>, Vec<f32>) = pairs.iter().copied().unzip();
    for op in [BinaryOp::Pow, BinaryOp::Atan2, BinaryOp::Rem, BinaryOp::Min, BinaryOp::Max, BinaryOp::Lt] {
        let b = Builder::new(op.name(), [64, 1, 1]);
        let places = ["x", "y"].map(|name| b.buffer(name, Scalar::F32, Access::Read));
        let out = b.buffer("z", Scalar::F32, Access::ReadWrite);
        let (count, id) = (b.parameter("n"), b.linear_invocation());
        b.when(b.lt(id, count), |b| {
            let [x, y] = places.map(|place| b.load(place, id));
            b.store(out, id, b.cast(Scalar::F32, b.binary(op, x, y)));
        });
        let kernel = b.finish();
        let groups = [n.div_ceil(64) as u32, 1, 1];
        let mut found = [encode(&left), encode(&right), vec![0; 4 * n]];
        let mut expected = found.clone();
        let parameters = [n as u32];
        on_device(&device, &kernel, groups, &parameters, &mut found);
        let launch = interp::Launch::new(groups, &parameters, &mut expected);
        assert_eq!(interp::run(&kernel, launch).unwrap(), vec![]);
        for ((pair, found), expected) in pairs.iter().zip(decode(&found[2])).zip(decode(&expected[2])) {
            assert!(
                close(found, expected),
                "{} of {pair:?}: found {found:?}, expected {expected:?}",
                op.name()
            );
        }
    }
}

#[test]
fn bytes_halves_and_long_integers_are_stored() {
    let Some(device) = device() else { return };
    let b = Builder::new("types", [64, 1, 1]);
    let types = [Scalar::Bool, Scalar::U8, Scalar::I16, Scalar::F16, Scalar::BF16];
    let outputs = types.map(|ty| b.buffer(format!("as_{}", ty.name()), ty, Access::ReadWrite));
    let wide = b.buffer("wide", Scalar::I64, Access::ReadWrite);
    let id = b.linear_invocation();
    let hundred = b.i32(-100);
    let signed = b.cast(Scalar::I32, id);
    let shifted = b.add(signed, hundred);
    for (ty, place) in types.into_iter().zip(outputs) {
        let value = b.cast(ty, shifted);
        b.store(place, id, value);
    }
    let long = b.cast(Scalar::I64, shifted);
    let square = b.mul(long, long);
    let cube = b.mul(square, long);
    let (fifth, loaded) = (b.mul(cube, square), b.load(wide, id));
    let sum = b.add(fifth, loaded);
    b.store(wide, id, sum);
    let kernel = b.finish();
    let n = 256;
    let mut found: Vec<Vec<u8>> = types.iter().map(|ty| vec![0; n * ty.bytes() as usize]).collect();
    found.push((0..n as i64).flat_map(|i| (i << 33).to_le_bytes()).collect());
    let mut expected = found.clone();
    let launch = interp::Launch::new([4, 1, 1], &[], &mut expected);
    assert_eq!(interp::run(&kernel, launch).unwrap(), vec![]);
    on_device(&device, &kernel, [4, 1, 1], &[], &mut found);
    assert_eq!(found, expected);
}

#[test]
fn a_large_grid_is_folded() {
    let Some(device) = device() else { return };
    let b = Builder::new("count", [1, 1, 1]);
    let out = b.buffer("out", Scalar::U32, Access::ReadWrite);
    let n = b.parameter("n");
    let id = b.linear_invocation();
    let inside = b.lt(id, n);
    b.when(inside, |b| b.store(out, id, id));
    let n = 70_001u32;
    let mut buffers = [vec![0xff; 4 * n as usize]];
    let groups = fold_groups(u64::from(n), device.limits().groups).unwrap();
    on_device(&device, &b.finish(), groups, &[n], &mut buffers);
    let expected: Vec<u8> = (0..n).flat_map(|i| i.to_le_bytes()).collect();
    assert_eq!(buffers[0], expected);
}

#[test]
fn launches_of_a_list_see_each_other() {
    let Some(device) = device() else { return };
    let b = Builder::new("double", [64, 1, 1]);
    let x = b.buffer("x", Scalar::F32, Access::Read);
    let y = b.buffer("y", Scalar::F32, Access::ReadWrite);
    let id = b.linear_invocation();
    let value = b.load(x, id);
    let doubled = b.add(value, value);
    b.store(y, id, doubled);
    // Two halves of one arena, back and forth.
    let layout = Layout { slots: vec![0, 0], bindings: vec![Access::ReadWrite] };
    let program = device.compile(&b.finish(), &layout).unwrap();
    let arena = device.allocate("arena", 512).unwrap();
    device.write(&arena, 0, &encode(&[1.0; 64])).unwrap();
    let launch = |i: u32| Launch {
        program: &*program,
        groups: [1, 1, 1],
        parameters: if i.is_multiple_of(2) { vec![0, 64] } else { vec![64, 0] },
        bindings: vec![Range { buffer: &arena, start: 0, length: 512 }],
    };
    device.submit(&(0..11).map(launch).collect::<Vec<_>>()).unwrap();
    let mut bytes = vec![0; 512];
    read(&device, &arena, 0, &mut bytes).unwrap();
    assert_eq!(decode(&bytes), [vec![1024.0; 64], vec![2048.0; 64]].concat());
}

#[test]
fn misuse_is_an_error_and_leaves_the_device_usable() {
    let Some(device) = device() else { return };
    let error = device.allocate("too much", u64::MAX).unwrap_err();
    assert!(matches!(error, GpuError::AboveLimit { .. }), "{error}");
    let memory = device.allocate("small", 16).unwrap();
    let error = device.write(&memory, 8, &[0; 16]).unwrap_err();
    assert!(matches!(error, GpuError::Rejected { .. }), "{error}");
    let error = read(&device, &memory, 12, &mut [0; 16]).unwrap_err();
    assert!(matches!(error, GpuError::Rejected { .. }), "{error}");
    let b = Builder::new("large", [64, 1, 1]);
    b.array("tile", Scalar::F32, 1 << 20);
    let kernel = b.finish();
    let error = device.compile(&kernel, &Layout::separate(&kernel)).unwrap_err();
    assert!(
        error.to_string().starts_with("workgroup memory in bytes of kernel `large` is 4194304"),
        "{error}"
    );
    let kernel = map("copy", |_, x| x);
    let program = device.compile(&kernel, &Layout::separate(&kernel)).unwrap();
    let launch = Launch { program: &*program, groups: [1; 3], parameters: vec![], bindings: vec![] };
    let error = device.submit(&[launch]).unwrap_err();
    assert_eq!(
        error.to_string(),
        "the driver rejected a launch of `copy`: number of parameters: found 0, expected 3"
    );
    device.write(&memory, 0, &[7; 16]).unwrap();
    let mut bytes = [0; 16];
    read(&device, &memory, 0, &mut bytes).unwrap();
    assert_eq!(bytes, [7; 16]);
}
