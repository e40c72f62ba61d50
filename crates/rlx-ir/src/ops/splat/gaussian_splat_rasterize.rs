//! `gaussian_splat_rasterize`: an image of prepared splats.

use crate::ops::prelude::*;
use crate::ops::splatting::{COLUMNS, Screen, check_thresholds};

/// No splat hides all that is behind it.
const MOST_OPAQUE: f64 = 0.99;

op! {
    /// The image [height, width, 4] of what `gaussian_splat_prepare` gives: linear red, green and blue before a black
    /// background, and how much of the pixel is covered.
    ///
    /// Each pixel takes the splats of its tile's list in order. At its centre, `d` pixels from that of the splat, a splat
    /// has `alpha = min(0.99, opacity exp(-d^T c d / 2))`, `c` the inverse covariance; it is left out where that is below
    /// `alpha_cutoff`. It adds its colour times `alpha t`, `t` the product of `1 - alpha` of those before it. The first
    /// splat behind which `t` would be below `transmittance_threshold` ends the list.
    /// (C1) `splats` [N, 9] is f32 or f64.
    /// (C2) `lists` [tiles, N] and `counts` [tiles] are i32, for the tiles of the attributes.
    /// (C3) `width`, `height` and `tile_size` are in 1 ..= 65536.
    /// (C4) `alpha_cutoff` and `transmittance_threshold` are in 0 ..= 1.
    /// Entries of `lists` outside [0, N) are run-time faults; a count beyond N is N, one below 0 is 0.
    /// Source: Kerbl et al. (2023), where the cutoff is 1/255 and the threshold 0.0001.
    gaussian_splat_rasterize: GaussianSplatRasterize(splats, lists, counts) -> image {
        /// Columns of pixels.
        width: usize,
        /// Rows of pixels.
        height: usize,
        /// Pixels along a side of a tile.
        tile_size: usize,
        /// The least alpha that counts.
        alpha_cutoff: Real,
        /// How much must shine through.
        transmittance_threshold: Real,
    }
}

impl OpSpec for GaussianSplatRasterize {
    const MEANING: Meaning<Self> = Meaning::composite(Self::decompose)
        .checked(|_, types| vec![ValueRange::below(1, types[0].shape[0].clone())]);
    const VJP: Vjp<Self> = Vjp::ViaDecomposition;
    const JVP: Jvp<Self> = Jvp::ViaDecomposition;
    const BATCH: Batch<Self> = Batch::ViaDecomposition;
    const ACCURACY: AccuracyRule<Self> = |_| Accuracy::Accumulated { terms: 64 };
    const SAMPLES: Samples<Self> = Samples::Listed(&[
        "f32[4, 9] in [0.4, 0.9), i32[4, 4] in [0, 4), i32[4] in [0, 5) \
         {width = 4, height = 3, tile_size = 2, alpha_cutoff = 0.0, transmittance_threshold = 0.0}",
        "f64[3, 9] in [0.4, 0.9), i32[2, 3] in [0, 3), i32[2] in [0, 4) \
         {width = 3, height = 4, tile_size = 3, alpha_cutoff = 0.02, transmittance_threshold = 0.3}",
        "f64[2, 9] in [0.4, 0.9), i32[1, 2] in [0, 2), i32[1] in [0, 3) \
         {width = 2, height = 2, tile_size = 8, transmittance_threshold = 0.0001}",
        "f32[0, 9] in [0.4, 0.9), i32[2, 0] in [0, 0), i32[2] in [0, 1) \
         {width = 3, height = 2, alpha_cutoff = 0.004, transmittance_threshold = 0.0001}",
    ]);

    fn infer(&self, operands: &[&TensorType]) -> Inferred {
        let (splats, lists, counts) = (operands[0], operands[1], operands[2]);
        let columns = Dim::from(COLUMNS.iter().sum::<usize>());
        let legal = matches!(splats.dtype, DType::F32 | DType::F64)
            && splats.rank() == 2
            && splats.shape[1] == columns;
        require!("C1", legal, "`splats` is {splats}, expected f32 or f64 of shape [N, {columns}]");
        self.screen().check("C3")?;
        let tiles = self.screen().count();
        let of_tiles = TensorType::new(DType::I32, vec![tiles.clone()]);
        let expected = TensorType::new(DType::I32, vec![tiles, splats.shape[0].clone()]);
        require!("C2", *lists == expected, "`lists` is {lists}, expected {expected}");
        require!("C2", *counts == of_tiles, "`counts` is {counts}, expected {of_tiles}");
        check_thresholds("C4", self.alpha_cutoff, self.transmittance_threshold)?;
        let dims = [self.height, self.width, 4];
        Ok(vec![TensorType::new(splats.dtype, dims)])
    }
}

