//! Running sums, products and extremes along one axis of a dense `[outer, extent, inner]` tensor.
//!
//! f32 runs in f64 and rounds each element once, integers wrap, a NaN stays to the end of its row.
//! The order is that of the elements, whatever the threads.

use super::combine::{Combination, Element, Loop, Total, with_combination};
use super::error::check_length;
use super::{Context, KernelError};

/// A scan.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Scan {
    /// What is combined.
    pub running: Combination,
    /// Whether an element leaves itself out.
    pub exclusive: bool,
    /// Whether it runs from the end.
    pub reverse: bool,
}

/// Elements of input that make rows worth handing to a thread.
const PIECE: usize = 16 << 10;
/// Columns of a block.
const COLUMNS: usize = 128;

/// Scans the middle axis.
///
/// # Errors
/// When lengths disagree.
pub fn scan<T: Element>(
    context: Context<'_>,
    scan: Scan,
    [outer, extent, inner]: [usize; 3],
    input: &[T],
    output: &mut [T],
) -> Result<(), KernelError> {
    for (operand, found) in [("input", input.len()), ("output", output.len())] {
        check_length(operand, found, &[outer, extent, inner])?;
    }
    if output.is_empty() {
        return Ok(());
    }
    let block = extent * inner;
    let outers = PIECE.div_ceil(block);
    context.pool().run_pieces(output, outers * block, |index, output| {
        let input = &input[index * outers * block..][..output.len()];
        with_combination(context, scan.running, Lines { scan, extent, inner, input, output });
    });
    Ok(())
}

/// Some outer indices.
struct Lines<'a, T> {
    scan: Scan,
    extent: usize,
    inner: usize,
    input: &'a [T],
    output: &'a mut [T],
}

impl<T: Element> Loop for Lines<'_, T> {
    #[inline(always)]
    fn run(self, running: Combination) {
        let Lines { scan: Scan { exclusive, reverse, .. }, extent, inner, input, output } = self;
        let start = T::Total::start(running);
        let at = |step: usize| if reverse { extent - 1 - step } else { step };
        if inner == 1 {
            for (input, output) in input.chunks(extent).zip(output.chunks_mut(extent)) {
                let mut total = start;
                for step in 0..extent {
                    let before = total;
                    total = before.step(running, input[at(step)].widen());
                    output[at(step)] = T::narrow(if exclusive { before } else { total });
                }
            }
            return;
        }
        for (input, output) in input.chunks(extent * inner).zip(output.chunks_mut(extent * inner)) {
            for first in (0..inner).step_by(COLUMNS) {
                let mut totals = [start; COLUMNS];
                let totals = &mut totals[..COLUMNS.min(inner - first)];
                for step in 0..extent {
                    let place = at(step) * inner + first;
                    let (from, to) =
                        (&input[place..place + totals.len()], &mut output[place..place + totals.len()]);
                    for ((total, &x), to) in totals.iter_mut().zip(from).zip(to) {
                        let before = *total;
                        *total = before.step(running, x.widen());
                        *to = T::narrow(if exclusive { before } else { *total });
                    }
                }
            }
        }
    }
}
