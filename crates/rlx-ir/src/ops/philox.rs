//! Philox 4x32-10, the counter-based generator behind every random op: as a function, and as graph code.
//!
//! Block `i` of stream `s` of a key is the generator at counter `(i, 0, 0, s)`; numbers are 32-bit words of
//! consecutive blocks. Source: Salmon et al., "Parallel random numbers: as easy as 1, 2, 3" (2011).

use crate::ops::prelude::*;

const MULTIPLIERS: [u32; 2] = [0xd251_1f53, 0xcd9e_8d57];
const INCREMENTS: [u32; 2] = [0x9e37_79b9, 0xbb67_ae85];
const ROUNDS: u32 = 10;

/// What the words of a key are for: they are different streams.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stream {
    /// Numbers.
    Numbers = 0,
    /// Keys that are split off.
    Split = 1,
    /// Keys with a number folded in.
    FoldIn = 2,
}

/// The four words at `counter` under `key`.
pub fn philox(counter: [u32; 4], key: [u32; 2]) -> [u32; 4] {
    let ([mut a, mut b, mut c, mut d], [mut k, mut l]) = (counter, key);
    for _ in 0..ROUNDS {
        let product = |multiplier, x| u64::from(multiplier) * u64::from(x);
        let (left, right) = (product(MULTIPLIERS[0], a), product(MULTIPLIERS[1], c));
        (a, c) = ((right >> 32) as u32 ^ b ^ k, (left >> 32) as u32 ^ d ^ l);
        (b, d) = (right as u32, left as u32);
        (k, l) = (k.wrapping_add(INCREMENTS[0]), l.wrapping_add(INCREMENTS[1]));
    }
    [a, b, c, d]
}

/// The same in a scalar program, on `u32` alone.
fn philox_program(
    p: &mut ScalarProgram,
    [mut a, mut b, mut c, mut d]: [ScalarValue; 4],
    [k, l]: [ScalarValue; 2],
) -> [ScalarValue; 4] {
    for round in 0..ROUNDS {
        let key = |p: &mut ScalarProgram, start: ScalarValue, increment: u32| {
            let step = word(p, increment.wrapping_mul(round));
            p.binary(ScalarOp::Add, start, step)
        };
        let (k, l) = (key(p, k, INCREMENTS[0]), key(p, l, INCREMENTS[1]));
        let (left_high, left_low) = wide_product(p, a, MULTIPLIERS[0]);
        let (right_high, right_low) = wide_product(p, c, MULTIPLIERS[1]);
        let mut mix = |high, other, key| {
            let mixed = p.binary(ScalarOp::Xor, high, other);
            p.binary(ScalarOp::Xor, mixed, key)
        };
        (a, c) = (mix(right_high, b, k), mix(left_high, d, l));
        (b, d) = (right_low, left_low);
    }
    [a, b, c, d]
}

fn word(p: &mut ScalarProgram, value: u32) -> ScalarValue {
    p.integer(DType::U32, i64::from(value))
}

/// High and low word of `x` times a constant, of products of halves.
fn wide_product(p: &mut ScalarProgram, x: ScalarValue, by: u32) -> (ScalarValue, ScalarValue) {
    use ScalarOp::{Add, And, Mul, Shr};
    let whole = word(p, by);
    let low_word = p.binary(Mul, x, whole);
    let (mask, sixteen) = (word(p, 0xffff), word(p, 16));
    let (by_low, by_high) = (word(p, by & 0xffff), word(p, by >> 16));
    let (low, high) = (p.binary(And, x, mask), p.binary(Shr, x, sixteen));
    let lowest = p.binary(Mul, low, by_low);
    let carried = p.binary(Shr, lowest, sixteen);
    let inner = p.binary(Mul, high, by_low);
    let first = p.binary(Add, inner, carried);
    let outer = p.binary(Mul, low, by_high);
    let rest = p.binary(And, first, mask);
    let second = p.binary(Add, outer, rest);
    let top = p.binary(Mul, high, by_high);
    let (first, second) = (p.binary(Shr, first, sixteen), p.binary(Shr, second, sixteen));
    let top = p.binary(Add, top, first);
    (p.binary(Add, top, second), low_word)
}

