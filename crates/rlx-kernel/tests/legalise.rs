//! Legalised kernels mean what the kernels meant, and their WGSL is valid by naga.
#![allow(clippy::unwrap_used, clippy::panic)]

use rlx_kernel::interp::{Launch, run, scalar};
use rlx_kernel::ir::*;
use rlx_kernel::print::{print, wgsl::Wgsl};
use rlx_kernel::rewrite::{Target, legalise, words::Layout};
use rlx_kernel::{Builder, Kernel, Scalar};

/// The WGSL of a legalised kernel; it must pass naga's parser and validator.
fn wgsl(kernel: &Kernel) -> String {
    let text = print(kernel, &Wgsl).unwrap();
    let module = naga::front::wgsl::parse_str(&text).unwrap_or_else(|error| panic!("{error}\n{text}"));
    let flags = naga::valid::ValidationFlags::all();
    let capabilities = naga::valid::Capabilities::SHADER_INT64;
    naga::valid::Validator::new(flags, capabilities)
        .validate(&module)
        .unwrap_or_else(|error| panic!("{error:?}\n{text}"));
    text
}

/// `out[i] = fill(in...[i])` over buffers of the given types.
fn map(
    name: &str,
    inputs: &[Scalar],
    output: Scalar,
    fill: impl FnOnce(&Builder, &[Value]) -> Value,
) -> Kernel {
    let b = Builder::new(name, [64, 1, 1]);
    let places: Vec<Place> =
        inputs.iter().enumerate().map(|(i, &ty)| b.buffer(format!("x{i}"), ty, Access::Read)).collect();
    let out = b.buffer("y", output, Access::ReadWrite);
    let n = b.parameter("n");
    let id = b.linear_invocation();
    b.when(b.lt(id, n), |b| {
        let values: Vec<Value> = places.iter().map(|&place| b.load(place, id)).collect();
        b.store(out, id, fill(b, &values));
    });
    b.finish()
}

fn encode(ty: Scalar, values: &[u64]) -> Vec<u8> {
    let mut bytes: Vec<u8> =
        values.iter().flat_map(|bits| bits.to_le_bytes()[..ty.bytes() as usize].to_vec()).collect();
    bytes.resize(bytes.len().next_multiple_of(4), 0);
    bytes
}

fn decode(ty: Scalar, bytes: &[u8], n: usize) -> Vec<u64> {
    let chunks = bytes.chunks_exact(ty.bytes() as usize).take(n);
    chunks.map(|chunk| chunk.iter().rev().fold(0, |bits, &byte| bits << 8 | u64::from(byte))).collect()
}

/// Runs a `map` kernel; `legal` through the whole chain, with its WGSL validated.
fn evaluate(kernel: &Kernel, inputs: &[Vec<u64>], legal: bool) -> Vec<u64> {
    let n = inputs[0].len();
    let types: Vec<Scalar> = kernel.buffers.iter().map(|buffer| buffer.element).collect();
    let output = *types.last().unwrap();
    let mut buffers: Vec<Vec<u8>> = inputs.iter().zip(&types).map(|(x, &ty)| encode(ty, x)).collect();
    buffers.push(vec![0xaa; (n * output.bytes() as usize).next_multiple_of(4)]);
    let groups = [n.div_ceil(64) as u32, 1, 1];
    let mut parameters = vec![n as u32];
    let legalised;
    let mut kernel = kernel;
    if legal {
        legalised = legalise(kernel, &Target::wgsl(true), &Layout::separate(kernel)).unwrap();
        wgsl(&legalised);
        kernel = &legalised;
        parameters.resize(1 + types.len(), 0);
    }
    let faults = run(kernel, Launch::new(groups, &parameters, &mut buffers)).unwrap();
    assert_eq!(faults, vec![], "{kernel}");
    decode(output, buffers.last().unwrap(), n)
}

