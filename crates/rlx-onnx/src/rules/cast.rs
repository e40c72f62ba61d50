//! Conversions between element types: of values, of bits, and between numbers and text.

use super::{Rule, rule};
use crate::context::Context;
use crate::host::{Strings, computed};
use crate::node::{Node, Outcome, Stop};
use crate::numerals;
use crate::proto::tensor_proto::DataType;
use crate::tensor::{self, Element};
use crate::value::{Imported, Tensor};
use rlx_ir::number::{decode, mini_float};
use rlx_ir::ops::{Binary, BinaryKind as K};
use rlx_ir::{DType, Graph, Literal, Value};

pub(super) const RULES: &[Rule] = &[
    rule("Cast", &[1, 6, 9, 13, 19, 21, 23, 24, 25, 28], cast),
    rule("CastLike", &[15, 19, 21, 23, 24, 25], cast_like),
    rule("BitCast", &[26], bit_cast),
];

/// What happens to numbers that the new dtype does not have.
#[derive(Clone, Copy)]
pub(super) struct Rounding {
    /// Small floats: what is too large becomes the largest number.
    pub saturates: bool,
    pub e8m0: PowerRounding,
}

/// How a number becomes a power of two.
#[derive(Clone, Copy)]
pub(super) enum PowerRounding {
    Up,
    Down,
    Nearest,
}

impl Rounding {
    pub const SATURATING: Rounding = Rounding { saturates: true, e8m0: PowerRounding::Up };

    fn of<'m>(node: &Node<'m>) -> Result<Rounding, Stop<'m>> {
        let mode = node.string_or("round_mode", "up")?;
        let e8m0 = match mode.as_str() {
            "up" => PowerRounding::Up,
            "down" => PowerRounding::Down,
            "nearest" => PowerRounding::Nearest,
            _ => {
                return Err(Stop::Invalid(format!(
                    "round_mode is {mode:?}, expected \"up\", \"down\" or \"nearest\""
                )));
            }
        };
        Ok(Rounding { saturates: node.flag("saturate", true)?, e8m0 })
    }
}

/// The element type that attribute `to` names.
fn target<'m>(node: &Node<'m>) -> Result<Element, Stop<'m>> {
    let missing = || Stop::Invalid("it does not say what to convert to".into());
    let code = if node.version < 6 {
        let name = node.string("to")?.ok_or_else(missing)?;
        DataType::from_str_name(&name.to_ascii_uppercase()).map_or(0, |kind| kind as i64)
    } else {
        node.int("to")?.ok_or_else(missing)?
    };
    tensor::element(i32::try_from(code).unwrap_or(0)).map_err(Stop::Refused)
}

fn cast<'m>(cx: &mut Context<'m>, node: &Node<'m>) -> Outcome<'m> {
    let (to, rounding) = (target(node)?, Rounding::of(node)?);
    convert(cx, node, to, rounding)
}

fn cast_like<'m>(cx: &mut Context<'m>, node: &Node<'m>) -> Outcome<'m> {
    let to = match node.input(1) {
        Some(Imported::Strings(_)) => Element::String,
        _ => Element::Number(node.dtype(1)?),
    };
    convert(cx, node, to, Rounding::of(node)?)
}

fn convert<'m>(cx: &mut Context<'m>, node: &Node<'m>, to: Element, rounding: Rounding) -> Outcome<'m> {
    let wrong = |error: rlx_ir::LiteralError| Stop::Invalid(error.to_string());
    match (node.input(0), to) {
        (Some(Imported::Strings(strings)), Element::String) => Ok(vec![strings.clone().into()]),
        (Some(Imported::Strings(strings)), Element::Number(to)) => {
            let read = |text: &String| {
                let number = numerals::read(text, to);
                number.ok_or_else(|| Stop::Invalid(format!("{text:?} is no number of {to}")))
            };
            let numbers = strings.values().iter().map(read).collect::<Result<Vec<_>, _>>()?;
            let y = Literal::from_numbers(to, strings.dims(), numbers).map_err(wrong)?;
            Ok(vec![Tensor::literal(y).into()])
        }
        (_, Element::String) => {
            let x = node.literal(cx, 0)?;
            let texts = x.numbers().into_iter().map(|number| numerals::write(number, x.dtype()));
            Ok(Strings::new(x.dims(), texts.collect()).into_iter().map(Into::into).collect())
        }
        (_, Element::Number(to)) => {
            let (x, from) = (node.value(cx, 0)?, node.dtype(0)?);
            let y = number(cx.graph(), x, (from, to), rounding);
            Ok(vec![cx.tensor_as(y, to)?])
        }
    }
}

