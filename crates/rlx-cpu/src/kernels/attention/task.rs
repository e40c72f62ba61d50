//! One task of an attention: a block of queries of the query heads that share a key head.

use super::score::{Place, add_weighted, dot, finish_scores, weigh};
use super::{Alignment, Attention, Blocks, Buffers, TALLEST, cast_bytes_mut};
use crate::kernels::gemm::micro::{MicroKernel, Straight, Table};
use crate::kernels::rows::{Scale, change};
use crate::kernels::transpose::Transpose;
use crate::kernels::{Context, KernelError};
use crate::pool::SharedSlice;
use crate::simd::{Kernel, Simd};
use std::ops::Range;

/// Runs all tasks; the operands were checked.
pub(super) fn run(
    context: Context<'_>,
    blocks: Blocks,
    mut attention: Attention<'_>,
) -> Result<(), KernelError> {
    let shape = attention.shape;
    let lengths = blocks.lengths(&shape);
    let per_thread: usize = lengths.iter().sum();
    let scratch = std::mem::take(&mut attention.scratch);
    let scratch = SharedSlice::new(cast_bytes_mut::<f32>("attention scratch", scratch)?);
    let output = SharedSlice::new(std::mem::take(&mut attention.output.data));
    let mut no_sums = [];
    let sums = attention.log_sum_exp.take();
    let wants_sums = sums.is_some();
    let log_sums = SharedSlice::new(sums.unwrap_or(&mut no_sums));
    let table = <Straight<f32, f32>>::table(context.level());
    let pairs = shape.batches * shape.key_heads;
    let mut blocks = blocks;
    while pairs * shape.queries.div_ceil(blocks.queries) < 2 * context.pool().threads()
        && blocks.queries >= 4 * TALLEST
    {
        blocks.queries = (blocks.queries / 2).next_multiple_of(TALLEST);
    }
    let query_blocks = shape.queries.div_ceil(blocks.queries);
    let attention = &attention;
    context.pool().run_with_slot(pairs * query_blocks, |place, index| {
        // The longest rows of a causal attention come first.
        let query_block = query_blocks - 1 - index % query_blocks;
        let first = query_block * blocks.queries;
        let queries = first..shape.queries.min(first + blocks.queries);
        let pair = index / query_blocks;
        let (batch, key_head) = (pair / shape.key_heads, pair % shape.key_heads);
        // SAFETY: a place is held by one task at a time.
        let scratch = unsafe { scratch.part(place * per_thread, per_thread) };
        context.dispatch(Task {
            attention,
            blocks,
            table: &table,
            batch,
            key_head,
            length: attention.key_lengths.map_or(shape.keys, |length| length(batch).min(shape.keys)),
            queries,
            buffers: Buffers::new(scratch, lengths),
            output: &output,
            log_sums: wants_sums.then_some(&log_sums),
        });
    });
    Ok(())
}

struct Task<'a> {
    attention: &'a Attention<'a>,
    blocks: Blocks,
    table: &'a Table<Straight<f32, f32>>,
    batch: usize,
    key_head: usize,
    /// Valid keys of the batch.
    length: usize,
    queries: Range<usize>,
    buffers: Buffers<'a>,
    output: &'a SharedSlice<'a, f32>,
    log_sums: Option<&'a SharedSlice<'a, f32>>,
}

impl Kernel for Task<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(mut self, simd: S) {
        self.buffers.tops.fill(f32::NEG_INFINITY);
        self.buffers.sums.fill(0.0);
        self.buffers.running.fill(0.0);
        // Visible ranges move forward with the query, so the ends bound them all.
        let low = self.visible(self.queries.start).start;
        let high = self.visible(self.queries.end - 1).end;
        let step = self.blocks.keys;
        for start in (low / step * step..high).step_by(step) {
            self.block(simd, start..high.min(start + step));
        }
        self.finish(simd);
    }
}

