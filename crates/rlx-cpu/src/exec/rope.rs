//! Rotary positions: pairs of each head turned by the angle of their row.

use super::index::index_at;
use super::view::BoundView;
use super::work::{Call, Work};
use crate::kernels::{KernelError, cast_bytes, cast_bytes_mut};
use crate::simd::{Kernel, Simd};
use rlx_ir::DType;
use rlx_ir::ops::{Rope, RopeStyle};

/// Elements that make rows worth handing to a thread.
const PIECE: usize = 16 << 10;

/// A rotation with concrete extents, in `f32`.
pub struct RopeStep {
    op: Rope,
    x: BoundView,
    positions: Option<BoundView>,
    /// Rows of the tables.
    rows: usize,
    batched: bool,
}

impl RopeStep {
    /// The kernel for `op`, if its operands lie as it needs them: rows of `x` contiguous, tables
    /// and positions dense.
    pub fn new(op: &Rope, operands: &[BoundView]) -> Option<RopeStep> {
        let [x, cos, sin, rest @ ..] = operands else { return None };
        let floats = [x, cos, sin].iter().all(|view| view.dtype == DType::F32);
        let contiguous = x.strides.last() == Some(&1) || x.dims.last() == Some(&1);
        let dense = [cos, sin].into_iter().chain(rest).all(BoundView::is_dense);
        if !floats || !contiguous || !dense {
            return None;
        }
        let positions = rest.first().cloned();
        let batched = positions.as_ref().map_or(cos.dims.len() == 3, |view| view.dims.len() == 2);
        let rows = cos.dims[..cos.dims.len() - 1].iter().product();
        Some(RopeStep { op: op.clone(), x: x.clone(), positions, rows, batched })
    }

    /// Sequence index and, where tables differ by it, batch of row `row`: the step in the tables
    /// or in the positions.
    fn step(&self, row: usize) -> usize {
        let dims = &self.x.dims;
        let last = dims.len() - 1;
        let inside: usize = dims[self.op.axis + 1..last].iter().product();
        let sequence = dims[self.op.axis];
        let at = row / inside % sequence;
        if !self.batched {
            return at;
        }
        let per_batch: usize = dims[1..last].iter().product();
        row / per_batch * sequence + at
    }

    /// First element of row `row` of `x`.
    fn start(&self, row: usize) -> usize {
        let (mut rest, mut position) = (row, self.x.offset as isize);
        for axis in (0..self.x.dims.len() - 1).rev() {
            position += (rest % self.x.dims[axis]) as isize * self.x.strides[axis];
            rest /= self.x.dims[axis];
        }
        position as usize
    }

    fn rotate(&self, call: Call<'_, '_>) -> Result<Result<(), String>, KernelError> {
        let width = self.x.dims.last().copied().unwrap_or(0);
        let (input, cos, sin): (&[f32], &[f32], &[f32]) = (
            cast_bytes("x", call.reads[0])?,
            cast_bytes("cos", call.reads[1])?,
            cast_bytes("sin", call.reads[2])?,
        );
        if let Some(view) = &self.positions {
            for position in 0..view.len() {
                let row = index_at(view.dtype, call.reads[3], position);
                if usize::try_from(row).ok().is_none_or(|row| row >= self.rows) {
                    let rows = self.rows;
                    return Ok(Err(format!("index {row} at position {position} is outside [0, {rows})")));
                }
            }
        }
        let output: &mut [f32] = cast_bytes_mut("result", call.writes[0])?;
        if output.is_empty() {
            return Ok(Ok(()));
        }
        let half = self.op.n_rot / 2;
        let rows = PIECE.div_ceil(width);
        call.context.pool().run_pieces(output, rows * width, |piece, output| {
            for (index, output) in output.chunks_exact_mut(width).enumerate() {
                let row = piece * rows + index;
                let step = self.step(row);
                let line = match &self.positions {
                    // Checked above.
                    Some(view) => index_at(view.dtype, call.reads[3], step) as usize,
                    None => step,
                };
                call.inline.dispatch(Turn {
                    op: &self.op,
                    cos: &cos[line * half..(line + 1) * half],
                    sin: &sin[line * half..(line + 1) * half],
                    input: &input[self.start(row)..][..width],
                    output,
                });
            }
        });
        Ok(Ok(()))
    }
}

impl Work for RopeStep {
    fn name(&self) -> &'static str {
        "rope"
    }

    fn run(&self, call: Call<'_, '_>) -> Result<(), String> {
        self.rotate(call).map_err(|error| error.to_string())?
    }
}

/// The heads of one row.
struct Turn<'a> {
    op: &'a Rope,
    cos: &'a [f32],
    sin: &'a [f32],
    input: &'a [f32],
    output: &'a mut [f32],
}

impl Kernel for Turn<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, _: S) {
        let Turn { op, cos, sin, input, output } = self;
        let half = cos.len();
        let heads = input.chunks_exact(op.head_dim).zip(output.chunks_exact_mut(op.head_dim));
        for (input, output) in heads {
            let (from, kept) = input.split_at(2 * half);
            let (to, rest) = output.split_at_mut(2 * half);
            rest.copy_from_slice(kept);
            if op.style == RopeStyle::HalfSplit {
                let ((a, b), (c, d)) = (from.split_at(half), to.split_at_mut(half));
                for i in 0..half {
                    c[i] = a[i] * cos[i] - b[i] * sin[i];
                    d[i] = b[i] * cos[i] + a[i] * sin[i];
                }
                continue;
            }
            for (i, (pair, to)) in from.chunks_exact(2).zip(to.chunks_exact_mut(2)).enumerate() {
                let (a, b) = (pair[0], pair[1]);
                to[0] = a * cos[i] - b * sin[i];
                to[1] = b * cos[i] + a * sin[i];
            }
        }
    }
}
