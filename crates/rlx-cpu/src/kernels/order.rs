//! Kernels that order elements: the best position of each row, the best few, whole sorts.
//!
//! An element's rank is an unsigned integer with the order of the elements: numbers by value with
//! `-0 = +0`, every NaN above every number and equal to every other NaN. Of equals the first
//! position counts as better. Rows lie along the middle axis of a dense `[outer, extent, inner]`
//! tensor.

use super::error::check_length;
use super::{Context, KernelError, Plain};
use crate::simd::{Kernel, Simd};
use half::{bf16, f16};

/// An unsigned integer that holds the rank of an element.
pub trait RankWord: Copy + Ord + Default + Send + Sync {
    /// Rank and position in one word; a larger entry is better.
    type Entry: Plain + Ord;
    /// The highest rank.
    const TOP: Self;
    /// The ranks in the opposite order.
    fn opposite(self) -> Self;
    /// The entry of a rank at a position.
    fn entry(self, position: usize) -> Self::Entry;
    /// The rank of an entry.
    fn rank(entry: Self::Entry) -> Self;
    /// The position of an entry.
    fn position(entry: Self::Entry) -> usize;
}

macro_rules! rank_words {
    ($($word:ty, $entry:ty;)*) => {
        $(impl RankWord for $word {
            type Entry = $entry;
            const TOP: $word = <$word>::MAX;
            #[inline(always)]
            fn opposite(self) -> $word {
                !self
            }
            #[inline(always)]
            fn entry(self, position: usize) -> $entry {
                <$entry>::from(self) << <$word>::BITS | <$entry>::from(!(position as $word))
            }
            #[inline(always)]
            fn rank(entry: $entry) -> $word {
                (entry >> <$word>::BITS) as $word
            }
            #[inline(always)]
            fn position(entry: $entry) -> usize {
                !(entry as $word) as usize
            }
        })*
    };
}
rank_words! {
    u32, u64;
    u64, u128;
}

/// An element type with an order.
pub trait Ordered: Plain {
    /// Holds a rank.
    type Rank: RankWord;
    /// The rank of the element.
    fn rank(self) -> Self::Rank;
    /// Whether the element is NaN.
    fn is_nan(self) -> bool;
}

macro_rules! ordered_floats {
    ($($ty:ty, $rank:ty, |$x:ident| $wide:expr;)*) => {
        $(impl Ordered for $ty {
            type Rank = $rank;
            #[inline(always)]
            fn rank(self) -> $rank {
                let $x = self;
                let wide = $wide;
                const SIGN: $rank = 1 << (<$rank>::BITS - 1);
                // Adding zero turns -0 into +0.
                let bits = (wide + 0.0).to_bits();
                let ordered = if bits & SIGN == 0 { bits | SIGN } else { !bits };
                if wide.is_nan() { <$rank>::MAX } else { ordered }
            }
            #[inline(always)]
            fn is_nan(self) -> bool {
                let $x = self;
                $wide.is_nan()
            }
        })*
    };
}
ordered_floats! {
    f32, u32, |x| x;
    f16, u32, |x| x.to_f32();
    bf16, u32, |x| x.to_f32();
    f64, u64, |x| x;
}

macro_rules! ordered_integers {
    ($($ty:ty, $rank:ty, |$x:ident| $value:expr;)*) => {
        $(impl Ordered for $ty {
            type Rank = $rank;
            #[inline(always)]
            fn rank(self) -> $rank {
                let $x = self;
                $value
            }
            #[inline(always)]
            fn is_nan(self) -> bool {
                false
            }
        })*
    };
}
ordered_integers! {
    i8, u32, |x| i32::from(x) as u32 ^ 1 << 31;
    i16, u32, |x| i32::from(x) as u32 ^ 1 << 31;
    i32, u32, |x| x as u32 ^ 1 << 31;
    i64, u64, |x| x as u64 ^ 1 << 63;
    u8, u32, |x| u32::from(x);
    u16, u32, |x| u32::from(x);
    u32, u32, |x| x;
    u64, u64, |x| x;
}

/// An integer type for positions.
pub trait Position: Plain {
    /// The position as an element.
    fn of(position: usize) -> Self;
}

impl Position for i32 {
    #[inline(always)]
    fn of(position: usize) -> i32 {
        position as i32
    }
}

impl Position for u32 {
    #[inline(always)]
    fn of(position: usize) -> u32 {
        position as u32
    }
}

impl Position for i64 {
    #[inline(always)]
    fn of(position: usize) -> i64 {
        position as i64
    }
}

/// Which of the elements of a row is looked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Best {
    /// The largest rather than the smallest; a NaN wins either way.
    pub largest: bool,
    /// The last of equals rather than the first.
    pub last: bool,
}

/// Elements of input that make rows worth handing to a thread.
const PIECE: usize = 16 << 10;
/// Elements of a block that is scanned for its best rank.
const BLOCK: usize = 256;

