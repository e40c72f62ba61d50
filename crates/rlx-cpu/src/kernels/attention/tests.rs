//! Attention against a naive f64 loop, over random extents, layouts, masks and instruction sets.

use super::*;
use crate::kernels::testing::{Noise, Scratch, at_every_level};
use crate::pool::Pool;

#[derive(Clone, Copy, Debug, PartialEq)]
enum Hiding {
    Nothing,
    Keep,
    Bias,
}

/// One random problem with its operands laid out.
#[derive(Debug)]
struct Problem {
    shape: Shape,
    scale: f32,
    softcap: Option<f32>,
    alignment: Alignment,
    before: Option<usize>,
    after: Option<usize>,
    lengths: Option<Vec<usize>>,
    hiding: Hiding,
    /// Strides of Q, K, V, output.
    strides: [[usize; 3]; 4],
    mask_strides: [usize; 4],
}

struct Data {
    query: Vec<f32>,
    key: Vec<f32>,
    value: Vec<f32>,
    keep: Vec<u8>,
    bias: Vec<f32>,
}

/// Strides of `[batch, head, position, depth]` in the order batch-head-position or
/// batch-position-head, with gaps.
fn strides(noise: &mut Noise, heads: usize, positions: usize, depth: usize) -> [usize; 3] {
    let row = depth + noise.below(3);
    if noise.below(2) == 0 {
        [heads * positions * row + 5, positions * row, row]
    } else {
        [heads * positions * row, row, heads * row]
    }
}

fn problem(noise: &mut Noise) -> Problem {
    let mut pick = |list: &[usize]| list[noise.below(list.len())];
    let key_heads = pick(&[1, 2, 3]);
    let shape = Shape {
        batches: pick(&[1, 2]),
        query_heads: key_heads * pick(&[1, 2, 4]),
        key_heads,
        queries: pick(&[0, 1, 1, 2, 7, 13, 40, 70]),
        keys: pick(&[0, 1, 5, 33, 64, 130, 300]),
        depth: pick(&[1, 8, 17, 32, 64]),
        value_depth: pick(&[1, 5, 32, 40, 64]),
    };
    let optional = |noise: &mut Noise, limit| (noise.below(3) == 0).then(|| noise.below(limit));
    let Shape { query_heads, queries, keys, depth, value_depth, .. } = shape;
    let before = optional(noise, 50);
    let after = if noise.below(2) == 0 { Some(0) } else { optional(noise, 20) };
    let ragged = noise.below(3) == 0;
    let lengths = ragged.then(|| (0..shape.batches).map(|_| noise.below(keys + 1)).collect());
    let hiding = [Hiding::Nothing, Hiding::Keep, Hiding::Bias][noise.below(3)];
    let mask_strides = match noise.below(4) {
        0 => [0, 0, keys, 1],
        1 => [keys, 0, 0, 1],
        2 => [query_heads * queries * keys, queries * keys, keys, 1],
        _ => [0, queries * keys, 1, queries],
    };
    Problem {
        shape,
        scale: [0.125, 1.0, -0.7][noise.below(3)],
        softcap: (noise.below(4) == 0).then_some(1.5),
        alignment: if noise.below(2) == 0 { Alignment::Start } else { Alignment::End },
        before,
        after,
        lengths,
        hiding,
        strides: [
            strides(noise, query_heads, queries, depth),
            strides(noise, key_heads, keys, depth),
            strides(noise, key_heads, keys, value_depth),
            strides(noise, query_heads, queries, value_depth),
        ],
        mask_strides,
    }
}

impl Problem {
    fn data(&self, noise: &mut Noise) -> Data {
        let Shape { batches, query_heads, queries, keys, .. } = self.shape;
        let lengths = self.strides.map(|strides| batches * (strides[0] + 200));
        let pairs = batches * query_heads * queries * keys;
        Data {
            query: noise.units(lengths[0]),
            key: noise.units(lengths[1]),
            value: noise.units(lengths[2]),
            keep: (0..pairs).map(|_| u8::from(noise.below(3) > 0)).collect(),
            bias: noise.units(pairs),
        }
    }

    fn visible(&self, data: &Data, [batch, head, query, key]: [usize; 4]) -> Option<f64> {
        let length = self.lengths.as_ref().map_or(self.shape.keys, |lengths| lengths[batch]);
        let offset = match self.alignment {
            Alignment::Start => 0,
            Alignment::End => length as i64 - self.shape.queries as i64,
        };
        let distance = key as i64 - (query as i64 + offset);
        let seen = key < length
            && self.before.is_none_or(|n| -distance <= n as i64)
            && self.after.is_none_or(|n| distance <= n as i64);
        let indices = [batch, head, query, key];
        let at: usize = indices.iter().zip(self.mask_strides).map(|(i, s)| i * s).sum();
        match self.hiding {
            _ if !seen => None,
            Hiding::Nothing => Some(0.0),
            Hiding::Keep => (data.keep[at] != 0).then_some(0.0),
            Hiding::Bias => Some(f64::from(data.bias[at])),
        }
    }

