//! What the ops of Gaussian splatting share: their checks, the screen, and the graph code that projects splats.
//!
//! Source of the method: Kerbl et al., "3D Gaussian Splatting for Real-Time Radiance Field Rendering" (2023).

use crate::ops::prelude::*;

/// Added to the variances of a projected splat, in square pixels, so that none falls between pixels.
const BLUR: f64 = 0.3;
/// Splats further outside than this many times the half width of the screen are projected as if they were there.
const MARGIN: f64 = 1.3;
/// Standard deviations that a splat reaches.
const REACH: f64 = 3.0;
/// Columns of `splats`: pixel x and y, inverse covariance xx, xy and yy, opacity, colour.
pub(crate) const COLUMNS: [usize; 4] = [2, 3, 1, 3];

/// An image cut into square tiles.
#[derive(Clone, Copy)]
pub(crate) struct Screen {
    /// Columns of pixels.
    pub width: usize,
    /// Rows of pixels.
    pub height: usize,
    /// Pixels along a side of a tile; those at the right and lower edge reach beyond the image.
    pub tile_size: usize,
}

impl Screen {
    /// Rows and columns of tiles.
    pub fn tiles(self) -> [usize; 2] {
        [self.height, self.width].map(|extent| extent.div_ceil(self.tile_size))
    }

    /// Number of tiles.
    pub fn count(self) -> Dim {
        let [rows, columns] = self.tiles();
        Dim::from(rows * columns)
    }

    /// Extents that memory can hold.
    pub fn check(self, label: &'static str) -> Result<(), Violation> {
        for (name, extent) in [("width", self.width), ("height", self.height), ("tile_size", self.tile_size)]
        {
            let legal = (1..=1 << 16).contains(&extent);
            require!(label, legal, "{name} must be in 1 ..= 65536, found {extent}");
        }
        Ok(())
    }
}

/// Both are numbers from 0 to 1.
pub(crate) fn check_thresholds(
    label: &'static str,
    alpha_cutoff: Real,
    transmittance_threshold: Real,
) -> Result<(), Violation> {
    for (name, number) in
        [("alpha_cutoff", alpha_cutoff.0), ("transmittance_threshold", transmittance_threshold.0)]
    {
        require!(label, (0.0..=1.0).contains(&number), "{name} must be in 0 ..= 1, found {number}");
    }
    Ok(())
}

/// The operands of a scene and its camera, as values or as types.
#[derive(Clone, Copy)]
pub(crate) struct Scene<T> {
    /// [N, 3], in the world.
    pub positions: T,
    /// [N, 3]: logarithms of the standard deviations along the axes of a splat.
    pub log_scales: T,
    /// [N, 4]: quaternions x, y, z, w, of any length but 0.
    pub rotations: T,
    /// [N].
    pub opacity_logits: T,
    /// [4, 4], from the world to the camera.
    pub view: T,
    /// [4].
    pub intrinsics: T,
    /// [N, 3].
    pub colours: Option<T>,
    /// [N, 1, 4, 9 or 16, 3].
    pub harmonics: Option<T>,
}

impl<T: Copy> Scene<T> {
    /// Of operands in the order of the ops, the two optional ones behind `skipped` others.
    pub fn of(operands: &[T], skipped: usize, colours: bool, harmonics: bool) -> Scene<T> {
        let mut optional = operands[6 + skipped..].iter().copied();
        Scene {
            positions: operands[0],
            log_scales: operands[1],
            rotations: operands[2],
            opacity_logits: operands[3],
            view: operands[4],
            intrinsics: operands[5],
            colours: if colours { optional.next() } else { None },
            harmonics: if harmonics { optional.next() } else { None },
        }
    }
}

