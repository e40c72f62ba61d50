//! Tables from values to others: labels and categories of `ai.onnx.ml`. Strings are looked up on the host, numbers in
//! the graph.

use super::text::{made, strings};
use super::{Rule, ml_rule};
use crate::context::Context;
use crate::node::{Node, Outcome, Stop};
use crate::tensor::Read;
use crate::value::{Imported, Tensor};
use rlx_ir::ops::{ArgReduceKind, ReduceKind};
use rlx_ir::{DType, Literal, Number, Value};
use std::collections::HashMap;

pub(super) const RULES: &[Rule] = &[
    ml_rule("LabelEncoder", &[1, 2, 4], label_encoder),
    ml_rule("CategoryMapper", &[1], category_mapper),
    ml_rule("OneHotEncoder", &[1], one_hot),
];

/// One side of a table.
enum Column {
    Strings(Vec<String>),
    Numbers(Literal),
}

impl Column {
    fn ints<'m>(values: &[i64]) -> Result<Column, Stop<'m>> {
        let values: Vec<i128> = values.iter().map(|&value| value.into()).collect();
        literal(Literal::ints(DType::I64, &[values.len()], &values)).map(Column::Numbers)
    }

    fn len(&self) -> usize {
        match self {
            Column::Strings(strings) => strings.len(),
            Column::Numbers(literal) => literal.len(),
        }
    }
}

pub(super) fn literal<'m>(result: Result<Literal, rlx_ir::LiteralError>) -> Result<Literal, Stop<'m>> {
    result.map_err(|error| Stop::Invalid(error.to_string()))
}

/// The column that the attributes `prefix` with an element type behind it give.
fn column<'m>(cx: &Context<'m>, node: &Node<'m>, prefix: &str) -> Result<Column, Stop<'m>> {
    if let Some(strings) = node.strings(&format!("{prefix}_strings"))? {
        return Ok(Column::Strings(strings));
    }
    if let Some(ints) = node.ints(&format!("{prefix}_int64s"))? {
        return Column::ints(&ints);
    }
    if let Some(floats) = node.floats(&format!("{prefix}_floats"))? {
        let floats: Vec<f64> = floats.into_iter().map(f64::from).collect();
        return literal(Literal::floats(DType::F32, &[floats.len()], &floats)).map(Column::Numbers);
    }
    match node.constant(cx, &format!("{prefix}_tensor"))? {
        Some(Read::Strings(strings)) => Ok(Column::Strings(strings.values().to_vec())),
        Some(Read::Numbers(tensor)) => {
            let read = tensor.literal().map_err(Stop::Invalid)?;
            let count = read.len();
            let flat = read.reshaped(&[count]);
            flat.map(Column::Numbers).ok_or_else(|| Stop::Invalid(format!("{prefix}_tensor has no elements")))
        }
        None => Err(Stop::Invalid(format!("it has no {prefix}"))),
    }
}

/// `values` with the default as a further element.
fn with_default<'m>(cx: &Context<'m>, node: &Node<'m>, values: Column) -> Result<Column, Stop<'m>> {
    let (int, float) = (node.int_or("default_int64", -1)?, node.float_or("default_float", -0.0)?);
    let text = node.string_or("default_string", "_Unused")?;
    let given = node.constant(cx, "default_tensor")?;
    Ok(match (values, given) {
        (Column::Strings(mut all), given) => {
            all.push(match given {
                None => text,
                Some(Read::Strings(one)) if one.values().len() == 1 => one.values()[0].clone(),
                Some(_) => return Err(Stop::Invalid("its default is not one string".into())),
            });
            Column::Strings(all)
        }
        (Column::Numbers(all), given) => {
            let dtype = all.dtype();
            let default = match given {
                Some(Read::Numbers(one)) if one.dtype == dtype => one.literal().map_err(Stop::Invalid)?,
                Some(_) => return Err(Stop::Invalid(format!("its default is not one {dtype}"))),
                None if dtype.is_int() => literal(Literal::ints(dtype, &[1], &[int.into()]))?,
                None => literal(Literal::floats(dtype, &[1], &[float.into()]))?,
            };
            if default.len() != 1 {
                return Err(Stop::Invalid(format!("its default has {} elements", default.len())));
            }
            let bytes = [all.bytes(), default.bytes()].concat();
            Column::Numbers(literal(Literal::from_bytes(dtype, &[all.len() + 1], &bytes))?)
        }
    })
}

