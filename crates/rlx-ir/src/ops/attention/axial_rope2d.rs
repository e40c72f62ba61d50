//! `axial_rope2d`: rotary embedding of image tokens by row and column.

use crate::ops::prelude::*;
use crate::rope_tables::{RopeScaling, rope_tables};

op! {
    /// Rotates `x[.., S, num_heads head_dim]`, the tokens of an image in rows of `end_x`, `end_y` rows,
    /// the whole `repeat` times in a row, so that `S = repeat end_x end_y`.
    ///
    /// Elements `2 i` and `2 i + 1` of a head are a pair. The first quarter of `head_dim` in pairs turns by
    /// `column theta^(-4 i / head_dim)`, the second by `row theta^(-4 i / head_dim)`, with `i` counted from
    /// the start of its quarter and `token = row end_x + column` (the rotary embedding of Segment Anything 2).
    ///
    /// (C1) `x` has a float dtype.
    /// (C2) `x` has rank 2 or more, and its last two extents are `S` and `num_heads head_dim`.
    /// (C3) `head_dim` is a multiple of 4; it, `num_heads`, `end_x`, `end_y` and `repeat` are at least 1.
    /// (C4) `theta` is positive and finite.
    /// (C5) The tables, `(end_x + end_y) head_dim / 4` elements, have at most 2^24.
    /// Half-precision operands are rotated in f32.
    axial_rope2d: AxialRope2d(x) -> y {
        /// Tokens per row.
        end_x: usize,
        /// Rows.
        end_y: usize,
        /// Elements of a head.
        head_dim: usize,
        /// Heads side by side in the last axis.
        num_heads: usize,
        /// Base of the frequencies.
        theta: Real,
        /// Images in a row.
        repeat: usize,
    }
}

impl OpSpec for AxialRope2d {
    const MEANING: Meaning<Self> = Meaning::composite(|op, g, operands| {
        let ty = g.ty(operands[0]).clone();
        let dtype = if ty.dtype == DType::F64 { DType::F64 } else { DType::F32 };
        let half = op.head_dim / 2;
        let table = |rows| {
            rope_tables(rows, half, op.theta.0, &RopeScaling::None, dtype)
                .expect("inference bounded the tables")
        };
        let ((cos_x, sin_x), (cos_y, sin_y)) = (table(op.end_x), table(op.end_y));
        let mut join = |by_column, by_row| {
            let quarter = half / 2;
            let grid = Shape::from([op.repeat, op.end_y, op.end_x, quarter]);
            let parts = [(by_column, [1, 1, op.end_x, quarter]), (by_row, [1, op.end_y, 1, quarter])];
            let parts = parts.map(|(literal, dims)| {
                let table = g.constant(literal);
                let table = g.reshape(table, Shape::from(dims));
                g.expand(table, grid.clone())
            });
            let table = g.concat(&parts, 3usize);
            g.reshape(table, Shape::from([op.repeat * op.end_y * op.end_x, half]))
        };
        let (cos, sin) = (join(cos_x, cos_y), join(sin_x, sin_y));
        let axis = ty.rank() - 2;
        vec![g.rope(operands[0], cos, sin, None, axis, op.head_dim, op.head_dim, RopeStyle::Interleaved)]
    });
    const VJP: Vjp<Self> = Vjp::ViaDecomposition;
    const JVP: Jvp<Self> = Jvp::ViaDecomposition;
    const BATCH: Batch<Self> = Batch::ViaDecomposition;
    const ACCURACY: AccuracyRule<Self> = |_| Accuracy::Accumulated { terms: 2 };
    const SAMPLES: Samples<Self> = Samples::Listed(&[
        "f32[2, 6, 8] {end_x = 3, end_y = 2, head_dim = 8, num_heads = 1, theta = 100.0, repeat = 1}",
        "f32[1, 2, 6, 8] {end_x = 2, end_y = 3, head_dim = 4, num_heads = 2}",
        "f16[12, 4] {end_x = 2, head_dim = 4, repeat = 3}",
        "f64[1, 1, 4] {end_x = 1, end_y = 1, head_dim = 4}",
        "bf16[0, 4, 4] {end_x = 2, head_dim = 4}",
    ]);

    fn infer(&self, operands: &[&TensorType]) -> Inferred {
        let x = operands[0];
        require!(
            "C1",
            x.dtype.is_float() && !x.dtype.is_storage_only(),
            "axial_rope2d does not take {}",
            x.dtype
        );
        let sizes = [self.end_x, self.end_y, self.head_dim, self.num_heads, self.repeat];
        let positive = sizes.iter().all(|&size| size > 0) && self.head_dim.is_multiple_of(4);
        require!(
            "C3",
            positive,
            "sizes {sizes:?} must be positive, head_dim {} a multiple of 4",
            self.head_dim
        );
        require!("C4", self.theta.0.is_finite() && self.theta.0 > 0.0, "theta must be positive and finite");
        let elements = self.end_x.saturating_add(self.end_y).saturating_mul(self.head_dim / 4);
        require!("C5", elements <= 1 << 24, "the tables would have {elements} elements");
        require!("C2", x.rank() >= 2, "x must have rank 2 or more, found {x}");
        let product =
            |factors: &[usize]| factors.iter().fold(Dim::from(1), |product, &f| product * Dim::from(f));
        let expected =
            [product(&[self.repeat, self.end_x, self.end_y]), product(&[self.num_heads, self.head_dim])];
        let fits = x.shape.dims().ends_with(&expected);
        require!("C2", fits, "the last two extents must be {} and {}, found {x}", expected[0], expected[1]);
        Ok(vec![x.clone()])
    }
}
