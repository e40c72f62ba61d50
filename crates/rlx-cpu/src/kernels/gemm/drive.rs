//! The loops around the microkernels: tasks, cache blocks, tiles, epilogue.
//!
//! C is cut into a grid of tasks. A task walks blocks of columns, inside them blocks of k (a block
//! of B stays in L2), inside them short blocks of rows (a block of A stays in L1), inside them
//! tiles. After the last k, the finished rows of the block go to the epilogue while they are hot.
//! The blocks of k are the same for every task, so the bits of C do not depend on the threads.

use super::micro::{Ahead, MicroKernel, Table, Tile};
use super::pack::{Feeds, PanelShape, pack_panel, pack_rows};
use super::{Epilogue, TileMut};
use crate::kernels::{Context, KernelError, Matrix, MatrixMut, cast_bytes_mut};
use crate::pool::SharedSlice;
use std::ops::Range;

/// Longest block of k.
const DEPTH: usize = 512;
/// Bytes of a block of B.
const B_BLOCK: usize = 640 << 10;
/// Bytes of a block of packed B where A is near: while one block is used, the next is asked for.
const PACKED_BLOCK: usize = 256 << 10;
/// Bytes of A that stay near while the blocks of B pass by.
const NEAR_A: usize = 384 << 10;
/// Passes over a block from which on they have the time to ask for the next.
const PASSES_AHEAD: usize = 3;
/// Rows of A that are packed together.
const A_ROWS: usize = 96;
/// Padding of a packed row of A, so that rows do not share cache sets.
const A_PADDING: usize = 16;
/// Longest block of k when B is read in place row by row: its pages fit the first-level TLB.
const IN_PLACE_DEPTH: usize = 64;
/// Columns of a block when the rows of A are few.
const THIN_COLUMNS: usize = 512;
/// Alignment of the parts of a scratch buffer.
const ALIGN: usize = 64;
/// Multiply-adds that make a task worth handing to another thread.
const TASK_WORK: usize = 1 << 16;

/// B as the driver sees it.
pub(crate) enum Panels<'a, B> {
    /// All panels over all k.
    Packed(&'a [B]),
    /// Not packed yet.
    Loose(Matrix<'a, B>),
}

/// One product to compute.
pub(crate) struct Product<'a, M: MicroKernel, F> {
    pub a: Matrix<'a, F>,
    pub b: Panels<'a, M::B>,
    pub columns: usize,
    pub epilogue: Option<&'a Epilogue<'a, M::C>>,
}

/// Bytes of scratch that one thread needs at most.
pub(crate) fn thread_scratch(
    shape: PanelShape,
    [rows, columns, depth]: [usize; 3],
    b_element: Option<usize>,
    a_element: Option<usize>,
) -> usize {
    let panel = shape.columns * DEPTH.min(depth).next_multiple_of(shape.group);
    let b = b_element.map_or(0, |bytes| {
        let whole = shape.length(depth, columns).and_then(|l| l.checked_mul(bytes));
        whole.unwrap_or(usize::MAX).min(B_BLOCK).max(panel * bytes)
    });
    let a = a_element.map_or(0, |bytes| A_ROWS.min(rows) * (DEPTH.min(depth) + A_PADDING) * bytes);
    b.next_multiple_of(ALIGN) + a.next_multiple_of(ALIGN)
}

/// The product with its blocking, shared by the tasks.
struct Plan<'a, M: MicroKernel, F> {
    context: Context<'a>,
    product: Product<'a, M, F>,
    table: Table<M>,
    shape: PanelShape,
    depth: usize,
    depth_block: usize,
    column_block: usize,
    pack_a: bool,
    b_in_place: bool,
    c: SharedSlice<'a, M::C>,
    c_row: usize,
}

