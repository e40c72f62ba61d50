//! `gather_nd`: slices named by coordinate vectors.

use crate::ops::prelude::*;

op! {
    /// `y[b.., i..] = table[b.., indices[b.., i.., :]]`: the first `batch_dims` axes are shared, and the
    /// last extent of `indices`, `k`, is the number of axes after them that a coordinate vector names (ONNX
    /// `GatherND`). The result's shape is `indices[:-1] ++ table[batch_dims + k:]`.
    ///
    /// (C1) `indices` is i32, i64 or u32, of rank more than `batch_dims`; `k` is static and at most the rank
    /// of `table` less `batch_dims`.
    /// (C2) The first `batch_dims` extents are equal.
    /// (C3) The table's dtype is not storage-only.
    /// A coordinate outside its axis is a run-time fault.
    gather_nd: GatherNd(table, indices) -> y {
        /// Number of leading axes that both share.
        batch_dims: usize,
    }
}

impl OpSpec for GatherNd {
    const MEANING: Meaning<Self> = Meaning::primitive(|op: &Self, operands| {
        let (table, indices) = (operands[0], operands[1]);
        let lead = indices.dims().len() - 1;
        let depth = indices.dims()[lead];
        let coordinates = read_values(op, operands, 1)?;
        let dims = [&indices.dims()[..lead], &table.dims()[op.batch_dims + depth..]].concat();
        select_elements(table, &dims, |index| {
            let row = row_major(&indices.dims()[..lead], &index[..lead]) * depth;
            let vector = &coordinates[row..row + depth];
            row_major(table.dims(), &[&index[..op.batch_dims], vector, &index[lead..]].concat())
        })
    })
    .checked(|op, types| vec![vector_range(types[0], types[1], op.batch_dims)]);
    const VJP: Vjp<Self> = Vjp::Rule(|op, g, given| {
        let zeros = g.zeros_like(given.operands[0]);
        let vectors = whole_vectors(g, given.operands[1], op.batch_dims);
        Ok(vec![Some(g.scatter_nd(zeros, vectors, given.cotangent(), ScatterKind::Add)), None])
    });
    const JVP: Jvp<Self> = Jvp::Linear;
    const BATCH: Batch<Self> = Batch::Shift(|op, _| GatherNd { batch_dims: op.batch_dims + 1 });
    const ACCURACY: AccuracyRule<Self> = |_| Accuracy::Exact;
    const SAMPLES: Samples<Self> = Samples::Listed(&[
        "f32[4, 3], i64[5, 1] in [0, 4) {batch_dims = 0}",
        "i32[4, 3, 2], i32[2, 3, 2] in [0, 3)",
        "f16[2, 4, 3], u32[2, 5, 1] in [0, 4) {batch_dims = 1}",
        "u8[2, 2, 3], i64[2, 2, 1] in [0, 3) {batch_dims = 2}",
        "bool[3, 2], i64[2] in [0, 2)",
        "c64[3], i64[2, 0] in [0, 1)",
        "f32[3, 0], i64[2, 1] in [0, 3)",
        "f32[0, 2], i64[0, 1] in [0, 0)",
    ]);

    fn infer(&self, operands: &[&TensorType]) -> Inferred {
        let (table, indices) = (operands[0], operands[1]);
        let depth = check_vectors("C1", table, indices, self.batch_dims)?;
        let shared = |ty: &TensorType| ty.shape.dims().get(..self.batch_dims).map(<[_]>::to_vec);
        let equal = shared(table).is_some() && shared(table) == shared(indices);
        require!("C2", equal, "{table} and {indices} do not share {} leading extents", self.batch_dims);
        check_addressable("C3", &[table])?;
        let lead = &indices.shape.dims()[..indices.rank() - 1];
        let rest = &table.shape.dims()[self.batch_dims + depth..];
        Ok(vec![TensorType::new(table.dtype, Shape::from([lead, rest].concat()))])
    }
}
