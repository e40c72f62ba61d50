//! `gaussian_splat_prepare`: Gaussian splats on the screen, and which of them each tile sees.

use crate::ops::prelude::*;
use crate::ops::splatting::{COLUMNS, Projected, Scene, Screen};

op! {
    /// Projects N splats to the screen and lists, for each tile, those that reach it, the nearest first.
    ///
    /// A splat is a Gaussian about a position [N, 3], with standard deviations `exp(log_scales)` [N, 3] along axes that
    /// the quaternion (x, y, z, w; normalised here) [N, 4] turns, and opacity `sigmoid(opacity_logits)` [N]. `view` [4, 4]
    /// takes points of the world to the camera, which looks along +z with y down; its upper left part is taken as a
    /// rotation, its last row is not read. `intrinsics` are focal lengths x and y and centre x and y, in pixels; the
    /// centre of the first pixel is (0.5, 0.5).
    ///
    /// The covariance is projected by the derivative of the perspective, taken at most 1.3 half widths from the middle,
    /// and 0.3 square pixels are added. The colour [N, 3] is `colours`, or where there are `harmonics`
    /// `max(0, colours + sum)`, 0.5 standing for missing colours: real spherical harmonics up to degree 3 of the
    /// direction from the camera to the splat, in the order and with the signs of the source.
    ///
    /// `splats` [N, 9] holds pixel x and y, the inverse covariance (xx, xy, yy), opacity and colour. A tile sees splats
    /// deeper than `near` whose square of 3 standard deviations (rounded up) about the centre overlaps it: `lists`
    /// [tiles, N] are their numbers by depth, those of equal depth in order, the others behind; `counts` [tiles] tells how
    /// many. Tiles stand row after row.
    /// (C1) All operands have one dtype, f32 or f64.
    /// (C2) Their extents are those above.
    /// (C3) `colours` or `harmonics` [N, 1, 4, 9 or 16, 3] or both are given.
    /// (C4) `width`, `height` and `tile_size` are in 1 ..= 65536; `near` is finite and positive.
    /// Source: Kerbl et al., "3D Gaussian Splatting for Real-Time Radiance Field Rendering" (2023).
    gaussian_splat_prepare: GaussianSplatPrepare(positions, log_scales, rotations, opacity_logits, view, intrinsics)[colours, harmonics] -> [splats, lists, counts] {
        /// Columns of pixels.
        width: usize,
        /// Rows of pixels.
        height: usize,
        /// Pixels along a side of a tile.
        tile_size: usize,
        /// Depth up to which nothing is seen.
        near: Real,
    }
}

impl OpSpec for GaussianSplatPrepare {
    const MEANING: Meaning<Self> = Meaning::composite(Self::decompose);
    const VJP: Vjp<Self> = Vjp::ViaDecomposition;
    const JVP: Jvp<Self> = Jvp::ViaDecomposition;
    const BATCH: Batch<Self> = Batch::ViaDecomposition;
    const ACCURACY: AccuracyRule<Self> = |_| Accuracy::Accumulated { terms: 64 };
    const SAMPLES: Samples<Self> = Samples::Listed(&[
        "f32[5, 3] in [-0.1, 0.3), f32[5, 3] in [-2, -0.5), f32[5, 4] in [-1, 1), f32[5] in [-2, 2), f32[4, \
         4] in [0.5, 1), f32[4] in [2, 3), f32[5, 3] in [0, 1) \
         {width = 8, height = 6, tile_size = 4, near = 0.1, colours = true}",
        "f64[3, 3] in [-0.1, 0.3), f64[3, 3] in [-2, -0.5), f64[3, 4] in [-1, 1), f64[3] in [-2, 2), f64[4, \
         4] in [0.5, 1), f64[4] in [2, 3), f64[3, 9, 3] in [-0.5, 0.5) \
         {width = 5, height = 7, tile_size = 3, colours = false, harmonics = true}",
        "f32[4, 3] in [-0.1, 0.3), f32[4, 3] in [-2, -0.5), f32[4, 4] in [-1, 1), f32[4] in [-2, 2), f32[4, \
         4] in [0.5, 1), f32[4] in [2, 3), f32[4, 3] in [0, 1), f32[4, 16, 3] in [-0.5, 0.5) \
         {width = 4, height = 4, tile_size = 16, harmonics = true}",
        "f64[2, 3] in [-0.1, 0.3), f64[2, 3] in [-2, -0.5), f64[2, 4] in [-1, 1), f64[2] in [-2, 2), f64[4, \
         4] in [0.5, 1), f64[4] in [2, 3), f64[2, 3] in [0, 1), f64[2, 4, 3] in [-0.5, 0.5) \
         {width = 3, height = 3, tile_size = 1, harmonics = true}",
        "f64[2, 3] in [-0.1, 0.3), f64[2, 3] in [-2, -0.5), f64[2, 4] in [-1, 1), f64[2] in [-2, 2), f64[4, \
         4] in [0.5, 1), f64[4] in [2, 3), f64[2, 1, 3] in [-0.5, 0.5) \
         {width = 3, height = 3, tile_size = 2, colours = false, harmonics = true}",
        "f32[0, 3] in [-0.1, 0.3), f32[0, 3] in [-2, -0.5), f32[0, 4] in [-1, 1), f32[0] in [-2, 2), f32[4, \
         4] in [0.5, 1), f32[4] in [2, 3), f32[0, 3] in [0, 1) {width = 4, height = 4, tile_size = 2}",
    ]);

