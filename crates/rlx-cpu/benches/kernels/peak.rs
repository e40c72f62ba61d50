//! The limits: multiply-adds of the instruction set and reading of memory, on all threads.

use rlx_cpu::kernels::Context;
use rlx_cpu::simd::{Float32, Kernel, Simd, Vector};
use std::hint::black_box;

const ROUNDS: usize = 20_000;
const CHAINS: usize = 12;

struct Chains;

impl Kernel for Chains {
    type Output = f32;

    #[inline(always)]
    fn run<S: Simd>(self, simd: S) -> f32 {
        let factor = S::F32::splat(simd, black_box(0.999));
        let term = S::F32::splat(simd, black_box(0.001));
        let mut sums = [S::F32::splat(simd, 1.0); CHAINS];
        for _ in 0..ROUNDS {
            for sum in &mut sums {
                *sum = sum.mul_add(factor, term);
            }
        }
        let mut lanes = [0.0; 16];
        let mut total = 0.0;
        for sum in sums {
            sum.write(&mut lanes);
            total += lanes[0];
        }
        total
    }
}

/// GFLOP/s, two per multiply-add.
pub fn measure(context: Context<'_>) -> f64 {
    let threads = context.pool().threads();
    let time = crate::best(context.pool().threads(), || {
        context.pool().run(threads, |_| {
            black_box(context.dispatch(Chains));
        });
    });
    let flops = 2 * threads * ROUNDS * CHAINS * context.level().f32_lanes();
    flops as f64 / time.as_secs_f64() / 1e9
}

struct Sum<'a>(&'a [f32]);

impl Kernel for Sum<'_> {
    type Output = f32;

    #[inline(always)]
    fn run<S: Simd>(self, simd: S) -> f32 {
        let lanes = S::F32::LANES;
        let mut sums = [S::F32::splat(simd, 0.0); 4];
        for part in self.0.chunks_exact(lanes * sums.len()) {
            for (index, sum) in sums.iter_mut().enumerate() {
                *sum = sum.plus(S::F32::read(simd, &part[index * lanes..]));
            }
        }
        sums.into_iter().map(Float32::sum_lanes).sum()
    }
}

/// GB/s of reading 256 MiB.
pub fn bandwidth(context: Context<'_>) -> f64 {
    let data = vec![1f32; 64 << 20];
    let piece = data.len() / 64;
    let time = crate::best(context.pool().threads(), || {
        context.pool().run(64, |index| {
            black_box(context.dispatch(Sum(&data[index * piece..(index + 1) * piece])));
        });
    });
    data.len() as f64 * 4.0 / time.as_secs_f64() / 1e9
}
