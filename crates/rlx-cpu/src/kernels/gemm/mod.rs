//! Matrix product: `C = A B` or `C += A B`, with an epilogue on finished rows.
//!
//! A and B are read through any strides; C has dense rows. B may be packed once ([`PackedB`]) for
//! the instruction set; a B that is not is packed block by block into the caller's scratch. Batches
//! are loops of the caller. Element types: f32, f64, i32 and i64 (wrapping) with themselves;
//! bf16 and f16 accumulate in f32, and f32 A takes B in either.
//!
//! Each element of C is summed over ascending k in fixed blocks, whatever the number of threads.

mod drive;
pub(crate) mod micro;
mod pack;
#[cfg(test)]
mod tests;

use super::{Context, KernelError, Matrix, MatrixMut, Plain, cast_bytes, cast_bytes_mut};
use crate::pool::SharedSlice;
use crate::simd::SimdLevel;
use drive::{Panels, Product, thread_scratch};
use half::{bf16, f16};
use micro::{BrainWiden, MicroKernel, Straight, tile_columns};
use pack::{PanelShape, pack_panel};
use std::ops::Range;

/// Called with each finished block of C while it is in cache; blocks come from several threads in
/// any order and cover every element once.
pub type Epilogue<'a, C> = dyn Fn(&mut TileMut<'_, C>) + Sync + 'a;

/// A finished block of C.
pub struct TileMut<'a, C> {
    c: &'a SharedSlice<'a, C>,
    row_stride: usize,
    rows: Range<usize>,
    columns: Range<usize>,
}

impl<'a, C> TileMut<'a, C> {
    fn new(c: &'a SharedSlice<'a, C>, row_stride: usize, rows: Range<usize>, columns: Range<usize>) -> Self {
        TileMut { c, row_stride, rows, columns }
    }

    /// The rows of C that the block covers.
    pub fn rows(&self) -> Range<usize> {
        self.rows.clone()
    }

    /// The columns of C that the block covers.
    pub fn columns(&self) -> Range<usize> {
        self.columns.clone()
    }

    /// The block's part of a row of C, named by its index in C.
    pub fn row_mut(&mut self, row: usize) -> &mut [C] {
        assert!(self.rows.contains(&row), "the row lies in the block");
        // SAFETY: the block belongs to the task that made it, and `self` is borrowed for as long
        // as the row.
        unsafe { self.c.part(row * self.row_stride + self.columns.start, self.columns.len()) }
    }
}

/// The right operand.
#[derive(Clone, Copy, Debug)]
pub enum Right<'a, B> {
    /// As it lies in memory; packed on the fly.
    Strided(Matrix<'a, B>),
    /// Packed before.
    Packed(PackedB<'a, B>),
}

impl<B: Plain> Right<'_, B> {
    /// Rows and columns.
    fn extents(&self) -> [usize; 2] {
        match self {
            Right::Strided(b) => [b.rows(), b.columns()],
            Right::Packed(b) => [b.rows, b.columns],
        }
    }
}

/// A right operand in the order in which the kernels of one instruction set read it.
#[derive(Clone, Copy, Debug)]
pub struct PackedB<'a, B> {
    data: &'a [B],
    rows: usize,
    columns: usize,
    shape: PanelShape,
}

impl<'a, B: RightElement> PackedB<'a, B> {
    /// Bytes of the packed form of a `rows` by `columns` matrix (k by n): the columns are rounded
    /// up to a tile. `None` when that overflows.
    pub fn bytes(level: SimdLevel, rows: usize, columns: usize) -> Option<usize> {
        panel_shape::<B>(level).length(rows, columns)?.checked_mul(size_of::<B>())
    }

    /// Packs `b` into `buffer`, on the context's threads. Align the buffer to 64 bytes for speed.
    ///
    /// # Errors
    /// When the buffer is too small or not aligned to `B`.
    pub fn pack(
        context: Context<'_>,
        b: Matrix<'_, B>,
        buffer: &'a mut [u8],
    ) -> Result<PackedB<'a, B>, KernelError> {
        let (rows, columns) = (b.rows(), b.columns());
        let shape = panel_shape::<B>(context.level());
        check_buffer(Self::bytes(context.level(), rows, columns), buffer.len())?;
        let data = cast_bytes_mut::<B>("packed matrix", buffer)?;
        let panel = rows.next_multiple_of(shape.group) * shape.columns;
        let data = &mut data[..panel * columns.div_ceil(shape.columns)];
        context.pool().run_pieces(data, panel, |index, panel| {
            pack_panel(context, shape, b, [0, rows], index * shape.columns, panel);
        });
        Ok(PackedB { data, rows, columns, shape })
    }

    /// Sees a buffer that [`pack`](Self::pack) filled at the same level as packed B.
    ///
    /// # Errors
    /// When the buffer is too small or not aligned to `B`.
    pub fn from_bytes(
        level: SimdLevel,
        [rows, columns]: [usize; 2],
        buffer: &'a [u8],
    ) -> Result<PackedB<'a, B>, KernelError> {
        check_buffer(Self::bytes(level, rows, columns), buffer.len())?;
        let data = cast_bytes::<B>("packed matrix", buffer)?;
        Ok(PackedB { data, rows, columns, shape: panel_shape::<B>(level) })
    }
}

fn check_buffer(expected: Option<usize>, found: usize) -> Result<(), KernelError> {
    let expected = expected.unwrap_or(usize::MAX);
    if found < expected {
        return Err(KernelError::BufferTooSmall { buffer: "packed matrix", found, expected });
    }
    Ok(())
}

fn panel_shape<B: RightElement>(level: SimdLevel) -> PanelShape {
    PanelShape { columns: tile_columns(level, B::ACCUMULATOR_BYTES), group: B::GROUP }
}

