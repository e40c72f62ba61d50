//! `fake_quantize`: rounding to the grid of a quantised dtype, in floats, for training through it.

use crate::ops::prelude::*;
use crate::ops::quantisation::wide;

attr_enum! {
    /// Where the scale of a [`FakeQuantize`] comes from.
    ScaleMode {
        /// The largest magnitude of `x` becomes the largest code.
        PerBatch = "per_batch",
        /// `decay scale + (1 - decay)` times the scale of the batch; the second result is the new state.
        Ema = "ema",
        /// The operand.
        Fixed = "fixed",
        /// The operand, which is trained (LSQ).
        Learned = "learned",
    }
}

attr_enum! {
    /// What stands for the derivative of rounding and limiting.
    StraightThrough {
        /// 1.
        Identity = "identity",
        /// 1 where nothing is limited, else 0.
        ClippedIdentity = "clipped_identity",
        /// `1 - tanh(x)^2`.
        Tanh = "tanh",
        /// 1 for `|x| <= 1`, else 0.
        HardTanh = "hard_tanh",
    }
}

op! {
    /// `y = s clamp(round(x / s), -q, q)` with `q = 2^(bits - 1) - 1`, rounding half to even; and `s`, the scale used.
    ///
    /// There is one scale, or one per position along `axis`. `per_batch`: `s = max |x| / q`, or 1 where that is 0.
    /// Scales, and half precision, are computed in f32.
    /// The derivative is a surrogate: `fake_quantize_backward` with the scale that was used. The scale of `per_batch`
    /// and `ema` counts as constant; that of `learned` gets the derivative of LSQ; the second result has none.
    /// (C1) `x` has a float dtype of 16 bits or more.
    /// (C2) `axis` is an axis of `x`.
    /// (C3) `bits` is in 2 ..= 16, `decay` in 0 ..= 1.
    /// (C4) `scale` is given for all modes but `per_batch`, f32 (f64 for `x` of f64), of shape [] or [extent of `axis`].
    fake_quantize: FakeQuantize(x)[scale] -> [y, used] {
        /// Bits of a code.
        bits: usize,
        /// Axis along which scales differ; one scale where there is none.
        axis: Option<usize>,
        /// What stands for the derivative.
        ste: StraightThrough,
        /// Where the scale comes from.
        scale_mode: ScaleMode,
        /// Weight of the old scale in `ema`.
        decay: Real,
    }
}

/// Checks what the op and its backward have in common; gives the type of the scale.
pub(crate) fn check_grid(bits: usize, axis: Option<usize>, x: &TensorType) -> Result<TensorType, Violation> {
    float_like("C1", &[x])?;
    require!("C1", x.dtype.block_bits() >= 16, "expected a float dtype of 16 bits or more, found {x}");
    if let Some(axis) = axis {
        check_axis("C2", axis, x)?;
    }
    require!("C3", (2..=16).contains(&bits), "bits must be in 2 ..= 16, found {bits}");
    let dims: Vec<Dim> = axis.iter().map(|&axis| x.shape[axis].clone()).collect();
    Ok(TensorType::new(wide(x.dtype), dims))
}

/// The largest code.
pub(crate) fn largest_code(bits: usize) -> f64 {
    f64::from((1u32 << (bits - 1)) - 1)
}

/// All axes but `axis`.
pub(crate) fn other_axes(rank: usize, axis: Option<usize>) -> Vec<usize> {
    (0..rank).filter(|&other| Some(other) != axis).collect()
}

/// A scale of the op as one that broadcasts to a tensor of shape `shape`.
pub(crate) fn along(g: &mut Graph, scale: Value, shape: &Shape, axis: Option<usize>) -> Value {
    let Some(axis) = axis else { return scale };
    let mut dims = vec![Dim::from(1); shape.rank()];
    dims[axis] = shape[axis].clone();
    g.reshape(scale, dims)
}

