//! Inputs from the command line: files, random values, literals.
//!
//! Everything that is wrong with them is found at once and told in one error.
//! Nothing is converted silently: a file has the dtype that the graph wants.

use crate::files;
use crate::options::DimArgs;
use anyhow::{Context, bail};
use clap::Args;
use rlx::ir::interpret::bind_shape;
use rlx::ir::lir::LirModule;
use rlx::ir::sample::Generator;
use rlx::ir::{Number, Symbol, SymbolBounds};
use rlx::{Bindings, DType, Literal, TensorType};
use serde_json::Value;
use std::collections::BTreeMap;
use std::path::PathBuf;

/// The inputs of a run.
#[derive(Args)]
pub struct InputArgs {
    /// Value of an input: a file `x=@x.npy` (npy, npz, json or ONNX's pb), random values `x=random:SEED`, a number
    /// that fills the whole tensor `x=0.5`, or nested lists `x=[[1,2],[3,4]]`, with `"nan"`, `"-inf"` and
    /// `"1-2i"` as texts
    #[arg(long = "input", value_name = "NAME=VALUE", value_parser = parse_input)]
    pub inputs: Vec<InputSpec>,
    #[command(flatten)]
    dims: DimArgs,
}

impl InputArgs {
    /// Are neither inputs nor extents given?
    pub fn is_empty(&self) -> bool {
        self.inputs.is_empty() && self.dims.is_empty()
    }

    /// The same without the inputs called `names`.
    pub fn without<'a>(&self, names: impl Iterator<Item = &'a str>) -> InputArgs {
        let names: Vec<&str> = names.collect();
        let inputs = self.inputs.iter().filter(|spec| !names.contains(&spec.name.as_str()));
        InputArgs { inputs: inputs.cloned().collect(), dims: self.dims.clone() }
    }

    /// The tensor of every input in `wanted`, in its order.
    pub fn resolve(&self, wanted: &Wanted, missing: Missing) -> anyhow::Result<Vec<(String, Literal)>> {
        resolve(wanted, &self.inputs, &self.dims.by_symbol()?, missing)
    }
}

/// The inputs that a model has.
pub struct Wanted {
    /// Name and type of each.
    pub inputs: Vec<(String, TensorType)>,
    /// The symbols in the types.
    pub symbols: BTreeMap<Symbol, SymbolBounds>,
}

impl From<&LirModule> for Wanted {
    fn from(module: &LirModule) -> Wanted {
        let inputs = module.io.inputs.iter().map(|entry| (entry.name.clone(), entry.ty.clone()));
        Wanted { inputs: inputs.collect(), symbols: module.symbols.clone() }
    }
}

/// One `--input`.
#[derive(Clone, Debug, PartialEq)]
pub struct InputSpec {
    /// Which input.
    pub name: String,
    /// Its value.
    pub value: InputValue,
}

/// Where a value comes from.
#[derive(Clone, Debug, PartialEq)]
pub enum InputValue {
    /// A file, of the format that its ending says.
    File(PathBuf),
    /// Random values: floats uniform in -1..1, integers and bools 0 or 1.
    Random(u64),
    /// One number for every element, or true or false.
    Fill(String),
    /// Nested lists.
    List(Value),
}

fn parse_input(text: &str) -> Result<InputSpec, String> {
    let (name, value) = text.split_once('=').ok_or("expected NAME=VALUE")?;
    if name.is_empty() {
        return Err("expected NAME=VALUE with a name".into());
    }
    let value = if let Some(path) = value.strip_prefix('@') {
        InputValue::File(path.into())
    } else if let Some(seed) = value.strip_prefix("random:") {
        InputValue::Random(seed.parse().map_err(|_| "expected random:SEED with a seed of 0 or more")?)
    } else if value.starts_with('[') {
        InputValue::List(serde_json::from_str(value).map_err(|error| format!("malformed list: {error}"))?)
    } else {
        match number_of_text(DType::F64, value) {
            Some(_) => InputValue::Fill(value.into()),
            None => return Err("expected @FILE, random:SEED, a number or a list".into()),
        }
    };
    Ok(InputSpec { name: name.into(), value })
}

/// What is done with inputs that nobody gave.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Missing {
    /// They are an error.
    Refused,
    /// They get random values.
    Random,
}

