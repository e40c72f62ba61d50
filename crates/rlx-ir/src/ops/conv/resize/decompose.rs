//! Definition of `resize` by gathers: for each axis, one gather per tap, times
//! its weights. Taps are constants where the extents are static, else they are
//! computed in i32 from exact fractions.

use super::{CoordinateMode, NearestRounding, Resize, ResizeMode, taps};
use crate::ops::prelude::*;

/// Element numbers (i32) and weights of one tap, one per element of the result axis.
type Tap = (Value, Option<Value>);

pub(super) fn decompose(op: &Resize, g: &mut Graph, operands: &[Value]) -> Vec<Value> {
    let dtype = g.ty(operands[0]).dtype;
    let mut y = operands[0];
    if op.mode != ResizeMode::Nearest {
        y = g.accumulation_cast(y);
    }
    for (position, (&axis, size)) in op.axes.iter().zip(&op.sizes).enumerate() {
        // One axis after the other: what lies between may be too large where the result is not.
        let Some(TensorType { dtype, shape }) = g.try_ty(y).cloned() else { return vec![Value::POISON] };
        let extent = shape[axis].clone();
        if extent == *size && op.scales.is_empty() {
            continue;
        }
        let fixed = |dim: &Dim| dim.as_static().and_then(|dim| usize::try_from(dim).ok());
        let taps = match (fixed(&extent), fixed(size)) {
            (Some(extent), Some(size)) => constant_taps(op, g, dtype, position, extent, size),
            _ => Symbolic::new(g, &extent, size).taps(op, dtype),
        };
        y = combine(g, y, axis, &taps);
    }
    vec![g.cast_to(y, dtype)]
}

/// The sum of the taps' gathers along `axis`, each times its weights.
fn combine(g: &mut Graph, x: Value, axis: usize, taps: &[Tap]) -> Value {
    let mut sum = None;
    for &(elements, weights) in taps {
        let mut part = g.gather(x, elements, axis);
        if let Some(weights) = weights {
            let Some(ty) = g.try_ty(part).cloned() else { return Value::POISON };
            let mut dims = vec![Dim::from(1); ty.rank()];
            dims[axis] = ty.shape[axis].clone();
            let weights = g.reshape(weights, dims);
            part = g.mul(part, weights);
        }
        sum = Some(sum.map_or(part, |sum| g.add(sum, part)));
    }
    sum.unwrap_or(x)
}

fn constant_taps(
    op: &Resize,
    g: &mut Graph,
    dtype: DType,
    position: usize,
    extent: usize,
    size: usize,
) -> Vec<Tap> {
    let all = taps::all(op, position, extent, size);
    let count = match op.mode {
        ResizeMode::Nearest => 1,
        ResizeMode::Linear => 2,
        ResizeMode::Cubic => 4,
    };
    let tap = |tap: usize| {
        let elements: Vec<i128> = all.iter().map(|taps| taps[tap].0 as i128).collect();
        let elements =
            g.constant(Literal::ints(DType::I32, &[size], &elements).expect("one tap per position"));
        let weights: Vec<f64> = all.iter().map(|taps| taps[tap].1).collect();
        let weighted = op.mode != ResizeMode::Nearest;
        (
            elements,
            weighted.then(|| {
                g.constant(Literal::floats(dtype, &[size], &weights).expect("one tap per position"))
            }),
        )
    };
    (0..count).map(tap).collect()
}

/// The computation of taps where extents are symbols.
struct Symbolic<'a> {
    g: &'a mut Graph,
    size: Dim,
    /// Extents of the axis before and after, as i32 scalars.
    input: Value,
    result: Value,
}

