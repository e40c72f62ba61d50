//! Definition of `attention` by simpler ops: the score matrix in one piece.
//!
//! Query heads that share a key head are rows of one product, so keys and
//! values are never repeated. Positions count in i32. Nothing here depends on
//! an extent being static but the head counts and the block size.

use super::{Alignment, Attention, AttentionExtents, AttentionLayout, MaskKind};
use crate::ops::prelude::*;

pub(super) fn decompose(op: &Attention, g: &mut Graph, operands: &[Value]) -> Vec<Value> {
    let types: Vec<_> = operands.iter().map(|&operand| g.ty(operand).clone()).collect();
    let extents = op.extents(&types.iter().collect::<Vec<_>>()).expect("inference accepted the operands");
    let mut build = Build { op, dtype: super::lse_dtype(types[0].dtype), extents, g };
    let lengths = op.operand(operands, "kv_lengths").map(|lengths| build.lengths(lengths));
    let (mut k, mut v) = (operands[1], operands[2]);
    if let Some(table) = op.operand(operands, "block_table") {
        let table = build.live_blocks(table, lengths);
        (k, v) = (build.pages(k, table), build.pages(v, table));
    }
    let scores = build.scores(operands[0], k);
    let scores = build.masked(scores, op.operand(operands, "mask"), lengths);
    let sinks = op.operand(operands, "sinks");
    let (y, lse) = build.weighted(scores, v, sinks);
    let AttentionExtents { queries, value_head, .. } = build.extents.clone();
    let y = build.restore(y, Dim::from(op.num_heads), queries, value_head);
    let y = g.cast_to(y, types[0].dtype);
    if op.with_lse { vec![y, lse] } else { vec![y] }
}

/// The graph code of one attention.
pub(super) struct Build<'a> {
    pub op: &'a Attention,
    pub g: &'a mut Graph,
    pub extents: AttentionExtents,
    /// Dtype of scores and sums.
    pub dtype: DType,
}

