//! Data movement by the width of the element: strided copies, transposes, rows by index, fills.
//!
//! Values are bytes here; elements of 1, 2, 4, 8 and 16 bytes are moved. Any order of axes works;
//! a copy whose innermost axes are exchanged goes through square blocks.

use super::matrix::{Plain, check_reach};
use super::transpose::Transpose;
use super::{Context, KernelError, cast_bytes, cast_bytes_mut};
use crate::pool::SharedSlice;

/// Elements of a copy that are worth handing to another thread.
const PIECE: usize = 32 << 10;
/// Rows and columns of the blocks of a transpose.
const BLOCK: usize = 64;
/// The most axes of a copy.
pub const MAX_AXES: usize = 12;

/// One axis of a copy. Strides count elements.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Axis {
    /// Indices along the axis.
    pub extent: usize,
    /// Step in the source; zero repeats, negative reverses.
    pub from: isize,
    /// Step in the target.
    pub to: usize,
}

/// Copies elements of `width` bytes: the element of `from` at `from_offset` plus the steps goes to
/// the element of `to` at the steps, for every index of the axes (at most [`MAX_AXES`]).
///
/// # Errors
/// When an element would lie outside its buffer, elements of the target overlap, the width is not
/// 1, 2, 4, 8 or 16, or a buffer is not aligned to the width (to 8 for 16).
pub fn copy_strided(
    context: Context<'_>,
    width: usize,
    axes: &[Axis],
    (from, from_offset): (&[u8], usize),
    to: &mut [u8],
) -> Result<(), KernelError> {
    macro_rules! typed {
        ($element:ty) => {{
            let from = cast_bytes::<$element>("copy source", from)?;
            copy_elements(context, axes, (from, from_offset), cast_bytes_mut("copy target", to)?)
        }};
    }
    match width {
        1 => typed!(u8),
        2 => typed!(u16),
        4 => typed!(u32),
        8 => typed!(u64),
        16 => typed!([u64; 2]),
        found => Err(KernelError::Extent { operand: "copy", extent: "width", found, expected: 4 }),
    }
}

/// As [`copy_strided`], for elements of a type.
///
/// # Errors
/// As for [`copy_strided`].
pub fn copy_elements<T: Plain>(
    context: Context<'_>,
    axes: &[Axis],
    (from, from_offset): (&[T], usize),
    to: &mut [T],
) -> Result<(), KernelError> {
    if axes.iter().any(|axis| axis.extent == 0) {
        return Ok(());
    }
    let plan = Plan::new(axes)?;
    let axes = plan.axes();
    let mut reach = [(1, 0); MAX_AXES];
    let mut target_reach = [(1, 0); MAX_AXES];
    for (index, axis) in axes.iter().enumerate() {
        reach[index] = (axis.extent, axis.from);
        target_reach[index] = (axis.extent, isize::try_from(axis.to).unwrap_or(isize::MAX));
    }
    check_reach(from.len(), from_offset, &reach)?;
    check_reach(to.len(), 0, &target_reach)?;
    let copy = Copy { context, from };
    let total: usize = axes.iter().map(|axis| axis.extent).product();
    let wanted = (total / PIECE).min(4 * context.pool().threads()).max(1);
    // The outer axes whose indices become tasks; several neighbours go into one, as runs along the last of these axes.
    let mut outer = 0;
    let mut tasks = 1;
    while tasks < wanted && outer < axes.len() {
        tasks *= axes[outer].extent;
        outer += 1;
    }
    let to = SharedSlice::new(to);
    let group = tasks.div_ceil(wanted);
    let (before, inner) = axes.split_at(outer.saturating_sub(1));
    let along = inner.first().map_or(1, |axis| if outer == 0 { 1 } else { axis.extent });
    context.pool().run(tasks.div_ceil(group), |task| {
        let end = tasks.min((task + 1) * group);
        let mut index = task * group;
        while index < end {
            let run = (along - index % along).min(end - index);
            let mut axes = plan.axes;
            let axes = &mut axes[before.len()..plan.count];
            let [mut rest, mut source, mut target] = [(index / along) as isize, from_offset as isize, 0];
            if outer > 0 {
                source += (index % along) as isize * axes[0].from;
                target += (index % along * axes[0].to) as isize;
                axes[0].extent = run;
            }
            for axis in before.iter().rev() {
                let extent = axis.extent as isize;
                source += rest % extent * axis.from;
                target += rest % extent * axis.to as isize;
                rest /= extent;
            }
            let length = axes.iter().map(|a| (a.extent - 1) * a.to).sum::<usize>() + 1;
            // SAFETY: each stride steps over all that lies inside it (`Plan::new`), so the parts
            // of different outer indices are disjoint.
            let part = unsafe { to.part(target as usize, length) };
            copy.walk(axes, source, part);
            index += run;
        }
    });
    Ok(())
}