/// The numbers of `x` in another of the dtypes of ONNX; both stand in the dtype that they are computed in.
pub(super) fn number(graph: &mut Graph, x: Value, (from, to): (DType, DType), rounding: Rounding) -> Value {
    if from == to {
        return x;
    }
    let widest = if from == DType::F64 { DType::F64 } else { DType::F32 };
    match to {
        DType::I4 | DType::U4 | DType::I2 | DType::U2 => {
            let whole = graph.cast_to(x, DType::I32);
            low_bits(graph, whole, to)
        }
        DType::F4E2M1 => {
            let x = graph.cast_to(x, DType::F32);
            // There is no NaN to become.
            let (is_number, zero) = (graph.compare_eq(x, x), graph.scalar(DType::F32, -0.0));
            let x = graph.where_(is_number, x, zero);
            let packed = graph.encode_storage(x, to);
            graph.decode_storage(packed)
        }
        DType::F8E8M0 => power_of_two(graph, x, rounding),
        _ => {
            let Some(format) = mini_float(to) else { return graph.cast_to(x, computed(to)) };
            let mut x = graph.cast_to(x, widest);
            if rounding.saturates
                && let Some(largest) = decode(to, &[format.max_code() as u8]).as_f64()
            {
                x = graph.clip(x, -largest, largest);
            }
            graph.cast(x, to)
        }
    }
}

/// The low bits of the `i32` `x` as a number of the sub-byte integer dtype `to`.
fn low_bits(graph: &mut Graph, x: Value, to: DType) -> Value {
    let bits = to.block_bits();
    let x = if to.is_signed_int() {
        let by = graph.scalar(DType::I32, (32 - bits) as f64);
        let high = graph.push(Binary { kind: K::Shl }, &[x, by]);
        graph.push(Binary { kind: K::Shr }, &[high, by])
    } else {
        let mask = graph.scalar(DType::I32, f64::from((1 << bits) - 1));
        graph.push(Binary { kind: K::BitAnd }, &[x, mask])
    };
    graph.cast(x, computed(to))
}

/// The magnitude of `x` as a power of two, from 2^-127 to 2^127: the code is the exponent of the `f32` plus what
/// rounding carries into it. Zero is as small as it gets; what is too small or too large becomes the nearest power, or
/// NaN where `rounding` does not saturate.
fn power_of_two(graph: &mut Graph, x: Value, rounding: Rounding) -> Value {
    // The smallest subnormal f32 that gives code 1, and what carries from the fraction to the exponent.
    let (second, carry) = match rounding.e8m0 {
        PowerRounding::Up => (0x40_0001, 0x7F_FFFF),
        PowerRounding::Down => (0x80_0000, 0),
        PowerRounding::Nearest => (0x60_0000, 0x40_0000),
    };
    let x = graph.cast_to(x, DType::F32);
    let bits = graph.bitcast(x, DType::I32);
    let integer = |graph: &mut Graph, value: i32| graph.constant(Literal::scalar_i32(value));
    let mask = integer(graph, i32::MAX);
    let magnitude = graph.push(Binary { kind: K::BitAnd }, &[bits, mask]);
    let [carry, width, zero, second] = [carry, 23, 0, second].map(|value| integer(graph, value));
    let carried = graph.add(magnitude, carry);
    let code = graph.push(Binary { kind: K::Shr }, &[carried, width]);
    let is_first = graph.compare_lt(magnitude, second);
    let mut code = graph.where_(is_first, zero, code);
    let (infinity, none) = (integer(graph, 0x7F80_0000), integer(graph, 255));
    let mut is_nan = graph.compare_gt(magnitude, infinity);
    if rounding.saturates {
        let last = integer(graph, 254);
        code = graph.minimum(code, last);
    } else {
        let smallest = integer(graph, 0x40_0000);
        let is_small = graph.compare_lt(magnitude, smallest);
        is_nan = graph.or(is_nan, is_small);
    }
    let code = graph.where_(is_nan, none, code);
    let code = graph.cast(code, DType::U8);
    graph.bitcast(code, DType::F8E8M0)
}

