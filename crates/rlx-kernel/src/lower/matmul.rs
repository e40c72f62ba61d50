//! Batched matrix products.
//!
//! Floats are multiplied by workgroups over tiles in workgroup memory, accumulating in `f32`; integers, and the fewest
//! rows, by one invocation for each result. The tile of results goes through the same memory, so that the epilogue
//! stands once in the kernel and neighbours store neighbours.

use super::emitter::{Emitter, WORKGROUP};
use super::{product, register};
use crate::error::KernelError;
use crate::ir::*;
use rlx_ir::lir::{Anchor, Operand};
use rlx_ir::ops::MatMul;
use rlx_ir::{Dim, Op};

/// Extents of a tile; `rows * columns / (WORKGROUP)` results belong to each invocation.
struct Tile {
    rows: u32,
    columns: u32,
    depth: u32,
    /// Results of an invocation, down and across.
    own: [u32; 2],
}

const LARGE: Tile = Tile { rows: 64, columns: 64, depth: 16, own: [4, 4] };
/// For few rows.
const FLAT: Tile = Tile { rows: 8, columns: 64, depth: 32, own: [1, 2] };

/// How many rows a product has, as far as its kernel depends on it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Rows {
    /// Any number; large tiles.
    Any,
    /// Flat tiles.
    Few,
    /// So few, such as one decoded token, that no tile would be filled: one invocation for each result.
    Fewest,
}

impl Rows {
    /// The largest number that is still so few.
    pub fn most(self) -> i64 {
        match self {
            Rows::Any => i64::MAX,
            Rows::Few => 16,
            Rows::Fewest => 4,
        }
    }

    fn of(rows: i64) -> Rows {
        let fits = [Rows::Fewest, Rows::Few].into_iter().find(|few| rows <= few.most());
        fits.unwrap_or(Rows::Any)
    }
}

/// The rows of a tiled product, where they are known only when it runs.
pub(super) fn varying_rows(anchor: &Anchor) -> Option<Dim> {
    let Op::MatMul(_) = &anchor.op else { return None };
    let tiled = register(anchor.results[0].dtype) == Some(Scalar::F32);
    let shape = &anchor.results[0].shape;
    let rows = &shape[shape.rank() - 2];
    (tiled && rows.as_static().is_none()).then(|| rows.clone())
}

/// One operand as a matrix for each element of the batch.
struct Matrix<'a> {
    operand: &'a Operand,
    /// Extents before the last two.
    lead: Vec<Dim>,
    transposed: bool,
}

impl Matrix<'_> {
    fn new(operand: &Operand, transposed: bool) -> Matrix<'_> {
        let dims = operand.ty().shape.dims().to_vec();
        Matrix { operand, lead: dims[..dims.len() - 2].to_vec(), transposed }
    }

    /// The element at a row and column of the matrix that the product sees.
    fn load(
        &self,
        e: &Emitter<'_>,
        batch: &[Value],
        row: Value,
        column: Value,
    ) -> Result<Value, KernelError> {
        let skipped = batch.len() - self.lead.len();
        let zero = e.b.u32(0);
        let lead = self.lead.iter().zip(&batch[skipped..]);
        let mut coordinates: Vec<Value> = lead.map(|(dim, &at)| if dim.is(1) { zero } else { at }).collect();
        coordinates.extend(if self.transposed { [column, row] } else { [row, column] });
        e.operand(self.operand, &coordinates)
    }

    /// Do neighbours in memory lie in one row?
    fn rows_are_dense(&self) -> bool {
        let strides = match self.operand {
            Operand::View(view) => &view.layout.strides,
            Operand::Region(region) => match region.inputs.first() {
                Some(view) => &view.layout.strides,
                None => return true,
            },
            Operand::Packed { .. } => return true,
        };
        let [.., row, column] = strides.as_slice() else { return true };
        let (row, column) = if self.transposed { (column, row) } else { (row, column) };
        column.is(1) || !row.is(1)
    }
}

