//! `gaussian_splat_render`: an image of Gaussian splats.

use crate::ops::prelude::*;
use crate::ops::splatting::sample_scene;

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

    fn infer(&self, operands: &[&TensorType]) -> Inferred {
        let prepared = self.prepare().infer(operands)?;
        self.rasterize().infer(&prepared.iter().collect::<Vec<_>>())
    }

    fn samples() -> Vec<Sample<Self>> {
        scene_samples()
            .into_iter()
            .map(|(op, dtype, count, bands)| {
                let operands = sample_scene(dtype, count, op.colours, bands);
                Sample { op, operands }
            })
            .collect()
    }
}

/// Ops, dtypes, numbers of splats, and bands of harmonics.
pub(crate) fn scene_samples() -> Vec<(GaussianSplatRender, DType, usize, Option<usize>)> {
    let case = |dtype, count, [width, height, tile_size]: [usize; 3], colours, bands: Option<usize>| {
        let op = GaussianSplatRender {
            width,
            height,
            tile_size,
            near: Real(0.1),
            alpha_cutoff: Real(1.0 / 255.0),
            transmittance_threshold: Real(1e-4),
            colours,
            harmonics: bands.is_some(),
        };
        (op, dtype, count, bands)
    };
    vec![
        case(DType::F32, 5, [6, 4, 4], true, None),
        case(DType::F64, 3, [3, 4, 2], false, Some(4)),
        case(DType::F64, 2, [2, 3, 8], true, Some(9)),
        case(DType::F32, 0, [3, 2, 2], true, None),
    ]
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
