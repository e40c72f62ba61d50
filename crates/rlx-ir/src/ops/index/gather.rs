//! `gather`: rows of a table, chosen by integers.

use crate::ops::prelude::*;

op! {
    /// Slices of `table` along `axis`: the result's shape is `table[:axis] ++ indices ++ table[axis + 1:]`,
    /// and `y[a.., i.., b..] = table[a.., indices[i..], b..]` (NumPy `take`).
    ///
    /// (C1) `axis` is an axis of `table`.
    /// (C2) `indices` is i32, i64 or u32.
    /// (C3) A table of a storage-only dtype gives whole rows: `axis` is not its last, and its rows are whole blocks (or
    /// bytes). The result has that dtype too; `dequantize` leaves it.
    /// An index outside `[0, extent)` is a run-time fault; negative ones do not count from the end.
    gather: Gather(table, indices) -> y {
        /// The indexed axis.
        axis: usize,
    }
}

impl OpSpec for Gather {
    const MEANING: Meaning<Self> = Meaning::primitive(|op: &Self, operands| {
        let (table, indices) = (operands[0], operands[1]);
        let (axis, rank) = (op.axis, indices.dims().len());
        let rows = read_values(op, operands, 1)?;
        let dims = [&table.dims()[..axis], indices.dims(), &table.dims()[axis + 1..]].concat();
        let select = |table: &Literal, dims: &[usize]| {
            select_elements(table, dims, |index| {
                let row = rows[row_major(indices.dims(), &index[axis..axis + rank])];
                row_major(table.dims(), &[&index[..axis], &[row], &index[axis + rank..]].concat())
            })
        };
        if !table.dtype().is_storage_only() {
            return select(table, &dims);
        }
        // Rows of whole blocks are rows of bytes.
        let (elements, bytes) = table.dtype().storage_unit();
        let in_bytes = |dims: &[usize]| match dims.split_last() {
            Some((last, lead)) => [lead, &[last / elements * bytes]].concat(),
            None => vec![],
        };
        let raw = Literal::from_bytes(DType::U8, &in_bytes(table.dims()), table.bytes())?;
        let raw = select(&raw, &in_bytes(&dims))?;
        Ok(vec![Literal::from_bytes(table.dtype(), &dims, raw[0].bytes())?])
    })
    .checked(|op, types| vec![ValueRange::below(1, types[0].shape[op.axis].clone())]);
    const VJP: Vjp<Self> = Vjp::Rule(|op, g, given| {
        let (table, indices) = (given.operands[0], given.operands[1]);
        Ok(vec![Some(g.gather_backward(op, table, indices, given.cotangent())), None])
    });
    const JVP: Jvp<Self> = Jvp::Linear;
    const BATCH: Batch<Self> = Batch::Rule(|op, g, given| {
        let (table, indices) = (given.operands[0], given.operands[1]);
        Ok(vec![match (given.is_batched[0], given.is_batched[1]) {
            (_, false) => g.gather(table, indices, op.axis + 1),
            (false, true) => {
                let y = g.gather(table, indices, op.axis);
                g.move_axis(y, op.axis, 0)
            }
            (true, true) => {
                let count = g.ty(indices).rank() - 1;
                let rows = g.move_axis(table, op.axis + 1, 1);
                let vectors = g.unsqueeze(indices, -1);
                let mut y = g.gather_nd(rows, vectors, 1usize);
                // The index axes stand where the axis now is; each goes behind the axes before it.
                for _ in 0..count {
                    y = g.move_axis(y, 1, op.axis + count);
                }
                y
            }
        }])
    });
    const ACCURACY: AccuracyRule<Self> = |_| Accuracy::Exact;
    const SAMPLES: Samples<Self> = Samples::Listed(&[
        "f32[6, 3], i64[4] in [0, 6) {axis = 0}",
        "bf16[6, 3], i32[2, 2] in [0, 6)",
        "f32[2, 5, 3], u32[2, 2] in [0, 5) {axis = 1}",
        "i64[2, 5], i32[3] in [0, 5) {axis = 1}",
        "bool[5], i64[] in [0, 5)",
        "f32[5, 2], i64[0] in [0, 5)",
        "f32[2, 0, 3], i64[0] in [0, 0) {axis = 1}",
        "c64[3, 0], i64[2] in [0, 3)",
        "q4_0[4, 64], i32[3] in [0, 4)",
        "q6_k[2, 3, 256], i64[2, 2] in [0, 3) {axis = 1}",
        "u4[5, 6], i64[4] in [0, 5)",
    ]);

    fn infer(&self, operands: &[&TensorType]) -> Inferred {
        let (table, indices) = (operands[0], operands[1]);
        check_axis("C1", self.axis, table)?;
        check_index_dtype("C2", "indices", indices)?;
        if table.dtype.is_storage_only() {
            require!("C3", self.axis + 1 < table.rank(), "{table} is taken in rows, not along its last axis");
            check_whole_units("C3", table)?;
        }
        let dims = table.shape.dims();
        let dims = [&dims[..self.axis], indices.shape.dims(), &dims[self.axis + 1..]].concat();
        Ok(vec![TensorType::new(table.dtype, Shape::from(dims))])
    }
}