/// Axes in an order that suits the target, longest steps first.
struct Plan {
    axes: [Axis; MAX_AXES],
    count: usize,
}

impl Plan {
    /// Sorts the axes, drops those of one index, merges those that continue each other.
    fn new(axes: &[Axis]) -> Result<Plan, KernelError> {
        let empty = Axis { extent: 1, from: 0, to: 0 };
        let mut plan = Plan { axes: [empty; MAX_AXES], count: 0 };
        for &axis in axes.iter().filter(|axis| axis.extent > 1) {
            if plan.count == MAX_AXES {
                let found = axes.len();
                let extent = "number of axes";
                return Err(KernelError::Extent { operand: "copy", extent, found, expected: MAX_AXES });
            }
            plan.axes[plan.count] = axis;
            plan.count += 1;
        }
        plan.axes[..plan.count].sort_by_key(|axis| std::cmp::Reverse(axis.to));
        let mut covered = 1usize;
        for axis in plan.axes[..plan.count].iter().rev() {
            if axis.to < covered {
                let stride = axis.to;
                return Err(KernelError::Overlap { operand: "copy target", stride, columns: covered });
            }
            covered = covered.saturating_add(axis.to.saturating_mul(axis.extent - 1));
        }
        plan.merge();
        Ok(plan)
    }

    fn merge(&mut self) {
        let mut kept = 0;
        for index in 1..self.count {
            let next = self.axes[index];
            let last = &mut self.axes[kept];
            let extent = next.extent as isize;
            let continues = next.to.checked_mul(next.extent) == Some(last.to)
                && next.from.checked_mul(extent) == Some(last.from);
            if continues {
                *last = Axis { extent: last.extent * next.extent, ..next };
            } else {
                kept += 1;
                self.axes[kept] = next;
            }
        }
        self.count = self.count.min(kept + 1);
    }

    fn axes(&self) -> &[Axis] {
        &self.axes[..self.count]
    }
}

struct Copy<'a, T> {
    context: Context<'a>,
    from: &'a [T],
}

impl<T: Plain> Copy<'_, T> {
    /// Copies all indices of the axes.
    fn walk(&self, axes: &[Axis], source: isize, to: &mut [T]) {
        match *axes {
            [] => to[0] = self.from[source as usize],
            [axis] => self.line(axis, source, to),
            [first, second] if second.to == 1 && first.from == 1 && second.from >= 0 => {
                self.transpose(first, second, source, to);
            }
            [first, second, third] if third.to == 1 && first.from == 1 && third.from >= 0 => {
                // The axis that is contiguous in the source goes inside, next to the target's.
                for index in 0..second.extent {
                    let source = source + index as isize * second.from;
                    self.transpose(first, third, source, &mut to[index * second.to..]);
                }
            }
            [axis, ..] => {
                for index in 0..axis.extent {
                    let source = source + index as isize * axis.from;
                    self.walk(&axes[1..], source, &mut to[index * axis.to..]);
                }
            }
        }
    }

    fn line(&self, axis: Axis, source: isize, to: &mut [T]) {
        match (axis.from, axis.to) {
            (1, 1) => {
                let source = source as usize;
                to[..axis.extent].copy_from_slice(&self.from[source..source + axis.extent]);
            }
            (0, 1) => to[..axis.extent].fill(self.from[source as usize]),
            _ => {
                for (index, to) in to.iter_mut().step_by(axis.to).take(axis.extent).enumerate() {
                    *to = self.from[(source + index as isize * axis.from) as usize];
                }
            }
        }
    }

    /// `columns` is contiguous in the source, `rows` in the target.
    fn transpose(&self, columns: Axis, rows: Axis, source: isize, to: &mut [T]) {
        let from_row = rows.from as usize;
        for row in (0..rows.extent).step_by(BLOCK) {
            for column in (0..columns.extent).step_by(BLOCK) {
                let extents = [BLOCK.min(rows.extent - row), BLOCK.min(columns.extent - column)];
                let from = &self.from[source as usize + row * from_row + column..];
                let to = &mut to[column * columns.to + row..];
                let to_row = columns.to;
                self.context.dispatch(Transpose { extents, from, from_row, to, to_row });
            }
        }
    }
}

