//! What the two fusions of a residual sum with a norm share.
//!
//! Operands are `x`, `residual`, then `bias` if given, then the parameters of the norm.

use crate::ops::normalise::{check_parameters, reshape_along};
use crate::ops::prelude::*;

/// Types of the normalised value and of the sum; `norm` infers the former
/// from the type of the sum and its parameters.
pub(crate) fn infer_residual(
    operands: &[&TensorType],
    axes: &[usize],
    bias: bool,
    norm: impl Fn(&[&TensorType]) -> Inferred,
) -> Inferred {
    let (x, residual) = (operands[0], operands[1]);
    require!("C1", x == residual, "x is {x}, but residual is {residual}");
    check_axes("C3", axes, x)?;
    let (bias, parameters) = operands[2..].split_at(usize::from(bias));
    check_parameters("C2", x, axes, bias)?;
    let normalised = norm(&[&[x], parameters].concat())
        .map_err(|violation| Violation { constraint: "C3", ..violation })?;
    Ok(vec![normalised[0].clone(), x.clone()])
}

/// `x + residual + bias`, and the operands that remain for the norm.
pub(crate) fn residual_sum<'a>(
    g: &mut Graph,
    operands: &'a [Value],
    bias: bool,
    axes: &[usize],
) -> (Value, &'a [Value]) {
    let mut sum = g.add(operands[0], operands[1]);
    let (bias, parameters) = operands[2..].split_at(usize::from(bias));
    if let [bias] = *bias {
        let rank = g.try_ty(operands[0]).map_or(axes.len(), TensorType::rank);
        let bias = reshape_along(g, bias, axes, rank);
        sum = g.add(sum, bias);
    }
    (sum, parameters)
}