/// Computes the product on the context's threads.
///
/// # Errors
/// When the scratch is too small or misaligned.
pub(crate) fn run<'a, M: MicroKernel, F: Feeds<M::A>>(
    context: Context<'a>,
    product: Product<'a, M, F>,
    c: MatrixMut<'a, M::C>,
    scratch: &mut [u8],
) -> Result<(), KernelError> {
    let [rows, columns, depth] = [product.a.rows(), product.columns, product.a.columns()];
    if rows == 0 || columns == 0 {
        return Ok(());
    }
    let table = M::table(context.level());
    let shape = PanelShape { columns: table.columns, group: M::GROUP };
    let pack_a = !F::SAME || (depth > 1 && product.a.column_stride() != 1);
    let loose = matches!(product.b, Panels::Loose(_));
    let threads = context.pool().threads();
    let per_thread = thread_scratch(
        shape,
        [rows, columns, depth],
        loose.then_some(size_of::<M::B>()),
        pack_a.then_some(size_of::<M::A>()),
    );
    let needed = per_thread * threads;
    if scratch.len() < needed {
        let found = scratch.len();
        return Err(KernelError::BufferTooSmall { buffer: "gemm scratch", found, expected: needed });
    }
    cast_bytes_mut::<M::B>("gemm scratch", scratch)?;
    cast_bytes_mut::<M::A>("gemm scratch", scratch)?;
    let plan = Plan::new(context, product, table, shape, pack_a, c);
    let grid = grid(rows, columns, depth, threads, shape.columns);
    let scratch = SharedSlice::new(scratch);
    context.pool().run_with_slot(grid[0] * grid[1], |place, index| {
        // SAFETY: a place is held by one task at a time.
        let part = unsafe { scratch.part(place * per_thread, per_thread) };
        let rows = share(rows, grid[0], index % grid[0], 1);
        plan.task(rows, share(columns, grid[1], index / grid[0], shape.columns), part);
    });
    Ok(())
}

/// How many tasks to cut rows and columns into.
fn grid(rows: usize, columns: usize, depth: usize, threads: usize, width: usize) -> [usize; 2] {
    let work = rows.saturating_mul(columns).saturating_mul(depth.max(1));
    if threads == 1 || work < 2 * TASK_WORK {
        return [1, 1];
    }
    let wanted = (threads * 4).min(work / TASK_WORK);
    let by_rows = wanted.min(rows.div_ceil(48));
    let by_columns = wanted.div_ceil(by_rows).min(columns.div_ceil(width));
    [by_rows, by_columns]
}

/// The part `index` of `count` even parts of `0..total`, cut at multiples of `unit`.
fn share(total: usize, count: usize, index: usize, unit: usize) -> Range<usize> {
    let units = total.div_ceil(unit);
    let cut = |i: usize| (units / count * i + (units % count) * i / count) * unit;
    cut(index).min(total)..cut(index + 1).min(total)
}

/// `total` cut into even blocks of at most `longest`, multiples of `unit` except the last.
fn even_block(total: usize, longest: usize, unit: usize) -> usize {
    let longest = (longest / unit * unit).max(unit);
    let count = total.div_ceil(longest).max(1);
    total.div_ceil(count).next_multiple_of(unit).max(unit)
}