    /// The output row and the log-sum-exp of one query.
    fn exact(&self, data: &Data, [batch, head, query]: [usize; 3]) -> (Vec<f64>, f64) {
        let shape = &self.shape;
        let key_head = head / (shape.query_heads / shape.key_heads);
        let row = |list: &[f32], strides: [usize; 3], head: usize, position: usize, i: usize| {
            f64::from(list[batch * strides[0] + head * strides[1] + position * strides[2] + i])
        };
        let score = |key: usize| {
            let bias = self.visible(data, [batch, head, query, key])?;
            let term = |d| {
                row(&data.query, self.strides[0], head, query, d)
                    * row(&data.key, self.strides[1], key_head, key, d)
            };
            let score = f64::from(self.scale) * (0..shape.depth).map(term).sum::<f64>();
            let bent = self.softcap.map_or(score, |cap| (score / f64::from(cap)).tanh() * f64::from(cap));
            Some(bent + bias)
        };
        let scores: Vec<Option<f64>> = (0..shape.keys).map(score).collect();
        let top = scores.iter().flatten().copied().fold(f64::NEG_INFINITY, f64::max);
        let weight = |score: &Option<f64>| score.map_or(0.0, |score| (score - top).exp());
        let total: f64 = scores.iter().map(weight).sum();
        let mut output = vec![0.0; shape.value_depth];
        for (key, weight) in scores.iter().map(weight).enumerate().filter(|(_, w)| *w > 0.0) {
            for (d, to) in output.iter_mut().enumerate() {
                *to += weight / total * row(&data.value, self.strides[2], key_head, key, d);
            }
        }
        (output, top + total.ln())
    }

    fn run(&self, context: Context<'_>, data: &Data) -> (Vec<f32>, Vec<f32>) {
        let shape = self.shape;
        let mut output = vec![77.0; shape.batches * (self.strides[3][0] + 200)];
        let mut sums = vec![0.0; shape.batches * shape.query_heads * shape.queries];
        let bytes = scratch_bytes(context.level(), context.pool().threads(), &shape);
        let mut scratch = Scratch::new(bytes);
        let length = |batch: usize| self.lengths.as_ref().map_or(0, |lengths| lengths[batch]);
        let strides = self.mask_strides;
        let problem = Attention {
            shape,
            query: Heads { data: &data.query, strides: self.strides[0] },
            key: Heads { data: &data.key, strides: self.strides[1] },
            value: Heads { data: &data.value, strides: self.strides[2] },
            output: HeadsMut { data: &mut output, strides: self.strides[3] },
            scale: self.scale,
            softcap: self.softcap,
            alignment: self.alignment,
            before: self.before,
            after: self.after,
            mask: match self.hiding {
                Hiding::Nothing => Mask::None,
                Hiding::Keep => Mask::Keep { data: &data.keep, strides },
                Hiding::Bias => Mask::Bias { data: &data.bias, strides },
            },
            key_lengths: self.lengths.is_some().then_some(&length),
            log_sum_exp: Some(&mut sums),
            scratch: scratch.bytes(),
        };
        attention(context, problem).expect("the operands are valid");
        (output, sums)
    }

    fn compare(&self, data: &Data, level: SimdLevel, output: &[f32], sums: &[f32]) {
        let shape = &self.shape;
        let mut at = 0;
        for batch in 0..shape.batches {
            for head in 0..shape.query_heads {
                for query in 0..shape.queries {
                    let (exact, log) = self.exact(data, [batch, head, query]);
                    let [b, h, q] = self.strides[3];
                    let start = batch * b + head * h + query * q;
                    for (wanted, &found) in exact.iter().zip(&output[start..]) {
                        let close = (f64::from(found) - wanted).abs() <= 4e-6;
                        assert!(
                            close,
                            "{level:?} [{batch}, {head}, {query}]: {found}, expected {wanted}: {self:?}"
                        );
                    }
                    let found = f64::from(sums[at]);
                    let close = (found - log).abs() <= 1e-5 * (1.0 + log.abs());
                    assert!(close || found == log, "{level:?} log-sum-exp {found}, expected {log}: {self:?}");
                    at += 1;
                }
            }
        }
    }
}