fn floats() -> Vec<f32> {
    let mut values = vec![
        0.0,
        -0.0,
        1.0,
        -1.0,
        0.5,
        -0.5,
        f32::INFINITY,
        f32::NEG_INFINITY,
        f32::NAN,
        f32::MIN_POSITIVE,
        f32::MAX,
        f32::MIN,
        f32::EPSILON,
        88.7,
        88.8,
        89.0,
        -87.0,
        -104.0,
        1e10,
        1e-10,
        2.5,
        3.5,
        -2.5,
        8192.0,
        8193.0,
        3e38,
        1.9999999,
        0.99999994,
        1.0000001,
        2147483648.0,
        -2147483648.0,
        4294967296.0,
        65504.0,
        65520.0,
        1e-40,
    ];
    let mut state = 12345u32;
    for _ in 0..4000 {
        state = state.wrapping_mul(1664525).wrapping_add(1013904223);
        values.push(f32::from_bits(state));
        values.push((state >> 8) as f32 / 1e6 - 8.0);
        values.push((state >> 8) as f32 / 8e6 - 1.05);
        values.push((state >> 8) as f32 * 1e-2 - 8e4);
    }
    values
}

fn bits(values: &[f32]) -> Vec<u64> {
    values.iter().map(|value| u64::from(value.to_bits())).collect()
}

/// Distance in units in the last place of the exact value; infinite when only one is NaN or infinite.
fn ulps(found: f32, exact: f64) -> f64 {
    let rounded = exact as f32;
    if found.to_bits() == rounded.to_bits() || (found.is_nan() && exact.is_nan()) {
        return 0.0;
    }
    if found.is_nan() || exact.is_nan() || (found == 0.0 && rounded == 0.0) {
        return f64::INFINITY;
    }
    let unit = f64::from(rounded.abs().clamp(f32::MIN_POSITIVE, f32::MAX).next_up()) as f32;
    let unit = if unit.is_infinite() { 2f64.powi(104) } else { f64::from(unit - unit.next_down()) };
    let found =
        if found.is_infinite() { f64::from(found.signum()) * 2f64.powi(128) } else { f64::from(found) };
    let exact = exact.clamp(-(2f64.powi(128)), 2f64.powi(128));
    (found - exact).abs() / unit
}

#[test]
fn unary_functions_are_accurate() {
    let values = floats();
    let mut report = String::new();
    for &op in UnaryOp::ALL {
        if op == UnaryOp::Not {
            continue;
        }
        let kernel = map(op.name(), &[Scalar::F32], Scalar::F32, |b, x| b.unary(op, x[0]));
        let found = evaluate(&kernel, &[bits(&values)], true);
        let mut worst = (0.0, 0.0);
        for (&x, &y) in values.iter().zip(&found) {
            let exact = f64::from_bits(scalar::unary(op, Scalar::F64, f64::from(x).to_bits()));
            let error = ulps(f32::from_bits(y as u32), exact);
            if error > worst.0 {
                worst = (error, x);
            }
        }
        report += &format!("{}: {:.2} at {:?}\n", op.name(), worst.0, worst.1);
        assert!(worst.0 < 4.0, "{report}");
    }
    println!("{report}");
}

