//! What the norms share: standardising over axes and the affine step after it,
//! once as graph code and once as direct evaluation in `f64`.
//!
//! The variance is the mean of squared deviations from the computed mean (two
//! passes). Graph code expects operands in their accumulation dtype already.

use crate::ops::prelude::*;

/// What the squares are taken about.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Centre {
    /// The mean, which is also subtracted from the elements.
    Mean,
    /// Zero: the root mean square.
    Zero,
}

/// A group of axes over which elements are standardised, with its epsilon.
#[derive(Clone, Copy)]
pub(crate) struct Standard<'a> {
    /// Axes that form one group.
    pub axes: &'a [usize],
    /// Added to the mean square.
    pub eps: f64,
    /// What the squares are taken about.
    pub centre: Centre,
}

impl Standard<'_> {
    /// `(x - mean) / sqrt(mean of squares + eps)`.
    pub fn build(&self, g: &mut Graph, x: Value) -> Value {
        let (centred, scale) = self.parts(g, x);
        g.mul(centred, scale)
    }

    /// The derivatives by `x`, the factor and the summand of [`affine`] after it, from `dy`. A `factor` is in
    /// the accumulation dtype.
    pub fn backward(&self, g: &mut Graph, x: Value, dy: Value, factor: Option<Value>) -> Vec<Value> {
        let ty = g.ty(x).clone();
        let (x, dy) = (g.accumulation_cast(x), g.accumulation_cast(dy));
        let (centred, scale) = self.parts(g, x);
        let normal = g.mul(centred, scale);
        let d = affine(g, dy, factor, None, self.axes);
        let mean = |g: &mut Graph, x| g.reduce(x, ReduceKind::Mean, self.axes.to_vec(), true);
        let product = g.mul(d, normal);
        let along = mean(g, product);
        let part = g.mul(normal, along);
        let mut rest = g.sub(d, part);
        if self.centre == Centre::Mean {
            let mean = mean(g, d);
            rest = g.sub(rest, mean);
        }
        let dx = g.mul(rest, scale);
        let others: Vec<usize> = (0..ty.rank()).filter(|axis| !self.axes.contains(axis)).collect();
        let change = g.mul(dy, normal);
        let dgamma = g.reduce(change, ReduceKind::Sum, others.clone(), false);
        let dbeta = g.reduce(dy, ReduceKind::Sum, others, false);
        [dx, dgamma, dbeta].into_iter().map(|value| g.cast_to(value, ty.dtype)).collect()
    }

    /// `x - mean` and `1 / sqrt(mean of squares + eps)`.
    fn parts(&self, g: &mut Graph, x: Value) -> (Value, Value) {
        let centred = match self.centre {
            Centre::Mean => {
                let mean = g.reduce(x, ReduceKind::Mean, self.axes.to_vec(), true);
                g.sub(x, mean)
            }
            Centre::Zero => x,
        };
        let square = g.mul(centred, centred);
        let mean_square = g.reduce(square, ReduceKind::Mean, self.axes.to_vec(), true);
        (centred, inverse_root(g, mean_square, self.eps))
    }

    /// The same on concrete elements of a tensor of extents `dims`.
    pub fn eval(&self, dims: &[usize], values: &[f64]) -> Vec<f64> {
        let kept: Vec<usize> = dims
            .iter()
            .enumerate()
            .map(|(axis, &dim)| if self.axes.contains(&axis) { 1 } else { dim })
            .collect();
        let mut groups = vec![];
        for_each_index(dims, |index| groups.push(broadcast_position(&kept, index)));
        let count = self.axes.iter().map(|&axis| dims[axis]).product::<usize>() as f64;
        let mean_of = |terms: &dyn Fn(usize) -> f64| {
            let mut sums = vec![0.0; groups.iter().max().map_or(0, |last| last + 1)];
            for (position, &group) in groups.iter().enumerate() {
                sums[group] += terms(position) / count;
            }
            sums
        };
        let centred: Vec<f64> = match self.centre {
            Centre::Mean => {
                let means = mean_of(&|position| values[position]);
                values.iter().zip(&groups).map(|(value, &group)| value - means[group]).collect()
            }
            Centre::Zero => values.to_vec(),
        };
        let squares = mean_of(&|position| centred[position] * centred[position]);
        centred
            .iter()
            .zip(&groups)
            .map(|(value, &group)| value / (squares[group] + self.eps).sqrt())
            .collect()
    }
}

/// `1 / sqrt(x + eps)`.
pub(crate) fn inverse_root(g: &mut Graph, x: Value, eps: f64) -> Value {
    let Some(dtype) = g.try_ty(x).map(|ty| ty.dtype) else { return Value::POISON };
    let eps = g.scalar(dtype, eps);
    let sum = g.add(x, eps);
    g.rsqrt(sum)
}

