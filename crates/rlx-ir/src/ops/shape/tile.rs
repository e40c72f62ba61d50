//! `tile`: whole repetitions along every axis.

use crate::ops::prelude::*;

op! {
    /// `x` repeated `repeats[i]` times along axis `i`: the result's extent is the product.
    ///
    /// (C1) `repeats` has one entry per axis, none negative.
    /// (C2) The dtype is not storage-only.
    tile: Tile(x) -> y {
        /// Repetitions of each axis.
        repeats: Vec<Dim>,
    }
}

impl OpSpec for Tile {
    const MEANING: Meaning<Self> = Meaning::composite(|op, g, operands| {
        let dims = g.ty(operands[0]).shape.dims().to_vec();
        let mut split = vec![];
        let mut repeated = vec![];
        let mut joined = vec![];
        for (dim, repeat) in dims.iter().zip(&op.repeats) {
            split.extend([Dim::from(1), dim.clone()]);
            repeated.extend([repeat.clone(), dim.clone()]);
            joined.push(repeat.clone() * dim.clone());
        }
        let x = g.reshape(operands[0], split);
        let x = g.expand(x, repeated);
        vec![g.reshape(x, joined)]
    });
    const VJP: Vjp<Self> = Vjp::ViaDecomposition;
    const JVP: Jvp<Self> = Jvp::Linear;
    const BATCH: Batch<Self> =
        Batch::Shift(|op, _| Tile { repeats: [&[Dim::from(1)], &op.repeats[..]].concat() });
    const ACCURACY: AccuracyRule<Self> = |_| Accuracy::Exact;
    const SAMPLES: Samples<Self> = Samples::Listed(&[
        "f32[3] {repeats = [2]}",
        "i64[2, 3] {repeats = [2, 2]}",
        "f16[1, 3] {repeats = [4, 1]}",
        "bool[2, 2] {repeats = [0, 3]}",
        "f32[0, 2] {repeats = [3, 2]}",
        "c64[] {repeats = []}",
    ]);

    fn infer(&self, operands: &[&TensorType]) -> Inferred {
        let x = operands[0];
        require!(
            "C1",
            self.repeats.len() == x.rank(),
            "repeats must have {} entries, one per axis",
            x.rank()
        );
        for repeat in &self.repeats {
            check_not_negative("C1", "the number of repetitions", repeat)?;
        }
        check_addressable("C2", operands)?;
        let dims = self.repeats.iter().zip(x.shape.dims()).map(|(repeat, dim)| repeat.clone() * dim.clone());
        Ok(vec![TensorType::new(x.dtype, Shape::from(dims.collect::<Vec<_>>()))])
    }
}
