//! Writing weight files so that a reader of the old file is never disturbed.
#![forbid(unsafe_code)]

use crate::error::WeightError;
use crate::mapped::io;
use std::fs::{self, File};
use std::io::{BufWriter, Write};
use std::path::Path;

/// Fills a new file beside `path` with `write`, then renames it over `path`:
/// whoever has the old file mapped keeps it, and a failed write leaves it alone.
///
/// `write` gets what errors shall call the file, and where to write.
///
/// # Errors
/// What `write` or the file system reports.
pub fn write_file(
    path: impl AsRef<Path>,
    write: impl FnOnce(&str, &mut dyn Write) -> Result<(), WeightError>,
) -> Result<(), WeightError> {
    let path = path.as_ref();
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(format!(".{}.partial", std::process::id()));
    let partial = path.with_file_name(name);
    let file = File::create_new(&partial).map_err(|source| io("write", &partial, source))?;
    let mut out = BufWriter::with_capacity(1 << 20, file);
    let written = write(&path.display().to_string(), &mut out)
        .and_then(|()| out.flush().map_err(|source| io("write", path, source)))
        .and_then(|()| fs::rename(&partial, path).map_err(|source| io("write", path, source)));
    if written.is_err() {
        // The first error is the one to report; a leftover file does no harm.
        let _ = fs::remove_file(&partial);
    }
    written
}
