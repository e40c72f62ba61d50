//! `gather`: rows of a table, chosen by integers.

use crate::literal::LiteralError;
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
    const MEANING: Meaning<Self> = Meaning::primitive(Self::eval)
        .checked(|op, types| vec![ValueRange::below(1, types[0].shape[op.axis].clone())]);
    const VJP: Vjp<Self> = Vjp::Rule(|op, g, given| {
        let (table, indices) = (given.operands[0], given.operands[1]);
        Ok(vec![Some(g.gather_backward(op, table, indices, given.cotangent())), None])
    });
    const JVP: Jvp<Self> = Jvp::Linear;
    const BATCH: Batch<Self> = Batch::Rule(Self::batch);
    const ACCURACY: AccuracyRule<Self> = |_| Accuracy::Exact;

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

    fn samples() -> Vec<Sample<Self>> {
        let sample = |table: &[usize], dtype, indices: &[usize], index_dtype, axis: usize| {
            let operands = [TensorType::new(dtype, table), TensorType::new(index_dtype, indices)];
            Sample::new(Gather { axis }, operands).fill(1, 0.0, table[axis] as f64)
        };
        vec![
            sample(&[6, 3], DType::F32, &[4], DType::I64, 0),
            sample(&[6, 3], DType::BF16, &[2, 2], DType::I32, 0),
            sample(&[2, 5, 3], DType::F32, &[2, 2], DType::U32, 1),
            sample(&[2, 5], DType::I64, &[3], DType::I32, 1),
            sample(&[5], DType::Bool, &[], DType::I64, 0),
            sample(&[5, 2], DType::F32, &[0], DType::I64, 0),
            sample(&[2, 0, 3], DType::F32, &[0], DType::I64, 1),
            sample(&[3, 0], DType::C64, &[2], DType::I64, 0),
            sample(&[4, 64], DType::Q4_0, &[3], DType::I32, 0),
            sample(&[2, 3, 256], DType::Q6K, &[2, 2], DType::I64, 1),
            sample(&[5, 6], DType::U4, &[4], DType::I64, 0),
        ]
    }
}

impl Gather {
    fn eval(&self, operands: &[&Literal]) -> Evaluated {
        let (table, indices) = (operands[0], operands[1]);
        let (axis, rank) = (self.axis, indices.dims().len());
        let rows = read_values(self, operands, 1)?;
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
        let fault = |error: LiteralError| Fault(error.to_string());
        let raw = Literal::from_bytes(DType::U8, &in_bytes(table.dims()), table.bytes()).map_err(fault)?;
        let raw = select(&raw, &in_bytes(&dims))?;
        Literal::from_bytes(table.dtype(), &dims, raw[0].bytes()).map(|y| vec![y]).map_err(fault)
    }
}

impl Gather {
    fn batch(&self, g: &mut Graph, given: Batched<'_>) -> Result<Vec<Value>, &'static str> {
        let (table, indices) = (given.operands[0], given.operands[1]);
        Ok(vec![match (given.is_batched[0], given.is_batched[1]) {
            (_, false) => g.gather(table, indices, self.axis + 1),
            (false, true) => {
                let y = g.gather(table, indices, self.axis);
                g.move_axis(y, self.axis, 0)
            }
            (true, true) => {
                let count = g.ty(indices).rank() - 1;
                let rows = g.move_axis(table, self.axis + 1, 1);
                let vectors = g.unsqueeze(indices, -1);
                let mut y = g.gather_nd(rows, vectors, 1usize);
                // The index axes stand where the axis now is; each goes behind the axes before it.
                for _ in 0..count {
                    y = g.move_axis(y, 1, self.axis + count);
                }
                y
            }
        }])
    }
}