impl OpSpec for FakeQuantize {
    const MEANING: Meaning<Self> = Meaning::composite(|op, g, operands| {
        let ty = g.ty(operands[0]).clone();
        let (x, q) = (g.cast_to(operands[0], wide(ty.dtype)), largest_code(op.bits));
        let used = match (op.scale_mode, operands.get(1)) {
            (ScaleMode::Fixed | ScaleMode::Learned, Some(&scale)) => scale,
            (ScaleMode::Ema, Some(&scale)) => {
                let batch = op.batch_scale(g, x, q);
                let dtype = wide(ty.dtype);
                let (old, new) = (g.scalar(dtype, op.decay.0), g.scalar(dtype, 1.0 - op.decay.0));
                let (old, new) = (g.mul(scale, old), g.mul(batch, new));
                g.add(old, new)
            }
            _ => op.batch_scale(g, x, q),
        };
        let scale = along(g, used, &ty.shape, op.axis);
        let codes = g.div(x, scale);
        let codes = g.push(Activation::of(ActivationKind::Round), &[codes]);
        let codes = g.clip(codes, -q, q);
        let y = g.mul(codes, scale);
        vec![g.cast_to(y, ty.dtype), used]
    });
    const VJP: Vjp<Self> = Vjp::Surrogate(|op, g, given| {
        let dy = given.cotangent_or_zeros(g, 0);
        let operands = [given.operands[0], given.results[1], dy];
        let results =
            g.fake_quantize_backward(operands[0], operands[1], operands[2], op.bits, op.axis, op.ste);
        let mut derivatives = vec![Some(results[0])];
        if op.scale {
            derivatives.push((op.scale_mode == ScaleMode::Learned).then_some(results[1]));
        }
        Ok(derivatives)
    });
    const JVP: Jvp<Self> = Jvp::DoubleVjp;
    const BATCH: Batch<Self> = Batch::ViaDecomposition;
    const ACCURACY: AccuracyRule<Self> = |_| Accuracy::Approx { ulp: 4.0 };
    const SAMPLES: Samples<Self> = Samples::Listed(&[
        "f32[3, 5] {bits = 8, axis = none, ste = identity, scale_mode = per_batch, decay = 0.75}",
        "f32[3, 5] {bits = 4, axis = 1, ste = clipped_identity}",
        "f32[2, 3, 4], f32[2] in [0.013, 0.2) {bits = 4, axis = 0, ste = tanh, scale_mode = ema, \
         scale = true}",
        "f64[4, 3], f64[] in [0.013, 0.2) {bits = 4, ste = hard_tanh, scale_mode = fixed, scale = true}",
        "f32[4, 3], f32[3] in [0.013, 0.2) {bits = 3, axis = 1, ste = clipped_identity, \
         scale_mode = learned, scale = true}",
        "f64[7], f64[] in [0.013, 0.2) {scale_mode = ema, scale = true}",
        "f32[0, 3], f32[3] in [0.013, 0.2) {axis = 1, scale_mode = fixed, scale = true}",
        "f32[], f32[] in [0.013, 0.2) {bits = 16, scale_mode = fixed, scale = true}",
    ]);

    fn infer(&self, operands: &[&TensorType]) -> Inferred {
        let scale = check_grid(self.bits, self.axis, operands[0])?;
        require!(
            "C3",
            (0.0..=1.0).contains(&self.decay.0),
            "decay must be in 0 ..= 1, found {}",
            self.decay.0
        );
        let wanted = self.scale_mode != ScaleMode::PerBatch;
        require!(
            "C4",
            self.scale == wanted,
            "{} takes {} scale",
            self.scale_mode,
            if wanted { "a" } else { "no" }
        );
        if let Some(found) = operands.get(1) {
            require!("C4", **found == scale, "expected a scale of type {scale}, found {found}");
        }
        Ok(vec![operands[0].clone(), scale])
    }
}

impl FakeQuantize {
    fn batch_scale(&self, g: &mut Graph, x: Value, q: f64) -> Value {
        let ty = g.ty(x).clone();
        let magnitude = g.abs(x);
        let largest = g.reduce(magnitude, ReduceKind::Max, other_axes(ty.rank(), self.axis), false);
        let q = g.scalar(ty.dtype, q);
        let scale = g.div(largest, q);
        let (zero, one) = (g.scalar(ty.dtype, 0.0), g.scalar(ty.dtype, 1.0));
        // A NaN stays one; so does nothing's largest magnitude, -inf, become 1.
        let empty = g.compare_le(scale, zero);
        g.where_(empty, one, scale)
    }
}
