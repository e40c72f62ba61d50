//! `resize`: interpolation along some axes (ONNX `Resize`).

use crate::ops::prelude::*;

mod decompose;
mod taps;

attr_enum! {
    /// How a [`Resize`] interpolates.
    ResizeMode {
        /// The element nearest to the source position.
        Nearest = "nearest",
        /// Between two elements, by distance.
        Linear = "linear",
        /// Cubic convolution over four elements.
        Cubic = "cubic",
    }
}

attr_enum! {
    /// Source position of element `i`, with `s` the scale.
    CoordinateMode {
        /// `(i + 1/2) / s - 1/2`.
        HalfPixel = "half_pixel",
        /// As `half_pixel`, moved so that the centres of input and result agree where `s` is not their ratio.
        HalfPixelSymmetric = "half_pixel_symmetric",
        /// As `half_pixel`, but 0 where the result has one element.
        PytorchHalfPixel = "pytorch_half_pixel",
        /// `i (input - 1) / (result - 1)`, 0 where the result has one element.
        AlignCorners = "align_corners",
        /// `i / s`.
        Asymmetric = "asymmetric",
    }
}

attr_enum! {
    /// What `nearest` takes of a source position between two elements.
    NearestRounding {
        /// The nearer one, the first of two equally near.
        RoundPreferFloor = "round_prefer_floor",
        /// The nearer one, the second of two equally near.
        RoundPreferCeil = "round_prefer_ceil",
        /// The one before.
        Floor = "floor",
        /// The one after.
        Ceil = "ceil",
    }
}

/// Largest static extent of a resized axis, before or after.
const LARGEST: i64 = 1 << 24;

op! {
    /// Resizes `axes` of `x` to `sizes`, one axis after the other: element `i` of the result interpolates `x`
    /// around the source position that `coordinates` gives. Positions outside the input take the border
    /// element; with `exclude_outside` they have weight 0 and the others are scaled to sum
    /// to 1 (NaN if there are none).
    ///
    /// The scale `s` of an axis is `size / extent`, or its entry of `scales` where these are given (`sizes` still
    /// says how many elements there are). `cubic_coefficient` is the `a` of the cubic convolution kernel, -0.75
    /// in PyTorch and the default of ONNX. Source: ONNX `Resize` without antialiasing and crops.
    ///
    /// (C1) `axes` are axes of `x`, strictly increasing; `sizes` has one entry each, not negative; static
    ///      extents and sizes are at most 2^24.
    /// (C2) `linear` and `cubic` take float dtypes, `nearest` all but storage-only ones.
    /// (C3) `scales` is empty or has one positive finite entry per axis; with it, extents and sizes are static.
    /// (C4) An input extent is 0 only where the size is 0.
    /// (C5) `exclude_outside` is for `linear` and `cubic`; `cubic_coefficient` is finite, given for `cubic` only;
    ///      `rounding` is given for `nearest` only.
    /// Half-precision sums accumulate in f32. Where extents are symbols, the product of an extent and its size
    /// must stay below 2^30.
    resize: Resize(x) -> y {
        /// Axes that change.
        axes: Vec<usize>,
        /// Their new extents.
        sizes: Vec<Dim>,
        /// Their scales where these are not the ratio of the extents.
        scales: Vec<Real>,
        /// Interpolation.
        mode: ResizeMode,
        /// Source positions.
        coordinates: CoordinateMode,
        /// Choice between two elements.
        rounding: Option<NearestRounding>,
        /// Coefficient of the cubic kernel.
        cubic_coefficient: Option<Real>,
        /// Do positions outside the input have no weight?
        exclude_outside: bool,
    }
}