    fn infer(&self, operands: &[&TensorType]) -> Inferred {
        let count = Scene::of(operands, 0, self.colours, self.harmonics).check()?;
        self.screen().check("C4")?;
        let near = self.near.0;
        require!("C4", near.is_finite() && near > 0.0, "near must be finite and positive, found {near}");
        let tiles = self.screen().count();
        let columns = Dim::from(COLUMNS.iter().sum::<usize>());
        Ok(vec![
            TensorType::new(operands[0].dtype, vec![count.clone(), columns]),
            TensorType::new(DType::I32, vec![tiles.clone(), count]),
            TensorType::new(DType::I32, vec![tiles]),
        ])
    }
}

impl GaussianSplatPrepare {
    fn screen(&self) -> Screen {
        Screen { width: self.width, height: self.height, tile_size: self.tile_size }
    }

    fn decompose(&self, g: &mut Graph, operands: &[Value]) -> Vec<Value> {
        let scene = Scene::of(operands, 0, self.colours, self.harmonics);
        let Projected { splats, depths, radii, visible } = scene.project(g, self.screen(), self.near.0);
        let Some(ty) = g.try_ty(operands[0]).cloned() else { return vec![Value::POISON; 3] };
        let (tiles, count) = (self.screen().count(), ty.shape[0].clone());
        let [_, columns] = self.screen().tiles();
        let tile = g.iota(DType::I32, vec![tiles.clone(), Dim::from(1)], 0usize);
        let per_row = g.scalar(DType::I32, columns as f64);
        let row = g.div(tile, per_row);
        let full = g.mul(row, per_row);
        let column = g.sub(tile, full);
        let mut seen = visible;
        for (axis, place) in [column, row].into_iter().enumerate() {
            let place = g.cast(place, ty.dtype);
            let low = g.scaled(place, self.tile_size as f64);
            let side = g.scalar(ty.dtype, self.tile_size as f64);
            let high = g.add(low, side);
            let centre = g.narrow_at(splats, 1, axis, 1);
            let centre = g.squeeze(centre, 1);
            let (first, last) = (g.sub(centre, radii), g.add(centre, radii));
            let (starts, ends) = (g.compare_lt(first, high), g.compare_gt(last, low));
            let overlaps = g.and(starts, ends);
            seen = g.and(seen, overlaps);
        }
        let far = g.scalar(ty.dtype, f64::INFINITY);
        let keys = g.where_(seen, depths, far);
        let keys = g.expand(keys, vec![tiles, count]);
        let lists = g.arg_sort(keys, 1usize, false, DType::I32);
        let ones = g.cast(seen, DType::I32);
        let counts = g.reduce(ones, ReduceKind::Sum, vec![1], false);
        vec![splats, lists, counts]
    }
}