impl Scene<&TensorType> {
    /// Dtypes (C1) and extents (C2); gives the number of splats.
    pub fn check(&self) -> Result<Dim, Violation> {
        let Scene { positions, log_scales, rotations, opacity_logits, view, intrinsics, .. } = *self;
        let all = [positions, log_scales, rotations, opacity_logits, view, intrinsics];
        let all: Vec<&TensorType> = all.into_iter().chain(self.colours).chain(self.harmonics).collect();
        same_dtype("C1", &all)?;
        let legal = matches!(positions.dtype, DType::F32 | DType::F64);
        require!("C1", legal, "expected f32 or f64, found {positions}");
        require!("C2", positions.rank() == 2, "`positions` is {positions}, expected [N, 3]");
        let count = positions.shape[0].clone();
        let is = |what: &str, ty: &TensorType, dims: &[Dim]| {
            let expected = TensorType::new(positions.dtype, dims.to_vec());
            require!("C2", *ty == expected, "`{what}` is {ty}, expected {expected}");
            Ok(())
        };
        let [three, four] = [3, 4].map(Dim::from);
        is("positions", positions, &[count.clone(), three.clone()])?;
        is("log_scales", log_scales, &[count.clone(), three.clone()])?;
        is("rotations", rotations, &[count.clone(), four.clone()])?;
        is("opacity_logits", opacity_logits, std::slice::from_ref(&count))?;
        is("view", view, &[four.clone(), four.clone()])?;
        is("intrinsics", intrinsics, &[four])?;
        if let Some(colours) = self.colours {
            is("colours", colours, &[count.clone(), three.clone()])?;
        }
        if let Some(harmonics) = self.harmonics {
            let bands = harmonics.shape.dims().get(1).and_then(Dim::as_static).unwrap_or(0);
            let legal = [1, 4, 9, 16].contains(&bands);
            require!("C3", legal, "`harmonics` is {harmonics}, expected [N, 1, 4, 9 or 16, 3]");
            is("harmonics", harmonics, &[count.clone(), Dim::from(bands), three])?;
        }
        let coloured = self.colours.is_some() || self.harmonics.is_some();
        require!("C3", coloured, "there are neither `colours` nor `harmonics`");
        Ok(count)
    }
}

/// Splats on the screen.
pub(crate) struct Projected {
    /// [N, 9], in the order of [`COLUMNS`].
    pub splats: Value,
    /// Distances along the viewing direction [N].
    pub depths: Value,
    /// Pixels that each reaches from its centre [N].
    pub radii: Value,
    /// Is it in front of the camera? [N]
    pub visible: Value,
}

impl Scene<Value> {
    /// Puts every splat on the screen, as far as it is beyond `near`; the others are put anywhere.
    pub fn project(&self, g: &mut Graph, screen: Screen, near: f64) -> Projected {
        let dtype = g.try_ty(self.positions).map_or(DType::F32, |ty| ty.dtype);
        let turn = g.narrow_at(self.view, 0, 0, 3);
        let turn = g.narrow_at(turn, 1, 0, 3);
        let shift = g.narrow_at(self.view, 0, 0, 3);
        let shift = g.narrow_at(shift, 1, 3, 1);
        let shift = g.squeeze(shift, 1);
        let turned = g.matmul(self.positions, turn, false, true);
        let seen = g.add(turned, shift);

        let depths = g.narrow_at(seen, 1, 2, 1);
        let limit = g.scalar(dtype, near);
        let visible = g.compare_gt(depths, limit);
        let one = g.scalar(dtype, 1.0);
        let depth = g.where_(visible, depths, one);
        let plane = g.narrow_at(seen, 1, 0, 2);
        let slope = g.div(plane, depth);
        let focal = g.narrow_at(self.intrinsics, 0, 0, 2);
        let centre = g.narrow_at(self.intrinsics, 0, 2, 2);
        let scaled = g.mul(slope, focal);
        let means = g.add(scaled, centre);

        let covariance = self.covariance(g, screen, [turn, depth, slope, focal]);
        let [xx, xy, yy] = [(0, 0), (0, 1), (1, 1)].map(|(row, column)| {
            let row = g.narrow_at(covariance, 1, row, 1);
            let element = g.narrow_at(row, 2, column, 1);
            g.squeeze(element, 2)
        });
        let (product, square) = (g.mul(xx, yy), g.mul(xy, xy));
        let determinant = g.sub(product, square);
        let negative = g.scaled(xy, -1.0);
        let adjugate = g.concat_at(&[yy, negative, xx], 1);
        let conics = g.div(adjugate, determinant);
        let radii = reach(g, [xx, yy, determinant]);

        let opacity = g.sigmoid(self.opacity_logits);
        let opacity = g.unsqueeze(opacity, 1);
        let colours = self.shade(g, turn, shift);
        let splats = g.concat_at(&[means, conics, opacity, colours], 1);
        let [depths, radii, visible] = [depths, radii, visible].map(|value| g.squeeze(value, 1));
        Projected { splats, depths, radii, visible }
    }

