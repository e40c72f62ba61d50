//! The microkernels: one tile of C, a few rows by two vectors, in registers.
//!
//! A tile reads rows of A that are contiguous along k, and a panel of B: for each k, the columns
//! of two vectors side by side. Each element of C is summed over ascending k with one accumulator,
//! so its bits depend neither on the tile's height nor on its place.

use crate::kernels::Plain;
use crate::simd::{Float32, Int32, Kernel, Simd, SimdLevel, Vector, prefetch};
use half::{bf16, f16};
use std::marker::PhantomData;

/// Tiles of so few rows wait for B rather than for arithmetic, and ask for it ahead.
const PREFETCH_ROWS: usize = 8;
/// How many k ahead of its use a panel of B is asked for.
const PREFETCH_STEPS: usize = 24;
/// Vectors side by side in a tile.
const VECTORS: usize = 2;

/// One tile to compute. Strides count elements.
pub(crate) struct Tile<A, B, C> {
    /// Length of the sums.
    pub depth: usize,
    /// First row of A, contiguous along k.
    pub a: *const A,
    /// From one row of A to the next.
    pub a_row: isize,
    /// First k of the panel of B.
    pub b: *const B,
    /// From one k (or group of k) of B to the next.
    pub b_step: usize,
    /// First element of C.
    pub c: *mut C,
    /// From one row of C to the next.
    pub c_row: usize,
    /// Whether to add to C rather than overwrite it.
    pub accumulate: bool,
    /// What a tall tile asks for on the way, for tiles to come.
    pub ahead: Ahead,
}

/// Memory to ask for: an address, and the bytes to move on with every k. Any address is fine.
#[derive(Clone, Copy)]
pub(crate) struct Ahead {
    pub from: *const u8,
    pub step: usize,
}

impl Ahead {
    /// Nothing to ask for; `hot` is memory that is near anyway.
    pub fn nothing<T>(hot: *const T) -> Ahead {
        Ahead { from: hot.cast(), step: 0 }
    }
}

/// Computes one tile.
///
/// # Safety
/// The processor has the function's instructions; `a` is valid for reading the tile's rows by
/// `depth`, `b` for `depth` steps of two vectors, `c` for writing the rows by two vectors.
pub(crate) type TileFn<M> =
    unsafe fn(&Tile<<M as MicroKernel>::A, <M as MicroKernel>::B, <M as MicroKernel>::C>);

/// The microkernels of one instruction set.
pub(crate) struct Table<M: MicroKernel> {
    /// Columns of a tile.
    pub columns: usize,
    /// The tile functions; the one at index `i` computes `i + 1` rows.
    pub tiles: &'static [TileFn<M>],
}

impl Table<Straight<f32, f32>> {
    /// Computes a tile of `rows` rows (at most the table's tallest) on checked slices:
    /// `c = a b` or `c += a b` with `a` of `depth` columns and `b` of `depth` rows.
    pub fn run(
        &self,
        [rows, depth]: [usize; 2],
        (a, a_row): (&[f32], usize),
        (b, b_step): (&[f32], usize),
        (c, c_row): (&mut [f32], usize),
        accumulate: bool,
    ) {
        let reach = |count: usize, step: usize, last: usize| match count {
            0 => 0,
            _ => (count - 1) * step + last,
        };
        assert!(rows >= 1 && rows <= self.tiles.len(), "a tile of this height exists");
        assert!(reach(rows, a_row, depth) <= a.len(), "the rows of A lie in the slice");
        assert!(reach(depth, b_step, self.columns) <= b.len(), "the panel lies in the slice");
        assert!(reach(rows, c_row, self.columns) <= c.len(), "the tile of C lies in the slice");
        let (a, b, c) = (a.as_ptr(), b.as_ptr(), c.as_mut_ptr());
        let ahead = Ahead::nothing(a);
        let tile = Tile { depth, a, a_row: a_row as isize, b, b_step, c, c_row, accumulate, ahead };
        // SAFETY: the operands were just checked, and tables are made for this processor.
        unsafe { self.tiles[rows - 1](&tile) }
    }
}

/// What is multiplied and how: element types and the order of B inside a panel.
pub(crate) trait MicroKernel: Send + Sync + 'static + Sized {
    /// Element of A as the tile reads it.
    type A: Plain;
    /// Element of B as the panel stores it.
    type B: Plain;
    /// Element of C, the accumulator.
    type C: Real;
    /// Consecutive k that a panel stores side by side for each column.
    const GROUP: usize;

    /// The functions for `level`.
    fn table(level: SimdLevel) -> Table<Self>;
}

