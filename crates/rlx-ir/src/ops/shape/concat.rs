//! `concat`: tensors one after the other along an axis.

use crate::ops::prelude::*;

op! {
    /// The operands one after the other along `axis`.
    ///
    /// (C1) There is at least one operand, and all have one dtype and rank.
    /// (C2) `axis` is an axis of the operands.
    /// (C3) Their other extents are equal.
    /// (C4) The dtype is not storage-only.
    concat: Concat(; parts*) -> y {
        /// Axis along which the extents add up.
        axis: usize,
    }
}

impl OpSpec for Concat {
    const MEANING: Meaning<Self> = Meaning::primitive(|op, operands| {
        let mut dims = operands[0].dims().to_vec();
        dims[op.axis] = operands
            .iter()
            .try_fold(0usize, |total, part| total.checked_add(part.dims()[op.axis]))
            .ok_or_else(|| Fault("the joined extent does not fit the address space".into()))?;
        let mut bytes = vec![];
        if operands.iter().any(|part| !part.is_empty()) {
            // With an element somewhere, no extent outside the axis is 0.
            let outer: usize = dims[..op.axis].iter().product();
            for row in 0..outer {
                for part in operands {
                    let width = part.bytes().len() / outer;
                    bytes.extend_from_slice(&part.bytes()[row * width..(row + 1) * width]);
                }
            }
        }
        Ok(vec![Literal::from_bytes(operands[0].dtype(), &dims, &bytes)?])
    });
    const VJP: Vjp<Self> = Vjp::Rule(|op, g, given| {
        let lens: Vec<Dim> = given.operands.iter().map(|&part| g.ty(part).shape[op.axis].clone()).collect();
        Ok(g.split(given.cotangent(), op.axis as i64, &lens).into_iter().map(Some).collect())
    });
    const JVP: Jvp<Self> = Jvp::Linear;
    const BATCH: Batch<Self> = Batch::Shift(|op, _| Concat { axis: op.axis + 1 });
    const ACCURACY: AccuracyRule<Self> = |_| Accuracy::Exact;
    const SAMPLES: Samples<Self> = Samples::Listed(&[
        "f32[2, 3], f32[1, 3], f32[3, 3] {axis = 0}",
        "f16[2, 3], f16[2, 2] {axis = 1}",
        "i64[2, 1, 2], i64[2, 3, 2] {axis = 1}",
        "bool[2, 1, 2], bool[2, 1, 1] {axis = 2}",
        "f32[4]",
        "u8[2, 0], u8[2, 3], u8[2, 0] {axis = 1}",
        "c64[2, 0], c64[1, 0]",
    ]);

    fn infer(&self, operands: &[&TensorType]) -> Inferred {
        let Some(&first) = operands.first() else {
            return Err(Violation { constraint: "C1", message: "there is nothing to join".into() });
        };
        same_dtype("C1", operands)?;
        check_axis("C2", self.axis, first)?;
        check_addressable("C4", operands)?;
        let mut total = Dim::from(0);
        for &part in operands {
            let fits = part.rank() == first.rank()
                && (0..part.rank()).all(|axis| axis == self.axis || part.shape[axis] == first.shape[axis]);
            require!("C3", fits, "{part} does not fit {first} outside axis {}", self.axis);
            total = total + part.shape[self.axis].clone();
        }
        let mut dims = first.shape.clone().into_dims();
        dims[self.axis] = total;
        Ok(vec![TensorType::new(first.dtype, Shape::from(dims))])
    }
}
