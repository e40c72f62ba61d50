//! `gaussian_splat_render`: an image of Gaussian splats.

use crate::ops::prelude::*;

op! {
    /// `gaussian_splat_rasterize` of what `gaussian_splat_prepare` gives.
    ///
    /// The constraints are theirs.
    gaussian_splat_render: GaussianSplatRender(positions, log_scales, rotations, opacity_logits, view, intrinsics)[colours, harmonics] -> image {
        /// Columns of pixels.
        width: usize,
        /// Rows of pixels.
        height: usize,
        /// Pixels along a side of a tile.
        tile_size: usize,
        /// Depth up to which nothing is seen.
        near: Real,
        /// The least alpha that counts.
        alpha_cutoff: Real,
        /// How much must shine through.
        transmittance_threshold: Real,
    }
}

impl OpSpec for GaussianSplatRender {
    const MEANING: Meaning<Self> = Meaning::composite(Self::decompose);
    const VJP: Vjp<Self> = Vjp::Rule(|op, g, given| {
        let mut operands = given.operands.to_vec();
        operands.insert(6, given.cotangent());
        Ok(g.push_all(GaussianSplatRenderBackward::of(op), &operands).into_iter().map(Some).collect())
    });
    const JVP: Jvp<Self> = Jvp::ViaDecomposition;
    const BATCH: Batch<Self> = Batch::ViaDecomposition;
    const ACCURACY: AccuracyRule<Self> = |_| Accuracy::Accumulated { terms: 256 };
    const SAMPLES: Samples<Self> = Samples::Listed(&[
        "f32[5, 3] in [-0.1, 0.3), f32[5, 3] in [-2, -0.5), f32[5, 4] in [-1, 1), f32[5] in [-2, 2), f32[4, \
         4] in [0.5, 1), f32[4] in [2, 3), f32[5, 3] in [0, 1) \
         {width = 6, height = 4, tile_size = 4, near = 0.1, alpha_cutoff = 0.00392156862745098, \
         transmittance_threshold = 0.0001, colours = true}",
        "f64[3, 3] in [-0.1, 0.3), f64[3, 3] in [-2, -0.5), f64[3, 4] in [-1, 1), f64[3] in [-2, 2), f64[4, \
         4] in [0.5, 1), f64[4] in [2, 3), f64[3, 4, 3] in [-0.5, 0.5) \
         {width = 3, tile_size = 2, colours = false, harmonics = true}",
        "f64[2, 3] in [-0.1, 0.3), f64[2, 3] in [-2, -0.5), f64[2, 4] in [-1, 1), f64[2] in [-2, 2), f64[4, \
         4] in [0.5, 1), f64[4] in [2, 3), f64[2, 3] in [0, 1), f64[2, 9, 3] in [-0.5, 0.5) \
         {width = 2, height = 3, tile_size = 8, harmonics = true}",
        "f32[0, 3] in [-0.1, 0.3), f32[0, 3] in [-2, -0.5), f32[0, 4] in [-1, 1), f32[0] in [-2, 2), f32[4, \
         4] in [0.5, 1), f32[4] in [2, 3), f32[0, 3] in [0, 1) {width = 3, height = 2, tile_size = 2}",
    ]);

    fn infer(&self, operands: &[&TensorType]) -> Inferred {
        let prepared = self.prepare().infer(operands)?;
        self.rasterize().infer(&prepared.iter().collect::<Vec<_>>())
    }
}

impl GaussianSplatRender {
    fn prepare(&self) -> GaussianSplatPrepare {
        let Self { width, height, tile_size, near, colours, harmonics, .. } = *self;
        GaussianSplatPrepare { width, height, tile_size, near, colours, harmonics }
    }

    fn rasterize(&self) -> GaussianSplatRasterize {
        let Self { width, height, tile_size, alpha_cutoff, transmittance_threshold, .. } = *self;
        GaussianSplatRasterize { width, height, tile_size, alpha_cutoff, transmittance_threshold }
    }

    /// Both, one after the other.
    pub(crate) fn decompose(&self, g: &mut Graph, operands: &[Value]) -> Vec<Value> {
        let prepared = g.push_all(self.prepare(), operands);
        vec![g.push(self.rasterize(), &prepared)]
    }
}