fn resolve(
    wanted: &Wanted,
    specs: &[InputSpec],
    dims: &BTreeMap<&str, i64>,
    missing: Missing,
) -> anyhow::Result<Vec<(String, Literal)>> {
    let mut findings = vec![];
    let mut bindings = bind_dims(&wanted.symbols, dims, &mut findings);
    let entries = &wanted.inputs;
    let values = match_names(entries, specs, missing, &mut findings);
    let mut tensors: Vec<Option<Literal>> = vec![None; entries.len()];
    // Values with extents of their own come first: they bind symbols for the others.
    for (((name, ty), value), tensor) in entries.iter().zip(&values).zip(&mut tensors) {
        let literal = match value {
            Some(InputValue::File(path)) => files::tensor(path, name, ty.dtype),
            Some(InputValue::List(list)) => literal_of_list(list, ty.dtype),
            _ => continue,
        };
        let fits = literal.and_then(|literal| {
            bind_shape(ty, literal.dtype(), literal.dims(), &mut bindings)
                .map_err(anyhow::Error::msg)
                .map(|()| literal)
        });
        match fits {
            Ok(literal) => *tensor = Some(literal),
            Err(error) => findings.push(format!("input \"{name}\": {error:#}")),
        }
    }
    let mut open = vec![];
    for (((name, ty), value), tensor) in entries.iter().zip(&values).zip(&mut tensors) {
        let Some(value @ (InputValue::Random(_) | InputValue::Fill(_))) = value else { continue };
        match concrete(ty, &bindings, &mut open) {
            Some(dims) => match generate(ty.dtype, value, &dims) {
                Ok(literal) => *tensor = Some(literal),
                Err(error) => findings.push(format!("input \"{name}\": {error:#}")),
            },
            None => continue,
        }
    }
    // What is wrong with an extent that was given is told already.
    open.retain(|symbol| !dims.contains_key(symbol.as_str()));
    open.sort();
    open.dedup();
    findings
        .extend(open.iter().map(|symbol| format!("symbol {symbol}: has no extent; pass --dim {symbol}=N")));
    if !findings.is_empty() {
        bail!("{}", findings.join("\n"));
    }
    Ok(entries.iter().zip(tensors).filter_map(|((name, _), tensor)| Some((name.clone(), tensor?))).collect())
}

/// The extents `dims`, as far as they are of `symbols`; what is not goes to `findings`.
pub fn bind_dims(
    symbols: &BTreeMap<Symbol, SymbolBounds>,
    dims: &BTreeMap<&str, i64>,
    findings: &mut Vec<String>,
) -> Bindings {
    let mut bindings = Bindings::new();
    for (&symbol, &value) in dims {
        match symbols.get(symbol) {
            None => {
                let known: Vec<&str> = symbols.keys().map(|symbol| &**symbol).collect();
                let known = if known.is_empty() { "none".into() } else { known.join(", ") };
                findings.push(format!("symbol {symbol}: the graph has no such symbol; it has {known}"));
            }
            Some(&SymbolBounds { min, max }) if value < min || max.is_some_and(|max| value > max) => {
                let max = max.map_or("inf".into(), |max| max.to_string());
                findings.push(format!("symbol {symbol}: is {value}, outside [{min}, {max}]"));
            }
            Some(_) => bindings.set(symbol, value),
        }
    }
    bindings
}

/// The value for every entry; unknown, duplicate and missing names are findings.
fn match_names(
    entries: &[(String, TensorType)],
    specs: &[InputSpec],
    missing: Missing,
    findings: &mut Vec<String>,
) -> Vec<Option<InputValue>> {
    let mut values: Vec<Option<InputValue>> = vec![None; entries.len()];
    for spec in specs {
        match entries.iter().position(|(name, _)| *name == spec.name) {
            None => {
                let known: Vec<_> = entries.iter().map(|(name, _)| name.as_str()).collect();
                let hint = match rlx::ir::nearest_name(&spec.name, known.iter().copied()) {
                    Some(near) => format!("did you mean \"{near}\"?"),
                    None if known.is_empty() => "the graph has none".into(),
                    None => format!("the inputs are: {}", known.join(", ")),
                };
                findings.push(format!("input \"{}\": there is no such input; {hint}", spec.name));
            }
            Some(index) if values[index].is_some() => {
                findings.push(format!("input \"{}\": is given twice", spec.name));
            }
            Some(index) => values[index] = Some(spec.value.clone()),
        }
    }
    for (index, ((name, ty), value)) in entries.iter().zip(&mut values).enumerate() {
        match (&value, missing) {
            (Some(_), _) => {}
            (None, Missing::Random) => *value = Some(InputValue::Random(index as u64)),
            (None, Missing::Refused) => {
                findings.push(format!("input \"{name}\": is missing; expected {ty}"));
            }
        }
    }
    values
}

/// Extents of `ty`, or `None` with the symbols that are open.
fn concrete(ty: &TensorType, bindings: &Bindings, open: &mut Vec<String>) -> Option<Vec<usize>> {
    let before = open.len();
    for dim in ty.shape.dims() {
        dim.visit_symbols(&mut |symbol| {
            if bindings.get(symbol).is_none() {
                open.push(symbol.to_string());
            }
        });
    }
    if open.len() > before { None } else { ty.shape.eval(bindings).ok() }
}