/// A number as something to look up: zeros are equal, and so are values that are not numbers.
#[derive(PartialEq, Eq, Hash)]
enum Key {
    Int(i128),
    Float(u64),
    Other,
}

fn key(literal: &Literal, index: usize) -> Key {
    match literal.number(index) {
        Number::Int(value) => Key::Int(value),
        Number::Float(value) if value.is_nan() => Key::Float(f64::NAN.to_bits()),
        Number::Float(value) => Key::Float((value + 0.0).to_bits()),
        _ => Key::Other,
    }
}

/// What `values` have where operand 0 is found among `keys`, the last one of equals; their last element elsewhere.
fn look_up<'m>(cx: &mut Context<'m>, node: &Node<'m>, keys: &Column, values: &Column) -> Outcome<'m> {
    if keys.len() + 1 != values.len() {
        let (keys, values) = (keys.len(), values.len().saturating_sub(1));
        return Err(Stop::Invalid(format!("it has {keys} keys and {values} values")));
    }
    let missing = keys.len();
    let (dims, places): (Vec<usize>, Vec<usize>) = match (keys, values) {
        (Column::Strings(keys), _) => {
            let x = strings(node, 0)?;
            let places: HashMap<&str, usize> =
                keys.iter().enumerate().map(|(place, key)| (key.as_str(), place)).collect();
            let place = |text: &String| places.get(text.as_str()).copied().unwrap_or(missing);
            (x.dims().to_vec(), x.values().iter().map(place).collect())
        }
        (Column::Numbers(keys), Column::Strings(_)) => {
            let x = node.literal(cx, 0)?;
            check_keys(keys, x.dtype())?;
            let places: HashMap<Key, usize> =
                (0..keys.len()).map(|place| (key(keys, place), place)).collect();
            let place = |index: usize| places.get(&key(&x, index)).copied().unwrap_or(missing);
            (x.dims().to_vec(), (0..x.len()).map(place).collect())
        }
        (Column::Numbers(keys), Column::Numbers(values)) => {
            check_keys(keys, node.dtype(0)?)?;
            let x = node.value(cx, 0)?;
            let found = found(cx, x, keys)?;
            let table = cx.graph().constant(values.clone());
            let picked = cx.graph().gather(table, found, 0usize);
            return Ok(vec![cx.tensor(picked)?]);
        }
    };
    Ok(vec![match values {
        Column::Strings(values) => made(&dims, places.iter().map(|&at| values[at].clone()).collect())?,
        Column::Numbers(values) => {
            let width = values.bytes().len() / values.len();
            let bytes: Vec<u8> = places
                .iter()
                .flat_map(|&at| &values.bytes()[at * width..(at + 1) * width])
                .copied()
                .collect();
            Tensor::literal(literal(Literal::from_bytes(values.dtype(), &dims, &bytes))?).into()
        }
    }])
}

fn check_keys<'m>(keys: &Literal, dtype: DType) -> Result<(), Stop<'m>> {
    match keys.dtype() == dtype {
        true => Ok(()),
        false => Err(Stop::Invalid(format!("keys of {} are looked up in {dtype}", keys.dtype()))),
    }
}

/// Which elements of `x` are which of `keys`: a last axis more than `x` has.
fn matches<'m>(cx: &mut Context<'m>, x: Value, keys: &Literal) -> Result<Value, Stop<'m>> {
    let is_float = cx.ty(x)?.dtype.is_float();
    let graph = cx.graph();
    let x = graph.unsqueeze(x, -1);
    let keys = graph.constant(keys.clone());
    let equal = graph.compare_eq(x, keys);
    if !is_float {
        return Ok(equal);
    }
    let (odd, odd_keys) = (graph.compare_ne(x, x), graph.compare_ne(keys, keys));
    let both = graph.and(odd, odd_keys);
    Ok(graph.or(equal, both))
}