fn bit_cast<'m>(cx: &mut Context<'m>, node: &Node<'m>) -> Outcome<'m> {
    let Element::Number(to) = target(node)? else {
        return Err(Stop::Invalid("strings have no bits".into()));
    };
    let (x, from) = (node.value(cx, 0)?, node.dtype(0)?);
    if from.block_bits() != to.block_bits() {
        return Err(Stop::Invalid(format!("{from} and {to} have different widths")));
    }
    let graph = cx.graph();
    let y = if from == to {
        x
    } else {
        let bits = bits_of(graph, x, from);
        of_bits(graph, bits, to)
    };
    Ok(vec![cx.tensor_as(y, to)?])
}

/// The unsigned integers with the bits of `x`, numbers of `from`, which is no `c128`.
fn bits_of(graph: &mut Graph, x: Value, from: DType) -> Value {
    match from {
        DType::Bool => graph.cast(x, DType::U8),
        DType::U4 | DType::U2 => x,
        DType::I4 | DType::I2 => {
            let bits = graph.bitcast(x, DType::U8);
            let mask = graph.scalar(DType::U8, f64::from((1 << from.block_bits()) - 1));
            graph.push(Binary { kind: K::BitAnd }, &[bits, mask])
        }
        DType::F4E2M1 => code_of_f4(graph, x),
        DType::C64 => {
            let (re, im) = (graph.real(x), graph.imag(x));
            let [low, high] = [re, im].map(|part| {
                let bits = graph.bitcast(part, DType::U32);
                graph.cast(bits, DType::U64)
            });
            let by = graph.scalar(DType::U64, 32.0);
            let high = graph.push(Binary { kind: K::Shl }, &[high, by]);
            graph.push(Binary { kind: K::BitOr }, &[low, high])
        }
        _ => {
            let unsigned = match from.block_bits() {
                8 => DType::U8,
                16 => DType::U16,
                32 => DType::U32,
                _ => DType::U64,
            };
            if from == unsigned { x } else { graph.bitcast(x, unsigned) }
        }
    }
}

/// The inverse of [`bits_of`].
fn of_bits(graph: &mut Graph, bits: Value, to: DType) -> Value {
    match to {
        DType::Bool => graph.cast(bits, DType::Bool),
        DType::U4 | DType::U2 => bits,
        DType::I4 | DType::I2 => {
            let whole = graph.cast(bits, DType::I32);
            low_bits(graph, whole, to)
        }
        DType::F4E2M1 => {
            let codes: Vec<f64> = (0..16).filter_map(|code| decode(to, &[code]).as_f64()).collect();
            let Ok(table) = Literal::floats(DType::F32, &[16], &codes) else { return bits };
            let (table, at) = (graph.constant(table), graph.cast(bits, DType::I64));
            graph.gather(table, at, 0usize)
        }
        DType::C64 => {
            let by = graph.scalar(DType::U64, 32.0);
            let high = graph.push(Binary { kind: K::Shr }, &[bits, by]);
            let [re, im] = [bits, high].map(|part| {
                let part = graph.cast(part, DType::U32);
                graph.bitcast(part, DType::F32)
            });
            graph.complex(re, im)
        }
        _ if graph.try_ty(bits).is_some_and(|ty| ty.dtype == to) => bits,
        _ => graph.bitcast(bits, to),
    }
}

/// The codes of `x`, `f32` numbers that `f4e2m1` has: from 1 on, the exponent and the first bit of the fraction of the
/// `f32`, less what 0.5 would have.
fn code_of_f4(graph: &mut Graph, x: Value) -> Value {
    let bits = graph.bitcast(x, DType::U32);
    let number = |graph: &mut Graph, value: f64| graph.scalar(DType::U32, value);
    let (one, by) = (number(graph, 1.0), number(graph, 31.0));
    let sign = graph.push(Binary { kind: K::Shr }, &[bits, by]);
    let magnitude = graph.push(Binary { kind: K::Shl }, &[bits, one]);
    let by = number(graph, 23.0);
    let top = graph.push(Binary { kind: K::Shr }, &[magnitude, by]);
    let least = number(graph, 253.0);
    let top = graph.maximum(top, least);
    let half = number(graph, 252.0);
    let code = graph.sub(top, half);
    let zero = number(graph, 0.0);
    let is_zero = graph.compare_eq(magnitude, zero);
    let code = graph.where_(is_zero, zero, code);
    let by = number(graph, 3.0);
    let sign = graph.push(Binary { kind: K::Shl }, &[sign, by]);
    let code = graph.push(Binary { kind: K::BitOr }, &[sign, code]);
    graph.cast(code, DType::U8)
}

