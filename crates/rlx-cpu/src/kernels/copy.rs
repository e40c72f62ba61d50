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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pool::Pool;

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
}
