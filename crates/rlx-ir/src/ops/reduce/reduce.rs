//! `reduce`: sums, products, extremes and truth over a set of axes.

use crate::accuracy::Accuracy;
use crate::dtype::DType;
use crate::literal::Literal;
use crate::number::{Number, wrap};
use crate::op::{Evaluated, Fault, Inferred, Meaning, OpSpec, Sample};
use crate::ops::{broadcast_position, check_axes, for_each_index, reduced_shape};
use crate::shape::TensorType;
use crate::{attr_enum, op, require};

attr_enum! {
    /// Which reduction a [`Reduce`] computes.
    ReduceKind {
        /// Sum; 0 of nothing.
        Sum = "sum",
        /// Mean; NaN of nothing.
        Mean = "mean",
        /// Product; 1 of nothing.
        Prod = "prod",
        /// Largest, NaN wins; the dtype's lowest value (-inf) of nothing.
        Max = "max",
        /// Smallest, NaN wins; the dtype's highest value (+inf) of nothing.
        Min = "min",
        /// Is any true? False of nothing.
        Any = "any",
        /// Are all true? True of nothing.
        All = "all",
    }
}

op! {
    /// Reduction of `x` over `axes`; with `keep_dims` they stay with extent 1.
    ///
    /// (C1) `axes` are axes of `x`, strictly increasing.
    /// (C2) `any` and `all` take `bool`; `mean` takes floats; the rest take floats and integers.
    /// An empty list of axes copies. Half-precision sums accumulate in f32; integers wrap.
    reduce: Reduce(x) -> y {
        /// The reduction.
        kind: ReduceKind,
        /// Axes that disappear.
        axes: Vec<usize>,
        /// Keep them with extent 1?
        keep_dims: bool,
    }
}

impl OpSpec for Reduce {
    const MEANING: Meaning<Self> = Meaning::primitive(Self::eval);

    fn infer(&self, operands: &[&TensorType]) -> Inferred {
        let x = operands[0];
        check_axes("C1", &self.axes, x)?;
        let (float, int) = (x.dtype.is_float(), x.dtype.is_int());
        let legal = match self.kind {
            ReduceKind::Any | ReduceKind::All => x.dtype == DType::Bool,
            ReduceKind::Mean => float,
            _ => float || int,
        };
        require!("C2", legal && !x.dtype.is_storage_only(), "{} does not take {}", self.kind, x.dtype);
        Ok(vec![TensorType::new(x.dtype, reduced_shape(&x.shape, &self.axes, self.keep_dims))])
    }

    fn accuracy(&self) -> Accuracy {
        match self.kind {
            ReduceKind::Sum | ReduceKind::Mean | ReduceKind::Prod => Accuracy::Accumulated { terms: 64 },
            _ => Accuracy::Exact,
        }
    }

    fn samples() -> Vec<Sample<Self>> {
        let mut samples = vec![];
        for &kind in ReduceKind::ALL {
            let dtype = match kind {
                ReduceKind::Any | ReduceKind::All => DType::Bool,
                _ => DType::F32,
            };
            for (dims, axes, keep_dims) in [
                (vec![3, 5], vec![1], false),
                (vec![3, 5], vec![0], true),
                (vec![2, 3, 4], vec![0, 2], false),
                (vec![4], vec![0], false),
                (vec![2, 0, 3], vec![1], false),
                (vec![2, 2], vec![], false),
            ] {
                let op = Reduce { kind, axes, keep_dims };
                samples.push(Sample::new(op, [TensorType::new(dtype, dims.as_slice())]));
            }
        }
        for dtype in [DType::I32, DType::U8, DType::BF16, DType::F64] {
            let op = Reduce { kind: ReduceKind::Sum, axes: vec![0], keep_dims: false };
            samples.push(Sample::new(op, [TensorType::new(dtype, [9, 2])]));
        }
        samples
    }
}

impl Reduce {
    fn eval(&self, operands: &[&Literal]) -> Evaluated {
        let x = operands[0];
        let kept: Vec<usize> = x
            .dims()
            .iter()
            .enumerate()
            .map(|(axis, &dim)| if self.axes.contains(&axis) { 1 } else { dim })
            .collect();
        let count = kept.iter().product::<usize>();
        let terms = self.axes.iter().map(|&axis| x.dims()[axis]).product::<usize>();
        let mut results = vec![self.start(x.dtype()); count];
        let mut position = 0;
        for_each_index(x.dims(), |index| {
            let target = broadcast_position(&kept, index);
            results[target] = self.step(x.dtype(), results[target], x.number(position));
            position += 1;
        });
        if self.kind == ReduceKind::Mean {
            for result in &mut results {
                if let Number::Float(sum) = result {
                    *sum /= terms as f64;
                }
            }
        }
        let shape = reduced_shape(&x.ty().shape, &self.axes, self.keep_dims);
        let dims = shape.as_static().unwrap_or_default();
        Literal::from_numbers(x.dtype(), &dims, results)
            .map(|literal| vec![literal])
            .map_err(|error| Fault(error.to_string()))
    }

    fn start(&self, dtype: DType) -> Number {
        let float = dtype.is_float();
        let (min, max) = dtype.int_range().unwrap_or((0, 0));
        match self.kind {
            ReduceKind::Sum | ReduceKind::Mean if float => Number::Float(0.0),
            ReduceKind::Prod if float => Number::Float(1.0),
            ReduceKind::Max if float => Number::Float(f64::NEG_INFINITY),
            ReduceKind::Min if float => Number::Float(f64::INFINITY),
            ReduceKind::Max => Number::Int(min),
            ReduceKind::Min => Number::Int(max),
            ReduceKind::Prod | ReduceKind::All => Number::Int(1),
            ReduceKind::Sum | ReduceKind::Mean | ReduceKind::Any => Number::Int(0),
        }
    }

    fn step(&self, dtype: DType, so_far: Number, next: Number) -> Number {
        match (so_far, next) {
            (Number::Float(a), Number::Float(b)) => Number::Float(match self.kind {
                ReduceKind::Prod => a * b,
                ReduceKind::Max if a.is_nan() || b.is_nan() => f64::NAN,
                ReduceKind::Max => a.max(b),
                ReduceKind::Min if a.is_nan() || b.is_nan() => f64::NAN,
                ReduceKind::Min => a.min(b),
                _ => a + b,
            }),
            (Number::Int(a), Number::Int(b)) => Number::Int(wrap(
                dtype,
                match self.kind {
                    ReduceKind::Prod => a.wrapping_mul(b),
                    ReduceKind::Max | ReduceKind::Any => a.max(b),
                    ReduceKind::Min | ReduceKind::All => a.min(b),
                    _ => a + b,
                },
            )),
            _ => so_far,
        }
    }
}
