//! `gaussian_splat_render_backward`: the derivatives of an image of Gaussian splats.

use crate::ops::prelude::*;
use crate::reverse::pulled_back;

op! {
    /// The derivatives of `gaussian_splat_render` by every operand, from `dimage`, that by its image: of the scene, and of
    /// `view` and `intrinsics`, the camera. Which splats a tile sees and where a pixel's list ends do not change.
    ///
    /// One result per operand of the render, in its order; without `colours` that of `harmonics` stands in its place.
    /// (C5) `dimage` has the type of the image. The other constraints are those of the render.
    gaussian_splat_render_backward: GaussianSplatRenderBackward(positions, log_scales, rotations, opacity_logits, view, intrinsics, dimage)[colours, harmonics] -> [dpositions, dlog_scales, drotations, dopacity_logits, dview, dintrinsics, dcolours, dharmonics] {
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

impl OpSpec for GaussianSplatRenderBackward {
    const MEANING: Meaning<Self> = Meaning::composite(Self::decompose);
    const VJP: Vjp<Self> = Vjp::ViaDecomposition;
    const JVP: Jvp<Self> = Jvp::ViaDecomposition;
    const BATCH: Batch<Self> = Batch::ViaDecomposition;
    const ACCURACY: AccuracyRule<Self> = |_| Accuracy::Accumulated { terms: 1024 };
    const SAMPLES: Samples<Self> = Samples::Listed(&[
        "f32[5, 3] in [-0.1, 0.3), f32[5, 3] in [-2, -0.5), f32[5, 4] in [-1, 1), f32[5] in [-2, 2), f32[4, \
         4] in [0.5, 1), f32[4] in [2, 3), f32[4, 6, 4] in [-1, 1), f32[5, 3] in [0, 1) \
         {width = 6, height = 4, tile_size = 4, near = 0.1, alpha_cutoff = 0.00392156862745098, \
         transmittance_threshold = 0.0001, colours = true}",
        "f64[3, 3] in [-0.1, 0.3), f64[3, 3] in [-2, -0.5), f64[3, 4] in [-1, 1), f64[3] in [-2, 2), f64[4, \
         4] in [0.5, 1), f64[4] in [2, 3), f64[4, 3, 4] in [-1, 1), f64[3, 4, 3] in [-0.5, 0.5) \
         {width = 3, tile_size = 2, colours = false, harmonics = true}",
        "f64[2, 3] in [-0.1, 0.3), f64[2, 3] in [-2, -0.5), f64[2, 4] in [-1, 1), f64[2] in [-2, 2), f64[4, \
         4] in [0.5, 1), f64[4] in [2, 3), f64[3, 2, 4] in [-1, 1), f64[2, 3] in [0, 1), f64[2, 9, \
         3] in [-0.5, 0.5) {width = 2, height = 3, tile_size = 8, harmonics = true}",
        "f32[0, 3] in [-0.1, 0.3), f32[0, 3] in [-2, -0.5), f32[0, 4] in [-1, 1), f32[0] in [-2, 2), f32[4, \
         4] in [0.5, 1), f32[4] in [2, 3), f32[2, 3, 4] in [-1, 1), f32[0, 3] in [0, 1) \
         {width = 3, height = 2, tile_size = 2}",
    ]);

    fn infer(&self, operands: &[&TensorType]) -> Inferred {
        let scene = without_image(operands);
        let image = self.render().infer(&scene)?;
        require!("C5", *operands[6] == image[0], "`dimage` is {}, expected {}", operands[6], image[0]);
        Ok(scene.into_iter().cloned().collect())
    }
}

/// The operands of the render among those of its derivative.
fn without_image<T: Copy>(operands: &[T]) -> Vec<T> {
    [&operands[..6], &operands[7..]].concat()
}

impl GaussianSplatRenderBackward {
    /// The derivative of `op`.
    pub(crate) fn of(op: &GaussianSplatRender) -> GaussianSplatRenderBackward {
        let GaussianSplatRender { width, height, tile_size, near, .. } = *op;
        let GaussianSplatRender { alpha_cutoff, transmittance_threshold, colours, harmonics, .. } = *op;
        GaussianSplatRenderBackward {
            width,
            height,
            tile_size,
            near,
            alpha_cutoff,
            transmittance_threshold,
            colours,
            harmonics,
        }
    }

    fn render(&self) -> GaussianSplatRender {
        let Self { width, height, tile_size, near, .. } = *self;
        let Self { alpha_cutoff, transmittance_threshold, colours, harmonics, .. } = *self;
        GaussianSplatRender {
            width,
            height,
            tile_size,
            near,
            alpha_cutoff,
            transmittance_threshold,
            colours,
            harmonics,
        }
    }

    fn decompose(&self, g: &mut Graph, operands: &[Value]) -> Vec<Value> {
        let (scene, op) = (without_image(operands), self.render());
        let build = |g: &mut Graph, operands: &[Value]| op.decompose(g, operands);
        match pulled_back(g, &scene, &[Some(operands[6])], build) {
            Ok(derivatives) => {
                let pairs = derivatives.into_iter().zip(scene);
                pairs.map(|(derivative, of)| derivative.unwrap_or_else(|| g.zeros_like(of))).collect()
            }
            Err(reason) => vec![g.reject("gaussian_splat_render_backward", reason); scene.len()],
        }
    }
}