impl Resize {
    /// Nearest elements by the ONNX defaults.
    pub fn nearest(axes: impl Into<Vec<usize>>, sizes: impl Into<Vec<Dim>>) -> Resize {
        Resize {
            axes: axes.into(),
            sizes: sizes.into(),
            scales: vec![],
            mode: ResizeMode::Nearest,
            coordinates: CoordinateMode::HalfPixel,
            rounding: Some(NearestRounding::RoundPreferFloor),
            cubic_coefficient: None,
            exclude_outside: false,
        }
    }

    /// Linear interpolation between pixel centres.
    pub fn linear(axes: impl Into<Vec<usize>>, sizes: impl Into<Vec<Dim>>) -> Resize {
        Resize { mode: ResizeMode::Linear, rounding: None, ..Resize::nearest(axes, sizes) }
    }

    /// Cubic convolution between pixel centres, with coefficient -0.75.
    pub fn cubic(axes: impl Into<Vec<usize>>, sizes: impl Into<Vec<Dim>>) -> Resize {
        let cubic_coefficient = Some(Real(-0.75));
        Resize { mode: ResizeMode::Cubic, cubic_coefficient, ..Resize::linear(axes, sizes) }
    }
}

impl OpSpec for Resize {
    const MEANING: Meaning<Self> = Meaning::composite_with_eval(decompose::decompose, Self::eval);
    const VJP: Vjp<Self> = Vjp::ViaDecomposition;
    const JVP: Jvp<Self> = Jvp::ViaDecomposition;
    const BATCH: Batch<Self> = Batch::ViaDecomposition;
    const ACCURACY: AccuracyRule<Self> = |op| match op.mode {
        ResizeMode::Nearest => Accuracy::Exact,
        _ => Accuracy::Accumulated { terms: 16 },
    };
    const SAMPLES: Samples<Self> = Samples::Made(samples);

    fn infer(&self, operands: &[&TensorType]) -> Inferred {
        let x = operands[0];
        check_axes("C1", &self.axes, x)?;
        let count = self.axes.len();
        require!("C1", self.sizes.len() == count, "sizes must have {count} entries, found {:?}", self.sizes);
        let nearest = self.mode == ResizeMode::Nearest;
        require!("C2", nearest || x.dtype.is_float(), "{} does not take {}", self.mode, x.dtype);
        check_addressable("C2", operands)?;
        let legal = [0, count].contains(&self.scales.len())
            && self.scales.iter().all(|scale| scale.0.is_finite() && scale.0 > 0.0);
        require!("C3", legal, "scales must be empty or {count} positive numbers, found {:?}", self.scales);
        require!("C5", self.rounding.is_some() == nearest, "rounding is for nearest, and only for it");
        require!("C5", !(nearest && self.exclude_outside), "exclude_outside has no meaning for nearest");
        let legal = match self.cubic_coefficient {
            Some(coefficient) => self.mode == ResizeMode::Cubic && coefficient.0.is_finite(),
            None => self.mode != ResizeMode::Cubic,
        };
        require!("C5", legal, "cubic_coefficient is for cubic, and only for it, and finite");
        let mut dims = x.shape.dims().to_vec();
        for (&axis, size) in self.axes.iter().zip(&self.sizes) {
            let extent = dims[axis].clone();
            check_not_negative("C1", "size", size)?;
            let small = |dim: &Dim| dim.as_static().is_none_or(|dim| dim <= LARGEST);
            let legal = small(size) && small(&extent);
            require!("C1", legal, "axis {axis}, {extent} to {size}, is over {LARGEST}");
            let known = extent.as_static().is_some() && size.as_static().is_some();
            require!(
                "C3",
                known || self.scales.is_empty(),
                "scales need a static axis {axis}, found {extent} to {size}"
            );
            require!("C4", !extent.is(0) || size.is(0), "axis {axis} is empty and cannot become {size}");
            dims[axis] = size.clone();
        }
        Ok(vec![TensorType::new(x.dtype, Shape::from(dims))])
    }
}

