//! Numbers as text, as NumPy writes them, and back.

use rlx_ir::{DType, Number};

/// `number` of dtype `dtype` in the fewest digits that tell it from its neighbours.
pub(crate) fn write(number: Number, dtype: DType) -> String {
    match number {
        Number::Int(value) if dtype == DType::Bool => if value != 0 { "True" } else { "False" }.to_string(),
        Number::Int(value) => value.to_string(),
        Number::Float(value) => write_float(value, dtype),
        Number::Complex(re, im) => format!("({}{}j)", write_float(re, dtype), signed(write_float(im, dtype))),
    }
}

fn signed(text: String) -> String {
    if text.starts_with('-') { text } else { format!("+{text}") }
}

fn write_float(value: f64, dtype: DType) -> String {
    if value.is_nan() {
        return "nan".into();
    }
    if value.is_infinite() {
        return if value > 0.0 { "inf" } else { "-inf" }.into();
    }
    let scientific = shortest(value, dtype);
    let (digits, exponent) = scientific.split_once('e').unwrap_or((&scientific, "0"));
    let exponent: i32 = exponent.parse().unwrap_or(0);
    if value != 0.0 && !(-4..16).contains(&exponent) {
        let sign = if exponent < 0 { '-' } else { '+' };
        return format!("{digits}e{sign}{:02}", exponent.abs());
    }
    let (sign, digits) = digits.strip_prefix('-').map_or(("", digits), |digits| ("-", digits));
    let digits: String = digits.chars().filter(char::is_ascii_digit).collect();
    let point = exponent + 1;
    let (whole, fraction) = if point <= 0 {
        ("0".to_string(), format!("{}{digits}", "0".repeat(point.unsigned_abs() as usize)))
    } else {
        let point = point as usize;
        let padded = format!("{digits:0<point$}");
        (padded[..point].to_string(), padded[point..].to_string())
    };
    let fraction = if fraction.is_empty() { "0" } else { &fraction };
    format!("{sign}{whole}.{fraction}")
}

/// `d.ddde±x`, with the fewest digits that give `value` back in `dtype`.
fn shortest(value: f64, dtype: DType) -> String {
    match dtype {
        DType::F64 => format!("{value:e}"),
        DType::F32 => format!("{:e}", value as f32),
        _ => {
            let read = |text: &String| text.parse().map(|read| Number::Float(read).cast(dtype));
            let mut texts = (0..17).map(|digits| format!("{value:.digits$e}"));
            let text = texts.find(|text| read(text) == Ok(Number::Float(value)));
            text.unwrap_or_else(|| format!("{value:e}"))
        }
    }
}

/// The number that `text` says, in `dtype`; `None` where it says none.
pub(crate) fn read(text: &str, dtype: DType) -> Option<Number> {
    let text = text.trim();
    if dtype == DType::Bool {
        let truth = ["false", "true"].iter().position(|word| text.eq_ignore_ascii_case(word));
        if let Some(truth) = truth {
            return Some(Number::Int(truth as i128));
        }
    }
    if dtype.is_int()
        && let Ok(value) = text.parse::<i128>()
    {
        return Some(Number::Int(value).cast(dtype));
    }
    // Straight to f32, so that nothing is rounded twice.
    let value = match dtype {
        DType::F32 => f64::from(text.parse::<f32>().ok()?),
        _ => text.parse::<f64>().ok()?,
    };
    Some(Number::Float(value).cast(dtype))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn floats_are_written_as_numpy_writes_them() {
        let cases: &[(f64, DType, &str)] = &[
            (0.0, DType::F32, "0.0"),
            (-0.0, DType::F32, "-0.0"),
            (1.0, DType::F64, "1.0"),
            (-314.159_26, DType::F64, "-314.15926"),
            (f64::from(0.1f32), DType::F32, "0.1"),
            (f64::from(16_777_216f32), DType::F32, "16777216.0"),
            (0.000_1, DType::F64, "0.0001"),
            (0.000_012_5, DType::F64, "1.25e-05"),
            (1e16, DType::F64, "1e+16"),
            (1e15, DType::F64, "1000000000000000.0"),
            (1.5e300, DType::F64, "1.5e+300"),
            (0.099_975_585_937_5, DType::F16, "0.1"),
            (f64::NAN, DType::F32, "nan"),
            (f64::NEG_INFINITY, DType::F32, "-inf"),
        ];
        for &(value, dtype, text) in cases {
            assert_eq!(write(Number::Float(value), dtype), text);
        }
        assert_eq!(write(Number::Int(-5), DType::I8), "-5");
        assert_eq!(write(Number::Int(1), DType::Bool), "True");
    }

    #[test]
    fn numbers_are_read() {
        assert_eq!(read("-INF", DType::F32), Some(Number::Float(f64::NEG_INFINITY)));
        assert_eq!(read("+inf", DType::F64), Some(Number::Float(f64::INFINITY)));
        assert_eq!(read("1E8", DType::F32), Some(Number::Float(1e8)));
        assert_eq!(read(" 100.5", DType::I32), Some(Number::Int(100)));
        assert_eq!(read("18446744073709551615", DType::U64), Some(Number::Int(u64::MAX.into())));
        assert_eq!(read("TRUE", DType::Bool), Some(Number::Int(1)));
        assert_eq!(read("Hello World!", DType::F32), None);
        assert!(matches!(read("NaN", DType::F32), Some(Number::Float(value)) if value.is_nan()));
    }
}
