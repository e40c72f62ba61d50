//! `encode_storage`: numbers brought into a storage-only dtype.

use crate::block_format::BlockFormat;
use crate::ops::prelude::*;

op! {
    /// `x` in the storage-only dtype `to`; what `decode_storage` gives is near it.
    ///
    /// `i4`, `i2`, `u4` and `u2` keep the low bits of `i8` or `u8`; `f4e2m1` rounds half to even and saturates; the
    /// block formats choose scales and codes as the gguf package does, which offers q4_0, q4_1, q5_0, q5_1, q8_0 and
    /// mxfp4.
    /// (C1) `to` is storage-only, and not a block format of which only the reading is defined here.
    /// (C2) `x` has the dtype that `decode_storage` makes of `to`.
    /// (C3) Rows of a block format are made of whole blocks.
    encode_storage: EncodeStorage(x) -> y {
        /// The storage-only dtype.
        to: DType,
    }
}

/// Can numbers be brought into `dtype`?
pub(crate) fn encodes(dtype: DType) -> bool {
    dtype.is_storage_only() && BlockFormat::of(dtype).is_none_or(BlockFormat::encodes)
}

impl OpSpec for EncodeStorage {
    const MEANING: Meaning<Self> = Meaning::primitive(|op, operands| op.eval(operands[0]));
    const VJP: Vjp<Self> = Vjp::None("it computes with codes");
    const JVP: Jvp<Self> = Jvp::None("it computes with codes");
    const BATCH: Batch<Self> = Batch::elementwise();
    const ACCURACY: AccuracyRule<Self> = |_| Accuracy::Exact;
    const SAMPLES: Samples<Self> = Samples::Made(|| {
        let mut samples = vec![];
        for &to in DType::ALL.iter().filter(|&&dtype| encodes(dtype)) {
            let shapes: &[&[usize]] = if to.class() == DTypeClass::Block {
                &[&[2, 3, 64], &[0]]
            } else {
                &[&[3, 5], &[4], &[], &[0]]
            };
            samples.extend(shapes.iter().map(|&dims| {
                Sample::new(EncodeStorage { to }, [TensorType::new(DecodeStorage::result(to), dims)])
            }));
        }
        samples
    });

    fn infer(&self, operands: &[&TensorType]) -> Inferred {
        let x = operands[0];
        require!("C1", encodes(self.to), "nothing is brought into {}; only reading it is defined", self.to);
        let expected = DecodeStorage::result(self.to);
        require!("C2", x.dtype == expected, "{} is made from {expected}, found {x}", self.to);
        let y = TensorType::new(self.to, x.shape.clone());
        if self.to.class() == DTypeClass::Block {
            check_whole_units("C3", &y)?;
        }
        Ok(vec![y])
    }
}

impl EncodeStorage {
    fn eval(&self, x: &Literal) -> Evaluated {
        let y = match BlockFormat::of(self.to) {
            None => Literal::from_numbers(self.to, x.dims(), x.numbers()),
            Some(format) => {
                let numbers: Vec<f32> = x.to_f64s().into_iter().map(|number| number as f32).collect();
                let mut bytes = vec![0; self.to.byte_size(x.len()).unwrap_or(0)];
                format.encode(&numbers, &mut bytes);
                Literal::from_bytes(self.to, x.dims(), &bytes)
            }
        };
        Ok(vec![y?])
    }
}
