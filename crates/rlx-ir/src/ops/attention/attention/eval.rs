//! Direct evaluation of `attention`: one row at a time, in f64.

use super::{Alignment, Attention, AttentionLayout, MaskKind};
use crate::ops::prelude::*;

/// `q`, `k` or `v` as numbers, read by batch (or block), head, row and column.
struct Heads {
    numbers: Vec<f64>,
    layout: AttentionLayout,
    heads: usize,
    sequence: usize,
    head: usize,
}

impl Heads {
    fn new(literal: &Literal, layout: AttentionLayout, heads: usize) -> Heads {
        let dims = literal.dims();
        let (sequence, head) = match layout {
            AttentionLayout::Bhsd => (dims[2], dims[3]),
            AttentionLayout::Bshd => (dims[1], dims[3]),
            AttentionLayout::Packed => (dims[1], dims[2] / heads),
        };
        Heads { numbers: literal.to_f64s(), layout, heads, sequence, head }
    }

    fn row(&self, batch: usize, head: usize, position: usize) -> &[f64] {
        let start = row_index(self.layout, self.heads, self.sequence, batch, head, position) * self.head;
        &self.numbers[start..start + self.head]
    }
}

fn row_index(
    layout: AttentionLayout,
    heads: usize,
    sequence: usize,
    b: usize,
    head: usize,
    position: usize,
) -> usize {
    match layout {
        AttentionLayout::Bhsd => (b * heads + head) * sequence + position,
        AttentionLayout::Bshd | AttentionLayout::Packed => (b * sequence + position) * heads + head,
    }
}

/// Most scores that are computed.
const MOST_SCORES: usize = 1 << 30;

/// The mask operand, decoded.
struct Mask<'a> {
    literal: &'a Literal,
    keeps: bool,
}

/// Everything that a row needs.
struct Run<'a> {
    op: &'a Attention,
    q: Heads,
    k: Heads,
    v: Heads,
    mask: Option<Mask<'a>>,
    lengths: Vec<usize>,
    /// Block numbers `[B, blocks]`, where keys are paged.
    table: Option<(Vec<usize>, usize)>,
    sinks: Option<Vec<f64>>,
    scale: f64,
}

pub(super) fn eval(op: &Attention, operands: &[&Literal]) -> Evaluated {
    let types: Vec<_> = operands.iter().map(|literal| literal.ty()).collect();
    let types: Vec<_> = types.iter().collect();
    let inferred = OpSpec::infer(op, &types).map_err(|violation| Fault(violation.to_string()))?;
    let extents = op.extents(&types).map_err(|violation| Fault(violation.to_string()))?;
    let fixed = |dim: &Dim| dim.as_static().and_then(|extent| usize::try_from(extent).ok());
    let (Some(batch), Some(queries), Some(keys)) =
        (fixed(&extents.batch), fixed(&extents.queries), fixed(&extents.keys))
    else {
        return Err(Fault("an extent does not fit the address space".into()));
    };
    let (k, v) = (operands[1], operands[2]);
    let rows = [[batch, op.num_heads, queries], [batch, op.num_kv_heads, keys]];
    if rows.iter().any(|rows| element_count(rows).is_none()) {
        return Err(Fault("the rows of all heads do not fit the address space".into()));
    }
    // Operands with an extent of 0 take no memory, so memory alone does not bound the work.
    let scores = [batch, op.num_heads, queries.max(1), keys.max(1)];
    if element_count(&scores).is_none_or(|scores| scores > MOST_SCORES) {
        return Err(Fault(format!("{} is not evaluated: it has over {MOST_SCORES} scores", inferred[0])));
    }
    let lengths = match op.operand_index("kv_lengths") {
        Some(index) => read_values(op, operands, index)?,
        None => vec![keys; batch],
    };
    let table = match op.operand_index("block_table") {
        Some(index) => Some((read_values(op, operands, index)?, operands[index].dims()[1])),
        None => None,
    };
    let run = Run {
        op,
        q: Heads::new(operands[0], op.layout, op.num_heads),
        k: Heads::new(k, op.layout, op.num_kv_heads),
        v: Heads::new(v, op.layout, op.num_kv_heads),
        mask: op
            .operand(operands, "mask")
            .map(|literal| Mask { literal, keeps: literal.dtype() == DType::Bool }),
        lengths,
        table,
        sinks: op.operand(operands, "sinks").map(Literal::to_f64s),
        scale: op.scale_for(&extents.head),
    };
    let width = run.v.head;
    let count = element_count(&[batch, op.num_heads, queries, width]).unwrap_or(usize::MAX);
    let (mut y, mut lse) = (vec![], vec![]);
    y.try_reserve_exact(count)
        .map_err(|_| Fault(format!("a result of {count} elements does not fit memory")))?;
    y.resize(count, Number::Float(0.0));
    for b in 0..batch {
        for head in 0..op.num_heads {
            for query in 0..queries {
                let (row, row_lse) = run.row(b, head, query);
                let start = row_index(op.layout, op.num_heads, queries, b, head, query) * width;
                for (slot, value) in y[start..start + width].iter_mut().zip(row) {
                    *slot = Number::Float(value);
                }
                lse.push(Number::Float(row_lse));
            }
        }
    }
    inferred
        .iter()
        .zip([y, lse])
        .map(|(ty, numbers)| {
            let dims = ty.shape.as_static().unwrap_or_default();
            Ok(Literal::from_numbers(ty.dtype, &dims, numbers)?)
        })
        .collect()
}

