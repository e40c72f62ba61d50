//! Copies of operands in the order in which the microkernels read them.
//!
//! A panel of B holds the columns of one tile: for each group of k, for each column, the group's
//! elements; missing columns and missing k of the last group are zero. The packed form of a whole
//! B is its panels one after the other, each over all k: it depends on the instruction set, never
//! on the rows of A.

use crate::kernels::transpose::Transpose;
use crate::kernels::{Context, Matrix, Plain};

/// How a panel is laid out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct PanelShape {
    /// Columns of a tile.
    pub columns: usize,
    /// Consecutive k side by side.
    pub group: usize,
}

impl PanelShape {
    /// Elements of one panel over `depth` k.
    pub fn panel_length(self, depth: usize) -> Option<usize> {
        depth.checked_next_multiple_of(self.group)?.checked_mul(self.columns)
    }

    /// Elements of all panels of a `depth` by `columns` matrix.
    pub fn length(self, depth: usize, columns: usize) -> Option<usize> {
        self.panel_length(depth)?.checked_mul(columns.div_ceil(self.columns))
    }
}

/// Packs the panel of the columns from `column` on, over `depth` k from `first_k` on.
pub(crate) fn pack_panel<T: Plain>(
    context: Context<'_>,
    shape: PanelShape,
    b: Matrix<'_, T>,
    [first_k, depth]: [usize; 2],
    column: usize,
    panel: &mut [T],
) {
    let valid = shape.columns.min(b.columns() - column);
    let width = shape.columns * shape.group;
    if valid < shape.columns || !depth.is_multiple_of(shape.group) {
        panel.fill(T::default());
    }
    if shape.group == 1 && b.column_stride() == 1 {
        for (k, to) in panel.chunks_exact_mut(width).enumerate().take(depth) {
            let from = b.row_part(first_k + k, column, valid);
            to[..valid].copy_from_slice(from);
        }
        return;
    }
    if shape.group == 1
        && b.row_stride() == 1
        && let Some(from) = b.tail(first_k, column)
    {
        let (extents, from_row) = ([valid, depth], b.column_stride() as usize);
        context.dispatch(Transpose { extents, from, from_row, to: panel, to_row: shape.columns });
        return;
    }
    // Blocks of k keep the part of the panel being written in L1 while columns are walked.
    const BLOCK: usize = 16;
    for start in (0..depth).step_by(BLOCK) {
        let ks = start..depth.min(start + BLOCK);
        for j in 0..valid {
            for k in ks.clone() {
                let at = (k / shape.group) * width + j * shape.group + k % shape.group;
                panel[at] = b.at(first_k + k, column + j);
            }
        }
    }
}

/// An element of A that a microkernel reading `T` can be fed from.
///
/// # Safety
/// `SAME` must be true only if `Self` is `T`.
pub(crate) unsafe trait Feeds<T>: Plain {
    /// Whether the types are the same, so that A can be read in place.
    const SAME: bool;
    /// The converted element.
    fn feed(self) -> T;
}

macro_rules! feeds {
    ($($from:ty => $to:ty, $same:literal, |$x:ident| $convert:expr;)*) => {
        $(
        // SAFETY: the table below says `true` only beside equal types.
        unsafe impl Feeds<$to> for $from {
            const SAME: bool = $same;
            #[inline(always)]
            fn feed(self) -> $to {
                let $x = self;
                $convert
            }
        })*
    };
}

feeds! {
    f32 => f32, true, |x| x;
    f64 => f64, true, |x| x;
    i32 => i32, true, |x| x;
    i64 => i64, true, |x| x;
    half::bf16 => half::bf16, true, |x| x;
    half::bf16 => f32, false, |x| x.to_f32();
    half::f16 => f32, false, |x| x.to_f32();
}

/// Copies `rows` rows of A over `depth` k into dense rows of `row_length` elements.
pub(crate) fn pack_rows<T: Plain, F: Feeds<T>>(
    context: Context<'_>,
    a: Matrix<'_, F>,
    [first_row, rows]: [usize; 2],
    [first_k, depth]: [usize; 2],
    row_length: usize,
    packed: &mut [T],
) {
    if a.column_stride() == 1 {
        for (row, to) in packed.chunks_mut(row_length.max(1)).enumerate().take(rows) {
            let from = a.row_part(first_row + row, first_k, depth);
            for (to, from) in to.iter_mut().zip(from) {
                *to = from.feed();
            }
        }
        return;
    }
    if F::SAME
        && a.row_stride() == 1
        && let Some(from) = a.tail(first_row, first_k)
    {
        // SAFETY: the two types are the same where `SAME` says so.
        let to = unsafe { std::slice::from_raw_parts_mut(packed.as_mut_ptr().cast::<F>(), packed.len()) };
        let (extents, from_row) = ([depth, rows], a.column_stride() as usize);
        context.dispatch(Transpose { extents, from, from_row, to, to_row: row_length });
        return;
    }
    const BLOCK: usize = 16;
    for start in (0..rows).step_by(BLOCK) {
        let block = start..rows.min(start + BLOCK);
        for k in 0..depth {
            for row in block.clone() {
                packed[row * row_length + k] = a.at(first_row + row, first_k + k).feed();
            }
        }
    }
}
