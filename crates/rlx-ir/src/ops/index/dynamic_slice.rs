//! `dynamic_slice`: a window that begins where the data says.

use crate::ops::prelude::*;

op! {
    /// Along `axes[i]`, the `sizes[i]` elements of `x` from `starts[i]` on; other axes are whole.
    ///
    /// (C1) `axes` are axes of `x`, strictly increasing, with one entry of `sizes` each.
    /// (C2) No size is negative or larger than the extent. What symbols leave open is checked when they are
    /// bound.
    /// (C3) `starts` is i32, i64 or u32 of shape `[axes.len()]`.
    /// (C4) The dtype is not storage-only.
    /// A window that does not lie inside `x` is a run-time fault (StableHLO would move it).
    dynamic_slice: DynamicSlice(x, starts) -> y {
        /// The axes that have a start.
        axes: Vec<usize>,
        /// Extents of the window along them.
        sizes: Vec<Dim>,
    }
}

impl OpSpec for DynamicSlice {
    const MEANING: Meaning<Self> =
        Meaning::composite_with_eval(Self::decompose, Self::eval).checked(|op, types| {
            let windows = op.axes.iter().zip(&op.sizes);
            let windows = windows.map(|(&axis, size)| (types[0].shape[axis].clone(), size.clone()));
            vec![ValueRange::windows(1, windows)]
        });
    const VJP: Vjp<Self> = Vjp::Rule(|op, g, given| {
        let dy = given.cotangent();
        if op.axes.is_empty() {
            return Ok(vec![Some(dy), None]);
        }
        let zeros = g.zeros_like(given.operands[0]);
        Ok(vec![Some(g.dynamic_update_slice(zeros, dy, given.operands[1], op.axes.clone())), None])
    });
    const JVP: Jvp<Self> = Jvp::Linear;
    const BATCH: Batch<Self> =
        Batch::ShiftFirst(1, |op, _| DynamicSlice { axes: shift_axes(&op.axes), ..op.clone() });
    const ACCURACY: AccuracyRule<Self> = |_| Accuracy::Exact;
    const SAMPLES: Samples<Self> = Samples::Listed(&[
        "f32[6, 3], i64[1] in [0, 5) {axes = [0], sizes = [2]}",
        "bf16[2, 5, 4], i32[2] in [0, 3) {axes = [1, 2], sizes = [3, 2]}",
        "bool[4], u32[1] in [0, 1) {sizes = [4]}",
        "f64[4, 2], i64[1] in [0, 5) {sizes = [0]}",
        "i8[2, 2], i64[0] in [0, 1) {axes = [], sizes = []}",
    ]);

    fn infer(&self, operands: &[&TensorType]) -> Inferred {
        let (x, starts) = (operands[0], operands[1]);
        check_axes("C1", &self.axes, x)?;
        let count = self.axes.len();
        require!("C1", self.sizes.len() == count, "sizes has {} entries, expected {count}", self.sizes.len());
        let mut dims = x.shape.dims().to_vec();
        for (&axis, size) in self.axes.iter().zip(&self.sizes) {
            check_not_negative("C2", "size", size)?;
            check_at_most("C2", "size", size, &dims[axis])?;
            dims[axis] = size.clone();
        }
        check_starts("C3", starts, count)?;
        check_addressable("C4", &[x])?;
        Ok(vec![TensorType::new(x.dtype, Shape::from(dims))])
    }
}

impl DynamicSlice {
    fn eval(&self, operands: &[&Literal]) -> Evaluated {
        let x = operands[0];
        let mut dims = x.dims().to_vec();
        for (&axis, size) in self.axes.iter().zip(&self.sizes) {
            dims[axis] = size.as_static().and_then(|size| usize::try_from(size).ok()).unwrap_or(0);
        }
        let starts = read_values(self, operands, 1)?;
        select_elements(x, &dims, |index| {
            let mut source = index.to_vec();
            for (&axis, start) in self.axes.iter().zip(&starts) {
                source[axis] += start;
            }
            row_major(x.dims(), &source)
        })
    }

    fn decompose(&self, g: &mut Graph, operands: &[Value]) -> Vec<Value> {
        let starts = wide_index(g, operands[1]);
        let dtype = g.ty(starts).dtype;
        let mut x = operands[0];
        for (position, (&axis, size)) in self.axes.iter().zip(&self.sizes).enumerate() {
            let start = g.narrow(starts, 0usize, position, 1);
            let offset = g.iota(dtype, vec![size.clone()], 0usize);
            let rows = g.add(start, offset);
            x = g.gather(x, rows, axis);
        }
        vec![x]
    }
}
