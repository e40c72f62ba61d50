//! `scatter_nd`: updates of slices named by coordinate vectors.

use crate::accuracy::Accuracy;
use crate::dim::Dim;
use crate::dtype::DType;
use crate::literal::{Literal, element_count};
use crate::number::{Number, wrap};
use crate::op::{Evaluated, Fault, Inferred, Meaning, OpSpec, Sample, Violation};
use crate::ops::{
    check_addressable, check_index_dtype, for_each_index, overwrite_elements, row_major, same_dtype,
};
use crate::shape::{Shape, TensorType};
use crate::value_range::{ValueRange, read_values};
use crate::{attr_enum, op, require};

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
    const MEANING: Meaning<Self> = Meaning::primitive(Self::eval)
        .in_place()
        .checked(|_, types| vec![vector_range(types[0], types[1], 0)]);

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

    fn accuracy(&self) -> Accuracy {
        self.kind.accuracy()
    }

    fn samples() -> Vec<Sample<Self>> {
        let sample = |kind, dtype, base: &[usize], indices: &[usize], index_dtype, updates: &[usize]| {
            let operands = [
                TensorType::new(dtype, base),
                TensorType::new(index_dtype, indices),
                TensorType::new(dtype, updates),
            ];
            let high = base.iter().take(indices[indices.len() - 1]).min().copied().unwrap_or(1);
            Sample::new(ScatterNd { kind }, operands).fill(1, 0.0, high as f64)
        };
        let mut samples = vec![];
        for &kind in ScatterKind::ALL {
            samples.push(sample(kind, DType::F32, &[4, 3], &[5, 1], DType::I64, &[5, 3]));
            samples.push(sample(kind, DType::I32, &[2, 3, 2], &[2, 2, 2], DType::I32, &[2, 2, 2]));
            samples.push(sample(kind, DType::BF16, &[3], &[2, 3, 1], DType::U32, &[2, 3]));
        }
        samples.extend([
            sample(ScatterKind::None, DType::Bool, &[3, 2], &[2], DType::I64, &[]),
            sample(ScatterKind::Add, DType::C64, &[3, 2], &[4, 1], DType::I64, &[4, 2]),
            sample(ScatterKind::Add, DType::F64, &[3, 2], &[0, 1], DType::I64, &[0, 2]),
            sample(ScatterKind::Max, DType::U8, &[3, 0], &[2, 1], DType::I64, &[2, 0]),
            sample(ScatterKind::Add, DType::F32, &[3], &[2, 0], DType::I64, &[2, 3]),
        ]);
        samples
    }
}

impl ScatterNd {
    fn eval(&self, operands: &[&Literal]) -> Evaluated {
        let (base, indices, updates) = (operands[0], operands[1], operands[2]);
        let lead = indices.dims().len() - 1;
        let depth = indices.dims()[lead];
        let coordinates = read_values(self, operands, 1)?;
        let target = |index: &[usize]| {
            let row = row_major(&indices.dims()[..lead], &index[..lead]) * depth;
            row_major(base.dims(), &[&coordinates[row..row + depth], &index[lead..]].concat())
        };
        self.kind.apply(base, updates, target)
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
        Literal::from_numbers(base.dtype(), base.dims(), numbers)
            .map(|literal| vec![literal])
            .map_err(|error| Fault(error.to_string()))
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