/// The position of the best element along the middle axis, which must not be empty.
///
/// # Errors
/// When lengths disagree.
pub fn best_position<T: Ordered, P: Position>(
    context: Context<'_>,
    best: Best,
    extents @ [outer, extent, inner]: [usize; 3],
    input: &[T],
    output: &mut [P],
) -> Result<(), KernelError> {
    check_length("input", input.len(), &extents)?;
    check_length("output", output.len(), &[outer, inner])?;
    if output.is_empty() || extent == 0 {
        return Ok(());
    }
    if inner == 1 {
        let rows = PIECE.div_ceil(extent);
        context.pool().run_pieces(output, rows, |index, output| {
            for (row, output) in input[index * rows * extent..].chunks(extent).zip(output) {
                *output = P::of(context.dispatch(BestOfRow { best, row }));
            }
        });
        return Ok(());
    }
    // Pieces of one outer index, so that a piece is whole columns.
    let per_outer = PIECE.div_ceil(extent).min(inner).min(BLOCK);
    let outers = PIECE.div_ceil(extent * inner);
    context.pool().run_pieces(output, outers * inner, |index, output| {
        for (offset, output) in output.chunks_mut(inner).enumerate() {
            let base = (index * outers + offset) * extent * inner;
            let input = &input[base..base + extent * inner];
            context.pool().run_pieces(output, per_outer, |part, output| {
                let first = part * per_outer;
                context.dispatch(BestOfColumns { best, input, inner, first, output });
            });
        }
    });
    Ok(())
}

#[inline(always)]
fn rank_for<T: Ordered>(best: Best, x: T) -> T::Rank {
    let rank = x.rank();
    if best.largest || x.is_nan() { rank } else { rank.opposite() }
}

struct BestOfRow<'a, T> {
    best: Best,
    row: &'a [T],
}

impl<T: Ordered> Kernel for BestOfRow<'_, T> {
    type Output = usize;

    #[inline(always)]
    fn run<S: Simd>(self, _: S) -> usize {
        let BestOfRow { best, row } = self;
        let (mut top, mut position) = (rank_for(best, row[0]), 0);
        for (index, block) in row.chunks(BLOCK).enumerate() {
            let mut highest = T::Rank::default();
            for &x in block {
                highest = highest.max(rank_for(best, x));
            }
            let wins = highest > top || (best.last && highest == top);
            if !wins {
                continue;
            }
            top = highest;
            let is_top = |x: &T| rank_for(best, *x) == highest;
            let found =
                if best.last { block.iter().rposition(is_top) } else { block.iter().position(is_top) };
            position = index * BLOCK + found.unwrap_or(0);
        }
        position
    }
}

struct BestOfColumns<'a, T, P> {
    best: Best,
    input: &'a [T],
    inner: usize,
    first: usize,
    output: &'a mut [P],
}

impl<T: Ordered, P: Position> Kernel for BestOfColumns<'_, T, P> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, _: S) {
        let BestOfColumns { best, input, inner, first, output } = self;
        let mut tops = [T::Rank::default(); BLOCK];
        let tops = &mut tops[..output.len()];
        for (index, row) in input.chunks_exact(inner).enumerate() {
            let row = &row[first..first + tops.len()];
            for ((top, output), &x) in tops.iter_mut().zip(output.iter_mut()).zip(row) {
                let rank = rank_for(best, x);
                if index == 0 || rank > *top || (best.last && rank == *top) {
                    *top = rank;
                    *output = P::of(index);
                }
            }
        }
    }
}

/// What [`top`] takes of each row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Top {
    /// How many elements, at most the extent.
    pub count: usize,
    /// The largest rather than the smallest.
    pub largest: bool,
    /// Best first rather than by position.
    pub sorted: bool,
}

/// Bytes of scratch of each thread for [`top`]: an entry and an element per element of a row.
pub fn top_scratch_bytes<T: Ordered>(extent: usize) -> usize {
    let entries = 2 * extent.max(1) * size_of::<<T::Rank as RankWord>::Entry>();
    (entries + extent * size_of::<T>()).next_multiple_of(64)
}

/// The best elements of each row along the middle axis and their positions: two tensors of
/// `[outer, count, inner]`. `scratch` has [`top_scratch_bytes`] for each thread, aligned to 16.
///
/// # Errors
/// When lengths disagree or the scratch is too small.
pub fn top<T: Ordered, P: Position>(
    context: Context<'_>,
    top: Top,
    extents @ [outer, extent, inner]: [usize; 3],
    input: &[T],
    (values, positions): (&mut [T], &mut [P]),
    scratch: &mut [u8],
) -> Result<(), KernelError> {
    check_length("input", input.len(), &extents)?;
    let results = [outer, top.count, inner];
    check_length("values", values.len(), &results)?;
    check_length("positions", positions.len(), &results)?;
    if top.count > extent {
        return Err(KernelError::Extent {
            operand: "top",
            extent: "count",
            found: top.count,
            expected: extent,
        });
    }
    if values.is_empty() {
        return Ok(());
    }
    let (per_thread, found) = (top_scratch_bytes::<T>(extent), scratch.len());
    let expected = per_thread * context.pool().threads();
    if found < expected {
        return Err(KernelError::BufferTooSmall { buffer: "scratch", found, expected });
    }
    // Whole outer indices make a piece.
    let group = PIECE.div_ceil(extent * inner);
    let piece = group * top.count * inner;
    let shared = Group { top, extents, input, group };
    context.pool().run_pairs_with(
        (values, positions),
        piece,
        &mut scratch[..expected],
        |index, values, positions, scratch| {
            context.dispatch(GroupRun { group: &shared, index, values, positions, scratch });
        },
    );
    Ok(())
}

