//! Speed of the CPU kernels, next to what the core can do in the same minute.
//!
//! `cargo bench -p rlx-cpu --bench kernels -- [FILTER] [--threads N] [--level LEVEL]` prints, for
//! each group whose name holds FILTER, times (the best of many repetitions), rates and shares of
//! the peak that a loop of fused multiply-adds reached.

mod attention;
mod clock;
mod gemm;
mod loops;
mod peak;
mod rows;
mod steps;

use rlx_cpu::kernels::Context;
use rlx_cpu::pool::Pool;
use rlx_cpu::simd::SimdLevel;
use std::time::{Duration, Instant};

/// Settings and measured limits.
pub struct Bench<'a> {
    /// Level and threads.
    pub context: Context<'a>,
    /// Fused multiply-adds of all threads, in GFLOP/s.
    pub peak: f64,
    /// Reading of memory that no cache holds, by all threads, in GB/s.
    pub bandwidth: f64,
}

impl Bench<'_> {
    /// Prints a compute-bound result.
    pub fn report_flops(&self, name: &str, time: Duration, flops: f64) {
        let rate = flops / time.as_secs_f64() / 1e9;
        let share = rate / self.peak * 100.0;
        println!("{name:44} {:9.1} us {rate:8.1} GFLOP/s {share:5.1} %", micros(time));
    }

    /// Prints a memory-bound result.
    pub fn report_bytes(&self, name: &str, time: Duration, bytes: usize) {
        let rate = bytes as f64 / time.as_secs_f64() / 1e9;
        let share = rate / self.bandwidth * 100.0;
        println!("{name:44} {:9.1} us {rate:8.1} GB/s     {share:5.1} %", micros(time));
    }
}

fn micros(time: Duration) -> f64 {
    time.as_secs_f64() * 1e6
}

/// The shortest of the repetitions that fit into about a fifth of a second. With one thread the
/// clock counts its own processor time, so that a busy machine does not blur the figures.
pub fn best(threads: usize, mut work: impl FnMut()) -> Duration {
    let clock = if threads == 1 { clock::thread_time } else { clock::wall_time };
    let start = Instant::now();
    let mut shortest = Duration::MAX;
    let mut rounds = 0;
    while rounds < 20 || start.elapsed() < Duration::from_millis(200) {
        let begin = clock();
        work();
        shortest = shortest.min(clock() - begin);
        rounds += 1;
    }
    shortest
}

/// Bytes at a 64-byte boundary, zeroed.
pub struct Aligned {
    storage: Vec<u8>,
    length: usize,
}

impl Aligned {
    /// `length` bytes.
    pub fn new(length: usize) -> Aligned {
        Aligned { storage: vec![0; length + 64], length }
    }

    /// The bytes.
    pub fn bytes(&mut self) -> &mut [u8] {
        let start = self.storage.as_ptr().align_offset(64);
        &mut self.storage[start..start + self.length]
    }
}

/// Numbers in -1..1.
pub fn noise(count: usize) -> Vec<f32> {
    let mut state = 0x9E37_79B9u32;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 17;
        state ^= state << 5;
        (state >> 8) as f32 / (1 << 23) as f32 - 1.0
    };
    (0..count).map(|_| next()).collect()
}

/// A name to filter by and what it runs.
type Group = (&'static str, fn(&Bench<'_>));

const GROUPS: [Group; 6] = [
    ("gemm", gemm::run),
    ("rows", rows::run),
    ("math", rows::run_math),
    ("attention", attention::run),
    ("steps", steps::run),
    ("loops", loops::run),
];

fn main() {
    let (mut filter, mut threads, mut level) = (String::new(), 1, SimdLevel::detect());
    let mut arguments = std::env::args().skip(1);
    while let Some(argument) = arguments.next() {
        match argument.as_str() {
            "--bench" => {}
            "--threads" => {
                let count = arguments.next().and_then(|count| count.parse().ok());
                threads = count.expect("--threads takes a number");
            }
            "--level" => {
                let name = arguments.next().unwrap_or_default();
                let mut all = SimdLevel::ALL.into_iter();
                level = all.find(|l| format!("{l:?}") == name).expect("--level names a SimdLevel");
            }
            _ => filter = argument,
        }
    }
    let pool = Pool::new(threads).expect("the system starts threads");
    let context = Context::with_level(&pool, level).expect("the processor has the level");
    let (peak, bandwidth) = (peak::measure(context), peak::bandwidth(context));
    println!("{level:?}, {threads} threads: {peak:.1} GFLOP/s, {bandwidth:.1} GB/s");
    let bench = Bench { context, peak, bandwidth };
    for (_, run) in GROUPS.iter().filter(|(name, _)| name.contains(&filter)) {
        run(&bench);
    }
}