    /// Covariances on the screen [N, 2, 2]: `j w s w^T j^T`, `j` the derivative of the projection.
    fn covariance(&self, g: &mut Graph, screen: Screen, [turn, depth, slope, focal]: [Value; 4]) -> Value {
        let axes = self.axes(g);
        let dtype = g.try_ty(depth).map_or(DType::F32, |ty| ty.dtype);
        let half = [screen.width, screen.height].map(|extent| MARGIN * extent as f64 / 2.0);
        let half = constant(g, dtype, &[2], &half);
        let most = g.div(half, focal);
        let least = g.scaled(most, -1.0);
        let slope = g.minimum(slope, most);
        let slope = g.maximum(slope, least);
        let slope = g.unsqueeze(slope, 2);
        let away = g.scaled(slope, -1.0);
        let plane = constant(g, dtype, &[2, 2], &[1.0, 0.0, 0.0, 1.0]);
        let blur = g.scaled(plane, BLUR);
        let count = g.try_ty(depth).map_or(Dim::from(0), |ty| ty.shape[0].clone());
        let plane = g.expand(plane, vec![count, Dim::from(2), Dim::from(2)]);
        let directions = g.concat_at(&[plane, away], 2);
        let scale = g.div(focal, depth);
        let scale = g.unsqueeze(scale, 2);
        let jacobian = g.mul(directions, scale);
        let across = g.mm(turn, axes);
        let spread = g.mm(jacobian, across);
        let covariance = g.matmul(spread, spread, false, true);
        g.add(covariance, blur)
    }

    /// The axes of each splat in the world, as long as its standard deviations: the columns of [N, 3, 3].
    fn axes(&self, g: &mut Graph) -> Value {
        let dtype = g.try_ty(self.rotations).map_or(DType::F32, |ty| ty.dtype);
        let quaternion = normalised(g, self.rotations);
        let (v, w) = (g.narrow_at(quaternion, 1, 0, 3), g.narrow_at(quaternion, 1, 3, 1));
        // `(w^2 - v.v) 1 + 2 v v^T + 2 w [v]`, [v] the matrix of the cross product.
        const CROSS: [f64; 27] = {
            let mut cross = [0.0; 27];
            (cross[5], cross[7]) = (-1.0, 1.0);
            (cross[9 + 2], cross[9 + 6]) = (1.0, -1.0);
            (cross[18 + 1], cross[18 + 3]) = (-1.0, 1.0);
            cross
        };
        let cross = constant(g, dtype, &[3, 9], &CROSS);
        let cross = g.mm(v, cross);
        let cross = g.view(cross, [-1, 3, 3]);
        let column = g.unsqueeze(v, 2);
        let outer = g.matmul(column, column, false, true);
        let (ww, vv) = (g.mul(w, w), g.mul(v, v));
        let vv = g.reduce(vv, ReduceKind::Sum, vec![1], true);
        let rest = g.sub(ww, vv);
        let (rest, w) = (g.unsqueeze(rest, 2), g.unsqueeze(w, 2));
        let identity = g.identity(dtype, &Dim::from(3));
        let diagonal = g.mul(identity, rest);
        let turned = g.mul(cross, w);
        let sum = g.add(outer, turned);
        let sum = g.scaled(sum, 2.0);
        let rotation = g.add(diagonal, sum);
        let scales = g.exp(self.log_scales);
        let scales = g.unsqueeze(scales, 1);
        g.mul(rotation, scales)
    }

    /// Colours as the camera sees them [N, 3].
    fn shade(&self, g: &mut Graph, turn: Value, shift: Value) -> Value {
        let Some(harmonics) = self.harmonics else { return self.colours.unwrap_or(Value::POISON) };
        let Some(ty) = g.try_ty(harmonics).cloned() else { return Value::POISON };
        let bands = ty.shape[1].as_static().unwrap_or(0) as usize;
        // The camera is at `-turn^T shift`.
        let shift = g.unsqueeze(shift, 0);
        let back = g.mm(shift, turn);
        let direction = g.add(self.positions, back);
        let direction = normalised(g, direction);
        let basis = harmonic_basis(g, direction, bands);
        let basis = g.unsqueeze(basis, 1);
        let sum = g.mm(basis, harmonics);
        let sum = g.squeeze(sum, 1);
        let half = g.scalar(ty.dtype, 0.5);
        let sum = g.add(sum, self.colours.unwrap_or(half));
        g.relu(sum)
    }
}

/// Pixels that a splat reaches [N, 1], of its variances and their determinant.
fn reach(g: &mut Graph, [xx, yy, determinant]: [Value; 3]) -> Value {
    let trace = g.add(xx, yy);
    let mid = g.scaled(trace, 0.5);
    let square = g.mul(mid, mid);
    let spread = g.sub(square, determinant);
    let zero = g.zeros_like(spread);
    let spread = g.maximum(spread, zero);
    let spread = g.sqrt(spread);
    let largest = g.add(mid, spread);
    let deviation = g.sqrt(largest);
    let radius = g.scaled(deviation, REACH);
    g.push(Activation::of(ActivationKind::Ceil), &[radius])
}

