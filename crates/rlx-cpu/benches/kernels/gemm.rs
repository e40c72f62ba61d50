//! Matrix products: squares, transformer layers, decoding with one row.

use crate::{Aligned, Bench, best, noise};
use half::bf16;
use rlx_cpu::kernels::gemm::{Gemm, Layout, PackedB, Right, RightElement, Times, gemm, scratch_bytes};
use rlx_cpu::kernels::{Matrix, MatrixMut};

/// Times one `[M, N, K]` product.
fn product<A: Times<B, Output = f32>, B: RightElement>(
    bench: &Bench<'_>,
    extents @ [m, n, k]: [usize; 3],
    packed: bool,
    [make_a, make_b]: [&dyn Fn(usize) -> Vec<u8>; 2],
) -> std::time::Duration {
    let context = bench.context;
    let (level, threads) = (context.level(), context.pool().threads());
    let (a_bytes, b_bytes) = (make_a(m * k), make_b(k * n));
    let a = rlx_cpu::kernels::cast_bytes::<A>("a", &a_bytes).expect("aligned");
    let b = rlx_cpu::kernels::cast_bytes::<B>("b", &b_bytes).expect("aligned");
    let a = Matrix::dense(a, m, k).expect("whole");
    let b = Matrix::dense(b, k, n).expect("whole");
    let layout = Layout { a_contiguous: true, b_packed: packed };
    let mut scratch = Aligned::new(scratch_bytes::<A, B>(level, threads, extents, layout));
    let mut buffer = Aligned::new(PackedB::<B>::bytes(level, k, n).expect("small"));
    let right = if packed {
        Right::Packed(PackedB::pack(context, b, buffer.bytes()).expect("large enough"))
    } else {
        Right::Strided(b)
    };
    let mut out = Aligned::new(m * n * 4);
    best(threads, || {
        let c = rlx_cpu::kernels::cast_bytes_mut("c", out.bytes()).expect("aligned");
        let c = MatrixMut::dense(c, m, n).expect("whole");
        let scratch = scratch.bytes();
        let product = Gemm { a, b: right, c, epilogue: None, scratch };
        gemm(context, product).expect("valid operands");
    })
}

fn singles(count: usize) -> Vec<u8> {
    noise(count).iter().flat_map(|x| x.to_ne_bytes()).collect()
}

fn brains(count: usize) -> Vec<u8> {
    noise(count).iter().flat_map(|&x| bf16::from_f32(x).to_ne_bytes()).collect()
}

/// The group `gemm`.
pub fn run(bench: &Bench<'_>) {
    let shapes: [[usize; 3]; 13] = [
        [512, 512, 512],
        [1024, 1024, 1024],
        [1000, 999, 1001],
        [2048, 2048, 2048],
        [16, 384, 384],
        [16, 1536, 384],
        [16, 384, 1536],
        [17, 391, 377],
        [128, 384, 384],
        [128, 1536, 384],
        [128, 384, 1536],
        [1024, 1536, 384],
        [1024, 384, 1536],
    ];
    for extents @ [m, n, k] in shapes {
        let flops = 2.0 * m as f64 * n as f64 * k as f64;
        for (kind, packed) in [("packed", true), ("strided", false)] {
            let time = product::<f32, f32>(bench, extents, packed, [&singles, &singles]);
            bench.report_flops(&format!("gemm f32 {kind} {m}x{n}x{k}"), time, flops);
        }
    }
    for extents @ [m, n, k] in [[1024, 1024, 1024], [16, 1536, 384]] {
        let flops = 2.0 * m as f64 * n as f64 * k as f64;
        let time = product::<bf16, bf16>(bench, extents, true, [&brains, &brains]);
        bench.report_flops(&format!("gemm bf16 packed {m}x{n}x{k}"), time, flops);
        let time = product::<f32, bf16>(bench, extents, true, [&singles, &brains]);
        bench.report_flops(&format!("gemm f32 x bf16 packed {m}x{n}x{k}"), time, flops);
    }
    for [m, n, k] in [[1, 768, 768], [1, 50257, 768], [4, 50257, 768], [8, 8192, 4096]] {
        for (kind, packed) in [("packed", true), ("strided", false)] {
            let time = product::<f32, f32>(bench, [m, n, k], packed, [&singles, &singles]);
            bench.report_bytes(&format!("gemm f32 {kind} {m}x{n}x{k}"), time, n * k * 4);
        }
    }
    let time = product::<f32, bf16>(bench, [1, 50257, 768], true, [&singles, &brains]);
    bench.report_bytes("gemm f32 x bf16 packed 1x50257x768", time, 50257 * 768 * 2);
}