struct Group<'a, T> {
    top: Top,
    extents: [usize; 3],
    input: &'a [T],
    group: usize,
}

struct GroupRun<'a, T, P> {
    group: &'a Group<'a, T>,
    index: usize,
    values: &'a mut [T],
    positions: &'a mut [P],
    scratch: &'a mut [u8],
}

impl<T: Ordered, P: Position> Kernel for GroupRun<'_, T, P> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, _: S) {
        let GroupRun { group, index, values, positions, scratch } = self;
        let Group { top, extents: [_, extent, inner], input, group } = *group;
        let entries = 2 * extent * size_of::<<T::Rank as RankWord>::Entry>();
        let (entries, row) = scratch.split_at_mut(entries);
        let entries = super::cast_bytes_mut::<<T::Rank as RankWord>::Entry>("scratch", entries);
        let entries = entries.expect("scratch is aligned to 16");
        let row = super::cast_bytes_mut::<T>("scratch", row).expect("entries are larger than elements");
        let size = top.count * inner;
        for (offset, (values, positions)) in
            values.chunks_mut(size).zip(positions.chunks_mut(size)).enumerate()
        {
            let base = (index * group + offset) * extent * inner;
            for column in 0..inner {
                let source = if inner == 1 {
                    &input[base..base + extent]
                } else {
                    let from = input[base + column..].iter().step_by(inner);
                    row.iter_mut().zip(from).for_each(|(to, &x)| *to = x);
                    &row[..extent]
                };
                let kept = best_entries(top, source, entries);
                for (at, &entry) in kept.iter().enumerate() {
                    let position = <T::Rank as RankWord>::position(entry);
                    values[at * inner + column] = source[position];
                    positions[at * inner + column] = P::of(position);
                }
            }
        }
    }
}

type EntryOf<T> = <<T as Ordered>::Rank as RankWord>::Entry;

/// The entries of the best elements of a row, in the order asked for.
#[inline(always)]
fn best_entries<'e, T: Ordered>(top: Top, row: &[T], entries: &'e mut [EntryOf<T>]) -> &'e [EntryOf<T>] {
    let entry = |position: usize, x: T| {
        let rank = x.rank();
        (if top.largest { rank } else { rank.opposite() }).entry(position)
    };
    let count = top.count;
    // Candidates are cut down to the best `count` whenever there are twice that many and more.
    let room = (4 * count).max(2 * BLOCK) + BLOCK;
    let mut len = 0;
    if count == 0 {
        return &[];
    }
    if room >= row.len() {
        for (position, &x) in row.iter().enumerate() {
            entries[position] = entry(position, x);
        }
        len = row.len();
    } else {
        let mut limit = <T::Rank as Default>::default();
        for (index, block) in row.chunks(BLOCK).enumerate() {
            let mut highest = <T::Rank as Default>::default();
            for &x in block {
                let rank = x.rank();
                highest = highest.max(if top.largest { rank } else { rank.opposite() });
            }
            if len >= count && highest <= limit {
                continue;
            }
            for (at, &x) in block.iter().enumerate() {
                // An equal rank further on is not better.
                let candidate = entry(index * BLOCK + at, x);
                if len < count || <T::Rank as RankWord>::rank(candidate) > limit {
                    entries[len] = candidate;
                    len += 1;
                }
            }
            if len + BLOCK > room || (len >= count && index * BLOCK < 2 * BLOCK) {
                len = cut(&mut entries[..len], count);
            }
            if len == count {
                let worst = entries[..len].iter().min().copied();
                limit = worst.map_or(limit, <T::Rank as RankWord>::rank);
            }
        }
    }
    len = cut(&mut entries[..len], count);
    let kept = &mut entries[..len];
    if top.sorted {
        kept.sort_unstable_by(|a, b| b.cmp(a));
    } else {
        kept.sort_unstable_by_key(|&entry| <T::Rank as RankWord>::position(entry));
    }
    kept
}

/// Brings the best `count` entries to the front; yields how many there are.
fn cut<E: Ord>(entries: &mut [E], count: usize) -> usize {
    if entries.len() > count {
        entries.select_nth_unstable_by(count - 1, |a, b| b.cmp(a));
    }
    entries.len().min(count)
}
