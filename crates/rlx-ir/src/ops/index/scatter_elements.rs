//! `scatter_elements`: one index per element of the updates.

use crate::ops::prelude::*;

op! {
    /// `base`, in which each element of `updates` is combined with the element at its coordinate, the one
    /// along `axis` replaced by the index found there; in row-major order of the updates (ONNX
    /// `ScatterElements`, PyTorch `scatter_reduce`).
    ///
    /// (C1) `axis` is an axis of `base`, and `indices` has its rank.
    /// (C2) `indices` is i32, i64 or u32.
    /// (C3) Outside `axis`, no extent of `indices` is larger than that of `base`. What symbols leave open
    /// is checked when they are bound.
    /// (C4) `updates` has the shape of `indices`.
    /// (C5) `base` and `updates` have one dtype, which is not storage-only.
    /// (C6) `add` and `mul` take numbers; `min` and `max` take integers and floats.
    /// An index outside `[0, extent)` is a run-time fault. Half-precision sums accumulate in f32.
    scatter_elements: ScatterElements(base, indices, updates) -> y {
        /// The indexed axis.
        axis: usize,
        /// What an update does.
        kind: ScatterKind,
    }
}

impl OpSpec for ScatterElements {
    const MEANING: Meaning<Self> = Meaning::composite_with_eval(Self::decompose, Self::eval)
        .in_place()
        .checked(|op, types| vec![ValueRange::below(1, types[0].shape[op.axis].clone())]);
    const VJP: Vjp<Self> = Vjp::ViaDecomposition;
    const JVP: Jvp<Self> = Jvp::ViaDecomposition;
    const BATCH: Batch<Self> = Batch::Shift(|op, _| ScatterElements { axis: op.axis + 1, ..op.clone() });
    const ACCURACY: AccuracyRule<Self> = |op| op.kind.accuracy();

    fn infer(&self, operands: &[&TensorType]) -> Inferred {
        let (base, indices, updates) = (operands[0], operands[1], operands[2]);
        check_element_indices(["C1", "C2", "C3"], self.axis, base, indices)?;
        let fits = updates.shape == indices.shape;
        require!("C4", fits, "updates have shape {}, expected {}", updates.shape, indices.shape);
        self.kind.check("C5", "C6", base, updates)?;
        Ok(vec![base.clone()])
    }

    fn samples() -> Vec<Sample<Self>> {
        let sample = |kind, base: &[usize], dtype, indices: &[usize], index_dtype, axis: usize| {
            let operands = [
                TensorType::new(dtype, base),
                TensorType::new(index_dtype, indices),
                TensorType::new(dtype, indices),
            ];
            Sample::new(ScatterElements { axis, kind }, operands).fill(1, 0.0, base[axis] as f64)
        };
        let mut samples = vec![];
        for &kind in ScatterKind::ALL {
            samples.push(sample(kind, &[4, 3], DType::F32, &[5, 3], DType::I64, 0));
            samples.push(sample(kind, &[2, 3, 2], DType::I64, &[2, 3, 1], DType::I32, 1));
        }
        samples.extend([
            sample(ScatterKind::None, &[5], DType::Bool, &[3], DType::U32, 0),
            sample(ScatterKind::Add, &[2, 3], DType::C64, &[2, 4], DType::I64, 1),
            sample(ScatterKind::Add, &[2, 3], DType::F16, &[0, 3], DType::I64, 0),
            sample(ScatterKind::Max, &[3, 0], DType::F32, &[2, 0], DType::I64, 0),
        ]);
        samples
    }
}

impl ScatterElements {
    fn eval(&self, operands: &[&Literal]) -> Evaluated {
        let (base, indices, updates) = (operands[0], operands[1], operands[2]);
        let rows = read_values(self, operands, 1)?;
        self.kind.apply(base, updates, |index| {
            let mut target = index.to_vec();
            target[self.axis] = rows[row_major(indices.dims(), index)];
            row_major(base.dims(), &target)
        })
    }

    fn decompose(&self, g: &mut Graph, operands: &[Value]) -> Vec<Value> {
        let vectors = element_vectors(g, operands[1], self.axis);
        vec![g.scatter_nd(operands[0], vectors, operands[2], self.kind)]
    }
}