#[cfg(test)]
mod tests {
    use crate::host::HostValue;
    use crate::single::{dtype, int, run, strings, tensor, text};
    use rlx_ir::{DType, Literal};

    fn codes(dtype: DType, codes: &[u8]) -> HostValue {
        Literal::from_bytes(dtype, &[codes.len()], codes).expect("a byte each").into()
    }

    #[test]
    fn numbers_become_powers_of_two() {
        let numbers = [0.0, 2f64.powi(-127), 1.5 * 2f64.powi(-127), 1.0, 1.4, 1.5, 3e38, f64::NAN];
        let x = tensor(DType::F32, &[8], &numbers);
        let to = dtype("to", DType::F8E8M0);
        let up = codes(DType::F8E8M0, &[0, 0, 1, 127, 128, 128, 254, 255]);
        assert_eq!(run("Cast", 24, std::slice::from_ref(&to), std::slice::from_ref(&x)), Ok(up));
        let down = codes(DType::F8E8M0, &[0, 0, 0, 127, 127, 127, 254, 255]);
        assert_eq!(
            run("Cast", 24, &[to.clone(), text("round_mode", "down")], std::slice::from_ref(&x)),
            Ok(down)
        );
        let nearest = codes(DType::F8E8M0, &[255, 0, 1, 127, 127, 128, 255, 255]);
        let attributes = [to, text("round_mode", "nearest"), int("saturate", 0)];
        assert_eq!(run("Cast", 24, &attributes, &[x]), Ok(nearest));
    }

    #[test]
    fn integers_of_few_bits_keep_the_low_ones() {
        let x = tensor(DType::I64, &[4], &[200.0, -9.0, 7.0, 8.0]);
        let y = tensor(DType::I4, &[4], &[-8.0, 7.0, 7.0, -8.0]);
        assert_eq!(run("Cast", 21, &[dtype("to", DType::I4)], std::slice::from_ref(&x)), Ok(y));
        let y = tensor(DType::U2, &[4], &[0.0, 3.0, 3.0, 0.0]);
        assert_eq!(run("Cast", 25, &[dtype("to", DType::U2)], &[x]), Ok(y));
    }

    #[test]
    fn text_becomes_numbers_and_numbers_text() {
        let numbers = tensor(DType::F32, &[4], &[0.5, -1e20, f64::INFINITY, 3.0]);
        let texts = strings(&["0.5", "-1e+20", "inf", "3.0"]);
        assert_eq!(run("Cast", 19, &[int("to", 8)], std::slice::from_ref(&numbers)), Ok(texts.clone()));
        assert_eq!(run("Cast", 19, &[dtype("to", DType::F32)], &[texts]), Ok(numbers));
        let unreadable = run("Cast", 19, &[dtype("to", DType::F32)], &[strings(&["Hello World!"])]);
        assert!(unreadable.is_err_and(|error| error.contains("\"Hello World!\" is no number of f32")));
    }

    #[test]
    fn bits_of_small_floats_are_read_and_written() {
        let bits: Vec<f64> = (0..16).map(f64::from).collect();
        let integers = tensor(DType::U4, &[16], &bits);
        let floats = [0.0, 0.5, 1.0, 1.5, 2.0, 3.0, 4.0, 6.0];
        let floats: Vec<f64> = floats.into_iter().chain(floats.map(|value: f64| -value)).collect();
        let floats = tensor(DType::F4E2M1, &[16], &floats);
        assert_eq!(
            run("BitCast", 26, &[dtype("to", DType::F4E2M1)], std::slice::from_ref(&integers)),
            Ok(floats.clone())
        );
        assert_eq!(run("BitCast", 26, &[dtype("to", DType::U4)], &[floats]), Ok(integers));
        let widths = run("BitCast", 26, &[dtype("to", DType::F32)], &[tensor(DType::I64, &[1], &[1.0])]);
        assert!(widths.is_err_and(|error| error.contains("different widths")));
    }
}