/// `parameter`, with one dim per axis of `axes`, under a shape that broadcasts
/// along those axes of a tensor of rank `rank`.
pub(crate) fn reshape_along(g: &mut Graph, parameter: Value, axes: &[usize], rank: usize) -> Value {
    let Some(ty) = g.try_ty(parameter).cloned() else { return Value::POISON };
    // Trailing axes broadcast as they are.
    if axes.iter().copied().eq(rank - axes.len()..rank) {
        return parameter;
    }
    let mut dims = vec![Dim::from(1); rank];
    for (dim, &axis) in ty.shape.dims().iter().zip(axes) {
        dims[axis] = dim.clone();
    }
    g.reshape(parameter, Shape::from(dims))
}

/// [`reshape_along`] in the accumulation dtype.
pub(crate) fn along_axes(g: &mut Graph, parameter: Value, axes: &[usize], rank: usize) -> Value {
    let wide = g.accumulation_cast(parameter);
    reshape_along(g, wide, axes, rank)
}

/// `x scale + shift`; each parameter has one dim per axis of `axes`.
pub(crate) fn affine(
    g: &mut Graph,
    x: Value,
    scale: Option<Value>,
    shift: Option<Value>,
    axes: &[usize],
) -> Value {
    let Some(rank) = g.try_ty(x).map(TensorType::rank) else { return Value::POISON };
    let mut y = x;
    if let Some(scale) = scale {
        let scale = along_axes(g, scale, axes, rank);
        y = g.mul(y, scale);
    }
    if let Some(shift) = shift {
        let shift = along_axes(g, shift, axes, rank);
        y = g.add(y, shift);
    }
    y
}

/// Calls `visit` with each element of `values` and the position of its
/// parameter among those that have one dim per axis of `axes`.
pub(crate) fn for_each_parameter(
    dims: &[usize],
    values: &mut [f64],
    axes: &[usize],
    mut visit: impl FnMut(&mut f64, usize),
) {
    let mut position = 0;
    for_each_index(dims, |index| {
        let parameter = axes.iter().fold(0, |at, &axis| at * dims[axis] + index[axis]);
        visit(&mut values[position], parameter);
        position += 1;
    });
}

/// Direct evaluation of [`affine`] in place.
pub(crate) fn affine_eval(
    dims: &[usize],
    values: &mut [f64],
    scale: Option<&[f64]>,
    shift: Option<&[f64]>,
    axes: &[usize],
) {
    for_each_parameter(dims, values, axes, |value, at| {
        *value = *value * scale.map_or(1.0, |scale| scale[at]) + shift.map_or(0.0, |shift| shift[at]);
    });
}

/// `values` as the one result, rounded to the type of `like`.
pub(crate) fn result_like(like: &Literal, values: &[f64]) -> Evaluated {
    let numbers = values.iter().map(|&value| Number::Float(value));
    Ok(vec![Literal::from_numbers(like.dtype(), like.dims(), numbers)?])
}

/// Every one of `parameters` has dtype and extents of `x` along `axes`.
pub(crate) fn check_parameters(
    label: &'static str,
    x: &TensorType,
    axes: &[usize],
    parameters: &[&TensorType],
) -> Result<(), Violation> {
    let others: Vec<usize> = (0..x.rank()).filter(|axis| !axes.contains(axis)).collect();
    let expected = TensorType::new(x.dtype, reduced_shape(&x.shape, &others, false));
    for parameter in parameters {
        require!(
            label,
            **parameter == expected,
            "expected a parameter of type {expected}, found {parameter}"
        );
    }
    Ok(())
}

/// `gamma` in the accumulation dtype, plus one where it is stored minus one.
pub(crate) fn offset(g: &mut Graph, gamma: Value, unit_offset: bool) -> Value {
    let wide = g.accumulation_cast(gamma);
    if !unit_offset {
        return wide;
    }
    let one = g.ones_like(wide);
    g.add(wide, one)
}

/// What the derivatives of a norm need of `x`, `dy` and perhaps `gamma`; the types of the three results.
pub(crate) fn check_backward(
    labels: [&'static str; 4],
    axes: &[usize],
    eps: f64,
    operands: &[&TensorType],
) -> Inferred {
    let (x, dy) = (operands[0], operands[1]);
    float_like(labels[0], operands)?;
    check_axes(labels[1], axes, x)?;
    require!(labels[1], !axes.is_empty(), "at least one axis is needed");
    require!(labels[2], x == dy, "dy is {dy}, expected {x}");
    check_parameters(labels[2], x, axes, &operands[2..])?;
    check_eps(labels[3], eps)?;
    let others: Vec<usize> = (0..x.rank()).filter(|axis| !axes.contains(axis)).collect();
    let parameter = TensorType::new(x.dtype, reduced_shape(&x.shape, &others, false));
    Ok(vec![x.clone(), parameter.clone(), parameter])
}

/// `eps` is a number that is not negative.
pub(crate) fn check_eps(label: &'static str, eps: f64) -> Result<(), Violation> {
    require!(label, eps >= 0.0 && eps.is_finite(), "eps must be finite and not negative, found {eps}");
    Ok(())
}
