//! Weights from files: one file, a sharded model, or a folder of either.
//!
//! Files are mapped and their pages read when first touched; opening a model
//! reads headers only (and bool tensors, and npz archives, which carry
//! checksums). A mapped file must not change while it is open: truncating it
//! makes a later access raise a signal that no library can turn into an error.
//! [`FileAccess::Read`] reads instead.
#![forbid(unsafe_code)]

use crate::bytes::WeightBytes;
use crate::error::WeightError;
use crate::mapping::Mapping;
use crate::tensor::WeightTensor;
use crate::weights::{TensorTable, WeightLoader};
use crate::{npy, npz, safetensors, shards};
use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::Read;
use std::path::{Path, PathBuf};

/// How the bytes of a file are held.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum FileAccess {
    /// Map the file; pages are read when touched and shared between processes.
    #[default]
    Map,
    /// Read the file into memory, for files that may change while open.
    Read,
}

/// Where files picked from a folder or a shard index may really be.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum LinkPolicy {
    /// In the folder itself, or, in a Hugging Face cache, among the blobs of the same model.
    #[default]
    Contained,
    /// Anywhere that symbolic links lead; `..` and absolute paths stay refused.
    Anywhere,
}

/// How to open weight files.
#[derive(Clone, Debug)]
pub struct OpenOptions {
    /// Map or read.
    pub access: FileAccess,
    /// Which symbolic links to follow.
    pub links: LinkPolicy,
    /// Most bytes that the deflated members of one npz archive may unpack to.
    pub archive_limit: u64,
}

impl Default for OpenOptions {
    /// Mapped, contained, archives of up to 8 GiB.
    fn default() -> Self {
        OpenOptions { access: FileAccess::Map, links: LinkPolicy::Contained, archive_limit: 8 << 30 }
    }
}

/// Tensors of one or several files.
#[derive(Debug)]
pub struct MappedWeights {
    table: TensorTable,
    metadata: BTreeMap<String, String>,
    files: Vec<PathBuf>,
}

impl MappedWeights {
    /// [`MappedWeights::open_with`] the default options.
    ///
    /// # Errors
    /// See there.
    pub fn open(path: impl AsRef<Path>) -> Result<MappedWeights, WeightError> {
        MappedWeights::open_with(path, &OpenOptions::default())
    }

    /// Opens `path`: a safetensors, npy or npz file, a `*.safetensors.index.json`
    /// with the shards beside it, or a folder with one of these. In a folder,
    /// `model.safetensors` comes before its index, and either before the only
    /// other candidate. An npy array is called after its file.
    ///
    /// # Errors
    /// A file that is missing, damaged, of another format, or outside the folder.
    pub fn open_with(path: impl AsRef<Path>, options: &OpenOptions) -> Result<MappedWeights, WeightError> {
        let path = path.as_ref();
        let status = fs::metadata(path).map_err(|source| io("open", path, source))?;
        let file =
            if status.is_dir() { shards::file_of_folder(path, options.links)? } else { path.to_owned() };
        let source = file.display().to_string();
        let mut weights = Collected::default();
        if shards::is_index(&file) {
            weights.add_shards(&file, options)?;
        } else {
            weights.add(&file, options)?;
        }
        let table = TensorTable::new(&source, weights.tensors)?;
        Ok(MappedWeights { table, metadata: weights.metadata, files: weights.files })
    }

    /// Free-form text of the safetensors headers; the first shard that has a key wins.
    pub fn metadata(&self) -> &BTreeMap<String, String> {
        &self.metadata
    }

    /// The files that hold the tensors.
    pub fn files(&self) -> &[PathBuf] {
        &self.files
    }
}

impl WeightLoader for MappedWeights {
    fn source(&self) -> &str {
        self.table.source()
    }
    fn tensors(&self) -> &[WeightTensor] {
        self.table.tensors()
    }
    fn find(&self, name: &str) -> Option<&WeightTensor> {
        self.table.find(name)
    }
}

#[derive(Default)]
struct Collected {
    tensors: Vec<WeightTensor>,
    metadata: BTreeMap<String, String>,
    files: Vec<PathBuf>,
}

impl Collected {
    fn add(&mut self, path: &Path, options: &OpenOptions) -> Result<(), WeightError> {
        let bytes = open_file(path, options.access)?;
        let file = path.display().to_string();
        if bytes.starts_with(npy::MAGIC) {
            let name = path.file_stem().unwrap_or_default().to_string_lossy();
            self.tensors.push(npy::read(&file, &name, &bytes)?);
        } else if bytes.starts_with(b"PK\x03\x04") || bytes.starts_with(b"PK\x05\x06") {
            self.tensors.extend(npz::read(&file, &bytes, options.archive_limit)?);
        } else if bytes.starts_with(b"GGUF") {
            return Err(WeightError::UnknownFormat { file, found: "a GGUF file".into() });
        } else {
            let contents = safetensors::read(&file, &bytes)?;
            self.tensors.extend(contents.tensors);
            for (key, value) in contents.metadata {
                self.metadata.entry(key).or_insert(value);
            }
        }
        self.files.push(path.to_owned());
        Ok(())
    }

    fn add_shards(&mut self, index: &Path, options: &OpenOptions) -> Result<(), WeightError> {
        let index = shards::ShardIndex::read(index)?;
        let mut holder = std::collections::HashMap::new();
        for (shard, path) in index.shard_paths(options.links)? {
            let first = self.tensors.len();
            self.add(&path, options)?;
            for tensor in &self.tensors[first..] {
                if let Some(other) = holder.insert(tensor.shared_name().clone(), shard) {
                    return Err(WeightError::DuplicateTensor {
                        file: path.display().to_string(),
                        tensor: tensor.name().into(),
                        other: other.into(),
                    });
                }
            }
        }
        index.check_holders(|tensor| holder.get(tensor).copied())
    }
}

pub(crate) fn io(action: &'static str, path: &Path, source: std::io::Error) -> WeightError {
    WeightError::Io { file: path.display().to_string(), action, source }
}

/// Opens a regular file; anything else (a pipe would block) is refused first.
fn open_regular(path: &Path) -> Result<(File, u64), WeightError> {
    let status = fs::metadata(path).map_err(|source| io("open", path, source))?;
    if !status.is_file() {
        let found = if status.is_dir() { "a folder" } else { "a device or pipe" };
        return Err(WeightError::NotAFile { file: path.display().to_string(), found });
    }
    let file = File::open(path).map_err(|source| io("open", path, source))?;
    Ok((file, status.len()))
}

pub(crate) fn open_file(path: &Path, access: FileAccess) -> Result<WeightBytes, WeightError> {
    let (mut file, _) = open_regular(path)?;
    match access {
        FileAccess::Map => {
            Mapping::new(&file).map(WeightBytes::mapped).map_err(|source| io("map", path, source))
        }
        FileAccess::Read => {
            let mut bytes = Vec::new();
            file.read_to_end(&mut bytes).map_err(|source| io("read", path, source))?;
            Ok(bytes.into())
        }
    }
}

/// Contents of a small text file, called `part` in errors.
pub(crate) fn read_small(path: &Path, part: &'static str, limit: u64) -> Result<Vec<u8>, WeightError> {
    let (file, length) = open_regular(path)?;
    let mut bytes = Vec::new();
    file.take(limit + 1).read_to_end(&mut bytes).map_err(|source| io("read", path, source))?;
    if bytes.len() as u64 > limit {
        let found = length.max(bytes.len() as u64);
        return Err(WeightError::TooLong { file: path.display().to_string(), part, found, limit });
    }
    Ok(bytes)
}