#[test]
fn binary_functions_are_accurate() {
    let x = floats();
    let corners: Vec<f32> = x[..35].to_vec();
    let mut pairs: Vec<(f32, f32)> =
        corners.iter().flat_map(|&a| corners.iter().map(move |&b| (a, b))).collect();
    pairs.extend(x.iter().zip(x.iter().rev()).map(|(&a, &b)| (a, b)));
    pairs.extend(x.iter().zip(x.iter().skip(1)).map(|(&a, &b)| (a.abs(), b)));
    let left = bits(&pairs.iter().map(|pair| pair.0).collect::<Vec<_>>());
    let right = bits(&pairs.iter().map(|pair| pair.1).collect::<Vec<_>>());
    let mut report = String::new();
    for &op in BinaryOp::ALL {
        use BinaryOp::*;
        if matches!(op, And | Or | Xor | Shl | Shr) {
            continue;
        }
        let output = if op.is_comparison() { Scalar::Bool } else { Scalar::F32 };
        let kernel = map(op.name(), &[Scalar::F32, Scalar::F32], output, |b, x| b.binary(op, x[0], x[1]));
        let found = evaluate(&kernel, &[left.clone(), right.clone()], true);
        let mut worst = (0.0, (0.0, 0.0));
        for (&(a, b), &y) in pairs.iter().zip(&found) {
            let wide = |x: f32| f64::from(x).to_bits();
            let exact = scalar::binary(op, Scalar::F64, wide(a), wide(b));
            if op.is_comparison() {
                assert_eq!(y, exact, "{} {a:?} {b:?}", op.name());
                continue;
            }
            let error = ulps(f32::from_bits(y as u32), f64::from_bits(exact));
            // The zero that min and max give for zeros of both signs is not defined.
            if error > worst.0 && !(matches!(op, Min | Max) && a == 0.0 && b == 0.0) {
                worst = (error, (a, b));
            }
        }
        report += &format!("{}: {:.2} at {:?}\n", op.name(), worst.0, worst.1);
        assert!(worst.0 < 4.0, "{report}");
    }
    println!("{report}");
}

#[test]
fn every_half_converts_exactly() {
    let all: Vec<u64> = (0..=0xffff).collect();
    for ty in [Scalar::F16, Scalar::BF16] {
        let widen = map("widen", &[ty], Scalar::F32, |b, x| b.cast(Scalar::F32, x[0]));
        let wide = evaluate(&widen, std::slice::from_ref(&all), true);
        let narrow = map("narrow", &[Scalar::F32], ty, |b, x| b.cast(ty, x[0]));
        let back = evaluate(&narrow, std::slice::from_ref(&wide), true);
        for (&half, (&wide, &back)) in all.iter().zip(wide.iter().zip(&back)) {
            let exact = scalar::to_f64(ty, half);
            if exact.is_nan() {
                assert!(f32::from_bits(wide as u32).is_nan() && scalar::to_f64(ty, back).is_nan());
            } else {
                assert_eq!(f64::from(f32::from_bits(wide as u32)), exact);
                assert_eq!(back, half, "{exact}");
            }
        }
    }
}

/// Values of a type that reach its corners.
fn corners(ty: Scalar) -> Vec<u64> {
    if ty.is_float() {
        return floats()[..600].iter().map(|&x| scalar::from_f64(ty, f64::from(x))).collect();
    }
    let mask = u64::MAX >> (64 - 8 * ty.bytes());
    let mask = if ty == Scalar::Bool { 1 } else { mask };
    let mut values =
        vec![0, 1, 2, 3, 7, 8, 16, 31, 32, 63, 64, 100, mask, mask >> 1, (mask >> 1) + 1, mask - 1];
    let mut state = 99u64;
    for _ in 0..100 {
        state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        values.push(state >> 7);
    }
    values.iter().map(|value| value & mask).collect()
}

const TYPES: [Scalar; 12] = {
    use Scalar::*;
    [Bool, I8, I16, I32, I64, U8, U16, U32, U64, F16, BF16, F32]
};

#[test]
fn casts_keep_their_meaning() {
    for from in TYPES {
        for to in TYPES {
            let kernel = map("convert", &[from], to, |b, x| b.cast(to, x[0]));
            let values = corners(from);
            let inputs = [values.clone()];
            let (legal, plain) = (evaluate(&kernel, &inputs, true), evaluate(&kernel, &inputs, false));
            for ((value, legal), plain) in values.iter().zip(legal).zip(plain) {
                let both_nan = to.is_float() && scalar::to_f64(to, plain).is_nan();
                if both_nan && scalar::to_f64(to, legal).is_nan() {
                    continue;
                }
                // A wide integer becomes bf16 by way of f32: two roundings.
                let twice = to == Scalar::BF16 && from.is_integer() && from.bytes() >= 4;
                let close = legal.abs_diff(plain) <= u64::from(twice);
                assert!(close, "{from:?} to {to:?} of {value:#x}: found {legal:#x}, expected {plain:#x}");
            }
        }
    }
}

