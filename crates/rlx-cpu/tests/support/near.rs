//! Excess precision is no difference: the interpreter rounds after every op,
//! a fused step need not.

use rlx_ir::{DType, Literal};

/// Do the elements differ by few roundings of `dtype`?
pub fn is_near(actual: &Literal, reference: &Literal, dtype: DType) -> bool {
    let (actual, reference) = (actual.to_f64s(), reference.to_f64s());
    let finite = reference.iter().filter(|x| x.is_finite());
    let largest = finite.fold(4.0, |largest: f64, x| largest.max(x.abs()));
    let bound = 8.0 * rlx_ir::accuracy::epsilon(dtype) * largest;
    let close = |(a, e): (&f64, &f64)| a == e || (a.is_nan() && e.is_nan()) || (a - e).abs() <= bound;
    actual.iter().zip(&reference).all(close)
}
