//! `fake_quantize_backward`: what training takes for the derivatives of `fake_quantize`.

use crate::ops::prelude::*;
use crate::ops::quantisation::wide;
use crate::ops::quantised::fake_quantize::{along, check_grid, largest_code, other_axes};

op! {
    /// `dx = dy p` with `p` by `ste`; and the derivative by the scale: `g` times the sum of `dy (round(r) - r)` where
    /// `|r| <= q`, and of `q dy` or `-q dy` beyond, for `r = x / scale`, `q = 2^(bits - 1) - 1` and
    /// `g = 1 / sqrt(q n)` with `n` the elements that share a scale.
    ///
    /// (C1) `x` has a float dtype of 16 bits or more, and `dy` its type.
    /// (C2) `axis` is an axis of `x`.
    /// (C3) `bits` is in 2 ..= 16.
    /// (C4) `scale`, the one that `fake_quantize` used, is f32 (f64 for `x` of f64), of shape [] or [extent of `axis`].
    /// Sources: LSQ (Esser et al. 2020) for the scale; BinaryNet (Hubara et al. 2016) for `hard_tanh`.
    fake_quantize_backward: FakeQuantizeBackward(x, scale, dy) -> [dx, dscale] {
        /// Bits of a code.
        bits: usize,
        /// Axis along which scales differ; one scale where there is none.
        axis: Option<usize>,
        /// What stands for the derivative.
        ste: StraightThrough,
    }
}

impl OpSpec for FakeQuantizeBackward {
    const MEANING: Meaning<Self> = Meaning::composite(Self::decompose);
    const VJP: Vjp<Self> = Vjp::ViaDecomposition;
    const JVP: Jvp<Self> = Jvp::ViaDecomposition;
    const BATCH: Batch<Self> = Batch::ViaDecomposition;
    const ACCURACY: AccuracyRule<Self> = |_| Accuracy::Accumulated { terms: 64 };
    const SAMPLES: Samples<Self> = Samples::Listed(&[
        "f32[3, 5], f32[] in [0.1, 0.4), f32[3, 5] {bits = 4, axis = none, ste = identity}",
        "f32[3, 5], f32[5] in [0.1, 0.4), f32[3, 5] {bits = 3, axis = 1, ste = clipped_identity}",
        "f64[2, 3, 4], f64[2] in [0.1, 0.4), f64[2, 3, 4] {axis = 0, ste = tanh}",
        "f16[4, 3], f32[3] in [0.1, 0.4), f16[4, 3] {axis = 1, ste = hard_tanh}",
        "f32[0, 3], f32[] in [0.1, 0.4), f32[0, 3] {bits = 8, ste = clipped_identity}",
        "f32[], f32[] in [0.1, 0.4), f32[] {bits = 8, ste = tanh}",
    ]);

    fn infer(&self, operands: &[&TensorType]) -> Inferred {
        let scale = check_grid(self.bits, self.axis, operands[0])?;
        require!("C1", operands[0] == operands[2], "`dy` is {}, expected {}", operands[2], operands[0]);
        require!("C4", *operands[1] == scale, "expected a scale of type {scale}, found {}", operands[1]);
        Ok(vec![operands[0].clone(), scale])
    }
}

impl FakeQuantizeBackward {
    fn decompose(&self, g: &mut Graph, operands: &[Value]) -> Vec<Value> {
        let ty = g.ty(operands[0]).clone();
        let (dtype, q) = (wide(ty.dtype), largest_code(self.bits));
        let [x, dy] = [operands[0], operands[2]].map(|operand| g.cast_to(operand, dtype));
        let scale = along(g, operands[1], &ty.shape, self.axis);
        let r = g.div(x, scale);
        let (zero, one, most) = (g.scalar(dtype, 0.0), g.scalar(dtype, 1.0), g.scalar(dtype, q));
        let magnitude = g.abs(r);
        let inside = g.compare_le(magnitude, most);
        let dx = match self.ste {
            StraightThrough::Identity => dy,
            StraightThrough::ClippedIdentity => g.where_(inside, dy, zero),
            StraightThrough::HardTanh => {
                let magnitude = g.abs(x);
                let inside = g.compare_le(magnitude, one);
                g.where_(inside, dy, zero)
            }
            StraightThrough::Tanh => {
                let t = g.tanh(x);
                let square = g.mul(t, t);
                let p = g.sub(one, square);
                g.mul(dy, p)
            }
        };
        let rounded = g.push(Activation::of(ActivationKind::Round), &[r]);
        let off = g.sub(rounded, r);
        let limit = g.clip(r, -q, q);
        let by_scale = g.where_(inside, off, limit);
        let product = g.mul(dy, by_scale);
        let axes = other_axes(ty.rank(), self.axis);
        let sum = g.reduce(product, ReduceKind::Sum, axes.clone(), false);
        let one = Dim::from(1);
        let count = axes.iter().fold(one.clone(), |count, &axis| count * ty.shape[axis].clone());
        let count = g.extent(dtype, &count.maximum(&one));
        let count = g.mul(count, most);
        let weight = g.push(Activation::of(ActivationKind::Rsqrt), &[count]);
        let dscale = g.mul(sum, weight);
        vec![g.cast_to(dx, ty.dtype), dscale]
    }
}