/// A microkernel whose code is the same for every instruction set.
trait Generic: MicroKernel {
    /// # Safety
    /// As for [`TileFn`].
    unsafe fn tile<S: Simd, const ROWS: usize>(simd: S, tile: &Tile<Self::A, Self::B, Self::C>);
}

/// An accumulator type with vectors on every instruction set.
pub(crate) trait Real: Plain {
    /// Its vector.
    type V<S: Simd>: Vector<S, Elem = Self>;
    /// The sum, wrapping for integers.
    fn add(self, other: Self) -> Self;
}

macro_rules! reals {
    ($($name:ident $vector:ident |$a:ident, $b:ident| $add:expr;)*) => {
        $(impl Real for $name {
            type V<S: Simd> = S::$vector;
            #[inline(always)]
            fn add(self, other: Self) -> Self {
                let ($a, $b) = (self, other);
                $add
            }
        })*
    };
}
reals! {
    f32 F32 |a, b| a + b;
    f64 F64 |a, b| a + b;
    i32 I32 |a, b| a.wrapping_add(b);
    i64 I64 |a, b| a.wrapping_add(b);
}

/// An element of B that widens to the accumulator when it is loaded.
pub(crate) trait Widens<T: Real>: Plain {
    /// # Safety
    /// `from` is valid for reading one vector's lanes.
    unsafe fn load<S: Simd>(simd: S, from: *const Self) -> T::V<S>;
}

impl<T: Real> Widens<T> for T {
    #[inline(always)]
    unsafe fn load<S: Simd>(simd: S, from: *const T) -> T::V<S> {
        // SAFETY: the caller vouches for the memory.
        unsafe { T::V::<S>::load(simd, from) }
    }
}

impl Widens<f32> for f16 {
    #[inline(always)]
    unsafe fn load<S: Simd>(simd: S, from: *const f16) -> S::F32 {
        // SAFETY: the caller vouches for the memory; f16 is its 16 bits.
        unsafe { S::F32::load_f16(simd, from.cast()) }
    }
}

/// A of the accumulator's type, B of a type that widens to it, one k after the other.
pub(crate) struct Straight<T, B>(PhantomData<(T, B)>);

impl<T: Real, B: Widens<T>> MicroKernel for Straight<T, B> {
    type A = T;
    type B = B;
    type C = T;
    const GROUP: usize = 1;

    fn table(level: SimdLevel) -> Table<Self> {
        standard_table(level)
    }
}

impl<T: Real, B: Widens<T>> Generic for Straight<T, B> {
    #[inline(always)]
    unsafe fn tile<S: Simd, const ROWS: usize>(simd: S, tile: &Tile<T, B, T>) {
        let mut sums = [[T::V::<S>::splat(simd, T::default()); VECTORS]; ROWS];
        let lanes = T::V::<S>::LANES;
        let mut b = tile.b;
        for k in 0..tile.depth {
            ask_ahead::<_, ROWS>(b, tile.b_step, lanes, (tile.ahead, k));
            // SAFETY: the panel has `depth` steps of two vectors.
            let left = unsafe { B::load(simd, b) };
            // SAFETY: as above.
            let right = unsafe { B::load(simd, b.wrapping_add(lanes)) };
            for (row, sum) in sums.iter_mut().enumerate() {
                // SAFETY: the row of A has `depth` elements.
                let x = unsafe { *row_pointer(tile, row).wrapping_add(k) };
                let x = T::V::<S>::splat(simd, x);
                sum[0] = x.mul_add(left, sum[0]);
                sum[1] = x.mul_add(right, sum[1]);
            }
            b = b.wrapping_add(tile.b_step);
        }
        // SAFETY: the caller vouches for C.
        unsafe { write_tile::<S, T, _, _, ROWS>(simd, tile, &sums) }
    }
}

/// A and B in bf16, pairs of k side by side, summed by the processor's dot product of pairs (which
/// treats subnormal numbers as zero).
#[cfg(target_arch = "x86_64")]
pub(crate) struct BrainDot;

#[cfg(target_arch = "x86_64")]
impl MicroKernel for BrainDot {
    type A = bf16;
    type B = bf16;
    type C = f32;
    const GROUP: usize = 2;