fn generate(dtype: DType, value: &InputValue, dims: &[usize]) -> anyhow::Result<Literal> {
    let ty = TensorType::new(dtype, dims);
    Ok(match value {
        InputValue::Random(seed) => random(&ty, *seed)?,
        InputValue::Fill(number) => fill(&ty, number)?,
        InputValue::File(_) | InputValue::List(_) => bail!("has extents of its own"),
    })
}

fn fill(ty: &TensorType, text: &str) -> anyhow::Result<Literal> {
    let (dims, count) = room(ty)?;
    let number = number_of_text(ty.dtype, text).context("expected a number")??;
    Ok(Literal::from_numbers(ty.dtype, &dims, std::iter::repeat_n(number, count))?)
}

/// Extents and elements of a tensor that is about to be made; refused where memory cannot hold it
/// twice, which making it takes.
fn room(ty: &TensorType) -> anyhow::Result<(Vec<usize>, usize)> {
    let dims = ty.shape.as_static().context("has symbolic extents")?;
    let count = dims.iter().try_fold(1usize, |count, &dim| count.checked_mul(dim));
    let bytes = count.and_then(|count| ty.dtype.byte_size(count)?.checked_mul(2));
    let fits = bytes.is_some_and(|bytes| Vec::<u8>::new().try_reserve_exact(bytes).is_ok());
    match count {
        Some(count) if fits => Ok((dims, count)),
        _ => bail!("{ty} is more than memory holds"),
    }
}

/// What `text` says as an element of `dtype`: integers keep every digit. `None` where it is no number.
fn number_of_text(dtype: DType, text: &str) -> Option<anyhow::Result<Number>> {
    if let Ok(truth) = text.parse::<bool>() {
        return Some(number_of(dtype, f64::from(u8::from(truth))));
    }
    if let Some((real, imaginary)) = complex_of_text(text) {
        return Some(if dtype.is_complex() {
            Ok(Number::Complex(real, imaginary))
        } else {
            Err(anyhow::anyhow!("{text} is no {dtype}"))
        });
    }
    let float = text.parse().ok()?;
    Some(match text.parse::<i128>() {
        Ok(whole) if !dtype.is_float() && !dtype.is_complex() => integer(dtype, whole),
        _ => number_of(dtype, float),
    })
}

/// The parts of `1.5-2i` or `2i`.
fn complex_of_text(text: &str) -> Option<(f64, f64)> {
    let parts = text.strip_suffix('i')?;
    let signs = parts.char_indices().skip(1).filter(|(_, c)| matches!(c, '+' | '-'));
    let last = signs.filter(|(at, _)| !parts[..*at].ends_with(['e', 'E'])).last();
    let (real, imaginary) = last.map_or(("0", parts), |(at, _)| parts.split_at(at));
    Some((real.parse().ok()?, imaginary.parse().ok()?))
}

fn number_of(dtype: DType, value: f64) -> anyhow::Result<Number> {
    if dtype.is_float() || dtype.is_complex() {
        return Ok(Number::Float(value));
    }
    if value.fract() != 0.0 {
        bail!("{value} is no {dtype}");
    }
    integer(dtype, value as i128)
}

fn integer(dtype: DType, value: i128) -> anyhow::Result<Number> {
    match Number::Int(value).cast(dtype) {
        wrapped @ Number::Int(same) if same == value => Ok(wrapped),
        _ => bail!("{value} does not fit {dtype}"),
    }
}

/// Random values: floats uniform in -1..1, integers and bools 0 or 1.
pub fn random(ty: &TensorType, seed: u64) -> anyhow::Result<Literal> {
    let (dims, count) = room(ty)?;
    let mut generator = Generator::new(seed);
    let float = ty.dtype.is_float() || ty.dtype.is_complex();
    let numbers = (0..count).map(|_| {
        if float {
            Number::Float(generator.unit() * 2.0 - 1.0)
        } else {
            Number::Int(generator.below(2) as i128)
        }
    });
    Ok(Literal::from_numbers(ty.dtype, &dims, numbers)?)
}

/// Nested lists as a tensor.
pub fn literal_of_list(list: &Value, dtype: DType) -> anyhow::Result<Literal> {
    let mut dims = vec![];
    let mut level = list;
    while let Value::Array(items) = level {
        dims.push(items.len());
        match items.first() {
            Some(first) => level = first,
            None => break,
        }
    }
    let mut numbers = vec![];
    flatten(list, &dims, dtype, &mut numbers)?;
    Ok(Literal::from_numbers(dtype, &dims, numbers)?)
}

