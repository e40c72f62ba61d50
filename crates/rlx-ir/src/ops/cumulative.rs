//! What the cumulative ops share: which one it is, its parameters, and naive evaluation.

use crate::ops::ordering::map_rows;
use crate::ops::prelude::*;

/// The running combination of a cumulative op.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub enum CumulativeKind {
    /// Sum, from 0.
    Sum,
    /// Product, from 1.
    Prod,
    /// Maximum, NaN wins; from `-inf` or the lowest integer.
    Max,
    /// Minimum, NaN wins; from `+inf` or the highest integer.
    Min,
    /// `log(e^a + e^b)`, from `-inf`.
    LogSumExp,
}

/// A cumulative op, whichever of the ops it is: what a backend lowers.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Cumulative {
    /// The running combination.
    pub kind: CumulativeKind,
    /// Axis along which it runs.
    pub axis: usize,
    /// Does an element leave itself out?
    pub exclusive: bool,
    /// Does it run from the end?
    pub reverse: bool,
}

impl Op {
    /// The op as a cumulative one, if it is one.
    pub fn as_cumulative(&self) -> Option<Cumulative> {
        Some(match self {
            Op::Cumsum(op) => op.cumulative(),
            Op::CumProd(op) => op.cumulative(),
            Op::CumMax(op) => op.cumulative(),
            Op::CumMin(op) => op.cumulative(),
            Op::CumLogSumExp(op) => op.cumulative(),
            _ => return None,
        })
    }
}

impl Cumulative {
    /// The value before the first element.
    pub fn start(&self, dtype: DType) -> Number {
        use CumulativeKind as K;
        let (min, max) = dtype.int_range().unwrap_or((0, 0));
        match (self.kind, dtype.is_float()) {
            (K::Sum, true) => Number::Float(0.0),
            (K::Prod, true) => Number::Float(1.0),
            (K::Min, true) => Number::Float(f64::INFINITY),
            (K::Max, true) | (K::LogSumExp, _) => Number::Float(f64::NEG_INFINITY),
            (K::Sum, false) => Number::Int(0),
            (K::Prod, false) => Number::Int(1),
            (K::Max, false) => Number::Int(min),
            (K::Min, false) => Number::Int(max),
        }
    }

    /// The value after one more element.
    pub fn step(&self, dtype: DType, so_far: Number, next: Number) -> Number {
        use CumulativeKind as K;
        match (so_far, next) {
            (Number::Float(a), Number::Float(b)) => Number::Float(match self.kind {
                K::Sum => a + b,
                K::Prod => a * b,
                K::Max | K::Min if a.is_nan() || b.is_nan() => f64::NAN,
                K::Max => a.max(b),
                K::Min => a.min(b),
                K::LogSumExp => log_add_exp(a, b),
            }),
            (Number::Int(a), Number::Int(b)) => Number::Int(match self.kind {
                K::Prod => wrap(dtype, a.wrapping_mul(b)),
                K::Max => a.max(b),
                K::Min => a.min(b),
                K::Sum | K::LogSumExp => wrap(dtype, a + b),
            }),
            _ => so_far,
        }
    }

    /// Naive evaluation; `axis` is an axis of `x`.
    pub(crate) fn eval(&self, x: &Literal) -> Evaluated {
        let extent = x.dims()[self.axis];
        map_rows(x, self.axis, extent, [x.dtype()], |row| {
            let mut made = vec![Number::Int(0); row.len()];
            let mut so_far = self.start(x.dtype());
            for step in 0..row.len() {
                let at = if self.reverse { row.len() - 1 - step } else { step };
                let after = self.step(x.dtype(), so_far, row[at]);
                made[at] = if self.exclusive { so_far } else { after };
                so_far = after;
            }
            [made]
        })
    }
}

/// `log(e^a + e^b)` without overflow.
fn log_add_exp(a: f64, b: f64) -> f64 {
    if a.is_nan() || b.is_nan() {
        return f64::NAN;
    }
    let max = a.max(b);
    if max.is_infinite() {
        return max;
    }
    max + (-(a - b).abs()).exp().ln_1p()
}

/// Samples that cover both flags, every position of the axis and odd extents.
pub(crate) fn cumulative_samples<O>(
    dtypes: &[DType],
    make: impl Fn(usize, bool, bool) -> O,
) -> Vec<Sample<O>> {
    let sample = |dims: &[usize], axis, exclusive, reverse, dtype| {
        Sample::new(make(axis, exclusive, reverse), [TensorType::new(dtype, dims)])
    };
    let mut samples = vec![
        sample(&[3, 5], 1, false, false, DType::F32),
        sample(&[3, 5], 0, true, false, DType::F32),
        sample(&[2, 4, 3], 1, false, true, DType::F32),
        sample(&[2, 4, 3], 1, true, true, DType::F64),
        sample(&[1], 0, true, false, DType::F32),
        sample(&[2, 0], 1, false, false, DType::F32),
        sample(&[0, 2], 1, true, true, DType::F32),
    ];
    samples.extend(dtypes.iter().map(|&dtype| sample(&[2, 7], 1, false, false, dtype)));
    samples
}
