//! Tensors in files: read by the ending of the name (npy, npz, json, and ONNX's pb), written in the format asked for.

use crate::inputs::literal_of_list;
use anyhow::{Context, bail};
use clap::ValueEnum;
use rlx::onnx::{DeclaredKind, HostValue, Strings, read_value, write_value};
use rlx::weights::{WeightBytes, npy, npz, output};
use rlx::{DType, Literal};
use serde_json::Value;
use std::collections::BTreeMap;
use std::io::Write;
use std::path::{Path, PathBuf};

/// Most bytes that the members of an archive may unpack to.
const MOST_UNPACKED: u64 = 8 << 30;

/// The format of written results.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum OutputFormat {
    /// NumPy arrays, one file each; tensors of numbers only
    Npy,
    /// ONNX messages, one file each
    Pb,
    /// JSON, one file each
    Json,
}

impl OutputFormat {
    fn ending(self) -> &'static str {
        match self {
            OutputFormat::Npy => "npy",
            OutputFormat::Pb => "pb",
            OutputFormat::Json => "json",
        }
    }
}

/// The tensor in the file `path` for input `name` of dtype `dtype`.
pub fn tensor(path: &Path, name: &str, dtype: DType) -> anyhow::Result<Literal> {
    match value(path, name, &DeclaredKind::Tensor(dtype, None))? {
        HostValue::Tensor(literal) => Ok(literal),
        other => bail!("{} holds {other}, expected a tensor of numbers", path.display()),
    }
}

/// The value in the file `path` for input `name` of the declared kind.
pub fn value(path: &Path, name: &str, kind: &DeclaredKind) -> anyhow::Result<HostValue> {
    let file = path.display().to_string();
    let bytes = std::fs::read(path).with_context(|| format!("cannot read {file}"))?;
    match path.extension().and_then(|ending| ending.to_str()) {
        Some("pb") => Ok(read_value(&bytes, kind, &file)?),
        Some("json") => {
            of_json(&serde_json::from_slice(&bytes).with_context(|| file.clone())?, kind).context(file)
        }
        Some("npz") => {
            let arrays = npz::read(&file, &WeightBytes::from(bytes), MOST_UNPACKED)?;
            let found = arrays.iter().find(|array| array.name() == name);
            let known = || arrays.iter().map(|array| array.name()).collect::<Vec<_>>().join(", ");
            let array = found.with_context(|| format!("{file} has no array {name:?}; it has {}", known()))?;
            Ok(array.view().to_literal()?.into())
        }
        _ => Ok(npy::read(&file, "array", &WeightBytes::from(bytes))?.view().to_literal()?.into()),
    }
}

/// Nested lists of numbers or strings as a value of the declared kind.
pub fn of_json(json: &Value, kind: &DeclaredKind) -> anyhow::Result<HostValue> {
    match kind {
        DeclaredKind::Tensor(dtype, _) => Ok(literal_of_list(json, *dtype)?.into()),
        DeclaredKind::Other("string") => {
            let (mut dims, mut values) = (vec![], vec![]);
            strings(json, 0, &mut dims, &mut values)?;
            Strings::new(&dims, values).map(HostValue::Strings).context("the lists are ragged")
        }
        other => bail!("a {other} is read from a .pb file"),
    }
}

fn strings(
    json: &Value,
    depth: usize,
    dims: &mut Vec<usize>,
    values: &mut Vec<String>,
) -> anyhow::Result<()> {
    match json {
        Value::String(text) => values.push(text.clone()),
        Value::Array(items) => {
            if dims.len() == depth {
                dims.push(items.len());
            }
            if dims.get(depth) != Some(&items.len()) {
                bail!("the lists are ragged");
            }
            items.iter().try_for_each(|item| strings(item, depth + 1, dims, values))?;
        }
        other => bail!("expected strings, found {other}"),
    }
    Ok(())
}

/// Writes every result to a file of its own in `folder`; the names of the files.
pub fn write_all(
    folder: &Path,
    format: OutputFormat,
    results: &[(String, HostValue)],
) -> anyhow::Result<Vec<Option<PathBuf>>> {
    let mut names: BTreeMap<String, &str> = BTreeMap::new();
    for (name, _) in results {
        let file = file_name(name, format);
        if let Some(other) = names.insert(file.clone(), name) {
            bail!("outputs {other:?} and {name:?} would both be written to {file}");
        }
    }
    std::fs::create_dir_all(folder).with_context(|| format!("cannot make {}", folder.display()))?;
    let mut files = vec![];
    for (name, value) in results {
        let path = folder.join(file_name(name, format));
        match (format, value) {
            (OutputFormat::Npy, HostValue::Tensor(literal)) => {
                output::write_file(&path, |file, sink| npy::write(file, sink, literal.into()))?;
            }
            (OutputFormat::Npy, other) => {
                bail!("output {name:?} is {other}, which npy does not hold; pass --output-format pb or json")
            }
            (OutputFormat::Pb, value) => write(&path, &write_value(name, value)?)?,
            (OutputFormat::Json, value) => write(&path, described(name, value).to_string().as_bytes())?,
        }
        files.push(Some(path));
    }
    Ok(files)
}

fn write(path: &Path, bytes: &[u8]) -> anyhow::Result<()> {
    let told = || format!("cannot write {}", path.display());
    std::fs::File::create(path).and_then(|mut file| file.write_all(bytes)).with_context(told)
}

/// A value as JSON, with its type.
pub fn described(name: &str, value: &HostValue) -> Value {
    let mut json = described_value(value);
    json["name"] = name.into();
    json
}

fn described_value(value: &HostValue) -> Value {
    match value {
        HostValue::Tensor(literal) => {
            let values: Vec<Value> = (0..literal.len()).map(|index| number(literal, index)).collect();
            serde_json::json!({ "dtype": literal.dtype().to_string(), "shape": literal.dims(), "values": values })
        }
        HostValue::Strings(strings) => {
            serde_json::json!({ "dtype": "string", "shape": strings.dims(), "values": strings.values() })
        }
        HostValue::Sequence(items) => {
            serde_json::json!({ "sequence": items.iter().map(described_value).collect::<Vec<_>>() })
        }
        HostValue::Optional(value) => {
            serde_json::json!({ "optional": value.as_deref().map(described_value) })
        }
    }
}

/// An element as JSON; what JSON has no number for is a string.
pub fn number(literal: &Literal, index: usize) -> Value {
    use rlx::ir::Number;
    match literal.number(index) {
        Number::Float(value) if value.is_finite() => value.into(),
        Number::Float(value) => value.to_string().into(),
        Number::Int(value) if literal.dtype() == DType::Bool => (value != 0).into(),
        Number::Int(value) => {
            i64::try_from(value).map(Value::from).unwrap_or_else(|_| match u64::try_from(value) {
                Ok(value) => value.into(),
                Err(_) => value.to_string().into(),
            })
        }
        Number::Complex(re, im) => vec![re, im].into(),
    }
}

/// The file of an output: characters that could name another place become `_`.
fn file_name(output: &str, format: OutputFormat) -> String {
    let safe = |c: char| if c.is_alphanumeric() || "._-".contains(c) { c } else { '_' };
    let name: String = output.chars().map(safe).collect();
    format!("{}.{}", name.trim_start_matches('.'), format.ending())
}
