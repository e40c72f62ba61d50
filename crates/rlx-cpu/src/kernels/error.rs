//! Why a kernel refuses its operands.

use crate::simd::SimdLevel;

/// A call that no kernel can honour; nothing was written.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum KernelError {
    /// The processor lacks the instruction set.
    #[error("simd level {level:?} is not available on this processor; use SimdLevel::detect()")]
    LevelMissing {
        /// The level asked for.
        level: SimdLevel,
    },
    /// A view reaches outside its slice.
    #[error("{operand}: the view reaches element {reach} of a slice of {length}")]
    OutOfBounds {
        /// The operand's name.
        operand: &'static str,
        /// The first offending element index (negative when before the slice).
        reach: isize,
        /// Elements in the slice.
        length: usize,
    },
    /// Two operands disagree on an extent.
    #[error("{operand}: {extent} is {found}, expected {expected}")]
    Extent {
        /// The operand's name.
        operand: &'static str,
        /// The extent's name.
        extent: &'static str,
        /// What was passed.
        found: usize,
        /// What the other operands imply.
        expected: usize,
    },
    /// A buffer is too small.
    #[error("{buffer}: found {found} bytes, expected at least {expected}")]
    BufferTooSmall {
        /// The buffer's name.
        buffer: &'static str,
        /// Bytes passed.
        found: usize,
        /// Bytes needed.
        expected: usize,
    },
    /// A byte buffer is not aligned to its elements.
    #[error("{buffer}: the address must be a multiple of {align}; allocate it aligned to 64 bytes")]
    Misaligned {
        /// The buffer's name.
        buffer: &'static str,
        /// The alignment needed.
        align: usize,
    },
    /// Rows of an output overlap.
    #[error("{operand}: a row stride of {stride} is less than the {columns} columns of a row")]
    Overlap {
        /// The operand's name.
        operand: &'static str,
        /// Elements from row to row.
        stride: usize,
        /// Elements in a row.
        columns: usize,
    },
}

/// Checks that `operand` has as many elements as `extents` say; a product beyond `usize` fits no slice.
pub(super) fn check_length(
    operand: &'static str,
    found: usize,
    extents: &[usize],
) -> Result<(), KernelError> {
    let expected = extents.iter().try_fold(1usize, |product, &extent| product.checked_mul(extent));
    let expected = expected.unwrap_or(usize::MAX);
    if found == expected {
        return Ok(());
    }
    Err(KernelError::Extent { operand, extent: "length", found, expected })
}
