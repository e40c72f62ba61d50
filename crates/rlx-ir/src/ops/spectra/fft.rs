//! `fft`: discrete Fourier transforms.

use crate::ops::complex_parts::check_complex;
use crate::ops::ordering::map_rows;
use crate::ops::prelude::*;
use std::f64::consts::TAU;

attr_enum! {
    /// Which direction of a transform over `n` elements is divided, and by what.
    FftNorm {
        /// The inverse, by `n`.
        Backward = "backward",
        /// The forward one, by `n`.
        Forward = "forward",
        /// Both, by the root of `n`.
        Ortho = "ortho",
    }
}

impl FftNorm {
    /// What a transform over `count` elements multiplies its sums by.
    pub fn scale(self, inverse: bool, count: usize) -> f64 {
        match (self, inverse) {
            (FftNorm::Ortho, _) => 1.0 / (count as f64).sqrt(),
            (FftNorm::Backward, true) | (FftNorm::Forward, false) => 1.0 / count as f64,
            _ => 1.0,
        }
    }
}

op! {
    /// `y[k] = s sum_j x[j] e^(-2 pi i j k / n)` along each of `axes`; the inverse has `+i`.
    ///
    /// Any extent `n`. The scale `s` is 1, `1 / n` or `1 / sqrt n` per axis, as `norm` says, so that the
    /// inverse undoes the transform of the same norm.
    /// (C1) `x` has a complex dtype.
    /// (C2) `axes` are axes of `x`, strictly increasing; without any the result is `x`.
    /// Transforms of real numbers are the builder methods `rfft` and `irfft`. Source: NumPy's `fft.fftn`.
    fft: Fft(x) -> y {
        /// Axes that are transformed.
        axes: Vec<usize>,
        /// The inverse?
        inverse: bool,
        /// Which direction is divided.
        norm: FftNorm,
    }
}

impl OpSpec for Fft {
    const MEANING: Meaning<Self> = Meaning::primitive(|op, operands| {
        let dtype = operands[0].dtype();
        // In between, sums keep their precision.
        let mut y = Literal::from_numbers(DType::C128, operands[0].dims(), operands[0].numbers())?;
        for &axis in &op.axes {
            let count = y.dims()[axis];
            let scale = op.norm.scale(op.inverse, count);
            let sign = if op.inverse { TAU } else { -TAU };
            let turn = |step: usize| (sign * step as f64 / count as f64).sin_cos();
            let turns: Vec<(f64, f64)> = (0..count).map(turn).collect();
            let [transformed] =
                map_rows(&y, axis, count, [DType::C128], |row| [transform(row, &turns, scale)])?
                    .try_into()
                    .map_err(|_| Fault("a transform has one result".into()))?;
            y = transformed;
        }
        Ok(vec![Literal::from_numbers(dtype, y.dims(), y.numbers())?])
    });
    const VJP: Vjp<Self> =
        Vjp::Rule(|op, g, given| Ok(vec![Some(g.push(op.adjoint(), &[given.cotangent()]))]));
    const JVP: Jvp<Self> = Jvp::Linear;
    const BATCH: Batch<Self> = Batch::Shift(|op, _| Fft { axes: shift_axes(&op.axes), ..op.clone() });
    const ACCURACY: AccuracyRule<Self> = |_| Accuracy::Accumulated { terms: 128 };
    const SAMPLES: Samples<Self> = Samples::Listed(&[
        "c64[8] {axes = [0], inverse = false, norm = backward}",
        "c128[2, 12] {axes = [1], inverse = true}",
        "c128[5, 3, 2] {norm = ortho}",
        "c64[2, 3, 4] {axes = [1, 2], inverse = true, norm = forward}",
        "c64[3, 4, 2] {axes = [0, 1, 2], norm = forward}",
        "c128[17]",
        "c64[2, 34] {axes = [1], inverse = true, norm = ortho}",
        "c64[30, 3]",
        "c64[1, 3] {inverse = true}",
        "c64[2, 3] {axes = []}",
        "c128[0, 3] {axes = [0, 1], norm = ortho}",
    ]);

    fn infer(&self, operands: &[&TensorType]) -> Inferred {
        check_complex("C1", operands[0])?;
        check_axes("C2", &self.axes, operands[0])?;
        Ok(vec![operands[0].clone()])
    }
}

impl Fft {
    /// The transform with the conjugate transpose of this one's matrix.
    fn adjoint(&self) -> Fft {
        let norm = match self.norm {
            FftNorm::Backward => FftNorm::Forward,
            FftNorm::Forward => FftNorm::Backward,
            FftNorm::Ortho => FftNorm::Ortho,
        };
        Fft { norm, inverse: !self.inverse, ..self.clone() }
    }
}

/// Sums of a row against powers of the root of unity whose (sine, cosine) are `turns`.
fn transform(row: &[Number], turns: &[(f64, f64)], scale: f64) -> Vec<Number> {
    let count = row.len();
    let element = |k: usize| {
        let (mut re, mut im) = (0.0, 0.0);
        for (j, number) in row.iter().enumerate() {
            let &Number::Complex(a, b) = number else { continue };
            let (sin, cos) = turns[j * k % count];
            re += a * cos - b * sin;
            im += a * sin + b * cos;
        }
        Number::Complex(scale * re, scale * im)
    };
    (0..count).map(element).collect()
}

impl Graph {
    /// The first `n / 2 + 1` elements of the transform of the real `x` along `axis`, which may be negative;
    /// the others are their conjugates.
    #[track_caller]
    pub fn rfft(&mut self, x: Value, axis: i64, norm: FftNorm) -> Value {
        let Some(ty) = self.try_ty(x).cloned() else { return Value::POISON };
        let axis = self.axis(x, axis);
        let zeros = self.zeros_like(x);
        let z = self.complex(x, zeros);
        let y = self.fft(z, vec![axis], false, norm);
        if axis >= ty.rank() {
            return y;
        }
        let half = ty.shape[axis].floor_div(&2.into()) + 1.into();
        self.narrow(y, axis, 0, half)
    }

    /// The real row of extent `count` along `axis`, which may be negative, whose `rfft` is `z`. Imaginary parts
    /// of the first element, and of the last where `count` is even, are left out.
    #[track_caller]
    pub fn irfft(&mut self, z: Value, axis: i64, count: usize, norm: FftNorm) -> Value {
        let axis = self.axis(z, axis);
        let half = count / 2 + 1;
        let z = self.narrow(z, axis, 0, half);
        let mirrored = self.narrow(z, axis, 1, count.saturating_sub(half));
        let mirrored = self.reverse(mirrored, vec![axis]);
        let mirrored = self.conjugate(mirrored);
        let whole = self.concat(&[z, mirrored], axis);
        let y = self.fft(whole, vec![axis], true, norm);
        let y = self.real(y);
        self.narrow(y, axis, 0, count)
    }
}