fn flatten(value: &Value, dims: &[usize], dtype: DType, numbers: &mut Vec<Number>) -> anyhow::Result<()> {
    match (value, dims) {
        (Value::Array(items), [extent, inner @ ..]) if items.len() == *extent => {
            items.iter().try_for_each(|item| flatten(item, inner, dtype, numbers))
        }
        (Value::Bool(value), []) => {
            numbers.push(number_of(dtype, f64::from(u8::from(*value)))?);
            Ok(())
        }
        (Value::Number(number), []) => {
            let whole = number.as_i64().map(i128::from).or_else(|| number.as_u64().map(i128::from));
            let parsed = match whole {
                Some(whole) if !dtype.is_float() && !dtype.is_complex() => integer(dtype, whole)?,
                _ => number_of(dtype, number.as_f64().context("a number that is too large")?)?,
            };
            numbers.push(parsed);
            Ok(())
        }
        (Value::String(text), []) => {
            numbers.push(number_of_text(dtype, text).with_context(|| format!("{text:?} is no number"))??);
            Ok(())
        }
        (Value::Array(_), _) | (Value::Number(_) | Value::Bool(_) | Value::String(_), _) => {
            bail!("the lists are ragged")
        }
        _ => bail!("expected numbers, found {value}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_parsed_exactly_or_refused() {
        let value = |text: &str| parse_input(text).map(|spec| spec.value);
        assert_eq!(value("x=@a=b.npy"), Ok(InputValue::File("a=b.npy".into())));
        assert_eq!(value("x=random:7"), Ok(InputValue::Random(7)));
        assert_eq!(value("x=true"), Ok(InputValue::Fill("true".into())));
        assert!(value("x=random:").is_err() && value("x").is_err() && value("=1").is_err());
        assert!(value("x=").is_err() && value("x=1a").is_err());
        let filled = |text: &str, dtype| fill(&TensorType::new(dtype, [1usize]), text).map(|l| l.number(0));
        assert_eq!(
            filled("9007199254740993", DType::I64).expect("the number fits the dtype"),
            Number::Int(9007199254740993)
        );
        assert_eq!(
            filled("18446744073709551615", DType::U64).expect("the number fits the dtype"),
            Number::Int(u64::MAX.into())
        );
        assert_eq!(filled("1e3", DType::I16).expect("the number fits the dtype"), Number::Int(1000));
        assert_eq!(filled("true", DType::Bool).expect("the number fits the dtype"), Number::Int(1));
        for (text, real, imaginary) in [("1-2.5i", 1.0, -2.5), ("-3i", 0.0, -3.0), ("1e-2+1e+3i", 0.01, 1e3)]
        {
            let number = filled(text, DType::C128).expect("the number is complex");
            assert_eq!(number, Number::Complex(real, imaginary), "{text}");
        }
        assert_eq!(filled("2i", DType::F32).unwrap_err().to_string(), "2i is no f32");
        assert!(matches!(filled("-0", DType::F32), Ok(Number::Float(zero)) if zero.is_sign_negative()));
        assert_eq!(filled("inf", DType::I64).unwrap_err().to_string(), "inf is no i64");
        let huge = TensorType::new(DType::F32, [1usize << 31, 1 << 31]);
        assert_eq!(
            random(&huge, 0).unwrap_err().to_string(),
            "f32[2147483648, 2147483648] is more than memory holds"
        );
        let list = |text: &str, dtype| {
            literal_of_list(&serde_json::from_str(text).expect("the text is JSON"), dtype)
        };
        assert_eq!(list("[[1,2],[3,4.5]]", DType::F32).expect("the number fits the dtype").dims(), [2, 2]);
        let special = list("[\"nan\", \"-inf\", 1]", DType::F16).expect("texts are numbers");
        assert!(matches!(special.number(0), Number::Float(value) if value.is_nan()));
        assert_eq!(special.number(1), Number::Float(f64::NEG_INFINITY));
        let wide = list("[9007199254740993]", DType::I64).expect("the number fits the dtype");
        assert_eq!(wide.number(0), Number::Int(9007199254740993));
        for (text, dtype, message) in [
            ("[[1],[2,3]]", DType::F32, "the lists are ragged"),
            ("[1,[2]]", DType::F32, "the lists are ragged"),
            ("[300]", DType::U8, "300 does not fit u8"),
            ("[0.5]", DType::I32, "0.5 is no i32"),
            ("[\"a\"]", DType::F32, "\"a\" is no number"),
        ] {
            assert_eq!(list(text, dtype).unwrap_err().to_string(), message, "{text}");
        }
    }
}
