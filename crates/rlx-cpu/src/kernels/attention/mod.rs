//! Attention that never forms the score matrix.
//!
//! `output = softmax(mask(softcap(scale * Q K^T))) V` for each batch and query head, over blocks of
//! keys with a running maximum and sum. Query heads share key heads in equal groups. A query whose
//! every key is masked yields zeros.
//!
//! Q, K, V and the output are read through strides of batch, head and position, so that any order
//! of those axes works; the depth of a head is contiguous. Each row is computed over the same
//! blocks of keys whatever the threads, so they change no bit.

mod score;
mod task;
#[cfg(test)]
mod tests;

use super::gemm::micro::tile_columns;
use super::{Context, KernelError, cast_bytes_mut};
use crate::simd::SimdLevel;

/// Q, K or V: element `(batch, head, position, d)` is
/// `data[batch * strides[0] + head * strides[1] + position * strides[2] + d]`.
#[derive(Clone, Copy, Debug)]
pub struct Heads<'a> {
    /// The elements, from the first of the view on.
    pub data: &'a [f32],
    /// From one batch, head and position to the next.
    pub strides: [usize; 3],
}

/// The output, laid out as [`Heads`]; its rows do not overlap.
#[derive(Debug)]
pub struct HeadsMut<'a> {
    /// The elements, from the first of the view on.
    pub data: &'a mut [f32],
    /// From one batch, head and position to the next.
    pub strides: [usize; 3],
}

/// The extents of an attention.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shape {
    /// Batches.
    pub batches: usize,
    /// Heads of Q and of the output, a multiple of `key_heads`.
    pub query_heads: usize,
    /// Heads of K and V.
    pub key_heads: usize,
    /// Positions of Q and of the output.
    pub queries: usize,
    /// Positions of K and V.
    pub keys: usize,
    /// Depth of Q and K.
    pub depth: usize,
    /// Depth of V and of the output.
    pub value_depth: usize,
}

/// Where queries stand among the keys; it matters only with [`Attention::before`] or
/// [`Attention::after`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Alignment {
    /// Query `i` stands at key `i`.
    Start,
    /// The last query stands at the last valid key.
    End,
}

/// What hides keys from queries one by one. Strides are of batch, query head, query and key; zero
/// repeats.
#[derive(Clone, Copy, Debug)]
pub enum Mask<'a> {
    /// Nothing.
    None,
    /// A key counts where the byte is not zero.
    Keep {
        /// The bytes.
        data: &'a [u8],
        /// Strides in bytes.
        strides: [usize; 4],
    },
    /// A number that is added to the score.
    Bias {
        /// The numbers.
        data: &'a [f32],
        /// Strides in elements.
        strides: [usize; 4],
    },
}

/// One attention.
pub struct Attention<'a> {
    /// The extents.
    pub shape: Shape,
    /// Q.
    pub query: Heads<'a>,
    /// K.
    pub key: Heads<'a>,
    /// V.
    pub value: Heads<'a>,
    /// The result.
    pub output: HeadsMut<'a>,
    /// What scores are multiplied by.
    pub scale: f32,
    /// `Some(c)` bends scores to `c tanh(score / c)`, before any mask.
    pub softcap: Option<f32>,
    /// Where queries stand among the keys.
    pub alignment: Alignment,
    /// A query sees at most so many keys before its own position.
    pub before: Option<usize>,
    /// A query sees at most so many keys after its own position; zero is causal attention.
    pub after: Option<usize>,
    /// What hides further keys.
    pub mask: Mask<'a>,
    /// The number of valid keys of a batch, at most `keys`; all if `None`.
    pub key_lengths: Option<&'a (dyn Fn(usize) -> usize + Sync)>,
    /// Receives the logarithm of the sum of the exponentials of each query's scores, dense over
    /// batch, query head and query.
    pub log_sum_exp: Option<&'a mut [f32]>,
    /// At least [`scratch_bytes`] bytes.
    pub scratch: &'a mut [u8],
}

/// How the work is cut up and where it lies in scratch.
#[derive(Clone, Copy, Debug)]
struct Blocks {
    /// Columns of a tile.
    columns: usize,
    /// Keys of a block.
    keys: usize,
    /// Queries of a task.
    queries: usize,
    /// Whether K and V are packed: not for few rows, as in decoding.
    pack: bool,
    /// `value_depth` rounded up to tiles.
    padded_values: usize,
}

/// Rows of a task up to which K and V are read in place.
const FEW_ROWS: usize = 8;
/// Elements of a block of K or V.
const BLOCK: usize = 16 << 10;
/// Elements of the running output of a task.
const RUNNING: usize = 32 << 10;
/// No table has taller tiles.
const TALLEST: usize = 12;

impl Blocks {
    fn new(level: SimdLevel, shape: &Shape) -> Blocks {
        let columns = tile_columns(level, size_of::<f32>());
        let widest = shape.depth.max(shape.value_depth).max(1);
        let fits = (BLOCK / widest).clamp(64, 256);
        let keys = fits / columns * columns;
        let group = shape.group();
        let rows = (RUNNING / widest).clamp(96, 512);
        let queries = (rows / group / TALLEST * TALLEST).max(TALLEST);
        let pack = group * queries.min(shape.queries) > FEW_ROWS;
        let padded_values = shape.value_depth.next_multiple_of(columns);
        Blocks { columns, keys, queries, pack, padded_values }
    }