impl<'a, M: MicroKernel, F: Feeds<M::A>> Plan<'a, M, F> {
    fn new(
        context: Context<'a>,
        product: Product<'a, M, F>,
        table: Table<M>,
        shape: PanelShape,
        pack_a: bool,
        c: MatrixMut<'a, M::C>,
    ) -> Self {
        let (rows, depth) = (product.a.rows(), product.a.columns());
        let tallest = table.tiles.len();
        let thin = rows <= tallest;
        let in_place = |b: Matrix<'_, M::B>| {
            M::GROUP == 1 && b.column_stride() == 1 && b.row_stride() >= 0 && rows <= 2 * tallest
        };
        let b_in_place = matches!(product.b, Panels::Loose(b) if in_place(b));
        let packed = matches!(product.b, Panels::Packed(_));
        let longest = match (packed && thin && !pack_a, b_in_place) {
            (true, _) => usize::MAX - M::GROUP,
            (_, true) => IN_PLACE_DEPTH,
            _ => DEPTH,
        };
        let depth_block = even_block(depth, longest, M::GROUP);
        let column_block = if b_in_place || (packed && thin) {
            THIN_COLUMNS
        } else {
            let a_is_near = rows * depth_block * size_of::<M::A>() <= NEAR_A;
            let bytes = if packed && a_is_near { PACKED_BLOCK } else { B_BLOCK };
            let fits = bytes / (depth_block * size_of::<M::B>()).max(1);
            (fits / shape.columns * shape.columns).max(shape.columns)
        };
        let c_row = c.row_stride;
        let c = SharedSlice::new(c.data);
        Plan {
            context,
            product,
            table,
            shape,
            depth,
            depth_block,
            column_block,
            pack_a,
            b_in_place,
            c,
            c_row,
        }
    }

    fn task(&self, rows: Range<usize>, columns: Range<usize>, scratch: &mut [u8]) {
        let b_bytes = match (&self.product.b, self.pack_a) {
            (Panels::Packed(_), _) => 0,
            (Panels::Loose(_), false) => scratch.len(),
            (Panels::Loose(_), true) => {
                let a = A_ROWS.min(self.product.a.rows()) * self.a_row_length() * size_of::<M::A>();
                scratch.len() - a.next_multiple_of(ALIGN)
            }
        };
        let (b_scratch, a_scratch) = scratch.split_at_mut(b_bytes);
        let mut buffers = Buffers {
            a: cast_bytes_mut(SCRATCH, a_scratch).expect("parts of the scratch are aligned"),
            b: cast_bytes_mut(SCRATCH, b_scratch).expect("parts of the scratch are aligned"),
        };
        let column_block = even_block(columns.len(), self.column_block, self.shape.columns);
        let blocks = |first: usize| first..columns.end.min(first + column_block);
        for first in columns.clone().step_by(column_block) {
            let mut k = 0;
            loop {
                let ks = k..self.depth.min(k + self.depth_block);
                k = ks.end;
                let next = if k < self.depth { (first, k) } else { (first + column_block, 0) };
                let next = (blocks(next.0), next.1..self.depth.min(next.1 + self.depth_block));
                self.block(rows.clone(), blocks(first), ks, &next, &mut buffers);
                if k == self.depth {
                    break;
                }
            }
        }
    }

    /// What pass `pass` of `passes` over panel `number` of a block asks for: its share of that panel of the
    /// next block.
    fn ahead(
        &self,
        number: usize,
        [pass, passes]: [usize; 2],
        (columns, ks): &(Range<usize>, Range<usize>),
    ) -> Option<Ahead> {
        let column = columns.start + number * self.shape.columns;
        let Panels::Packed(_) = self.product.b else { return None };
        if column >= columns.end || passes < PASSES_AHEAD {
            return None;
        }
        let (panel, _) = self.panel(column, columns, ks, &[]);
        let bytes = ks.len() * self.shape.columns * size_of::<M::B>();
        let part = bytes.div_ceil(passes);
        let step = part.div_ceil(self.depth_block).min(64);
        Some(Ahead { from: panel.cast::<u8>().wrapping_add(pass * part), step })
    }

    fn a_row_length(&self) -> usize {
        DEPTH.min(self.depth) + A_PADDING
    }

    /// One block of k and columns, over all rows of the task.
    fn block(
        &self,
        rows: Range<usize>,
        columns: Range<usize>,
        ks: Range<usize>,
        next: &(Range<usize>, Range<usize>),
        buffers: &mut Buffers<'_, M>,
    ) {
        self.pack_block(&columns, &ks, buffers.b);
        let passes = rows.len().div_ceil(self.table.tiles.len());
        let mut pass = 0;
        let group = if self.pack_a { A_ROWS.min(self.product.a.rows()) } else { rows.len() };
        for first in rows.clone().step_by(group.max(1)) {
            let group = first..rows.end.min(first + group);
            if self.pack_a {
                let length = self.a_row_length();
                let part = [first, group.len()];
                pack_rows(self.context, self.product.a, part, [ks.start, ks.len()], length, buffers.a);
            }
            let tallest = self.table.tiles.len();
            let count = group.len().div_ceil(tallest);
            for index in 0..count {
                let short = share(group.len(), count, index, 1);
                let short = first + short.start..first + short.end;
                let (a, a_row) = if self.pack_a {
                    let length = self.a_row_length();
                    (buffers.a[(short.start - first) * length..].as_ptr(), length as isize)
                } else {
                    let at = self.product.a.pointer(short.start, ks.start);
                    (at.cast::<M::A>(), self.product.a.row_stride())
                };
                let ahead = |number| self.ahead(number, [pass, passes], next);
                self.rows(short, &columns, &ks, (a, a_row), (buffers.b, &ahead));
                pass += 1;
            }
        }
    }

    /// Packs what the block needs of a loose B: everything, or only the panel that columns in
    /// place would overrun.
    fn pack_block(&self, columns: &Range<usize>, ks: &Range<usize>, packed: &mut [M::B]) {
        let Panels::Loose(b) = self.product.b else { return };
        let width = self.shape.columns;
        let length = ks.len().next_multiple_of(self.shape.group) * width;
        if self.b_in_place {
            let tail = columns.end - columns.len() % width;
            if tail < columns.end {
                pack_panel(self.context, self.shape, b, [ks.start, ks.len()], tail, &mut packed[..length]);
            }
            return;
        }
        for (index, column) in columns.clone().step_by(width).enumerate() {
            let panel = &mut packed[index * length..(index + 1) * length];
            pack_panel(self.context, self.shape, b, [ks.start, ks.len()], column, panel);
        }
    }

    /// The panel of the columns from `column` on and its step from k to k.
    fn panel(
        &self,
        column: usize,
        columns: &Range<usize>,
        ks: &Range<usize>,
        packed: &[M::B],
    ) -> (*const M::B, usize) {
        let width = self.shape.columns;
        let step = width * self.shape.group;
        match self.product.b {
            Panels::Packed(all) => {
                let panel = self.depth.next_multiple_of(self.shape.group) * width;
                let at = column / width * panel + ks.start * width;
                (all.as_ptr().wrapping_add(at), step)
            }
            Panels::Loose(b) if self.b_in_place => {
                if columns.end - column < width {
                    (packed.as_ptr(), step)
                } else {
                    (b.pointer(ks.start, column), b.row_stride() as usize)
                }
            }
            Panels::Loose(_) => {
                let length = ks.len().next_multiple_of(self.shape.group) * width;
                (packed[(column - columns.start) / width * length..].as_ptr(), step)
            }
        }
    }

    /// A short block of rows across the block's columns, then the epilogue if k is exhausted.
    fn rows(
        &self,
        rows: Range<usize>,
        columns: &Range<usize>,
        ks: &Range<usize>,
        (a, a_row): (*const M::A, isize),
        (packed, ahead): (&[M::B], &dyn Fn(usize) -> Option<Ahead>),
    ) {
        let tile_function = self.table.tiles[rows.len() - 1];
        let c = self.c.as_ptr().wrapping_add(rows.start * self.c_row);
        let accumulate = ks.start > 0;
        for (number, column) in columns.clone().step_by(self.shape.columns).enumerate() {
            let (b, b_step) = self.panel(column, columns, ks, packed);
            let c = c.wrapping_add(column);
            let ahead = ahead(number).unwrap_or(Ahead::nothing(a));
            let (depth, c_row) = (ks.len(), self.c_row);
            let mut tile = Tile { depth, a, a_row, b, b_step, c, c_row, accumulate, ahead };
            let valid = self.shape.columns.min(columns.end - column);
            if valid == self.shape.columns {
                // SAFETY: the table fits the processor; A, the panel and C (all columns of the
                // tile lie in this task's block) are valid for the tile.
                unsafe { tile_function(&tile) };
                continue;
            }
            let mut edge = [M::C::default(); MAX_TILE];
            tile = Tile { c: edge.as_mut_ptr(), c_row: self.shape.columns, accumulate: false, ..tile };
            // SAFETY: as above, with C replaced by a buffer for the largest tile.
            unsafe { tile_function(&tile) };
            for (row, sums) in edge.chunks(self.shape.columns).enumerate().take(rows.len()) {
                // SAFETY: these elements of C belong to this task alone.
                let to = unsafe { self.c.part((rows.start + row) * self.c_row + column, valid) };
                merge(to, &sums[..valid], accumulate);
            }
        }
        if ks.end == self.depth
            && let Some(epilogue) = self.product.epilogue
        {
            epilogue(&mut TileMut::new(&self.c, self.c_row, rows, columns.clone()));
        }
    }
}

