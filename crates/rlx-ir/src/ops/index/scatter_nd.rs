//! `scatter_nd`: updates of slices named by coordinate vectors.

use crate::ops::prelude::*;

attr_enum! {
    /// What a scatter does with an update.
    ScatterKind {
        /// Replaces the element; of several updates the last in index order stays.
        None = "none",
        /// Adds to the element.
        Add = "add",
        /// Multiplies the element.
        Mul = "mul",
        /// Keeps the smaller; NaN wins.
        Min = "min",
        /// Keeps the larger; NaN wins.
        Max = "max",
    }
}

op! {
    /// `base`, in which every slice `base[indices[i.., :]]` is combined with `updates[i..]`, in row-major
    /// order of `i`. The last extent of `indices`, `k`, is the number of leading axes of `base` that a
    /// coordinate vector names (ONNX `ScatterND`).
    ///
    /// (C1) `indices` is i32, i64 or u32, of rank 1 at least; `k` is static and at most the rank of `base`.
    /// (C2) The shape of `updates` is `indices[:-1] ++ base[k:]`.
    /// (C3) `base` and `updates` have one dtype, which is not storage-only.
    /// (C4) `add` and `mul` take numbers; `min` and `max` take integers and floats.
    /// A coordinate outside its axis is a run-time fault. Half-precision sums accumulate in f32.
    scatter_nd: ScatterNd(base, indices, updates) -> y {
        /// What an update does.
        kind: ScatterKind,
    }
}

impl OpSpec for ScatterNd {
    const MEANING: Meaning<Self> = Meaning::primitive(|op: &Self, operands| {
        let (base, indices, updates) = (operands[0], operands[1], operands[2]);
        let lead = indices.dims().len() - 1;
        let depth = indices.dims()[lead];
        let coordinates = read_values(op, operands, 1)?;
        let target = |index: &[usize]| {
            let row = row_major(&indices.dims()[..lead], &index[..lead]) * depth;
            row_major(base.dims(), &[&coordinates[row..row + depth], &index[lead..]].concat())
        };
        op.kind.apply(base, updates, target)
    })
    .in_place()
    .checked(|_, types| vec![vector_range(types[0], types[1], 0)]);
    const VJP: Vjp<Self> = Vjp::Rule(Self::vjp);
    const JVP: Jvp<Self> = Jvp::Rule(|op, g, given| match op.kind {
        ScatterKind::None | ScatterKind::Add => given.linear(g, op.clone()),
        _ => Err("a product or extreme is not linear"),
    });
    const BATCH: Batch<Self> = Batch::Rule(|op, g, given| {
        let all = given.with_batch(g);
        let vectors = whole_vectors(g, all[1], 1);
        Ok(vec![g.scatter_nd(all[0], vectors, all[2], op.kind)])
    });
    const ACCURACY: AccuracyRule<Self> = |op| op.kind.accuracy();
    const SAMPLES: Samples<Self> = Samples::Listed(&[
        "f32[4, 3], i64[5, 1] in [0, 4), f32[5, 3] {kind = none}",
        "i32[2, 3, 2], i32[2, 2, 2] in [0, 2), i32[2, 2, 2]",
        "bf16[3], u32[2, 3, 1] in [0, 3), bf16[2, 3]",
        "f32[4, 3], i64[5, 1] in [0, 4), f32[5, 3] {kind = add}",
        "i32[2, 3, 2], i32[2, 2, 2] in [0, 2), i32[2, 2, 2] {kind = add}",
        "bf16[3], u32[2, 3, 1] in [0, 3), bf16[2, 3] {kind = add}",
        "f32[4, 3], i64[5, 1] in [0, 4), f32[5, 3] {kind = mul}",
        "i32[2, 3, 2], i32[2, 2, 2] in [0, 2), i32[2, 2, 2] {kind = mul}",
        "bf16[3], u32[2, 3, 1] in [0, 3), bf16[2, 3] {kind = mul}",
        "f32[4, 3], i64[5, 1] in [0, 4), f32[5, 3] {kind = min}",
        "i32[2, 3, 2], i32[2, 2, 2] in [0, 2), i32[2, 2, 2] {kind = min}",
        "bf16[3], u32[2, 3, 1] in [0, 3), bf16[2, 3] {kind = min}",
        "f32[4, 3], i64[5, 1] in [0, 4), f32[5, 3] {kind = max}",
        "i32[2, 3, 2], i32[2, 2, 2] in [0, 2), i32[2, 2, 2] {kind = max}",
        "bf16[3], u32[2, 3, 1] in [0, 3), bf16[2, 3] {kind = max}",
        "bool[3, 2], i64[2] in [0, 2), bool[]",
        "c64[3, 2], i64[4, 1] in [0, 3), c64[4, 2] {kind = add}",
        "f64[3, 2], i64[0, 1] in [0, 3), f64[0, 2] {kind = add}",
        "u8[3, 0], i64[2, 1] in [0, 3), u8[2, 0] {kind = max}",
        "f32[3], i64[2, 0] in [0, 1), f32[2, 3] {kind = add}",
    ]);