/// Copies rows of `row_bytes` bytes: row `indices[i]` of `table` to row `i` of `output`.
///
/// # Errors
/// When an index is not a row of the table (then some rows may have been written), or lengths
/// disagree.
pub fn gather_rows<I: std::marker::Copy + Into<i64> + Sync>(
    context: Context<'_>,
    row_bytes: usize,
    table: &[u8],
    indices: &[I],
    output: &mut [u8],
) -> Result<(), KernelError> {
    let expected = indices.len().saturating_mul(row_bytes);
    if output.len() != expected {
        let found = output.len();
        return Err(KernelError::Extent { operand: "output", extent: "bytes", found, expected });
    }
    let extent = table.len().checked_div(row_bytes).unwrap_or(usize::MAX);
    let row = |index: I| usize::try_from(index.into()).ok().filter(|&row| row < extent);
    for (position, &index) in indices.iter().enumerate() {
        if row(index).is_none() {
            return Err(KernelError::Index { index: index.into(), position, extent });
        }
    }
    if row_bytes == 0 {
        return Ok(());
    }
    let rows = (4 * PIECE).div_ceil(row_bytes);
    context.pool().run_pieces(output, rows * row_bytes, |piece, output| {
        let indices = &indices[piece * rows..];
        for (to, &index) in output.chunks_exact_mut(row_bytes).zip(indices) {
            let start = row(index).expect("every index was checked") * row_bytes;
            to.copy_from_slice(&table[start..start + row_bytes]);
        }
    });
    Ok(())
}

