//! What the collectives share. Axis 0 counts participants: element `p` along it is what participant `p` holds, so
//! that one process runs all of them, and with an extent of 1 each collective gives its operand.

use crate::ops::prelude::*;

/// `x` has participants and, behind them, `axes`.
pub(crate) fn check_participants(x: &TensorType, axes: &[usize]) -> Result<Dim, Violation> {
    check_addressable("C1", &[x])?;
    require!("C1", x.rank() > 0, "`x` is {x}, which has no axis of participants");
    for &axis in axes {
        let rank = x.rank();
        require!("C2", (1..rank).contains(&axis), "axis {axis} is not in 1 .. {rank}");
    }
    Ok(x.shape[0].clone())
}

/// `x` with `axis` cut into as many parts as there are participants.
pub(crate) fn parted(x: &TensorType, axis: usize) -> Result<TensorType, Violation> {
    let (extent, parts) = (&x.shape[axis], &x.shape[0]);
    let even = !parts.is(0) && extent.modulo(parts).is(0);
    require!("C3", even, "{extent} elements along axis {axis} are no {parts} equal parts");
    with_extent(x, axis, extent.floor_div(parts)).map(|types| types[0].clone())
}

/// The type of `x` with another extent.
pub(crate) fn with_extent(x: &TensorType, axis: usize, extent: Dim) -> Inferred {
    let mut dims = x.shape.dims().to_vec();
    dims[axis] = extent;
    Ok(vec![TensorType::new(x.dtype, dims)])
}

/// `x` with `axis` split in two: `parts`, and what is left for each.
pub(crate) fn split_axis(g: &mut Graph, x: Value, axis: usize, parts: &Dim) -> Value {
    let Some(ty) = g.try_ty(x) else { return Value::POISON };
    let mut dims = ty.shape.dims().to_vec();
    let each = dims[axis].floor_div(parts);
    dims.splice(axis..=axis, [parts.clone(), each]);
    g.reshape(x, dims)
}

/// `x` with `axis` and the one behind it as one.
pub(crate) fn merge_axes(g: &mut Graph, x: Value, axis: usize) -> Value {
    let Some(ty) = g.try_ty(x) else { return Value::POISON };
    let mut dims = ty.shape.dims().to_vec();
    let inner = dims.remove(axis + 1);
    dims[axis] = dims[axis].clone() * inner;
    g.reshape(x, dims)
}

/// Samples of a collective on tensors of one to three axes, one participant or several, in several dtypes.
pub(crate) fn collective_samples<O>(op: impl Fn(usize) -> O) -> Vec<Sample<O>> {
    let cases: [(&[usize], usize, DType); 6] = [
        (&[2, 4], 1, DType::F32),
        (&[3, 2, 6], 2, DType::F64),
        (&[2, 4, 3], 1, DType::BF16),
        (&[1, 3, 5], 2, DType::F32),
        (&[2, 2, 4, 2], 2, DType::I32),
        (&[2, 4, 0], 1, DType::F32),
    ];
    cases
        .into_iter()
        .map(|(dims, axis, dtype)| Sample::new(op(axis), [TensorType::new(dtype, dims)]))
        .collect()
}
