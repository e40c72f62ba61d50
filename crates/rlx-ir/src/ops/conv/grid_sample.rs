//! `grid_sample`: an image read at given places.

use crate::ops::prelude::*;

attr_enum! {
    /// How elements between places are read.
    GridMode {
        /// The nearest element, of two the one with the even index.
        Nearest = "nearest",
        /// The two neighbours along each axis, by their distance.
        Linear = "linear",
        /// Four along each axis, by Keys' kernel with a = -0.75.
        Cubic = "cubic",
    }
}

attr_enum! {
    /// What stands outside the image.
    GridPadding {
        /// Zeros.
        Zeros = "zeros",
        /// The element at the border.
        Border = "border",
        /// The image reflected at its borders.
        Reflection = "reflection",
    }
}

op! {
    /// `y[n, c, o..] = x[n, c, p..]` at the place `p` that `grid[n, o.., :]` names, between elements as `mode` says; `x`
    /// is [N, C, extents..] with one to three extents, `y` is [N, C, o..].
    ///
    /// A place has a coordinate from -1 to 1 per extent, that of the last one first: -1 and 1 are the centres of the
    /// first and the last element with `align_corners`, else their outer edges.
    /// (C1) Both operands have one float dtype; computed in `f32` at least.
    /// (C2) `x` has 1 to 3 extents behind N and C.
    /// (C3) `grid` is [N, o.., D] of the rank of `x`, D the number of these extents.
    /// Source: PyTorch's `grid_sample`, ONNX `GridSample`; cubic places beyond a border read the padded image, as the
    /// former has it.
    grid_sample: GridSample(x, grid) -> y {
        /// How elements between places are read.
        mode: GridMode,
        /// What stands outside.
        padding: GridPadding,
        /// Are -1 and 1 the centres of the outer elements?
        align_corners: bool,
    }
}

impl OpSpec for GridSample {
    const MEANING: Meaning<Self> = Meaning::composite(Self::decompose);
    const VJP: Vjp<Self> = Vjp::ViaDecomposition;
    const JVP: Jvp<Self> = Jvp::ViaDecomposition;
    const BATCH: Batch<Self> = Batch::ViaDecomposition;
    const ACCURACY: AccuracyRule<Self> = |_| Accuracy::Accumulated { terms: 256 };
    const SAMPLES: Samples<Self> = Samples::Listed(&[
        "f32[1, 2, 4, 5], f32[1, 3, 2, 2] in [-1.3, 1.3) \
         {mode = linear, padding = zeros, align_corners = false}",
        "f32[2, 1, 3, 3], f32[2, 2, 2, 2] in [-1.3, 1.3) \
         {mode = nearest, padding = border, align_corners = true}",
        "f64[1, 1, 4, 3], f64[1, 2, 3, 2] in [-1.3, 1.3) {mode = cubic, padding = reflection}",
        "f64[1, 2, 5], f64[1, 4, 1] in [-1.3, 1.3) {mode = cubic, align_corners = true}",
        "f32[1, 1, 2, 3, 2], f32[1, 2, 1, 2, 3] in [-1.3, 1.3) {padding = reflection, align_corners = true}",
        "f16[1, 2, 3, 3], f16[1, 2, 2, 2] in [-1.3, 1.3) {padding = border}",
        "f32[0, 2, 3, 3], f32[0, 2, 2, 2] in [-1.3, 1.3) {mode = nearest}",
        "f32[1, 1, 1, 1], f32[1, 2, 1, 2] in [-1.3, 1.3) {padding = reflection, align_corners = true}",
    ]);

    fn infer(&self, operands: &[&TensorType]) -> Inferred {
        let (x, grid) = (operands[0], operands[1]);
        same_dtype("C1", operands)?;
        let float = x.dtype.is_float() && !x.dtype.is_storage_only();
        require!("C1", float, "expected a float dtype, found {}", x.dtype);
        require!("C2", (3..=5).contains(&x.rank()), "`x` is {x}, expected rank 3 to 5");
        let last = x.rank() - 1;
        let fits =
            grid.rank() == x.rank() && grid.shape[0] == x.shape[0] && grid.shape[last].is(last as i64 - 1);
        require!("C3", fits, "`x` is {x} and `grid` is {grid}");
        let dims = [&x.shape.dims()[..2], &grid.shape.dims()[1..last]].concat();
        Ok(vec![TensorType::new(x.dtype, Shape::from(dims))])
    }
}

/// One element along an axis: its index, an integer, and the weight it is read with.
type Tap = (Value, Value);

impl GridSample {
    fn decompose(&self, g: &mut Graph, operands: &[Value]) -> Vec<Value> {
        let dtype = g.ty(operands[0]).dtype;
        let (x, grid) = (g.accumulation_cast(operands[0]), g.accumulation_cast(operands[1]));
        let (dims, places) = (g.ty(x).shape.dims().to_vec(), g.ty(grid).shape.dims().to_vec());
        let axes = dims.len() - 2;
        let product = |dims: &[Dim]| dims.iter().cloned().fold(Dim::from(1), |a, b| a * b);
        let (elements, count) = (product(&dims[2..]), product(&places[1..=axes]));
        // Elements in rows of all channels, places in a list.
        let rows = g.reshape(x, vec![dims[0].clone(), dims[1].clone(), elements]);
        let rows = g.transpose_last_two(rows);
        let grid = g.reshape(grid, vec![dims[0].clone(), count.clone(), Dim::from(axes)]);
        let mut taps: Vec<Tap> = vec![];
        for axis in 0..axes {
            let coordinate = g.narrow_at(grid, -1, axes - 1 - axis, 1);
            let along = self.taps(g, coordinate, &dims[2 + axis]);
            if axis == 0 {
                taps = along;
                continue;
            }
            let extent = g.extent(DType::I64, &dims[2 + axis]);
            let mut pairs = vec![];
            for &(outer, left) in &taps {
                for &(inner, right) in &along {
                    let start = g.mul(outer, extent);
                    pairs.push((g.add(start, inner), g.mul(left, right)));
                }
            }
            taps = pairs;
        }
        let mut sum: Option<Value> = None;
        for (index, weight) in taps {
            let read = g.gather_nd(rows, index, 1usize);
            let part = g.mul(read, weight);
            sum = Some(sum.map_or(part, |sum| g.add(sum, part)));
        }
        let y = g.transpose_last_two(sum.unwrap_or(Value::POISON));
        let y = g.reshape(y, Shape::from([&dims[..2], &places[1..=axes]].concat()));
        vec![g.cast_to(y, dtype)]
    }