impl Build<'_> {
    pub(super) fn query_heads(&self) -> Dim {
        Dim::from(self.op.num_heads)
    }

    pub(super) fn kv_heads(&self) -> Dim {
        Dim::from(self.op.num_kv_heads)
    }

    /// Rows of one product: the queries of all heads that share a key head.
    fn group_rows(&self) -> Dim {
        self.extents.queries.clone() * Dim::from(self.op.num_heads / self.op.num_kv_heads)
    }

    pub(super) fn shaped(&mut self, x: Value, dims: [Dim; 4]) -> Value {
        if self.g.try_ty(x).is_some_and(|ty| ty.shape.dims() == dims) {
            return x;
        }
        self.g.reshape(x, dims.to_vec())
    }

    pub(super) fn constant(&mut self, value: f64) -> Value {
        self.g.scalar(self.dtype, value)
    }

    /// `kv_lengths` as i32 `[B, 1, 1, 1]`. They are looked up among `0 ..= Skv`, so that others are a fault.
    pub(super) fn lengths(&mut self, lengths: Value) -> Value {
        let legal = self.g.iota(DType::I32, vec![self.extents.keys.clone() + Dim::from(1)], 0usize);
        let lengths = self.g.gather(legal, lengths, 0usize);
        let one = Dim::from(1);
        let batch = self.extents.batch.clone();
        self.shaped(lengths, [batch, one.clone(), one.clone(), one])
    }

    /// The block table with 0 in place of the entries past the lengths.
    fn live_blocks(&mut self, table: Value, lengths: Option<Value>) -> Value {
        let Some(lengths) = lengths else { return table };
        let ty = self.g.ty(table).clone();
        let (batch, blocks) = (ty.shape[0].clone(), ty.shape[1].clone());
        let size = self.extents.block_size.as_ref().and_then(Dim::as_static).unwrap_or(1);
        let number = self.g.iota(DType::I32, vec![Dim::from(1), blocks], 1usize);
        let size = self.g.constant(Literal::scalar_i32(i32::try_from(size).unwrap_or(i32::MAX)));
        let first_key = self.g.mul(number, size);
        let lengths = self.g.reshape(lengths, vec![batch, Dim::from(1)]);
        let live = self.g.compare(first_key, lengths, CompareKind::Lt);
        let zero = self.g.scalar(ty.dtype, 0.0);
        self.g.r#where(live, table, zero)
    }

    /// Paged keys or values as contiguous ones, in the same layout.
    fn pages(&mut self, x: Value, table: Value) -> Value {
        let gathered = self.g.gather(x, table, 0usize);
        let Some(dims) = self.g.try_ty(gathered).map(|ty| ty.shape.dims().to_vec()) else {
            return Value::POISON;
        };
        let keys = self.extents.keys.clone();
        match self.op.layout {
            AttentionLayout::Bhsd => {
                let x = self.g.transpose(gathered, vec![0, 2, 1, 3, 4]);
                self.shaped(x, [dims[0].clone(), dims[2].clone(), keys, dims[4].clone()])
            }
            AttentionLayout::Bshd => {
                self.shaped(gathered, [dims[0].clone(), keys, dims[3].clone(), dims[4].clone()])
            }
            AttentionLayout::Packed => self.g.reshape(gathered, vec![dims[0].clone(), keys, dims[3].clone()]),
        }
    }

    /// `x` as `[B, heads, sequence, head]` in the dtype of the scores.
    pub(super) fn canonical(&mut self, x: Value, heads: Dim, sequence: Dim, head: Dim) -> Value {
        let x = self.g.cast_to(x, self.dtype);
        let batch = self.extents.batch.clone();
        match self.op.layout {
            AttentionLayout::Bhsd => x,
            AttentionLayout::Bshd => self.g.transpose(x, vec![0, 2, 1, 3]),
            AttentionLayout::Packed => {
                let x = self.shaped(x, [batch, sequence, heads, head]);
                self.g.transpose(x, vec![0, 2, 1, 3])
            }
        }
    }

    /// Inverse of [`Build::canonical`], up to the dtype.
    pub(super) fn restore(&mut self, y: Value, heads: Dim, sequence: Dim, head: Dim) -> Value {
        match self.op.layout {
            AttentionLayout::Bhsd => y,
            AttentionLayout::Bshd => self.g.transpose(y, vec![0, 2, 1, 3]),
            AttentionLayout::Packed => {
                let y = self.g.transpose(y, vec![0, 2, 1, 3]);
                let batch = self.extents.batch.clone();
                self.g.reshape(y, vec![batch, sequence, heads * head])
            }
        }
    }

    /// Scores before the mask, `[B, Hq, Sq, Skv]`.
    pub(super) fn scores(&mut self, q: Value, k: Value) -> Value {
        let (q, k) = self.factors(q, k);
        let raw = self.g.matmul(q, k, false, true);
        let scores = self.shaped_scores(raw);
        let Some(cap) = self.op.softcap else { return scores };
        let cap = self.constant(cap.0);
        let ratio = self.g.div(scores, cap);
        let bounded = self.g.tanh(ratio);
        self.g.mul(bounded, cap)
    }

    /// Scaled queries, `[B, Hkv, rows, D]`, and keys, `[B, Hkv, Skv, D]`.
    pub(super) fn factors(&mut self, q: Value, k: Value) -> (Value, Value) {
        let AttentionExtents { queries, keys, head, .. } = self.extents.clone();
        let (heads, kv_heads) = (self.query_heads(), self.kv_heads());
        let q = self.canonical(q, heads, queries, head.clone());
        let k = self.canonical(k, kv_heads, keys, head.clone());
        let scale = self.constant(self.op.scale_for(&head));
        let q = self.g.mul(q, scale);
        (self.grouped(q, head), k)
    }

    /// `[B, Hq, Sq, last]` as `[B, Hkv, rows, last]`.
    pub(super) fn grouped(&mut self, x: Value, last: Dim) -> Value {
        let dims = [self.extents.batch.clone(), self.kv_heads(), self.group_rows(), last];
        self.shaped(x, dims)
    }

    /// Inverse of [`Build::grouped`].
    pub(super) fn ungrouped(&mut self, x: Value, last: Dim) -> Value {
        let dims = [self.extents.batch.clone(), self.query_heads(), self.extents.queries.clone(), last];
        self.shaped(x, dims)
    }

    fn shaped_scores(&mut self, scores: Value) -> Value {
        self.ungrouped(scores, self.extents.keys.clone())
    }

    /// `0 .. len` along `axis` of rank 4, in i32, starting at `start` of a count of `all`.
    fn count(&mut self, axis: usize, all: Dim, start: Dim, len: Dim) -> Value {
        let mut dims = vec![Dim::from(1); 4];
        dims[axis] = all.clone();
        let count = self.g.iota(DType::I32, dims, axis);
        if all == len { count } else { self.g.narrow(count, axis, start, len) }
    }

    /// Which keys the position rule lets the queries see; `None` for all.
    fn positions(&mut self, lengths: Option<Value>) -> Option<Value> {
        let AttentionExtents { queries, keys, .. } = self.extents.clone();
        let mut keep = lengths.map(|lengths| {
            let key = self.count(3, keys.clone(), Dim::from(0), keys.clone());
            self.g.compare(key, lengths, CompareKind::Lt)
        });
        if !self.op.is_causal() {
            return keep;
        }
        let zero = Dim::from(0);
        let (key, position) = match (self.op.alignment, lengths) {
            (Alignment::Start, _) => {
                let key = self.count(3, keys.clone(), zero.clone(), keys);
                (key, self.count(2, queries.clone(), zero, queries))
            }
            // Key `j` and position `i + L - Sq`, both plus `Sq`, so that no extent is subtracted.
            (Alignment::End, lengths) => {
                let all = queries.clone() + keys.clone();
                let key = self.count(3, all.clone(), queries.clone(), keys.clone());
                let position = match lengths {
                    None => self.count(2, all, keys, queries),
                    Some(lengths) => {
                        let query = self.count(2, queries.clone(), zero, queries);
                        self.g.add(query, lengths)
                    }
                };
                (key, position)
            }
        };
        let mut restrict = |g: &mut Graph, seen: Value| {
            keep = Some(keep.map_or(seen, |keep| g.and(keep, seen)));
        };
        let seen = self.g.compare(key, position, CompareKind::Le);
        restrict(self.g, seen);
        if self.op.mask_kind == MaskKind::SlidingWindow {
            let window = i32::try_from(self.op.window).unwrap_or(i32::MAX);
            let window = self.g.constant(Literal::scalar_i32(window));
            let last_hidden = self.g.sub(position, window);
            let seen = self.g.compare(key, last_hidden, CompareKind::Gt);
            restrict(self.g, seen);
        }
        keep
    }

    pub(super) fn masked(&mut self, scores: Value, mask: Option<Value>, lengths: Option<Value>) -> Value {
        let mut scores = scores;
        let mut keep = self.positions(lengths);
        match mask {
            Some(mask) if self.g.ty(mask).dtype == DType::Bool => {
                keep = Some(keep.map_or(mask, |keep| self.g.and(keep, mask)));
            }
            Some(mask) => {
                let mask = self.g.cast_to(mask, self.dtype);
                scores = self.g.add(scores, mask);
            }
            None => {}
        }
        let Some(keep) = keep else { return scores };
        let hidden = self.constant(f64::NEG_INFINITY);
        self.g.r#where(keep, scores, hidden)
    }

    /// Softmax of the scores times the values, `[B, Hq, Sq, Dv]`, and the log-sum-exp.
    fn weighted(&mut self, scores: Value, v: Value, sinks: Option<Value>) -> (Value, Value) {
        let AttentionExtents { batch, queries, keys, value_head, .. } = self.extents.clone();
        let (heads, kv_heads) = (self.query_heads(), self.kv_heads());
        let (zero, one) = (self.constant(0.0), self.constant(1.0));
        let sinks = sinks.map(|sinks| {
            let sinks = self.g.cast_to(sinks, self.dtype);
            self.shaped(sinks, [Dim::from(1), heads.clone(), Dim::from(1), Dim::from(1)])
        });
        let mut max = self.g.reduce(scores, ReduceKind::Max, vec![3], true);
        if let Some(sinks) = sinks {
            max = self.g.maximum(max, sinks);
        }
        let hidden = self.constant(f64::NEG_INFINITY);
        let blind = self.g.compare(max, hidden, CompareKind::Eq);
        let max = self.g.r#where(blind, zero, max);
        let shifted = self.g.sub(scores, max);
        let weights = self.g.exp(shifted);
        let mut sum = self.g.reduce(weights, ReduceKind::Sum, vec![3], true);
        if let Some(sinks) = sinks {
            let shifted = self.g.sub(sinks, max);
            let weight = self.g.exp(shifted);
            sum = self.g.add(sum, weight);
        }
        let weights = self.grouped(weights, keys.clone());
        let v = self.canonical(v, kv_heads, keys, value_head.clone());
        let y = self.g.matmul(weights, v, false, false);
        let y = self.ungrouped(y, value_head);
        let divisor = self.g.r#where(blind, one, sum);
        let y = self.g.div(y, divisor);
        let log = self.g.log(divisor);
        let lse = self.g.add(log, max);
        let lse = self.g.r#where(blind, hidden, lse);
        (y, self.g.reshape(lse, vec![batch, heads, queries]))
    }
}
