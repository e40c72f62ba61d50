//! Results that were rounded to a narrow dtype at other places.

use rlx_ir::accuracy::epsilon;
use rlx_ir::{DType, Literal};

/// Do the elements differ by at most so many roundings to `dtype` of the largest element? A decomposition rounds after
/// every op where a fused step does not, and what follows may cancel: that is no fault of either.
pub fn is_near(actual: &Literal, expected: &Literal, dtype: DType, roundings: f64) -> bool {
    let same = actual.ty() == expected.ty();
    let (actual, values) = (actual.to_f64s(), expected.to_f64s());
    let finite = values.iter().filter(|value| value.is_finite());
    let largest = finite.fold(4.0, |most: f64, value| most.max(value.abs()));
    let bound = roundings * epsilon(dtype) * largest;
    let close = |(a, e): (&f64, &f64)| a == e || (a.is_nan() && e.is_nan()) || (a - e).abs() <= bound;
    same && actual.iter().zip(&values).all(close)
}
