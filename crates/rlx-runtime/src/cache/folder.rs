//! The persistent form of the compile cache: a folder of graphs after their passes.
//!
//! A file holds the text of the graph that the passes made, under the key of
//! what was given, with a hash of itself. Loading parses and verifies it and
//! lowers it again, so that nothing unverified ever runs; a file that is
//! damaged, or of another version, is no hit and is written anew. What does not
//! come back from its text exactly as it was is not stored.

use super::CacheKey;
use crate::error::RuntimeError;
use rlx_ir::Graph;
use rlx_ir::text::{parse_graph, print_graph};
use std::fs;
use std::io::{ErrorKind, Write};
use std::path::{Path, PathBuf};

/// Most bytes of a file; larger graphs are not stored.
const LIMIT: usize = 64 << 20;
/// What a file starts with, before the hash of the rest.
const MARK: &str = "; rlx compile cache, blake3 ";

fn path(folder: &Path, key: CacheKey) -> PathBuf {
    folder.join(format!("{}.rlx", key.hex()))
}

fn failed(path: &Path, action: &'static str) -> impl FnOnce(std::io::Error) -> RuntimeError {
    let path = path.to_owned();
    move |source| RuntimeError::Cache { path, action, source }
}

/// The graph that the passes made of what `key` stands for.
///
/// # Errors
/// A folder or file that cannot be read.
pub(crate) fn load(folder: &Path, key: CacheKey) -> Result<Option<Graph>, RuntimeError> {
    let path = path(folder, key);
    match fs::metadata(&path) {
        Ok(status) if status.len() <= LIMIT as u64 => {}
        Ok(_) => return Ok(None),
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(failed(&path, "read")(error)),
    }
    let bytes = fs::read(&path).map_err(failed(&path, "read"))?;
    Ok(std::str::from_utf8(&bytes).ok().and_then(checked).and_then(|text| parse_graph(text).ok()))
}

/// The part after the hash, if the hash is that part's.
fn checked(text: &str) -> Option<&str> {
    let (hash, rest) = text.strip_prefix(MARK)?.split_once('\n')?;
    (blake3::hash(rest.as_bytes()).to_hex().as_str() == hash).then_some(rest)
}

/// Stores the graph that the passes made.
///
/// # Errors
/// A folder that cannot be made or written.
pub(crate) fn store(folder: &Path, key: CacheKey, graph: &Graph) -> Result<(), RuntimeError> {
    let text = print_graph(graph);
    if text.len() + 128 > LIMIT || parse_graph(&text).as_ref() != Ok(graph) {
        return Ok(());
    }
    fs::create_dir_all(folder).map_err(failed(folder, "make"))?;
    let path = path(folder, key);
    // Whoever reads meanwhile sees the old file or the new one, never a part.
    let partial = path.with_extension(format!("{}.partial", std::process::id()));
    let hash = blake3::hash(text.as_bytes()).to_hex();
    let written = fs::File::create(&partial).and_then(|mut file| write!(file, "{MARK}{hash}\n{text}"));
    let written = written.and_then(|()| fs::rename(&partial, &path));
    if written.is_err() {
        // The first error is the one to report.
        let _ = fs::remove_file(&partial);
    }
    written.map_err(failed(&path, "write"))
}
