//! Folders of weights and shard indices (`*.safetensors.index.json`).
//!
//! An index is untrusted: it may name only files below its own folder.
#![forbid(unsafe_code)]

use crate::error::WeightError;
use crate::mapped::{LinkPolicy, io, read_small};
use crate::pairs::Pairs;
use serde::Deserialize;
use std::collections::BTreeSet;
use std::fs;
use std::path::{Component, Path, PathBuf};

const INDEX_SUFFIX: &str = ".safetensors.index.json";
const FILE_SUFFIX: &str = ".safetensors";
const PREFERRED: [&str; 2] = ["model.safetensors", "model.safetensors.index.json"];
const MAX_INDEX_BYTES: u64 = 100_000_000;

/// Whether `path` is called like a shard index.
pub(crate) fn is_index(path: &Path) -> bool {
    path.to_string_lossy().ends_with(INDEX_SUFFIX)
}

/// The weight file or index that `folder` is meant for.
pub(crate) fn file_of_folder(folder: &Path, links: LinkPolicy) -> Result<PathBuf, WeightError> {
    let mut names = Vec::new();
    for entry in fs::read_dir(folder).map_err(|source| io("read", folder, source))? {
        let entry = entry.map_err(|source| io("read", folder, source))?;
        names.extend(entry.file_name().into_string().ok());
    }
    names.sort();
    let ending =
        |suffix: &str| -> Vec<&String> { names.iter().filter(|name| name.ends_with(suffix)).collect() };
    let preferred = PREFERRED.iter().find_map(|wanted| names.iter().find(|name| name == wanted));
    let (indices, files) = (ending(INDEX_SUFFIX), ending(FILE_SUFFIX));
    let candidates = match preferred {
        Some(name) => vec![name],
        None if indices.is_empty() => files,
        None => indices,
    };
    let chosen = match &candidates[..] {
        [name] => name,
        [] => return Err(WeightError::NoWeights { folder: folder.display().to_string() }),
        several => {
            let shown: Vec<&str> = several.iter().take(4).map(|name| name.as_str()).collect();
            let more = if several.len() > 4 { ", ..." } else { "" };
            let found = format!("{}{more}", shown.join(", "));
            return Err(WeightError::SeveralWeights { folder: folder.display().to_string(), found });
        }
    };
    contained(&folder.display().to_string(), folder, chosen, links)
}

/// Which tensor is in which shard.
pub(crate) struct ShardIndex {
    file: String,
    folder: PathBuf,
    weight_map: Vec<(String, String)>,
}

impl ShardIndex {
    pub(crate) fn read(path: &Path) -> Result<ShardIndex, WeightError> {
        #[derive(Deserialize)]
        struct Json {
            weight_map: Pairs<String>,
        }
        let file = path.display().to_string();
        let malformed = |detail| WeightError::Malformed { file: file.clone(), part: "shard index", detail };
        let text = read_small(path, "shard index", MAX_INDEX_BYTES)?;
        let json: Json = serde_json::from_slice(&text).map_err(|error| malformed(error.to_string()))?;
        let mut weight_map = json.weight_map.0;
        weight_map.sort();
        if let Some(pair) = weight_map.windows(2).find(|pair| pair[0].0 == pair[1].0) {
            let (tensor, other) = (pair[0].0.clone(), "the same index".into());
            return Err(WeightError::DuplicateTensor { file, tensor, other });
        }
        if weight_map.is_empty() {
            return Err(malformed("found no tensors in `weight_map`, expected some".into()));
        }
        let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
        Ok(ShardIndex { file, folder: folder.to_owned(), weight_map })
    }

    /// The shards by name with the paths to open, in the order of their names.
    pub(crate) fn shard_paths(&self, links: LinkPolicy) -> Result<Vec<(&str, PathBuf)>, WeightError> {
        let shards: BTreeSet<&str> = self.weight_map.iter().map(|(_, shard)| shard.as_str()).collect();
        let path_of = |shard| match contained(&self.file, &self.folder, shard, links) {
            Err(WeightError::Io { source, .. }) if source.kind() == std::io::ErrorKind::NotFound => {
                let tensor = self.weight_map.iter().find(|(_, holder)| holder == shard);
                let tensor = tensor.map(|(name, _)| name.clone()).unwrap_or_default();
                Err(WeightError::MissingShard { file: self.file.clone(), shard: shard.into(), tensor })
            }
            path => path.map(|path| (shard, path)),
        };
        shards.into_iter().map(path_of).collect()
    }

    /// Refuses an index that puts a tensor where it is not.
    pub(crate) fn check_holders<'a>(
        &self,
        holder: impl Fn(&str) -> Option<&'a str>,
    ) -> Result<(), WeightError> {
        match self.weight_map.iter().find(|(tensor, shard)| holder(tensor) != Some(shard.as_str())) {
            Some((tensor, shard)) => Err(WeightError::MissingInShard {
                file: self.file.clone(),
                shard: shard.clone(),
                tensor: tensor.clone(),
            }),
            None => Ok(()),
        }
    }
}

/// The path of `name` in `folder`, if it stays there; `file` is what errors blame.
pub(crate) fn contained(
    file: &str,
    folder: &Path,
    name: &str,
    links: LinkPolicy,
) -> Result<PathBuf, WeightError> {
    let unsafe_path = |reason| WeightError::UnsafePath { file: file.into(), shard: name.into(), reason };
    for component in Path::new(name).components() {
        match component {
            Component::Normal(_) | Component::CurDir => {}
            Component::ParentDir => return Err(unsafe_path("leaves the folder by `..`")),
            Component::RootDir | Component::Prefix(_) => return Err(unsafe_path("is an absolute path")),
        }
    }
    let path = folder.join(name);
    let real = path.canonicalize().map_err(|source| io("open", &path, source))?;
    if links == LinkPolicy::Contained {
        let home = folder.canonicalize().map_err(|source| io("open", folder, source))?;
        let blobs = hub_blobs(&home);
        if !real.starts_with(&home) && !blobs.is_some_and(|blobs| real.starts_with(blobs)) {
            return Err(unsafe_path("is a link out of the folder"));
        }
    }
    Ok(path)
}

/// In a Hugging Face cache, `MODEL/snapshots/REVISION/...` holds links into `MODEL/blobs`.
fn hub_blobs(folder: &Path) -> Option<PathBuf> {
    let snapshots = folder.ancestors().skip(1).find(|ancestor| ancestor.ends_with("snapshots"))?;
    snapshots.parent().map(|model| model.join("blobs"))
}
