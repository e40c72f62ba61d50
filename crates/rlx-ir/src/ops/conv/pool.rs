//! `pool`: a reduction of every window.

use crate::ops::prelude::*;
use crate::ops::window::{WindowAttributes, WindowAxis};

mod windows;

attr_enum! {
    /// What a [`Pool`] computes of a window.
    PoolKind {
        /// Largest, NaN wins.
        Max = "max",
        /// Mean.
        Mean = "mean",
        /// Smallest, NaN wins.
        Min = "min",
        /// Sum.
        Sum = "sum",
        /// Product.
        Prod = "prod",
        /// `(sum |x|^norm)^(1 / norm)`.
        Lp = "lp",
    }
}

op! {
    /// Reduces each window of the last axes of `x`, as many as `window` has entries; the axes before them
    /// (batch and channels) stay. Only elements of `x` take part, padding never does.
    ///
    /// Along each axis there are `floor((extent + padding_low + padding_high - span) / stride) + 1` windows
    /// with `span = dilation (window - 1) + 1`; `ceil_mode` rounds up instead but drops a last window that
    /// starts after the end of the input. `mean` divides by the number of elements that take part, with
    /// `count_include_pad` by the number that lie in the input or its padding (not those that `ceil_mode`
    /// hangs over; as in PyTorch).
    ///
    /// A window without an element of `x` gives what `reduce` gives of nothing: the lowest value for `max`,
    /// the highest for `min`, 0, 1, and NaN for `mean` (0 with `count_include_pad` in a padded window).
    ///
    /// (C1) `x` has a float dtype, or an integer one for `max`, `min`, `sum` and `prod`.
    /// (C2) `window` has 1 to 3 entries, not more than `x` has axes.
    /// (C3) The lists have one entry per window axis; strides, dilations and windows are at least 1.
    /// (C4) Along each axis the window fits the padded input.
    /// (C5) `norm` is given for `lp` only, positive and finite; `count_include_pad` is for `mean` only.
    /// Half-precision sums accumulate in f32; integers wrap.
    pool: Pool(x) -> y {
        /// The reduction.
        kind: PoolKind,
        /// Elements of a window, per axis.
        window: Vec<usize>,
        /// Distance from one window to the next, per axis.
        stride: Vec<usize>,
        /// Padding before the first element, per axis.
        padding_low: Vec<usize>,
        /// Padding after the last element, per axis.
        padding_high: Vec<usize>,
        /// Distance between the elements of a window, per axis.
        dilation: Vec<usize>,
        /// May a last window hang over the end?
        ceil_mode: bool,
        /// Does `mean` divide by padding too?
        count_include_pad: bool,
        /// Exponent of `lp`.
        norm: Option<Real>,
    }
}

impl Pool {
    /// Windows that tile the input: stride as the window, no padding, no dilation.
    pub fn tiles(kind: PoolKind, window: &[usize]) -> Pool {
        Pool {
            kind,
            window: window.to_vec(),
            stride: window.to_vec(),
            padding_low: vec![0; window.len()],
            padding_high: vec![0; window.len()],
            dilation: vec![1; window.len()],
            ceil_mode: false,
            count_include_pad: false,
            norm: (kind == PoolKind::Lp).then_some(Real(2.0)),
        }
    }

    /// The windows along window axis `axis`.
    pub fn window_axis(&self, axis: usize) -> WindowAxis {
        self.windows().axis(axis)
    }

    fn windows(&self) -> WindowAttributes<'_> {
        WindowAttributes {
            stride: &self.stride,
            padding_low: &self.padding_low,
            padding_high: &self.padding_high,
            dilation: &self.dilation,
        }
    }
}

impl OpSpec for Pool {
    const MEANING: Meaning<Self> = Meaning::composite_with_eval(Self::decompose, Self::eval);
    const VJP: Vjp<Self> = Vjp::Rule(Self::vjp);
    const JVP: Jvp<Self> = Jvp::DoubleVjp;
    const BATCH: Batch<Self> = Batch::elementwise();
    const ACCURACY: AccuracyRule<Self> = |op| match op.kind {
        PoolKind::Max | PoolKind::Min => Accuracy::Exact,
        _ => Accuracy::Accumulated { terms: 64 },
    };
    const SAMPLES: Samples<Self> = Samples::Made(samples);

    fn infer(&self, operands: &[&TensorType]) -> Inferred {
        let x = operands[0];
        let averages = matches!(self.kind, PoolKind::Mean | PoolKind::Lp);
        let legal = x.dtype.is_float() || (x.dtype.is_int() && !averages);
        require!("C1", legal && !x.dtype.is_storage_only(), "{} pool does not take {}", self.kind, x.dtype);
        let axes = self.window.len();
        let legal = (1..=3).contains(&axes) && axes <= x.rank();
        require!("C2", legal, "window must have 1 to 3 entries, not more than the axes of {x}; found {axes}");
        self.windows().check("C3", axes)?;
        let norm = match self.norm {
            Some(norm) => self.kind == PoolKind::Lp && norm.0.is_finite() && norm.0 > 0.0,
            None => self.kind != PoolKind::Lp,
        };
        require!("C5", norm, "norm must be positive and finite for lp and absent for the others");
        let counts = !self.count_include_pad || self.kind == PoolKind::Mean;
        require!("C5", counts, "count_include_pad has no meaning for {}", self.kind);
        let mut dims = x.shape.dims().to_vec();
        let first = dims.len() - axes;
        for (axis, &window) in self.window.iter().enumerate() {
            let windows = self.window_axis(axis);
            let extent = &x.shape[first + axis];
            dims[first + axis] = windows.count("C4", extent, &Dim::from(window), self.ceil_mode)?;
        }
        Ok(vec![TensorType::new(x.dtype, dims)])
    }
}