    /// The elements along an axis that a coordinate [N, Q, 1] from -1 to 1 reads.
    fn taps(&self, g: &mut Graph, coordinate: Value, extent: &Dim) -> Vec<Tap> {
        let dtype = g.ty(coordinate).dtype;
        let one = g.scalar(dtype, 1.0);
        let extent = g.extent(dtype, extent);
        let last = g.sub(extent, one);
        let from_low = g.add(coordinate, one);
        let place = if self.align_corners {
            let twice = g.mul(from_low, last);
            g.scaled(twice, 0.5)
        } else {
            let twice = g.mul(from_low, extent);
            let twice = g.sub(twice, one);
            g.scaled(twice, 0.5)
        };
        // The cubic kernel leaves the image by itself; the others read at a place inside it.
        let place = if self.mode == GridMode::Cubic { place } else { self.inside(g, place, last) };
        let whole = |g: &mut Graph, kind| g.push(Activation::of(kind), &[place]);
        if self.mode == GridMode::Nearest {
            let index = whole(g, ActivationKind::Round);
            let weight = g.ones_like(index);
            return vec![self.tap(g, index, weight, last)];
        }
        let low = whole(g, ActivationKind::Floor);
        let t = g.sub(place, low);
        let (first, weights) = match self.mode {
            GridMode::Cubic => (-1.0, cubic_weights(g, t)),
            _ => (0.0, vec![g.sub(one, t), t]),
        };
        let mut taps = vec![];
        for (step, weight) in weights.into_iter().enumerate() {
            let step = g.scalar(dtype, first + step as f64);
            let index = g.add(low, step);
            taps.push(self.tap(g, index, weight, last));
        }
        taps
    }

    /// The place as far as the padding brings it into the image.
    fn inside(&self, g: &mut Graph, place: Value, last: Value) -> Value {
        let dtype = g.ty(place).dtype;
        let zero = g.scalar(dtype, 0.0);
        let place = match self.padding {
            GridPadding::Zeros => return place,
            GridPadding::Border => place,
            GridPadding::Reflection => {
                let edge = g.scalar(dtype, if self.align_corners { 0.0 } else { 0.5 });
                let twice = g.add(edge, edge);
                let span = g.add(last, twice);
                // One element is its own reflection.
                let one = g.scalar(dtype, 1.0);
                let none = g.compare_eq(span, zero);
                let span = g.where_(none, one, span);
                let from_edge = g.add(place, edge);
                let distance = g.abs(from_edge);
                let double = g.add(span, span);
                let turns = g.div(distance, double);
                let turns = g.push(Activation::of(ActivationKind::Floor), &[turns]);
                let whole = g.mul(turns, double);
                let rest = g.sub(distance, whole);
                let back = g.sub(double, rest);
                let place = g.minimum(rest, back);
                g.sub(place, edge)
            }
        };
        g.clamp(place, Some(zero), Some(last))
    }

    fn tap(&self, g: &mut Graph, index: Value, weight: Value, last: Value) -> Tap {
        let dtype = g.ty(index).dtype;
        let zero = g.scalar(dtype, 0.0);
        let (index, weight) = match self.padding {
            GridPadding::Zeros => {
                let (above, below) = (g.compare_ge(index, zero), g.compare_le(index, last));
                let inside = g.and(above, below);
                (index, g.where_(inside, weight, zero))
            }
            _ => (self.inside(g, index, last), weight),
        };
        let index = g.clamp(index, Some(zero), Some(last));
        (g.cast(index, DType::I64), weight)
    }
}

/// Weights of the elements from one before to two after the place that is `t` behind an element.
fn cubic_weights(g: &mut Graph, t: Value) -> Vec<Value> {
    const A: f64 = -0.75;
    // Polynomials in the distance: up to 1, and from 1 to 2.
    let near = [A + 2.0, -(A + 3.0), 0.0, 1.0];
    let far = [A, -5.0 * A, 8.0 * A, -4.0 * A];
    let dtype = g.ty(t).dtype;
    let mut weight = |sign: f64, offset: f64, factors: [f64; 4]| {
        let turned = g.scaled(t, sign);
        let offset = g.scalar(dtype, offset);
        let distance = g.add(turned, offset);
        let mut sum = g.scalar(dtype, factors[0]);
        for factor in &factors[1..] {
            let product = g.mul(sum, distance);
            let factor = g.scalar(dtype, *factor);
            sum = g.add(product, factor);
        }
        sum
    };
    vec![weight(1.0, 1.0, far), weight(1.0, 0.0, near), weight(-1.0, 1.0, near), weight(-1.0, 2.0, far)]
}