impl Resize {
    fn eval(&self, operands: &[&Literal]) -> Evaluated {
        let x = operands[0];
        let inferred = self.infer(&[&x.ty()]).map_err(|violation| Fault(violation.to_string()))?;
        let dims = inferred[0].shape.as_static().ok_or_else(|| Fault("an extent is not fixed".into()))?;
        let taps: Vec<Vec<taps::Taps>> = (self.axes.iter().enumerate())
            .map(|(position, &axis)| taps::all(self, position, x.dims()[axis], dims[axis]))
            .collect();
        let numbers = x.numbers();
        let mut results = vec![];
        for_each_index(&dims, |index| {
            let here: Vec<&taps::Taps> =
                self.axes.iter().zip(&taps).map(|(&axis, taps)| &taps[index[axis]]).collect();
            let counts: Vec<usize> = here.iter().map(|taps| taps.len()).collect();
            let (mut from, mut sum, mut last) = (index.to_vec(), 0.0, None);
            for_each_index(&counts, |at| {
                let mut weight = 1.0;
                for (position, &axis) in self.axes.iter().enumerate() {
                    let (element, share) = here[position][at[position]];
                    from[axis] = element;
                    weight *= share;
                }
                let number = numbers[row_major(x.dims(), &from)];
                sum += weight * number.as_f64().unwrap_or(f64::NAN);
                last = Some(number);
            });
            results.push(match (self.mode, last) {
                (ResizeMode::Nearest, Some(number)) => number,
                _ => Number::Float(sum),
            });
        });
        Ok(vec![Literal::from_numbers(x.dtype(), &dims, results)?])
    }
}

fn samples() -> Vec<Sample<Resize>> {
    let ty = |dtype, dims: &[usize]| TensorType::new(dtype, dims);
    let sizes = |sizes: &[usize]| sizes.iter().map(|&size| Dim::from(size)).collect::<Vec<_>>();
    let mut samples = vec![];
    for &coordinates in CoordinateMode::ALL {
        for op in [Resize::linear([2, 3], sizes(&[7, 3])), Resize::cubic([2, 3], sizes(&[5, 4]))] {
            let op = Resize { coordinates, ..op };
            samples.push(Sample::new(op.clone(), [ty(DType::F32, &[1, 2, 4, 6])]));
            let op = Resize { exclude_outside: true, sizes: sizes(&[2, 1]), ..op };
            samples.push(Sample::new(op.clone(), [ty(DType::F32, &[1, 1, 3, 5])]));
            let op = Resize { scales: vec![Real(0.7), Real(0.3)], ..op };
            samples.push(Sample::new(op, [ty(DType::F64, &[1, 1, 3, 5])]));
        }
        for &rounding in NearestRounding::ALL {
            for (extent, size) in [(5, 8), (8, 5), (3, 6), (6, 3), (4, 1), (1, 4)] {
                let op = Resize::nearest([1], sizes(&[size]));
                let op = Resize { coordinates, rounding: Some(rounding), ..op };
                samples.push(Sample::new(op, [ty(DType::F32, &[2, extent])]));
            }
        }
    }
    samples.extend([
        Sample::new(Resize::nearest([0], sizes(&[4])), [ty(DType::U8, &[2, 3])]),
        Sample::new(Resize::nearest([0, 1], sizes(&[3, 3])), [ty(DType::Bool, &[2, 3])]),
        Sample::new(Resize::nearest([], []), [ty(DType::I64, &[2])]),
        Sample::new(Resize::linear([1], sizes(&[5])), [ty(DType::BF16, &[2, 3])]),
        Sample::new(Resize::cubic([0], sizes(&[5])), [ty(DType::F16, &[3])]),
        Sample::new(Resize::linear([1], sizes(&[0])), [ty(DType::F32, &[2, 3])]),
        Sample::new(Resize::linear([1], sizes(&[4])), [ty(DType::F32, &[0, 3])]),
        Sample::new(Resize::cubic([1], sizes(&[0])), [ty(DType::F32, &[2, 0])]),
    ]);
    samples
}
