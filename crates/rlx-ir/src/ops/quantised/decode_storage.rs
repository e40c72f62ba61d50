//! `decode_storage`: the numbers of a storage-only tensor in a dtype that arithmetic takes.

use crate::block_format::BlockFormat;
use crate::literal::LiteralError;
use crate::ops::prelude::*;

op! {
    /// The elements of `x` one by one: `i4` and `i2` as `i8`, `u4` and `u2` as `u8`, `f4e2m1` and the block formats
    /// as `f32`. All are exact; a block's products are rounded as its format says (that of the gguf package).
    ///
    /// (C1) `x` has a storage-only dtype.
    /// (C2) Rows of a block format are made of whole blocks.
    /// `dequantize` is this, with scales that stand beside the codes.
    decode_storage: DecodeStorage(x) -> y {}
}

impl DecodeStorage {
    /// The dtype of the elements of `dtype`.
    pub fn result(dtype: DType) -> DType {
        match dtype.class() {
            DTypeClass::Signed => DType::I8,
            DTypeClass::Unsigned => DType::U8,
            _ => DType::F32,
        }
    }
}

impl OpSpec for DecodeStorage {
    const MEANING: Meaning<Self> = Meaning::primitive(|_, operands| evaluate(operands[0]));
    const VJP: Vjp<Self> = Vjp::None("it computes with codes");
    const JVP: Jvp<Self> = Jvp::None("it computes with codes");
    const BATCH: Batch<Self> = Batch::elementwise();
    const ACCURACY: AccuracyRule<Self> = |_| Accuracy::Exact;
    const SAMPLES: Samples<Self> = Samples::Made(|| {
        let mut samples = vec![];
        for &dtype in DType::ALL.iter().filter(|dtype| dtype.is_storage_only()) {
            let shapes: &[&[usize]] = match dtype.block_elements() {
                1 => &[&[3, 5], &[4], &[], &[0]],
                256 => &[&[2, 256], &[0, 256]],
                _ => &[&[2, 3, 64], &[0]],
            };
            samples.extend(
                shapes.iter().map(|&dims| Sample::new(DecodeStorage {}, [TensorType::new(dtype, dims)])),
            );
        }
        samples
    });

    fn infer(&self, operands: &[&TensorType]) -> Inferred {
        let x = operands[0];
        require!("C1", x.dtype.is_storage_only(), "the elements of {x} stand one by one already; cast it");
        if x.dtype.class() == DTypeClass::Block {
            check_whole_units("C2", x)?;
        }
        Ok(vec![TensorType::new(Self::result(x.dtype), x.shape.clone())])
    }
}

fn evaluate(x: &Literal) -> Evaluated {
    let to = DecodeStorage::result(x.dtype());
    let y: Result<Literal, LiteralError> = match BlockFormat::of(x.dtype()) {
        None => Literal::from_numbers(to, x.dims(), x.numbers()),
        Some(format) => {
            let mut numbers = vec![0.0; x.len()];
            format.decode(x.bytes(), &mut numbers);
            Literal::from_numbers(
                to,
                x.dims(),
                numbers.into_iter().map(|number| Number::Float(number.into())),
            )
        }
    };
    Ok(vec![y?])
}