impl Pool {
    fn eval(&self, operands: &[&Literal]) -> Evaluated {
        let x = operands[0];
        let inferred = self.infer(&[&x.ty()]).map_err(|violation| Fault(violation.to_string()))?;
        let dims = inferred[0].shape.as_static().ok_or_else(|| Fault("an extent is not fixed".into()))?;
        let first = dims.len() - self.window.len();
        let numbers = x.numbers();
        let mut results = vec![];
        for_each_index(&dims, |index| {
            let each_axis = || index[first..].iter().zip(&x.dims()[first..]).zip(&self.window).enumerate();
            let taps: Vec<Vec<(usize, usize)>> = each_axis()
                .map(|(axis, ((&number, &extent), &window))| {
                    self.window_axis(axis).taps(number, extent, window)
                })
                .collect();
            let mut window = vec![];
            let counts: Vec<usize> = taps.iter().map(|axis| axis.len()).collect();
            for_each_index(&counts, |at| {
                let positions = at.iter().zip(&taps).map(|(&at, taps)| taps[at].1);
                let from: Vec<usize> = index[..first].iter().copied().chain(positions).collect();
                window.push(numbers[row_major(x.dims(), &from)]);
            });
            let divisor = if self.count_include_pad {
                each_axis()
                    .map(|(axis, ((&number, &extent), &window))| {
                        self.window_axis(axis).padded_taps(number, extent, window) as f64
                    })
                    .product()
            } else {
                window.len() as f64
            };
            results.push(self.reduce(x.dtype(), &window, divisor));
        });
        Ok(vec![Literal::from_numbers(x.dtype(), &dims, results)?])
    }

    fn reduce(&self, dtype: DType, window: &[Number], divisor: f64) -> Number {
        if let Some((lowest, highest)) = dtype.int_range() {
            let values = window.iter().map(|number| match number {
                Number::Int(value) => *value,
                _ => 0,
            });
            return Number::Int(match self.kind {
                PoolKind::Max => values.fold(lowest, i128::max),
                PoolKind::Min => values.fold(highest, i128::min),
                PoolKind::Prod => values.fold(1, |product, value| wrap(dtype, product * value)),
                _ => wrap(dtype, values.sum()),
            });
        }
        let values = window.iter().map(|number| number.as_f64().unwrap_or(f64::NAN));
        let or_nan = |pick: fn(f64, f64) -> f64| {
            move |a: f64, b: f64| if a.is_nan() || b.is_nan() { f64::NAN } else { pick(a, b) }
        };
        let norm = self.norm.map_or(1.0, |norm| norm.0);
        Number::Float(match self.kind {
            PoolKind::Max => values.fold(-windows::greatest(dtype), or_nan(f64::max)),
            PoolKind::Min => values.fold(windows::greatest(dtype), or_nan(f64::min)),
            PoolKind::Prod => values.product(),
            PoolKind::Sum => values.sum(),
            PoolKind::Mean => values.sum::<f64>() / divisor,
            PoolKind::Lp => values.map(|value| value.abs().powf(norm)).sum::<f64>().powf(1.0 / norm),
        })
    }
}

fn samples() -> Vec<Sample<Pool>> {
    let sample = |op: Pool, dims: &[usize], dtype| Sample::new(op, [TensorType::new(dtype, dims)]);
    let mut samples = vec![];
    for &kind in PoolKind::ALL {
        let padded = Pool {
            stride: vec![2, 1],
            padding_low: vec![1, 0],
            padding_high: vec![0, 1],
            dilation: vec![1, 2],
            ..Pool::tiles(kind, &[3, 2])
        };
        samples.extend([
            sample(Pool::tiles(kind, &[2]), &[2, 3, 5], DType::F32),
            sample(Pool::tiles(kind, &[2, 3]), &[1, 2, 4, 6], DType::F32),
            sample(Pool::tiles(kind, &[2, 1, 2]), &[1, 1, 4, 2, 3], DType::F64),
            sample(padded.clone(), &[1, 2, 5, 6], DType::F32),
            sample(Pool { ceil_mode: true, ..padded.clone() }, &[1, 1, 6, 5], DType::BF16),
            sample(Pool { ceil_mode: true, ..Pool::tiles(kind, &[3]) }, &[7], DType::F16),
            sample(padded, &[0, 2, 5, 6], DType::F32),
        ]);
        if !matches!(kind, PoolKind::Mean | PoolKind::Lp) {
            samples.push(sample(Pool::tiles(kind, &[2, 2]), &[1, 4, 4], DType::I32));
            samples.push(sample(Pool::tiles(kind, &[3]), &[7], DType::U8));
        }
    }
    let mean = Pool { count_include_pad: true, ..Pool::tiles(PoolKind::Mean, &[3, 3]) };
    let mean = Pool { padding_low: vec![1, 1], padding_high: vec![1, 1], stride: vec![2, 2], ..mean };
    samples.push(sample(mean.clone(), &[1, 1, 4, 5], DType::F32));
    samples.push(sample(Pool { ceil_mode: true, ..mean }, &[1, 1, 4, 5], DType::F32));
    samples
}