/// An element type that B may have.
pub trait RightElement: Plain {
    /// Consecutive k side by side in the packed form.
    #[doc(hidden)]
    const GROUP: usize;
    #[doc(hidden)]
    const ACCUMULATOR_BYTES: usize;
}

macro_rules! right_elements {
    ($($element:ty: $group:literal $bytes:literal),*) => {
        $(impl RightElement for $element {
            const GROUP: usize = $group;
            const ACCUMULATOR_BYTES: usize = $bytes;
        })*
    };
}
right_elements!(f32: 1 4, f16: 1 4, bf16: 2 4, f64: 1 8, i32: 1 4, i64: 1 8);

/// One matrix product.
pub struct Gemm<'a, A: Times<B>, B> {
    /// M by K.
    pub a: Matrix<'a, A>,
    /// K by N.
    pub b: Right<'a, B>,
    /// M by N.
    pub c: MatrixMut<'a, A::Output>,
    /// What to do with finished rows.
    pub epilogue: Option<&'a Epilogue<'a, A::Output>>,
    /// At least [`scratch_bytes`] bytes.
    pub scratch: &'a mut [u8],
}

/// Element types that can be multiplied.
pub trait Times<B>: Plain {
    /// The element of the result, which is also the accumulator.
    type Output: Plain;

    /// Whether A of this type is read in place when its columns are contiguous.
    #[doc(hidden)]
    fn reads_in_place(level: SimdLevel) -> bool;

    #[doc(hidden)]
    fn multiply<'a>(context: Context<'a>, gemm: Gemm<'a, Self, B>) -> Result<(), KernelError>;
}

macro_rules! times {
    ($($a:ty, $b:ty => $c:ty, $kernel:ty, $in_place:literal;)*) => {
        $(impl Times<$b> for $a {
            type Output = $c;

            fn reads_in_place(_: SimdLevel) -> bool {
                $in_place
            }

            fn multiply<'a>(context: Context<'a>, gemm: Gemm<'a, $a, $b>) -> Result<(), KernelError> {
                drive_with::<$kernel, $a>(context, gemm)
            }
        })*
    };
}

times! {
    f32, f32 => f32, Straight<f32, f32>, true;
    f32, f16 => f32, Straight<f32, f16>, true;
    f32, bf16 => f32, BrainWiden, true;
    f16, f16 => f32, Straight<f32, f16>, false;
    f64, f64 => f64, Straight<f64, f64>, true;
    i32, i32 => i32, Straight<i32, i32>, true;
    i64, i64 => i64, Straight<i64, i64>, true;
}

impl Times<bf16> for bf16 {
    type Output = f32;

    fn reads_in_place(level: SimdLevel) -> bool {
        level == SimdLevel::Avx512Brain
    }

    fn multiply<'a>(context: Context<'a>, gemm: Gemm<'a, bf16, bf16>) -> Result<(), KernelError> {
        #[cfg(target_arch = "x86_64")]
        if context.level() == SimdLevel::Avx512Brain {
            return drive_with::<micro::BrainDot, bf16>(context, gemm);
        }
        drive_with::<BrainWiden, bf16>(context, gemm)
    }
}

/// How the operands of a product will lie, as far as it decides the scratch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Layout {
    /// Whether the columns of A are contiguous (a column stride of one).
    pub a_contiguous: bool,
    /// Whether B is packed.
    pub b_packed: bool,
}

/// Bytes of scratch for a product of `[M, N, K]` on `threads` threads; never less for larger
/// extents.
pub fn scratch_bytes<A: Times<B>, B: RightElement>(
    level: SimdLevel,
    threads: usize,
    extents: [usize; 3],
    layout: Layout,
) -> usize {
    let copies_a = !(layout.a_contiguous && A::reads_in_place(level));
    let a = copies_a.then_some(size_of::<A>().max(size_of::<A::Output>()));
    let b = (!layout.b_packed).then_some(size_of::<B>());
    thread_scratch(panel_shape::<B>(level), extents, b, a) * threads
}

/// Computes `C = A B` or `C += A B`.
///
/// # Errors
/// When extents disagree, the scratch is too small, or B was packed for another instruction set.
pub fn gemm<'a, A: Times<B>, B: RightElement>(
    context: Context<'a>,
    gemm: Gemm<'a, A, B>,
) -> Result<(), KernelError> {
    let [k, n] = gemm.b.extents();
    let check = |operand, extent, found, expected| {
        let wrong = KernelError::Extent { operand, extent, found, expected };
        if found == expected { Ok(()) } else { Err(wrong) }
    };
    check("b", "rows", k, gemm.a.columns())?;
    check("c", "rows", gemm.c.rows, gemm.a.rows())?;
    check("c", "columns", gemm.c.columns, n)?;
    if let Right::Packed(b) = &gemm.b {
        let expected = panel_shape::<B>(context.level());
        check("packed b", "tile width", b.shape.columns, expected.columns)?;
    }
    A::multiply(context, gemm)
}

fn drive_with<M: MicroKernel, A>(context: Context<'_>, gemm: Gemm<'_, A, M::B>) -> Result<(), KernelError>
where
    A: Times<M::B, Output = M::C> + pack::Feeds<M::A>,
    M::B: RightElement,
{
    let [_, columns] = gemm.b.extents();
    let b = match gemm.b {
        Right::Strided(b) => Panels::Loose(b),
        Right::Packed(b) => Panels::Packed(b.data),
    };
    let Gemm { a, c, epilogue, scratch, .. } = gemm;
    drive::run::<M, A>(context, Product { a, b, columns, epilogue }, c, scratch)
}