/// Rows of length 1.
fn normalised(g: &mut Graph, x: Value) -> Value {
    let square = g.mul(x, x);
    let sum = g.reduce(square, ReduceKind::Sum, vec![1], true);
    let scale = g.rsqrt(sum);
    g.mul(x, scale)
}

fn constant(g: &mut Graph, dtype: DType, dims: &[usize], values: &[f64]) -> Value {
    match Literal::floats(dtype, dims, values) {
        Ok(literal) => g.constant(literal),
        Err(error) => g.reject("constant", error.to_string()),
    }
}

/// A real spherical harmonic as terms: a factor and the axes whose coordinates it multiplies.
type Harmonic = &'static [(f64, &'static [usize])];
const X: usize = 0;
const Y: usize = 1;
const Z: usize = 2;
const ONE: f64 = 0.488_602_511_902_919_9;
const TWO: f64 = 1.092_548_430_592_079_2;
const TWO_Z: f64 = 0.315_391_565_252_520_05;
const THREE: f64 = 0.590_043_589_926_643_5;
const THREE_XYZ: f64 = 2.890_611_442_640_554;
const THREE_ZZ: f64 = 0.457_045_799_464_465_8;
const THREE_Z: f64 = 0.373_176_332_590_115_4;

/// The real spherical harmonics of the first four degrees, with the signs of the source.
const HARMONICS: [Harmonic; 16] = [
    &[(0.282_094_791_773_878_14, &[])],
    &[(-ONE, &[Y])],
    &[(ONE, &[Z])],
    &[(-ONE, &[X])],
    &[(TWO, &[X, Y])],
    &[(-TWO, &[Y, Z])],
    &[(2.0 * TWO_Z, &[Z, Z]), (-TWO_Z, &[X, X]), (-TWO_Z, &[Y, Y])],
    &[(-TWO, &[X, Z])],
    &[(TWO / 2.0, &[X, X]), (-TWO / 2.0, &[Y, Y])],
    &[(-3.0 * THREE, &[X, X, Y]), (THREE, &[Y, Y, Y])],
    &[(THREE_XYZ, &[X, Y, Z])],
    &[(-4.0 * THREE_ZZ, &[Y, Z, Z]), (THREE_ZZ, &[X, X, Y]), (THREE_ZZ, &[Y, Y, Y])],
    &[(2.0 * THREE_Z, &[Z, Z, Z]), (-3.0 * THREE_Z, &[X, X, Z]), (-3.0 * THREE_Z, &[Y, Y, Z])],
    &[(-4.0 * THREE_ZZ, &[X, Z, Z]), (THREE_ZZ, &[X, X, X]), (THREE_ZZ, &[X, Y, Y])],
    &[(THREE_XYZ / 2.0, &[X, X, Z]), (-THREE_XYZ / 2.0, &[Y, Y, Z])],
    &[(-THREE, &[X, X, X]), (3.0 * THREE, &[X, Y, Y])],
];

/// The first `bands` harmonics of unit directions [N, 3]: all monomials up to the degree, times a matrix.
fn harmonic_basis(g: &mut Graph, direction: Value, bands: usize) -> Value {
    let Some(ty) = g.try_ty(direction).cloned() else { return Value::POISON };
    let count = ty.shape[0].clone();
    let mut monomials = vec![g.full(ty.dtype, vec![count.clone(), Dim::from(1)], 1.0)];
    let degree = bands.isqrt().saturating_sub(1);
    for power in 1..=degree {
        let (lower, next) = (monomials[power - 1], g.unsqueeze(direction, 1));
        let lower = g.unsqueeze(lower, 2);
        let products = g.mul(lower, next);
        monomials.push(g.reshape(products, vec![count.clone(), Dim::from(3usize.pow(power as u32))]));
    }
    let columns = (3usize.pow(degree as u32 + 1) - 1) / 2;
    let mut factors = vec![0.0; columns * bands];
    for (band, terms) in HARMONICS.iter().enumerate().take(bands) {
        for (factor, axes) in *terms {
            let first = (3usize.pow(axes.len() as u32) - 1) / 2;
            let at = first + axes.iter().fold(0, |at, &axis| at * 3 + axis);
            factors[at * bands + band] += factor;
        }
    }
    let all = g.concat_at(&monomials, 1);
    let factors = constant(g, ty.dtype, &[columns, bands], &factors);
    g.mm(all, factors)
}
