//! The checked interpreter finds each kind of fault, and reports none in a kernel that has none.
#![allow(clippy::unwrap_used, clippy::panic)]

use rlx_kernel::interp::{Fault, FaultKind, Launch, run};
use rlx_kernel::ir::*;
use rlx_kernel::{Builder, Kernel, Scalar};

fn launch(kernel: &Kernel, groups: u32, parameters: &[u32], buffers: &mut [Vec<u8>]) -> Vec<Fault> {
    run(kernel, Launch::new([groups, 1, 1], parameters, buffers)).expect("the kernel is well formed")
}

/// A kernel of 4 invocations a workgroup with one buffer `out` of 8 words.
fn faults(groups: u32, fill: impl FnOnce(&Builder, Place)) -> Vec<(FaultKind, u64)> {
    let b = Builder::new("test", [4, 1, 1]);
    let out = b.buffer("out", Scalar::U32, Access::ReadWrite);
    fill(&b, out);
    let found = launch(&b.finish(), groups, &[], &mut [vec![0; 32]]);
    found.into_iter().map(|fault| (fault.kind, fault.index)).collect()
}

/// Sums the elements of each workgroup by halving.
fn tree_sum() -> Kernel {
    let b = Builder::new("tree_sum", [8, 1, 1]);
    let x = b.buffer("x", Scalar::F32, Access::Read);
    let y = b.buffer("y", Scalar::F32, Access::ReadWrite);
    let tile = b.array("tile", Scalar::F32, 8);
    let n = b.parameter("n");
    let (global, local) = (b.linear_invocation(), b.builtin(Builtin::LocalId(0)));
    let value = b.variable_of("value", b.f32(0.0));
    b.when(b.lt(global, n), |b| b.set(value, b.load(x, global)));
    b.store(tile, local, b.get(value));
    let width = b.variable_of("width", b.u32(4));
    b.barrier(Fence::Arrays);
    let none = b.u32(0);
    b.repeat(
        |b| b.binary(BinaryOp::Gt, b.get(width), none),
        |b| {
            let now = b.get(width);
            b.when(b.lt(local, now), |b| {
                let sum = b.add(b.load(tile, local), b.load(tile, b.add(local, now)));
                b.store(tile, local, sum);
            });
            b.barrier(Fence::Arrays);
            b.set(width, b.binary(BinaryOp::Shr, now, b.u32(1)));
        },
    );
    b.when(b.binary(BinaryOp::Eq, local, none), |b| b.store(y, b.linear_group(), b.load(tile, none)));
    b.finish()
}

#[test]
fn a_correct_reduction_has_no_fault() {
    let values: Vec<f32> = (0..19).map(|i| i as f32).collect();
    let x = values.iter().flat_map(|value| value.to_le_bytes()).collect();
    let mut buffers = [x, vec![0; 12]];
    assert_eq!(launch(&tree_sum(), 3, &[19], &mut buffers), vec![]);
    let sums: Vec<f32> =
        buffers[1].chunks(4).map(|chunk| f32::from_le_bytes(chunk.try_into().unwrap())).collect();
    assert_eq!(sums, [28.0, 92.0, 16.0 + 17.0 + 18.0]);
}

#[test]
fn the_text_form_of_a_reduction() {
    insta::assert_snapshot!(tree_sum().to_string());
}

#[test]
fn out_of_bounds_store() {
    let found = faults(3, |b, out| {
        let id = b.linear_invocation();
        b.store(out, id, id);
    });
    assert_eq!(found, [(FaultKind::OutOfBounds, 8)]);
}

#[test]
fn race_in_a_workgroup() {
    let found = faults(1, |b, out| b.store(out, b.u32(0), b.linear_invocation()));
    assert_eq!(found, [(FaultKind::Race, 0)]);
}

#[test]
fn race_between_workgroups_is_not_ended_by_a_barrier() {
    let found = faults(2, |b, out| {
        let local = b.builtin(Builtin::LocalId(0));
        b.store(out, local, local);
        b.barrier(Fence::Everything);
    });
    assert_eq!(found, [(FaultKind::Race, 0)]);
}

#[test]
fn missing_barrier_before_a_neighbours_element() {
    let with = |fence: Option<Fence>| {
        faults(1, |b, out| {
            let tile = b.array("tile", Scalar::U32, 4);
            let local = b.builtin(Builtin::LocalId(0));
            b.store(tile, local, local);
            if let Some(fence) = fence {
                b.barrier(fence);
            }
            b.store(out, local, b.load(tile, b.sub(b.u32(3), local)));
        })
    };
    assert_eq!(with(None), [(FaultKind::Race, 3)]);
    assert_eq!(with(Some(Fence::Arrays)), []);
}

