//! `reduce`: sums, products, extremes and truth over a set of axes.

use crate::ops::prelude::*;

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
    const VJP: Vjp<Self> = Vjp::Rule(Self::vjp);
    const JVP: Jvp<Self> = Jvp::Rule(|op, g, given| match op.kind {
        ReduceKind::Sum | ReduceKind::Mean => given.linear(g, op.clone()),
        _ => Err("it is not linear"),
    });
    const BATCH: Batch<Self> = Batch::Shift(|op, _| Reduce { axes: shift_axes(&op.axes), ..op.clone() });
    const ACCURACY: AccuracyRule<Self> = |op| match op.kind {
        ReduceKind::Sum | ReduceKind::Mean | ReduceKind::Prod => Accuracy::Accumulated { terms: 64 },
        _ => Accuracy::Exact,
    };
    const SAMPLES: Samples<Self> = Samples::Made(|| {
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
    });

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
        Ok(vec![Literal::from_numbers(x.dtype(), &dims, results)?])
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

    fn vjp(&self, g: &mut Graph, given: Backward<'_>) -> Derivatives {
        let x = given.operands[0];
        let ty = g.ty(x).clone();
        let kept = reduced_shape(&ty.shape, &self.axes, true);
        let [dy, y] = [given.cotangent(), given.results[0]].map(|value| g.reshape(value, kept.clone()));
        let sum = |g: &mut Graph, x| g.reduce(x, ReduceKind::Sum, self.axes.clone(), true);
        let (zero, one) = (g.scalar(ty.dtype, 0.0), g.scalar(ty.dtype, 1.0));
        let dx = match self.kind {
            ReduceKind::Sum => g.expand(dy, ty.shape.clone()),
            ReduceKind::Mean => {
                let spread = g.expand(dy, ty.shape.clone());
                let count =
                    self.axes.iter().fold(Dim::from(1), |count, &axis| count * ty.shape[axis].clone());
                let count = g.extent(ty.dtype, &count);
                g.div(spread, count)
            }
            // Equal winners share.
            ReduceKind::Max | ReduceKind::Min => {
                let wins = g.compare_eq(x, y);
                let winners = g.cast(wins, ty.dtype);
                let count = sum(g, winners);
                let count = g.maximum(count, one);
                let share = g.div(dy, count);
                g.r#where(wins, share, zero)
            }
            // The product of the others, whether one or several of them are zero.
            ReduceKind::Prod => {
                let is_zero = g.compare_eq(x, zero);
                let (nonzero, counted) = (g.r#where(is_zero, one, x), g.cast(is_zero, ty.dtype));
                let product = g.reduce(nonzero, ReduceKind::Prod, self.axes.clone(), true);
                let zeros = sum(g, counted);
                let slope = g.mul(dy, product);
                let (no_zero, one_zero) = (g.compare_eq(zeros, zero), g.compare_eq(zeros, one));
                let (others, alone) = (g.r#where(no_zero, slope, zero), g.r#where(one_zero, slope, zero));
                let others = g.div(others, nonzero);
                g.r#where(is_zero, alone, others)
            }
            ReduceKind::Any | ReduceKind::All => return Ok(vec![None]),
        };
        Ok(vec![Some(dx)])
    }
}