/// The position of every element of `x` among `keys`; their number where it is none of them.
fn found<'m>(cx: &mut Context<'m>, x: Value, keys: &Literal) -> Result<Value, Stop<'m>> {
    let rank = cx.ty(x)?.shape.rank();
    let shape = cx.ty(x)?.shape;
    let count = keys.len();
    if count == 0 {
        return Ok(cx.graph().full(DType::I32, shape, 0.0));
    }
    let matches = matches(cx, x, keys)?;
    let graph = cx.graph();
    let ones = graph.cast(matches, DType::I32);
    let place = graph.arg_reduce(ones, ArgReduceKind::Max, rank, false, true, DType::I32);
    let any = graph.reduce(ones, ReduceKind::Max, [rank], false);
    let zero = graph.scalar(DType::I32, 0.0);
    let any = graph.compare_gt(any, zero);
    let missing = graph.scalar(DType::I32, count as f64);
    Ok(graph.where_(any, place, missing))
}

fn label_encoder<'m>(cx: &mut Context<'m>, node: &Node<'m>) -> Outcome<'m> {
    let (keys, values) = if node.version == 1 {
        let missing = || Stop::Invalid("it has no classes".into());
        let classes = node.strings("classes_strings")?.ok_or_else(missing)?;
        let places: Vec<i64> = (0..classes.len() as i64).collect();
        let (classes, places) = (Column::Strings(classes), Column::ints(&places)?);
        if matches!(node.input(0), Some(Imported::Strings(_))) {
            (classes, places)
        } else {
            (places, classes)
        }
    } else {
        (column(cx, node, "keys")?, column(cx, node, "values")?)
    };
    let values = with_default(cx, node, values)?;
    look_up(cx, node, &keys, &values)
}

fn category_mapper<'m>(cx: &mut Context<'m>, node: &Node<'m>) -> Outcome<'m> {
    let missing = || Stop::Invalid("it has no categories".into());
    let strings = Column::Strings(node.strings("cats_strings")?.ok_or_else(missing)?);
    let ints = Column::ints(&node.ints("cats_int64s")?.ok_or_else(missing)?)?;
    let is_text = matches!(node.input(0), Some(Imported::Strings(_)));
    let (keys, values) = if is_text { (strings, ints) } else { (ints, strings) };
    let values = with_default(cx, node, values)?;
    look_up(cx, node, &keys, &values)
}

fn one_hot<'m>(cx: &mut Context<'m>, node: &Node<'m>) -> Outcome<'m> {
    let zeros = node.flag("zeros", true)?;
    let unknown = || Stop::Invalid("an element is none of the categories".into());
    if let Some(categories) = node.strings("cats_strings")? {
        let x = strings(node, 0)?;
        if !zeros && x.values().iter().any(|text| !categories.contains(text)) {
            return Err(unknown());
        }
        let dims: Vec<usize> = x.dims().iter().copied().chain([categories.len()]).collect();
        let pairs = x.values().iter().flat_map(|text| categories.iter().map(move |other| text == other));
        let values: Vec<f64> = pairs.map(f64::from).collect();
        return Ok(vec![Tensor::literal(literal(Literal::floats(DType::F32, &dims, &values))?).into()]);
    }
    let missing = || Stop::Invalid("it has no categories".into());
    let categories = node.ints("cats_int64s")?.ok_or_else(missing)?;
    if !zeros {
        let known = node.literal(cx, 0)?;
        let is_known = |index: usize| match known.number(index) {
            Number::Int(value) => categories.iter().any(|&other| i128::from(other) == value),
            Number::Float(value) => categories.contains(&(value as i64)),
            _ => false,
        };
        if !(0..known.len()).all(is_known) {
            return Err(unknown());
        }
    }
    let Column::Numbers(keys) = Column::ints(&categories)? else { return Err(missing()) };
    let x = node.value(cx, 0)?;
    let x = cx.graph().cast_to(x, DType::I64);
    let matches = matches(cx, x, &keys)?;
    let y = cx.graph().cast(matches, DType::F32);
    Ok(vec![cx.tensor(y)?])
}