    fn table(_: SimdLevel) -> Table<Self> {
        macro_rules! heights {
            ($($rows:literal)*) => { &[$(dot_tile::<$rows>),*] };
        }
        Table { columns: VECTORS * 16, tiles: heights!(1 2 3 4 5 6 7 8 9 10 11 12) }
    }
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512bf16,avx2,fma,f16c")]
unsafe fn dot_tile<const ROWS: usize>(tile: &Tile<bf16, bf16, f32>) {
    use crate::simd::Avx512;
    type Floats = <Avx512 as Simd>::F32;
    type Pairs = <Avx512 as Simd>::I32;
    // SAFETY: this function's features include the token's.
    let simd = unsafe { Avx512::assume() };
    let mut sums = [[Floats::splat(simd, 0.0); VECTORS]; ROWS];
    let mut b: *const i32 = tile.b.cast();
    macro_rules! step {
        ($k:expr, $pair:ty) => {
            // SAFETY: the panel has `depth` rounded up to pairs of two vectors.
            let left = unsafe { Pairs::load(simd, b) };
            // SAFETY: as above.
            let right = unsafe { Pairs::load(simd, b.wrapping_add(16)) };
            for (row, sum) in sums.iter_mut().enumerate() {
                let at: *const $pair = row_pointer(tile, row).wrapping_add($k).cast();
                // SAFETY: the row has as many elements left.
                let pair = i32::from(unsafe { at.read_unaligned() });
                let pair = Pairs::splat(simd, pair);
                // SAFETY: this function's features include the instruction.
                sum[0] = unsafe { sum[0].add_bf16_dot(pair, left) };
                // SAFETY: as above.
                sum[1] = unsafe { sum[1].add_bf16_dot(pair, right) };
            }
        };
    }
    for pair in 0..tile.depth / 2 {
        step!(2 * pair, i32);
        b = b.wrapping_add(tile.b_step / 2);
    }
    if tile.depth % 2 == 1 {
        // The missing element becomes zero in the upper half, as it is in the panel.
        step!(tile.depth - 1, u16);
    }
    // SAFETY: the caller vouches for C.
    unsafe { write_tile::<Avx512, f32, _, _, ROWS>(simd, tile, &sums) }
}

/// A in f32, B in bf16 with pairs of k side by side: one load yields the columns of two k.
pub(crate) struct BrainWiden;

impl MicroKernel for BrainWiden {
    type A = f32;
    type B = bf16;
    type C = f32;
    const GROUP: usize = 2;

