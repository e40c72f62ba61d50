//! What the suites of this crate share: test data, sessions, comparisons.

#![allow(dead_code)] // Each suite uses a part of it.

use rlx_runtime::{Device, Session, TensorRef};
use serde_json::Value;
use std::path::PathBuf;

/// A file or folder of the test data.
pub fn data(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/data").join(name)
}

/// The JSON in `path`.
pub fn json(path: PathBuf) -> Value {
    let text = std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    serde_json::from_str(&text).expect("golden files are JSON")
}

/// A session on the processor.
pub fn cpu() -> Session {
    Session::new(Device::CPU).expect("every machine has a processor")
}

/// All numbers of nested lists, in order.
pub fn floats(value: &Value) -> Vec<f32> {
    match value {
        Value::Array(list) => list.iter().flat_map(floats).collect(),
        number => vec![number.as_f64().expect("a number") as f32],
    }
}

/// All integers of nested lists, in order.
pub fn integers(value: &Value) -> Vec<i64> {
    match value {
        Value::Array(list) => list.iter().flat_map(integers).collect(),
        number => vec![number.as_i64().expect("a whole number")],
    }
}

/// Tokens.
pub fn tokens(value: &Value) -> Vec<u32> {
    integers(value).into_iter().map(|token| u32::try_from(token).expect("a token")).collect()
}

/// Integers as an input.
pub fn ints<'a>(dims: &'a [usize], values: &'a [i64]) -> TensorRef<'a> {
    TensorRef::i64(dims, values).expect("the values fill the extents")
}

/// The largest difference between two equally long lists.
pub fn largest_difference(found: &[f32], expected: &[f32]) -> f32 {
    assert_eq!(found.len(), expected.len(), "as many values");
    let differences = found.iter().zip(expected).map(|(a, b)| (a - b).abs());
    differences.fold(0.0, |most, next| if next.is_nan() { f32::INFINITY } else { most.max(next) })
}

/// The cosine between two vectors, in f64.
pub fn cosine(a: &[f32], b: &[f32]) -> f64 {
    let dot = |a: &[f32], b: &[f32]| a.iter().zip(b).map(|(a, b)| f64::from(*a) * f64::from(*b)).sum::<f64>();
    dot(a, b) / (dot(a, a) * dot(b, b)).sqrt()
}