    fn infer(&self, operands: &[&TensorType]) -> Inferred {
        let (base, indices, updates) = (operands[0], operands[1], operands[2]);
        let depth = check_vectors("C1", base, indices, 0)?;
        let lead = &indices.shape.dims()[..indices.rank() - 1];
        let expected = Shape::from([lead, &base.shape.dims()[depth..]].concat());
        require!(
            "C2",
            updates.shape == expected,
            "updates have shape {}, expected {expected}",
            updates.shape
        );
        self.kind.check("C3", "C4", base, updates)?;
        Ok(vec![base.clone()])
    }
}

/// The depth `k` of coordinate vectors `indices` into `base`, after `batch` shared leading axes.
///
/// # Errors
/// An index dtype, rank or depth that does not fit.
pub fn check_vectors(
    label: &'static str,
    base: &TensorType,
    indices: &TensorType,
    batch: usize,
) -> Result<usize, Violation> {
    check_index_dtype(label, "indices", indices)?;
    require!(
        label,
        indices.rank() > batch,
        "indices have rank {}, expected more than {batch}",
        indices.rank()
    );
    let last = &indices.shape[indices.rank() - 1];
    let depth = last.as_static().and_then(|depth| usize::try_from(depth).ok());
    match depth {
        Some(depth) if depth <= base.rank().saturating_sub(batch) => Ok(depth),
        _ => Err(Violation {
            constraint: label,
            message: format!(
                "the last extent of the indices is {last}, expected a static one of at most {}",
                base.rank().saturating_sub(batch)
            ),
        }),
    }
}

/// Coordinate vectors that name the first `batch` axes as well, which `indices` share with their table.
pub fn whole_vectors(g: &mut Graph, indices: Value, batch: usize) -> Value {
    let Some(ty) = g.try_ty(indices).cloned() else { return Value::POISON };
    let last = ty.rank() - 1;
    let mut dims = ty.shape.into_dims();
    dims[last] = Dim::from(1);
    let mut columns: Vec<Value> = (0..batch).map(|axis| g.iota(ty.dtype, dims.clone(), axis)).collect();
    columns.push(indices);
    if batch == 0 { indices } else { g.concat(&columns, last) }
}

/// The range of coordinate vectors `indices` (operand 1) into `base`, after `batch` shared leading axes.
pub fn vector_range(base: &TensorType, indices: &TensorType, batch: usize) -> ValueRange {
    let depth = indices.shape.dims().last().and_then(Dim::as_static).unwrap_or(0) as usize;
    let axes = base.shape.dims().iter().skip(batch).take(depth);
    ValueRange::windows(1, axes.map(|extent| (extent.clone(), Dim::from(1))))
}

impl ScatterKind {
    /// Dtypes that this kind takes.
    ///
    /// # Errors
    /// Different dtypes under `same`, or one that the kind does not take under `takes`.
    pub fn check(
        self,
        same: &'static str,
        takes: &'static str,
        base: &TensorType,
        updates: &TensorType,
    ) -> Result<(), Violation> {
        same_dtype(same, &[base, updates])?;
        check_addressable(same, &[base])?;
        let dtype = base.dtype;
        let legal = match self {
            ScatterKind::None => true,
            ScatterKind::Add | ScatterKind::Mul => dtype != DType::Bool,
            ScatterKind::Min | ScatterKind::Max => dtype.is_int() || dtype.is_float(),
        };
        require!(takes, legal, "{self} does not take {dtype}");
        Ok(())
    }

    /// How far a kernel may be from the reference.
    pub fn accuracy(self) -> Accuracy {
        match self {
            ScatterKind::Add | ScatterKind::Mul => Accuracy::Accumulated { terms: 64 },
            _ => Accuracy::Exact,
        }
    }

    /// `base`, in which each element of `updates` is combined with the element
    /// at the row-major position that `target` gives for its coordinate.
    ///
    /// # Errors
    /// None for operands that passed [`ScatterKind::check`].
    pub fn apply(self, base: &Literal, updates: &Literal, target: impl Fn(&[usize]) -> usize) -> Evaluated {
        if self == ScatterKind::None {
            return overwrite_elements(base, updates, target);
        }
        let mut numbers = base.numbers();
        let mut position = 0;
        for_each_index(updates.dims(), |index| {
            let at = target(index);
            numbers[at] = self.combine(base.dtype(), numbers[at], updates.number(position));
            position += 1;
        });
        debug_assert_eq!(Some(numbers.len()), element_count(base.dims()));
        Ok(vec![Literal::from_numbers(base.dtype(), base.dims(), numbers)?])
    }