    fn table(level: SimdLevel) -> Table<Self> {
        standard_table(level)
    }
}

impl Generic for BrainWiden {
    #[inline(always)]
    unsafe fn tile<S: Simd, const ROWS: usize>(simd: S, tile: &Tile<f32, bf16, f32>) {
        let mut sums = [[S::F32::splat(simd, 0.0); VECTORS]; ROWS];
        let lanes = S::F32::LANES;
        let high = S::I32::splat(simd, -0x1_0000);
        let mut b: *const i32 = tile.b.cast();
        for k in (0..tile.depth).step_by(2) {
            ask_ahead::<_, ROWS>(b, tile.b_step / 2, lanes, (tile.ahead, k));
            // SAFETY: the panel has `depth` rounded up to pairs of two vectors.
            let left = unsafe { S::I32::load(simd, b) };
            // SAFETY: as above.
            let right = unsafe { S::I32::load(simd, b.wrapping_add(lanes)) };
            let even = [widen_low::<S>(left), widen_low::<S>(right)];
            let odd = [S::F32::from_bits(left & high), S::F32::from_bits(right & high)];
            // SAFETY: `k` is below the depth of the rows of A.
            unsafe { add_products::<S, ROWS>(simd, tile, k, even, &mut sums) };
            if k + 1 < tile.depth {
                // SAFETY: as above for `k + 1`.
                unsafe { add_products::<S, ROWS>(simd, tile, k + 1, odd, &mut sums) };
            }
            b = b.wrapping_add(tile.b_step / 2);
        }
        // SAFETY: the caller vouches for C.
        unsafe { write_tile::<S, f32, _, _, ROWS>(simd, tile, &sums) }
    }
}

#[inline(always)]
fn widen_low<S: Simd>(pairs: S::I32) -> S::F32 {
    S::F32::from_bits(pairs.shift_left(16))
}

#[inline(always)]
unsafe fn add_products<S: Simd, const ROWS: usize>(
    simd: S,
    tile: &Tile<f32, bf16, f32>,
    k: usize,
    b: [S::F32; VECTORS],
    sums: &mut [[S::F32; VECTORS]; ROWS],
) {
    for (row, sum) in sums.iter_mut().enumerate() {
        // SAFETY: the caller keeps `k` below the depth of the row.
        let x = unsafe { *row_pointer(tile, row).wrapping_add(k) };
        let x = S::F32::splat(simd, x);
        sum[0] = x.mul_add(b[0], sum[0]);
        sum[1] = x.mul_add(b[1], sum[1]);
    }
}

/// Asks for the two vectors of a later step of a thin tile's panel, or for what a tall tile has ahead at
/// step `k`.
#[inline(always)]
fn ask_ahead<T, const ROWS: usize>(b: *const T, step: usize, lanes: usize, (ahead, k): (Ahead, usize)) {
    if ROWS <= PREFETCH_ROWS {
        let ahead = b.wrapping_add(PREFETCH_STEPS * step);
        prefetch(ahead);
        prefetch(ahead.wrapping_add(lanes));
    } else {
        prefetch(ahead.from.wrapping_add(k * ahead.step));
    }
}

#[inline(always)]
fn row_pointer<A, B, C>(tile: &Tile<A, B, C>, row: usize) -> *const A {
    tile.a.wrapping_offset(row as isize * tile.a_row)
}

/// # Safety
/// `tile.c` is valid for `ROWS` rows of two vectors.
#[inline(always)]
unsafe fn write_tile<S: Simd, T: Real, A, B, const ROWS: usize>(
    simd: S,
    tile: &Tile<A, B, T>,
    sums: &[[T::V<S>; VECTORS]; ROWS],
) {
    for (row, sum) in sums.iter().enumerate() {
        for (vector, &sum) in sum.iter().enumerate() {
            let at = tile.c.wrapping_add(row * tile.c_row + vector * T::V::<S>::LANES);
            let mut value = sum;
            if tile.accumulate {
                // SAFETY: the caller vouches for C.
                value = unsafe { T::V::<S>::load(simd, at) }.plus(sum);
            }
            // SAFETY: the caller vouches for C.
            unsafe { value.store(at) };
        }
    }
}

struct RunTile<'a, M: Generic, const ROWS: usize>(&'a Tile<M::A, M::B, M::C>);

impl<M: Generic, const ROWS: usize> Kernel for RunTile<'_, M, ROWS> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, simd: S) {
        // SAFETY: `enter_tile`, the only maker of this struct, passes on its caller's promises.
        unsafe { M::tile::<S, ROWS>(simd, self.0) }
    }
}

unsafe fn enter_tile<S: Simd, M: Generic, const ROWS: usize>(tile: &Tile<M::A, M::B, M::C>) {
    // SAFETY: the caller promises the instructions.
    let simd = unsafe { S::assume() };
    simd.run(RunTile::<M, ROWS>(tile));
}

macro_rules! tiles {
    ($simd:ty, $kernel:ty: $($rows:literal)*) => {
        &[$(enter_tile::<$simd, $kernel, $rows>),*]
    };
}

/// Columns of a tile whose accumulator takes `bytes` bytes.
pub(crate) const fn tile_columns(level: SimdLevel, bytes: usize) -> usize {
    match level {
        SimdLevel::Portable => VECTORS * 4,
        SimdLevel::Avx2 => VECTORS * 32 / bytes,
        _ => VECTORS * 64 / bytes,
    }
}

/// Tile heights follow the number of vector registers: 32, 16, and the target's own.
fn standard_table<M: Generic>(level: SimdLevel) -> Table<M> {
    let columns = tile_columns(level, size_of::<M::C>());
    let tiles: &'static [TileFn<M>] = match level {
        #[cfg(target_arch = "x86_64")]
        SimdLevel::Avx512 | SimdLevel::Avx512Dot | SimdLevel::Avx512Brain => {
            tiles!(crate::simd::Avx512, M: 1 2 3 4 5 6 7 8 9 10 11 12)
        }
        #[cfg(target_arch = "x86_64")]
        SimdLevel::Avx2 => tiles!(crate::simd::Avx2, M: 1 2 3 4 5 6),
        #[cfg(target_arch = "aarch64")]
        _ => tiles!(crate::simd::Portable, M: 1 2 3 4 5 6 7 8),
        #[cfg(not(target_arch = "aarch64"))]
        _ => tiles!(crate::simd::Portable, M: 1 2 3 4),
    };
    Table { columns, tiles }
}
