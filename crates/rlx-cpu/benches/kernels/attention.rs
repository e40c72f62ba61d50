//! Attention: encoders, causal prefill, one token over a long cache.

use crate::{Aligned, Bench, best, noise};
use rlx_cpu::kernels::attention::{
    Alignment, Attention, Heads, HeadsMut, Mask, Shape, attention, scratch_bytes,
};

struct Case {
    name: &'static str,
    heads: [usize; 2],
    queries: usize,
    keys: usize,
    depth: usize,
    causal: bool,
}

const CASES: [Case; 7] = [
    Case { name: "encoder", heads: [12, 12], queries: 16, keys: 16, depth: 32, causal: false },
    Case { name: "encoder", heads: [12, 12], queries: 128, keys: 128, depth: 32, causal: false },
    Case { name: "full", heads: [12, 12], queries: 1024, keys: 1024, depth: 64, causal: false },
    Case { name: "causal", heads: [12, 12], queries: 1024, keys: 1024, depth: 64, causal: true },
    Case { name: "grouped", heads: [32, 4], queries: 512, keys: 512, depth: 128, causal: true },
    Case { name: "decode", heads: [12, 12], queries: 1, keys: 1024, depth: 64, causal: true },
    Case { name: "decode", heads: [32, 4], queries: 1, keys: 4096, depth: 128, causal: true },
];

/// The group `attention`.
pub fn run(bench: &Bench<'_>) {
    CASES.iter().for_each(|case| run_case(bench, case));
}

fn run_case(bench: &Bench<'_>, case: &Case) {
    let Case { name, heads: [query_heads, key_heads], queries, keys, depth, causal } = *case;
    let context = bench.context;
    let threads = context.pool().threads();
    let shape = Shape { batches: 1, query_heads, key_heads, queries, keys, depth, value_depth: depth };
    let query = noise(query_heads * queries * depth);
    let (key, value) = (noise(key_heads * keys * depth), noise(key_heads * keys * depth));
    let mut output = vec![0.0; query.len()];
    let mut scratch = Aligned::new(scratch_bytes(context.level(), threads, &shape));
    // Positions outside, heads inside, as projections leave them.
    let strides = |heads: usize| [0, depth, heads * depth];
    let time = best(threads, || {
        let problem = Attention {
            shape,
            query: Heads { data: &query, strides: strides(query_heads) },
            key: Heads { data: &key, strides: strides(key_heads) },
            value: Heads { data: &value, strides: strides(key_heads) },
            output: HeadsMut { data: &mut output, strides: strides(query_heads) },
            scale: 0.125,
            softcap: None,
            alignment: Alignment::End,
            before: None,
            after: causal.then_some(0),
            mask: Mask::None,
            key_lengths: None,
            log_sum_exp: None,
            scratch: scratch.bytes(),
        };
        attention(context, problem).expect("valid operands");
    });
    let label = format!("attention {name} {query_heads}/{key_heads} {queries}x{keys}x{depth}");
    if queries == 1 {
        bench.report_bytes(&label, time, (key.len() + value.len()) * 4);
        return;
    }
    let whole = 4.0 * (query_heads * queries * keys * depth) as f64;
    bench.report_flops(&label, time, if causal { whole / 2.0 } else { whole });
}