impl Task<'_> {
    /// The keys that the query may see, masks aside.
    fn visible(&self, query: usize) -> Range<usize> {
        let position = match self.attention.alignment {
            Alignment::Start => query as isize,
            Alignment::End => query as isize + self.length as isize - self.attention.shape.queries as isize,
        };
        let clip = |key: isize| key.clamp(0, self.length as isize) as usize;
        let signed = |count: usize| isize::try_from(count).unwrap_or(isize::MAX);
        let low = self.attention.before.map_or(0, |n| clip(position.saturating_sub(signed(n))));
        let end = |n| position.saturating_add(signed(n)).saturating_add(1);
        let high = self.attention.after.map_or(self.length, |n| clip(end(n)));
        low.min(high)..high
    }

    /// One block of keys for all rows of the task.
    #[inline(always)]
    fn block<S: Simd>(&mut self, simd: S, keys: Range<usize>) {
        if self.blocks.pack {
            self.pack_keys(simd, &keys);
            self.pack_values(&keys);
        }
        let tallest = self.table.tiles.len();
        let count = self.queries.len().div_ceil(tallest);
        for member in 0..self.attention.shape.group() {
            for index in 0..count {
                let cut = |i: usize| self.queries.start + self.queries.len() * i / count;
                self.rows(simd, member, cut(index)..cut(index + 1), &keys);
            }
        }
    }

    /// Keys of no depth lie nowhere.
    fn key(&self, key: usize) -> &[f32] {
        let depth = self.attention.shape.depth;
        if depth == 0 {
            return &[];
        }
        let [batch, head, position] = self.attention.key.strides;
        let start = self.batch * batch + self.key_head * head + key * position;
        &self.attention.key.data[start..start + depth]
    }

    fn value_start(&self, key: usize) -> usize {
        let [batch, head, position] = self.attention.value.strides;
        self.batch * batch + self.key_head * head + key * position
    }

    /// Panels of keys side by side, depth after depth.
    #[inline(always)]
    fn pack_keys<S: Simd>(&mut self, simd: S, keys: &Range<usize>) {
        let (columns, depth) = (self.blocks.columns, self.attention.shape.depth);
        if depth == 0 {
            return;
        }
        let [batch, head, from_row] = self.attention.key.strides;
        let start = self.batch * batch + self.key_head * head;
        for (panel, first) in keys.clone().step_by(columns).enumerate() {
            let to = &mut self.buffers.keys[panel * columns * depth..(panel + 1) * columns * depth];
            let valid = columns.min(keys.end - first);
            if valid < columns {
                to.fill(0.0);
            }
            let from = &self.attention.key.data[start + first * from_row..];
            let extents = [valid, depth];
            Transpose { extents, from, from_row, to, to_row: columns }.run(simd);
        }
    }

    /// Rows of values, padded with zeros to whole tiles.
    fn pack_values(&mut self, keys: &Range<usize>) {
        let (depth, padded) = (self.attention.shape.value_depth, self.blocks.padded_values);
        let packed = std::mem::take(&mut self.buffers.values);
        for (key, to) in keys.clone().zip(packed.chunks_exact_mut(padded.max(1))) {
            let start = self.value_start(key);
            to[..depth].copy_from_slice(&self.attention.value.data[start..start + depth]);
            to[depth..].fill(0.0);
        }
        self.buffers.values = packed;
    }

    /// Some rows of one query head against one block of keys.
    #[inline(always)]
    fn rows<S: Simd>(&mut self, simd: S, member: usize, queries: Range<usize>, keys: &Range<usize>) {
        let low = self.visible(queries.start).start.max(keys.start);
        let high = self.visible(queries.end - 1).end.min(keys.end);
        if low >= high {
            return;
        }
        let head = self.key_head * self.attention.shape.group() + member;
        let seen = low..high;
        let scores = std::mem::take(&mut self.buffers.scores);
        self.products(simd, head, &queries, keys, &seen, scores);
        let first_row = member * self.queries.len() + queries.start - self.queries.start;
        let padded = self.blocks.padded_values;
        for (row, query) in queries.clone().enumerate() {
            let at = row * self.blocks.keys;
            let line = &mut scores[at + low - keys.start..at + high - keys.start];
            let visible = self.visible(query);
            let from = visible.start.clamp(low, high) - low;
            let to = visible.end.clamp(low, high) - low;
            line[..from].fill(0.0);
            line[to.max(from)..].fill(0.0);
            if from >= to {
                continue;
            }
            let line = &mut line[from..to];
            let place = Place { batch: self.batch, head, query, first_key: low + from };
            let Attention { scale, softcap, mask, .. } = *self.attention;
            let scale = finish_scores(simd, line, scale, softcap, mask, place);
            let state = first_row + row;
            let (top, sum) = (&mut self.buffers.tops[state], &mut self.buffers.sums[state]);
            let factor = weigh(simd, line, scale, top, sum);
            if factor != 1.0 {
                let running = &mut self.buffers.running[state * padded..(state + 1) * padded];
                change(simd, running, Scale(factor));
            }
        }
        let scores = self.weighted_values(simd, first_row, queries.len(), keys, &seen, scores);
        self.buffers.scores = scores;
    }

    /// The products of queries and keys: row after row of the block's keys.
    #[inline(always)]
    fn products<S: Simd>(
        &self,
        simd: S,
        head: usize,
        queries: &Range<usize>,
        keys: &Range<usize>,
        seen: &Range<usize>,
        scores: &mut [f32],
    ) {
        let depth = self.attention.shape.depth;
        let [batch_step, head_step, query_step] = self.attention.query.strides;
        let start = self.batch * batch_step + head * head_step + queries.start * query_step;
        let query = &self.attention.query.data[if depth == 0 { 0 } else { start }..];
        if !self.blocks.pack {
            for row in 0..queries.len() {
                let first = if depth == 0 { 0 } else { row * query_step };
                let query = &query[first..first + depth];
                for key in seen.clone() {
                    scores[row * self.blocks.keys + key - keys.start] = dot(simd, query, self.key(key));
                }
            }
            return;
        }
        let columns = self.blocks.columns;
        let panels = (seen.start - keys.start) / columns..(seen.end - keys.start).div_ceil(columns);
        for panel in panels {
            let b = (&self.buffers.keys[panel * columns * depth..], columns);
            let c = (&mut scores[panel * columns..], self.blocks.keys);
            self.table.run([queries.len(), depth], (query, query_step), b, c, false);
        }
    }

    /// Adds the weighted values to the running output; hands the scores back.
    #[inline(always)]
    fn weighted_values<'s, S: Simd>(
        &mut self,
        simd: S,
        first_row: usize,
        rows: usize,
        keys: &Range<usize>,
        seen: &Range<usize>,
        scores: &'s mut [f32],
    ) -> &'s mut [f32] {
        let (columns, padded) = (self.blocks.columns, self.blocks.padded_values);
        let depth = self.attention.shape.value_depth;
        let weights = &scores[seen.start - keys.start..];
        let running = &mut self.buffers.running[first_row * padded..];
        let whole = if self.blocks.pack { padded } else { depth / columns * columns };
        let value_step = self.attention.value.strides[2];
        let [batch_step, head_step, _] = self.attention.value.strides;
        let head_start = self.batch * batch_step + self.key_head * head_step;
        for column in (0..whole).step_by(columns) {
            let b = if self.blocks.pack {
                (&self.buffers.values[(seen.start - keys.start) * padded + column..], padded)
            } else {
                let start = head_start + seen.start * value_step + column;
                (&self.attention.value.data[start..], value_step)
            };
            let c = (&mut running[column..], padded);
            let a = (weights, self.blocks.keys);
            self.table.run([rows, seen.len()], a, b, c, true);
        }
        if whole < depth {
            for row in 0..rows {
                let sum = &mut running[row * padded + whole..row * padded + depth];
                for (index, key) in seen.clone().enumerate() {
                    let start = head_start + key * value_step;
                    let value = &self.attention.value.data[start + whole..start + depth];
                    add_weighted(simd, sum, weights[row * self.blocks.keys + index], value);
                }
            }
        }
        scores
    }

    /// Divides by the sums and writes the output.
    #[inline(always)]
    fn finish<S: Simd>(mut self, simd: S) {
        let shape = &self.attention.shape;
        let (depth, padded) = (shape.value_depth, self.blocks.padded_values);
        let [batch_step, head_step, query_step] = self.attention.output.strides;
        let running = std::mem::take(&mut self.buffers.running);
        for member in 0..shape.group() {
            let head = self.key_head * shape.group() + member;
            for query in self.queries.clone() {
                let state = member * self.queries.len() + query - self.queries.start;
                let sum = self.buffers.sums[state];
                if depth > 0 {
                    let result = &mut running[state * padded..state * padded + depth];
                    change(simd, result, Scale(if sum == 0.0 { 0.0 } else { 1.0 / sum }));
                    let start = self.batch * batch_step + head * head_step + query * query_step;
                    // SAFETY: rows of the output do not overlap, and this task alone has this row.
                    unsafe { self.output.part(start, depth) }.copy_from_slice(result);
                }
                if let Some(log_sums) = self.log_sums {
                    let at = (self.batch * shape.query_heads + head) * shape.queries + query;
                    // SAFETY: this task alone has this query of this head.
                    let to = unsafe { log_sums.part(at, 1) };
                    to[0] = self.buffers.tops[state] + sum.ln();
                }
            }
        }
    }
}