/// Sets every element to `value`.
pub fn fill<T: Plain>(context: Context<'_>, value: T, output: &mut [T]) {
    context.pool().run_pieces(output, 4 * PIECE, |_, output| output.fill(value));
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernels::testing::{Noise, at_every_level};
    use crate::pool::Pool;

    /// Random axes: target strides of a random order with gaps, source strides of another.
    fn random_axes(noise: &mut Noise) -> (Vec<Axis>, usize, usize) {
        let count = noise.below(5);
        let extents: Vec<usize> =
            (0..count).map(|_| [0, 1, 2, 3, 5, 17, 33][noise.below(7)].max(noise.below(8))).collect();
        let mut axes: Vec<Axis> = extents.iter().map(|&extent| Axis { extent, from: 0, to: 0 }).collect();
        let mut order: Vec<usize> = (0..count).collect();
        let mut shuffle = |noise: &mut Noise| {
            (1..order.len()).for_each(|i| order.swap(i, noise.below(i + 1)));
            order.clone()
        };
        let (mut reach, mut step) = (1, 1);
        for i in shuffle(noise) {
            step += noise.below(2);
            axes[i].to = step;
            reach += axes[i].extent.saturating_sub(1) * step;
            step *= axes[i].extent.max(1);
        }
        let (mut low, mut high, mut step) = (0isize, 0isize, 1isize);
        for i in shuffle(noise) {
            let sign = [1, 1, 1, 0, -1][noise.below(5)];
            axes[i].from = step * sign;
            let last = (axes[i].extent as isize - 1).max(0) * axes[i].from;
            (low, high) = (low + last.min(0), high + last.max(0));
            step *= axes[i].extent.max(1) as isize;
        }
        let _ = high;
        (axes, low.unsigned_abs(), reach)
    }

    fn check<T: Plain + PartialEq + std::fmt::Debug>(make: fn(u64) -> T) {
        let pool = Pool::new(2).expect("threads start");
        let mut noise = Noise::new(13);
        at_every_level(&pool, |context| {
            for _ in 0..60 {
                let (axes, offset, reach) = random_axes(&mut noise);
                let source_length: usize =
                    axes.iter().map(|a| a.extent.saturating_sub(1) * a.from.unsigned_abs()).sum();
                let from: Vec<T> = (0..=source_length).map(|_| make(noise.bits())).collect();
                let mut to = vec![make(3); reach];
                let mut expected = to.clone();
                copy_elements(context, &axes, (&from, offset), &mut to).expect("the operands are valid");
                let total: usize = axes.iter().map(|a| a.extent).product();
                for index in 0..total {
                    let (mut rest, mut source, mut target) = (index, offset as isize, 0);
                    for axis in &axes {
                        let i = rest % axis.extent;
                        source += i as isize * axis.from;
                        target += i * axis.to;
                        rest /= axis.extent;
                    }
                    expected[target] = from[source as usize];
                }
                assert_eq!(to, expected, "{axes:?}");
            }
        });
    }

    #[test]
    fn strided_copies_match_naive_loops() {
        check(|bits| bits as u8);
        check(|bits| bits as u16);
        check(|bits| bits as u32);
        check(|bits| bits);
        check(|bits| [bits, !bits]);
    }

    #[test]
    fn large_transposes_and_permutations_match() {
        let pool = Pool::new(3).expect("threads start");
        at_every_level(&pool, |context| {
            let (a, b, c) = (37, 130, 75);
            let from: Vec<u32> = (0..a * b * c).map(|i| i as u32).collect();
            // From [a, b, c] to [c, a, b] and to [b, a, c].
            for strides in [[b, 1, a * b], [c, a * c, 1]] {
                let steps = [b * c, c, 1];
                let extents = [a, b, c];
                let axis = |i: usize| Axis { extent: extents[i], from: steps[i] as isize, to: strides[i] };
                let mut to = vec![0u32; from.len()];
                copy_elements(context, &[axis(0), axis(1), axis(2)], (&from, 0), &mut to)
                    .expect("the operands are valid");
                for (index, &x) in from.iter().enumerate() {
                    let place = [index / (b * c), index / c % b, index % c];
                    let at: usize = place.iter().zip(strides).map(|(i, s)| i * s).sum();
                    assert_eq!(to[at], x);
                }
            }
        });
    }

    #[test]
    fn wrong_copies_are_refused() {
        let pool = Pool::inline();
        let context = Context::new(&pool);
        let from = [1u32; 8];
        let mut to = [0u32; 8];
        let mut attempt = |axes: &[Axis], offset| copy_elements(context, axes, (&from, offset), &mut to);
        let axis = |extent, from, to| Axis { extent, from, to };
        assert!(attempt(&[axis(8, 1, 1)], 0).is_ok());
        assert!(matches!(attempt(&[axis(8, 1, 1)], 1), Err(KernelError::OutOfBounds { .. })));
        assert!(matches!(attempt(&[axis(2, -1, 1)], 0), Err(KernelError::OutOfBounds { .. })));
        assert!(matches!(attempt(&[axis(9, 0, 1)], 0), Err(KernelError::OutOfBounds { .. })));
        assert!(matches!(attempt(&[axis(2, 0, 1), axis(2, 0, 1)], 0), Err(KernelError::Overlap { .. })));
        assert!(attempt(&[axis(2, 0, usize::MAX), axis(2, 0, usize::MAX)], 0).is_err());
        let mut bytes = [0u8; 8];
        assert!(copy_strided(context, 3, &[], (&[0; 8], 0), &mut bytes).is_err());
        copy_strided(context, 1, &[axis(8, 0, 1)], (&[7; 1], 0), &mut bytes).expect("the operands are valid");
        assert_eq!(bytes, [7; 8]);
    }

    #[test]
    fn rows_are_gathered_and_bad_indices_refused() {
        let pool = Pool::new(2).expect("threads start");
        let context = Context::new(&pool);
        let table: Vec<u8> = (0..30).collect();
        let mut output = [0; 9];
        gather_rows(context, 3, &table, &[9i64, 0, 4], &mut output).expect("the operands are valid");
        assert_eq!(output, [27, 28, 29, 0, 1, 2, 12, 13, 14]);
        for bad in [10i32, -1] {
            let found = gather_rows(context, 3, &table, &[0, bad, 1], &mut output);
            let expected = KernelError::Index { index: bad.into(), position: 1, extent: 10 };
            assert_eq!(found, Err(expected));
        }
        assert!(gather_rows(context, 3, &table, &[1u32], &mut output).is_err());
        assert!(gather_rows(context, 0, &table, &[1u8], &mut []).is_ok());
        let mut many = vec![0u16; 300_000];
        fill(context, 9, &mut many);
        assert!(many.iter().all(|&x| x == 9));
    }
}