    fn combine(self, dtype: DType, old: Number, new: Number) -> Number {
        match (old, new) {
            (Number::Int(a), Number::Int(b)) => Number::Int(match self {
                ScatterKind::None => b,
                ScatterKind::Add => wrap(dtype, a + b),
                ScatterKind::Mul => wrap(dtype, a.wrapping_mul(b)),
                ScatterKind::Min => a.min(b),
                ScatterKind::Max => a.max(b),
            }),
            (Number::Float(a), Number::Float(b)) => Number::Float(match self {
                ScatterKind::None => b,
                ScatterKind::Add => a + b,
                ScatterKind::Mul => a * b,
                _ if a.is_nan() || b.is_nan() => f64::NAN,
                ScatterKind::Min => a.min(b),
                ScatterKind::Max => a.max(b),
            }),
            (Number::Complex(a, b), Number::Complex(c, d)) => match self {
                ScatterKind::Add => Number::Complex(a + c, b + d),
                ScatterKind::Mul => Number::Complex(a * c - b * d, a * d + b * c),
                _ => new,
            },
            _ => new,
        }
    }
}

impl ScatterNd {
    fn vjp(&self, g: &mut Graph, given: Backward<'_>) -> Derivatives {
        let &[base, indices, updates] = given.operands else { return Err("there are three operands") };
        let (dy, y) = (given.cotangent(), given.results[0]);
        let add = |g: &mut Graph, base, updates| g.scatter_nd(base, indices, updates, ScatterKind::Add);
        let at = |g: &mut Graph, x| g.gather_nd(x, indices, 0usize);
        let dtype = g.ty(dy).dtype;
        let (zero, one) = (g.scalar(dtype, 0.0), g.scalar(dtype, 1.0));
        let zeros = g.zeros_like(updates);
        let (by_base, by_updates) = match self.kind {
            ScatterKind::Add => (dy, at(g, dy)),
            ScatterKind::None => {
                let last = self.is_last(g, given);
                let there = at(g, dy);
                let none = g.scatter_nd(dy, indices, zeros, ScatterKind::None);
                (none, g.r#where(last, there, zero))
            }
            ScatterKind::Min | ScatterKind::Max => {
                // Equal winners share.
                let (in_base, here) = (g.compare_eq(base, y), at(g, y));
                let in_updates = g.compare_eq(updates, here);
                let (base_wins, update_wins) = (g.cast(in_base, dtype), g.cast(in_updates, dtype));
                let count = add(g, base_wins, update_wins);
                let share = g.div(dy, count);
                let there = at(g, share);
                (g.r#where(in_base, share, zero), g.r#where(in_updates, there, zero))
            }
            ScatterKind::Mul => {
                // The product of the others, whether one or several of them are zero.
                let (base, updates) = (g.conjugated(base), g.conjugated(updates));
                let is_zero = g.compare_eq(updates, zero);
                let (nonzero, counted) = (g.r#where(is_zero, one, updates), g.cast(is_zero, dtype));
                let product = g.scatter_nd(base, indices, nonzero, ScatterKind::Mul);
                let no_zeros = g.zeros_like(base);
                let zero_count = add(g, no_zeros, counted);
                let slope = g.mul(dy, product);
                let (slope, zero_count) = (at(g, slope), at(g, zero_count));
                let (no_zero, one_zero) = (g.compare_eq(zero_count, zero), g.compare_eq(zero_count, one));
                let others = g.div(slope, nonzero);
                let others = g.r#where(no_zero, others, zero);
                let alone = g.r#where(one_zero, slope, zero);
                let by_base = g.scatter_nd(dy, indices, updates, ScatterKind::Mul);
                (by_base, g.r#where(is_zero, alone, others))
            }
        };
        Ok(vec![Some(by_base), None, Some(by_updates)])
    }

    /// Which updates stay, of those that replace one another.
    fn is_last(&self, g: &mut Graph, given: Backward<'_>) -> Value {
        let (base, indices) = (g.ty(given.operands[0]).shape.clone(), g.ty(given.operands[1]).shape.clone());
        let (lead, depth) = (indices.dims()[..indices.rank() - 1].to_vec(), base.rank() + indices.rank() - 1);
        let depth = depth - g.ty(given.operands[2]).rank();
        let count = Shape::from(lead.clone()).num_elements();
        let numbers = g.iota(DType::I64, vec![count], 0usize);
        let numbers = g.reshape(numbers, lead.clone());
        let table = g.full(DType::I64, base.dims()[..depth].to_vec(), -1.0);
        let table = g.scatter_nd(table, given.operands[1], numbers, ScatterKind::None);
        let found = g.gather_nd(table, given.operands[1], 0usize);
        let last = g.compare_eq(found, numbers);
        let ones = vec![Dim::from(1); base.rank() - depth];
        g.reshape(last, [lead, ones].concat())
    }
}