const SCRATCH: &str = "gemm scratch";

/// Elements of the largest tile of any table.
const MAX_TILE: usize = 12 * 32;

struct Buffers<'a, M: MicroKernel> {
    a: &'a mut [M::A],
    b: &'a mut [M::B],
}

fn merge<T: super::micro::Real>(to: &mut [T], sums: &[T], accumulate: bool) {
    for (to, &sum) in to.iter_mut().zip(sums) {
        *to = if accumulate { to.add(sum) } else { sum };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_cover_without_overlap() {
        for total in [0usize, 1, 5, 64, 1000] {
            for count in [1, 2, 3, 8] {
                for unit in [1, 32] {
                    let mut next = 0;
                    for index in 0..count {
                        let part = share(total, count, index, unit);
                        assert_eq!(part.start, next);
                        assert!(part.start.is_multiple_of(unit) || part.start == total);
                        next = part.end;
                    }
                    assert_eq!(next, total);
                }
            }
        }
    }

    #[test]
    fn blocks_are_even() {
        assert_eq!(even_block(1536, 512, 1), 512);
        assert_eq!(even_block(600, 512, 1), 300);
        assert_eq!(even_block(0, 512, 2), 2);
        assert_eq!(even_block(33, 512, 32), 64);
        assert_eq!(even_block(7, 4, 2), 4);
    }
}