impl<'a> Symbolic<'a> {
    fn new(g: &'a mut Graph, extent: &Dim, size: &Dim) -> Symbolic<'a> {
        let input = g.extent(DType::I32, extent);
        let result = g.extent(DType::I32, size);
        Symbolic { g, size: size.clone(), input, result }
    }

    fn int(&mut self, value: i64) -> Value {
        self.g.constant(Literal::scalar_i32(i32::try_from(value).unwrap_or(i32::MAX)))
    }

    /// Numerator `[size]` and denominator of the source positions.
    fn fraction(&mut self, mode: CoordinateMode) -> (Value, Value) {
        let (one, two) = (self.int(1), self.int(2));
        let (input, result) = (self.input, self.result);
        let element = self.g.iota(DType::I32, vec![self.size.clone()], 0usize);
        match mode {
            CoordinateMode::Asymmetric => (self.g.mul(element, input), result),
            CoordinateMode::AlignCorners => {
                let (input, result) = (self.g.sub(input, one), self.g.sub(result, one));
                (self.g.mul(element, input), self.g.maximum(result, one))
            }
            CoordinateMode::HalfPixel
            | CoordinateMode::HalfPixelSymmetric
            | CoordinateMode::PytorchHalfPixel => {
                let twice = self.g.mul(element, two);
                let odd = self.g.add(twice, one);
                let scaled = self.g.mul(odd, input);
                let mut numerator = self.g.sub(scaled, result);
                if mode == CoordinateMode::PytorchHalfPixel {
                    let single = self.g.compare(result, one, CompareKind::Eq);
                    let zero = self.int(0);
                    numerator = self.g.r#where(single, zero, numerator);
                }
                (numerator, self.g.mul(result, two))
            }
        }
    }

    fn taps(&mut self, op: &Resize, dtype: DType) -> Vec<Tap> {
        let (numerator, denominator) = self.fraction(op.coordinates);
        let rest = self.g.push(Binary { kind: BinaryKind::Mod }, &[numerator, denominator]);
        let whole = self.g.sub(numerator, rest);
        let floor = self.g.div(whole, denominator);
        if op.mode == ResizeMode::Nearest {
            let element = self.nearest(op.rounding, floor, rest, denominator);
            return vec![(self.clamp(element), None)];
        }
        let (rest, denominator) = (self.g.cast_to(rest, dtype), self.g.cast_to(denominator, dtype));
        let fraction = self.g.div(rest, denominator);
        let mut taps = vec![];
        let offsets = if op.mode == ResizeMode::Linear { 0..=1 } else { -1..=2 };
        for offset in offsets {
            let step = self.int(offset);
            let element = self.g.add(floor, step);
            let mut weight = self.weight(op, dtype, fraction, offset);
            if op.exclude_outside {
                let inside = self.inside(element);
                let zero = self.g.scalar(dtype, 0.0);
                weight = self.g.r#where(inside, weight, zero);
            }
            taps.push((self.clamp(element), weight));
        }
        if op.exclude_outside {
            let first = taps[0].1;
            let sum = taps[1..].iter().fold(first, |sum, tap| self.g.add(sum, tap.1));
            for tap in &mut taps {
                tap.1 = self.g.div(tap.1, sum);
            }
        }
        taps.into_iter().map(|(element, weight)| (element, Some(weight))).collect()
    }

    fn nearest(
        &mut self,
        rounding: Option<NearestRounding>,
        floor: Value,
        rest: Value,
        denominator: Value,
    ) -> Value {
        let (two, zero) = (self.int(2), self.int(0));
        let twice = self.g.mul(rest, two);
        let up = match rounding {
            Some(NearestRounding::Floor) => return floor,
            Some(NearestRounding::Ceil) => self.g.compare(rest, zero, CompareKind::Gt),
            Some(NearestRounding::RoundPreferCeil) => self.g.compare(twice, denominator, CompareKind::Ge),
            Some(NearestRounding::RoundPreferFloor) | None => {
                self.g.compare(twice, denominator, CompareKind::Gt)
            }
        };
        let up = self.g.cast_to(up, DType::I32);
        self.g.add(floor, up)
    }

    fn clamp(&mut self, element: Value) -> Value {
        let (zero, one) = (self.int(0), self.int(1));
        let last = self.g.sub(self.input, one);
        let element = self.g.minimum(element, last);
        self.g.maximum(element, zero)
    }

    fn inside(&mut self, element: Value) -> Value {
        let zero = self.int(0);
        let not_before = self.g.compare(element, zero, CompareKind::Ge);
        let not_after = self.g.compare(element, self.input, CompareKind::Lt);
        self.g.and(not_before, not_after)
    }

    /// Weight of the element `offset` after the one before the source position.
    fn weight(&mut self, op: &Resize, dtype: DType, fraction: Value, offset: i64) -> Value {
        let one = self.g.scalar(dtype, 1.0);
        if op.mode == ResizeMode::Linear {
            return if offset == 0 { self.g.sub(one, fraction) } else { fraction };
        }
        // Distance to the tap; which piece of the kernel holds is known from the offset alone.
        let at = self.g.scalar(dtype, offset as f64);
        let distance = if offset > 0 { self.g.sub(at, fraction) } else { self.g.sub(fraction, at) };
        let a = op.cubic_coefficient.map_or(-0.75, |coefficient| coefficient.0);
        let coefficients = match offset {
            0 | 1 => [a + 2.0, -(a + 3.0), 0.0, 1.0],
            _ => [a, -5.0 * a, 8.0 * a, -4.0 * a],
        };
        let mut weight = self.g.scalar(dtype, coefficients[0]);
        for coefficient in &coefficients[1..] {
            let coefficient = self.g.scalar(dtype, *coefficient);
            let product = self.g.mul(weight, distance);
            weight = self.g.add(product, coefficient);
        }
        weight
    }
}