impl GaussianSplatRasterize {
    fn screen(&self) -> Screen {
        Screen { width: self.width, height: self.height, tile_size: self.tile_size }
    }

    fn decompose(&self, g: &mut Graph, operands: &[Value]) -> Vec<Value> {
        let Some(ty) = g.try_ty(operands[0]).cloned() else { return vec![Value::POISON] };
        let dtype = ty.dtype;
        // [tiles, N, 9], then per column [tiles, 1, N].
        let listed = g.gather(operands[0], operands[1], 0usize);
        let row = |g: &mut Graph, column: usize| {
            let one = g.narrow_at(listed, 2, column, 1);
            g.transpose_last_two(one)
        };
        let [x, y, xx, xy, yy, opacity] = [0, 1, 2, 3, 4, 5].map(|column| row(g, column));
        let (across, down) = (self.pixels(g, dtype, 3), self.pixels(g, dtype, 2));
        let (dx, dy) = (g.sub(across, x), g.sub(down, y));
        let distance = quadratic(g, [dx, dy], [xx, xy, yy]);
        let power = g.scaled(distance, -0.5);
        let fall = g.exp(power);
        let alpha = g.mul(opacity, fall);
        let most = g.scalar(dtype, MOST_OPAQUE);
        let alpha = g.minimum(alpha, most);

        let place = g.iota(DType::I32, vec![ty.shape[0].clone()], 0usize);
        let counts = g.unsqueeze(operands[2], 1);
        let counts = g.unsqueeze(counts, 1);
        let is_listed = g.compare_lt(place, counts);
        let cutoff = g.scalar(dtype, self.alpha_cutoff.0);
        let is_there = g.compare_ge(alpha, cutoff);
        let is_there = g.and(is_there, is_listed);
        let (zero, one) = (g.scalar(dtype, 0.0), g.scalar(dtype, 1.0));
        let alpha = g.where_(is_there, alpha, zero);
        let through = g.sub(one, alpha);
        let before = g.cum_prod(through, 2usize, true, false);
        let after = g.mul(before, through);
        let threshold = g.scalar(dtype, self.transmittance_threshold.0);
        let goes_on = g.compare_ge(after, threshold);
        let weight = g.mul(alpha, before);
        let weight = g.where_(goes_on, weight, zero);

        let colours = g.narrow_at(listed, 2, 6, 3);
        let ones = g.narrow_at(listed, 2, 6, 1);
        let ones = g.ones_like(ones);
        let colours = g.concat_at(&[colours, ones], 2);
        let image = g.mm(weight, colours);
        vec![self.assembled(g, image)]
    }

    /// Coordinates of the centres of all pixels along one axis of [rows, columns, tile rows, tile columns], as
    /// [tiles, pixels, 1]: 2 is down, 3 across.
    fn pixels(&self, g: &mut Graph, dtype: DType, axis: usize) -> Value {
        let side = self.tile_size;
        let [rows, columns] = self.screen().tiles();
        let dims: Vec<Dim> = [rows, columns, side, side].map(Dim::from).to_vec();
        let (tile, inside) = (g.iota(DType::I32, dims.clone(), axis - 2), g.iota(DType::I32, dims, axis));
        let side_of = g.scalar(DType::I32, side as f64);
        let first = g.mul(tile, side_of);
        let whole = g.add(first, inside);
        let whole = g.cast(whole, dtype);
        let half = g.scalar(dtype, 0.5);
        let centres = g.add(whole, half);
        g.reshape(centres, [rows * columns, side * side, 1])
    }

    /// Tiles of pixels [tiles, pixels, 4] as an image, without what is beyond its edges.
    fn assembled(&self, g: &mut Graph, tiles: Value) -> Value {
        let side = self.tile_size;
        let [rows, columns] = self.screen().tiles();
        let apart = g.reshape(tiles, [rows, columns, side, side, 4]);
        let lines = g.transpose(apart, [0, 2, 1, 3, 4]);
        let whole = g.reshape(lines, [rows * side, columns * side, 4]);
        let high = g.narrow(whole, 0usize, 0, self.height);
        g.narrow(high, 1usize, 0, self.width)
    }
}

/// `xx dx dx + 2 xy dx dy + yy dy dy`.
fn quadratic(g: &mut Graph, [dx, dy]: [Value; 2], [xx, xy, yy]: [Value; 3]) -> Value {
    let (along, across) = (g.mul(xx, dx), g.mul(yy, dy));
    let (along, across) = (g.mul(along, dx), g.mul(across, dy));
    let mixed = g.mul(xy, dx);
    let mixed = g.mul(mixed, dy);
    let mixed = g.scaled(mixed, 2.0);
    let sum = g.add(along, across);
    g.add(sum, mixed)
}
