//! `group_norm`: zero mean and unit variance over groups of channels.

use crate::ops::normalise::{
    Centre, Standard, affine, affine_eval, check_eps, check_parameters, result_like,
};
use crate::ops::prelude::*;

op! {
    /// `y = (x - mean) / sqrt(variance + eps) gamma + beta` for `x` of [N, C, ..]; mean and variance
    /// over each of the `num_groups` runs of `C / num_groups` channels with everything after them.
    ///
    /// `gamma` and `beta` are [C].
    /// (C1) `x` has a float dtype.
    /// (C2) `x` has rank 2 or more.
    /// (C3) `gamma` and `beta` have the dtype of `x` and the shape [C].
    /// (C4) `eps` is finite and not negative.
    /// (C5) `num_groups` is positive and divides C, for every binding of the symbols.
    /// Half precision computes in f32. Source: ONNX GroupNormalization.
    group_norm: GroupNorm(x)[gamma, beta] -> y {
        /// Number of groups of channels.
        num_groups: usize,
        /// Added to the variance.
        eps: Real,
    }
}

impl OpSpec for GroupNorm {
    const MEANING: Meaning<Self> = Meaning::composite_with_eval(Self::decompose, Self::eval);
    const VJP: Vjp<Self> = Vjp::ViaDecomposition;
    const JVP: Jvp<Self> = Jvp::ViaDecomposition;
    const BATCH: Batch<Self> = Batch::ViaDecomposition;
    const ACCURACY: AccuracyRule<Self> = |_| Accuracy::Accumulated { terms: 64 };
    const SAMPLES: Samples<Self> = Samples::Listed(&[
        "f32[2, 6, 3], f32[6], f32[6] {num_groups = 3, eps = 1e-5, gamma = true, beta = true}",
        "f64[2, 4, 2, 3], f64[4], f64[4] {num_groups = 2}",
        "f32[1, 4, 2, 1, 2], f32[4] {num_groups = 1, beta = false}",
        "f32[3, 6], f32[6] {num_groups = 2, gamma = false}",
        "bf16[2, 4, 3] {num_groups = 4, gamma = false, beta = false}",
        "f16[2, 4, 3], f16[4], f16[4] {num_groups = 2}",
        "f32[0, 4, 2], f32[4], f32[4] {num_groups = 2}",
        "f32[2, 4, 0], f32[4], f32[4] {num_groups = 2}",
        "f32[2, 0, 3], f32[0], f32[0] {num_groups = 2}",
    ]);

    fn infer(&self, operands: &[&TensorType]) -> Inferred {
        let x = operands[0];
        require!("C2", x.rank() >= 2, "expected [N, C, ..], found {x}");
        check_parameters("C3", x, &[1], &operands[1..])?;
        check_eps("C4", self.eps.0)?;
        let (groups, channels) = (self.num_groups, &x.shape[1]);
        require!("C5", groups > 0, "num_groups is 0; one group is the least");
        require!(
            "C5",
            channels.modulo(&Dim::from(groups)).is(0),
            "{groups} groups do not divide {channels} channels"
        );
        float_like("C1", operands)
    }
}

impl GroupNorm {
    fn decompose(&self, g: &mut Graph, operands: &[Value]) -> Vec<Value> {
        let ty = g.ty(operands[0]).clone();
        if ty.shape[1].is(0) {
            return vec![operands[0]];
        }
        let groups = Dim::from(self.num_groups);
        let mut dims = ty.shape.dims().to_vec();
        let per_group = dims[1].floor_div(&groups);
        dims.splice(1..2, [groups, per_group]);
        let wide = g.accumulation_cast(operands[0]);
        let grouped = g.reshape(wide, Shape::from(dims));
        let axes: Vec<usize> = (2..ty.rank() + 1).collect();
        let standard = Standard { axes: &axes, eps: self.eps.0, centre: Centre::Mean };
        let normal = standard.build(g, grouped);
        let normal = g.reshape(normal, ty.shape);
        let given = |name| self.operand_index(name).map(|index| operands[index]);
        let y = affine(g, normal, given("gamma"), given("beta"), &[1]);
        vec![g.cast_to(y, ty.dtype)]
    }

    fn eval(&self, operands: &[&Literal]) -> Evaluated {
        let x = operands[0];
        // Row-major order is kept by splitting an axis, so the elements need not move.
        let mut dims = x.dims().to_vec();
        let per_group = dims[1] / self.num_groups;
        dims.splice(1..2, [self.num_groups, per_group]);
        let axes: Vec<usize> = (2..dims.len()).collect();
        let standard = Standard { axes: &axes, eps: self.eps.0, centre: Centre::Mean };
        let mut values = standard.eval(&dims, &x.to_f64s());
        let given = |name| self.operand_index(name).map(|index| operands[index].to_f64s());
        affine_eval(x.dims(), &mut values, given("gamma").as_deref(), given("beta").as_deref(), &[1]);
        result_like(x, &values)
    }
}