/// `key` is a batch of keys: two words `u32` along its last axis. Gives the leading extents.
pub(crate) fn check_key(label: &'static str, key: &TensorType) -> Result<Vec<Dim>, Violation> {
    let dims = key.shape.dims();
    let legal = key.dtype == DType::U32 && dims.last().is_some_and(|last| last.is(2));
    require!(label, legal, "expected a key u32[.., 2], found {key}");
    Ok(dims[..dims.len() - 1].to_vec())
}

/// Blocks are counted by one word.
pub(crate) fn check_words(label: &'static str, words: &Dim) -> Result<(), Violation> {
    let many = words.as_static().is_some_and(|words| words > 1 << 34);
    require!(label, !many, "{words} words are more than a key has, 2^34");
    Ok(())
}

/// The words of `stream` for each key: `[.., count]`.
pub(crate) fn words(g: &mut Graph, key: Value, stream: Stream, count: &Dim) -> Value {
    let lead = g.ty(key).shape.dims()[..g.ty(key).rank() - 1].to_vec();
    let blocks = count.ceil_div(&Dim::from(4));
    let block = g.iota(DType::U32, vec![blocks.clone()], 0usize);
    let shape = Shape::from([&lead[..], std::slice::from_ref(&blocks)].concat());
    let halves = [0usize, 1].map(|half| g.narrow_at(key, -1, half, 1));
    let parts = block_words(g, block, halves, stream, &shape);
    let whole = g.stack(&parts, -1);
    let joined = g.reshape(whole, Shape::from([&lead[..], &[blocks * Dim::from(4)]].concat()));
    g.narrow_at(joined, -1, 0, count.clone())
}

/// The four words of each block over `shape`, to which the operands broadcast.
pub(crate) fn block_words(
    g: &mut Graph,
    block: Value,
    [first, second]: [Value; 2],
    stream: Stream,
    shape: &Shape,
) -> Vec<Value> {
    let mut p = ScalarProgram::new(vec![DType::U32; 3]);
    let (zero, purpose) = (word(&mut p, 0), word(&mut p, stream as u32));
    let [block_in, first_in, second_in] = [p.input(0), p.input(1), p.input(2)];
    let outputs = philox_program(&mut p, [block_in, zero, zero, purpose], [first_in, second_in]);
    p.outputs = outputs.iter().map(|value| value.0).collect();
    g.push_all(ElementwiseRegion { program: Arc::new(p), shape: shape.clone() }, &[block, first, second])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::number::Number;

    /// Counter, key, words: the known answers that the authors publish with the generator.
    const KNOWN: [([u32; 4], [u32; 2], [u32; 4]); 3] = [
        ([0; 4], [0; 2], [0x6627_e8d5, 0xe169_c58d, 0xbc57_ac4c, 0x9b00_dbd8]),
        ([u32::MAX; 4], [u32::MAX; 2], [0x408f_276d, 0x41c8_3b0e, 0xa20b_c7c6, 0x6d54_51fd]),
        (
            [0x243f_6a88, 0x85a3_08d3, 0x1319_8a2e, 0x0370_7344],
            [0xa409_3822, 0x299f_31d0],
            [0xd16c_fe09, 0x94fd_cceb, 0x5001_e420, 0x2412_6ea1],
        ),
    ];

    #[test]
    fn known_answers() {
        let mut p = ScalarProgram::new(vec![DType::U32; 6]);
        let inputs: Vec<ScalarValue> = (0..6).map(|index| p.input(index)).collect();
        let [a, b, c, d, k, l] = inputs[..] else { unreachable!("six inputs") };
        p.outputs = philox_program(&mut p, [a, b, c, d], [k, l]).iter().map(|value| value.0).collect();
        for (counter, key, expected) in KNOWN {
            assert_eq!(philox(counter, key), expected);
            let numbers: Vec<Number> =
                counter.iter().chain(&key).map(|&word| Number::Int(i128::from(word))).collect();
            let found = p.eval(&numbers, &[]);
            assert_eq!(found, expected.map(|word| Number::Int(i128::from(word))));
        }
    }
}
