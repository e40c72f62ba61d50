//! `pad`: elements added at the borders.

use crate::ops::prelude::*;

attr_enum! {
    /// What a [`Pad`] adds.
    PadMode {
        /// One value.
        Constant = "constant",
        /// The elements mirrored at the border, the border itself not repeated.
        Reflect = "reflect",
        /// The border element repeated.
        Edge = "edge",
    }
}

op! {
    /// `x` with `low[i]` elements added before and `high[i]` after axis `i`, axis by axis, so that corners
    /// continue what the earlier axes added (NumPy `pad`). `value` is what `constant` adds, 0 if absent.
    ///
    /// (C1) `low` and `high` have one entry per axis, none negative.
    /// (C2) `value` is rank 0, has the dtype of `x`, and is given in `constant` mode only.
    /// (C3) In `reflect` mode a padding is less than the extent; in `edge` mode the extent is not 0. Axes
    /// whose padding is the constant 0 are free of this. What symbols leave open is checked when they are
    /// bound.
    /// (C4) The dtype is not storage-only.
    /// To remove elements, use `narrow`.
    pad: Pad(x)[value] -> y {
        /// Elements before each axis.
        low: Vec<Dim>,
        /// Elements after each axis.
        high: Vec<Dim>,
        /// What is added.
        mode: PadMode,
    }
}

impl OpSpec for Pad {
    const MEANING: Meaning<Self> = Meaning::composite(|op, g, operands| {
        let mut x = operands[0];
        let value = match (op.mode, op.operand_index("value")) {
            (PadMode::Constant, Some(index)) => operands[index],
            _ => g.scalar(g.ty(x).dtype, 0.0),
        };
        for axis in 0..op.low.len() {
            let (low, high) = (&op.low[axis], &op.high[axis]);
            let before = (!low.is(0)).then(|| op.border(g, x, value, axis, low, Side::Low));
            let after = (!high.is(0)).then(|| op.border(g, x, value, axis, high, Side::High));
            let parts: Vec<Value> = before.into_iter().chain([x]).chain(after).collect();
            if parts.len() > 1 {
                x = g.concat(&parts, axis);
            }
        }
        vec![x]
    });
    const VJP: Vjp<Self> = Vjp::ViaDecomposition;
    const JVP: Jvp<Self> = Jvp::Linear;
    const BATCH: Batch<Self> = Batch::ShiftFirst(1, |op, _| {
        let shifted = |ends: &[Dim]| [&[Dim::from(0)], ends].concat();
        Pad { low: shifted(&op.low), high: shifted(&op.high), ..op.clone() }
    });
    const ACCURACY: AccuracyRule<Self> = |_| Accuracy::Exact;
    const SAMPLES: Samples<Self> = Samples::Listed(&[
        "f32[3, 4] {low = [1, 2], high = [0, 3], mode = constant}",
        "i64[2, 3, 2] {low = [0, 2, 0], high = [1, 0, 0]}",
        "bf16[5] {low = [4], high = [4]}",
        "bool[0, 2] {low = [0, 1], high = [0, 1]}",
        "f32[] {low = [], high = []}",
        "f32[3, 4] {mode = reflect}",
        "i64[2, 3, 2] {low = [0, 2, 0], high = [1, 0, 0], mode = reflect}",
        "bf16[5] {low = [4], high = [4], mode = reflect}",
        "bool[0, 2] {low = [0, 1], high = [0, 1], mode = reflect}",
        "f32[] {low = [], high = [], mode = reflect}",
        "f32[3, 4] {mode = edge}",
        "i64[2, 3, 2] {low = [0, 2, 0], high = [1, 0, 0], mode = edge}",
        "bf16[5] {low = [4], high = [4], mode = edge}",
        "bool[0, 2] {low = [0, 1], high = [0, 1], mode = edge}",
        "f32[] {low = [], high = [], mode = edge}",
        "f16[2, 2], f16[] {low = [1, 1], high = [1, 1], value = true}",
        "c64[0], c64[] {low = [2], high = [1], value = true}",
    ]);

    fn infer(&self, operands: &[&TensorType]) -> Inferred {
        let x = operands[0];
        let fits = self.low.len() == x.rank() && self.high.len() == x.rank();
        require!("C1", fits, "low and high must have {} entries, one per axis", x.rank());
        check_addressable("C4", &[x])?;
        if let Some(index) = self.operand_index("value") {
            let value = operands[index];
            require!("C2", self.mode == PadMode::Constant, "{} takes no value", self.mode);
            let fits = value.rank() == 0 && value.dtype == x.dtype;
            require!("C2", fits, "the value is {value}, expected {}[]", x.dtype);
        }
        let mut dims = vec![];
        for (axis, extent) in x.shape.dims().iter().enumerate() {
            for padding in [&self.low[axis], &self.high[axis]] {
                check_not_negative("C1", "padding", padding)?;
                match self.mode {
                    _ if padding.is(0) => {}
                    PadMode::Constant => {}
                    PadMode::Reflect => {
                        let needed = padding.clone() + Dim::from(1);
                        check_at_most("C3", &format!("reflection along axis {axis} needs"), &needed, extent)?;
                    }
                    PadMode::Edge => {
                        check_at_most(
                            "C3",
                            &format!("the edge of axis {axis} needs"),
                            &Dim::from(1),
                            extent,
                        )?;
                    }
                }
            }
            dims.push(self.low[axis].clone() + extent.clone() + self.high[axis].clone());
        }
        Ok(vec![TensorType::new(x.dtype, Shape::from(dims))])
    }
}

impl Pad {
    /// The `count` elements that stand on one side of `x` along `axis`.
    fn border(&self, g: &mut Graph, x: Value, value: Value, axis: usize, count: &Dim, side: Side) -> Value {
        // Padding along an earlier axis may have gone beyond what extents can be.
        let Some(ty) = g.try_ty(x) else { return Value::POISON };
        let mut dims = ty.shape.dims().to_vec();
        let extent = std::mem::replace(&mut dims[axis], count.clone());
        match self.mode {
            PadMode::Constant => g.expand(value, dims),
            PadMode::Edge => {
                let start = if side == Side::Low { Dim::from(0) } else { extent - Dim::from(1) };
                let edge = g.narrow(x, axis, start, 1);
                g.expand(edge, dims)
            }
            PadMode::Reflect => {
                let start =
                    if side == Side::Low { Dim::from(1) } else { extent - Dim::from(1) - count.clone() };
                let inside = g.narrow(x, axis, start, count.clone());
                g.reverse(inside, vec![axis])
            }
        }
    }
}

/// An end of an axis.
#[derive(Clone, Copy, PartialEq)]
enum Side {
    Low,
    High,
}