#[test]
fn random_problems_match_naive_loops() {
    let pools = [Pool::inline(), Pool::new(3).expect("threads start")];
    let mut noise = Noise::new(2);
    for round in 0..150 {
        let problem = problem(&mut noise);
        let data = problem.data(&mut noise);
        at_every_level(&pools[round % 2], |context| {
            let (output, sums) = problem.run(context, &data);
            problem.compare(&data, context.level(), &output, &sums);
        });
    }
}

/// A plain self-attention of one batch and two heads.
fn plain(queries: usize, keys: usize, depth: usize) -> Problem {
    let heads = [2 * queries * depth, queries * depth, depth];
    Problem {
        shape: Shape { batches: 1, query_heads: 2, key_heads: 2, queries, keys, depth, value_depth: depth },
        scale: 0.2,
        softcap: None,
        alignment: Alignment::End,
        before: None,
        after: None,
        lengths: None,
        hiding: Hiding::Nothing,
        strides: [
            heads,
            [2 * keys * depth, keys * depth, depth],
            [2 * keys * depth, keys * depth, depth],
            heads,
        ],
        mask_strides: [0; 4],
    }
}

#[test]
fn threads_change_no_bit() {
    let problem = Problem { after: Some(0), ..plain(500, 600, 40) };
    let data = problem.data(&mut Noise::new(4));
    let (one, many) = (Pool::inline(), Pool::new(4).expect("threads start"));
    at_every_level(&many, |context| {
        let alone = Context::with_level(&one, context.level()).expect("the level was detected");
        assert_eq!(problem.run(context, &data), problem.run(alone, &data));
    });
}

#[test]
fn hidden_rows_are_zero_and_nan_shows() {
    let pool = Pool::inline();
    at_every_level(&pool, |context| {
        let mut problem = plain(9, 40, 16);
        problem.hiding = Hiding::Bias;
        problem.mask_strides = [0, 0, 40, 1];
        let mut data = problem.data(&mut Noise::new(6));
        data.bias[3 * 40..4 * 40].fill(f32::NEG_INFINITY);
        data.bias[5 * 40 + 7] = f32::NAN;
        let (output, sums) = problem.run(context, &data);
        for query in 0..9 {
            let row = &output[query * 16..(query + 1) * 16];
            match query {
                3 => {
                    assert!(row.iter().all(|&x| x == 0.0));
                    assert_eq!(sums[query], f32::NEG_INFINITY);
                }
                5 => assert!(row.iter().all(|x| x.is_nan())),
                _ => assert!(row.iter().all(|x| x.is_finite() && *x != 0.0)),
            }
        }
    });
}

#[test]
fn wrong_operands_are_refused() {
    let pool = Pool::inline();
    let context = Context::new(&pool);
    let problem = plain(4, 6, 8);
    let data = problem.data(&mut Noise::new(1));
    let attempt = |change: &dyn Fn(&mut Attention<'_>), bytes: usize| {
        let mut output = vec![0.0; 64];
        let mut scratch = Scratch::new(bytes);
        let mut problem = Attention {
            shape: problem.shape,
            query: Heads { data: &data.query, strides: problem.strides[0] },
            key: Heads { data: &data.key, strides: problem.strides[1] },
            value: Heads { data: &data.value, strides: problem.strides[2] },
            output: HeadsMut { data: &mut output, strides: problem.strides[3] },
            scale: 1.0,
            softcap: None,
            alignment: Alignment::Start,
            before: None,
            after: None,
            mask: Mask::None,
            key_lengths: None,
            log_sum_exp: None,
            scratch: scratch.bytes(),
        };
        change(&mut problem);
        attention(context, problem)
    };
    let enough = scratch_bytes(context.level(), 1, &problem.shape);
    assert!(attempt(&|_| {}, enough).is_ok());
    assert!(matches!(attempt(&|_| {}, enough - 1), Err(KernelError::BufferTooSmall { .. })));
    let overlapping = |a: &mut Attention<'_>| a.output.strides = [64, 4, 8];
    assert!(matches!(attempt(&overlapping, enough), Err(KernelError::Overlap { .. })));
    let far = |a: &mut Attention<'_>| a.key.strides = [usize::MAX, usize::MAX, usize::MAX];
    assert!(matches!(attempt(&far, enough), Err(KernelError::OutOfBounds { .. })));
    let short = |a: &mut Attention<'_>| a.mask = Mask::Keep { data: &[1; 5], strides: [0, 0, 0, 1] };
    assert!(matches!(attempt(&short, enough), Err(KernelError::OutOfBounds { .. })));
    let ungrouped = |a: &mut Attention<'_>| a.shape.query_heads = 3;
    assert!(matches!(attempt(&ungrouped, enough), Err(KernelError::Extent { .. })));
}