pub(super) fn lower(e: &Emitter<'_>, anchor: &Anchor, op: &MatMul, rows: Rows) -> Result<Dim, KernelError> {
    let a = Matrix::new(&anchor.operands[0], op.transpose_a);
    let b = Matrix::new(&anchor.operands[1], op.transpose_b);
    let dims = anchor.results[0].shape.dims().to_vec();
    let shape = anchor.operands[0].ty().shape;
    let depth = shape[shape.rank() - if op.transpose_a { 2 } else { 1 }].clone();
    let ty = e.register(anchor.results[0].dtype)?;
    match dims[dims.len() - 2].as_static().map_or(rows, Rows::of) {
        Rows::Any if ty == Scalar::F32 => tiled(e, [&a, &b], &dims, &depth, &LARGE),
        Rows::Few if ty == Scalar::F32 => tiled(e, [&a, &b], &dims, &depth, &FLAT),
        _ => one_by_one(e, [&a, &b], &dims, &depth, ty),
    }
}

fn one_by_one(
    e: &Emitter<'_>,
    [a, b]: [&Matrix<'_>; 2],
    dims: &[Dim],
    depth: &Dim,
    ty: Scalar,
) -> Result<Dim, KernelError> {
    e.each(dims, |e, id| {
        let coordinates = e.coordinates(id, dims)?;
        let (batch, place) = coordinates.split_at(dims.len() - 2);
        let sum = e.local(e.b.literal(ty, 0));
        e.upto(e.dim(depth)?, |e, k| {
            let product = e.b.mul(a.load(e, batch, place[0], k)?, b.load(e, batch, k, place[1])?);
            e.accumulate(sum, BinaryOp::Add, product);
            Ok(())
        })?;
        e.results(&coordinates, &[e.b.get(sum)])
    })
}

/// Where a workgroup works.
struct Block {
    batch: Vec<Value>,
    /// First row and column of the tile.
    origin: [Value; 2],
    /// Extents of the result and of the sum.
    rows: Value,
    columns: Value,
    depth: Value,
    memory: Place,
    local: Value,
}

fn tiled(
    e: &Emitter<'_>,
    [a, b]: [&Matrix<'_>; 2],
    dims: &[Dim],
    depth: &Dim,
    tile: &Tile,
) -> Result<Dim, KernelError> {
    let (lead, last) = dims.split_at(dims.len() - 2);
    let across = |dim: &Dim, size: u32| dim.ceil_div(&Dim::from(i64::from(size)));
    let (down, across) = (across(&last[0], tile.rows), across(&last[1], tile.columns));
    let grid = [lead, &[down, across]].concat();
    let groups = product(&grid);
    let words = (tile.rows * tile.columns).max((tile.rows + tile.columns) * tile.depth);
    let memory = e.b.array("tile", Scalar::F32, words);
    let group = e.b.linear_group();
    e.when(e.b.lt(group, e.dim(&groups)?), |e| {
        let mut batch = e.coordinates(group, &grid)?;
        let (column, row) = (batch.pop(), batch.pop());
        let zero = e.b.u32(0);
        let scale = |at: Option<Value>, size: u32| e.b.mul(at.unwrap_or(zero), e.b.u32(size));
        let origin = [scale(row, tile.rows), scale(column, tile.columns)];
        let (rows, columns, depth) = (e.dim(&last[0])?, e.dim(&last[1])?, e.dim(depth)?);
        let local = e.b.builtin(Builtin::LocalId(0));
        let block = Block { batch, origin, rows, columns, depth, memory, local };
        let sums = multiply(e, [a, b], &block, tile)?;
        write(e, &block, tile, &sums)
    })?;
    Ok(groups)
}

/// Row and column in its tile of result `(i, j)` of this invocation.
fn own_place(e: &Emitter<'_>, block: &Block, tile: &Tile, i: u32, j: u32) -> [Value; 2] {
    let across = e.b.u32(tile.columns / tile.own[1]);
    let (x, y) = (e.b.binary(BinaryOp::Rem, block.local, across), e.b.div(block.local, across));
    let (down, right) = (e.b.u32(i * (tile.rows / tile.own[0])), e.b.u32(j * (tile.columns / tile.own[1])));
    [e.b.add(y, down), e.b.add(x, right)]
}

/// The sums of this invocation, row by row.
fn multiply(
    e: &Emitter<'_>,
    [a, b]: [&Matrix<'_>; 2],
    block: &Block,
    tile: &Tile,
) -> Result<Vec<VariableId>, KernelError> {
    let [down, across] = tile.own;
    let zero = e.b.f32(0.0);
    let sums: Vec<VariableId> = (0..down * across).map(|_| e.local(zero)).collect();
    let (first, step) = (e.b.u32(0), e.b.u32(tile.depth));
    let second = e.b.u32(tile.rows * tile.depth);
    e.count([first, block.depth, step], |e, start| {
        // The first operand lies by depth, then row; the second by depth, then column.
        let rows = Part { width: tile.rows, width_first: !a.rows_are_dense(), base: first };
        fill(e, block, tile.depth, &rows, |e, k, row| {
            let (row, k) = (e.b.add(block.origin[0], row), e.b.add(start, k));
            e.value_when(both_below(e, [row, k], [block.rows, block.depth]), |e| {
                a.load(e, &block.batch, row, k)
            })
        })?;
        let columns = Part { width: tile.columns, width_first: b.rows_are_dense(), base: second };
        fill(e, block, tile.depth, &columns, |e, k, column| {
            let (k, column) = (e.b.add(start, k), e.b.add(block.origin[1], column));
            let inside = both_below(e, [k, column], [block.depth, block.columns]);
            e.value_when(inside, |e| b.load(e, &block.batch, k, column))
        })?;
        e.b.barrier(Fence::Arrays);
        e.upto(e.b.u32(tile.depth), |e, k| {
            let row_base = e.b.mul(k, e.b.u32(tile.rows));
            let column_base = e.b.add(e.b.mul(k, e.b.u32(tile.columns)), second);
            let at = |base, place| e.b.load(block.memory, e.b.add(base, place));
            let xs: Vec<Value> =
                (0..down).map(|i| at(row_base, own_place(e, block, tile, i, 0)[0])).collect();
            let ys: Vec<Value> =
                (0..across).map(|j| at(column_base, own_place(e, block, tile, 0, j)[1])).collect();
            for (index, &sum) in sums.iter().enumerate() {
                let product = e.b.mul(xs[index / across as usize], ys[index % across as usize]);
                e.accumulate(sum, BinaryOp::Add, product);
            }
            Ok(())
        })?;
        e.b.barrier(Fence::Arrays);
        Ok(())
    })?;
    Ok(sums)
}

fn both_below(e: &Emitter<'_>, at: [Value; 2], limits: [Value; 2]) -> Value {
    e.b.and(e.b.lt(at[0], limits[0]), e.b.lt(at[1], limits[1]))
}

/// The part of the tile memory that one operand fills.
struct Part {
    /// Elements at each depth.
    width: u32,
    /// Do neighbouring invocations take neighbours along the width, or along the depth?
    width_first: bool,
    /// First word.
    base: Value,
}

/// Fills a part with what `load` gives at a depth and a position along the width.
fn fill(
    e: &Emitter<'_>,
    block: &Block,
    depth: u32,
    part: &Part,
    load: impl Fn(&Emitter<'_>, Value, Value) -> Result<Value, KernelError>,
) -> Result<(), KernelError> {
    let (total, step) = (e.b.u32(depth * part.width), e.b.u32(WORKGROUP));
    e.count([block.local, total, step], |e, at| {
        let fast = e.b.u32(if part.width_first { part.width } else { depth });
        let (inner, outer) = (e.b.binary(BinaryOp::Rem, at, fast), e.b.div(at, fast));
        let (k, position) = if part.width_first { (outer, inner) } else { (inner, outer) };
        let value = load(e, k, position)?;
        let target = e.b.add(e.b.mul(k, e.b.u32(part.width)), position);
        e.b.store(block.memory, e.b.add(part.base, target), value);
        Ok(())
    })
}

/// Puts the sums into the tile memory and stores them through the epilogue.
fn write(e: &Emitter<'_>, block: &Block, tile: &Tile, sums: &[VariableId]) -> Result<(), KernelError> {
    let columns = e.b.u32(tile.columns);
    for (index, &sum) in sums.iter().enumerate() {
        let index = index as u32;
        let [row, column] = own_place(e, block, tile, index / tile.own[1], index % tile.own[1]);
        e.b.store(block.memory, e.b.add(e.b.mul(row, columns), column), e.b.get(sum));
    }
    e.b.barrier(Fence::Arrays);
    let (total, step) = (e.b.u32(tile.rows * tile.columns), e.b.u32(WORKGROUP));
    e.count([block.local, total, step], |e, at| {
        let (row, column) = (e.b.div(at, columns), e.b.binary(BinaryOp::Rem, at, columns));
        let (row, column) = (e.b.add(block.origin[0], row), e.b.add(block.origin[1], column));
        e.when(both_below(e, [row, column], [block.rows, block.columns]), |e| {
            let coordinates = [block.batch.as_slice(), &[row, column]].concat();
            e.results(&coordinates, &[e.b.load(block.memory, at)])
        })
    })
}