    /// Elements of packed K, packed V, scores, running output, running maxima and sums.
    fn lengths(&self, shape: &Shape) -> [usize; 5] {
        let rows = shape.group() * self.queries.min(shape.queries);
        let packed = |depth: usize| if self.pack { self.keys * depth } else { 0 };
        let lengths = [
            packed(shape.depth),
            packed(self.padded_values),
            self.keys * TALLEST,
            rows * self.padded_values,
            rows * 2,
        ];
        lengths.map(|length| length.next_multiple_of(16))
    }
}

impl Shape {
    /// Query heads that share a key head.
    fn group(&self) -> usize {
        self.query_heads / self.key_heads.max(1)
    }

    fn is_empty(&self) -> bool {
        [self.batches, self.query_heads, self.queries].contains(&0)
    }
}

/// Bytes of scratch for an attention on `threads` threads.
pub fn scratch_bytes(level: SimdLevel, threads: usize, shape: &Shape) -> usize {
    let lengths = Blocks::new(level, shape).lengths(shape);
    lengths.iter().sum::<usize>() * size_of::<f32>() * threads
}

/// Computes an attention on the context's threads.
///
/// # Errors
/// When a view leaves its slice, rows of the output overlap, the heads do not form groups, or the
/// scratch is too small.
pub fn attention(context: Context<'_>, attention: Attention<'_>) -> Result<(), KernelError> {
    let shape = attention.shape;
    attention.check()?;
    if shape.is_empty() {
        return Ok(());
    }
    let threads = context.pool().threads();
    let expected = scratch_bytes(context.level(), threads, &shape);
    let found = attention.scratch.len();
    if found < expected {
        let buffer = "attention scratch";
        return Err(KernelError::BufferTooSmall { buffer, found, expected });
    }
    task::run(context, Blocks::new(context.level(), &shape), attention)
}

impl Attention<'_> {
    fn check(&self) -> Result<(), KernelError> {
        let shape = &self.shape;
        let grouped = shape.key_heads > 0 && shape.query_heads.is_multiple_of(shape.key_heads);
        if shape.query_heads > 0 && !grouped {
            return Err(KernelError::Extent {
                operand: "query",
                extent: "heads (to be a multiple of the key heads)",
                found: shape.query_heads,
                expected: shape.key_heads,
            });
        }
        let Shape { batches, query_heads, key_heads, queries, keys, .. } = *shape;
        let from = [batches, query_heads, queries];
        let to = [batches, key_heads, keys];
        inside("query", self.query.data.len(), from, self.query.strides, shape.depth)?;
        inside("key", self.key.data.len(), to, self.key.strides, shape.depth)?;
        inside("value", self.value.data.len(), to, self.value.strides, shape.value_depth)?;
        let output = &self.output;
        inside("output", output.data.len(), from, output.strides, shape.value_depth)?;
        apart(from, output.strides, shape.value_depth)?;
        let pairs = [batches, query_heads, queries, keys];
        match self.mask {
            Mask::None => {}
            Mask::Keep { data, strides } => inside("mask", data.len(), pairs, strides, 1)?,
            Mask::Bias { data, strides } => inside("bias", data.len(), pairs, strides, 1)?,
        }
        if let Some(sums) = &self.log_sum_exp {
            inside("log-sum-exp", sums.len(), from, [query_heads * queries, queries, 1], 1)?;
        }
        Ok(())
    }
}

/// Checks that rows of `depth` elements at every index lie in `length` elements.
fn inside<const N: usize>(
    operand: &'static str,
    length: usize,
    extents: [usize; N],
    strides: [usize; N],
    depth: usize,
) -> Result<(), KernelError> {
    if depth == 0 || extents.contains(&0) {
        return Ok(());
    }
    let last = extents.iter().zip(strides).try_fold(depth - 1, |sum, (&extent, stride)| {
        (extent - 1).checked_mul(stride).and_then(|step| step.checked_add(sum))
    });
    let reach = last.and_then(|last| isize::try_from(last).ok()).unwrap_or(isize::MAX);
    if reach.unsigned_abs() < length {
        return Ok(());
    }
    Err(KernelError::OutOfBounds { operand, reach, length })
}

/// Checks that rows of `depth` elements do not overlap: each stride steps over all that lies
/// inside it.
fn apart(extents: [usize; 3], strides: [usize; 3], depth: usize) -> Result<(), KernelError> {
    if depth == 0 || extents.contains(&0) {
        return Ok(());
    }
    let mut axes = [0, 1, 2].map(|axis| (strides[axis], extents[axis]));
    axes.sort_unstable();
    let mut covered = depth;
    for (stride, extent) in axes.into_iter().filter(|&(_, extent)| extent > 1) {
        if stride < covered {
            return Err(KernelError::Overlap { operand: "output", stride, columns: covered });
        }
        covered += stride * (extent - 1);
    }
    Ok(())
}

/// The scratch of one thread, cut up.
struct Buffers<'a> {
    keys: &'a mut [f32],
    values: &'a mut [f32],
    scores: &'a mut [f32],
    running: &'a mut [f32],
    tops: &'a mut [f32],
    sums: &'a mut [f32],
}

impl<'a> Buffers<'a> {
    fn new(scratch: &'a mut [f32], lengths: [usize; 5]) -> Buffers<'a> {
        let [keys, values, scores, running, rows] = lengths;
        let (keys, rest) = scratch.split_at_mut(keys);
        let (values, rest) = rest.split_at_mut(values);
        let (scores, rest) = rest.split_at_mut(scores);
        let (running, rest) = rest.split_at_mut(running);
        let (tops, sums) = rest[..rows].split_at_mut(rows / 2);
        Buffers { keys, values, scores, running, tops, sums }
    }
}