#[test]
fn integer_operations_keep_their_meaning() {
    for ty in TYPES.into_iter().filter(|ty| !ty.is_float()) {
        let values = corners(ty);
        let few = &values[..30];
        let left: Vec<u64> = few.iter().flat_map(|&a| few.iter().map(move |_| a)).collect();
        let right: Vec<u64> = few.iter().flat_map(|_| few.iter().copied()).collect();
        for &op in BinaryOp::ALL {
            let logical = matches!(op, BinaryOp::And | BinaryOp::Or | BinaryOp::Xor) || op.is_comparison();
            if matches!(op, BinaryOp::Pow | BinaryOp::Atan2) || (ty == Scalar::Bool && !logical) {
                continue;
            }
            let output = if op.is_comparison() { Scalar::Bool } else { ty };
            let kernel = map(op.name(), &[ty, ty], output, |b, x| b.binary(op, x[0], x[1]));
            let inputs = [left.clone(), right.clone()];
            let (legal, plain) = (evaluate(&kernel, &inputs, true), evaluate(&kernel, &inputs, false));
            for (i, (legal, plain)) in legal.iter().zip(&plain).enumerate() {
                assert_eq!(legal, plain, "{} {:?} {:#x} {:#x}", op.name(), ty, left[i], right[i]);
            }
        }
        for op in [UnaryOp::Neg, UnaryOp::Abs, UnaryOp::Sign, UnaryOp::Not] {
            if ty == Scalar::Bool && op != UnaryOp::Not {
                continue;
            }
            let kernel = map(op.name(), &[ty], ty, |b, x| b.unary(op, x[0]));
            let inputs = [values.clone()];
            let (legal, plain) = (evaluate(&kernel, &inputs, true), evaluate(&kernel, &inputs, false));
            assert_eq!(legal, plain, "{} {ty:?}", op.name());
        }
    }
}

#[test]
fn buffers_share_a_binding() {
    // y[i] = x[i] + 1 with both in one arena: x from word 4, y from word 1.
    let kernel = map("shared", &[Scalar::U8], Scalar::U8, |b, x| b.add(x[0], b.literal(Scalar::U8, 1)));
    let layout = Layout { slots: vec![0, 0], bindings: vec![Access::ReadWrite] };
    let legal = legalise(&kernel, &Target::wgsl(false), &layout).unwrap();
    insta::assert_snapshot!(wgsl(&legal));
    let mut arena = vec![0u8; 32];
    arena[16..23].copy_from_slice(&[1, 2, 3, 4, 5, 6, 255]);
    let mut buffers = [arena];
    let faults = run(&legal, Launch::new([1; 3], &[7, 4, 1], &mut buffers)).unwrap();
    assert_eq!(faults, vec![]);
    assert_eq!(buffers[0][4..12], [2, 3, 4, 5, 6, 7, 0, 0]);
}

#[test]
fn refusals_name_what_is_missing() {
    let refuse = |kernel: &Kernel, layout: &Layout| {
        legalise(kernel, &Target::wgsl(false), layout).unwrap_err().to_string()
    };
    let double = map("double", &[Scalar::F64], Scalar::F64, |_, x| x[0]);
    let long = map("long", &[Scalar::I64], Scalar::I32, |b, x| b.cast(Scalar::I32, x[0]));
    let plain = map("plain", &[Scalar::F32], Scalar::F32, |_, x| x[0]);
    let read_only = Layout { slots: vec![0, 0], bindings: vec![Access::Read] };
    let found = [
        refuse(&double, &Layout::separate(&double)),
        refuse(&long, &Layout::separate(&long)),
        refuse(&plain, &read_only),
    ];
    insta::assert_snapshot!(found.join("\n"));
}
