//! Reading the small files of a model folder: bounded in size and nesting.

use crate::error::ModelError;
use serde_json::{Map, Value};
use std::fs::File;
use std::io::Read;
use std::path::Path;

/// Most bytes of a configuration file.
pub(crate) const CONFIG_LIMIT: u64 = 4 << 20;
/// Most bytes of a `tokenizer.json`.
pub(crate) const TOKENIZER_LIMIT: u64 = 256 << 20;
/// Deepest nesting of arrays and objects in any JSON file.
const DEPTH_LIMIT: usize = 64;

/// The bytes of `path`.
///
/// # Errors
/// A file that cannot be read or has more than `limit` bytes.
pub(crate) fn read(path: &Path, limit: u64) -> Result<Vec<u8>, ModelError> {
    let file = || path.display().to_string();
    let failed = |source| ModelError::Read { file: file(), source };
    let status = std::fs::metadata(path).map_err(failed)?;
    if !status.is_file() {
        let source = std::io::Error::new(std::io::ErrorKind::InvalidInput, "it is not a regular file");
        return Err(failed(source));
    }
    let mut bytes = vec![];
    File::open(path).and_then(|open| open.take(limit + 1).read_to_end(&mut bytes)).map_err(failed)?;
    if bytes.len() as u64 > limit {
        return Err(ModelError::TooLarge { file: file(), limit });
    }
    Ok(bytes)
}

/// Refuses JSON that is nested deeper than any real file; everything else is left to the parser.
pub(crate) fn check_depth(file: &str, bytes: &[u8]) -> Result<(), ModelError> {
    let (mut depth, mut in_string, mut escaped) = (0usize, false, false);
    for &byte in bytes {
        match (in_string, byte) {
            (true, _) if escaped => escaped = false,
            (true, b'\\') => escaped = true,
            (_, b'"') => in_string = !in_string,
            (false, b'{' | b'[') => depth += 1,
            (false, b'}' | b']') => depth = depth.saturating_sub(1),
            _ => {}
        }
        if depth > DEPTH_LIMIT {
            let message = format!("it is nested deeper than {DEPTH_LIMIT} levels");
            return Err(ModelError::Json { file: file.into(), message });
        }
    }
    Ok(())
}

/// The JSON value in `path`.
///
/// # Errors
/// A file that cannot be read, is too large or is not JSON.
pub(crate) fn read_json(path: &Path) -> Result<Value, ModelError> {
    let bytes = read(path, CONFIG_LIMIT)?;
    let file = path.display().to_string();
    check_depth(&file, &bytes)?;
    serde_json::from_slice(&bytes).map_err(|error| ModelError::Json { file, message: error.to_string() })
}

/// The JSON object in `path`.
///
/// # Errors
/// As [`read_json`], and JSON that is not an object.
pub(crate) fn read_object(path: &Path) -> Result<Map<String, Value>, ModelError> {
    match read_json(path)? {
        Value::Object(object) => Ok(object),
        _ => {
            let message = "it is not an object".into();
            Err(ModelError::Json { file: path.display().to_string(), message })
        }
    }
}

/// As [`read_object`]; `None` where there is no such file.
///
/// # Errors
/// As [`read_object`].
pub(crate) fn read_optional(path: &Path) -> Result<Option<Map<String, Value>>, ModelError> {
    if path.exists() { read_object(path).map(Some) } else { Ok(None) }
}
