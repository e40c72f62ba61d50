//! What the ops on complex numbers share: their checks and their samples.

use crate::ops::prelude::*;

/// `z` has a complex dtype.
pub(crate) fn check_complex(label: &'static str, z: &TensorType) -> Result<(), Violation> {
    require!(label, z.dtype.is_complex(), "expected c64 or c128, found {}", z.dtype);
    Ok(())
}

/// The type of the parts of the one complex operand.
pub(crate) fn real_like(label: &'static str, operands: &[&TensorType]) -> Inferred {
    check_complex(label, operands[0])?;
    Ok(vec![TensorType::new(operands[0].dtype.real(), operands[0].shape.clone())])
}

/// Samples of an op on one complex operand.
pub(crate) fn complex_samples<O: Clone>(op: O) -> Vec<Sample<O>> {
    let sample = |dtype, dims: &[usize]| Sample::new(op.clone(), [TensorType::new(dtype, dims)]);
    vec![
        sample(DType::C64, &[2, 5]),
        sample(DType::C128, &[3]),
        sample(DType::C64, &[]),
        sample(DType::C128, &[0, 2]),
    ]
}
