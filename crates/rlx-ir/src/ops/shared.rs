//! Constraints and small computations that several ops share.

use crate::ops::prelude::*;

/// All operands have one dtype.
pub fn same_dtype(label: &'static str, operands: &[&TensorType]) -> Result<(), Violation> {
    match operands.iter().find(|ty| ty.dtype != operands[0].dtype) {
        Some(other) => Err(Violation {
            constraint: label,
            message: format!(
                "operand dtypes differ: {} and {}; cast one of them",
                operands[0].dtype, other.dtype
            ),
        }),
        None => Ok(()),
    }
}

/// NumPy broadcast of all operand shapes.
pub fn broadcast_shapes(label: &'static str, operands: &[&TensorType]) -> Result<Shape, Violation> {
    let mut shape = Shape::scalar();
    for operand in operands {
        shape = shape.broadcast(&operand.shape).ok_or_else(|| Violation {
            constraint: label,
            message: format!("shapes {shape} and {} do not broadcast", operand.shape),
        })?;
    }
    Ok(shape)
}

/// `found` has this dtype and these extents.
pub fn check_type<const RANK: usize>(
    label: &'static str,
    what: &str,
    found: &TensorType,
    dtype: DType,
    dims: [&Dim; RANK],
) -> Result<(), Violation> {
    let expected = TensorType::new(dtype, dims.into_iter().cloned().collect::<Vec<_>>());
    require!(label, *found == expected, "{what} is {found}, expected {expected}");
    Ok(())
}

/// `axis` is an axis of `ty`.
pub fn check_axis(label: &'static str, axis: usize, ty: &TensorType) -> Result<(), Violation> {
    require_axis(label, axis, ty.rank())
}

fn require_axis(constraint: &'static str, axis: usize, rank: usize) -> Result<(), Violation> {
    if axis < rank {
        return Ok(());
    }
    Err(Violation { constraint, message: format!("axis {axis} is out of range for rank {rank}") })
}

/// `axes` are axes of `ty`, strictly increasing.
pub fn check_axes(label: &'static str, axes: &[usize], ty: &TensorType) -> Result<(), Violation> {
    for &axis in axes {
        require_axis(label, axis, ty.rank())?;
    }
    match axes.windows(2).find(|pair| pair[0] >= pair[1]) {
        Some(pair) => Err(Violation {
            constraint: label,
            message: format!("axes {axes:?} must be strictly increasing; {} follows {}", pair[1], pair[0]),
        }),
        None => Ok(()),
    }
}

/// The one floating-point operand type as the one result type.
pub fn float_like(label: &'static str, operands: &[&TensorType]) -> Inferred {
    let dtype = operands[0].dtype;
    if dtype.is_float() && !dtype.is_storage_only() {
        return Ok(vec![operands[0].clone()]);
    }
    Err(Violation { constraint: label, message: format!("expected a float dtype, found {dtype}") })
}

/// `shape` with `axes` removed, or kept with extent 1.
pub fn reduced_shape(shape: &Shape, axes: &[usize], keep_dims: bool) -> Shape {
    let dims = shape.dims().iter().enumerate();
    Shape::from(if keep_dims {
        dims.map(|(axis, dim)| if axes.contains(&axis) { Dim::from(1) } else { dim.clone() })
            .collect::<Vec<_>>()
    } else {
        dims.filter(|(axis, _)| !axes.contains(axis)).map(|(_, dim)| dim.clone()).collect()
    })
}

/// `axes` behind one more axis.
pub fn shift_axes(axes: &[usize]) -> Vec<usize> {
    axes.iter().map(|axis| axis + 1).collect()
}

/// Is this a dtype that indexes: `i32`, `i64` or `u32`?
pub fn check_index_dtype(label: &'static str, what: &str, ty: &TensorType) -> Result<(), Violation> {
    require!(
        label,
        matches!(ty.dtype, DType::I32 | DType::I64 | DType::U32),
        "{what} must be i32, i64 or u32, found {}",
        ty.dtype
    );
    Ok(())
}

/// Calls `visit` with every coordinate of `dims`, in row-major order.
pub fn for_each_index(dims: &[usize], mut visit: impl FnMut(&[usize])) {
    if dims.contains(&0) {
        return;
    }
    let mut index = vec![0; dims.len()];
    loop {
        visit(&index);
        let mut axis = dims.len();
        loop {
            if axis == 0 {
                return;
            }
            axis -= 1;
            index[axis] += 1;
            if index[axis] < dims[axis] {
                break;
            }
            index[axis] = 0;
        }
    }
}

/// Row-major position of `index` in `dims`, with axes of extent 1 broadcast
/// and leading axes of `index` dropped.
pub fn broadcast_position(dims: &[usize], index: &[usize]) -> usize {
    let lead = index.len() - dims.len();
    dims.iter()
        .enumerate()
        .fold(0, |position, (axis, &dim)| position * dim + if dim == 1 { 0 } else { index[axis + lead] })
}
