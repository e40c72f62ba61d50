//! Typed host I/O: conversions between byte slices of any dtype.
//!
//! Every conversion has the meaning of the `cast` op, goes element by element
//! without alignment, and never sends a 64-bit integer or an `f64` through
//! `f32`. Sizes are checked; nothing is truncated.

use crate::error::DriverError;
use rlx_ir::number::{decode, encode};
use rlx_ir::{DType, LiteralError, TensorRef};

/// Does the byte count fit the type? `what` and `name` say in the error what the tensor is for.
///
/// # Errors
/// A byte count that does not fit.
pub fn check_bytes(tensor: TensorRef<'_>, what: &'static str, name: &str) -> Result<(), DriverError> {
    expected_size(&tensor).map_or(Ok(()), |expected| {
        let found = format!("{} bytes", tensor.bytes.len());
        Err(DriverError::Mismatch { what, name: name.into(), expected, found })
    })
}

/// The size that the bytes should have, where they have another.
pub(crate) fn expected_size(tensor: &TensorRef<'_>) -> Option<String> {
    match tensor.check() {
        Ok(()) => None,
        Err(LiteralError::Length { expected, .. }) => Some(format!("{expected} bytes")),
        Err(_) => Some("a size that fits memory".into()),
    }
}

/// Converts all of `source` (elements of `from`) into `target` (elements of `to`).
///
/// # Errors
/// Different dtypes of which one is storage-only, and slices that do not hold the same number of elements.
pub fn convert(from: DType, source: &[u8], to: DType, target: &mut [u8]) -> Result<(), DriverError> {
    let whole = from.size_of().is_none_or(|width| source.len().is_multiple_of(width));
    if from == to && whole && source.len() == target.len() {
        target.copy_from_slice(source);
        return Ok(());
    }
    let (Some(from_width), Some(to_width)) = (from.size_of(), to.size_of()) else {
        return Err(DriverError::Conversion { from, to });
    };
    if !source.len().is_multiple_of(from_width) || source.len() / from_width * to_width != target.len() {
        return Err(DriverError::Mismatch {
            what: "host buffer",
            name: to.to_string(),
            expected: format!("{} bytes", source.len() / from_width * to_width),
            found: format!("{} bytes", target.len()),
        });
    }
    let pairs = source.chunks_exact(from_width).zip(target.chunks_exact_mut(to_width));
    match (from, to) {
        (DType::F32, DType::F16) => {
            pairs.for_each(|(s, t)| t.copy_from_slice(&half::f16::from_f32(read_f32(s)).to_le_bytes()));
        }
        (DType::F32, DType::BF16) => {
            pairs.for_each(|(s, t)| t.copy_from_slice(&half::bf16::from_f32(read_f32(s)).to_le_bytes()));
        }
        (DType::F16, DType::F32) => pairs.for_each(|(s, t)| {
            t.copy_from_slice(&half::f16::from_le_bytes([s[0], s[1]]).to_f32().to_le_bytes());
        }),
        (DType::BF16, DType::F32) => pairs.for_each(|(s, t)| {
            t.copy_from_slice(&half::bf16::from_le_bytes([s[0], s[1]]).to_f32().to_le_bytes());
        }),
        _ => pairs.for_each(|(s, t)| {
            let mut element = [0u8; 16];
            let width = encode(to, decode(from, s).cast(to), &mut element);
            t.copy_from_slice(&element[..width]);
        }),
    }
    Ok(())
}

fn read_f32(bytes: &[u8]) -> f32 {
    f32::from_le_bytes([bytes[0], bytes[1], bytes[2], bytes[3]])
}

/// Writes `values` as elements of `dtype`.
///
/// # Errors
/// As [`convert`].
pub fn write_typed_from_f32(dtype: DType, values: &[f32], target: &mut [u8]) -> Result<(), DriverError> {
    convert(DType::F32, bytemuck::cast_slice(values), dtype, target)
}

/// Reads elements of `dtype` as `f32`.
///
/// # Errors
/// As [`convert`].
pub fn read_typed_to_f32(dtype: DType, source: &[u8], values: &mut [f32]) -> Result<(), DriverError> {
    convert(dtype, source, DType::F32, bytemuck::cast_slice_mut(values))
}

#[cfg(test)]
mod tests {
    use super::*;
    use rlx_ir::Literal;
    use rlx_ir::Number;

    #[test]
    fn representable_values_round_trip_between_all_dtypes() {
        let dtypes: Vec<_> =
            DType::ALL.iter().copied().filter(|d| !d.is_storage_only() && *d != DType::F8E8M0).collect();
        for &from in &dtypes {
            for &to in &dtypes {
                let source = Literal::from_numbers(from, &[2], [Number::Int(0), Number::Int(1)])
                    .expect("the extents agree");
                let mut there = vec![0; 2 * to.size_of().expect("the dtype has whole bytes")];
                convert(from, source.bytes(), to, &mut there).expect("the extents agree");
                let mut back = vec![0; source.bytes().len()];
                convert(to, &there, from, &mut back).expect("the extents agree");
                assert_eq!(back, source.bytes(), "{from} to {to} and back");
            }
        }
    }

    #[test]
    fn wide_integers_do_not_pass_through_floats() {
        let value = (1i64 << 62) + 1;
        let mut out = [0; 8];
        convert(DType::I64, &value.to_le_bytes(), DType::U64, &mut out).expect("the extents agree");
        assert_eq!(u64::from_le_bytes(out), value as u64);
    }

    #[test]
    fn sizes_are_checked() {
        let error = write_typed_from_f32(DType::F16, &[1.0, 2.0], &mut [0; 3]).unwrap_err();
        assert_eq!(error.to_string(), "host buffer \"f16\": expected 4 bytes, found 3 bytes");
        assert!(TensorRef::f32(&[2, 2], &[0.0; 3]).is_err());
    }
}