impl Run<'_> {
    /// Row of `k` or `v` that holds key `key` of batch `b`.
    fn key_row<'h>(&self, heads: &'h Heads, b: usize, head: usize, key: usize) -> &'h [f64] {
        match &self.table {
            Some((numbers, blocks)) => {
                let block = numbers[b * blocks + key / heads.sequence];
                heads.row(block, head, key % heads.sequence)
            }
            None => heads.row(b, head, key),
        }
    }

    /// Does the position rule let `query` see `key`?
    fn sees(&self, length: usize, query: usize, key: usize) -> bool {
        let shift = match self.op.alignment {
            Alignment::End => length as i128 - self.q.sequence as i128,
            Alignment::Start => 0,
        };
        let (position, key) = (query as i128 + shift, key as i128);
        match self.op.mask_kind {
            MaskKind::Causal => key <= position,
            MaskKind::SlidingWindow => key <= position && key > position - self.op.window as i128,
            _ => true,
        }
    }

    /// Masked score of a key; `None` where it is not seen.
    fn score(&self, b: usize, head: usize, query: usize, key: usize) -> Option<f64> {
        if !self.sees(self.lengths[b], query, key) {
            return None;
        }
        let mask = self.mask.as_ref().map(|mask| {
            let position = broadcast_position(mask.literal.dims(), &[b, head, query, key]);
            (mask.keeps, mask.literal.number(position))
        });
        if let Some((true, Number::Int(0))) = mask {
            return None;
        }
        let kv_head = head / (self.op.num_heads / self.op.num_kv_heads);
        let (q, k) = (self.q.row(b, head, query), self.key_row(&self.k, b, kv_head, key));
        let mut score = self.scale * q.iter().zip(k).map(|(q, k)| q * k).sum::<f64>();
        if let Some(cap) = self.op.softcap {
            score = cap.0 * (score / cap.0).tanh();
        }
        match mask {
            Some((false, Number::Float(bias))) => Some(score + bias),
            _ => Some(score),
        }
    }

    /// One row of `y` and its log-sum-exp.
    fn row(&self, b: usize, head: usize, query: usize) -> (Vec<f64>, f64) {
        let kv_head = head / (self.op.num_heads / self.op.num_kv_heads);
        let scores: Vec<(usize, f64)> = (0..self.lengths[b])
            .filter_map(|key| self.score(b, head, query, key).map(|score| (key, score)))
            .collect();
        let sink = self.sinks.as_ref().map(|sinks| sinks[head]);
        let all = scores.iter().map(|(_, score)| *score).chain(sink);
        let max = all.clone().fold(f64::NEG_INFINITY, |m, s| if s.is_nan() { s } else { nan_max(m, s) });
        let max = if max == f64::NEG_INFINITY { 0.0 } else { max };
        let sum: f64 = all.map(|score| (score - max).exp()).sum();
        let mut row = vec![0.0; self.v.head];
        if sum == 0.0 {
            return (row, f64::NEG_INFINITY);
        }
        for &(key, score) in &scores {
            let weight = (score - max).exp() / sum;
            for (slot, value) in row.iter_mut().zip(self.key_row(&self.v, b, kv_head, key)) {
                *slot += weight * value;
            }
        }
        (row, sum.ln() + max)
    }
}

fn nan_max(a: f64, b: f64) -> f64 {
    if a.is_nan() { a } else { a.max(b) }
}
