//! `cast`: conversion between dtypes.

use crate::accuracy::Accuracy;
use crate::dtype::DType;
use crate::op::{Inferred, Meaning, OpSpec, Sample};
use crate::shape::TensorType;
use crate::{op, require};

op! {
    /// `x` converted to dtype `to`. Float to integer truncates and saturates, with NaN to 0; integer to
    /// integer wraps; anything to `bool` is `!= 0`; floats round to nearest even; complex to real drops
    /// the imaginary part.
    ///
    /// (C1) Neither dtype is storage-only.
    cast: Cast(x) -> y {
        /// The new dtype.
        to: DType,
    }
}

impl OpSpec for Cast {
    const MEANING: Meaning<Self> = Meaning::scalar(|op, p, args| vec![p.cast(args[0], op.to)]);

    fn infer(&self, operands: &[&TensorType]) -> Inferred {
        let from = operands[0].dtype;
        let storage = [from, self.to].into_iter().find(|dtype| dtype.is_storage_only());
        require!(
            "C1",
            storage.is_none(),
            "cannot cast {from} to {}; storage-only dtypes go through dequantize",
            self.to
        );
        Ok(vec![TensorType::new(self.to, operands[0].shape.clone())])
    }

    fn accuracy(&self) -> Accuracy {
        Accuracy::Exact
    }

    fn samples() -> Vec<Sample<Self>> {
        let real: Vec<_> = DType::ALL.iter().copied().filter(|dtype| !dtype.is_storage_only()).collect();
        let mut samples = vec![];
        for &from in &real {
            for &to in &real {
                samples.push(Sample::new(Cast { to }, [TensorType::new(from, [2, 5])]));
            }
        }
        samples
    }
}