#[test]
fn a_fence_of_arrays_does_not_order_buffers() {
    let with = |fence: Fence| {
        faults(1, |b, out| {
            let local = b.builtin(Builtin::LocalId(0));
            b.store(out, local, local);
            b.barrier(fence);
            let other = b.load(out, b.sub(b.u32(3), local));
            b.store(out, b.add(local, b.u32(4)), other);
        })
    };
    assert_eq!(with(Fence::Arrays), [(FaultKind::Race, 3)]);
    assert_eq!(with(Fence::Everything), []);
}

#[test]
fn atomics_do_not_race() {
    let found = faults(2, |b, out| {
        b.atomic(AtomicOp::Add, out, b.u32(0), b.u32(1));
    });
    assert_eq!(found, []);
}

#[test]
fn divergent_barrier() {
    let found = faults(1, |b, _| {
        b.when(b.lt(b.builtin(Builtin::LocalId(0)), b.u32(2)), |b| b.barrier(Fence::Arrays));
    });
    assert_eq!(found, [(FaultKind::BarrierDivergence, 0)]);
}

#[test]
fn unwritten_memory_and_locals() {
    let found = faults(1, |b, out| {
        let tile = b.array("tile", Scalar::U32, 4);
        let local = b.builtin(Builtin::LocalId(0));
        let loaded = b.load(tile, local);
        let variable = b.variable("local", Scalar::U32);
        b.store(out, local, b.add(loaded, b.get(variable)));
    });
    assert_eq!(found, [(FaultKind::Unwritten, 0), (FaultKind::Unwritten, 0)]);
}

#[test]
fn endless_loops() {
    let found = faults(1, |b, _| {
        b.count(b.u32(0), b.u32(9), b.u32(0), |_, _| {});
    });
    assert_eq!(found, [(FaultKind::Endless, 0)]);
    let b = Builder::new("test", [1, 1, 1]);
    b.repeat(|b| b.bool(true), |_| {});
    let launch = Launch { groups: [1; 3], parameters: &[], buffers: &mut [], budget: 1000 };
    let found = run(&b.finish(), launch).unwrap();
    assert_eq!(found.iter().map(|fault| fault.kind).collect::<Vec<_>>(), [FaultKind::Endless]);
}

#[test]
fn a_launch_that_does_not_fit_is_an_error() {
    let error = run(&tree_sum(), Launch::new([1; 3], &[], &mut [vec![], vec![]])).unwrap_err();
    assert_eq!(error.to_string(), "kernel `tree_sum`: number of parameters: found 0, expected 1");
    let error = run(&tree_sum(), Launch::new([1; 3], &[1], &mut [vec![0; 5], vec![]])).unwrap_err();
    assert_eq!(error.to_string(), "kernel `tree_sum`: bytes in buffer `x`: found 5, expected 4");
}

#[test]
fn the_verifier_lists_every_problem() {
    let b = Builder::new("bad kernel", [0, 1, 1]);
    let x = b.buffer("x", Scalar::F32, Access::Read);
    b.array("x", Scalar::F32, 0);
    b.declare_parameter("p", Scalar::F16);
    let (index, value) = (b.f32(0.5), b.u32(1));
    b.load(x, index);
    b.store(x, value, value);
    let (_, inner) = b.block(|b| b.builtin(Builtin::LocalId(0)));
    b.add(inner, value);
    b.atomic(AtomicOp::Add, x, value, value);
    let error = rlx_kernel::verify::verify(&b.finish()).unwrap_err();
    insta::assert_snapshot!(error.to_string());
}

#[test]
fn integer_corners() {
    let cases: [(BinaryOp, Scalar, u64, u64, u64); 8] = [
        (BinaryOp::Div, Scalar::I32, 7, 0, 0),
        (BinaryOp::Rem, Scalar::U32, 7, 0, 0),
        (BinaryOp::Div, Scalar::I32, 0x8000_0000, 0xffff_ffff, 0x8000_0000),
        (BinaryOp::Rem, Scalar::I32, 0x8000_0000, 0xffff_ffff, 0),
        (BinaryOp::Shl, Scalar::U32, 1, 32, 0),
        (BinaryOp::Shr, Scalar::I32, 0x8000_0000, 99, 0xffff_ffff),
        (BinaryOp::Mul, Scalar::U64, u64::MAX, u64::MAX, 1),
        (BinaryOp::Lt, Scalar::I8, 0xff, 0, 1),
    ];
    for (op, ty, a, b, expected) in cases {
        let found = rlx_kernel::interp::scalar::binary(op, ty, a, b);
        assert_eq!(found, expected, "{} {} {a} {b}", op.name(), ty.name());
    }
}
