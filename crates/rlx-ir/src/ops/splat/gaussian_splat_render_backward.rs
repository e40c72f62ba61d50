//! `gaussian_splat_render_backward`: the derivatives of an image of Gaussian splats.

use crate::ops::prelude::*;
use crate::ops::splat::gaussian_splat_render::scene_samples;
use crate::ops::splatting::sample_scene;
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

    fn infer(&self, operands: &[&TensorType]) -> Inferred {
        let scene = without_image(operands);
        let image = self.render().infer(&scene)?;
        require!("C5", *operands[6] == image[0], "`dimage` is {}, expected {}", operands[6], image[0]);
        Ok(scene.into_iter().cloned().collect())
    }

    fn samples() -> Vec<Sample<Self>> {
        let sample = |(op, dtype, count, bands): (GaussianSplatRender, _, _, _)| {
            let mut sample = Sample::new(GaussianSplatRenderBackward::of(&op), []);
            sample.operands = sample_scene(dtype, count, op.colours, bands);
            let image = TensorType::new(dtype, [op.height, op.width, 4]);
            sample.operands.insert(6, (image, Fill::Range(-1.0, 1.0)));
            sample
        };
        scene_samples().into_iter().map(sample).collect()
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
